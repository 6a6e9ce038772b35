#!/bin/sh
# Builds the examples from source. Without arguments it writes the modules; with
# --check it leaves committed modules alone and says how they compare: built by
# the compiler that TOOLCHAINS names they must be equal to the last byte; by
# another one, the committed files must pass their cases (go test ./hooks/hooktest).
# Without clang or Go the examples that need it are left out, and it says so.
set -eu
cd "$(dirname "$0")"
root=..
check=no
case "${1:-}" in
--check) check=yes ;;
"") ;;
*) echo "usage: build.sh [--check]" >&2; exit 2 ;;
esac

c_examples="route-header ttl-by-type evict-gdsf"
go_examples="ttl-go"
build=.build
mkdir -p "$build"
trap 'rm -rf "$build"' EXIT
fail=0

have() { command -v "$1" >/dev/null 2>&1; }

if have clang && have wasm-ld; then
	version=$(clang --version | head -n 1)
	named=$(sed -n 's/^clang: //p' TOOLCHAINS)
	for x in $c_examples; do
		clang --target=wasm32-unknown-unknown -nostdlib -O2 -std=c11 -Wall -Wextra -Werror \
			-I "$root/hooks/guest/c" -Wl,--no-entry -Wl,--strip-debug \
			-Wl,-z,stack-size=8192 -Wl,--initial-memory=65536 "$x/$x.c" -o "$build/$x.wasm"
		chmod 644 "$build/$x.wasm"
		if [ $check = no ]; then
			cp "$build/$x.wasm" "$x/$x.wasm"
			echo "$x: built with $version"
		elif cmp -s "$build/$x.wasm" "$x/$x.wasm"; then
			echo "$x: equal to the committed file"
		elif [ "$version" = "$named" ]; then
			echo "$x: DIFFERS from the committed file, though built with $version: run build.sh and commit" >&2
			fail=1
		else
			echo "$x: built with $version, committed with $named: the cases decide"
		fi
	done
else
	echo "C examples: clang or wasm-ld is missing, the committed files stay; the cases decide"
fi

if have go; then
	for x in $go_examples; do
		(cd "$x" && GOOS=wasip1 GOARCH=wasm go build -buildmode=c-shared -trimpath -ldflags='-s -w -buildid=' -o "../$build/$x.wasm" .)
		(cd "$root" && go run ./hooks/edgemanifest -manifest "wasm-examples/$x/manifest.json" "wasm-examples/$build/$x.wasm")
		cp "$build/$x.wasm" "$x/$x.wasm"
		echo "$x: built with $(go env GOVERSION)"
	done
else
	echo "Go examples: go is missing, left out"
fi

if [ $check = yes ] && have go; then
	(cd "$root" && go test ./hooks/hooktest) || fail=1
fi
exit $fail
