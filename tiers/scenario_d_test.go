package tiers_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/edgenode/edgenode/tiers"
	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/pressure"
	"github.com/edgenode/edgenode/tiers/tiertest"
)

// audit compares the pending table's counters with a recount, and L1 with its
// budget. Nothing may be under way.
func audit(t *testing.T, e *tiers.Engine, when string) {
	t.Helper()
	i1, x1, m1, r1 := e.CountedBytes()
	i2, x2, m2, r2 := e.AccountedBytes()
	if i1 != i2 || x1 != x2 || m1 != m2 || r1 != r2 {
		t.Errorf("%s: counters say %d ids, %d index bytes, %d content bytes, %d records; there are %d, %d, %d, %d",
			when, i1, x1, m1, r1, i2, x2, m2, r2)
	}
	if h := e.Health(t.Context()); h.L1Bytes < 0 || h.L1Bytes > h.L1Max {
		t.Errorf("%s: L1 holds %d bytes of %d", when, h.L1Bytes, h.L1Max)
	}
}

// churn puts, replaces, changes and deletes from 16 writers.
func churn(t *testing.T, e *tiers.Engine, writes int) {
	t.Helper()
	var wg sync.WaitGroup
	for w := range 16 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(w), 9))
			state := "busy"
			for range writes {
				id := fmt.Sprintf("d/%d", rng.IntN(500))
				var err error
				switch rng.IntN(8) {
				case 0:
					_, err = e.Delete(context.Background(), key(t, id), nil, 0)
				case 1:
					_, err = e.Change(context.Background(), key(t, id), tiers.MetadataChange{State: &state})
				default:
					level := []item.Durability{item.DurabilityMemory, item.DurabilityJournal, item.DurabilitySync}[rng.IntN(3)]
					_, err = e.Submit(context.Background(), &tiers.Write{
						Key: key(t, id), Content: make([]byte, rng.IntN(3000)), State: []string{"", "new"}[rng.IntN(2)], Durability: level,
					})
				}
				if err != nil && !errors.Is(err, tiers.ErrNoItem) && !errors.Is(err, tiers.ErrPressure) &&
					!errors.Is(err, tiers.ErrStateUnknown) && !errors.Is(err, tiers.ErrUnavailable) {
					t.Errorf("write: %v", err)
				}
			}
		})
	}
	wg.Wait()
}

// TestD1_CountersAreExact: after any mix of writes the counters equal the truth.
func TestD1_CountersAreExact(t *testing.T) { overBackends(t, testD1CountersAreExact) }

func testD1CountersAreExact(t *testing.T) {
	store := &tiertest.Store{}
	e := open(t, t.TempDir(), func(o *tiers.Options) { o.WrapStore, o.BatchFlush = store.Wrap, time.Millisecond })
	churn(t, e, scale(100_000, 150))
	store.SetDown(true)
	churn(t, e, scale(1_000, 50))
	audit(t, e, "with L3 down")
	store.SetDown(false)
	flush(t, e)
	audit(t, e, "after the flush")
	if ids, index, memory, records := e.CountedBytes(); ids != 0 || index != 0 || memory != 0 || records != 0 {
		t.Errorf("flushed, yet %d ids, %d, %d bytes, %d records are counted", ids, index, memory, records)
	}
}

// TestD2_CountersAfterBulkDeletes is D1 after deletes by state and prefix.
func TestD2_CountersAfterBulkDeletes(t *testing.T) { overBackends(t, testD2CountersAfterBulkDeletes) }

func testD2CountersAfterBulkDeletes(t *testing.T) {
	e := open(t, t.TempDir(), func(o *tiers.Options) { o.BatchFlush = time.Millisecond })
	churn(t, e, scale(10_000, 60))
	for _, q := range []tiers.Query{{State: "new"}, {Prefix: "d/1"}, {}} {
		if _, err := e.DeleteMatching(t.Context(), q, 0); err != nil {
			t.Fatal(err)
		}
		if n, exact, err := e.Count(t.Context(), q); err != nil || n != 0 || !exact {
			t.Errorf("%+v: %d left (%v, %v)", q, n, exact, err)
		}
		flush(t, e)
		audit(t, e, fmt.Sprintf("after %+v", q))
	}
	if h := e.Health(t.Context()); h.L1Items != 0 {
		t.Errorf("%d items are left in L1 after everything was deleted", h.L1Items)
	}
}

// pressed opens an engine, takes L3 away and fills the journal up to pressure.
func pressed(t *testing.T, least float64) *tiers.Engine {
	t.Helper()
	store := &tiertest.Store{}
	var e *tiers.Engine
	// Writing up to a level needs thresholds out of the way; they are set
	// afterwards, as a reload does.
	free := pressure.Thresholds{Warn: .9995, Throttle: .9996, Critical: .9997, Emergency: .9998, Shutdown: .9999}
	options := tiers.Options{}
	e = open(t, t.TempDir(), func(o *tiers.Options) {
		o.WrapStore, o.JournalMaxBytes, o.Pressure = store.Wrap, 16<<20, free
		options = *o
	})
	put(t, e, "there", "v")
	flush(t, e)
	if options.L3Shared { // its own change may be met before it is known as that, and drops the copy
		until(t, 30*time.Second, "followed", func() bool { return e.Followed() == e.LastChange() })
	}
	awaitFrom(t, e, "there", "v", tiers.FromL1)
	store.SetDown(true)
	content := bytes.Repeat([]byte("p"), 64<<10)
	for i := 0; e.Pressure() < least; i++ {
		if _, err := e.Submit(t.Context(), &tiers.Write{Key: key(t, fmt.Sprintf("p/%d", i)), Content: content}); err != nil {
			t.Fatalf("at pressure %.3f: %v", e.Pressure(), err)
		}
	}
	want(t, e, "there", "v")
	p := e.Pressure()
	// Levels are laid around the pressure reached, so that it is in the middle
	// of the one asked for.
	levels := map[float64]pressure.Thresholds{
		0.30: {Warn: p - .01, Throttle: .96, Critical: .97, Emergency: .98, Shutdown: .99},
		0.31: {Warn: p - .03, Throttle: p - .02, Critical: p + .00001, Emergency: .98, Shutdown: .99},
		0.32: {Warn: p - .03, Throttle: p - .02, Critical: p - .01, Emergency: .98, Shutdown: .99},
		0.33: {Warn: p - .04, Throttle: p - .03, Critical: p - .02, Emergency: p - .01, Shutdown: .99},
		0.34: {Warn: p - .05, Throttle: p - .04, Critical: p - .03, Emergency: p - .02, Shutdown: p - .01},
	}
	options.Pressure = levels[least]
	if err := e.Reload(options); err != nil {
		t.Fatal(err)
	}
	return e
}

// TestD5_DeletesPassAtEveryLevel: deletes, bulk deletes and purges, and reads.
func TestD5_DeletesPassAtEveryLevel(t *testing.T) { overBackends(t, testD5DeletesPassAtEveryLevel) }

func testD5DeletesPassAtEveryLevel(t *testing.T) {
	for _, at := range []float64{0.30, 0.31, 0.32, 0.33, 0.34} {
		e := pressed(t, at)
		level := e.Health(t.Context()).PressureLevel
		del(t, e, "p/0")
		wantAbsent(t, e, "p/0")
		if _, err := e.DeleteMatching(t.Context(), tiers.Query{Prefix: "p/1"}, 0); err != nil {
			t.Errorf("bulk delete at %s: %v", level, err)
		}
		if _, err := e.Purge(t.Context(), tiers.Purge{Namespaces: item.InSites, Match: item.MatchTag, Values: []string{"t"}}); err != nil {
			t.Errorf("purge at %s: %v", level, err)
		}
		want(t, e, "there", "v")
	}
}

// TestD6_OneRuleForEveryOperation: level and operation decide what happens.
func TestD6_OneRuleForEveryOperation(t *testing.T) {
	overOwn(t, testD6OneRuleForEveryOperation)
}

func testD6OneRuleForEveryOperation(t *testing.T) {
	const (
		passes    = "passes"
		throttled = "429"
		refused   = "503"
	)
	outcome := func(err error) string {
		var r *tiers.Refusal
		switch {
		case err == nil:
			return passes
		case errors.As(err, &r) && r.RetryAfter <= 0:
			return "no Retry-After"
		case errors.As(err, &r) && r.Throttled:
			return throttled
		case errors.As(err, &r):
			return refused
		}
		return err.Error()
	}
	f := func(at float64, level, put, conditional, change string) {
		t.Helper()
		e := pressed(t, at)
		if got := e.Health(t.Context()).PressureLevel; got != level {
			t.Fatalf("level %s, want %s (pressure %.4f)", got, level, e.Pressure())
		}
		state := "s"
		_, err := e.Change(t.Context(), key(t, "there"), tiers.MetadataChange{State: &state})
		if got := outcome(err); got != change {
			t.Errorf("change at %s: %s, want %s", level, got, change)
		}
		_, err = e.CompareAndSubmit(t.Context(), &tiers.Condition{MatchAny: true}, &tiers.Write{Key: key(t, "there"), Content: []byte("v")})
		if got := outcome(err); got != conditional {
			t.Errorf("conditional write at %s: %s, want %s", level, got, conditional)
		}
		_, err = e.Submit(t.Context(), &tiers.Write{Key: key(t, "new"), Content: []byte("n")})
		if got := outcome(err); got != put {
			t.Errorf("put at %s: %s, want %s", level, got, put)
		}
		del(t, e, "there")
	}
	f(0.30, "warn", passes, passes, passes)
	f(0.32, "critical", refused, passes, passes)
	f(0.33, "emergency", refused, passes, passes)
	f(0.34, "shutdown", refused, refused, refused)
	// At the end of throttle's range a put is refused almost surely: the chance
	// that all of these pass is below 10^-30.
	e := pressed(t, 0.31)
	for range 10 {
		_, err := e.Submit(t.Context(), &tiers.Write{Key: key(t, "new"), Content: []byte("n")})
		if got := outcome(err); got == throttled {
			return
		}
	}
	t.Error("at the end of throttle no put was throttled")
}
