#!/bin/sh
# Measures CPU per request of the front and of a bare fasthttp server in turns:
# server on core 0, wrk on core 1. Usage: compare.sh [rounds] [seconds] [size] [pipeline]
# Needs wrk. Prints one line per run: server, requests/s, CPU µs per request.
set -eu
rounds=${1:-3} seconds=${2:-5} size=${3:-1024} depth=${4:-1}
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
go build -o "$dir/benchserver" "$(dirname "$0")"
cat >"$dir/pipe.lua" <<LUA
init = function(args) local r = {}; for i = 1, $depth do r[i] = wrk.format(nil, "/") end; req = table.concat(r) end
request = function() return req end
LUA
ticks=$(getconf CLK_TCK)
for round in $(seq "$rounds"); do
	for server in front fasthttp; do
		GOMAXPROCS=1 taskset -c 0 "$dir/benchserver" -server "$server" -size "$size" &
		pid=$!
		until wget -q -O /dev/null http://127.0.0.1:8090/ 2>/dev/null || curl -sf -o /dev/null http://127.0.0.1:8090/; do :; done
		before=$(awk '{print $14+$15}' "/proc/$pid/stat")
		taskset -c 1 wrk -t1 -c64 -d"${seconds}s" -s "$dir/pipe.lua" http://127.0.0.1:8090/ >"$dir/out"
		after=$(awk '{print $14+$15}' "/proc/$pid/stat")
		kill "$pid"; wait "$pid" 2>/dev/null || true
		awk -v s="$server" -v t="$((after - before))" -v hz="$ticks" '
			/requests in/ {n=$1} /Requests\/sec/ {r=$2}
			END {printf "%-9s %8.0f req/s %7.3f µs/req\n", s, r, t/hz*1e6/n}' "$dir/out"
	done
done
