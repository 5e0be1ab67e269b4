#!/usr/bin/env bash
# Starts a Redis, a simulated model API, three servers that are one cache, and nginx before them.
# Ctrl-C stops all of them, and nothing is left behind.
#
#   BASE=8000             the first port: nginx; servers at +1 to +3, their admin listeners at +11 to
#                         +13, the simulated API at +20 and +21, Redis at +30
#   CACHE_SERVER=FILE     the binary; default: of this repository's release build, or on the PATH
#   UPSTREAM=NAME=URL     another upstream than the simulated API, such as openai=https://api.openai.com
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
PATH=$PATH:/usr/sbin:/usr/local/sbin
base=${BASE:-8000}
binary=${CACHE_SERVER:-$here/../../target/release/cache-server}
[ -x "$binary" ] || binary=cache-server
for program in "$binary" redis-server nginx; do
    command -v "$program" >/dev/null || { echo "$program is not installed" >&2; exit 1; }
done
# Settings around us are not meant for these servers.
unset "${!CACHE_SERVER_@}"

state=$(mktemp -d)
chmod 755 "$state" # nginx's workers may be another user; data folders are for their server alone
front=() behind=()

stop() {
    trap '' INT TERM
    # Those in front end before those that they ask.
    [ ${#front[@]} = 0 ] || { kill "${front[@]}" 2>/dev/null || true; wait "${front[@]}" || true; }
    [ ${#behind[@]} = 0 ] || { kill "${behind[@]}" 2>/dev/null || true; wait "${behind[@]}" || true; }
    rm -rf "$state"
}
trap stop EXIT
trap 'exit 0' INT TERM

failed() {
    echo "$1 did not start; it said:" >&2
    tail -n 20 "$state/$1.log" >&2
    exit 1
}

# ready NAME PROCESS COMMAND...: waits until the command succeeds while the process runs.
ready() {
    local name=$1 process=$2
    shift 2
    for _ in $(seq 200); do
        kill -0 "$process" 2>/dev/null || failed "$name"
        if "$@" >/dev/null 2>&1; then
            # A port may be another's, who answers for it.
            sleep 0.2
            kill -0 "$process" 2>/dev/null || failed "$name"
            return
        fi
        sleep 0.1
    done
    failed "$name"
}

listens() {
    (exec 3<>"/dev/tcp/127.0.0.1/$1")
}

# In a folder of its own, with its port: it keeps nothing, and must not find anything.
redis-server "$here/redis.conf" --port $((base + 30)) --dir "$state" >"$state/redis.log" 2>&1 &
behind+=($!)
ready redis $! listens $((base + 30))

if [ -z "${UPSTREAM:-}" ]; then
    # `declared`: the demo is itself a cache, and here only its simulated API is wanted.
    "$binary" demo --listen "127.0.0.1:$((base + 20))" --admin-listen "127.0.0.1:$((base + 21))" \
        --data-dir "$state/model" --reuse declared >"$state/model.log" 2>&1 &
    behind+=($!)
    ready model $! "$binary" health --admin "127.0.0.1:$((base + 21))"
    model=http://127.0.0.1:$((base + 20))
    UPSTREAM="openai=$model/openai anthropic=$model/anthropic"
fi

for number in 1 2 3; do
    CACHE_SERVER_LISTEN=127.0.0.1:$((base + number)) \
    CACHE_SERVER_ADMIN_LISTEN=127.0.0.1:$((base + 10 + number)) \
    CACHE_SERVER_DATA_DIR=$state/data-$number \
    CACHE_SERVER_REDIS=redis://cache-server:three-servers@127.0.0.1:$((base + 30)) \
    CACHE_SERVER_REDIS_NODE=server-$number \
    CACHE_SERVER_UPSTREAM=$UPSTREAM \
        "$binary" serve --config "$here/cache-server.toml" >"$state/server-$number.log" 2>&1 &
    front+=($!)
    ready "server-$number" $! "$binary" health --admin "127.0.0.1:$((base + 10 + number))"
done

# nginx knows no variables for ports: its file is copied with ours.
ports=()
for number in 0 1 2 3; do
    ports+=(-e "s/127\.0\.0\.1:800$number/127.0.0.1:$((base + number))/")
done
sed "${ports[@]}" "$here/nginx.conf" >"$state/nginx.conf"
nginx -p "$state" -c "$state/nginx.conf" -e stderr >"$state/nginx.log" 2>&1 &
front=($! "${front[@]}")
ready nginx $! listens "$base"

for number in 1 2 3; do
    echo "server-$number  http://127.0.0.1:$((base + number))," \
        "for operators http://127.0.0.1:$((base + 10 + number)), process ${front[number]}"
done
echo "nginx     http://127.0.0.1:$base"
echo "Redis     127.0.0.1:$((base + 30))"
echo "Logs      $state/*.log"
echo "Ready. Ctrl-C stops all."
wait
