package tiers_test

import (
	"context"
	"fmt"
	"log/slog"
	"testing"

	"github.com/edgenode/edgenode/tiers"
	"github.com/edgenode/edgenode/tiers/item"
)

// BenchmarkUnsafeRequest is what an unsafe request does to a node: a purge by
// the tag of a URL, beside 100,000 stored answers; one op is one of them, until
// it holds. BenchmarkReadBesideRules is a read of an older row of L3 beside
// 20,000 such rules.
func BenchmarkUnsafeRequest(b *testing.B) {
	e := benchSites(b, 100_000)
	for i := range b.N {
		purgeURL(b, e, i)
	}
}

func BenchmarkReadBesideRules(b *testing.B) {
	e := benchSites(b, 1000)
	k := item.AppendKey(nil, item.NamespaceItem, "old")
	if _, err := e.Submit(b.Context(), &tiers.Write{Key: k, Content: []byte("x"), Tiers: item.L3}); err != nil {
		b.Fatal(err)
	}
	if err := e.Flush(b.Context()); err != nil {
		b.Fatal(err)
	}
	for i := range 20_000 {
		purgeURL(b, e, i)
		if i%1000 == 999 {
			if err := e.Flush(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
	}
	for b.Loop() {
		h, ok, err := e.Get(b.Context(), k, tiers.ReadOptions{})
		if err != nil || !ok {
			b.Fatal(ok, err)
		}
		h.Release()
	}
}

func benchSites(b *testing.B, n int) *tiers.Engine {
	e, err := tiers.Open(b.Context(), tiers.Options{
		DataDir: b.TempDir(), L1MaxBytes: 256 << 20, MaxPayloadBytes: 1 << 20, JournalMaxBytes: 64 << 20, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { e.Close(context.Background()) })
	for i := range n {
		k := item.AppendKey(nil, item.NamespaceSite, fmt.Sprint("s/", i))
		if _, err := e.Submit(b.Context(), &tiers.Write{Key: k, Content: []byte("answer"), Tiers: item.L1, Tags: []string{fmt.Sprint("url:", i)}}); err != nil {
			b.Fatal(err)
		}
	}
	b.ResetTimer()
	return e
}

func purgeURL(b *testing.B, e *tiers.Engine, i int) {
	_, err := e.Purge(b.Context(), tiers.Purge{Namespaces: item.InSites, Match: item.MatchTag, Values: []string{fmt.Sprint("url:", i)}, Background: true})
	if err != nil {
		b.Fatal(err)
	}
}
