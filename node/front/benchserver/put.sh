#!/usr/bin/env bash
# Measures PUT of new items over HTTP at each durability, in turns, on one node
# with SQLite: what an acknowledgement costs.
#
#   put.sh [rounds] [seconds] [size] [connections]
#
# Needs wrk and curl. Prints one line per run, then the medians: durability,
# requests/s, median and 99th percentile of latency, ratio to "memory".
set -euo pipefail
rounds=${1:-3} seconds=${2:-3} size=${3:-1024} connections=${4:-64}
here=$(cd "$(dirname "$0")" && pwd)
dir=$(mktemp -d)
node=
trap '[ -z "$node" ] || { kill "$node" 2>/dev/null || true; wait "$node" || true; }; rm -rf "$dir"' EXIT
(cd "$here/../../.." && CGO_ENABLED=0 go build -o "$dir/" ./cmd/edgenode)
cat >"$dir/node.toml" <<TOML
data_dir = "$dir/data"
journal_max_bytes = "4GiB"
l1_max_bytes = "1GiB"
[listen.data]
address = "127.0.0.1:8091"
max_connections_per_address = 1000
max_requests_per_connection = 0
[listen.admin]
address = "127.0.0.1:8093"
TOML
"$dir/edgenode" --config "$dir/node.toml" >"$dir/log" 2>&1 &
node=$!
until curl -sf -o /dev/null http://127.0.0.1:8093/readyz; do sleep 0.05; done
pending() { curl -s http://127.0.0.1:8093/metrics | awk '$1 ~ /^edgenode_pending_items/ {n+=$2} END {print n+0}'; }
measure() { # durability round
  cat >"$dir/put.lua" <<LUA
local threads = 0
function setup(t) t:set("id", threads); threads = threads + 1 end
function init(args) n = 0; body = string.rep("x", $size) end
function request()
  n = n + 1
  return wrk.format("PUT", "/v1/items/put/$1/$2/" .. id .. "/" .. n, {["Content-Type"] = "text/plain", ["Edge-Durability"] = "$1"}, body)
end
LUA
  wrk -t2 -c"$connections" -d"${seconds}s" --latency -s "$dir/put.lua" http://127.0.0.1:8091/ >"$dir/out"
  if grep -q 'Non-2xx' "$dir/out"; then echo "put.sh: $1 was answered with errors" >&2; cat "$dir/out" >&2; exit 1; fi
  awk -v d="$1" '/^ *50%/ {p50=$2} /^ *99%/ {p99=$2} /Requests\/sec/ {r=$2}
    END {printf "%-8s %9.0f PUT/s  p50 %9s  p99 %9s\n", d, r, p50, p99}' "$dir/out" | tee -a "$dir/runs"
  until [ "$(pending)" = 0 ]; do sleep 0.2; done # the next run begins with nothing to flush
}
for round in $(seq "$rounds"); do
  for d in memory journal sync l3; do measure "$d" "$round"; done
done
echo "medians"
for d in memory journal sync l3; do
  rate=$(awk -v d="$d" '$1==d {print $2}' "$dir/runs" | sort -n | awk '{v[NR]=$1} END {print v[int((NR+1)/2)]}')
  [ "$d" = memory ] && base=$rate
  awk -v d="$d" -v r="$rate" -v b="$base" 'BEGIN {printf "%-8s %9.0f PUT/s  %.2f of memory\n", d, r, r/b}'
done
