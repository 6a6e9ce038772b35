package l1_test

import (
	"bytes"
	"math"
	"testing"

	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/l1"
)

// Sizes that no budget can hold are refused and take nothing.
func TestReserveOfTooMuch(t *testing.T) {
	c := newCache(t, l1.Options{MaxBytes: 1 << 20})
	put(c, 1, 1, 100, l1.PutOptions{})
	before := c.UsedBytes()
	for _, n := range []int64{math.MaxInt64, math.MaxInt64 - before, 1 << 20, -1, math.MinInt64} {
		if c.Reserve(n) {
			t.Errorf("reserved %d of %d", n, c.MaxBytes())
		}
		if got := c.UsedBytes(); got != before {
			t.Fatalf("used %d after a refused reserve of %d, want %d", got, n, before)
		}
	}
	if get(c, 1, 0) != 1 {
		t.Error("what could not help was evicted")
	}
}

// Every limit makes progress, and none overflows.
func TestSweepLimits(t *testing.T) {
	c := newCache(t, l1.Options{MaxBytes: 1 << 20})
	for i := range 20 {
		put(c, i, 1, 100, l1.PutOptions{})
	}
	for _, limit := range []int{math.MinInt, -1, 0, 1, 3, math.MaxInt/16 + 1, math.MaxInt} {
		var cursor l1.Cursor
		shown, calls := 0, 0
		for done := false; !done && calls < 1000; calls++ {
			done = c.Sweep(&cursor, limit, func([]byte, bool) l1.Verdict { shown++; return l1.Keep })
		}
		if shown != 20 || calls == 1000 {
			t.Errorf("limit %d: %d of 20 shown in %d calls", limit, shown, calls)
		}
	}
}

// A clock of time does not mistake a Get without a time for one in 1970.
func TestHitWithoutATime(t *testing.T) {
	// From this start, the tick of time 0 is half a year ahead in 32 bits.
	now := int64(7) << 34
	var idle []uint32
	c := newCache(t, l1.Options{MaxBytes: 1 << 20, TimeIdle: true, Now: func() int64 { return now },
		Scorer: scorerFunc(func(dst []int32, cs []item.Candidate) []int32 {
			for i := range cs {
				idle = append(idle, cs[i].Idle)
				dst = append(dst, int32(i))
			}
			return dst
		})})
	for i := range 200 {
		put(c, i, 1, 100, l1.PutOptions{NowMilli: now})
	}
	now += 1 << 30 // twelve days
	for i := range 200 {
		get(c, i, 0)
	}
	now += 60_000
	c.Reserve(c.MaxBytes() - c.UsedBytes() + 1)
	if len(idle) == 0 || idle[0] < 59_000 || idle[0] > 61_000 {
		t.Errorf("%d candidates, the first idle for %v ms, want 60000", len(idle), idle[:min(1, len(idle))])
	}
}

type scorerFunc func([]int32, []item.Candidate) []int32

func (f scorerFunc) Score(dst []int32, c []item.Candidate, _ float64) []int32 { return f(dst, c) }

// The ends of the range of times: long past is expired, far ahead is not.
func TestExtremeExpiries(t *testing.T) {
	now := int64(1_700_000_000_000)
	c := newCache(t, l1.Options{MaxBytes: 1 << 20, Now: func() int64 { return now }})
	f := func(at, when int64, want bool) {
		t.Helper()
		put(c, 1, 1, 100, l1.PutOptions{ExpiresAtMilli: at})
		if got := get(c, 1, when) == 1; got != want {
			t.Errorf("expires at %d, asked at %d: there %v, want %v", at, when, got, want)
		}
		del(c, 1, 1)
	}
	f(0, math.MaxInt64, true)
	f(math.MaxInt64, now, true)
	f(1<<48, now, true)
	f(-1, now, false)
	f(math.MinInt64, 0, false)
	f(now, now-1, true) // and a clock that goes back
	f(now, now, false)
	f(1, 0, true)
	f(now, -now, true)
}

// Keys of every length up to 8 KiB, all with the same hash, at its ends too.
func TestLongKeysOfOneHash(t *testing.T) {
	for _, h := range []uint64{0, math.MaxUint64, 1 << 63, math.MaxUint32} {
		c := newCache(t, l1.Options{MaxBytes: 4 << 20})
		key := func(n int) []byte { return append([]byte("i"), bytes.Repeat([]byte("k"), n)...) }
		lengths := []int{1, 2, 3, 510, 511, 512, 1023, 1024, 4096, 8190, 8191}
		for version := uint64(1); version < 4; version++ {
			for _, n := range lengths {
				if !c.Put(h, key(n), version, record(key(n), version, int(version)*100), l1.PutOptions{}) {
					t.Fatalf("hash %#x: put of a key of %d bytes refused", h, n+1)
				}
			}
		}
		for i, n := range lengths {
			p, ok := c.Get(h, key(n), 0)
			if !ok {
				t.Fatalf("hash %#x: no key of %d bytes", h, n+1)
			}
			verify(t, p.Bytes(), key(n))
			p.Release()
			if i%2 == 0 && (c.Delete(h, key(n), 2) || !c.Delete(h, key(n), 3)) {
				t.Errorf("hash %#x: delete of a key of %d bytes", h, n+1)
			}
		}
		if got := c.Len(); got != int64(len(lengths)/2) {
			t.Errorf("hash %#x: %d left, want %d", h, got, len(lengths)/2)
		}
	}
}
