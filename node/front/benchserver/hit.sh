#!/usr/bin/env bash
# Measures a hit in memory over HTTP beside a bare fasthttp handler, in turns:
# server on core 0, wrk on core 1. The node answers an item, and a stored answer
# of a site with 12 fields, both of the same size as the bare handler's body.
#
#   hit.sh [rounds] [seconds] [size] [pipeline]
#
# Needs wrk and curl. Prints one line per run, then the medians: server,
# requests/s, CPU µs per request, ratio to the bare handler's CPU.
set -euo pipefail
rounds=${1:-5} seconds=${2:-3} size=${3:-1024} depth=${4:-1}
here=$(cd "$(dirname "$0")" && pwd)
dir=$(mktemp -d)
pids=()
trap 'for p in "${pids[@]}"; do kill "$p" 2>/dev/null || true; done; wait; rm -rf "$dir"' EXIT
(cd "$here/../../.." && CGO_ENABLED=0 go build -o "$dir/" ./node/front/benchserver ./cmd/edgenode)
cat >"$dir/node.toml" <<TOML
data_dir = "$dir/data"
[listen.data]
address = "127.0.0.1:8091"
max_connections_per_address = 1000
max_requests_per_connection = 0
[listen.admin]
address = "127.0.0.1:8093"
[[pool]]
name = "origin"
origins = ["http://127.0.0.1:8092"]
[[site]]
name = "shop"
hosts = ["shop.example"]
pool = "origin"
TOML
start() { "$@" >>"$dir/log" 2>&1 & pids+=($!); }
answers() { until curl -sf -o /dev/null "$@"; do sleep 0.05; done; }
start env GOMAXPROCS=1 taskset -c 0 "$dir/benchserver" -server fasthttp -size "$size" -address 127.0.0.1:8090
start env GOMAXPROCS=1 taskset -c 1 "$dir/benchserver" -server origin -size "$size" -address 127.0.0.1:8092
start env GOMAXPROCS=1 taskset -c 0 "$dir/edgenode" --config "$dir/node.toml"
bare=${pids[0]} node=${pids[2]}
answers http://127.0.0.1:8090/
answers http://127.0.0.1:8093/readyz
head -c "$size" /dev/zero >"$dir/body"
curl -sf -X PUT -H 'Content-Type: text/plain' --data-binary @"$dir/body" http://127.0.0.1:8091/v1/items/hot
answers http://127.0.0.1:8091/v1/items/hot
answers -H 'Host: shop.example' http://127.0.0.1:8091/style.css
pipe() { # host path
  cat >"$dir/pipe.lua" <<LUA
wrk.headers["Host"] = "$1"
init = function(args) local r = {}; for i = 1, $depth do r[i] = wrk.format("GET", "$2") end; req = table.concat(r) end
request = function() return req end
LUA
}
measure() { # name pid port
  local before after
  before=$(awk '{print $14+$15}' "/proc/$2/stat")
  taskset -c 1 wrk -t1 -c64 -d"${seconds}s" -s "$dir/pipe.lua" "http://127.0.0.1:$3/" >"$dir/out"
  after=$(awk '{print $14+$15}' "/proc/$2/stat")
  if grep -q 'Non-2xx' "$dir/out"; then echo "hit.sh: $1 answered errors" >&2; cat "$dir/out" >&2; exit 1; fi
  awk -v s="$1" -v t="$((after - before))" -v hz="$(getconf CLK_TCK)" '
    /requests in/ {n=$1} /Requests\/sec/ {r=$2}
    END {printf "%-6s %9.0f req/s %7.3f µs/req\n", s, r, t/hz*1e6/n}' "$dir/out" | tee -a "$dir/runs"
}
for _ in $(seq "$rounds"); do
  pipe 127.0.0.1 / && measure bare "$bare" 8090
  pipe localhost /v1/items/hot && measure item "$node" 8091
  pipe shop.example /style.css && measure site "$node" 8091
done
echo "medians"
for s in bare item site; do
  rate=$(awk -v s="$s" '$1==s {print $2}' "$dir/runs" | sort -n | awk '{v[NR]=$1} END {print v[int((NR+1)/2)]}')
  cpu=$(awk -v s="$s" '$1==s {print $4}' "$dir/runs" | sort -n | awk '{v[NR]=$1} END {print v[int((NR+1)/2)]}')
  [ "$s" = bare ] && base=$cpu
  awk -v s="$s" -v r="$rate" -v c="$cpu" -v b="$base" 'BEGIN {printf "%-6s %9.0f req/s %7.3f µs/req  %.2f of bare\n", s, r, c, c/b}'
done
