//go:build !race

package l1_test

import (
	"testing"

	"github.com/edgenode/edgenode/tiers/l1"
)

func TestHitsDoNotAllocate(t *testing.T) {
	c := newCache(t, l1.Options{MaxBytes: 1 << 20})
	put(c, 1, 1, 1000, l1.PutOptions{})
	key := keyOf(1)
	h, dst, now := hash(key), make([]byte, 0, 2000), int64(0)
	if n := testing.AllocsPerRun(1000, func() {
		now++
		p, ok := c.Get(h, key, now)
		if !ok || p.Stale() {
			t.Fatal("no hit")
		}
		p.Release()
	}); n != 0 {
		t.Errorf("Get: %v allocations", n)
	}
	if n := testing.AllocsPerRun(1000, func() { dst, _ = c.Append(dst[:0], h, key, now) }); n != 0 {
		t.Errorf("Append: %v allocations", n)
	}
}

// Once the cache is full, a put that evicts allocates nothing either.
func TestPutsDoNotAllocate(t *testing.T) {
	c := newCache(t, l1.Options{MaxBytes: 4 << 20})
	const n = 20_000
	keys, records := make([][]byte, n), make([][]byte, n)
	for i := range n {
		keys[i] = keyOf(i)
		records[i] = record(keys[i], 1, 300+i%700)
	}
	at := 0
	step := func() {
		i := at % n
		c.Put(hash(keys[i]), keys[i], 1, records[i], l1.PutOptions{NowMilli: 1})
		at++
	}
	for range 2 * n {
		step()
	}
	if got := testing.AllocsPerRun(n, step); got != 0 {
		t.Errorf("Put: %v allocations", got)
	}
}
