package tiers_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edgenode/edgenode/tiers"
	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/l3"
	"github.com/edgenode/edgenode/tiers/tiertest"
)

// nodesOf returns what L3 knows of its nodes.
func nodesOf(t *testing.T, s *tiertest.Store) []l3.NodeInfo {
	t.Helper()
	list, err := s.Store.Nodes(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// onFile puts the engine's L3 into a file beside its directory, under a layer.
func onFile(path string, s *tiertest.Store) func(*tiers.Options) {
	return func(o *tiers.Options) {
		o.SQLitePath, o.WrapStore, o.NodeName = path, s.Wrap, "node of "+filepath.Base(o.DataDir)
	}
}

// TestA20_SecondHolderOfAnIdentity: a copied data directory does not start while
// the first node lives, and is told of it; when that has left, it does.
func TestA20_SecondHolderOfAnIdentity(t *testing.T) {
	root := t.TempDir()
	db, first, second := filepath.Join(root, "l3.db"), filepath.Join(root, "first"), filepath.Join(root, "second")
	store := &tiertest.Store{}
	e := open(t, first, func(o *tiers.Options) { onFile(db, store)(o); o.FilterOff = true }) // its files come and go while they are copied
	list := nodesOf(t, store)
	if len(list) != 1 || !list[0].Live || list[0].ID != e.Identity().ID || list[0].Name != "node of first" {
		t.Fatalf("registered: %+v", list)
	}
	if err := os.CopyFS(second, os.DirFS(first)); err != nil {
		t.Fatal(err)
	}
	o := tiers.Options{DataDir: second, Logger: slog.New(slog.DiscardHandler)}
	onFile(db, &tiertest.Store{})(&o)
	copied, err := tiers.Open(t.Context(), o)
	if !errors.Is(err, l3.ErrIdentityInUse) || !strings.Contains(err.Error(), "node of first") {
		t.Errorf("a copy of a node that lives: %v, want ErrIdentityInUse that names it", err)
	}
	if copied != nil {
		copied.Close(context.Background())
	}
	if err := e.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	open(t, second, onFile(db, &tiertest.Store{}))
	if took := time.Since(begin); took > inTime(3*time.Second) {
		t.Errorf("starts after %v though the other has left", took)
	}
}

// TestA20_CrashedNodeComesBackAtOnce: the registration of a killed process does not
// hold up the next one on the same directory; one of another host does not either
// once it is seen not to be renewed.
func TestA20_CrashedNodeComesBackAtOnce(t *testing.T) {
	dir, store := t.TempDir(), &tiertest.Store{}
	e := open(t, dir, func(o *tiers.Options) { o.WrapStore = store.Wrap })
	before := nodesOf(t, store)[0]
	for range 2 {
		if err := e.CloseAbruptly(); err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		e = open(t, dir, func(o *tiers.Options) { o.WrapStore = store.Wrap })
		if took := time.Since(begin); took > inTime(2*time.Second) {
			t.Errorf("starts after %v", took)
		}
		now := nodesOf(t, store)[0]
		if !now.Live || now.Incarnation == before.Incarnation {
			t.Errorf("after a crash: %+v, before %+v", now, before)
		}
		before = now
	}
	if h := e.Health(t.Context()); h.Verdict != "ok" {
		t.Errorf("health %+v", h)
	}
}

// TestA20_L3ComesLater: a node registers when L3 is there, and says in its health
// that another one has its identity.
func TestA20_L3ComesLater(t *testing.T) {
	dir, store := t.TempDir(), &tiertest.Store{}
	e := open(t, dir, func(o *tiers.Options) { o.WrapStore = store.Wrap })
	id := e.Identity().ID
	e.Close(context.Background())
	store.SetDown(true)
	e = open(t, dir, func(o *tiers.Options) { o.WrapStore = store.Wrap })
	other := l3.NodeInfo{ID: id, Name: "the other", Incarnation: "x", LeaseUntil: time.Now().Add(time.Hour).UnixMilli()}
	if err := store.Store.RegisterNode(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	store.SetDown(false)
	until(t, 10*time.Second, "the conflict is named", func() bool {
		return strings.Contains(strings.Join(e.Health(t.Context()).Reasons, " "), "the other")
	})
	other.LeaseUntil = 0
	if err := store.Store.RegisterNode(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	until(t, 10*time.Second, "registered", func() bool { return e.Health(t.Context()).Verdict == "ok" })
	if list := nodesOf(t, store); len(list) != 1 || !list[0].Live || list[0].Name == other.Name {
		t.Errorf("registered: %+v", list)
	}
}

// TestD_ChangesAreTrimmed: changes and tombstones leave when they are past their
// retention and every known node has applied them, and not before; so many changes
// always stay.
func TestD_ChangesAreTrimmed(t *testing.T) {
	var now atomic.Int64
	now.Store(time.Now().UnixMilli())
	store := &tiertest.Store{}
	e := open(t, t.TempDir(), func(o *tiers.Options) {
		o.WrapStore, o.Now, o.TombstoneRetention, o.ClockSkewMax = store.Wrap, now.Load, time.Hour, time.Second
	})
	kept := func() (first, n uint64) {
		last := store.LastSeq()
		for first = 1; first <= last; first++ {
			if store.Store.Changes(t.Context(), first-1, 1, func(l3.Change) error { return nil }) == nil {
				break
			}
		}
		return first, last + 1 - first
	}
	f := func(when string, stay uint64, graves int) {
		t.Helper()
		e.Heartbeat()
		e.Forget(5)
		if _, n := kept(); n != stay {
			t.Errorf("%s: %d changes stay, want %d", when, n, stay)
		}
		found := 0
		for _, id := range []string{"a", "b"} {
			if b, ok, err := store.Store.Get(t.Context(), key(t, id), nil); err == nil && ok && item.View(b).Kind() == item.KindTombstone {
				found++
			}
		}
		if found != graves {
			t.Errorf("%s: %d tombstones stay, want %d", when, found, graves)
		}
	}
	for range 10 {
		put(t, e, "a", "x")
		flush(t, e)
	}
	del(t, e, "a")
	flush(t, e) // 12 changes, with the name of L3
	now.Add((30 * time.Minute).Milliseconds())
	put(t, e, "b", "x")
	flush(t, e)
	del(t, e, "b")
	flush(t, e) // 14
	f("within the retention", 14, 2)
	slow := l3.NodeInfo{ID: "slow", Incarnation: "1", AppliedSeq: 4, LeaseUntil: now.Load() + 3*time.Hour.Milliseconds()}
	if err := store.Store.RegisterNode(t.Context(), slow); err != nil {
		t.Fatal(err)
	}
	now.Add((31 * time.Minute).Milliseconds())
	f("a node has applied four", 10, 2)
	slow.AppliedSeq = 13
	if err := store.Store.RegisterNode(t.Context(), slow); err != nil {
		t.Fatal(err)
	}
	f("past the retention of eleven", 5, 1)
	for range 5 {
		put(t, e, "c", "x")
		flush(t, e)
	}
	f("of the younger none", 10-3, 1)
	now.Add(2 * time.Hour.Milliseconds())
	slow.AppliedSeq, slow.LeaseUntil = 0, now.Load()-2*time.Hour.Milliseconds() // gone for longer than is kept
	if err := store.Store.RegisterNode(t.Context(), slow); err != nil {
		t.Fatal(err)
	}
	f("all old, five stay", 5, 0)
}

// TestC8_ChangesOfOthersAreFollowed: what another node writes to a shared L3
// replaces what this one has in memory, without Redis; also when the changes in
// between are gone.
func TestC8_ChangesOfOthersAreFollowed(t *testing.T) {
	db := filepath.Join(t.TempDir(), "l3.db")
	share := func(s *tiertest.Store) func(*tiers.Options) {
		return func(o *tiers.Options) {
			onFile(db, s)(o)
			o.L3Shared, o.FollowInterval = true, 20*time.Millisecond
		}
	}
	storeA, storeB := &tiertest.Store{}, &tiertest.Store{}
	a, b := open(t, t.TempDir(), share(storeA)), open(t, t.TempDir(), share(storeB))
	seen := func(id, content string) {
		t.Helper()
		until(t, 5*time.Second, content+" seen", func() bool {
			got, ok := get(t, a, id)
			return ok && got == content || !ok && content == ""
		})
	}
	put(t, a, "k", "v1")
	put(t, a, "p/1", "v1")
	flush(t, a)
	r := put(t, b, "k", "v2")
	flush(t, b)
	h, ok, err := a.Get(t.Context(), key(t, "k"), tiers.ReadOptions{MinVersion: r.Version})
	if err != nil || !ok || string(h.View.Content()) != "v2" {
		t.Errorf("at least version %s: %v, %v", r.Version, ok, err)
	}
	h.Release()
	if _, _, err := a.Get(t.Context(), key(t, "k"), tiers.ReadOptions{MinVersion: r.Version + 1}); !errors.Is(err, tiers.ErrTooOld) {
		t.Errorf("a version that is nowhere: %v, want ErrTooOld", err)
	}
	put(t, b, "k", "v3")
	flush(t, b)
	seen("k", "v3")
	if _, err := b.DeleteMatching(t.Context(), tiers.Query{Prefix: "p/"}, 0); err != nil {
		t.Fatal(err)
	}
	flush(t, b)
	seen("p/1", "")

	want(t, a, "k", "v3")
	storeA.SetDown(true)
	put(t, b, "k", "v4")
	flush(t, b)
	if _, err := storeB.TrimChanges(t.Context(), storeB.LastSeq(), 1000); err != nil {
		t.Fatal(err)
	}
	storeA.SetDown(false)
	a.ProbeL3()
	seen("k", "v4")
}
