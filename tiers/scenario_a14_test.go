package tiers_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/edgenode/edgenode/tiers"
	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/l3"
	"github.com/edgenode/edgenode/tiers/tiertest"
)

// TestA14_PoisonRow: L3 refuses one row among many. The rest lands; the one
// becomes a dead letter: readable, shown, over a restart, until a newer write.
func TestA14_PoisonRow(t *testing.T) { overBackends(t, testA14PoisonRow) }

func testA14PoisonRow(t *testing.T) {
	dir, store := t.TempDir(), &tiertest.Store{}
	poisoned := func(op l3.Op) bool { return bytes.Equal(op.Record.Content(), []byte("content 500")) }
	store.Reject(poisoned)
	e := open(t, dir, func(o *tiers.Options) { o.WrapStore = store.Wrap })
	submitAll(t, e, 1000)
	flush(t, e)
	f := func(e *tiers.Engine) {
		t.Helper()
		want(t, e, "n/000500", "content 500")
		st, err := e.Status(t.Context(), key(t, "n/000500"))
		if err != nil || st.Where != tiers.StatusDeadLetter {
			t.Errorf("status %+v, %v, want dead-lettered", st, err)
		}
		if h := e.Health(t.Context()); h.Verdict != "degraded" || h.JournalRecords != 0 {
			t.Errorf("health %s, %d records in the journal; want degraded, none", h.Verdict, h.JournalRecords)
		}
	}
	f(e)
	if n, _, err := e.Count(t.Context(), tiers.Query{}); err != nil || n != 1000 {
		t.Errorf("%d items, %v, want all 1000", n, err)
	}
	again := &tiertest.Store{}
	again.Reject(poisoned)
	e = reopen(t, e, dir, func(o *tiers.Options) { o.WrapStore = again.Wrap })
	flush(t, e) // tried again, refused again
	f(e)
	if _, err := e.Submit(t.Context(), &tiers.Write{Key: key(t, "x"), Content: []byte("content 500"), Durability: item.DurabilityL3}); !errors.Is(err, tiers.ErrRefused) {
		t.Errorf("the same with durability l3: %v, want ErrRefused", err)
	}
	wantAbsent(t, e, "x")
	put(t, e, "n/000500", "harmless")
	flush(t, e)
	if h := e.Health(t.Context()); h.Verdict != "ok" {
		t.Errorf("after a newer write health is %s %v", h.Verdict, h.Reasons)
	}
	e = reopen(t, e, dir, nil)
	want(t, e, "n/000500", "harmless")
	if st, err := e.Status(t.Context(), key(t, "n/000500")); err != nil || st.Where != tiers.StatusSynced {
		t.Errorf("status %+v, %v, want synced", st, err)
	}
}
