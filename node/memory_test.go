package node

import (
	"log/slog"
	"testing"

	"github.com/edgenode/edgenode/node/config"
)

// The collector's limit follows what of the memory tier is on the heap, and a small
// heap is not collected all the time.
func TestMemoryLimitFollows(t *testing.T) {
	const mib = 1 << 20
	var limit, percent, live int64
	limits, percents := 0, 0
	m := newMemoryLimit(nil, slog.New(slog.DiscardHandler))
	m.setLimit = func(n int64) { limit = n; limits++ }
	m.setPercent = func(n int64) { percent = n; percents++ }
	m.liveHeap = func() int64 { return live }
	f := func(what string, got, want int64) {
		t.Helper()
		if got != want {
			t.Errorf("%s: got %d, want %d", what, got, want)
		}
	}
	cfg := config.Default()
	cfg.L1MaxBytes, cfg.InflightMaxBytes = 256*config.MiB, 64*config.MiB
	m.apply(cfg)
	f("limit at the start", limit, (256+96+64)*mib)
	live = 16 * mib
	m.follow(2 * mib)
	f("limit once it runs", limit, (2+96+64)*mib)
	f("percent of a small heap", percent, 200)
	limits, percents = 0, 0
	live = 15 * mib
	m.follow(5 * mib)
	f("limits set for small changes", int64(limits), 0)
	f("percents set for small changes", int64(percents), 0)
	live = 300 * mib
	m.follow(100 * mib)
	f("limit with tables", limit, (100+96+64)*mib)
	f("percent of a big heap", percent, 100)
	cfg.InflightMaxBytes = 32 * config.MiB
	m.apply(cfg)
	f("limit after a reload", limit, (100+96+32)*mib)
}

// What the operator says in the environment stands.
func TestMemoryLimitOfOperator(t *testing.T) {
	for _, v := range []string{"GOMEMLIMIT=1GiB", "GOGC=50"} {
		m := newMemoryLimit([]string{"HOME=/", v}, slog.New(slog.DiscardHandler))
		limits, percents := 0, 0
		m.setLimit = func(int64) { limits++ }
		m.setPercent = func(int64) { percents++ }
		m.liveHeap = func() int64 { return 1 << 20 }
		m.apply(config.Default())
		m.follow(0)
		if (limits == 0) != (v == "GOMEMLIMIT=1GiB") || (percents == 0) != (v == "GOGC=50") {
			t.Errorf("with %s: %d limits and %d percents set", v, limits, percents)
		}
	}
}
