package tiers_test

import (
	"bytes"
	"context"
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
