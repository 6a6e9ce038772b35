package tiers_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edgenode/edgenode/tiers"
	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/l3"
	"github.com/edgenode/edgenode/tiers/tiertest"
)

// Scenarios of the snapshot of L1: what a restart may serve from it.

const l1File = "l1.snapshot"

// openRestored opens an engine whose L1 is kept, and returns it when the snapshot
// that is there has been read, with how many records are back.
func openRestored(t *testing.T, dir string, change func(*tiers.Options)) (*tiers.Engine, int) {
	t.Helper()
	done := make(chan int, 1)
	_, err := os.Stat(filepath.Join(dir, l1File))
	e := open(t, dir, func(o *tiers.Options) {
		if change != nil {
			change(o)
		}
		o.L1Snapshot, o.Restored = true, func(n int) { done <- n }
	})
	if err != nil {
		return e, 0
	}
	if _, err := os.Stat(filepath.Join(dir, l1File)); err == nil {
		t.Error("the snapshot is still there after the start: a crash would bring it back")
	}
	select {
	case n := <-done:
		return e, n
	case <-time.After(time.Minute):
		t.Fatal("the snapshot was not read")
		return nil, 0
	}
}

func closeNow(t *testing.T, e *tiers.Engine) {
	t.Helper()
	if err := e.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
}

func putSite(t *testing.T, e *tiers.Engine, name string, ttl time.Duration, tags ...string) {
	t.Helper()
	_, err := e.Submit(t.Context(), &tiers.Write{
		Key: siteKey(name), Content: []byte(name), Tiers: item.L1 | item.L2, TTL: ttl, Tags: tags, Durability: item.DurabilityMemory,
	})
	if err != nil {
		t.Fatal(err)
	}
}

// site returns whether the stored answer is there, and whether it is stale.
func site(t *testing.T, e *tiers.Engine, name string) (there, stale bool) {
	t.Helper()
	h, ok, err := e.Get(t.Context(), siteKey(name), tiers.ReadOptions{})
	if err != nil || !ok {
		return false, false
	}
	defer h.Release()
	return true, h.Stale
}

func fromMemory(t *testing.T, e *tiers.Engine, n int) (hits int) {
	t.Helper()
	for i := range n {
		h, ok, err := e.Get(t.Context(), key(t, fmt.Sprint("k", i)), tiers.ReadOptions{})
		if err != nil || !ok || string(h.View.Content()[:8]) != fmt.Sprintf("%08d", i) {
			t.Fatalf("k%d: %v, %v", i, ok, err)
		}
		if h.Source == tiers.FromL1 {
			hits++
		}
		h.Release()
	}
	return hits
}

func fillMemory(t *testing.T, e *tiers.Engine, n int) {
	t.Helper()
	for i := range n {
		put(t, e, fmt.Sprint("k", i), fmt.Sprintf("%08d", i)+string(bytes.Repeat([]byte{'x'}, 10_000)))
	}
	flush(t, e)
}

// TestM1_WarmRestart: after an orderly restart as good as all that was a hit is one, each
// once.
func TestM1_WarmRestart(t *testing.T) {
	dir, n := t.TempDir(), scale(1000, 300)
	e, _ := openRestored(t, dir, nil)
	fillMemory(t, e, n)
	putSite(t, e, "answer", time.Hour)
	before := fromMemory(t, e, n)
	closeNow(t, e)
	e, restored := openRestored(t, dir, nil)
	if after := fromMemory(t, e, n); after*100 < before*95 || restored < after {
		t.Errorf("%d hits after the restart, %d before; %d restored", after, before, restored)
	}
	if there, _ := site(t, e, "answer"); !there {
		t.Error("a stored answer is not there after the restart")
	}
}

// TestM2_ChangedMeanwhile: what another node wrote, deleted or purged while this one
// was down is not served from the snapshot.
func TestM2_ChangedMeanwhile(t *testing.T) {
	db := filepath.Join(t.TempDir(), "l3.db")
	share := func(o *tiers.Options) {
		onFile(db, &tiertest.Store{})(o)
		o.L3Shared, o.FollowInterval = true, time.Hour
	}
	dirA, dirB := t.TempDir(), t.TempDir()
	a, _ := openRestored(t, dirA, share)
	for _, id := range []string{"kept", "written", "deleted", "p/1", "p/2"} {
		put(t, a, id, "old "+id)
	}
	for _, name := range []string{"kept", "purged", "stale"} {
		putSite(t, a, name, time.Hour, name)
	}
	flush(t, a)
	closeNow(t, a)

	b := open(t, dirB, share)
	put(t, b, "written", "new")
	if _, err := b.Delete(t.Context(), key(t, "deleted"), nil, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := b.DeleteMatching(t.Context(), tiers.Query{Prefix: "p/"}, 0); err != nil {
		t.Fatal(err)
	}
	for name, soft := range map[string]bool{"purged": false, "stale": true} {
		if _, err := b.Purge(t.Context(), tiers.Purge{Namespaces: item.InSites, Match: item.MatchTag, Values: []string{name}, Soft: soft}); err != nil {
			t.Fatal(err)
		}
	}
	flush(t, b)
	closeNow(t, b)

	a, _ = openRestored(t, dirA, share)
	wantFrom(t, a, "kept", "old kept", tiers.FromL1)
	want(t, a, "written", "new")
	wantAbsent(t, a, "deleted")
	wantAbsent(t, a, "p/1")
	wantAbsent(t, a, "p/2")
	if there, stale := site(t, a, "kept"); !there || stale {
		t.Errorf("kept: %v, %v", there, stale)
	}
	if there, _ := site(t, a, "purged"); there {
		t.Error("a purged answer is back")
	}
	if there, stale := site(t, a, "stale"); there && !stale {
		t.Error("a soft purge is forgotten")
	}
}

// TestM3_OtherDatabase: a snapshot of another L3, or of a later state of this one, is not
// used.
func TestM3_OtherDatabase(t *testing.T) {
	dir, dbs := t.TempDir(), t.TempDir()
	on := func(name string) func(o *tiers.Options) {
		return func(o *tiers.Options) { o.SQLitePath = filepath.Join(dbs, name) }
	}
	e, _ := openRestored(t, dir, on("one"))
	put(t, e, "k", "of one")
	closeNow(t, e)
	e, n := openRestored(t, dir, on("two"))
	if n != 0 {
		t.Errorf("%d records restored beside another database", n)
	}
	wantAbsent(t, e, "k")
	closeNow(t, e)

	// A backup that is older than the snapshot; then one that has gone another way.
	e, _ = openRestored(t, dir, on("one"))
	put(t, e, "a", "before the backup")
	closeNow(t, e)
	backup, err := os.ReadFile(filepath.Join(dbs, "one"))
	if err != nil {
		t.Fatal(err)
	}
	e, _ = openRestored(t, dir, on("one"))
	put(t, e, "b", "after the backup")
	closeNow(t, e)
	saved, err := os.ReadFile(filepath.Join(dir, l1File))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dbs, "one"), backup, 0o600); err != nil {
		t.Fatal(err)
	}
	e, n = openRestored(t, dir, on("one"))
	if n != 0 {
		t.Errorf("%d records restored that are ahead of the database", n)
	}
	wantAbsent(t, e, "b")
	for i := range 5 {
		put(t, e, fmt.Sprint("other", i), "")
	}
	closeNow(t, e)
	if err := os.WriteFile(filepath.Join(dir, l1File), saved, 0o600); err != nil {
		t.Fatal(err)
	}
	e, n = openRestored(t, dir, on("one"))
	if n != 0 {
		t.Errorf("%d records restored of a history that is gone", n)
	}
	wantAbsent(t, e, "b")
}

// TestM4_CorruptSnapshot: a flipped bit costs the block it is in; all answers are
// right.
func TestM4_CorruptSnapshot(t *testing.T) {
	dir, n := t.TempDir(), scale(1000, 200)
	e, _ := openRestored(t, dir, nil)
	fillMemory(t, e, n)
	closeNow(t, e)
	path := filepath.Join(dir, l1File)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []int{5, len(whole) / 4, len(whole) - 3} {
		bad := bytes.Clone(whole)
		bad[at] ^= 4
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		e, restored := openRestored(t, dir, nil)
		if at == len(whole)/4 && (restored == n || restored < n/2) {
			t.Errorf("%d of %d records restored with one block corrupt", restored, n)
		}
		fromMemory(t, e, n) // compares
		closeNow(t, e)
	}
}

// TestM5_WrittenBeforeRestored: what is written, deleted or purged after the start and
// before the snapshot is read stands, although L1 has no trace of it.
func TestM5_WrittenBeforeRestored(t *testing.T) {
	dir := t.TempDir()
	e, _ := openRestored(t, dir, nil)
	for _, id := range []string{"kept", "deleted", "below"} {
		put(t, e, id, "old "+id)
	}
	putSite(t, e, "purged", time.Hour, "t")
	putSite(t, e, "replaced", time.Hour)
	flush(t, e)
	closeNow(t, e)
	store := &tiertest.Store{}
	store.SetDown(true)
	done := make(chan int, 1)
	e = open(t, dir, func(o *tiers.Options) {
		o.WrapStore, o.L1Snapshot, o.Restored = store.Wrap, true, func(n int) { done <- n }
	})
	if _, err := e.Delete(t.Context(), key(t, "deleted"), nil, 0); err != nil {
		t.Fatal(err)
	}
	putBelow(t, e, "below", "new")
	if _, err := e.Purge(t.Context(), tiers.Purge{Namespaces: item.InSites, Match: item.MatchTag, Values: []string{"t"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Submit(t.Context(), &tiers.Write{Key: siteKey("replaced"), Content: nil, Tiers: item.L2, Durability: item.DurabilityMemory}); err != nil {
		t.Fatal(err)
	}
	restored := make(chan struct{})
	store.OnApply(func([]l3.Op) { <-restored }, nil) // else L3's changes tell of it
	store.SetDown(false)
	<-done
	wantAbsent(t, e, "deleted")
	close(restored)
	wantFrom(t, e, "kept", "old kept", tiers.FromL1)
	flush(t, e)
	want(t, e, "below", "new")
	wantAbsent(t, e, "deleted")
	for _, name := range []string{"purged", "replaced"} {
		if h, ok, _ := e.Get(t.Context(), siteKey(name), tiers.ReadOptions{}); ok {
			if len(h.View.Content()) > 0 {
				t.Errorf("the %s answer is back", name)
			}
			h.Release()
		}
	}
}

// TestM6_Lifetimes: a copy ends when it would have ended, also while the node was
// down.
func TestM6_Lifetimes(t *testing.T) {
	var now atomic.Int64
	now.Store(time.Now().UnixMilli())
	clock := func(o *tiers.Options) { o.Now = now.Load }
	dir := t.TempDir()
	e, _ := openRestored(t, dir, clock)
	putSite(t, e, "minute", time.Minute)
	putSite(t, e, "hour", time.Hour)
	closeNow(t, e)
	now.Add(time.Minute.Milliseconds() - 1000)
	e, _ = openRestored(t, dir, clock)
	if there, _ := site(t, e, "minute"); !there {
		t.Error("gone before its time")
	}
	now.Add(2000)
	if there, _ := site(t, e, "minute"); there {
		t.Error("there after its time")
	}
	closeNow(t, e)
	e, n := openRestored(t, dir, clock)
	if there, _ := site(t, e, "hour"); !there || n != 1 {
		t.Errorf("%v: %d restored, want the one whose time is not over", there, n)
	}
}
