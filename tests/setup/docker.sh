#!/usr/bin/env bash
# A Docker Engine and both Compose programs, from Debian's packages; starts nothing (the tests start
# engines of their own). Does nothing when all is there.
#
# Version 1 of Compose is a package of Debian 12, version 2 one of Debian 13. Version 2 is a static
# plugin: where the machine's Debian has version 1, the plugin alone is taken out of Debian 13's
# package, into target/docker. That package comes from the mirror the machine uses already, by the
# archive's signatures, through lists of its own: the machine's sources stay as they are.
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=tests/setup/common.sh
. tests/setup/common.sh

newer=trixie
keys=/usr/share/keyrings/debian-archive-keyring.gpg
plugin=${HOSTLER_DOCKER_DIR:-target/docker}/cli-plugins/docker-compose

release() {
  (. /etc/os-release && echo "${!1:-}")
}

# From Debian 13 on the command line is a package of its own.
cli=docker.io
if [ "$(release VERSION_ID)" != 12 ]; then cli=docker-cli; fi

find_missing "/usr/sbin/dockerd docker.io" "/usr/bin/docker $cli" "/usr/bin/containerd containerd" \
  "/usr/sbin/runc runc" "/usr/bin/docker-init tini" "/usr/sbin/iptables iptables" \
  "nsenter util-linux" "ip iproute2" \
  "/usr/share/keyrings/debian-archive-$newer-stable.gpg debian-archive-keyring"
# There is a busybox that is not static, at the same path.
if ! dpkg-query -W -f '${Status}' busybox-static 2>/dev/null | grep -q ' installed$'; then
  missing+=(busybox-static)
fi
compose_there=(/usr/bin/docker-compose /usr/libexec/docker/cli-plugins/docker-compose)
if [ ! -e "${compose_there[0]}" ] && [ ! -e "${compose_there[1]}" ]; then
  missing+=(docker-compose)
fi
if [ ${#missing[@]} -gt 0 ]; then
  echo "set-up: installing ${missing[*]} (Debian packages; none of their services is started)"
  install_packages "${missing[@]}"
fi

# The machine's own mirror: where the main part of its release comes from.
mirror() {
  apt-get indextargets --format '$(REPO_URI)' \
    'Created-By: Packages' 'Origin: Debian' 'Component: main' "Codename: $(release VERSION_CODENAME)" | sed -n 1p
}

# Takes the plugin out of the newer Debian's package.
take_plugin() {
  local from work
  from=$(mirror)
  if [ -z "$from" ]; then
    # What a source is of stands in its lists.
    apt_as_root update
    from=$(mirror)
  fi
  if [ -z "$from" ]; then
    echo "no source of Debian's main packages is set up on this machine" >&2
    return 1
  fi
  work=$(mktemp -d)
  chmod 755 "$work"
  mkdir -p "$work"/lists/partial "$work"/cache/archives/partial "$work"/package "$work"/none "$work"/download
  # When root asks, apt downloads as a user of its own.
  [ "$(id -u)" -ne 0 ] || chown _apt "$work/download"
  echo "deb [signed-by=$keys] $from $newer main" >"$work/sources.list"
  local apt=(apt-get -q -o "Dir::Etc::SourceList=$work/sources.list" -o "Dir::Etc::SourceParts=$work/none"
    -o "Dir::State::Lists=$work/lists" -o "Dir::Cache=$work/cache" -o "Dir::Etc::Preferences=$work/none/none"
    -o "Dir::Etc::PreferencesParts=$work/none" -o Acquire::Languages=none
    -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false)
  local ended=0
  # Without `Error-Mode=any` a list that could not be fetched or verified is only warned of.
  { "${apt[@]}" -o APT::Update::Error-Mode=any update >/dev/null &&
    (cd "$work/download" && "${apt[@]}" download docker-compose >/dev/null) &&
    dpkg-deb -x "$work"/download/docker-compose_*.deb "$work/package" &&
    mkdir -p "$(dirname "$plugin")" &&
    install -m 755 "$work/package/usr/libexec/docker/cli-plugins/docker-compose" "$plugin"; } || ended=$?
  rm -rf "$work"
  return $ended
}

if [ -x "$plugin" ]; then
  [ ${#missing[@]} -gt 0 ] || echo "set-up: everything for Docker is installed"
  exit 0
fi
if [ -e "${compose_there[1]}" ]; then
  mkdir -p "$(dirname "$plugin")"
  ln -sf "${compose_there[1]}" "$plugin"
else
  echo "set-up: fetching version 2 of Compose into $plugin"
  take_plugin
fi
echo "set-up: $("$plugin" version)"
