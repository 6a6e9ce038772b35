package tiers_test

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/edgenode/edgenode/tiers"
	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/l3"
	"github.com/edgenode/edgenode/tiers/tiertest"
)

// elsewhere writes content to the store under e, as another node does.
func elsewhere(t *testing.T, e *tiers.Engine, store *tiertest.Store, id, content string) item.ETag {
	t.Helper()
	v := e.Stamp()
	it := item.Item{Kind: item.KindPut, Tiers: item.AllTiers, Key: key(t, id), Version: v, ContentVersion: v, MetadataVersion: v, Content: []byte(content)}
	it.Seal()
	if _, err := store.Store.Apply(context.Background(), []l3.Op{{Record: it.AppendTo(nil)}}, nil, make([]l3.Outcome, 1)); err != nil {
		t.Error(err)
	}
	return it.ETag
}

// TestG5_SharedConditionsAreDecidedInL3: what other nodes have written counts,
// whatever this node holds, and also if it comes between look and write.
func TestG5_SharedConditionsAreDecidedInL3(t *testing.T) {
	store := &tiertest.Store{}
	e := open(t, t.TempDir(), func(o *tiers.Options) { o.WrapStore, o.L3Shared = store.Wrap, true })
	cas := func(id, content string, c tiers.Condition, want error) tiers.Receipt {
		t.Helper()
		r, err := e.CompareAndSubmit(t.Context(), &c, &tiers.Write{Key: key(t, id), Content: []byte(content)})
		if !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", content, err, want)
		}
		return r
	}
	first := put(t, e, "k", "v1") // pending: goes first
	r := cas("k", "v2", tiers.Condition{Match: []item.ETag{first.ETag}}, nil)
	if r.Persisted != item.DurabilityL3 || r.Existed != tiers.ExistedYes {
		t.Errorf("receipt %+v, want l3, existed", r)
	}
	want(t, e, "k", "v2")
	if n := e.PendingItems(); n != 0 {
		t.Errorf("%d items pending, want none", n)
	}
	theirs := elsewhere(t, e, store, "k", "v3")
	want(t, e, "k", "v2") // L1 does not know yet
	cas("k", "wrong", tiers.Condition{Match: []item.ETag{r.ETag}}, tiers.ErrPrecondition)
	cas("k", "v4", tiers.Condition{Match: []item.ETag{theirs}}, nil)
	want(t, e, "k", "v4")

	cas("new", "n1", tiers.Condition{NoneAny: true}, nil)
	elsewhere(t, e, store, "other", "o1")
	cas("other", "mine", tiers.Condition{NoneAny: true}, tiers.ErrPrecondition)
	want(t, e, "other", "o1")

	// Another node is quicker by a moment.
	var once sync.Once
	store.OnApply(func([]l3.Op) { once.Do(func() { elsewhere(t, e, store, "race", "theirs") }) }, nil)
	cas("race", "mine", tiers.Condition{NoneAny: true}, tiers.ErrPrecondition)
	store.OnApply(nil, nil)
	want(t, e, "race", "theirs")

	fills := 0
	h, inserted, err := e.GetOrInsert(t.Context(), key(t, "fill"), func(context.Context) (*tiers.Write, error) {
		fills++
		elsewhere(t, e, store, "fill", "theirs")
		return &tiers.Write{Content: []byte("mine")}, nil
	})
	if err != nil || inserted || fills != 1 {
		t.Fatalf("inserted %v, %d fills, %v", inserted, fills, err)
	}
	if got := string(h.View.Content()); got != "theirs" {
		t.Errorf("got %s, want what was there first", got)
	}
	h.Release()

	state := "done"
	if _, err := e.Change(t.Context(), key(t, "other"), tiers.MetadataChange{State: &state}); err != nil {
		t.Fatal(err)
	}
	want(t, e, "other", "o1")
	if n, _, err := e.Count(t.Context(), tiers.Query{State: state}); n != 1 || err != nil {
		t.Errorf("%d in the new state, %v", n, err)
	}
	if _, err := e.Delete(t.Context(), key(t, "other"), &tiers.Condition{MatchAny: true}, 0); err != nil {
		t.Fatal(err)
	}
	wantAbsent(t, e, "other")

	store.SetDown(true)
	cas("k", "v5", tiers.Condition{MatchAny: true}, tiers.ErrUnavailable)
	want(t, e, "k", "v4")
	audit(t, e, "at the end")
}

// TestB7_SharedIncrements: writers of one node count by compare-and-submit on a
// shared L3; none is lost.
func TestB7_SharedIncrements(t *testing.T) {
	e := open(t, t.TempDir(), func(o *tiers.Options) { o.L3Shared = true })
	put(t, e, "n", "")
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for done := 0; done < 10; {
				h, ok, err := e.Get(context.Background(), key(t, "n"), tiers.ReadOptions{})
				if err != nil || !ok {
					t.Errorf("get: %v, %v", ok, err)
					return
				}
				c := tiers.Condition{Version: h.View.Version()}
				next := append(append([]byte(nil), h.View.Content()...), '+')
				h.Release()
				_, err = e.CompareAndSubmit(context.Background(), &c, &tiers.Write{Key: key(t, "n"), Content: next})
				if err == nil {
					done++
				} else if !errors.Is(err, tiers.ErrPrecondition) {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if got, _ := get(t, e, "n"); len(got) != 40 {
		t.Errorf("%d increments, want 40", len(got))
	}
}
