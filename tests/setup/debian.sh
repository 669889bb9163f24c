#!/usr/bin/env bash
# Installs what `make demo`, `make test` and `make bench` run against, from Debian's packages, and
# starts nothing. Does nothing when all is there. Usage: tests/setup/debian.sh [demo|test|bench]
set -euo pipefail

for_what=${1:-test}

# command (or file) that proves a package is there, then the package
wanted=(
  "cc gcc" "make make" "git git" "curl curl" "openssl openssl" "setpriv util-linux"
  "/usr/sbin/nginx nginx-light" "/usr/sbin/php-fpm* php-fpm" "redis-server redis-server"
  "/usr/bin/ansible-playbook ansible-core"
)
case $for_what in
  demo) ;;
  test | bench)
    wanted+=("/usr/lib/postgresql/*/bin/postgres postgresql" "python3 python3" "/usr/lib/python3*/venv/__init__.py python3-venv")
    ;;
  *) echo "usage: $0 [demo|test|bench]" >&2; exit 2 ;;
esac
if [ "$for_what" = bench ]; then
  wanted+=("strace strace" "/usr/lib/nginx/modules/ngx_http_cache_purge_module.so libnginx-mod-http-cache-purge")
fi

missing=()
for pair in "${wanted[@]}"; do
  proof=${pair% *} package=${pair##* }
  case $proof in
    /*) compgen -G "$proof" >/dev/null || missing+=("$package") ;;
    *) command -v "$proof" >/dev/null || missing+=("$package") ;;
  esac
done
command -v cargo >/dev/null || {
  echo "Rust is missing: install it from https://rustup.rs (1.90 or newer), then run this again." >&2
  exit 1
}
if [ ${#missing[@]} -eq 0 ]; then
  echo "set-up: everything for '$for_what' is installed"
  exit 0
fi

echo "set-up: installing ${missing[*]} (Debian packages; none of their services is started)"
as_root=()
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null || { echo "run this as root, or install sudo" >&2; exit 1; }
  as_root=(sudo)
fi

# Debian's packages start their services when installed; this policy, if there is none yet, says no
# for as long as the installation takes.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
  printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee $policy >/dev/null
  "${as_root[@]}" chmod 755 $policy
  trap '"${as_root[@]}" rm -f $policy' EXIT
fi
export DEBIAN_FRONTEND=noninteractive
"${as_root[@]}" apt-get -q update >/dev/null
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends install "${missing[@]}" >/dev/null
echo "set-up: done"
