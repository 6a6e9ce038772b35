package memstore_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/l2"
	"github.com/edgenode/edgenode/tiers/tiertest/memstore"
)

func grave(id string, version item.Version) item.View {
	it := item.Item{
		Kind: item.KindTombstone, Tiers: item.AllTiers, Key: item.AppendKey(nil, item.NamespaceItem, id),
		Version: version, ContentVersion: version, MetadataVersion: version,
	}
	return it.AppendTo(nil)
}

func redisApply(t *testing.T, s *memstore.L2, op l2.Op) (l2.Outcome, error) {
	t.Helper()
	out := make([]l2.Outcome, 1)
	err := s.Apply(t.Context(), []l2.Op{op}, out)
	return out[0], err
}

func redisGet(t *testing.T, s *memstore.L2, id string) string {
	t.Helper()
	b, ok, err := s.Get(t.Context(), item.AppendKey(nil, item.NamespaceItem, id), nil)
	switch {
	case err != nil:
		t.Fatal(err)
	case !ok:
		return ""
	case item.View(b).Kind() == item.KindTombstone:
		return "-"
	}
	return string(item.View(b).Content())
}

// TestL2KeepsOrder: versions decide, whatever comes late.
func TestL2KeepsOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memstore.NewL2(nil)
		key := item.AppendKey(nil, item.NamespaceItem, "k")
		f := func(op l2.Op, won, same bool, want string) {
			t.Helper()
			o, err := redisApply(t, s, op)
			if err != nil || o.Err != nil || o.Won != won || o.Same != same {
				t.Errorf("outcome %+v, %v, want won %v, same %v", o, err, won, same)
			}
			if got := redisGet(t, s, "k"); got != want {
				t.Errorf("holds %q, want %q", got, want)
			}
		}
		f(l2.Op{Kind: l2.OpPut, Record: put("k", "five", 5)}, true, false, "five")
		f(l2.Op{Kind: l2.OpPut, Record: put("k", "four", 4)}, false, false, "five")
		f(l2.Op{Kind: l2.OpPut, Record: put("k", "five", 5)}, false, true, "five")
		f(l2.Op{Kind: l2.OpDrop, Key: key, Version: 5}, false, false, "five")
		f(l2.Op{Kind: l2.OpDrop, Key: key, Version: 7}, true, false, "")
		f(l2.Op{Kind: l2.OpPut, Record: put("k", "six", 6)}, false, false, "")
		f(l2.Op{Kind: l2.OpPut, Record: put("k", "seven", 7)}, true, false, "seven")
		f(l2.Op{Kind: l2.OpTombstone, Record: grave("k", 9)}, true, false, "-")
		f(l2.Op{Kind: l2.OpPut, Record: put("k", "eight", 8)}, false, false, "-")
		time.Sleep(time.Hour) // the tombstone's life
		if got := redisGet(t, s, "k"); got != "" {
			t.Errorf("after its life: %q", got)
		}
	})
}

// TestFaultsOfL2: servers are replaced, and writes are done after their error.
func TestFaultsOfL2(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memstore.NewL2(nil)
		if err := s.WriteMark(t.Context(), l2.Mark{L3: "x", Seq: 3}, 1); err != nil {
			t.Fatal(err)
		}
		first := s.Generation()
		s.Save()
		s.Plan("Apply", memstore.Fault{Kind: memstore.Later, Delay: time.Second})
		if o, err := redisApply(t, s, l2.Op{Kind: l2.OpPut, Record: put("k", "late", 5)}); !errors.Is(err, l2.ErrUnavailable) || o.Err == nil {
			t.Errorf("later: %+v, %v", o, err)
		}
		if got := redisGet(t, s, "k"); got != "" || s.Generation() == first {
			t.Errorf("at once: %q, generation %d after %d", got, s.Generation(), first)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if got := redisGet(t, s, "k"); got != "late" {
			t.Errorf("a second later: %q", got)
		}
		second := s.Generation()
		s.Replace(memstore.Stale)
		if _, found, err := s.ReadMark(t.Context()); !found || err != nil || s.Generation() == second || redisGet(t, s, "k") != "" {
			t.Errorf("a stale server: mark %v, %v, generation %d after %d", found, err, s.Generation(), second)
		}
		if err := s.WriteMark(t.Context(), l2.Mark{}, second); !errors.Is(err, l2.ErrGeneration) {
			t.Errorf("mark at an old generation: %v", err)
		}
		s.Replace(memstore.Empty)
		if _, found, err := s.ReadMark(t.Context()); found || err != nil {
			t.Errorf("an empty server: mark %v, %v", found, err)
		}
	})
}
