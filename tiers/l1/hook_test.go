package l1_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/VictoriaMetrics/metrics"

	"github.com/edgenode/edgenode/tiers/eviction"
	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/l1"
)

// hookFunc is a hook made of a function.
type hookFunc func(dst []int32, c []item.Candidate) []int32

func (f hookFunc) Score(dst []int32, c []item.Candidate, _ float64) []int32 { return f(dst, c) }

// What a hook says stands for the native ranking: here the kept class never
// leaves, although it is the oldest.
func TestHookDecides(t *testing.T) {
	const keep = 7
	calls := uint64(0)
	hook := hookFunc(func(dst []int32, c []item.Candidate) []int32 {
		calls++
		if len(c) == 0 || len(c) > 64 {
			t.Errorf("asked about %d candidates", len(c))
		}
		for i := range c {
			score := int32(i)
			if c[i].TagClass == keep {
				score += 1000
			}
			dst = append(dst, score)
		}
		return dst
	})
	now := item.VersionAt(1000).UnixMilli()
	c := newCache(t, l1.Options{MaxBytes: 1 << 20, Hook: hook, Now: func() int64 { return now }})
	for i := range 50 {
		put(c, i, 1, 1000, l1.PutOptions{TagClass: keep})
	}
	for i := range 5000 {
		now += 20
		put(c, 100+i, 1, 1000, l1.PutOptions{})
	}
	kept := 0
	for i := range 50 {
		if get(c, i, now) != 0 {
			kept++
		}
	}
	if kept < 48 {
		t.Errorf("%d of 50 were kept", kept)
	}
	s := c.Stats()
	if s.HookCalls != calls || s.HookFaults != 0 || calls == 0 || s.Evicted/calls < 7 {
		t.Errorf("%d calls (%d counted, %d faults) for %d evictions, want about one for eight", calls, s.HookCalls, s.HookFaults, s.Evicted)
	}
}

// The facts that a hook is given.
func TestCandidates(t *testing.T) {
	start := int64(1_700_000_000_000)
	now := start
	want := item.Candidate{
		Hash: hash(keyOf(1)), Age: 60, Idle: 30_000, Hits: 3, Lifetime: 40, Flags: item.CandidateStale, TagClass: 9,
	}
	seen := false
	hook := hookFunc(func(dst []int32, c []item.Candidate) []int32 {
		for i := range c {
			if c[i].Hash != want.Hash {
				continue
			}
			seen = true
			got := c[i]
			want.Size, want.LogSize, want.LogFrequency = got.Size, got.LogSize, got.LogFrequency
			if got != want || got.Size < 400 || got.Size > 800 || got.LogFrequency < -1 || got.LogFrequency > 2 {
				t.Errorf("got %+v, want %+v", got, want)
			}
		}
		return nil
	})
	c := newCache(t, l1.Options{MaxBytes: 1 << 20, Hook: hook, Now: func() int64 { return now }})
	version := uint64(item.VersionAt(start))
	put(c, 1, version, 400, l1.PutOptions{ExpiresAtMilli: start + 100_000, TagClass: 9})
	c.SetStale(hash(keyOf(1)), keyOf(1), version)
	now += 30_000
	get(c, 1, now)
	get(c, 1, now)
	now += 30_000
	for i := 0; !seen && get(c, 5000+i, now) == 0 && i < 5000; i++ {
		put(c, 2+i, version, 400, l1.PutOptions{})
	}
	if !seen {
		t.Error("never a candidate")
	}
}

// A hook that answers nothing, or too little, leaves the native ranking: the
// often hit stay.
func TestFaultyHook(t *testing.T) {
	f := func(name string, hook hookFunc) {
		t.Helper()
		now := int64(1_700_000_000_000)
		c := newCache(t, l1.Options{MaxBytes: 1 << 20, Hook: hook, Now: func() int64 { return now }})
		for i := range 4000 {
			now += 100
			put(c, 100+i, 1, 1000, l1.PutOptions{})
			put(c, i%20, 1, 1000, l1.PutOptions{})
		}
		for i := range 20 {
			if get(c, i, now) == 0 {
				t.Errorf("%s: %d left although it is hit often", name, i)
			}
		}
		if s := c.Stats(); s.HookCalls == 0 || s.HookFaults != s.HookCalls {
			t.Errorf("%s: %d faults in %d calls", name, s.HookFaults, s.HookCalls)
		}
	}
	f("nil", func([]int32, []item.Candidate) []int32 { return nil })
	f("short", func(dst []int32, c []item.Candidate) []int32 { return append(dst, make([]int32, len(c)-1)...) })
	f("long", func(dst []int32, c []item.Candidate) []int32 { return append(dst, make([]int32, 300)...) })
}

// A slow hook holds up its caller only: the cache can be used meanwhile, also
// to evict, and it is called with no lock held.
func TestSlowHook(t *testing.T) {
	asked, answer := make(chan struct{}), make(chan struct{})
	hook := hookFunc(func([]int32, []item.Candidate) []int32 {
		asked <- struct{}{}
		<-answer
		return nil
	})
	c := newCache(t, l1.Options{MaxBytes: 1 << 20, Hook: hook})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; c.Stats().HookCalls == 0; i++ {
			put(c, i, 1, 1000, l1.PutOptions{})
		}
	}()
	<-asked
	for i := range 2000 {
		put(c, 10_000+i, 1, 1000, l1.PutOptions{})
		get(c, 10_000+i, 0)
	}
	if c.Stats().Evicted == 0 {
		t.Error("nothing was evicted meanwhile")
	}
	close(answer)
	for {
		select {
		case <-asked: // one Put may ask more than once
		case <-done:
			return
		}
	}
}

// The classic curve with time.
func TestTan(t *testing.T) {
	now := int64(1_700_000_000_000)
	c := newCache(t, l1.Options{MaxBytes: 1 << 20, Scorer: eviction.Tan{}, TimeIdle: true, Now: func() int64 { return now }})
	for i := range 400 {
		put(c, i, 1, 1000, l1.PutOptions{})
	}
	now += 3 * 3600_000
	for i := range 400 {
		if i%2 == 0 {
			get(c, i, now)
		}
	}
	for i := 0; c.Stats().Evicted < 100; i++ {
		put(c, 1000+i, 1, 1000, l1.PutOptions{})
	}
	idle, used := 0, 0
	for i := range 400 {
		if get(c, i, now) == 0 {
			if i%2 == 0 {
				used++
			} else {
				idle++
			}
		}
	}
	if used > idle/10 {
		t.Errorf("%d idle for three hours and %d just hit left", idle, used)
	}
}

func TestMetrics(t *testing.T) {
	set := metrics.NewSet()
	c := newCache(t, l1.Options{MaxBytes: 1 << 20, Metrics: set})
	put(c, 1, 1, 10, l1.PutOptions{Pinned: true})
	get(c, 1, 0)
	get(c, 2, 0)
	var out bytes.Buffer
	set.WritePrometheus(&out)
	for _, line := range []string{"edgenode_l1_items 1\n", "edgenode_l1_hits_total 1\n", "edgenode_l1_misses_total 1\n", "edgenode_l1_max_bytes 1048576\n"} {
		if !strings.Contains(out.String(), line) {
			t.Errorf("no %q in\n%s", line, out.String())
		}
	}
}
