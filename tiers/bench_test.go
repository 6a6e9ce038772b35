package tiers_test

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"

	"github.com/edgenode/edgenode/tiers"
	"github.com/edgenode/edgenode/tiers/item"
)

func benchEngine(b *testing.B) *tiers.Engine {
	b.Helper()
	e, err := tiers.Open(b.Context(), tiers.Options{DataDir: b.TempDir(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { e.Close(context.Background()) })
	return e
}

func benchKeys(n int) []item.Key {
	keys := make([]item.Key, n)
	for i := range keys {
		keys[i] = item.AppendKey(nil, item.NamespaceItem, fmt.Sprintf("bench/item/%09d", i))
	}
	return keys
}

// BenchmarkGetL1 reads 1 KiB items from memory: one, and 100,000 in turn.
func BenchmarkGetL1(b *testing.B) {
	for _, n := range []int{1, 100_000} {
		b.Run(fmt.Sprintf("%d keys", n), func(b *testing.B) {
			e, keys := benchEngine(b), benchKeys(n)
			for _, k := range keys {
				if _, err := e.Submit(b.Context(), &tiers.Write{Key: k, Content: make([]byte, 1024), Durability: item.DurabilityMemory}); err != nil {
					b.Fatal(err)
				}
			}
			if err := e.Flush(b.Context()); err != nil {
				b.Fatal(err)
			}
			ctx, i := context.Background(), 0
			b.ReportAllocs()
			for b.Loop() {
				h, ok, err := e.Get(ctx, keys[i%n], tiers.ReadOptions{})
				if !ok || err != nil {
					b.Fatal(ok, err)
				}
				h.Release()
				i += 7919
			}
		})
	}
}

// BenchmarkSubmit writes 1 KiB items at each durability from 1 and 64 writers.
func BenchmarkSubmit(b *testing.B) {
	for _, d := range []item.Durability{item.DurabilityMemory, item.DurabilityJournal, item.DurabilitySync, item.DurabilityL3} {
		for _, writers := range []int{1, 64} {
			b.Run(fmt.Sprintf("%v/%d writers", d, writers), func(b *testing.B) {
				e, keys := benchEngine(b), benchKeys(100_000)
				content := make([]byte, 1024)
				var next atomic.Int64
				b.ReportAllocs()
				b.SetParallelism(max(1, writers/2)) // times GOMAXPROCS
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						w := tiers.Write{Key: keys[int(next.Add(1))%len(keys)], Content: content, Durability: d}
						if _, err := e.Submit(context.Background(), &w); err != nil {
							b.Error(err)
							return
						}
					}
				})
			})
		}
	}
}
