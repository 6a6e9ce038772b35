#!/bin/sh
# Builds the examples and the vector guests of hooks/guest from source, with the
# toolchains that are present; what lacks one is left out, and it says so. Nothing is
# installed, but AssemblyScript's compiler, by npm and into its own folder, when node
# and npm are there: pinned by version and hash, and never by --check.
#
#   build.sh            writes the modules
#   build.sh --check    leaves committed modules alone and says how they compare: built
#                       by the compilers that TOOLCHAINS names they must be equal to the
#                       last byte; by others, the committed files must pass their cases
#                       and vectors (go test ./hooks/hooktest ./hooks/guest)
#
# CLANG, WASM_LD, RUSTC, WAT2WASM, NODE, NPM and GO name other programs than those in
# the path.
set -eu
cd "$(dirname "$0")/.."
check=no
case "${1:-}" in
--check) check=yes ;;
"") ;;
*) echo "usage: build.sh [--check]" >&2; exit 2 ;;
esac

ex=wasm-examples
sdk=hooks/guest
vectors=hooks/guest/testdata/vectors
as=$sdk/assemblyscript
: "${CLANG:=clang}" "${WASM_LD:=wasm-ld}" "${WAT2WASM:=wat2wasm}" "${NODE:=node}" "${NPM:=npm}" "${GO:=go}"
build=$ex/.build
mkdir -p "$build"
trap 'rm -rf "$build"' EXIT
fail=0

have() { command -v "$1" >/dev/null 2>&1; }
named() { sed -n "s/^$1: //p" $ex/TOOLCHAINS; }
first() { "$@" 2>/dev/null | head -n 1; }

# Compares or copies: finish <name> <committed file> <version> <version in TOOLCHAINS>
finish() {
	chmod 644 "$build/$1.wasm"
	if [ $check = no ]; then
		cp "$build/$1.wasm" "$2"
		echo "$1: built with $3"
	elif cmp -s "$build/$1.wasm" "$2"; then
		echo "$1: equal to the committed file"
	elif [ "$3" = "$4" ]; then
		echo "$1: DIFFERS from the committed file, though built with $3: run build.sh and commit" >&2
		fail=1
	else
		echo "$1: built with $3, committed with $4: its cases decide"
	fi
}

missing() { echo "$1: $2 is missing, the committed files stay; their cases decide"; }

c() { # name, source, module
	"$CLANG" --target=wasm32-unknown-unknown -nostdlib -O2 -std=c11 -Wall -Wextra -Werror \
		-I $sdk/c -Wl,--no-entry -Wl,--strip-debug -Wl,-z,stack-size=8192 \
		-Wl,--initial-memory=65536 "$2" -o "$build/$1.wasm"
	finish "$1" "$3" "$version" "$(named clang)"
}

if have "$CLANG" && have "$WASM_LD"; then
	version="$(first "$CLANG" --version)"
	for x in route-header ttl-by-type evict-gdsf policy-c; do
		c $x $ex/$x/$x.c $ex/$x/$x.wasm
	done
	c vectors-c $vectors/c.c $vectors/c.wasm
else
	missing C "clang or wasm-ld"
fi

# Without RUSTC the system's compiler comes first: one installed by other means seldom
# has the library for wasm32.
if [ -z "${RUSTC:-}" ]; then
	RUSTC=rustc
	[ -x /usr/bin/rustc ] && RUSTC=/usr/bin/rustc
fi
flags="--edition 2021 --target wasm32-unknown-unknown -D warnings -C opt-level=3 -C panic=abort -C codegen-units=1 -C strip=symbols"

rust() { # name, source, module
	# shellcheck disable=SC2086
	"$RUSTC" $flags -C lto=fat --crate-type cdylib --crate-name hook "$2" -o "$build/$1.wasm" \
		--extern edge="$build/libedge.rlib" -C link-arg=-zstack-size=8192 -C link-arg=--initial-memory=65536
	finish "$1" "$3" "$version" "$(named rustc)"
}

# shellcheck disable=SC2086
if have "$RUSTC" && "$RUSTC" $flags --crate-type rlib --crate-name edge $sdk/rust/src/lib.rs --out-dir "$build" 2>"$build/rust.log"; then
	version="$(first "$RUSTC" --version)"
	for x in route-ab-geo evict-s3fifo policy-rust; do
		rust $x $ex/$x/$x.rs $ex/$x/$x.wasm
	done
	rust vectors-rust $vectors/rust.rs $vectors/rust.wasm
elif have "$RUSTC" && ! grep -q "can't find crate for .core" "$build/rust.log"; then
	cat "$build/rust.log" >&2
	fail=1
else
	missing Rust "rustc or its library for wasm32-unknown-unknown (Debian: rustc libstd-rust-dev-wasm32 lld)"
fi

asc() { # name, source, manifest, module
	"$NODE" $as/node_modules/assemblyscript/bin/asc.js "$2" -o "$build/$1.wasm" --runtime stub -O3 --converge --noAssert
	"$NODE" $as/manifest.mjs "$3" "$build/$1.wasm"
	finish "$1" "$4" "$version" "$(named assemblyscript)"
}

if [ $check = no ] && have "$NODE" && [ ! -d $as/node_modules/assemblyscript ] && have "$NPM"; then
	echo "AssemblyScript: npm ci in $as"
	"$NPM" ci --prefix $as --ignore-scripts --no-audit --no-fund >"$build/npm.log" 2>&1 || tail -n 3 "$build/npm.log" >&2
fi
if have "$NODE" && [ -d $as/node_modules/assemblyscript ]; then
	version="$("$NODE" $as/node_modules/assemblyscript/bin/asc.js --version)"
	for x in key-normalise evict-tenant policy-assemblyscript; do
		asc $x $ex/$x/$x.ts $ex/$x/manifest.json $ex/$x/$x.wasm
	done
	asc vectors-assemblyscript $vectors/assemblyscript.ts $vectors/manifest.json $vectors/assemblyscript.wasm
else
	missing AssemblyScript "node, npm or the registry"
fi

wat() { # name, manifest, module, parts
	name=$1 manifest=$2 module=$3
	shift 3
	cat "$@" >"$build/$name.wat"
	"$WAT2WASM" "$build/$name.wat" -o "$build/$name.wasm"
	$sdk/wat/manifest.sh "$manifest" "$build/$name.wasm"
	finish "$name" "$module" "$version" "$(named wat2wasm)"
}

if have "$WAT2WASM"; then
	version="$(first "$WAT2WASM" --version)"
	x=policy-wat
	wat $x $ex/$x/manifest.json $ex/$x/$x.wasm $sdk/wat/edge.wat $ex/$x/$x.wat
	wat vectors-wat $vectors/manifest.json $vectors/wat.wasm $sdk/wat/host.wat $sdk/wat/edge.wat $vectors/wat.wat
else
	missing WAT wat2wasm
fi

if have "$GO"; then
	for x in ttl-go policy-go; do
		GOOS=wasip1 GOARCH=wasm "$GO" build -buildmode=c-shared -trimpath -ldflags='-s -w -buildid=' -o "$build/$x.wasm" ./$ex/$x
		"$GO" run ./hooks/edgemanifest -manifest $ex/$x/manifest.json "$build/$x.wasm"
		chmod 644 "$build/$x.wasm"
		cp "$build/$x.wasm" $ex/$x/$x.wasm
		echo "$x: built with $("$GO" env GOVERSION), never committed"
	done
else
	echo "Go: go is missing, left out"
fi

if [ $check = yes ] && have "$GO"; then
	"$GO" test ./hooks/hooktest ./hooks/guest || fail=1
fi
exit $fail
