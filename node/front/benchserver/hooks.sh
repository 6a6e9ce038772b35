#!/usr/bin/env bash
# Measures what route hooks cost a hit in memory over HTTP: nodes without hooks,
# with one, with three, and with one whose verdicts are reused, in turns: server on
# core 0, wrk on core 1. All answer the same stored answer of a site.
#
#   hooks.sh [rounds] [seconds] [pipeline]
#
# Needs wrk and curl. Prints one line per run, then the medians: node, requests/s,
# CPU µs per request, ratio to the CPU of the node without hooks.
set -euo pipefail
rounds=${1:-7} seconds=${2:-2} depth=${3:-8}
here=$(cd "$(dirname "$0")" && pwd)
dir=$(mktemp -d)
pids=()
trap 'for p in "${pids[@]}"; do kill "$p" 2>/dev/null || true; done; wait; rm -rf "$dir"' EXIT
(cd "$here/../../.." && CGO_ENABLED=0 go build -o "$dir/" ./node/front/benchserver ./cmd/edgenode ./hooks/benchmodule)
"$dir/benchmodule" -o "$dir/call.wasm"
"$dir/benchmodule" -reuse 3600 -o "$dir/reused.wasm"
start() { "$@" >>"$dir/log" 2>&1 & pids+=($!); }
answers() { until curl -sf -o /dev/null "$@"; do sleep 0.05; done; }
start env GOMAXPROCS=1 taskset -c 1 "$dir/benchserver" -server origin -size 1024 -address 127.0.0.1:8092
declare -A pid port
node() { # name port module...
  local name=$1 at=$2 n=0
  shift 2
  cat >"$dir/$name.toml" <<TOML
data_dir = "$dir/$name"
[listen.data]
address = "127.0.0.1:$at"
max_connections_per_address = 1000
max_requests_per_connection = 0
[listen.admin]
address = "127.0.0.1:$((at + 1))"
[[pool]]
name = "origin"
origins = ["http://127.0.0.1:8092"]
[[site]]
name = "shop"
hosts = ["shop.example"]
pool = "origin"
TOML
  for m in "$@"; do
    n=$((n + 1))
    printf '[[hook]]\nname = "h%d"\nmodule = "%s/%s.wasm"\nhooks = ["route"]\n' "$n" "$dir" "$m" >>"$dir/$name.toml"
  done
  start env GOMAXPROCS=1 taskset -c 0 "$dir/edgenode" --config "$dir/$name.toml"
  pid[$name]=${pids[-1]} port[$name]=$at
  answers "http://127.0.0.1:$((at + 1))/readyz"
  answers -H 'Host: shop.example' "http://127.0.0.1:$at/style.css"
}
node none 8101
node one 8103 call
node three 8105 call call call
node reused 8107 reused
cat >"$dir/pipe.lua" <<LUA
wrk.headers["Host"] = "shop.example"
wrk.headers["X-Tenant"] = "eu-1"
init = function(args) local r = {}; for i = 1, $depth do r[i] = wrk.format("GET", "/style.css") end; req = table.concat(r) end
request = function() return req end
LUA
measure() { # name
  local before after
  before=$(awk '{print $14+$15}' "/proc/${pid[$1]}/stat")
  taskset -c 1 wrk -t1 -c32 -d"${seconds}s" -s "$dir/pipe.lua" "http://127.0.0.1:${port[$1]}/" >"$dir/out"
  after=$(awk '{print $14+$15}' "/proc/${pid[$1]}/stat")
  if grep -q 'Non-2xx' "$dir/out"; then echo "hooks.sh: $1 answered errors" >&2; cat "$dir/out" >&2; exit 1; fi
  awk -v s="$1" -v t="$((after - before))" -v hz="$(getconf CLK_TCK)" '
    /requests in/ {n=$1} /Requests\/sec/ {r=$2}
    END {printf "%-6s %9.0f req/s %7.3f µs/req\n", s, r, t/hz*1e6/n}' "$dir/out" | tee -a "$dir/runs"
}
for _ in $(seq "$rounds"); do
  for s in none one three reused; do measure "$s"; done
done
echo "medians"
for s in none one three reused; do
  rate=$(awk -v s="$s" '$1==s {print $2}' "$dir/runs" | sort -n | awk '{v[NR]=$1} END {print v[int((NR+1)/2)]}')
  cpu=$(awk -v s="$s" '$1==s {print $4}' "$dir/runs" | sort -n | awk '{v[NR]=$1} END {print v[int((NR+1)/2)]}')
  [ "$s" = none ] && base=$cpu
  awk -v s="$s" -v r="$rate" -v c="$cpu" -v b="$base" 'BEGIN {printf "%-6s %9.0f req/s %7.3f µs/req  %.3f of none\n", s, r, c, c/b}'
done
