package tiers_test

import (
	"context"
	"testing"

	"github.com/edgenode/edgenode/tiers"
)

// TestHitInL1AllocatesNothing is the promise of Engine.Get.
func TestHitInL1AllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Log("under the race detector the figure is not ours; the plain run checks it")
		return
	}
	e := open(t, t.TempDir(), nil)
	put(t, e, "k", "v")
	k, ctx := key(t, "k"), context.Background()
	n := testing.AllocsPerRun(1000, func() {
		h, ok, err := e.Get(ctx, k, tiers.ReadOptions{})
		if !ok || err != nil {
			t.Fatal(ok, err)
		}
		h.Release()
	})
	if n != 0 {
		t.Errorf("a hit in L1 allocates %v times, want 0", n)
	}
}
