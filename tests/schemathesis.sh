#!/usr/bin/env bash
# Attacks a live controller's HTTP API with schemathesis, with what the contract allows and what it
# forbids: once empty, once with ids that exist. Finds nothing, or fails. Needs python3 with venv; keeps its own environment in
# $SCHEMATHESIS_VENV (default: target/schemathesis).
#
#   tests/schemathesis.sh [more arguments of `schemathesis run`]
set -eu
cd "$(dirname "$0")/.."
root=$PWD

version=4.32.5
venv=${SCHEMATHESIS_VENV:-$root/target/schemathesis}
controller=${HOSTLER_CONTROLLER:-target/debug/hostler-controller}
agent=${HOSTLER_AGENT:-target/debug/hostler-agent}
examples=${SCHEMATHESIS_EXAMPLES:-30}

if [ ! -x "$venv/bin/schemathesis" ]; then
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet "schemathesis==$version"
fi
[ -x "$controller" ] || cargo build -p hostler-controller --bin hostler-controller
[ -x "$agent" ] || cargo build -p hostler-agent --bin hostler-agent

work=$(mktemp -d)
pid=
finish() {
    [ -z "$pid" ] || { kill "$pid" 2>/dev/null && wait "$pid" 2>/dev/null || true; }
    rm -rf "$work"
}
trap finish EXIT

# None of those the kernel gives to whoever connects (tests/src/servers/port.rs).
free_port() {
    python3 -c 'import random, socket
while True:
    port = random.randrange(10000, 32768)
    try:
        socket.socket().bind(("127.0.0.1", port))
        break
    except OSError:
        pass
print(port)'
}
port=$(free_port)
# Without one every delivery is answered with 503, which is no defect here.
export HOSTLER_WEBHOOK_SECRET=schemathesis
"$controller" serve --data-dir "$work/data" --listen "127.0.0.1:$port" \
    --agent-listen 127.0.0.1:0 --metrics-listen "127.0.0.1:$(free_port)" \
    >"$work/log" 2>&1 &
pid=$!
base="http://127.0.0.1:$port"
for _ in $(seq 100); do
    python3 -c "import urllib.request; urllib.request.urlopen('$base/readyz')" 2>/dev/null && break
    kill -0 "$pid" 2>/dev/null || { cat "$work/log"; exit 1; }
    sleep 0.1
done


post() {
    python3 -c 'import json, sys, urllib.request as u
body = sys.argv[2].encode()
asked = u.Request(sys.argv[1], body, {"content-type": "application/json"}, method="POST")
print(json.load(u.urlopen(asked))[sys.argv[3]])' "$base$1" "$2" "$3"
}

# The two streams have no end, which a checker of whole answers cannot wait for; the tests in
# tests/it/api/events.rs read them instead.
attack() {
    config=$1
    shift
    # In a directory of its own: it keeps what it found last time where it stands.
    (cd "$work" && exec "$venv/bin/schemathesis" --config-file "$config" run "$base/openapi.json" \
        --url "$base" --max-examples "$examples" --seed 1 --workers 1 --request-timeout 70 \
        --exclude-path /api/events --exclude-path '/api/jobs/{id}/events' "$@") || {
        status=$?
        grep -E 'ERROR|WARN' "$work/log" | tail -20
        exit "$status"
    }
}

echo "== an empty controller"
attack "$root/tests/schemathesis.toml" "$@"

# Ids nobody can guess: a host that has enrolled, an environment on it, a job of that.
echo "== a controller with a host, an environment and a job"
site=$(post /api/sites '{"name":"schemathesis-site"}' id)
post /api/enrolment-tokens '{"host_name":"schemathesis-host"}' join >"$work/join"
chmod 600 "$work/join"
"$agent" enroll --state-dir "$work/agent" --token-file "$work/join"
environment=$(post "/api/sites/$site/environments" '{"name":"production",
    "host":"schemathesis-host", "domain":"shop.example", "kind":"wordpress", "user":"www-data",
    "docroot":"/srv/schemathesis", "fastcgi":{}, "redis":{"url":"redis://127.0.0.1:1","prefix":"st:"}}' id)
job=$(post "/api/environments/$environment/cache/purge" '{}' job_id)
host=$(python3 -c 'import json, sys, urllib.request as u
print(json.load(u.urlopen(sys.argv[1]))["items"][0]["id"])' "$base/api/hosts")
{
    cat tests/schemathesis.toml
    for known in "sites $site" "environments $environment" "hosts $host" "jobs $job"; do
        printf '\n[[operations]]\ninclude-path-regex = "^/api/%s/[{]id[}]"\n' "${known% *}"
        printf 'parameters = { "path.id" = "%s" }\n' "${known#* }"
    done
} >"$work/known.toml"
attack "$work/known.toml" --exclude-method DELETE --exclude-path '/api/hosts/{id}/revoke' "$@"
