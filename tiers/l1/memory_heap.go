//go:build !linux || race || slabheap

package l1

import "sync/atomic"

// memory hands out blocks of the Go heap. It is what the race detector and the
// checks of pointers need, which do not see memory mapped beside the heap, and
// what systems get on which giving memory back is not known to be exact.
type memory struct {
	page   int
	mapped atomic.Int64 // stays 0
}

type region struct{}

func systemMemory(int64) *memory { return &memory{page: 8 << 10} }

// rounded returns the bytes of the extent for a record of n bytes, as the
// allocator of the runtime rounds.
func (m *memory) rounded(n int) int {
	unit := m.page
	if n <= 4*m.page {
		unit = 1 << 10
	}
	return (n + unit - 1) / unit * unit
}

func (m *memory) take(n int) (block, error) { return block{buf: make([]byte, n)}, nil }
func (m *memory) giveBack(block)            {}
func (m *memory) together(int) int          { return 1 }

func (m *memory) takeTogether(dst []block, _, _ int) ([]block, bool) { return dst, false }
func (m *memory) unmap()                                             {}
