#!/usr/bin/env bash
# Measures a hit in memory over HTTP beside bare fasthttp handlers, in turns:
# server on core 0, wrk on core 1. The node answers an item, and a stored answer
# of a site with 12 fields, both of the same size as the bare handlers' bodies.
#
#   hit.sh [rounds] [seconds] [size] [pipeline] [keys]
#
# "bare" is the floor: it sends Content-Type, Date, Server and Content-Length. "fields"
# is as bare, and sends what the site's answer has: the 12 fields, Age and
# Cache-Status. Ratios to bare are what goals speak of; those to fields say what of
# that is the bytes. With more than one key each request asks for one by chance, and
# the bare handlers have as many bodies.
#
# Needs wrk and curl. Prints the bytes of each head, one line per run, then: server,
# requests/s, CPU µs per request, ratios to the CPU of bare and of fields (each the
# median over the rounds, ratios within a round, which a busy machine moves less).
set -euo pipefail
rounds=${1:-5} seconds=${2:-3} size=${3:-1024} depth=${4:-1} keys=${5:-1}
port=${PORT:-8090} # the first of five
here=$(cd "$(dirname "$0")" && pwd)
dir=$(mktemp -d)
pids=()
trap 'for p in "${pids[@]}"; do kill "$p" 2>/dev/null || true; done; wait; rm -rf "$dir"' EXIT
bin=${BIN:-} # a folder that has both programs, to compare two versions
if [ -z "$bin" ]; then
  bin=$dir
  (cd "$here/../../.." && CGO_ENABLED=0 go build -o "$dir/" ./node/front/benchserver ./cmd/edgenode)
fi
bare_at=127.0.0.1:$port data_at=127.0.0.1:$((port + 1)) origin_at=127.0.0.1:$((port + 2)) admin_at=127.0.0.1:$((port + 3)) fields_at=127.0.0.1:$((port + 4))
cat >"$dir/node.toml" <<TOML
data_dir = "$dir/data"
l1_max_bytes = "1GiB"
[listen.data]
address = "$data_at"
max_connections_per_address = 1000
max_requests_per_connection = 0
[listen.admin]
address = "$admin_at"
[[pool]]
name = "origin"
origins = ["http://$origin_at"]
[[site]]
name = "shop"
hosts = ["shop.example"]
pool = "origin"
TOML
start() { "$@" >>"$dir/log" 2>&1 & pids+=($!); }
answers() { until curl -sf -o /dev/null "$@"; do sleep 0.05; done; }
start env GOMAXPROCS=1 taskset -c 0 "$bin/benchserver" -server fasthttp -size "$size" -bodies "$keys" -address "$bare_at"
start env GOMAXPROCS=1 taskset -c 1 "$bin/benchserver" -server origin -size "$size" -address "$origin_at"
start env GOMAXPROCS=1 taskset -c 0 "$bin/edgenode" --config "$dir/node.toml"
start env GOMAXPROCS=1 taskset -c 0 "$bin/benchserver" -server fields -size "$size" -bodies "$keys" -address "$fields_at"
bare=${pids[0]} node=${pids[2]} fields=${pids[3]}
answers "http://$bare_at/"
answers "http://$fields_at/"
answers "http://$admin_at/readyz"
head -c "$size" /dev/zero >"$dir/body"
some="[0-$((keys - 1))]"
curl -sf -o /dev/null -X PUT -H 'Content-Type: text/plain' -H 'Edge-Durability: memory' --data-binary @"$dir/body" "http://$data_at/v1/items/hot$some"
curl -sf -o /dev/null -H 'Host: shop.example' "http://$data_at/style$some.css"
head_of() { printf '%-6s %4d bytes of head, %2d lines\n' "$1" "$(curl -sD- -o /dev/null "${@:2}" | wc -c)" "$(curl -sD- -o /dev/null "${@:2}" | wc -l)"; }
head_of bare "http://$bare_at/style0.css"
head_of fields "http://$fields_at/style0.css"
head_of item "http://$data_at/v1/items/hot0"
head_of site -H 'Host: shop.example' "http://$data_at/style0.css"
pipe() { # host, path up to the number, and behind it
  cat >"$dir/pipe.lua" <<LUA
wrk.headers["Host"] = "$1"
local all = {}
init = function(args)
  for k = 0, $keys - 1 do all[k] = wrk.format("GET", "$2" .. k .. "$3") end
  math.randomseed(7)
  local r = {}; for i = 1, $depth do r[i] = all[0] end; one = table.concat(r)
end
request = function()
  if $keys == 1 then return one end
  local r = {}; for i = 1, $depth do r[i] = all[math.random(0, $keys - 1)] end; return table.concat(r)
end
LUA
}
measure() { # name pid address
  local before after
  before=$(awk '{print $14+$15}' "/proc/$2/stat")
  taskset -c 1 wrk -t1 -c64 -d"${seconds}s" -s "$dir/pipe.lua" "http://$3/" >"$dir/out"
  after=$(awk '{print $14+$15}' "/proc/$2/stat")
  if grep -q 'Non-2xx' "$dir/out"; then echo "hit.sh: $1 answered errors" >&2; cat "$dir/out" >&2; exit 1; fi
  awk -v s="$1" -v t="$((after - before))" -v hz="$(getconf CLK_TCK)" '
    /requests in/ {n=$1} /Requests\/sec/ {r=$2}
    END {printf "%-6s %9.0f req/s %7.3f µs/req\n", s, r, t/hz*1e6/n}' "$dir/out" | tee -a "$dir/runs"
}
for _ in $(seq "$rounds"); do
  pipe 127.0.0.1 /style .css && measure bare "$bare" "$bare_at"
  pipe localhost /v1/items/hot '' && measure item "$node" "$data_at"
  pipe shop.example /style .css && measure site "$node" "$data_at"
  pipe 127.0.0.1 /style .css && measure fields "$fields" "$fields_at"
done
middle() { sort -n | awk '{v[NR]=$1} END {print v[int((NR+1)/2)]}'; }
over() { # of which, to which
  awk -v a="$1" -v b="$2" '$1==a {x[++i]=$4} $1==b {y[++j]=$4} END {for (k=1; k<=i; k++) print x[k]/y[k]}' "$dir/runs" | middle
}
echo "medians"
for s in bare fields item site; do
  awk -v s="$s" -v r="$(awk -v s="$s" '$1==s {print $2}' "$dir/runs" | middle)" -v c="$(awk -v s="$s" '$1==s {print $4}' "$dir/runs" | middle)" \
    -v b="$(over "$s" bare)" -v f="$(over "$s" fields)" 'BEGIN {printf "%-6s %9.0f req/s %7.3f µs/req  %.2f of bare  %.2f of fields\n", s, r, c, b, f}'
done
