package l1_test

import (
	"math/rand/v2"
	"testing"

	"github.com/edgenode/edgenode/tiers/eviction"
	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/l1"
)

// What records cost is within the budget, is that of what is there, and is what
// rankings see; what records take does not count.
func TestPrices(t *testing.T) {
	const keys, budget = 2000, 1_000_000
	prices := map[uint64]uint32{}
	random := rand.New(rand.NewPCG(3, 4))
	for i := range keys {
		prices[hash(keyOf(i))] = 1 + random.Uint32N(8000)
	}
	dear := hash(keyOf(keys))
	prices[dear] = budget/4 + 1
	f := func(name string, o l1.Options) {
		t.Helper()
		ranked := o.Scorer
		o.Scorer = scorerFunc(func(dst []int32, cs []item.Candidate) []int32 {
			for i := range cs {
				if cs[i].Size != prices[cs[i].Hash] {
					t.Fatalf("%s: a candidate has the size %d, its price is %d", name, cs[i].Size, prices[cs[i].Hash])
				}
			}
			return ranked.Score(dst, cs, 0)
		})
		o.MaxBytes, o.Prices = 4<<20, &l1.Prices{Budget: budget, Of: func(h uint64) uint32 { return prices[h] }}
		c := newCache(t, o)
		for n := range 20_000 / slow {
			i := random.IntN(keys)
			switch n % 50 {
			case 0:
				del(c, i, 1)
			case 1:
				put(c, i, 1, 100, l1.PutOptions{}) // again, or over what is there
			default:
				request(c, i, 100)
			}
			if held := c.HeldPrice(); held > budget {
				t.Fatalf("%s: what is held costs %d, the budget is %d", name, held, budget)
			}
		}
		if put(c, keys, 1, 100, l1.PutOptions{}) {
			t.Errorf("%s: more than a quarter of the budget came in", name)
		}
		if held := c.HeldPrice(); held < budget*9/10 || c.Stats().Evicted == 0 {
			t.Errorf("%s: what is held costs %d of %d, %d left", name, held, budget, c.Stats().Evicted)
		}
		var sum int64
		for i := range keys {
			if get(c, i, 0) != 0 {
				sum += int64(prices[hash(keyOf(i))])
			}
		}
		if held := c.HeldPrice(); held != sum {
			t.Errorf("%s: what is held costs %d, what is there %d", name, held, sum)
		}
		audit(t, c)
	}
	f("objects", l1.Options{Scorer: eviction.Auto{}, Contest: true})
	f("bytes", l1.Options{Scorer: eviction.Auto{Bytes: 1}, Queues: true})
	f("plain", l1.Options{Scorer: eviction.Auto{}})
}
