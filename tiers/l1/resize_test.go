package l1_test

import (
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/edgenode/edgenode/tiers/l1"
)

// A cache that was full of small records is of use after it shrank to less than
// its tables took, and again after it grew.
func TestResizeBelowTheTables(t *testing.T) {
	const budget = (2 + 6/slow) << 20
	c := newCache(t, l1.Options{MaxBytes: budget})
	full := func(from int) (stored int64) {
		before := c.Stats().Evicted
		for i := from; i%32 != 0 || c.Stats().Evicted == before; i++ {
			if !put(c, i, 1, 0, l1.PutOptions{}) {
				t.Fatalf("put %d refused at %d of %d bytes", i-from, c.UsedBytes(), c.MaxBytes())
			}
		}
		return c.Len()
	}
	most := full(0)
	for round := range 1 + 2/slow {
		if !c.Resize(1<<20) || c.UsedBytes() > 1<<20 {
			t.Fatalf("round %d: used %d of %d", round, c.UsedBytes(), c.MaxBytes())
		}
		audit(t, c)
		if got := full(1e6 * (round + 1)); got < most/16 {
			t.Errorf("round %d: %d records in 1 MiB, %d before", round, got, most)
		}
		audit(t, c)
		if !c.Resize(budget) {
			t.Fatal("did not grow")
		}
		if got := full(1e7 * (round + 1)); got < most*9/10 {
			t.Errorf("round %d: %d records where %d were", round, got, most)
		}
		audit(t, c)
	}
	if !c.Reserve(budget * 7 / 8) {
		t.Error("no room for most of the budget")
	}
	c.Unreserve(budget * 7 / 8)
}

// Readers and writers go on while tables come and go.
func TestResizeAmongAll(t *testing.T) {
	c := newCache(t, l1.Options{MaxBytes: 8 << 20})
	stop := make(chan struct{})
	var resizing, others sync.WaitGroup
	resizing.Go(func() {
		for n := 0; ; n++ {
			select {
			case <-stop:
				c.Resize(8 << 20)
				return
			default:
				c.Resize(int64(1+n%2*7) << 20)
				c.Trim()
			}
		}
	})
	for g := range 6 {
		others.Go(func() {
			random := rand.New(rand.NewPCG(uint64(g), 2))
			for range 20_000 / slow {
				i := random.IntN(8000)
				key := keyOf(i)
				switch random.IntN(8) {
				case 0, 1, 2:
					put(c, i, uint64(random.IntN(100)+1), random.IntN(64), l1.PutOptions{})
				case 3:
					del(c, i, uint64(random.IntN(100)))
				default:
					if p, ok := c.Get(hash(key), key, 0); ok {
						verify(t, p.Bytes(), key)
						p.Release()
					}
				}
			}
		})
	}
	others.Wait()
	close(stop)
	resizing.Wait()
}
