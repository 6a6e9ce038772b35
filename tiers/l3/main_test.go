package l3_test

import (
	"context"
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"
	"testing"

	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/l3"
	"github.com/edgenode/edgenode/tiers/tiertest/mariadbtest"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if path := os.Getenv(crashPath); path != "" {
		writeUntilKilled(path)
		return
	}
	goleak.VerifyTestMain(mariadbtest.Main(m))
}

// now is the time of all stores under test, in Unix ms.
const now = 1_700_000_000_000

func options(path string) l3.Options {
	return l3.Options{Path: path, Clock: func() int64 { return now }}
}

// opener opens a store of some dialect, empty unless path was used before.
type opener func(t testing.TB, path string) *l3.Store

func openSQLite(t testing.TB, path string) *l3.Store {
	t.Helper()
	s, err := l3.Open(context.Background(), options(path))
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

// openMariaDB opens a database of the shared server; path stands for its name.
func openMariaDB(t testing.TB, path string) *l3.Store {
	t.Helper()
	h := fnv.New64a()
	h.Write([]byte(path))
	name := fmt.Sprintf("l3_%x", h.Sum64())
	server := mariadbtest.Shared(t)
	server.Do(t, "CREATE DATABASE IF NOT EXISTS "+name)
	t.Cleanup(func() { _ = server.Try("DROP DATABASE IF EXISTS " + name) })
	return openURL(t, server.URL(name))
}

func urlOptions(url string) l3.Options {
	return l3.Options{URL: url, Clock: func() int64 { return now }}
}

func openURL(t testing.TB, url string) *l3.Store {
	t.Helper()
	return openWith(t, urlOptions(url))
}

func openWith(t testing.TB, o l3.Options) *l3.Store {
	t.Helper()
	s, err := l3.Open(context.Background(), o)
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

// newMariaDB opens an empty database of the shared server.
func newMariaDB(t testing.TB) *l3.Store {
	t.Helper()
	server := mariadbtest.Shared(t)
	return openURL(t, server.URL(server.Database(t)))
}

func newStore(t testing.TB) *l3.Store {
	t.Helper()
	return openSQLite(t, filepath.Join(t.TempDir(), "l3.db"))
}

// with changes the item that put, tombstone or metadata makes.
type with func(it *item.Item)

func state(s string) with       { return func(it *item.Item) { it.State = s } }
func tags(t ...string) with     { return func(it *item.Item) { it.Tags = t } }
func expires(at int64) with     { return func(it *item.Item) { it.ExpiresAt = at } }
func response(s string) with    { return func(it *item.Item) { it.Response = []byte(s) } }
func mime(s string) with        { return func(it *item.Item) { it.MIME = s } }
func updated(at int64) with     { return func(it *item.Item) { it.UpdatedAt = at } }
func rawKey(k item.Key) with    { return func(it *item.Item) { it.Key = k } }
func traceparent(s string) with { return func(it *item.Item) { it.TraceParent = s } }

func idKey(id string) item.Key { return item.AppendKey(nil, item.NamespaceItem, id) }

func put(id string, version item.Version, content string, more ...with) item.View {
	it := item.Item{
		Kind: item.KindPut, Tiers: item.AllTiers, Key: idKey(id), Version: version, ContentVersion: version,
		MetadataVersion: version, UpdatedAt: version.UnixMilli(), Content: []byte(content),
	}
	return record(&it, more)
}

func tombstone(id string, version item.Version, more ...with) item.View {
	it := item.Item{
		Kind: item.KindTombstone, Tiers: item.AllTiers, Key: idKey(id), Version: version,
		ContentVersion: version, MetadataVersion: version, UpdatedAt: version.UnixMilli(),
	}
	return record(&it, more)
}

func metadata(id string, version item.Version, more ...with) item.View {
	it := item.Item{
		Kind: item.KindMetadata, Tiers: item.AllTiers, Key: idKey(id), Version: version,
		MetadataVersion: version, UpdatedAt: version.UnixMilli(),
	}
	return record(&it, more)
}

func record(it *item.Item, more []with) item.View {
	for _, w := range more {
		w(it)
	}
	if it.Kind == item.KindPut {
		it.Seal()
	}
	return it.AppendTo(nil)
}

// apply applies the records in one batch.
func apply(t testing.TB, s *l3.Store, records ...item.View) []l3.Outcome {
	t.Helper()
	return applyWith(t, s, nil, records...)
}

func applyWith(t testing.TB, s *l3.Store, rules []item.Rule, records ...item.View) []l3.Outcome {
	t.Helper()
	ops, out := opsOf(records), make([]l3.Outcome, len(records))
	if _, err := s.Apply(context.Background(), ops, rules, out); err != nil {
		t.Fatal(err)
	}
	return out
}

func opsOf(records []item.View) []l3.Op {
	ops := make([]l3.Op, len(records))
	for i, r := range records {
		ops[i].Record = r
	}
	return ops
}

// get returns the record of key, nil if there is none.
func get(t testing.TB, s *l3.Store, key item.Key) item.View {
	t.Helper()
	b, found, err := s.Get(context.Background(), key, nil)
	if err != nil {
		t.Fatal(err)
	}
	if !found {
		return nil
	}
	v, err := item.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// live returns the content of a live item, "-" for a tombstone, "" for absent.
func live(t testing.TB, s *l3.Store, id string) string {
	t.Helper()
	switch v := get(t, s, idKey(id)); {
	case v == nil:
		return ""
	case v.Kind() == item.KindTombstone:
		return "-"
	default:
		return string(v.Content())
	}
}

// ids returns the ids that a query visits.
func ids(t testing.TB, s *l3.Store, q l3.ScanQuery) (list []string) {
	t.Helper()
	err := s.Scan(context.Background(), q, func(v item.View) error {
		list = append(list, v.Key().ID())
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// changes returns the change sequence after a number as "op id version".
func changes(t testing.TB, s *l3.Store, after uint64) (list []string) {
	t.Helper()
	err := s.Changes(context.Background(), after, 1_000_000, func(c l3.Change) error {
		list = append(list, fmt.Sprintf("%d %s %d", c.Op, c.Key.ID(), c.Version))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// sweep sweeps the rule to its end.
func sweep(t testing.TB, s *l3.Store, rule item.Rule, limit int) (deleted int) {
	t.Helper()
	for {
		n, more, err := s.SweepRule(context.Background(), rule, limit)
		if err != nil {
			t.Fatal(err)
		}
		if deleted += n; !more {
			return deleted
		}
	}
}
