package tiers_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edgenode/edgenode/tiers"
	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/l3"
	"github.com/edgenode/edgenode/tiers/tiertest"
)

// TestC1_OutageIsNotAbsence: while L3 fails nothing is reported as absent that
// only L3 can know, and the failure is not remembered afterwards.
func TestC1_OutageIsNotAbsence(t *testing.T) { overSQL(t, testC1OutageIsNotAbsence) }

func testC1OutageIsNotAbsence(t *testing.T) {
	dir, store := t.TempDir(), &tiertest.Store{}
	e := open(t, dir, nil)
	put(t, e, "k", "v")
	e = reopen(t, e, dir, func(o *tiers.Options) { o.WrapStore, o.FilterOff = store.Wrap, true })
	store.SetDown(true)
	_, _, err := e.Get(t.Context(), key(t, "k"), tiers.ReadOptions{})
	if !errors.Is(err, tiers.ErrUnavailable) {
		t.Errorf("get: %v, want ErrUnavailable", err)
	}
	e.GetMany(t.Context(), []item.Key{key(t, "k"), key(t, "l"), key(t, "m")}, tiers.ReadOptions{}, func(i int, _ *tiers.Hit, ok bool, err error) {
		if ok || !errors.Is(err, tiers.ErrUnavailable) {
			t.Errorf("get many, key %d: %v, %v, want ErrUnavailable", i, ok, err)
		}
	})
	if _, err := e.List(t.Context(), tiers.Query{}, func(item.View) error { return nil }); !errors.Is(err, tiers.ErrUnavailable) {
		t.Errorf("list: %v, want ErrUnavailable", err)
	}
	if _, _, err := e.Count(t.Context(), tiers.Query{}); !errors.Is(err, tiers.ErrUnavailable) {
		t.Errorf("count: %v, want ErrUnavailable", err)
	}
	if _, err := e.CompareAndSubmit(t.Context(), &tiers.Condition{NoneAny: true}, &tiers.Write{Key: key(t, "k")}); !errors.Is(err, tiers.ErrStateUnknown) && !errors.Is(err, tiers.ErrUnavailable) {
		t.Errorf("conditional write: %v, want ErrStateUnknown, or ErrUnavailable on a shared L3", err)
	}
	state := "s"
	if _, err := e.Change(t.Context(), key(t, "k"), tiers.MetadataChange{State: &state}); !errors.Is(err, tiers.ErrStateUnknown) && !errors.Is(err, tiers.ErrUnavailable) {
		t.Errorf("change: %v, want ErrStateUnknown, or ErrUnavailable on a shared L3", err)
	}
	if r, err := e.Delete(t.Context(), key(t, "other"), nil, 0); err != nil || r.Existed != tiers.ExistedUnknown {
		t.Errorf("delete: %v, %v, want unknown", r.Existed, err)
	}
	store.SetDown(false)
	e.ProbeL3()
	want(t, e, "k", "v")
}

// TestC2_OneFillPerMiss: many readers of a missing id cause one read of L3 and
// one fill; an existing item is never replaced by a fill.
func TestC2_OneFillPerMiss(t *testing.T) { overSQL(t, testC2OneFillPerMiss) }

func testC2OneFillPerMiss(t *testing.T) {
	dir, store := t.TempDir(), &tiertest.Store{}
	e := open(t, dir, nil)
	put(t, e, "there", "v")
	e = reopen(t, e, dir, func(o *tiers.Options) { o.WrapStore, o.FilterOff = store.Wrap, true }) // its keeper reads too
	reading, goOn := make(chan struct{}, 100), make(chan struct{})
	store.OnGet(func(item.Key) {
		reading <- struct{}{}
		<-goOn
	})
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() { want(t, e, "there", "v") })
	}
	<-reading
	for e.Waiters(key(t, "there")) < 99 {
		if gets, _ := store.Calls(); gets > 1 {
			break
		}
		runtime.Gosched()
	}
	close(goOn)
	wg.Wait()
	if gets, _ := store.Calls(); gets != 1 {
		t.Errorf("100 readers caused %d reads of L3, want 1", gets)
	}
	store.OnGet(nil)
	var fills atomic.Int64
	for range 100 {
		wg.Go(func() {
			h, _, err := e.GetOrInsert(t.Context(), key(t, "new"), func(context.Context) (*tiers.Write, error) {
				return &tiers.Write{Content: fmt.Appendf(nil, "fill %d", fills.Add(1))}, nil
			})
			if err != nil || string(h.View.Content()) != "fill 1" {
				t.Errorf("get or insert: %q, %v", h.View.Content(), err)
			}
			h.Release()
		})
	}
	wg.Wait()
	if n := fills.Load(); n != 1 {
		t.Errorf("the fill ran %d times, want 1", n)
	}
	store.SetDown(true)
	_, _, err := e.GetOrInsert(t.Context(), key(t, "unknown"), func(context.Context) (*tiers.Write, error) {
		t.Error("a fill ran while nobody can tell whether the item exists")
		return &tiers.Write{}, nil
	})
	if !errors.Is(err, tiers.ErrUnavailable) {
		t.Errorf("get or insert during an outage: %v, want ErrUnavailable", err)
	}
}

// TestC3_ExpiryIsExact: at its time, and not a millisecond later, an item is
// gone from every tier.
func TestC3_ExpiryIsExact(t *testing.T) { overBackends(t, testC3ExpiryIsExact) }

func testC3ExpiryIsExact(t *testing.T) {
	var now atomic.Int64
	now.Store(time.Now().UnixMilli())
	clock := func(o *tiers.Options) { o.Now, o.ExpirySweep = now.Load, time.Hour }
	f := func(name string, prepare func(e *tiers.Engine, dir string) *tiers.Engine) {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			e := open(t, dir, clock)
			if _, err := e.Submit(t.Context(), &tiers.Write{Key: key(t, "k"), Content: []byte("v"), TTL: time.Second}); err != nil {
				t.Fatal(err)
			}
			e = prepare(e, dir)
			defer e.Close(context.Background()) // before its directory goes
			now.Add(999)
			want(t, e, "k", "v")
			now.Add(1)
			wantAbsent(t, e, "k")
			if n, _, err := e.Count(t.Context(), tiers.Query{}); err != nil || n != 0 {
				t.Errorf("count %d, %v, want 0", n, err)
			}
			if _, err := e.List(t.Context(), tiers.Query{}, func(item.View) error { return errors.New("listed") }); err != nil {
				t.Error(err)
			}
		})
	}
	f("L1", func(e *tiers.Engine, _ string) *tiers.Engine { return e })
	f("pending", func(e *tiers.Engine, dir string) *tiers.Engine {
		e.CloseAbruptly()
		return open(t, dir, func(o *tiers.Options) { clock(o); o.BatchFlush = 1 << 40 })
	})
	f("L3", func(e *tiers.Engine, dir string) *tiers.Engine {
		flush(t, e)
		return reopen(t, e, dir, clock)
	})
}

// TestC3_LifetimeInL1 ends the copy in L1 alone: the item is read from L3.
func TestC3_LifetimeInL1(t *testing.T) {
	var now atomic.Int64
	now.Store(time.Now().UnixMilli())
	e := open(t, t.TempDir(), func(o *tiers.Options) { o.Now = now.Load })
	if _, err := e.Submit(t.Context(), &tiers.Write{Key: key(t, "k"), Content: []byte("v"), L1TTL: time.Second}); err != nil {
		t.Fatal(err)
	}
	flush(t, e)
	f := func(from tiers.Source) {
		t.Helper()
		h, ok, err := e.Get(t.Context(), key(t, "k"), tiers.ReadOptions{})
		if err != nil || !ok || h.Source != from {
			t.Fatalf("got %v from %v, %v, want it from %v", ok, h.Source, err, from)
		}
		h.Release()
	}
	f(tiers.FromL1)
	now.Add(1000)
	f(tiers.FromL3)
	f(tiers.FromL1) // a new copy has a new lifetime
}

// TestC11_SameBytesFromEveryTier: content, entity tag and metadata are the same
// from L1, the journal and L3.
func TestC11_SameBytesFromEveryTier(t *testing.T) { overSQL(t, testC11SameBytesFromEveryTier) }

func testC11SameBytesFromEveryTier(t *testing.T) {
	dir := t.TempDir()
	slow := func(o *tiers.Options) { o.BatchFlush = 1 << 40 }
	e := open(t, dir, slow)
	w := &tiers.Write{
		Key: key(t, "k"), Content: []byte(" {\"n\": 1.0, \"n\": 2}\r\n"), MIME: "application/problem+json; charset=utf-8",
		State: "ready", Tags: []string{"b", "a"}, Response: []byte("x: y\x00"),
		TraceParent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", TTL: time.Hour,
	}
	r, err := e.Submit(t.Context(), w)
	if err != nil {
		t.Fatal(err)
	}
	var first []byte
	f := func(e *tiers.Engine, from tiers.Source) {
		t.Helper()
		h, ok, err := e.Get(t.Context(), w.Key, tiers.ReadOptions{Verify: true})
		if err != nil || !ok || h.Source != from {
			t.Fatalf("%v from %v, %v; want it from %v", ok, h.Source, err, from)
		}
		defer h.Release()
		if h.View.ETag() != r.ETag || h.View.Version() != r.Version || !bytes.Equal(h.View.Content(), w.Content) {
			t.Errorf("from %v: content %q, entity tag %v, version %v", from, h.View.Content(), h.View.ETag(), h.View.Version())
		}
		if first == nil {
			first = bytes.Clone(h.View)
		}
		if !bytes.Equal(h.View, first) {
			t.Errorf("the record from %v is not the one from L1:\n%q\n%q", from, h.View, first)
		}
	}
	f(e, tiers.FromL1)
	store := &tiertest.Store{}
	store.SetDown(true)
	e.CloseAbruptly()
	e = open(t, dir, func(o *tiers.Options) { slow(o); o.WrapStore = store.Wrap })
	f(e, tiers.FromPending)
	store.SetDown(false)
	e.ProbeL3()
	e = reopen(t, e, dir, nil)
	f(e, tiers.FromL3)
	f(e, tiers.FromL1)
}

// TestC20_ExistenceErrorsAreErrors: a backend's failure is never "no".
func TestC20_ExistenceErrorsAreErrors(t *testing.T) {
	overSQL(t, testC20ExistenceErrorsAreErrors)
}

func testC20ExistenceErrorsAreErrors(t *testing.T) {
	dir, store := t.TempDir(), &tiertest.Store{}
	e := open(t, dir, nil)
	put(t, e, "k", "v")
	e = reopen(t, e, dir, func(o *tiers.Options) { o.WrapStore = store.Wrap })
	store.SetDown(true)
	if ok, err := e.Contains(t.Context(), key(t, "k")); ok || !errors.Is(err, tiers.ErrUnavailable) {
		t.Errorf("contains: %v, %v, want ErrUnavailable", ok, err)
	}
	if ok, err := e.IsCurrent(t.Context(), key(t, "k"), [32]byte{}); ok || !errors.Is(err, tiers.ErrUnavailable) {
		t.Errorf("is current: %v, %v, want ErrUnavailable", ok, err)
	}
	if st, err := e.Status(t.Context(), key(t, "k")); !errors.Is(err, tiers.ErrUnavailable) {
		t.Errorf("status: %+v, %v, want ErrUnavailable", st, err)
	}
	store.SetDown(false)
	e.ProbeL3()
	if ok, err := e.Contains(t.Context(), key(t, "k")); !ok || err != nil {
		t.Errorf("contains: %v, %v, want true", ok, err)
	}
	if ok, err := e.Contains(t.Context(), key(t, "none")); ok || err != nil {
		t.Errorf("contains of nothing: %v, %v, want false", ok, err)
	}
}

// TestC21_StatusIsNeverMissing asks for the status of an acknowledged item at
// every moment of a flush that is held up before and after its commit.
func TestC21_StatusIsNeverMissing(t *testing.T) { overBackends(t, testC21StatusIsNeverMissing) }

func testC21StatusIsNeverMissing(t *testing.T) {
	store := &tiertest.Store{}
	e := open(t, t.TempDir(), func(o *tiers.Options) { o.WrapStore, o.BatchFlush = store.Wrap, 1<<40 })
	k := key(t, "k")
	f := func(want ...string) {
		t.Helper()
		st, err := e.Status(t.Context(), k)
		for _, w := range want {
			if err == nil && st.Where == w {
				return
			}
		}
		t.Errorf("status %q, %v, want one of %v", st.Where, err, want)
	}
	f(tiers.StatusMissing)
	put(t, e, "k", "v")
	f(tiers.StatusJournaled)
	before, after, goOn := make(chan struct{}), make(chan struct{}), make(chan struct{})
	store.OnApply(
		func([]l3.Op) { before <- struct{}{}; <-goOn },
		func([]l3.Op) { after <- struct{}{}; <-goOn })
	done := make(chan struct{})
	stop := make(chan struct{})
	go func() {
		defer close(done)
		flush(t, e)
	}()
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			f(tiers.StatusJournaled, tiers.StatusSynced)
			select {
			case <-stop:
				return
			default:
			}
		}
	})
	<-before
	f(tiers.StatusJournaled)
	goOn <- struct{}{}
	<-after
	f(tiers.StatusJournaled)
	goOn <- struct{}{}
	<-done
	f(tiers.StatusSynced)
	close(stop)
	wg.Wait()
	if _, err := e.Submit(t.Context(), &tiers.Write{Key: k, Durability: item.DurabilityMemory}); err != nil {
		t.Fatal(err)
	}
	f(tiers.StatusPending)
	store.OnApply(nil, nil)
}
