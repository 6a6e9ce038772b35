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

	"github.com/VictoriaMetrics/metrics"

	"github.com/edgenode/edgenode/tiers"
	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/l3"
	"github.com/edgenode/edgenode/tiers/tiertest"
	"github.com/edgenode/edgenode/tiers/tiertest/crashfs"
)

// TestG1_LargeItemsAreFlushedAsTheyAre: records that fill the batch's buffer to
// the last byte, and records larger than it.
func TestG1_LargeItemsAreFlushedAsTheyAre(t *testing.T) {
	dir := t.TempDir()
	change := func(o *tiers.Options) {
		o.MaxPayloadBytes, o.BatchFlush, o.BatchFlushBytes = 4<<20, 1<<40, 8<<20
	}
	e := open(t, dir, change)
	for i, size := range []int{900_000, 1<<20 - 1800, 3 << 20, 600_000, 950_000} {
		id := string(rune('a' + i))
		if _, err := e.Submit(t.Context(), &tiers.Write{Key: key(t, id), Content: bytes.Repeat([]byte{id[0]}, size), Durability: item.DurabilitySync}); err != nil {
			t.Fatal(err)
		}
	}
	flush(t, e)
	e.Close(context.Background())
	e = open(t, dir, change)
	for i, size := range []int{900_000, 1<<20 - 1800, 3 << 20, 600_000, 950_000} {
		id := string(rune('a' + i))
		want(t, e, id, string(bytes.Repeat([]byte{id[0]}, size)))
	}
	if st, err := e.Status(t.Context(), key(t, "c")); err != nil || st.Where != tiers.StatusSynced {
		t.Errorf("status %+v, %v, want synced", st, err)
	}
}

// TestG3_NoPromotionAcrossAPublish: a read of L3 that begins between the look
// at pending and a write that is published then must not bring the old row
// into L1.
func TestG3_NoPromotionAcrossAPublish(t *testing.T) {
	e := open(t, t.TempDir(), nil)
	n := scale(200_000, 10_000)
	ids := make([]string, n)
	ws, out := make([]*tiers.Write, n), make([]tiers.Receipt, n)
	for i := range ids {
		ids[i] = fmt.Sprintf("p/%d", i)
		ws[i] = &tiers.Write{Key: key(t, ids[i]), Content: []byte("v1"), Durability: item.DurabilityMemory}
	}
	e.SubmitMany(t.Context(), ws, out)
	flush(t, e)
	if _, err := e.Purge(t.Context(), tiers.Purge{Namespaces: item.InItems, Match: item.MatchAll}); err != nil {
		t.Fatal(err)
	}
	for _, id := range ids {
		k := key(t, id)
		var ready, done sync.WaitGroup
		ready.Add(2)
		done.Go(func() {
			ready.Done()
			ready.Wait()
			if h, ok, err := e.Get(t.Context(), k, tiers.ReadOptions{}); err != nil || !ok {
				t.Errorf("get %s: %v, %v", id, ok, err)
			} else {
				h.Release()
			}
		})
		done.Go(func() {
			ready.Done()
			ready.Wait()
			w := tiers.Write{Key: k, Content: []byte("v2"), Durability: item.DurabilityMemory, Tiers: item.L3}
			if _, err := e.Submit(t.Context(), &w); err != nil {
				t.Error(err)
			}
		})
		done.Wait()
		want(t, e, id, "v2")
	}
}

// TestD_CloseWhileCallsGoOn: Close waits for the calls under way, and these do
// not wait for Close: what has entered the engine must not enter again.
func TestD_CloseWhileCallsGoOn(t *testing.T) {
	f := func(name string, call func(e *tiers.Engine)) {
		t.Run(name, func(t *testing.T) {
			inside, goOn := make(chan struct{}), make(chan struct{})
			var armed atomic.Bool
			hold := func() {
				if armed.CompareAndSwap(true, false) {
					close(inside)
					<-goOn
				}
			}
			store := &scanHook{scan: hold}
			now := func() int64 { hold(); return time.Now().UnixMilli() }
			e := open(t, t.TempDir(), func(o *tiers.Options) { o.Now, o.WrapStore, o.BatchFlush, o.FilterOff = now, store.wrap, 1<<40, true })
			state := "s"
			if _, err := e.Submit(t.Context(), &tiers.Write{Key: key(t, "k"), State: state}); err != nil {
				t.Fatal(err)
			}
			armed.Store(true)
			called, closed := make(chan struct{}), make(chan struct{})
			go func() { defer close(called); call(e) }()
			<-inside
			go func() { defer close(closed); e.Close(context.Background()) }()
			for !e.CloseWaits() {
				runtime.Gosched()
			}
			close(goOn)
			for _, c := range []chan struct{}{called, closed} {
				select {
				case <-c:
				case <-time.After(time.Minute):
					t.Fatal("call and Close wait for each other")
				}
			}
		})
	}
	f("delete", func(e *tiers.Engine) { e.Delete(context.Background(), key(t, "absent"), nil, 0) })
	f("condition", func(e *tiers.Engine) {
		e.Submit(context.Background(), &tiers.Write{Key: key(t, "absent"), If: &tiers.Condition{NoneAny: true}})
	})
	f("many", func(e *tiers.Engine) {
		w := tiers.Write{Key: key(t, "absent"), If: &tiers.Condition{NoneAny: true}}
		e.SubmitMany(context.Background(), []*tiers.Write{&w}, make([]tiers.Receipt, 1))
	})
	f("delete by state", func(e *tiers.Engine) {
		e.DeleteMatching(context.Background(), tiers.Query{State: "s"}, 0)
	})
}

// A scanHook calls scan before each Scan.
type scanHook struct {
	tiers.Store
	scan func()
}

func (s *scanHook) wrap(real tiers.Store) tiers.Store { s.Store = real; return s }

func (s *scanHook) Scan(ctx context.Context, q l3.ScanQuery, fn func(item.View) error) error {
	s.scan()
	return s.Store.Scan(ctx, q, fn)
}

// TestG1_ChangeOfLifetimeHoldsBackExpiry: an item is given more time while it
// is alive; L3 learns of it only after the old time is over.
func TestG1_ChangeOfLifetimeHoldsBackExpiry(t *testing.T) {
	var now atomic.Int64
	now.Store(time.Now().UnixMilli())
	store := &expireHook{done: make(chan int64, 100)}
	dir := t.TempDir()
	change := func(o *tiers.Options) {
		o.Now, o.WrapStore, o.BatchFlush, o.ExpirySweep = now.Load, store.wrap, 1<<40, time.Millisecond
	}
	e := open(t, dir, change)
	if _, err := e.Submit(t.Context(), &tiers.Write{Key: key(t, "k"), Content: []byte("v"), TTL: time.Second}); err != nil {
		t.Fatal(err)
	}
	flush(t, e)
	now.Add(900)
	longer := time.Hour
	if _, err := e.Change(t.Context(), key(t, "k"), tiers.MetadataChange{TTL: &longer}); err != nil {
		t.Fatal(err)
	}
	now.Add(200)
	sweepTwice := func() {
		t.Helper()
		for len(store.done) > 0 {
			<-store.done
		}
		<-store.done
		<-store.done
	}
	sweepTwice()
	flush(t, e)
	e = reopen(t, e, dir, change)
	want(t, e, "k", "v")
	now.Add(time.Hour.Milliseconds())
	flush(t, e)
	for at := int64(0); at < now.Load(); { // nothing is held back for ever
		at = <-store.done
	}
	wantAbsent(t, e, "k")
}

// An expireHook tells up to when rows were expired.
type expireHook struct {
	tiers.Store
	done chan int64
}

func (s *expireHook) wrap(real tiers.Store) tiers.Store { s.Store = real; return s }

func (s *expireHook) Expire(ctx context.Context, now int64, limit int) (int, error) {
	n, err := s.Store.Expire(ctx, now, limit)
	select {
	case s.done <- now:
	default:
	}
	return n, err
}

// TestB10_ScopeHoldsForTags: a delete by tag never leaves the caller's scope,
// whatever prefix it names.
func TestB10_ScopeHoldsForTags(t *testing.T) {
	e := open(t, t.TempDir(), nil)
	for _, id := range []string{"a/long/1", "b/1", "b/sub/1"} {
		if _, err := e.Submit(t.Context(), &tiers.Write{Key: key(t, id), Content: []byte("v"), Tags: []string{"t"}}); err != nil {
			t.Fatal(err)
		}
	}
	if r, err := e.DeleteMatching(t.Context(), tiers.Query{Tag: "t", Prefix: "a/long", Scope: "b/"}, 0); err != nil || !r.Complete {
		t.Errorf("delete that selects nothing: %+v, %v", r, err)
	}
	want(t, e, "a/long/1", "v")
	if _, err := e.DeleteMatching(t.Context(), tiers.Query{Tag: "t", Prefix: "b/s", Scope: "b/"}, 0); err != nil {
		t.Error(err)
	}
	want(t, e, "b/1", "v")
	wantAbsent(t, e, "b/sub/1")
	if _, err := e.DeleteMatching(t.Context(), tiers.Query{Tag: "t", Prefix: "b", Scope: "b/"}, 0); err != nil {
		t.Error(err)
	}
	want(t, e, "a/long/1", "v")
	wantAbsent(t, e, "b/1")
}

// TestG8_ErrorOfTheCallerIsNoOutage: what the function given to List returns
// comes back as it is, and L3 stays up.
func TestG8_ErrorOfTheCallerIsNoOutage(t *testing.T) {
	e := open(t, t.TempDir(), nil)
	put(t, e, "k", "v")
	flush(t, e)
	mine := errors.New("client is gone")
	_, err := e.List(t.Context(), tiers.Query{}, func(item.View) error { return mine })
	if !errors.Is(err, mine) || errors.Is(err, tiers.ErrUnavailable) {
		t.Errorf("error %v, want the caller's own", err)
	}
	if h := e.Health(t.Context()); !h.L3.OK {
		t.Errorf("L3 counts as down: %s", h.L3.Error)
	}
}

// TestG4_AnOlderAnswerLeavesL1: an answer of an origin that was asked for
// before another came and went to L3. It is stored, since nothing newer is in
// memory; it must not stay in L1 once L3 has shown what it holds.
func TestG4_AnOlderAnswerLeavesL1(t *testing.T) {
	e := open(t, t.TempDir(), func(o *tiers.Options) { o.BatchFlush = 1 << 40 })
	k := item.AppendKey(nil, item.NamespaceSite, "host/path")
	early, late := e.Stamp(), e.Stamp()
	store := func(content string, v item.Version, where item.Tiers) {
		t.Helper()
		if _, err := e.Submit(t.Context(), &tiers.Write{Key: k, Content: []byte(content), Version: v, Tiers: where}); err != nil {
			t.Fatal(err)
		}
	}
	store("late", late, item.L3) // not in L1, as if it had been evicted
	flush(t, e)
	store("early", early, item.AllTiers)
	flush(t, e)
	h, ok, err := e.Get(t.Context(), k, tiers.ReadOptions{Tiers: item.AllTiers})
	if err != nil || !ok {
		t.Fatalf("get: %v, %v", ok, err)
	}
	defer h.Release()
	if got := string(h.View.Content()); got != "late" {
		t.Errorf("got %q of version %s, want %q of version %s", got, h.View.Version(), "late", late)
	}
}

// TestG4_ReplayedWriteLeavesL1: after a crash and with L3 down, the rest of the
// journal is the best there is; when L3 is back and has something newer, that
// is served, also if the older one is in L1.
func TestG4_ReplayedWriteLeavesL1(t *testing.T) {
	f := func(name string, newer func(e *tiers.Engine), want string) {
		t.Run(name, func(t *testing.T) {
			dir, fs, store := t.TempDir(), crashfs.New(), &tiertest.Store{}
			e := open(t, dir, func(o *tiers.Options) { o.JournalFS, o.BatchFlush = fs, 1<<40 })
			put(t, e, "k", "v1")
			image := fs.Clone()
			newer(e)
			flush(t, e)
			if err := e.CloseAbruptly(); err != nil {
				t.Fatal(err)
			}
			e = open(t, dir, func(o *tiers.Options) { o.JournalFS, o.BatchFlush, o.WrapStore = image, 1<<40, store.Wrap })
			store.SetDown(true)
			get(t, e, "k")
			store.SetDown(false)
			flush(t, e)
			if got, _ := get(t, e, "k"); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
	f("put", func(e *tiers.Engine) {
		if _, err := e.Submit(t.Context(), &tiers.Write{Key: key(t, "k"), Content: []byte("v2"), Durability: item.DurabilityMemory}); err != nil {
			t.Error(err)
		}
	}, "v2")
	f("delete", func(e *tiers.Engine) {
		if _, err := e.Delete(t.Context(), key(t, "k"), nil, item.DurabilityMemory); err != nil {
			t.Error(err)
		}
	}, "")
	f("cache", func(e *tiers.Engine) {
		if _, err := e.Submit(t.Context(), &tiers.Write{Key: key(t, "k"), Content: []byte("v2"), Tiers: item.L1 | item.L2}); err != nil {
			t.Error(err)
		}
	}, "")
}

// TestD_SupersededCountsLostWritesOnly: what L3 is not to hold did not lose.
func TestD_SupersededCountsLostWritesOnly(t *testing.T) {
	set := metrics.NewSet()
	e := open(t, t.TempDir(), func(o *tiers.Options) { o.Metrics = set })
	if _, err := e.Submit(t.Context(), &tiers.Write{Key: key(t, "k"), Tiers: item.L1 | item.L2}); err != nil {
		t.Fatal(err)
	}
	flush(t, e)
	if n := set.GetOrCreateCounter("edgenode_superseded_total").Get(); n != 0 {
		t.Errorf("%d writes superseded, want none", n)
	}
}

// deadLetter puts an item that L3 refuses until it is set aside.
func deadLetter(t *testing.T, e *tiers.Engine, store *tiertest.Store, id string) {
	t.Helper()
	store.Reject(func(op l3.Op) bool { return string(op.Record.Content()) == "poison" })
	put(t, e, id, "poison")
	flush(t, e)
	if st, err := e.Status(t.Context(), key(t, id)); err != nil || st.Where != tiers.StatusDeadLetter {
		t.Fatalf("status of %q: %+v, %v, want a dead letter", id, st, err)
	}
}

// TestG2_DeadLetterDoesNotOutliveItsDelete: the delete is in L3 and has left
// the journal, when a crash replays what the dead letters hold.
func TestG2_DeadLetterDoesNotOutliveItsDelete(t *testing.T) {
	dir, fs, store := t.TempDir(), crashfs.New(), &tiertest.Store{}
	e := open(t, dir, func(o *tiers.Options) {
		o.JournalFS, o.WrapStore, o.BatchFlush, o.DeadLetterTries = fs, store.Wrap, 1<<40, 1
	})
	deadLetter(t, e, store, "k")
	del(t, e, "k")
	flush(t, e)
	put(t, e, "next", "its group carries how far everything is released")
	image := fs.Clone()
	if err := e.CloseAbruptly(); err != nil {
		t.Fatal(err)
	}
	store.SetDown(true)
	e = open(t, dir, func(o *tiers.Options) { o.JournalFS, o.WrapStore = image, store.Wrap })
	h, ok, err := e.Get(t.Context(), key(t, "k"), tiers.ReadOptions{})
	if ok {
		t.Errorf("%q is back: %s", "k", h.View.Content())
		h.Release()
	} else if !errors.Is(err, tiers.ErrUnavailable) {
		t.Errorf("error %v, want %v", err, tiers.ErrUnavailable)
	}
}

// TestG2_BulkDeleteCancelsDeadLetters: a dead letter is an item like others.
func TestG2_BulkDeleteCancelsDeadLetters(t *testing.T) {
	dir, store := t.TempDir(), &tiertest.Store{}
	change := func(o *tiers.Options) { o.WrapStore, o.BatchFlush, o.DeadLetterTries = store.Wrap, 1<<40, 1 }
	f := func(name string, e *tiers.Engine) {
		t.Helper()
		if _, err := e.DeleteMatching(t.Context(), tiers.Query{Prefix: name}, 0); err != nil {
			t.Fatal(err)
		}
		flush(t, e)
		if n := e.PendingItems(); n != 1 {
			t.Errorf("%s: %d ids pending after the delete, want the other dead letter", name, n)
		}
		if st, err := e.Status(t.Context(), key(t, name+"/1")); err != nil || !st.Tombstone || !st.L3 {
			t.Errorf("%s: status %+v, %v, want a tombstone in L3", name, st, err)
		}
	}
	e := open(t, dir, change)
	deadLetter(t, e, store, "a/1")
	deadLetter(t, e, store, "b/1")
	f("a", e)
	deadLetter(t, e, store, "c/1")
	e = reopen(t, e, dir, change)
	flush(t, e) // both are refused again
	f("b", e)
}
