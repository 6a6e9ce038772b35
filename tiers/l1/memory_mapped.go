//go:build linux && !race && !slabheap

package l1

import (
	"fmt"
	"math/bits"
	"os"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// memory hands out blocks that lie outside the Go heap, so that the collector
// neither looks at them nor doubles them. A block takes the next power of two of
// the addresses in a region of its kind, and of the machine's memory what it is
// long, in whole pages; given back it takes none. So there is nothing to
// coalesce, and the system sees few mappings.
//
// Huge pages are declined: with them the process would hold up to 2 MiB around
// a block of 256 KiB, and what was given back would return with the next
// collapse of the pages around it.
type memory struct {
	page   int
	budget int64
	mapped atomic.Int64 // bytes of all blocks

	mapRegion func(n int) ([]byte, error) // of the system

	// mu guards the fields below. It is a leaf lock.
	mu      sync.Mutex
	room    [bits.UintSize][]*region // by log2 of the addresses that a block takes
	regions map[*region]struct{}
}

// region is a mapping that is cut into places of one size. Its fields but base
// and shift are guarded by memory.mu.
type region struct {
	base  []byte
	shift int      // log2 of the size of a place
	free  []uint32 // places that were given back
	fresh uint32   // places from here on were never used
	used  uint32
	at    int // in memory.room, -1 if it is full
}

func newMemory(page int, budget int64) *memory {
	return &memory{page: page, budget: budget, mapRegion: mapAnonymous, regions: map[*region]struct{}{}}
}

func systemMemory(budget int64) *memory { return newMemory(os.Getpagesize(), budget) }

// rounded returns the bytes of the extent for a record of n bytes.
func (m *memory) rounded(n int) int { return (n + m.page - 1) / m.page * m.page }

// take returns a block of n bytes, whole pages. It fails if the system gives none.
func (m *memory) take(n int) (block, error) {
	shift := bits.Len(uint(n - 1))
	m.mu.Lock()
	defer m.mu.Unlock()
	rooms := m.room[shift]
	if len(rooms) == 0 {
		r, err := m.reserve(shift)
		if err != nil {
			return block{}, err
		}
		rooms = append(rooms, r) // at 0
		m.room[shift] = rooms
	}
	r := rooms[len(rooms)-1]
	at := r.fresh
	if k := len(r.free); k > 0 {
		at, r.free = r.free[k-1], r.free[:k-1]
	} else {
		r.fresh++
	}
	r.used++
	if int(r.used)<<shift == len(r.base) {
		m.leave(r)
	}
	m.mapped.Add(int64(n))
	off := int(at) << shift
	return block{r.base[off : off+n : off+n], r, at}, nil
}

// reserve maps a region for blocks of 1<<shift bytes, or a smaller one if the
// system does not give as much. The caller holds m.mu.
func (m *memory) reserve(shift int) (*region, error) {
	var err error
	for n := regionBytes(1<<shift, m.budget); n >= 1<<shift; n /= 2 {
		var base []byte
		if base, err = m.mapRegion(n); err == nil {
			r := &region{base: base, shift: shift}
			m.regions[r] = struct{}{}
			return r, nil
		}
	}
	return nil, fmt.Errorf("l1: map %d bytes of memory: %w; lower l1_max_bytes, or raise what limits the process: ulimit -v, vm.max_map_count, vm.overcommit_ratio with vm.overcommit_memory=2", 1<<shift, err)
}

// mapAnonymous maps n bytes of memory that takes none until it is written to.
func mapAnonymous(n int) ([]byte, error) {
	base, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_NORESERVE)
	if err == nil {
		_ = unix.Madvise(base, unix.MADV_NOHUGEPAGE) // kernels without huge pages refuse
	}
	return base, err
}

// giveBack returns b, which nobody may look at any more, to the system.
func (m *memory) giveBack(b block) {
	// It fails for memory that is locked, which stays resident anyway.
	_ = unix.Madvise(b.buf, unix.MADV_DONTNEED)
	r := b.region
	m.mapped.Add(-int64(len(b.buf)))
	m.mu.Lock()
	if r.used--; r.used == 0 {
		if r.at >= 0 {
			m.leave(r)
		}
		delete(m.regions, r)
		m.mu.Unlock()
		_ = unix.Munmap(r.base)
		return
	}
	r.free = append(r.free, b.place)
	if r.at < 0 {
		r.at = len(m.room[r.shift])
		m.room[r.shift] = append(m.room[r.shift], r)
	}
	m.mu.Unlock()
}

// leave takes r off the list of those with room. The caller holds m.mu.
func (m *memory) leave(r *region) {
	rooms := m.room[r.shift]
	last := rooms[len(rooms)-1]
	rooms[r.at], last.at = last, r.at
	rooms[len(rooms)-1] = nil
	m.room[r.shift] = rooms[:len(rooms)-1]
	r.at = -1
}

// unmap gives back all regions. Nobody may look at any block any more.
func (m *memory) unmap() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for r := range m.regions {
		_ = unix.Munmap(r.base)
	}
	clear(m.regions)
}
