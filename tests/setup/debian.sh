#!/usr/bin/env bash
# Installs what the Makefile runs against, from Debian's packages, and starts nothing. Does nothing
# when all is there. Usage: tests/setup/debian.sh [demo|demo-cluster|demo-stacks|test|bench]
set -euo pipefail
# shellcheck source=tests/setup/common.sh
. "$(dirname "$0")/common.sh"

for_what=${1:-test}

# command (or file) that proves a package is there, then the package
wanted=(
  "cc gcc" "make make" "git git" "curl curl" "openssl openssl" "setpriv util-linux"
  "/usr/sbin/nginx nginx-light" "/usr/sbin/php-fpm* php-fpm" "redis-server redis-server"
  "/usr/bin/ansible-playbook ansible-core"
)
case $for_what in
  demo) ;;
  # Docker is docker.sh's; there are no sites.
  demo-stacks) wanted=("cc gcc" "make make" "git git" "curl curl" "openssl openssl") ;;
  demo-cluster) wanted+=("/usr/lib/postgresql/*/bin/postgres postgresql") ;;
  test | bench)
    wanted+=("/usr/lib/postgresql/*/bin/postgres postgresql" "python3 python3" "/usr/lib/python3*/venv/__init__.py python3-venv")
    # For the git servers.
    wanted+=("/usr/sbin/fcgiwrap fcgiwrap" "/usr/sbin/sshd openssh-server" "ssh-keygen openssh-client")
    # What secrets are encrypted with.
    wanted+=("age age")
    ;;
  *) echo "usage: $0 [demo|demo-cluster|demo-stacks|test|bench]" >&2; exit 2 ;;
esac
if [ "$for_what" = test ]; then
  # For the chaos: networks, packet filters and small file systems of its own.
  wanted+=("/usr/sbin/nft nftables" "ip iproute2" "mkfs.ext4 e2fsprogs" "mount mount" "nsenter util-linux")
fi
if [ "$for_what" = bench ]; then
  wanted+=("strace strace" "/usr/lib/nginx/modules/ngx_http_cache_purge_module.so libnginx-mod-http-cache-purge")
fi

find_missing "${wanted[@]}"
command -v cargo >/dev/null || {
  echo "Rust is missing: install it from https://rustup.rs (1.90 or newer), then run this again." >&2
  exit 1
}
if [ ${#missing[@]} -eq 0 ]; then
  echo "set-up: everything for '$for_what' is installed"
  exit 0
fi

echo "set-up: installing ${missing[*]} (Debian packages; none of their services is started)"
install_packages "${missing[@]}"
echo "set-up: done"
