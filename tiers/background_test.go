package tiers_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/edgenode/edgenode/tiers"
	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/tiertest/memstore"
)

// answer stores an answer of a site, which one purge in the background hides.
func answer(t *testing.T, e *tiers.Engine, name string) (stored item.Key, purge tiers.Purge) {
	t.Helper()
	stored = siteKey(name)
	w := tiers.Write{Key: stored, Content: []byte("page"), Tags: []string{"url:" + name}, TTL: time.Hour}
	if _, err := e.Submit(t.Context(), &w); err != nil {
		t.Fatal(err)
	}
	flush(t, e)
	return stored, tiers.Purge{Namespaces: item.InSites, Match: item.MatchTag, Values: []string{"url:" + name}, Background: true}
}

func stored(t *testing.T, e *tiers.Engine, k item.Key) bool {
	t.Helper()
	h, ok, err := e.Get(t.Context(), k, tiers.ReadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	h.Release()
	return ok
}

// settle lets what begins with a node come to an end.
func settle(t *testing.T, e *tiers.Engine) {
	t.Helper()
	for begin := time.Now(); !e.Health(t.Context()).L2Trusted || time.Since(begin) < 10*time.Second; {
		<-time.After(100 * time.Millisecond)
	}
	synctest.Wait()
}

// TestPurge_BackgroundWaitsForNoTier: a purge in the background returns while L3
// and L2 take long, and hides what it covers from then on.
func TestPurge_BackgroundWaitsForNoTier(t *testing.T) {
	inBubble(t, func(t *testing.T, e *tiers.Engine, sql *memstore.L3, redis *memstore.L2) {
		k, purge := answer(t, e, "a")
		settle(t, e)
		if !stored(t, e, k) {
			t.Fatal("it is not there before")
		}
		sql.Plan("Apply", memstore.Fault{Kind: memstore.Slow, Delay: 3 * time.Second})
		redis.Plan("Sweep", memstore.Fault{Kind: memstore.Slow, Delay: 3 * time.Second})
		begin, applied := time.Now(), sql.Calls("Apply")
		if _, err := e.Purge(t.Context(), purge); err != nil {
			t.Fatal(err)
		}
		if stored(t, e, k) {
			t.Error("it is shown after the purge")
		}
		synctest.Wait() // the sweeper is in L3
		if took := time.Since(begin); took != 0 || sql.Calls("Apply") == applied {
			t.Errorf("it took %v; %d of 1 calls of L3 are under way", took, sql.Calls("Apply")-applied)
		}
		if stored(t, e, k) {
			t.Error("it is shown while L3 takes the purge")
		}
		<-time.After(time.Minute)
		if stored(t, e, k) {
			t.Error("it is shown when all is done")
		}
	})
}

// TestPurge_HiddenWhileSwept: what was purged in the background is not shown by a
// read that finds it in L1 just before the sweep removes it, and looks at the rules
// just after.
func TestPurge_HiddenWhileSwept(t *testing.T) {
	inBubble(t, func(t *testing.T, e *tiers.Engine, _ *memstore.L3, _ *memstore.L2) {
		keys, purges := make([]item.Key, 500), make([]tiers.Purge, 500)
		for i := range keys {
			keys[i], purges[i] = answer(t, e, fmt.Sprint(i))
		}
		settle(t, e)
		for i, k := range keys {
			if _, err := e.Purge(t.Context(), purges[i]); err != nil {
				t.Fatal(err)
			}
			for range 3 {
				if stored(t, e, k) {
					t.Fatalf("purge %d hides nothing", i)
				}
			}
		}
	})
}

// TestL2_SweepsHavePauses: after a sweep of L2 that took a second, which looks at
// each key there, the next one in the background begins nine seconds later; who
// waits for a purge has one at once.
func TestL2_SweepsHavePauses(t *testing.T) {
	inBubble(t, func(t *testing.T, e *tiers.Engine, _ *memstore.L3, redis *memstore.L2) {
		keys, purges := make([]item.Key, 4), make([]tiers.Purge, 4)
		for i := range keys {
			keys[i], purges[i] = answer(t, e, fmt.Sprint(i))
		}
		settle(t, e)
		begin := redis.Calls("Sweep")
		sweeps := func(after time.Duration, purge, want int) {
			t.Helper()
			if purge >= 0 {
				if _, err := e.Purge(t.Context(), purges[purge]); err != nil {
					t.Fatal(err)
				}
				if stored(t, e, keys[purge]) {
					t.Errorf("%d is shown after its purge", purge)
				}
			}
			<-time.After(after)
			if got := redis.Calls("Sweep") - begin; got != want {
				t.Errorf("%d sweeps, want %d", got, want)
			}
		}
		redis.Plan("Sweep", memstore.Fault{Kind: memstore.Slow, Delay: time.Second})
		sweeps(2*time.Second, 0, 1)
		sweeps(3*time.Second, 1, 1) // it rests
		sweeps(3*time.Second, 2, 1)
		sweeps(2*time.Minute, -1, 2) // both by one
		redis.Plan("Sweep", memstore.Fault{Kind: memstore.Slow, Delay: time.Second})
		purges[3].Background = false
		sweeps(0, 3, 3)
		if _, err := e.Purge(t.Context(), purges[0]); err != nil { // in the background again
			t.Fatal(err)
		}
		sweeps(3*time.Second, -1, 3)
		purges[0].Background = false
		sweeps(0, 0, 4)
	})
}
