#!/bin/sh
# Puts a manifest into a module as its custom section edge.manifest, in place:
#
#   manifest.sh manifest.json module.wasm
set -eu
[ $# -eq 2 ] || { echo "usage: manifest.sh manifest.json module.wasm" >&2; exit 2; }

byte() { printf "\\$(printf %03o "$1")"; }

# An unsigned LEB128 number.
leb() {
	n=$1
	while [ "$n" -gt 127 ]; do
		byte $((n % 128 + 128))
		n=$((n / 128))
	done
	byte "$n"
}

if grep -aq edge.manifest "$2"; then
	echo "$2 has a manifest already" >&2
	exit 1
fi
length=$(($(wc -c <"$1")))
{
	byte 0
	leb $((1 + 13 + length))
	byte 13
	printf edge.manifest
	cat "$1"
} >>"$2"
