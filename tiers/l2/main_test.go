package l2_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/l2"
	"github.com/edgenode/edgenode/tiers/tiertest/redistest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// ctx is the context of calls that nobody cancels; the store bounds them.
var ctx = context.Background()

// open returns a store on the server at url with a time limit that a test can
// wait for. It is closed before the server is stopped.
func open(t testing.TB, url string, change ...func(*l2.Options)) *l2.Store {
	t.Helper()
	o := l2.Options{URL: url, Timeout: time.Second, Logger: slog.New(slog.DiscardHandler)}
	for _, f := range change {
		f(&o)
	}
	s, err := l2.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// start returns a server and a store on it.
func start(t testing.TB, change ...func(*l2.Options)) (*redistest.Server, *l2.Store) {
	t.Helper()
	server := redistest.Start(t, redistest.Options{})
	return server, open(t, server.URL(), change...)
}

// A field sets part of an item.
type field func(*item.Item)

func tiers(v item.Tiers) field             { return func(it *item.Item) { it.Tiers = v } }
func tags(v ...string) field               { return func(it *item.Item) { it.Tags = v } }
func expires(at int64) field               { return func(it *item.Item) { it.ExpiresAt = at } }
func l2TTL(ms int64) field                 { return func(it *item.Item) { it.L2TTL = ms } }
func metadataVersion(v item.Version) field { return func(it *item.Item) { it.MetadataVersion = v } }
func contentVersion(v item.Version) field  { return func(it *item.Item) { it.ContentVersion = v } }
func response(b []byte) field              { return func(it *item.Item) { it.Response = b } }

// key returns the key of an item, whatever its id.
func key(id string) item.Key { return item.AppendKey(nil, item.NamespaceItem, id) }

// put returns the record of a put.
func put(id string, version item.Version, content string, fields ...field) item.View {
	return record(item.KindPut, key(id), version, content, fields)
}

// tombstone returns the record of a delete.
func tombstone(id string, version item.Version) item.View {
	return record(item.KindTombstone, key(id), version, "", nil)
}

func record(kind item.Kind, k item.Key, version item.Version, content string, fields []field) item.View {
	it := item.Item{
		Kind: kind, Key: k, Tiers: item.AllTiers, Content: []byte(content),
		Version: version, ContentVersion: version, MetadataVersion: version,
	}
	for _, f := range fields {
		f(&it)
	}
	if kind == item.KindPut {
		it.Seal()
	}
	return it.AppendTo(nil)
}

// apply carries out ops and fails on any error.
func apply(t testing.TB, s *l2.Store, ops ...l2.Op) []l2.Outcome {
	t.Helper()
	out := make([]l2.Outcome, len(ops))
	if err := s.Apply(ctx, ops, out); err != nil {
		t.Fatal(err)
	}
	for i, o := range out {
		if o.Err != nil {
			t.Fatalf("operation %d: %v", i, o.Err)
		}
	}
	return out
}

// get returns the record of id, or nil.
func get(t testing.TB, s *l2.Store, id string) item.View {
	t.Helper()
	b, ok, err := s.Get(ctx, key(id), nil)
	if err != nil {
		t.Fatal(err)
	}
	if !ok {
		return nil
	}
	v, err := item.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func putOp(v item.View) l2.Op       { return l2.Op{Kind: l2.OpPut, Record: v} }
func tombstoneOp(v item.View) l2.Op { return l2.Op{Kind: l2.OpTombstone, Record: v} }
func dropOp(id string, v item.Version) l2.Op {
	return l2.Op{Kind: l2.OpDrop, Key: key(id), Version: v}
}
