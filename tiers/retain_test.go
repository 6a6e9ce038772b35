package tiers_test

import (
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/edgenode/edgenode/tiers"
)

// TestD_TrimmingAwaitsTheTree: changes that are past their retention stay as long as
// the tree of hashes lacks them, so that it goes on instead of being built anew; but
// for twice the retention only.
func TestD_TrimmingAwaitsTheTree(t *testing.T) {
	overDialects(t, testDTrimmingAwaitsTheTree)
}

func testDTrimmingAwaitsTheTree(t *testing.T) {
	var now atomic.Int64
	now.Store(time.Now().UnixMilli())
	set := metrics.NewSet()
	e := open(t, t.TempDir(), func(o *tiers.Options) {
		o.Now, o.TombstoneRetention, o.ClockSkewMax, o.Metrics = now.Load, time.Hour, time.Second, set
	})
	count := func(name string) uint64 { return set.GetOrCreateCounter(name).Get() }
	write := func() {
		t.Helper()
		for range 10 {
			put(t, e, "k", "x")
			flush(t, e)
		}
	}
	// trimmed forgets all but the last change, and tells which numbers can be read on from.
	trimmed := func(when string, gone, kept, unhashed uint64) {
		t.Helper()
		e.Heartbeat()
		e.Forget(1)
		if _, err := readFeed(t, e, gone); !errors.Is(err, tiers.ErrChangesGone) {
			t.Errorf("%s: who goes on after %d is told %v", when, gone, err)
		}
		if _, err := readFeed(t, e, kept); err != nil {
			t.Errorf("%s: who goes on after %d is told %v", when, kept, err)
		}
		if n := count("edgenode_merkle_trimmed_changes_total"); n != unhashed {
			t.Errorf("%s: %d changes went that the tree lacks, want %d", when, n, unhashed)
		}
	}
	write()
	settleTree(t, e)
	at := e.LastChange()
	write()
	now.Add((61 * time.Minute).Milliseconds())
	trimmed("past the retention", at-1, at, 0)
	settleTree(t, e)
	if n := count("edgenode_merkle_rebuilds_total"); n != 1 {
		t.Errorf("the tree was begun %d times, want once", n)
	}
	at = e.LastChange()
	trimmed("the tree has them", at-2, at-1, 0)

	write()
	now.Add((119 * time.Minute).Milliseconds())
	trimmed("shortly before twice the retention", at-1, at, 0)
	now.Add((2 * time.Minute).Milliseconds())
	trimmed("past it", at+8, at+9, 9)
	settleTree(t, e)
	if n := count("edgenode_merkle_rebuilds_total"); n != 2 {
		t.Errorf("the tree was begun %d times, want twice", n)
	}
	wantRebuilt(t, e)
}
