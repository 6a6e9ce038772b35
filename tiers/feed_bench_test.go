package tiers_test

import (
	"fmt"
	"log/slog"
	"testing"

	"github.com/edgenode/edgenode/tiers"
)

// BenchmarkFeed reads 1,000 changes of a feed of puts of 200 bytes, on SQLite.
func BenchmarkFeed(b *testing.B) {
	e, err := tiers.Open(b.Context(), tiers.Options{DataDir: b.TempDir(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	defer e.Close(b.Context())
	content := make([]byte, 200)
	for i := range 10_000 {
		w := tiers.Write{Key: append([]byte("i"), fmt.Sprintf("k%05d", i)...), Content: content, Durability: 1}
		if _, err := e.Submit(b.Context(), &w); err != nil {
			b.Fatal(err)
		}
	}
	if err := e.Flush(b.Context()); err != nil {
		b.Fatal(err)
	}
	events, after := 0, uint64(0)
	for b.Loop() {
		after, err = e.Feed(b.Context(), tiers.FeedQuery{After: after, Limit: 1000, MaxContent: 1 << 20}, func(*tiers.Event) error { events++; return nil })
		if err != nil {
			b.Fatal(err)
		}
		if after == e.LastChange() {
			after = 0
		}
	}
	b.ReportMetric(float64(events)/b.Elapsed().Seconds(), "events/s")
}
