package tiers_test

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/edgenode/edgenode/tiers"
	"github.com/edgenode/edgenode/tiers/item"
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
