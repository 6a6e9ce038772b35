package tiers_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edgenode/edgenode/tiers"
	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/l2"
	"github.com/edgenode/edgenode/tiers/l3"
	"github.com/edgenode/edgenode/tiers/tiertest"
	"github.com/edgenode/edgenode/tiers/tiertest/redistest"
)

// TestA7_RedisTimesOutDuringTheFlush: L2 holds v1 and does not answer while v2
// is flushed: it hangs, or what it is told never arrives. L1 does not have the
// item, Redis comes back: v2 it is.
func TestA7_RedisTimesOutDuringTheFlush(t *testing.T) {
	overDatabases(t, testA7RedisTimesOutDuringTheFlush)
}

func testA7RedisTimesOutDuringTheFlush(t *testing.T) {
	f := func(name string, away func(*redistest.Server, *faultyL2), back func(*redistest.Server, *faultyL2)) {
		t.Run(name, func(t *testing.T) {
			server, f := redistest.Start(t, redistest.Options{}), &faultyL2{}
			e := openRedis(t, t.TempDir(), server, func(o *tiers.Options) { o.WrapL2 = f.wrap })
			putIn(t, e, "k", "v1", belowL1, 0)
			flush(t, e)
			wantFrom(t, e, "k", "v1", tiers.FromL2)
			away(server, f)
			putIn(t, e, "k", "v2", belowL1, 0)
			flush(t, e) // is not held up for longer than redis_timeout
			want(t, e, "k", "v2")
			back(server, f)
			for range 50 {
				want(t, e, "k", "v2")
			}
			awaitTrust(t, e)
			want(t, e, "k", "v2")
			wantNotInRedis(t, server, "k", "v1")
		})
	}
	f("it hangs",
		func(s *redistest.Server, _ *faultyL2) { s.Stop() },
		func(s *redistest.Server, _ *faultyL2) { s.Cont() })
	f("what it is told never arrives",
		func(_ *redistest.Server, f *faultyL2) { f.set(nil, fmt.Errorf("%w: lost", l2.ErrUnavailable)) },
		func(_ *redistest.Server, f *faultyL2) { f.set(nil, nil) })
}

// wantNotInRedis fails if Redis holds this content of id.
func wantNotInRedis(t *testing.T, server *redistest.Server, id, content string) {
	t.Helper()
	b, found, err := rawRedis(t, server).Get(context.Background(), key(t, id), nil)
	if err != nil {
		t.Fatal(err)
	}
	if v := item.View(b); found && v.Kind() == item.KindPut && string(v.Content()) == content {
		t.Errorf("Redis still holds %q of %s", content, id)
	}
}

// TestA8_NewerWriteDuringTheDrain: v1 is being drained by a slow L3 when v2 is
// written, for which L3 is down. In the end it is v2 everywhere.
func TestA8_NewerWriteDuringTheDrain(t *testing.T) { overDatabases(t, testA8NewerWriteDuringTheDrain) }

func testA8NewerWriteDuringTheDrain(t *testing.T) {
	server, store := redistest.Start(t, redistest.Options{}), &tiertest.Store{}
	dir := t.TempDir()
	e := openRedis(t, dir, server, func(o *tiers.Options) { o.WrapStore = store.Wrap })
	began, goOn := make(chan struct{}), make(chan struct{})
	var once sync.Once
	store.OnApply(func([]l3.Op) {
		first := false
		once.Do(func() { first = true })
		if first {
			close(began)
			<-goOn
		}
	}, nil)
	putIn(t, e, "k", "v1", belowL1, 0)
	<-began
	putIn(t, e, "k", "v2", belowL1, 0)
	close(goOn)
	store.SetDown(true)
	want(t, e, "k", "v2")
	store.SetDown(false)
	e.ProbeL3()
	flush(t, e)
	want(t, e, "k", "v2")
	wantInRedis(t, server, "k", "v2")
	e = reopen(t, e, dir, nil) // without L2: L3 alone
	wantFrom(t, e, "k", "v2", tiers.FromL3)
}

// TestA13_StartWithEverythingDown: L3 and Redis are down at start. What the
// journal has is served within 2 s, writes are taken, and both are used when
// they come.
func TestA13_StartWithEverythingDown(t *testing.T) { overDatabases(t, testA13StartWithEverythingDown) }

func testA13StartWithEverythingDown(t *testing.T) {
	server, store := redistest.Start(t, redistest.Options{}), &tiertest.Store{}
	dir := t.TempDir()
	e := openRedis(t, dir, server, func(o *tiers.Options) { o.WrapStore = store.Wrap })
	putIn(t, e, "old", "in L3", item.AllTiers, 0)
	flush(t, e)
	store.SetDown(true)
	putIn(t, e, "new", "in the journal", item.AllTiers, 0)
	closing, cancel := context.WithCancel(t.Context())
	cancel()
	e.Close(closing)
	server.Kill()
	begin := time.Now()
	away := &tiertest.Store{}
	away.SetDown(true)
	e = open(t, dir, withRedis(server, func(o *tiers.Options) { o.WrapStore = away.Wrap }))
	want(t, e, "new", "in the journal")
	if took := time.Since(begin); took > inTime(2*time.Second) {
		t.Errorf("served after %v, want 2 s", took)
	}
	putIn(t, e, "newer", "taken", item.AllTiers, 0)
	want(t, e, "newer", "taken")
	if _, _, err := e.Get(t.Context(), key(t, "old"), tiers.ReadOptions{}); !errors.Is(err, tiers.ErrUnavailable) {
		t.Errorf("what is in L3 alone: %v, want ErrUnavailable", err)
	}
	server.Restart()
	away.SetDown(false)
	until(t, 5*time.Second, "reconnected to both", func() bool {
		h := e.Health(t.Context())
		return h.L2.OK && h.L3.OK && e.L2Trusted()
	})
	want(t, e, "old", "in L3")
	flush(t, e)
	want(t, e, "new", "in the journal")
	want(t, e, "newer", "taken")
	putIn(t, e, "newest", "everywhere", item.AllTiers, 0)
	flush(t, e)
	wantInRedis(t, server, "newest", "everywhere")
}

// TestA15_PlainRedis: a Redis without modules is all that L2 needs.
func TestA15_PlainRedis(t *testing.T) {
	server := redistest.Start(t, redistest.Options{})
	raw := rawRedis(t, server)
	found, err := raw.Probe(t.Context())
	if err != nil || !strings.HasPrefix(found.Version, "7.") && !strings.HasPrefix(found.Version, "8.") || found.JSON || found.Search {
		t.Fatalf("want a plain Redis 7 or newer, got %+v, %v", found, err)
	}
	e := openRedis(t, t.TempDir(), server, nil)
	putIn(t, e, "json", `{"a":1}`, belowL1, 0)
	putIn(t, e, "binary", "\x00\xff\r\n", belowL1, time.Hour)
	flush(t, e)
	wantFrom(t, e, "json", `{"a":1}`, tiers.FromL2)
	wantFrom(t, e, "binary", "\x00\xff\r\n", tiers.FromL2)
	del(t, e, "json")
	flush(t, e)
	wantAbsent(t, e, "json")
}

// TestB5_NewerIsFlushedMeanwhile: the flush of v1 is held up before L3, and once
// more before L2, while another node writes v2 to both. The newest wins in both.
func TestB5_NewerIsFlushedMeanwhile(t *testing.T) { overDatabases(t, testB5NewerIsFlushedMeanwhile) }

func testB5NewerIsFlushedMeanwhile(t *testing.T) {
	for _, where := range []string{"before L3", "before L2"} {
		t.Run(where, func(t *testing.T) {
			server, store, f := redistest.Start(t, redistest.Options{}), &tiertest.Store{}, &faultyL2{}
			dir := t.TempDir()
			e := openRedis(t, dir, server, func(o *tiers.Options) { o.WrapStore, o.WrapL2 = store.Wrap, f.wrap })
			raw := rawRedis(t, server)
			var once sync.Once
			other := func() {
				once.Do(func() {
					v := e.Stamp() + 1<<20
					it := item.Item{Kind: item.KindPut, Tiers: belowL1, Key: key(t, "k"), Version: v, ContentVersion: v, MetadataVersion: v, Content: []byte("v2")}
					it.Seal()
					record := item.View(it.AppendTo(nil))
					if _, err := store.Store.Apply(t.Context(), []l3.Op{{Record: record}}, nil, make([]l3.Outcome, 1)); err != nil {
						t.Error(err)
					}
					if err := raw.Apply(t.Context(), []l2.Op{{Kind: l2.OpPut, Record: record}}, make([]l2.Outcome, 1)); err != nil {
						t.Error(err)
					}
				})
			}
			if where == "before L3" {
				store.OnApply(func([]l3.Op) { other() }, nil)
			} else {
				f.set(func(ops []l2.Op) {
					if slices.ContainsFunc(ops, func(op l2.Op) bool { return op.Kind == l2.OpPut }) {
						other()
					}
				}, nil)
			}
			putIn(t, e, "k", "v1", belowL1, 0)
			flush(t, e)
			wantFrom(t, e, "k", "v2", tiers.FromL2)
			wantInRedis(t, server, "k", "v2")
			e = reopen(t, e, dir, nil)
			wantFrom(t, e, "k", "v2", tiers.FromL3)
		})
	}
}

// TestB6_NewerWriteBeforeTheDrain: v1 is in the journal of an outage; v2 comes
// after the outage and before the drain.
func TestB6_NewerWriteBeforeTheDrain(t *testing.T) { overDatabases(t, testB6NewerWriteBeforeTheDrain) }

func testB6NewerWriteBeforeTheDrain(t *testing.T) {
	server, store := redistest.Start(t, redistest.Options{}), &tiertest.Store{}
	dir := t.TempDir()
	store.SetDown(true)
	e := open(t, dir, withRedis(server, func(o *tiers.Options) { o.WrapStore, o.BatchFlush = store.Wrap, 1<<40 }))
	putIn(t, e, "k", "v1", belowL1, 0)
	if err := e.CloseAbruptly(); err != nil {
		t.Fatal(err)
	}
	again := &tiertest.Store{}
	e = openRedis(t, dir, server, func(o *tiers.Options) { o.WrapStore, o.BatchFlush = again.Wrap, 1<<40 })
	putIn(t, e, "k", "v2", belowL1, 0)
	flush(t, e)
	wantFrom(t, e, "k", "v2", tiers.FromL2)
	e = reopen(t, e, dir, nil)
	wantFrom(t, e, "k", "v2", tiers.FromL3)
}

// TestB8_LastOfABatchWins: in one batch an item is put into Redis and SQL, then
// into SQL alone, and the other way round.
func TestB8_LastOfABatchWins(t *testing.T) { overDatabases(t, testB8LastOfABatchWins) }

func testB8LastOfABatchWins(t *testing.T) {
	f := func(first, second item.Tiers, inRedis string, status tiers.Status) {
		t.Run(fmt.Sprintf("%v then %v", first, second), func(t *testing.T) {
			server := redistest.Start(t, redistest.Options{})
			dir := t.TempDir()
			e := openRedis(t, dir, server, func(o *tiers.Options) { o.BatchFlush = 1 << 40 })
			putIn(t, e, "k", "v0", belowL1, 0)
			flush(t, e)
			putIn(t, e, "k", "v1", first, 0)
			putIn(t, e, "k", "v2", second, 0)
			flush(t, e)
			want(t, e, "k", "v2")
			wantInRedis(t, server, "k", inRedis)
			wantStatus(t, e, "k", status)
			e = reopen(t, e, dir, withRedis(server, nil))
			awaitTrust(t, e)
			if _, ok := get(t, e, "k"); ok || !mayForget(t, second) {
				want(t, e, "k", "v2")
			}
		})
	}
	f(belowL1, item.L3, "", tiers.Status{Where: tiers.StatusSynced, L3: true})
	f(item.L3, belowL1, "v2", tiers.Status{Where: tiers.StatusSynced, L2: true, L3: true})
	f(belowL1, item.L2, "v2", tiers.Status{Where: tiers.StatusSynced, L2: true})
}

// TestB11_DeleteWhileRedisIsAway: Redis is cut off, an item is deleted, one is
// purged, Redis is back with its old data. Nothing of it is seen again.
func TestB11_DeleteWhileRedisIsAway(t *testing.T) { overDatabases(t, testB11DeleteWhileRedisIsAway) }

func testB11DeleteWhileRedisIsAway(t *testing.T) {
	f := func(name string, change func(*tiers.Options), restart bool) {
		t.Run(name, func(t *testing.T) {
			server := redistest.Start(t, redistest.Options{})
			dir := t.TempDir()
			e := openRedis(t, dir, server, nil)
			putIn(t, e, "k", "v", belowL1, 0)
			putIn(t, e, "c", "cached", item.L2, 0)
			putIn(t, e, "p/1", "v", belowL1, 0)
			flush(t, e)
			wantFrom(t, e, "c", "cached", tiers.FromL2)
			server.Stop()
			del(t, e, "k")
			del(t, e, "c")
			if _, err := e.DeleteMatching(t.Context(), tiers.Query{Prefix: "p/"}, 0); err != nil {
				t.Fatal(err)
			}
			flush(t, e)
			gone := func() {
				t.Helper()
				for _, id := range []string{"k", "c", "p/1"} {
					wantAbsent(t, e, id)
				}
			}
			gone()
			if restart {
				if err := e.CloseAbruptly(); err != nil {
					t.Fatal(err)
				}
				server.Cont()
				e = open(t, dir, withRedis(server, change))
			} else {
				server.Cont()
			}
			for range 50 {
				gone()
			}
			awaitTrust(t, e)
			gone()
			for _, id := range []string{"k", "c", "p/1"} {
				wantInRedis(t, server, id, "")
			}
		})
	}
	f("the node lives on", nil, false)
	f("the node is killed", nil, true)
}

// TestB12_TiersAreWhereTheNewestLives: v1 with one set of tiers, v2 with another,
// flushed apart and together, expired, restarted: v1 is never seen again.
func TestB12_TiersAreWhereTheNewestLives(t *testing.T) {
	overDatabases(t, testB12TiersAreWhereTheNewestLives)
}

func testB12TiersAreWhereTheNewestLives(t *testing.T) {
	server := redistest.Start(t, redistest.Options{})
	sets := map[string]item.Tiers{"default": item.AllTiers, "cache": item.L2, "durable": item.L3}
	var now atomic.Int64
	now.Store(time.Now().UnixMilli())
	options := withRedis(server, func(o *tiers.Options) { o.Now = now.Load })
	dir := t.TempDir()
	e := open(t, dir, options)
	awaitTrust(t, e)
	var ids []string
	for first, in1 := range sets {
		for _, apart := range []bool{true, false} {
			for second := range sets {
				id := fmt.Sprintf("%s/%s/%v", first, second, apart)
				ids = append(ids, id)
				putIn(t, e, id, "v1", in1, 0)
			}
			if apart {
				flush(t, e)
			}
		}
	}
	for _, id := range ids {
		putIn(t, e, id, "v2", sets[strings.Split(id, "/")[1]], 10*time.Minute)
	}
	restarted := false
	check := func(when string, there bool) {
		t.Helper()
		for _, id := range ids {
			h, ok, err := e.Get(t.Context(), key(t, id), tiers.ReadOptions{})
			forgotten := restarted && !ok && mayForget(t, sets[strings.Split(id, "/")[1]])
			if err != nil || ok != there && !forgotten {
				t.Errorf("%s: %s: %v, %v, want %v", when, id, ok, err, there)
			}
			if ok {
				if got := string(h.View.Content()); got != "v2" {
					t.Errorf("%s: %s is %s", when, id, got)
				}
				h.Release()
			}
			wantNotInRedis(t, server, id, "v1")
		}
	}
	restart := func() {
		t.Helper()
		e = reopen(t, e, dir, options)
		awaitTrust(t, e)
		restarted = true
	}
	flush(t, e)
	check("flushed", true)
	restart()
	check("after a restart", true)
	now.Add((11 * time.Minute).Milliseconds())
	check("over", false)
	flush(t, e)
	check("over and flushed", false)
	restart()
	check("over and after a restart", false)
	server.Wipe() // L3 alone
	restart()
	check("over, from L3", false)
}

// TestC9_StateIsOneInAllTiers: an item that is queued, in L1, L2 or L3 gets
// another state. Get, list and count agree at once, after the flush, and after a
// restart.
func TestC9_StateIsOneInAllTiers(t *testing.T) { overDatabases(t, testC9StateIsOneInAllTiers) }

func testC9StateIsOneInAllTiers(t *testing.T) {
	server := redistest.Start(t, redistest.Options{})
	dir := t.TempDir()
	e := openRedis(t, dir, server, func(o *tiers.Options) { o.BatchFlush = 1 << 40 })
	positions := map[string]item.Tiers{"queued": item.AllTiers, "l1": item.AllTiers, "l2": belowL1, "l3": item.L3}
	for id, in := range positions {
		if id != "queued" {
			putIn(t, e, id, "content of "+id, in, 0)
		}
	}
	flush(t, e)
	putIn(t, e, "queued", "content of queued", item.AllTiers, 0)
	awaitFrom(t, e, "l1", "content of l1", tiers.FromL1)
	awaitFrom(t, e, "l2", "content of l2", tiers.FromL2)
	state := "done"
	for id := range positions {
		if _, err := e.Change(t.Context(), key(t, id), tiers.MetadataChange{State: &state}); err != nil {
			t.Fatal(err)
		}
	}
	check := func(when string) {
		t.Helper()
		for id := range positions {
			h, ok, err := e.Get(t.Context(), key(t, id), tiers.ReadOptions{})
			if err != nil || !ok || h.View.State() != state || string(h.View.Content()) != "content of "+id {
				t.Errorf("%s: %s: %v, %v, state %q", when, id, ok, err, h.View.State())
			}
			if ok {
				h.Release()
			}
			b, found, err := rawRedis(t, server).Get(t.Context(), key(t, id), nil)
			if err != nil || found && when != "at once" && item.View(b).State() != state {
				t.Errorf("%s: Redis holds %s in state %q (%v)", when, id, item.View(b).State(), err)
			}
		}
		n, exact, err := e.Count(t.Context(), tiers.Query{State: state})
		if err != nil || !exact || n != int64(len(positions)) {
			t.Errorf("%s: count %d, %v, %v", when, n, exact, err)
		}
		listed := 0
		if _, err := e.List(t.Context(), tiers.Query{State: state}, func(v item.View) error { listed++; return nil }); err != nil || listed != len(positions) {
			t.Errorf("%s: %d listed, %v", when, listed, err)
		}
	}
	check("at once")
	flush(t, e)
	check("flushed")
	e = reopen(t, e, dir, withRedis(server, nil))
	awaitTrust(t, e)
	check("after a restart")
}

// TestD12_LossIsNamedAndStaysNamed: Redis hangs and comes back: degraded within
// 2 s, well again within 5 s. While half of all calls fail, health does not flap.
func TestD12_LossIsNamedAndStaysNamed(t *testing.T) {
	server := redistest.Start(t, redistest.Options{})
	e := openRedis(t, t.TempDir(), server, nil)
	ok := func() bool { return e.Health(t.Context()).Verdict == "ok" }
	until(t, 5*time.Second, "well at first", ok)
	server.Stop()
	until(t, 2*time.Second, "degraded", func() bool {
		h := e.Health(t.Context())
		return h.Verdict == "degraded" && !h.L2.OK && slices.ContainsFunc(h.Reasons, func(r string) bool { return strings.HasPrefix(r, "L2 ") }) && h.AcceptingWrites
	})
	put(t, e, "k", "v")
	flush(t, e)
	want(t, e, "k", "v")
	server.Cont()
	until(t, 5*time.Second, "well again", ok)
	awaitTrust(t, e)
}

// TestA13_HungRedisHoldsNothingUp: with Redis hanging, draining goes on at once
// after the first time limit.
func TestA13_HungRedisHoldsNothingUp(t *testing.T) {
	server := redistest.Start(t, redistest.Options{})
	var log bytes.Buffer
	e := openRedis(t, t.TempDir(), server, func(o *tiers.Options) {
		o.RedisTimeout, o.Logger = time.Second, slog.New(slog.NewTextHandler(&log, nil))
	})
	server.Stop()
	start := time.Now()
	for i := range 80 {
		put(t, e, fmt.Sprint(i), "v")
		flush(t, e)
	}
	if took := time.Since(start); took > patience {
		t.Errorf("80 flushes took %v with a hung Redis, want little more than redis_timeout of 1 s", took)
	}
	server.Cont()
	awaitTrust(t, e)
}
