# What the set-up scripts share; to be sourced. Debian's packages are installed without any of their
# services being started.

as_root=()
if [ "$(id -u)" -ne 0 ]; then
  as_root=(sudo)
fi

# is_there PROOF: whether a command, or a file (a path, or a pattern of one), is there.
is_there() {
  case $1 in
    /*) compgen -G "$1" >/dev/null ;;
    *) command -v "$1" >/dev/null ;;
  esac
}

# find_missing "PROOF PACKAGE"...: puts the packages whose proof is not there into `missing`.
find_missing() {
  local pair
  missing=()
  for pair in "$@"; do
    is_there "${pair% *}" || missing+=("${pair##* }")
  done
}

# apt_as_root ARGUMENT...: Debian's tool as root. Two set-ups at once wait for each other.
apt_as_root() {
  if [ ${#as_root[@]} -gt 0 ] && ! command -v sudo >/dev/null; then
    echo "run this as root, or install sudo" >&2
    exit 1
  fi
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300 "$@" >/dev/null
}

# install_packages PACKAGE...: from the machine's own sources. Debian's packages start their services
# when installed; a policy, if there is none yet, says no for as long as the installation takes.
install_packages() {
  local policy=/usr/sbin/policy-rc.d
  apt_as_root update
  if [ ! -e $policy ]; then
    trap 'allow_services' EXIT
    printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee $policy >/dev/null
    "${as_root[@]}" chmod 755 $policy
  fi
  apt_as_root -y --no-install-recommends install "$@"
}

# Takes the policy of install_packages away again.
allow_services() {
  "${as_root[@]}" rm -f /usr/sbin/policy-rc.d
}
