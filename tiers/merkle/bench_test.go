package merkle_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/edgenode/edgenode/tiers/merkle"
)

// Ids in three levels, or all below one branch: the cost of a change in a batch
// of 1000, of a change alone, of a rebuild, and of finding one difference.
func BenchmarkTree(b *testing.B) {
	sizes := []int{10_000, 1_000_000}
	for _, shape := range []struct {
		name string
		id   func(i int) string
	}{
		{"siblings", func(i int) string { return fmt.Sprintf("uk.shop/%d", i) }},
		{"branches", func(i int) string { return fmt.Sprintf("uk.shop/%d:%d", i/100, i%100) }},
	} {
		for _, n := range sizes {
			src, s := newSource(), newStore()
			for i := range n {
				src.put(shape.id(i), 1)
			}
			tree := open(b, s, src, func(o *merkle.Options) { o.BatchItems = 1000 })
			name := fmt.Sprintf("%s/%d", shape.name, n)
			b.Run("rebuild/"+name, func(b *testing.B) {
				for b.Loop() {
					if err := tree.Rebuild(context.Background()); err != nil {
						b.Fatal(err)
					}
					settle(b, tree)
				}
				b.ReportMetric(float64(b.N)*float64(n)/b.Elapsed().Seconds(), "ids/s")
				b.ReportMetric(float64(len(s.rows))/float64(n), "rows/id")
			})
			value := 1
			change := func(what string, batch int) {
				b.Run(what+"/"+name, func(b *testing.B) {
					s.reads, s.writes = 0, 0
					for i := 0; b.Loop(); i++ {
						value++
						src.put(shape.id(i*7919%n), value)
						if i%batch == batch-1 {
							settle(b, tree)
						}
					}
					settle(b, tree)
					b.ReportMetric(float64(s.reads)/float64(b.N), "reads/op")
					b.ReportMetric(float64(s.writes)/float64(b.N), "writes/op")
				})
			}
			change("alone", 1)
			change("batched", 1000)
		}
	}
}
