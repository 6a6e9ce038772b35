package replay

import "testing"

func TestScatterCanBeUndone(t *testing.T) {
	for _, id := range []uint32{0, 1, 2, 255, 1 << 16, 1<<31 - 1, 1 << 31, 1<<32 - 2, 1<<32 - 1} {
		if got := gather(scatter(id)); got != id {
			t.Errorf("id %d comes back as %d", id, got)
		}
	}
}
