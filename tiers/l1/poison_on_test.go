//go:build race || slabpoison

package l1_test

import (
	"bytes"
	"runtime/debug"
	"testing"

	"github.com/edgenode/edgenode/tiers/l1"
)

// A view shows nothing of the record once it is let go and the record has left;
// until then it shows all of it.
func TestPoison(t *testing.T) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
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
		if !isGone(view) {
			t.Errorf("a record of %d bytes can be read after its release", n)
		}
	}
}

// isGone reports whether view shows poison, the zeros of memory that went back to
// the system, or cannot be read at all.
func isGone(view []byte) (gone bool) {
	defer func() { gone = recover() != nil || gone }()
	return len(bytes.Trim(view, "\xdb")) == 0 || len(bytes.Trim(view, "\x00")) == 0
}
