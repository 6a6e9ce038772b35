package tiers_test

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/edgenode/edgenode/tiers"
	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/tiertest"
	"github.com/edgenode/edgenode/tiers/tiertest/crashfs"
)

// TestB12_BulkDeleteOfACopyOverAnItem: a cached copy with a tag takes the place
// of an item without it, and is deleted by the tag. The item does not come back
// by an orderly restart. A kill before the flush takes the copy, and all that was
// because of it: then the item may be there, in this version, or nothing.
func TestB12_BulkDeleteOfACopyOverAnItem(t *testing.T) {
	for _, kill := range []bool{false, true} {
		dir, disk, store := t.TempDir(), crashfs.New(), &tiertest.Store{}
		change := func(o *tiers.Options) { o.JournalFS, o.WrapStore, o.BatchFlush = disk, store.Wrap, time.Hour }
		e := open(t, dir, change)
		put(t, e, "k", "item")
		w := &tiers.Write{Key: key(t, "k"), Content: []byte("copy"), Tags: []string{"t1"}, Tiers: item.L1 | item.L2}
		if _, err := e.Submit(t.Context(), w); err != nil {
			t.Fatal(err)
		}
		store.SetDown(kill) // nothing is flushed before the kill
		deleteTag(t, e, "t1")
		wantAbsent(t, e, "k")
		if !kill {
			e = reopen(t, e, dir, change)
			wantAbsent(t, e, "k")
			flush(t, e)
			wantAbsent(t, e, "k")
			continue
		}
		image := disk.Clone()
		disk.Cut()
		e.CloseAbruptly()
		disk = image
		store.SetDown(false)
		e = open(t, dir, change)
		before, there := get(t, e, "k")
		flush(t, e)
		after, still := get(t, e, "k")
		if there && before != "item" || there != still || before != after {
			t.Errorf("after the kill %q, %v, and then %q, %v", before, there, after, still)
		}
	}
}

// TestC3_LifetimeOfAChangeBeginsAfterTheRead: a change gives 50 ms, and L3 takes
// 400 ms to say what the item is.
func TestC3_LifetimeOfAChangeBeginsAfterTheRead(t *testing.T) {
	store := &lateStore{}
	var now atomic.Int64
	now.Store(time.Now().UnixMilli())
	e := open(t, t.TempDir(), func(o *tiers.Options) { o.WrapStore, o.Now, o.FilterOff = store.wrap, now.Load, true }) // its keeper reads too
	putIn(t, e, "k", "v", belowL1, 0)
	flush(t, e)
	store.then = func() { now.Add(400) }
	ttl := 50 * time.Millisecond
	if _, err := e.Change(t.Context(), key(t, "k"), tiers.MetadataChange{TTL: &ttl}); err != nil {
		t.Fatal(err)
	}
	want(t, e, "k", "v")
	now.Add(49)
	want(t, e, "k", "v")
	now.Add(1)
	wantAbsent(t, e, "k")
}
