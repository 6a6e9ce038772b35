package tiers_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/edgenode/edgenode/tiers"
	"github.com/edgenode/edgenode/tiers/item"
)

// filled makes a data directory with n small items in L3.
func filled(b *testing.B, n int) string {
	b.Helper()
	dir := b.TempDir()
	e := benchOpen(b, dir, nil)
	for from := 0; from < n; from += 1000 {
		ws := make([]*tiers.Write, 0, 1000)
		for i := from; i < min(from+1000, n); i++ {
			ws = append(ws, &tiers.Write{
				Key: item.AppendKey(nil, item.NamespaceItem, fmt.Sprintf("bench/item/%09d", i)), Content: []byte("v"), Tiers: item.L3,
				Durability: item.DurabilityJournal,
			})
		}
		out := make([]tiers.Receipt, len(ws))
		e.SubmitMany(b.Context(), ws, out)
		if out[len(out)-1].Err != nil {
			b.Fatal(out[len(out)-1].Err)
		}
		if from%20_000 == 0 {
			if err := e.Flush(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
	}
	if err := e.Close(context.Background()); err != nil {
		b.Fatal(err)
	}
	return dir
}

func benchOpen(b *testing.B, dir string, change func(*tiers.Options)) *tiers.Engine {
	b.Helper()
	o := tiers.Options{DataDir: dir, Logger: slog.New(slog.DiscardHandler), BatchFlushCount: 5000, BatchFlushBytes: 8 << 20}
	if change != nil {
		change(&o)
	}
	e, err := tiers.Open(context.Background(), o)
	if err != nil {
		b.Fatal(err)
	}
	return e
}

func awaitFilterB(b *testing.B, e *tiers.Engine) {
	b.Helper()
	tick := time.NewTicker(100 * time.Microsecond)
	defer tick.Stop()
	for start := time.Now(); !filterTrusted(e); <-tick.C {
		if time.Since(start) > 5*time.Minute {
			b.Fatal("the filter is not trusted")
		}
	}
}

// BenchmarkGetMissing reads ids that are not there, over 20,000 items in SQLite.
func BenchmarkGetMissing(b *testing.B) {
	dir := filled(b, 20_000)
	for _, off := range []bool{false, true} {
		b.Run(fmt.Sprint("filter=", !off), func(b *testing.B) {
			e := benchOpen(b, dir, func(o *tiers.Options) { o.FilterOff = off })
			defer e.Close(context.Background())
			if !off {
				awaitFilterB(b, e)
			}
			ctx, i := context.Background(), 0
			key := item.AppendKey(nil, item.NamespaceItem, "bench/none/000000000")
			b.ReportAllocs()
			for b.Loop() {
				copy(key[len(key)-9:], fmt.Sprintf("%09d", i%1_000_000_000))
				if _, ok, err := e.Get(ctx, key, tiers.ReadOptions{}); ok || err != nil {
					b.Fatal(ok, err)
				}
				i++
			}
		})
	}
}

// BenchmarkFilterStart takes the time from Open to a trusted filter, with its
// snapshot and without, over 10^6 items (soak) or 20,000.
func BenchmarkFilterStart(b *testing.B) {
	n := scale(1_000_000, 20_000)
	dir := filled(b, n)
	for _, snapshot := range []bool{true, false} {
		b.Run(fmt.Sprintf("%d ids/snapshot=%v", n, snapshot), func(b *testing.B) {
			opened := time.Duration(0)
			for b.Loop() {
				if !snapshot {
					if err := os.Remove(filepath.Join(dir, "filter.snapshot")); err != nil {
						b.Fatal(err)
					}
				}
				start := time.Now()
				e := benchOpen(b, dir, nil)
				opened += time.Since(start)
				awaitFilterB(b, e)
				b.StopTimer()
				if err := e.Close(context.Background()); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
			b.ReportMetric(float64(opened.Milliseconds())/float64(b.N), "ms-to-ready")
		})
	}
}
