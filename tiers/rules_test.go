package tiers_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
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
	e.ProbeL3()
	wantAbsent(t, e, "k/1")
	if _, err := e.List(t.Context(), tiers.Query{}, func(v item.View) error { return errors.New("listed " + v.Key().ID()) }); err != nil {
		t.Error(err)
	}
	store.FailSweeps(false)
	flush(t, e)
	wantAbsent(t, e, "k/1")
}

// TestConditionAgainstRuleInTheMaking: a conditional write and a bulk delete of
// its item run together. If the condition held, the write comes before the
// delete and is gone with the rest; never does it stand above the delete.
func TestConditionAgainstRuleInTheMaking(t *testing.T) {
	e := open(t, t.TempDir(), nil)
	for i := range scale(3000, 300) {
		id := fmt.Sprintf("c/%d", i)
		put(t, e, id, "v1")
		var wg sync.WaitGroup
		var rule tiers.BulkReceipt
		wg.Go(func() {
			var err error
			if rule, err = e.DeleteMatching(t.Context(), tiers.Query{Prefix: id}, 0); err != nil {
				t.Error(err)
			}
		})
		r, err := e.CompareAndSubmit(t.Context(), &tiers.Condition{MatchAny: true}, &tiers.Write{Key: key(t, id), Content: []byte("v2")})
		wg.Wait()
		if err != nil && !errors.Is(err, tiers.ErrPrecondition) {
			t.Fatal(err)
		}
		if err == nil && r.Version > rule.Version {
			t.Fatalf("round %d: the condition held for an item that the delete %v had removed, and the write got %v", i, rule.Version, r.Version)
		}
		wantAbsent(t, e, id)
	}
}

// TestChangeIsAsDurableAsItSays: the content was written with durability memory,
// the change of its state with sync.
func TestChangeIsAsDurableAsItSays(t *testing.T) {
	dir, store := t.TempDir(), &tiertest.Store{}
	e := open(t, dir, func(o *tiers.Options) { o.WrapStore = store.Wrap })
	store.SetDown(true)
	if _, err := e.Submit(t.Context(), &tiers.Write{Key: key(t, "k"), Content: []byte("v"), Durability: item.DurabilityMemory}); err != nil {
		t.Fatal(err)
	}
	state := "paid"
	r, err := e.Change(t.Context(), key(t, "k"), tiers.MetadataChange{State: &state, Durability: item.DurabilitySync})
	if err != nil || r.Persisted != item.DurabilitySync {
		t.Fatalf("change: %+v, %v", r, err)
	}
	e.CloseAbruptly()
	e = open(t, dir, nil)
	want(t, e, "k", "v")
	if h, ok, err := e.Get(t.Context(), key(t, "k"), tiers.ReadOptions{}); !ok || err != nil || h.View.State() != state {
		t.Errorf("after the crash: %v, %v, want state %q", ok, err, state)
	}
}
