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
	m.readHeap = func() heapState { return heapState{live: live, objects: live} }
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
		m.readHeap = func() heapState { return heapState{live: 1 << 20} }
		m.apply(config.Default())
		m.follow(0)
		if (limits == 0) != (v == "GOMEMLIMIT=1GiB") || (percents == 0) != (v == "GOGC=50") {
			t.Errorf("with %s: %d limits and %d percents set", v, limits, percents)
		}
	}
}

// What a burst leaves on the heap goes back once the node is quiet, and only if it
// is worth a collection.
func TestHeapIsGivenBack(t *testing.T) {
	const mib = 1 << 20
	var heap heapState
	given := 0
	m := newMemoryLimit(nil, slog.New(slog.DiscardHandler))
	m.setLimit, m.setPercent = func(int64) {}, func(int64) {}
	m.readHeap = func() heapState { return heap }
	m.giveBack = func() { given++; heap.objects, heap.free = heap.live, 0 }
	m.apply(config.Default())
	look := func(times int, allocated int64) {
		for range times {
			heap.allocated += allocated
			m.follow(0)
		}
	}
	f := func(what string, want int) {
		t.Helper()
		if given != want {
			t.Errorf("%s: given back %d times, want %d", what, given, want)
		}
	}
	heap = heapState{live: 10 * mib, objects: 40 * mib, free: 8 * mib, allocated: 1000 * mib}
	look(20, 5*mib)
	f("under load", 0)
	look(quietLooks-1, mib/2)
	f("just quiet", 0)
	look(1, mib/2)
	f("quiet", 1)
	look(20, mib/8)
	f("quiet, with nothing to give", 1)
	heap.free = 7 * mib
	look(1, 2*mib)
	look(quietLooks, 0)
	f("after another burst", 2)
	heap.objects += 7 * mib
	look(quietLooks, 0)
	f("garbage alone", 3)
}
