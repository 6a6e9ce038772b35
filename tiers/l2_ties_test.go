package tiers_test

import (
	"sync"
	"testing"

	"github.com/edgenode/edgenode/tiers"
	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/l2"
	"github.com/edgenode/edgenode/tiers/l3"
	"github.com/edgenode/edgenode/tiers/tiertest"
	"github.com/edgenode/edgenode/tiers/tiertest/redistest"
)

// TestG3_ChangedElsewhereDuringTheFlush: another node changes the metadata of an
// item, later than a write of its content that is still pending here. The row
// then has the version of that change before our content and after: what L2 got
// in between is of the same version, and must not be believed. It is so whether
// the copy leaves with the batch or, since L2 did not answer then, by the walk.
func TestG3_ChangedElsewhereDuringTheFlush(t *testing.T) {
	for _, lost := range []bool{false, true} {
		for _, deleted := range []bool{false, true} {
			tied(t, lost, deleted)
		}
	}
}

func tied(t *testing.T, lost, deleted bool) {
	server, store, f := redistest.Start(t, redistest.Options{}), &tiertest.Store{}, &faultyL2{}
	e := openRedis(t, t.TempDir(), server, func(o *tiers.Options) {
		o.WrapStore, o.WrapL2, o.L3Shared = store.Wrap, f.wrap, true
	})
	putIn(t, e, "k", "v1", belowL1, 0)
	flush(t, e)
	var once sync.Once
	store.OnApply(func([]l3.Op) { once.Do(func() { changeElsewhere(t, e, store, server, "k") }) }, nil)
	if lost {
		f.set(nil, l2.ErrUnavailable)
	}
	if deleted {
		del(t, e, "k")
	} else {
		putIn(t, e, "k", "v2", belowL1, 0)
	}
	flush(t, e)
	f.set(nil, nil)
	for range 2 {
		awaitTrust(t, e)
		if deleted {
			wantAbsent(t, e, "k")
		} else {
			want(t, e, "k", "v2")
		}
		e.DistrustL2()
	}
}

// changeElsewhere sets a state of id as another node does, with a version above
// all of this one, and leaves a copy of the row in Redis.
func changeElsewhere(t *testing.T, e *tiers.Engine, store *tiertest.Store, server *redistest.Server, id string) {
	t.Helper()
	row := rowOf(t, store, id)
	it := row.Item()
	it.Kind, it.State = item.KindMetadata, "changed"
	it.MetadataVersion = e.Stamp() + 1<<20
	it.Version = it.MetadataVersion
	ops := []l3.Op{{Record: it.AppendTo(nil)}}
	if _, err := store.Store.Apply(t.Context(), ops, nil, make([]l3.Outcome, 1)); err != nil {
		t.Error(err)
	}
	copies := []l2.Op{{Kind: l2.OpPut, Record: rowOf(t, store, id)}}
	if err := rawRedis(t, server).Apply(t.Context(), copies, make([]l2.Outcome, 1)); err != nil {
		t.Error(err)
	}
}

// rowOf returns the row of id in L3.
func rowOf(t *testing.T, store *tiertest.Store, id string) item.View {
	t.Helper()
	b, ok, err := store.Store.Get(t.Context(), key(t, id), nil)
	if err != nil || !ok {
		t.Errorf("row of %s: %v, %v", id, ok, err)
	}
	return item.View(b)
}
