#!/usr/bin/env bash
# An S3-compatible server from PyPI (moto's) in a virtual environment of its own, for the tests of bundles
# in a bucket. Does nothing when it is there, and starts nothing.
set -euo pipefail
cd "$(dirname "$0")/../.."

moto=5.2.5
flask=3.1.3
cors=6.0.5
venv=${HOSTLER_S3_VENV:-target/s3}

if [ "$(cat "$venv/versions" 2>/dev/null)" = "$moto $flask $cors" ]; then
  exit 0
fi
echo "set-up: installing moto $moto into $venv"
python3 -m venv "$venv"
"$venv/bin/pip" install --quiet --disable-pip-version-check \
  "moto[s3]==$moto" "flask==$flask" "flask-cors==$cors"
echo "$moto $flask $cors" >"$venv/versions"
