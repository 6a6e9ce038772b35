package l1_test

import (
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/edgenode/edgenode/tiers/l1"
)

// Close leaves what readers have pinned until the last of them lets go, and
// nothing else.
func TestCloseWaitsForReaders(t *testing.T) {
	c := newCache(t, l1.Options{MaxBytes: 4 << 20})
	sizes := []int{100, 3000, 300_000} // in slots, and in an extent
	var pins []held
	for i, n := range sizes {
		for j := range 10 {
			put(c, 100*i+j, 1, n, l1.PutOptions{Pinned: j == 1})
		}
		p, ok := c.Get(hash(keyOf(100*i)), keyOf(100*i), 0)
		if !ok {
			t.Fatal("no record")
		}
		pins = append(pins, hold(p))
	}
	c.Close()
	if c.Len() != 0 || c.PinnedBytes() != 0 || get(c, 1, 0) != 0 {
		t.Errorf("%d records after Close, %d bytes pinned", c.Len(), c.PinnedBytes())
	}
	if put(c, 1, 9, 100, l1.PutOptions{}) || c.Reserve(1) {
		t.Error("a closed cache took something in")
	}
	for i, p := range pins {
		before := c.UsedBytes()
		p.release(t) // compares what it shows
		if after := c.UsedBytes(); before-after < int64(sizes[i]) {
			t.Errorf("the last reader of %d bytes gave back %d", sizes[i], before-after)
		}
	}
	if got := c.MappedBytes(); got != 0 {
		t.Errorf("%d bytes mapped with no reader left", got)
	}
	audit(t, c)
	c.Close()
}

// Close in the middle of everything leaves nothing behind.
func TestCloseUnderLoad(t *testing.T) {
	for round := range 20 / slow {
		c := newCache(t, l1.Options{MaxBytes: 2 << 20})
		var group sync.WaitGroup
		for g := range 8 {
			group.Go(func() {
				random := rand.New(rand.NewPCG(uint64(round), uint64(g)))
				for n := range 600 {
					i := random.IntN(200)
					if g == 0 && n == 300 {
						c.Close()
					}
					key := keyOf(i)
					if p, ok := c.Get(hash(key), key, 0); ok {
						verify(t, p.Bytes(), key)
						p.Release()
					}
					put(c, i, uint64(n+1), random.IntN(20_000), l1.PutOptions{})
					if n%50 == 0 {
						c.MoveOne()
						c.GiveBack(2)
					}
				}
			})
		}
		group.Wait()
		if c.Len() != 0 || c.MappedBytes() != 0 {
			t.Fatalf("round %d: %d records and %d mapped bytes after Close", round, c.Len(), c.MappedBytes())
		}
		audit(t, c)
	}
}

// After a purge the memory of records goes back, all but a chunk's worth for each
// class; what is left can be read.
func TestGiveBack(t *testing.T) {
	c := newCache(t, l1.Options{MaxBytes: 8 << 20})
	n := 0
	for ; c.Stats().Evicted == 0; n++ {
		put(c, n, 1, 500+n%3000, l1.PutOptions{})
	}
	full := c.UsedBytes()
	for i := range n {
		if i%20 != 0 {
			del(c, i, 1)
		}
	}
	kept := c.Len()
	if c.UsedBytes() < full*9/10 {
		t.Fatal("deletes gave memory back: this test is of no use")
	}
	for c.GiveBack(3) > 0 {
	}
	if got := c.UsedBytes(); got > full/3 {
		t.Errorf("%d bytes used of %d after 95 of 100 records went", got, full)
	}
	found := int64(0)
	for i := range n {
		if get(c, i, 0) == 1 {
			found++
		}
	}
	if found != kept {
		t.Errorf("%d records found of %d", found, kept)
	}
}
