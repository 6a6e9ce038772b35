package tiers_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/edgenode/edgenode/tiers"
	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/l3"
	"github.com/edgenode/edgenode/tiers/pressure"
	"github.com/edgenode/edgenode/tiers/tiertest"
	"github.com/edgenode/edgenode/tiers/tiertest/crashfs"
)

// awaitingL3 leaves a write of durability l3 of id that L3 does not take, and
// whose caller has given up.
func awaitingL3(t *testing.T, e *tiers.Engine, store *tiertest.Store, id, content string) {
	t.Helper()
	ctx, giveUp := context.WithCancel(t.Context())
	store.OnApply(func([]l3.Op) {
		store.SetDown(true)
		giveUp()
	}, nil)
	_, err := e.Submit(ctx, &tiers.Write{Key: key(t, id), Content: []byte(content), Durability: item.DurabilityL3})
	if !errors.Is(err, tiers.ErrUnknownFate) {
		t.Fatalf("error %v, want %v", err, tiers.ErrUnknownFate)
	}
}

// TestA3_CloseEndsConditionalWrites: a conditional write waits for one of the
// same id that waits for L3; neither keeps Close from ending.
func TestA3_CloseEndsConditionalWrites(t *testing.T) {
	store := &tiertest.Store{}
	e := open(t, t.TempDir(), func(o *tiers.Options) { o.WrapStore = store.Wrap })
	awaitingL3(t, e, store, "k", "v")
	failed := make(chan error, 1)
	go func() {
		_, err := e.Submit(context.Background(), &tiers.Write{Key: key(t, "k"), If: &tiers.Condition{NoneAny: true}})
		failed <- err
	}()
	for !e.CallUnderWay() {
		runtime.Gosched()
	}
	closed := make(chan struct{})
	go func() { defer close(closed); e.Close(context.Background()) }()
	select {
	case <-closed:
	case <-time.After(time.Minute):
		store.SetDown(false)
		t.Fatal("Close waits for a conditional write, which waits for L3")
	}
	if err := <-failed; !errors.Is(err, tiers.ErrShuttingDown) {
		t.Errorf("error %v, want %v", err, tiers.ErrShuttingDown)
	}
}

// TestG9_ConditionalWriteDoesNotWaitForAnOutage: the same, and nobody closes.
func TestG9_ConditionalWriteDoesNotWaitForAnOutage(t *testing.T) {
	store := &tiertest.Store{}
	e := open(t, t.TempDir(), func(o *tiers.Options) { o.WrapStore, o.L3Timeout = store.Wrap, 10*time.Millisecond })
	awaitingL3(t, e, store, "k", "v")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	_, err := e.Submit(ctx, &tiers.Write{Key: key(t, "k"), If: &tiers.Condition{NoneAny: true}})
	if !errors.Is(err, tiers.ErrStateUnknown) {
		t.Errorf("error %v, want %v", err, tiers.ErrStateUnknown)
	}
}

// TestG9_CloseEndsWithItsContext: L3 hangs in a batch and heeds only the
// context that it was given.
func TestG9_CloseEndsWithItsContext(t *testing.T) {
	store := &hangingStore{}
	e := open(t, t.TempDir(), func(o *tiers.Options) { o.WrapStore = store.wrap })
	store.hang.Store(true)
	store.hanging = make(chan struct{}, 10)
	put(t, e, "k", "v")
	<-store.hanging
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	closed := make(chan struct{})
	go func() { defer close(closed); e.Close(ctx) }()
	select {
	case <-closed:
	case <-time.After(time.Minute):
		t.Fatal("Close does not end with its context")
	}
}

type hangingStore struct {
	tiers.Store
	hang    atomic.Bool
	hanging chan struct{}
}

func (s *hangingStore) wrap(real tiers.Store) tiers.Store { s.Store = real; return s }

func (s *hangingStore) Apply(ctx context.Context, ops []l3.Op, rules []item.Rule, out []l3.Outcome) (uint64, error) {
	if s.hang.Load() {
		s.hanging <- struct{}{}
		<-ctx.Done()
		return 0, ctx.Err()
	}
	return s.Store.Apply(ctx, ops, rules, out)
}

// TestG9_RefusedWriteLeavesTheRestToBeFlushed: L3 refuses a write of durability
// l3, whose id has an older write that is still pending.
func TestG9_RefusedWriteLeavesTheRestToBeFlushed(t *testing.T) {
	store := &tiertest.Store{}
	e := open(t, t.TempDir(), func(o *tiers.Options) { o.WrapStore, o.DeadLetterTries, o.BatchFlush = store.Wrap, 1, 1<<40 })
	store.Reject(func(op l3.Op) bool { return string(op.Record.Content()) == "poison" })
	put(t, e, "k", "v")
	_, err := e.Submit(t.Context(), &tiers.Write{Key: key(t, "k"), Content: []byte("poison"), Durability: item.DurabilityL3})
	if !errors.Is(err, tiers.ErrRefused) {
		t.Fatalf("error %v, want %v", err, tiers.ErrRefused)
	}
	flush(t, e)
	want(t, e, "k", "v")
	if n := e.PendingItems(); n != 0 {
		t.Errorf("%d ids pending after the flush", n)
	}
}

// TestD4_OutageIsNotTriedForEveryWrite: while L3 is down and more than a batch
// waits, the flusher tries at its own pace.
func TestD4_OutageIsNotTriedForEveryWrite(t *testing.T) {
	store := &tiertest.Store{}
	e := open(t, t.TempDir(), func(o *tiers.Options) { o.WrapStore, o.BatchFlushCount = store.Wrap, 10 })
	store.SetDown(true)
	begun := time.Now()
	for i := range 3000 {
		w := tiers.Write{Key: key(t, fmt.Sprintf("k/%d", i)), Durability: item.DurabilityMemory}
		if _, err := e.Submit(t.Context(), &w); err != nil {
			t.Fatal(err)
		}
	}
	_, tried := store.Calls()
	if most := 5 + int(time.Since(begun)/(50*time.Millisecond)); tried > most {
		t.Errorf("L3 was tried %d times during the outage, want at most %d", tried, most)
	}
	store.SetDown(false)
	flush(t, e)
	if n := e.PendingItems(); n != 0 {
		t.Errorf("%d ids pending after the outage", n)
	}
}

// TestG7_IdlePendingGivesItsMemoryBack: what pending took from L1's budget goes
// back when it is flushed, also if nobody writes any more.
func TestG7_IdlePendingGivesItsMemoryBack(t *testing.T) {
	store := &tiertest.Store{}
	e := open(t, t.TempDir(), func(o *tiers.Options) { o.WrapStore = store.Wrap })
	store.SetDown(true)
	content := bytes.Repeat([]byte("x"), 1<<20)
	for i := range 8 {
		w := tiers.Write{Key: key(t, fmt.Sprintf("k/%d", i)), Content: content, Durability: item.DurabilityMemory, Tiers: item.L3}
		if _, err := e.Submit(t.Context(), &w); err != nil {
			t.Fatal(err)
		}
	}
	full := e.Health(t.Context()).L1Bytes
	store.SetDown(false)
	flush(t, e)
	if idle := e.Health(t.Context()).L1Bytes; idle > full-6<<20 {
		t.Errorf("%d bytes of the budget taken after the flush, %d before", idle, full)
	}
}

// TestD5_DeleteWhenMemoryIsFull: pending takes all that L1 can give.
func TestD5_DeleteWhenMemoryIsFull(t *testing.T) {
	store := &tiertest.Store{}
	e := open(t, t.TempDir(), func(o *tiers.Options) {
		o.WrapStore = store.Wrap
		o.Pressure = pressure.Thresholds{Warn: 0.995, Throttle: 0.996, Critical: 0.997, Emergency: 0.998, Shutdown: 0.999}
	})
	store.SetDown(true)
	content := bytes.Repeat([]byte("x"), 100<<10)
	var err error
	for i := 0; err == nil && i < 1000; i++ {
		_, err = e.Submit(t.Context(), &tiers.Write{Key: key(t, fmt.Sprintf("k/%d", i)), Content: content, Durability: item.DurabilityMemory})
	}
	if !errors.Is(err, tiers.ErrPressure) {
		t.Fatalf("error %v, want %v", err, tiers.ErrPressure)
	}
	for i := range 3000 {
		if _, err := e.Delete(t.Context(), key(t, fmt.Sprintf("d/%d", i)), nil, item.DurabilityMemory); err != nil {
			t.Fatalf("delete %d: %v", i, err)
		}
	}
}

// TestG9_PurgeDoesNotWaitForAnotherSweep: a rule holds from its acknowledgement,
// which does not wait for the sweep of another.
func TestG9_PurgeDoesNotWaitForAnotherSweep(t *testing.T) {
	sweeping, goOn := make(chan struct{}), make(chan struct{})
	var once sync.Once
	store := &sweepHook{sweep: func() {
		once.Do(func() {
			close(sweeping)
			<-goOn
		})
	}}
	e := open(t, t.TempDir(), func(o *tiers.Options) { o.WrapStore = store.wrap })
	put(t, e, "a/1", "v")
	put(t, e, "b/1", "v")
	flush(t, e)
	var done sync.WaitGroup
	done.Go(func() { e.DeleteMatching(t.Context(), tiers.Query{Prefix: "a/"}, 0) })
	<-sweeping
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	acked := make(chan error, 1)
	go func() {
		_, err := e.DeleteMatching(ctx, tiers.Query{Prefix: "b/"}, 0)
		acked <- err
	}()
	select {
	case err := <-acked:
		if err != nil {
			t.Errorf("delete: %v", err)
		}
		wantAbsent(t, e, "b/1")
		close(goOn)
	case <-time.After(time.Minute):
		close(goOn)
		t.Error("a bulk delete waits for the sweep of another")
		<-acked
	}
	done.Wait()
}

type sweepHook struct {
	tiers.Store
	sweep func()
}

func (s *sweepHook) wrap(real tiers.Store) tiers.Store { s.Store = real; return s }

func (s *sweepHook) SweepRule(ctx context.Context, rule item.Rule, limit int) (int, bool, error) {
	s.sweep()
	return s.Store.SweepRule(ctx, rule, limit)
}

// TestG1_SameVersionTwice: answers of one fetch may share its version; what is
// kept in memory for one id is not taken for another's, nor counted twice.
func TestG1_SameVersionTwice(t *testing.T) {
	store := &tiertest.Store{}
	e := open(t, t.TempDir(), func(o *tiers.Options) { o.WrapStore = store.Wrap })
	store.SetDown(true)
	stamp := e.Stamp()
	const n = 3000 // more than there are stripes
	siteKey := func(i int) item.Key { return item.AppendKey(nil, item.NamespaceSite, fmt.Sprintf("host/%d", i)) }
	submit := func(i int) error {
		w := tiers.Write{Key: siteKey(i), Content: fmt.Append(nil, i), Version: stamp, Tiers: item.L3}
		_, err := e.Submit(t.Context(), &w)
		return err
	}
	for i := range n {
		if err := submit(i); err != nil {
			t.Fatal(err)
		}
	}
	for i := range n {
		h, ok, err := e.Get(t.Context(), siteKey(i), tiers.ReadOptions{})
		if err != nil || !ok {
			t.Fatalf("get %d: %v, %v", i, ok, err)
		}
		if got := string(h.View.Content()); got != fmt.Sprint(i) || string(h.View.Key()) != string(siteKey(i)) {
			t.Fatalf("under %q is %q of %q", siteKey(i), got, h.View.Key())
		}
		h.Release()
	}
	if err := submit(0); !errors.Is(err, tiers.ErrSuperseded) {
		t.Errorf("the same version again: error %v, want %v", err, tiers.ErrSuperseded)
	}
	store.SetDown(false)
	flush(t, e)
	if _, _, memory, _ := e.CountedBytes(); memory != 0 {
		t.Errorf("%d bytes counted after the flush", memory)
	}
}

// TestD10_WhatDoesNotReloadIsNamed: nothing is silently ignored.
func TestD10_WhatDoesNotReloadIsNamed(t *testing.T) {
	dir := t.TempDir()
	o := tiers.Options{DataDir: dir, L1MaxBytes: 16 << 20, MaxPayloadBytes: 1 << 20, JournalMaxBytes: 64 << 20, Logger: slog.New(slog.DiscardHandler)}
	e := open(t, dir, func(to *tiers.Options) { *to = o })
	f := func(name string, change func(*tiers.Options)) {
		t.Helper()
		changed := o
		change(&changed)
		if err := e.Reload(changed); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: error %v, want one that names it", name, err)
		}
	}
	if err := e.Reload(o); err != nil {
		t.Errorf("nothing changed: %v", err)
	}
	f("node_name", func(o *tiers.Options) { o.NodeName = "other" })
	f("sqlite_wal_max", func(o *tiers.Options) { o.SQLiteWALMax = 1 << 20 })
	f("clock_skew_max", func(o *tiers.Options) { o.ClockSkewMax = time.Hour })
	f("l3_shared", func(o *tiers.Options) { o.L3Shared = true })
	f("redis_url", func(o *tiers.Options) { o.RedisURL = "redis://127.0.0.1:1" })
	f("MaxWaiters", func(o *tiers.Options) { o.MaxWaiters = 1 })
}

// TestG8_AListNeverPassesOverWhatItCannotRead: a pending record that the
// journal cannot read is not replaced by the older row in L3.
func TestG8_AListNeverPassesOverWhatItCannotRead(t *testing.T) {
	fs := crashfs.New()
	e := open(t, t.TempDir(), func(o *tiers.Options) { o.JournalFS, o.BatchFlush = fs, 1<<40 })
	put(t, e, "k", "v1")
	flush(t, e)
	put(t, e, "k", "v2")
	fs.OnCall(func(op crashfs.Op, _ string) *crashfs.Fault {
		if op == crashfs.Read {
			return &crashfs.Fault{Err: errors.New("the disk is broken")}
		}
		return nil
	})
	_, err := e.List(t.Context(), tiers.Query{}, func(v item.View) error {
		t.Errorf("list shows %q", v.Content())
		return nil
	})
	if err == nil {
		t.Error("a list that lacks an item is no error")
	}
	fs.OnCall(nil)
	flush(t, e)
}

// TestA5_AFlushThatGetsNowhereEnds: L3 says that it took the row, and does not
// show it.
func TestA5_AFlushThatGetsNowhereEnds(t *testing.T) {
	store := &tiertest.Store{}
	dir := t.TempDir()
	e := open(t, dir, func(o *tiers.Options) { o.WrapStore, o.BatchFlush = store.Wrap, 1<<40 })
	store.Swallow(func(l3.Op) bool { return true })
	put(t, e, "k", "v")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := e.Flush(ctx); !errors.Is(err, tiers.ErrUnavailable) || ctx.Err() != nil {
		t.Errorf("error %v, want %v", err, tiers.ErrUnavailable)
	}
	store.Swallow(nil)
	flush(t, e)
	e = reopen(t, e, dir, nil)
	want(t, e, "k", "v")
}

// TestG2_NoReaderJoinsAReadFromBeforeARule: a read of L3 is held up; a bulk
// delete is acknowledged; who asks then reads on his own.
func TestG2_NoReaderJoinsAReadFromBeforeARule(t *testing.T) {
	dir, store := t.TempDir(), &tiertest.Store{}
	e := open(t, dir, nil)
	put(t, e, "k", "v")
	e = reopen(t, e, dir, func(o *tiers.Options) { o.WrapStore = store.Wrap })
	reading, goOn := make(chan struct{}), make(chan struct{})
	var once atomic.Bool
	store.OnGet(func(item.Key) {
		if once.CompareAndSwap(false, true) {
			close(reading)
			<-goOn
		}
	})
	var done sync.WaitGroup
	done.Go(func() { get(t, e, "k") })
	<-reading
	if _, err := e.DeleteMatching(t.Context(), tiers.Query{Prefix: "k"}, 0); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, ok, err := e.Get(ctx, key(t, "k"), tiers.ReadOptions{}); ok || err != nil {
		t.Errorf("get after the delete: %v, %v, want absent", ok, err)
	}
	close(goOn)
	done.Wait()
}

// TestD_MetricsDuringOpen: somebody asks for the metrics while the engine opens.
func TestD_MetricsDuringOpen(t *testing.T) {
	fs, set := crashfs.New(), metrics.NewSet()
	asked := 0
	fs.OnCall(func(_ crashfs.Op, name string) *crashfs.Fault {
		if strings.Contains(name, "dead-letters") {
			asked++
			set.WritePrometheus(io.Discard)
		}
		return nil
	})
	open(t, t.TempDir(), func(o *tiers.Options) { o.JournalFS, o.Metrics = fs, set })
	if asked == 0 {
		t.Error("nothing was asked while the dead letters were opened")
	}
	fs.OnCall(nil)
}
