# edgenode: everything one does with the tree. `make check` is the whole gate.
#
# Needed: Go (version in go.mod), git, bash. `make test` also needs a C compiler,
# for the race detector, and the programs redis-server and mariadbd, which tests
# start by themselves; the binary itself needs none of them.

SHELL       := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := build

GO       ?= go
BINARY   := $(CURDIR)/bin/edgenode
FUZZTIME ?= 1m

# The race detector watches all but the C of SQLite that was translated, which keeps
# its data outside the Go heap, where the detector sees nothing anyway. The package
# around it must be watched: it has copies of generic functions of the standard
# library, which the linker may choose for all.
RACE := -race -gcflags=modernc.org/sqlite/lib=-race=false

# What the detector makes small or void, by the names of tests: allocations, and
# campaigns that are about size.
PLAIN := Allocat|CostNothing|TestModel|TestSimulation|TestLinear|TestMutants|TestReloadsLeave|TestOnePercent

.PHONY: run build test check bench hitratio microbench examples demo docker defects soak faults \
        compiler servers format vet static clean-tree

# Run a node here, on embedded SQLite, with the defaults of edgenode.toml.
run:
	$(GO) run ./cmd/edgenode

# The static binary, bin/edgenode.
build:
	CGO_ENABLED=0 $(GO) build -trimpath -o $(BINARY) ./cmd/edgenode

# Every test, with the race detector; half an hour for a package is for machines that
# do much else besides. Tests that start real nodes find the static
# binary in EDGENODE_BIN. Prints the ten slowest tests, then a line per package.
# Before it, without the detector: what is promised of allocations, and the
# engine's model and the journal at their full size, the memory tier with what was
# let go overwritten (under the detector its records lie on the heap), and the engine's scenarios over
# MariaDB, with Redis and without.
test: build compiler servers
	EDGENODE_BIN=$(BINARY) $(GO) test -json -timeout 30m -run '$(PLAIN)' $$(grep -rlE '^func [^(]*($(PLAIN))' --include='*_test.go' . | xargs -n1 dirname | sort -u) | $(GO) run ./tiers/tiertest/slowest
	$(GO) test -json -timeout 30m -tags slabpoison -run 'Poison|Hammer|Close|Model|Accounts|Pages|NoMemory|Forgotten|GiveBack' ./tiers/l1 | $(GO) run ./tiers/tiertest/slowest
	$(GO) test -json -timeout 30m ./tiers/journal | $(GO) run ./tiers/tiertest/slowest
	$(GO) test -json -timeout 30m -run '^Test[A-D][0-9]+_/^mariadb' ./tiers | $(GO) run ./tiers/tiertest/slowest
	CGO_ENABLED=1 EDGENODE_BIN=$(BINARY) $(GO) test $(RACE) -json -timeout 30m ./... | $(GO) run ./tiers/tiertest/slowest
	$(MAKE) --no-print-directory faults

# Real servers behind a proxy that delays, cuts and hangs: a module of its own.
faults:
	cd tiers/tiertest/faults && $(GO) test -timeout 30m .

# The whole gate, as in continuous integration.
check: format vet static
	wasm-examples/build.sh --check
	$(MAKE) --no-print-directory test
	@$(MAKE) --no-print-directory clean-tree

# Measure this tree beside bare fasthttp, nginx, Varnish and Traffic Server (those that are
# installed), otter, fastcache, plain logs and plain SQL, and write docs/benchmarks.md; a
# quarter of an hour on Linux, with wrk. Figures are read, never asserted.
# BENCH_ROUNDS=5 BENCH_SECONDS=3 say how often and how long; BENCH_ONLY=http,hooks,l1,writes
# what.
bench:
	CGO_ENABLED=0 $(GO) run ./node/bench table

# Shares of hits on recorded traces, beside libraries and other policies, into the
# same page: TRACES is a folder of *.ect.gz, SIMULATOR that of the Go command that
# plays them (node/bench/hitratio.go says what it must do).
hitratio:
	CGO_ENABLED=0 TRACES="$(TRACES)" SIMULATOR="$(SIMULATOR)" $(GO) run ./node/bench hitratio

# The benchmarks of all packages, one by one.
microbench:
	CGO_ENABLED=0 $(GO) test -run '^$$' -bench . -benchmem ./...

# Build the example hooks and vector guests with the toolchains that are present;
# what is missing is said and left out.
examples:
	wasm-examples/build.sh

# A node before an origin of its own, shown step by step.
demo:
	$(GO) run ./node/demo

# The container image, from scratch.
docker:
	docker build -t edgenode .

# Put each known defect into a copy of the tree: its test must fail there, and
# pass here. A few only: make defects NAMES="A1 B4 'S*'". All take half an hour.
defects:
	$(GO) run ./tiers/tiertest/defects $(NAMES)

# Long campaigns: tests at full size (build tag soak), then each fuzz target for
# FUZZTIME.
soak: build compiler servers
	CGO_ENABLED=1 EDGENODE_BIN=$(BINARY) $(GO) test $(RACE) -tags soak -count=1 -timeout 6h ./...
	$(GO) test -tags soak -count=1 -timeout 6h -run 'Churn|Pauses' -v ./tiers/l1
	for pkg in $$($(GO) list ./...); do \
	  for target in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz' || true); do \
	    $(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 1x $$pkg; \
	  done; \
	done

# ---- Parts of the above ---------------------------------------------------------

# The race detector needs cgo. On Debian the compiler is installed when missing.
compiler:
	@if command -v "$$($(GO) env CC)" >/dev/null; then exit 0; fi; \
	if [ -f /etc/debian_version ] && [ "$$(id -u)" = 0 ]; then \
	  echo "installing gcc for the race detector"; \
	  apt-get update -qq && apt-get install -y -qq --no-install-recommends gcc libc6-dev; \
	else \
	  echo "the race detector needs a C compiler: install gcc and the C library's headers" >&2; \
	  echo "(Debian: sudo apt-get install gcc libc6-dev; Fedora: gcc glibc-devel; Alpine: gcc musl-dev; macOS: xcode-select --install)" >&2; \
	  exit 1; \
	fi

# Tests start Redis and MariaDB servers of their own, so only the programs are
# needed. Debian's packages would start services: while they are installed a
# policy forbids it, as in container images, where such a file is there already.
servers:
	@missing=""; path="$$PATH:/usr/sbin:/usr/local/sbin"; \
	PATH="$$path" command -v redis-server >/dev/null || missing="redis-server"; \
	PATH="$$path" command -v mariadbd >/dev/null || missing="$$missing mariadb-server"; \
	if [ -z "$$missing" ]; then exit 0; fi; \
	if [ -f /etc/debian_version ] && [ "$$(id -u)" = 0 ]; then \
	  echo "installing $${missing# } for the tests"; \
	  if [ ! -e /usr/sbin/policy-rc.d ]; then \
	    trap 'rm -f /usr/sbin/policy-rc.d' EXIT; \
	    printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d; chmod 755 /usr/sbin/policy-rc.d; \
	  fi; \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing; \
	else \
	  echo "the tests start servers: install $${missing# } (no service of them needs to run)" >&2; \
	  echo "(Debian: sudo apt-get install redis-server mariadb-server; Fedora: redis mariadb-server; Alpine: redis mariadb; macOS: brew install redis mariadb)" >&2; \
	  exit 1; \
	fi

format:
	@files="$$(gofmt -l .)"; \
	if [ -n "$$files" ]; then echo "not formatted, run gofmt -w on:"; echo "$$files"; exit 1; fi

vet:
	$(GO) vet ./...

static:
	$(GO) tool staticcheck ./...

# Nothing of the above may leave files behind or change them.
clean-tree:
	@changes="$$(git status --porcelain)"; \
	if [ -n "$$changes" ]; then echo "the tree is not clean, commit or remove:"; echo "$$changes"; exit 1; fi
