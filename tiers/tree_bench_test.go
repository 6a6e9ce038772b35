package tiers_test

import (
	"context"
	"fmt"
	"log/slog"
	"testing"

	"github.com/edgenode/edgenode/tiers"
	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/l3"
	"github.com/edgenode/edgenode/tiers/tiertest/redistest"
)

// BenchmarkTree is the cost of a change in the tree of hashes on SQLite, in steps
// of 1,000 changes and one by one, among 10³ and 10⁶ siblings: from the change
// sequence to the commit, without the write of the item.
func BenchmarkTree(b *testing.B) {
	sizes := []int{1000, 1_000_000}
	for _, n := range sizes {
		if testing.Short() && n > 1000 {
			continue
		}
		f := &treeFault{}
		e, err := tiers.Open(context.Background(), tiers.Options{
			DataDir: b.TempDir(), L1MaxBytes: 64 << 20, Logger: slog.New(slog.DiscardHandler), WrapStore: f.wrap,
		})
		if err != nil {
			b.Fatal(err)
		}
		version := item.Version(1_700_000_000_000 << 16)
		write := func(from, to int) {
			b.Helper()
			ops := make([]l3.Op, 0, to-from)
			for i := from; i < to; i++ {
				version++
				it := item.Item{
					Kind: item.KindPut, Tiers: item.AllTiers, Key: item.AppendKey(nil, item.NamespaceItem, fmt.Sprintf("uk.shop/%d", i%n)),
					Version: version, ContentVersion: version, MetadataVersion: version, UpdatedAt: version.UnixMilli(), Content: fmt.Append(nil, version),
				}
				it.Seal()
				ops = append(ops, l3.Op{Record: it.AppendTo(nil)})
			}
			if _, err := f.Store.Apply(context.Background(), ops, nil, make([]l3.Outcome, len(ops))); err != nil {
				b.Fatal(err)
			}
		}
		for i := 0; i < n; i += 1000 {
			write(i, min(n, i+1000))
		}
		settle := func() {
			b.Helper()
			for more := true; more; {
				if more, err = e.StepTree(context.Background()); err != nil {
					b.Fatal(err)
				}
			}
		}
		settle()
		for _, batch := range []int{1000, 1} {
			b.Run(fmt.Sprintf("siblings=%d/batch=%d", n, batch), func(b *testing.B) {
				at := 0
				for b.Loop() {
					b.StopTimer()
					for range batch {
						at++
						write(at*7919, at*7919+1)
					}
					b.StartTimer()
					settle()
				}
				b.ReportMetric(float64(b.N*batch)/b.Elapsed().Seconds(), "changes/s")
			})
		}
		if err := e.Close(context.Background()); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkTreeInRedis is what the copy of the tree in Redis costs: its memory, the
// first copy of 10⁵ items, and one after 100 changes.
func BenchmarkTreeInRedis(b *testing.B) {
	const n = 100_000
	server, f := redistest.Start(b, redistest.Options{}), &treeFault{}
	e, err := tiers.Open(context.Background(), tiers.Options{
		DataDir: b.TempDir(), L1MaxBytes: 64 << 20, Logger: slog.New(slog.DiscardHandler), WrapStore: f.wrap,
		RedisURL: server.URL(), L2TreeItems: n,
	})
	if err != nil {
		b.Fatal(err)
	}
	defer e.Close(context.Background())
	version := item.Version(1_700_000_000_000 << 16)
	write := func(ids func(i int) int, count int) {
		b.Helper()
		var ops []l3.Op
		for i := range count {
			version++
			it := item.Item{
				Kind: item.KindPut, Tiers: item.AllTiers, Key: item.AppendKey(nil, item.NamespaceItem, fmt.Sprintf("uk.shop:%d/%d", ids(i)%100, ids(i))),
				Version: version, ContentVersion: version, MetadataVersion: version, UpdatedAt: version.UnixMilli(), Content: fmt.Append(nil, version),
			}
			it.Seal()
			if ops = append(ops, l3.Op{Record: it.AppendTo(nil)}); len(ops) == 1000 || i == count-1 {
				if _, err := f.Store.Apply(context.Background(), ops, nil, make([]l3.Outcome, len(ops))); err != nil {
					b.Fatal(err)
				}
				ops = ops[:0]
			}
		}
		for more := true; more; {
			if more, err = e.StepTree(context.Background()); err != nil {
				b.Fatal(err)
			}
		}
	}
	write(func(i int) int { return i }, n)
	copyTree := func() {
		if _, err := e.CopyTree(context.Background()); err != nil {
			b.Fatal(err)
		}
	}
	b.Run("first", func(b *testing.B) {
		for range b.N {
			server.Do("FLUSHALL")
			copyTree()
		}
		bytes := server.Do("MEMORY", "USAGE", tiers.DefaultRedisPrefix+"tree", "SAMPLES", "0").(int64)
		b.ReportMetric(float64(bytes)/n, "redis_B/item")
	})
	b.Run("changes=100", func(b *testing.B) {
		for i := range b.N {
			b.StopTimer()
			write(func(k int) int { return (i*100 + k*997) % n }, 100)
			b.StartTimer()
			copyTree()
		}
	})
}
