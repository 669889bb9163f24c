#!/usr/bin/env bash
# A current ansible-core and ansible-lint from PyPI in a virtual environment of their own, beside the one
# of the distribution, so that playbooks are tried on both. Does nothing when it is there.
set -euo pipefail
cd "$(dirname "$0")/../.."

core=2.19.14
lint=26.10.1
venv=${HOSTLER_ANSIBLE_VENV:-target/ansible}

if [ "$(cat "$venv/versions" 2>/dev/null)" = "$core $lint" ]; then
  exit 0
fi
echo "set-up: installing ansible-core $core and ansible-lint $lint into $venv"
python3 -m venv "$venv"
"$venv/bin/pip" install --quiet --disable-pip-version-check "ansible-core==$core" "ansible-lint==$lint"
echo "$core $lint" >"$venv/versions"
