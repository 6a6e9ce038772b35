package tiers_test

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/edgenode/edgenode/tiers"
	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/tiertest"
)

// TestG2_PurgeOnEveryNode: a purge is a change: its number says which nodes have
// applied it, and where one has, the copies are gone there, also of a purge by
// state. A node that is gone is waited for until it is removed.
func TestG2_PurgeOnEveryNode(t *testing.T) {
	db := filepath.Join(t.TempDir(), "l3.db")
	share := func(s *tiertest.Store) func(*tiers.Options) {
		return func(o *tiers.Options) {
			onFile(db, s)(o)
			o.L3Shared, o.FollowInterval = true, 10*time.Millisecond
		}
	}
	storeB := &tiertest.Store{}
	a, b := open(t, t.TempDir(), share(&tiertest.Store{})), open(t, t.TempDir(), share(storeB))
	w := tiers.Write{Key: key(t, "k"), Content: []byte("v"), State: "s"}
	if _, err := a.Submit(t.Context(), &w); err != nil {
		t.Fatal(err)
	}
	flush(t, a)
	behind := func(seq uint64) (names []string) {
		t.Helper()
		nodes, err := a.Nodes(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range nodes {
			if n.Applied < seq {
				names = append(names, n.ID)
			}
		}
		return names
	}
	for _, p := range []tiers.Purge{
		{Namespaces: item.InItems, Match: item.MatchKeyPrefix, Values: []string{"k"}},
		{Namespaces: item.InItems, State: "s"},
	} {
		awaitFrom(t, b, "k", "v", tiers.FromL1)
		storeB.SetDown(true) // it cannot follow now
		r, err := a.Purge(t.Context(), p)
		if err != nil || r.Seq == 0 {
			t.Fatalf("purge: %+v, %v", r, err)
		}
		if got := behind(r.Seq); !slices.Contains(got, b.Identity().ID) {
			t.Errorf("behind %d: %v, want %s among them", r.Seq, got, b.Identity().ID)
		}
		storeB.SetDown(false)
		b.ProbeL3()
		begin := time.Now()
		nodes, err := a.AwaitApplied(t.Context(), r.Seq)
		if took := time.Since(begin); err != nil || len(nodes) != 2 || took > inTime(2*time.Second) {
			t.Errorf("waited %v for %d nodes, %v", took, len(nodes), err)
		}
		if got := behind(r.Seq); len(got) != 0 {
			t.Errorf("behind %d: %v", r.Seq, got)
		}
		wantFrom(t, b, "k", "v", tiers.FromL3)
	}

	id := b.Identity().ID
	if _, err := a.RemoveNode(t.Context(), id); !errors.Is(err, tiers.ErrNodeLive) {
		t.Errorf("remove a node that lives: %v", err)
	}
	if err := b.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	r, err := a.Purge(t.Context(), tiers.Purge{Namespaces: item.InItems, Match: item.MatchAll})
	if err != nil {
		t.Fatal(err)
	}
	limited, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if nodes, err := a.AwaitApplied(limited, r.Seq); err != nil || len(nodes) != 2 {
		t.Errorf("%d nodes, %v", len(nodes), err)
	}
	if got := behind(r.Seq); len(got) != 1 || got[0] != id {
		t.Errorf("behind %d: %v, want %s", r.Seq, got, id)
	}
	if existed, err := a.RemoveNode(t.Context(), id); !existed || err != nil {
		t.Errorf("remove: %v, %v", existed, err)
	}
	if nodes, err := a.AwaitApplied(t.Context(), r.Seq); err != nil || len(nodes) != 1 || !nodes[0].Self {
		t.Errorf("then %+v, %v", nodes, err)
	}
	if _, err := a.RemoveNode(t.Context(), a.Identity().ID); !errors.Is(err, tiers.ErrNodeLive) {
		t.Errorf("remove itself: %v", err)
	}
}
