package l1_test

import (
	"math/rand/v2"
	"testing"

	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/l1"
)

// A size of which there is much gets a class of its own, whose slots are hardly larger.
func TestClassesAreDivided(t *testing.T) {
	for _, size := range []int{1100, 1199, 1250, 1300} {
		c := newCache(t, l1.Options{MaxBytes: 64 << 20})
		classes := len(l1.ClassSizes(c))
		for i := range 30_000 {
			if !put(c, i, 1, size, l1.PutOptions{}) {
				t.Fatalf("%d was refused", i)
			}
		}
		records := c.RecordBytes()
		left := float64(c.SlotBytes())/float64(records) - 1
		if sizes := l1.ClassSizes(c); left > 0.06 || len(sizes) > classes+1 {
			t.Errorf("%d bytes: slots are %.3f larger than records, in %v", size, left, sizes)
		}
		audit(t, c)
	}
}

// Sizes that are all different divide few classes, and nothing is lost by it:
// accounts and readers agree, and what is there can be replaced.
func TestDividedClassesUnderChurn(t *testing.T) {
	spaces := l1.Namespaces{List: []l1.Namespace{{Name: "all", MaxBytes: 40 << 20}}, Of: func(item.View) int { return 0 }}
	c := newCache(t, l1.Options{MaxBytes: 48 << 20})
	if err := c.SetNamespaces(spaces); err != nil {
		t.Fatal(err)
	}
	before := len(l1.ClassSizes(c))
	random := rand.New(rand.NewPCG(1, 2))
	for i := range 60_000 / slow {
		size := 1112 + random.IntN(1000)
		if i%4 == 0 {
			size = 1612
		}
		put(c, random.IntN(25_000), uint64(i+1), size, l1.PutOptions{})
		get(c, random.IntN(25_000), 0)
	}
	audit(t, c)
	for c.GiveBack(100) > 0 {
	}
	audit(t, c)
	if after := len(l1.ClassSizes(c)); after > 4*before || slow == 1 && after == before {
		t.Errorf("%d classes of %d", after, before)
	}
}
