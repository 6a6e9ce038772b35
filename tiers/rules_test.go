package tiers_test

import (
	"context"
	"errors"
	"testing"

	"github.com/edgenode/edgenode/tiers"
	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/tiertest"
)

// TestRuleInL3HoldsAfterStartWithoutL3: a bulk delete has reached L3's table of
// rules, not its rows, when the node stops. L3 is down at the next start and
// comes back: no covered row is seen then.
func TestRuleInL3HoldsAfterStartWithoutL3(t *testing.T) {
	dir, store := t.TempDir(), &tiertest.Store{}
	e := open(t, dir, func(o *tiers.Options) { o.WrapStore = store.Wrap })
	put(t, e, "k/1", "v")
	flush(t, e)
	store.FailSweeps(true)
	if _, err := e.DeleteMatching(t.Context(), tiers.Query{Prefix: "k/"}, 0); err != nil {
		t.Fatal(err)
	}
	e.Close(context.Background())
	store = &tiertest.Store{}
	store.SetDown(true)
	store.FailSweeps(true)
	e = open(t, dir, func(o *tiers.Options) { o.WrapStore = store.Wrap })
	if _, _, err := e.Get(t.Context(), key(t, "k/1"), tiers.ReadOptions{}); !errors.Is(err, tiers.ErrUnavailable) {
		t.Errorf("get while L3 is down: %v, want ErrUnavailable", err)
	}
	store.SetDown(false)
	wantAbsent(t, e, "k/1")
	if _, err := e.List(t.Context(), tiers.Query{}, func(v item.View) error { return errors.New("listed " + v.Key().ID()) }); err != nil {
		t.Error(err)
	}
	store.FailSweeps(false)
	flush(t, e)
	wantAbsent(t, e, "k/1")
}
