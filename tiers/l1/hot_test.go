package l1_test

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/edgenode/edgenode/tiers/l1"
)

// Few hits are counted one by one, window by window.
func TestHottest(t *testing.T) {
	const start = 1_000_000
	now := int64(start)
	c := newCache(t, l1.Options{MaxBytes: 16 << 20, Now: func() int64 { return now }})
	for i := range 12 {
		put(c, i, 1, 100, l1.PutOptions{})
	}
	for i := range 12 {
		for range 10 * (i + 1) {
			get(c, i, now)
		}
	}
	f := func(from, to int64, n, wantFirst int, wantHits uint64) {
		t.Helper()
		got := c.Hottest(n, now)
		if got.From != from || got.To != to || got.Every != 1 {
			t.Errorf("from %d to %d, one of %d, want %d to %d, one of 1", got.From, got.To, got.Every, from, to)
		}
		if wantHits == 0 {
			if len(got.Keys) != 0 {
				t.Errorf("%d keys, want none", len(got.Keys))
			}
			return
		}
		if len(got.Keys) != n || !bytes.Equal(got.Keys[0].Key, keyOf(wantFirst)) || got.Keys[0].Hits != wantHits ||
			got.Keys[0].Error != 0 || !got.Keys[0].Whole || got.Keys[0].Hash != hash(keyOf(wantFirst)) {
			t.Errorf("%+v, want %d keys, the first %s with %d hits", got.Keys, n, keyOf(wantFirst), wantHits)
		}
	}
	now += 1000
	f(start, now, 3, 11, 120) // the window is not over, and there is no other
	now = start + 10_500
	get(c, 0, now)
	f(start, start+10_000, 2, 11, 120)
	now = start + 20_600
	f(start+10_500, start+20_500, 1, 0, 1)
	now = start + 100_000
	f(now-10_000, now, 5, 0, 0) // nobody asked for anything
	now = start + 50_000        // a clock that went back
	f(now-10_000, now, 5, 0, 0)
}

// Of many hits a share is counted, and the hottest are still found.
func TestHottestOfMany(t *testing.T) {
	c := newCache(t, l1.Options{MaxBytes: 64 << 20})
	const keys, hits = 4000, 400_000 / slow
	for i := range keys {
		put(c, i, 1, 100, l1.PutOptions{})
	}
	draw := rand.NewZipf(rand.New(rand.NewPCG(3, 4)), 1.2, 2, keys-1)
	count := make([]uint64, keys)
	for range hits {
		i := int(draw.Uint64())
		count[i]++
		get(c, i, 5)
	}
	got := c.Hottest(10, 6)
	if got.Every < 8 {
		t.Errorf("one of %d was counted", got.Every)
	}
	for place, k := range got.Keys[:5] {
		for i := range 20 {
			if bytes.Equal(k.Key, keyOf(i)) {
				if ratio := float64(k.Hits) / float64(count[i]); ratio < 0.7 || ratio > 1.4 {
					t.Errorf("key %d: %d hits, counted %d", i, count[i], k.Hits)
				}
				if i > place+3 {
					t.Errorf("key %d in place %d", i, place)
				}
			}
		}
	}
	if !bytes.Equal(got.Keys[0].Key, keyOf(0)) {
		t.Errorf("the hottest is %s, want %s", got.Keys[0].Key, keyOf(0))
	}
}

// A long key is cut.
func TestHottestLongKey(t *testing.T) {
	c := newCache(t, l1.Options{MaxBytes: 4 << 20})
	key := append([]byte("i"), bytes.Repeat([]byte("k"), 4000)...)
	c.Put(1, key, 1, record(key, 1, 10), l1.PutOptions{})
	if p, ok := c.Get(1, key, 1); ok {
		p.Release()
	}
	got := c.Hottest(5, 2)
	if len(got.Keys) != 1 || got.Keys[0].Whole || len(got.Keys[0].Key) != l1.MaxHotKey {
		t.Errorf("%d keys, want one that is cut", len(got.Keys))
	}
}
