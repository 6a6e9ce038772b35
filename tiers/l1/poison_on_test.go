//go:build race

package l1_test

import (
	"bytes"
	"testing"

	"github.com/edgenode/edgenode/tiers/l1"
)

// A view shows nothing of the record once it is let go and the record has left;
// until then it shows all of it.
func TestPoison(t *testing.T) {
	c := newCache(t, l1.Options{MaxBytes: 4 << 20})
	for _, n := range []int{100, 3000, 300_000} { // in slots, and in an extent
		put(c, 1, 1, n, l1.PutOptions{})
		p, ok := c.Get(hash(keyOf(1)), keyOf(1), 0)
		if !ok || !del(c, 1, 1) {
			t.Fatalf("no record of %d bytes", n)
		}
		view := p.Bytes()
		if !bytes.Equal(view, record(keyOf(1), 1, n)) {
			t.Errorf("a pinned record of %d bytes changed", n)
		}
		p.Release()
		if len(bytes.Trim(view, "\xdb")) != 0 {
			t.Errorf("a record of %d bytes can be read after its release", n)
		}
	}
}
