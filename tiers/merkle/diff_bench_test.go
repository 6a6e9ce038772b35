package merkle_test

import (
	"context"
	"fmt"
	"maps"
	"testing"

	"github.com/edgenode/edgenode/tiers/merkle"
)

// 1, 100 and 10,000 differences among 10⁶ items of two trees: the hashes that are
// read of the other tree, and the questions that it takes.
func BenchmarkDiff(b *testing.B) {
	const items = 1_000_000
	id := func(i int) string { return fmt.Sprintf("uk.shop/%d:%d", i/1000, i%1000) }
	src, s := newSource(), newStore()
	for i := range items {
		src.put(id(i), 1)
	}
	mine := open(b, s, src, func(o *merkle.Options) { o.BatchItems = 10_000 })
	settle(b, mine)
	copied := &store{rows: maps.Clone(s.rows)}
	theirs := open(b, copied, src, func(o *merkle.Options) { o.BatchItems = 10_000 })
	changed := 0
	for _, differences := range []int{1, 100, 10_000} {
		for ; changed < differences; changed++ {
			src.put(id(changed*7919%items), 2)
		}
		settle(b, theirs)
		b.Run(fmt.Sprint(differences), func(b *testing.B) {
			var stats merkle.DiffStats
			for b.Loop() {
				var err error
				stats, err = merkle.Diff(context.Background(), mine, theirs, merkle.DiffOptions{}, func(merkle.Difference) error { return nil })
				if err != nil || stats.Differences != differences {
					b.Fatal(stats, err)
				}
			}
			b.ReportMetric(float64(stats.RoundTrips), "questions")
			b.ReportMetric(float64(stats.Rows), "rows")
			b.ReportMetric(float64(stats.Hashes), "hashes")
		})
	}
}
