package l2_test

import (
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/edgenode/edgenode/tiers/eviction"
	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/l2"
	"github.com/edgenode/edgenode/tiers/tiertest/redistest"
)

// bySize lets the biggest leave first, and keeps what it was shown.
type bySize struct{ seen *[]item.Candidate }

func (b bySize) Score(dst []int32, c []item.Candidate, _ float64) []int32 {
	for i := range c {
		dst = append(dst, -int32(c[i].Size))
	}
	if b.seen != nil {
		*b.seen = append(*b.seen, c...)
	}
	return dst
}

func TestEvict(t *testing.T) {
	const limit = 24 << 20
	server, s := start(t, func(o *l2.Options) { o.Timeout = 10 * time.Second }) // a fence lives for two of them
	used := func() int64 {
		n, err := strconv.ParseInt(server.Info("memory", "used_memory"), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	// No maxmemory, no eviction.
	apply(t, s, putOp(put("first", 1, "a")), tombstoneOp(tombstone("deleted", 1)), dropOp("dropped", 1))
	if e, err := s.Evict(ctx, bySize{}); err != nil || e.Evicted != 0 || e.More {
		t.Fatalf("without maxmemory: %+v, %v", e, err)
	}
	if err := s.WriteMark(ctx, l2.Mark{L3: "x", Seq: 7}, s.Generation()); err != nil {
		t.Fatal(err)
	}
	server.Do("CONFIG", "SET", "maxmemory", strconv.Itoa(limit))
	server.Do("SET", "of another program", strings.Repeat("x", 10_000))
	small, big := strings.Repeat("s", 1000), strings.Repeat("b", 5000)
	n := 0
	for used() < limit*80/100 {
		var ops []l2.Op
		for range 200 {
			ops = append(ops, putOp(put(fmt.Sprint("small-", n), 1, small)), putOp(put(fmt.Sprint("big-", n), 1, big)))
			n++
		}
		apply(t, s, ops...)
	}
	for rounds := 0; ; rounds++ {
		e, err := s.Evict(ctx, eviction.Auto{})
		if err != nil || e.Max != limit || rounds > 20 {
			t.Fatalf("round %d: %+v, %v", rounds, e, err)
		}
		if !e.More {
			break
		}
	}
	if got := used(); got > limit*61/100 || got < limit*45/100 {
		t.Errorf("used %d of %d bytes, want about 0.60", got, limit)
	}
	left := map[string]int{}
	if _, _, err := s.Sweep(ctx, func(head item.View) bool {
		kind, _, _ := strings.Cut(head.Key().ID(), "-")
		left[kind]++
		return false
	}); err != nil {
		t.Fatal(err)
	}
	// Which records a step samples is chance: without the ranking as many of both
	// would be left.
	if left["small"]*4 < left["big"]*5 || left["big"] == n {
		t.Errorf("left of %d each: %v, want the big ones to go first", n, left)
	}
	if m, ok, err := s.ReadMark(ctx); !ok || err != nil || m.Seq != 7 {
		t.Errorf("the mark: %+v, %v, %v", m, ok, err)
	}
	if left["deleted"] != 1 {
		t.Error("a tombstone was evicted")
	}
	if out := apply(t, s, putOp(put("dropped", 0, "a"))); out[0].Won {
		t.Error("a fence was evicted")
	}
	if server.Do("EXISTS", "of another program") != int64(1) {
		t.Error("a key of another program was evicted")
	}
	// Between target and start nothing is done.
	if e, err := s.Evict(ctx, eviction.Auto{}); err != nil || e.Evicted != 0 {
		t.Errorf("below the start: %+v, %v", e, err)
	}
}

// Candidates carry what the server knows of use and lifetime.
func TestCandidates(t *testing.T) {
	f := func(policy string, check func(cold, hot item.Candidate) bool) {
		t.Helper()
		server := redistest.Start(t, redistest.Options{Args: []string{"--maxmemory-policy", policy}})
		s := open(t, server.URL())
		apply(t, s, putOp(put("cold", 1, "a", l2TTL(60_000))), putOp(put("hot", 1, strings.Repeat("b", 4000))))
		dump := server.Do("DUMP", "edgenode:{icold}").(string)
		if strings.HasSuffix(policy, "lfu") {
			server.Do("RESTORE", "edgenode:{icold}", "60000", dump, "REPLACE", "FREQ", "1")
		} else {
			server.Do("RESTORE", "edgenode:{icold}", "60000", dump, "REPLACE", "IDLETIME", "1000")
		}
		used, err := strconv.Atoi(server.Info("memory", "used_memory"))
		if err != nil {
			t.Fatal(err)
		}
		server.Do("CONFIG", "SET", "maxmemory", strconv.Itoa(used*6/5))
		var seen []item.Candidate
		if _, err := s.Evict(ctx, bySize{&seen}); err != nil {
			t.Fatal(err)
		}
		if len(seen) < 2 {
			t.Fatalf("%s: %d candidates", policy, len(seen))
		}
		cold, hot := seen[0], seen[1]
		if cold.Size > hot.Size {
			cold, hot = hot, cold
		}
		if !check(cold, hot) || cold.LogFrequency >= hot.LogFrequency || cold.Lifetime > 60 || hot.Lifetime < 3000 || hot.Size < 4000 {
			t.Errorf("%s: cold %+v, hot %+v", policy, cold, hot)
		}
	}
	f("volatile-ttl", func(cold, hot item.Candidate) bool { return cold.Idle >= 1_000_000 && hot.Idle < 100_000 })
	f("volatile-lfu", func(cold, hot item.Candidate) bool { return cold.Hits == 1 && hot.Hits > 1 })
}

func TestSweepIsBounded(t *testing.T) {
	_, s := start(t)
	content := strings.Repeat("c", 1000)
	for first := 0; first < sweepItems; first += 1000 {
		ops := make([]l2.Op, 1000)
		for i := range ops {
			ops[i] = putOp(put(fmt.Sprint("item-", first+i), item.Version(1+i%2), content))
		}
		apply(t, s, ops...)
	}
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	before, most, calls := m.HeapAlloc, uint64(0), 0
	visited, dropped, err := s.Sweep(ctx, func(head item.View) bool {
		if calls++; calls%(sweepItems/50) == 0 {
			runtime.GC()
			runtime.ReadMemStats(&m)
			most = max(most, m.HeapAlloc)
		}
		return head.Version() == 1
	})
	if err != nil || visited < sweepItems || dropped != sweepItems/2 {
		t.Errorf("visited %d, dropped %d of %d, error %v", visited, dropped, sweepItems, err)
	}
	if most > before+8<<20 {
		t.Errorf("%d bytes in memory during the sweep, %d before", most, before)
	}
}
