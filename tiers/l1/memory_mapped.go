//go:build linux && !race && !slabheap

package l1

import (
	"fmt"
	"math/bits"
	"os"
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// memory hands out blocks that lie outside the Go heap, so that the collector
// neither looks at them nor doubles them. A block takes the next power of two of
// the addresses in a region of its kind, and of the machine's memory what it is
// long, in whole pages; given back it takes none. So there is nothing to
// coalesce, and the system sees few mappings.
//
// Huge pages are declined, as the process would hold up to 2 MiB around a block of
// 256 KiB, but for blocks that are taken together and fill such a page: see
// takeTogether.
type memory struct {
	page   int
	budget int64
	mapped atomic.Int64 // bytes of all blocks
	huge   atomic.Int64 // bytes of a huge page, 0 to decline them all

	mapRegion func(n int) ([]byte, error) // of the system

	// mu guards the fields below. It is a leaf lock.
	mu      sync.Mutex
	room    [bits.UintSize][]*region // by log2 of the addresses that a block takes
	regions map[*region]struct{}
	wide    *region // whose fresh places are taken together, if there are any left
	whole   int     // places in regions of huge pages that were ever taken
	holes   int     // of these, free
}

// region is a mapping that is cut into places of one size. Its fields but base,
// shift and wide are guarded by memory.mu.
type region struct {
	base  []byte
	shift int      // log2 of the size of a place
	wide  bool     // of huge pages
	free  []uint32 // places that were given back
	fresh uint32   // places from here on were never used
	fixed uint32   // places up to here have been made narrow
	used  uint32
	at    int // in memory.room, -1 if it is full
}

func newMemory(page int, budget int64) *memory {
	m := &memory{page: page, budget: budget, mapRegion: mapAnonymous, regions: map[*region]struct{}{}}
	if page == 4<<10 && budget >= hugeFrom {
		m.huge.Store(hugePage)
	}
	return m
}

const (
	hugePage = 2 << 20   // where a page has 4 KiB
	hugeFrom = 256 << 20 // of the budget: below, a page would be more than 1 % of it
)

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
		if r.wide {
			m.holes--
		}
	} else {
		r.fresh++
	}
	r.used++
	if r.full() {
		m.leave(r)
	}
	return m.blockAt(r, at, n), nil
}

// blockAt returns the n bytes of a place that was taken.
func (m *memory) blockAt(r *region, at uint32, n int) block {
	m.mapped.Add(int64(n))
	off := int(at) << r.shift
	return block{r.base[off : off+n : off+n], r, at}
}

// full reports whether no place of r is to be taken alone: fresh ones of huge pages
// are taken together.
func (r *region) full() bool { return len(r.free) == 0 && (r.wide || r.ends(1)) }

// ends reports whether fewer than n places of r are fresh.
func (r *region) ends(n int) bool { return int(r.fresh)+n > len(r.base)>>r.shift }

// together returns how many blocks of n bytes, a power of two, fill a huge page, or
// 1 if they are to be taken one by one.
func (m *memory) together(n int) int { return max(1, int(m.huge.Load())/n) }

// takeTogether appends blocks of n bytes to dst, as many as fill a huge page. Such a
// page saves the processor most of its look-ups of where a page lies, each of which
// may be a miss of its caches. As all that the page brings in is taken, nothing is
// resident that is not counted. It fails where the system gives no memory that begins
// with a huge page, and while most of what was taken so is free: then that is to be
// used again, one by one, so that there are never many more regions than are needed.
func (m *memory) takeTogether(dst []block, n, many int) ([]block, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.holes > m.whole/2 {
		return dst, false
	}
	r := m.wide
	if r == nil || r.ends(many) {
		var err error
		if r, err = m.reserve(bits.Len(uint(n - 1))); err != nil || !m.widen(r) {
			return dst, false
		}
		m.wide = r
	}
	for range many {
		dst = append(dst, m.blockAt(r, r.fresh, n))
		r.fresh++
		r.used++
	}
	m.whole += many
	return dst, true
}

// widen makes r, which is new, one of huge pages. If that cannot be r is gone and no
// more are tried. The caller holds m.mu.
func (m *memory) widen(r *region) bool {
	at := uintptr(unsafe.Pointer(unsafe.SliceData(r.base))) // to know where it begins, no more
	if at%hugePage != 0 || len(r.base)%hugePage != 0 || unix.Madvise(r.base, unix.MADV_HUGEPAGE) != nil {
		m.huge.Store(0)
		delete(m.regions, r)
		_ = unix.Munmap(r.base)
		return false
	}
	r.wide, r.at = true, -1
	return true
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
	r := b.region
	if r.wide {
		m.narrow(r)
	}
	// It fails for memory that is locked, which stays resident anyway.
	_ = unix.Madvise(b.buf, unix.MADV_DONTNEED)
	m.mapped.Add(-int64(len(b.buf)))
	m.mu.Lock()
	if r.used--; r.used == 0 {
		if r.at >= 0 {
			m.leave(r)
		}
		if m.wide == r {
			m.wide = nil
		}
		if r.wide {
			m.whole -= int(r.fresh)
			m.holes -= len(r.free)
		}
		delete(m.regions, r)
		m.mu.Unlock()
		_ = unix.Munmap(r.base)
		return
	}
	r.free = append(r.free, b.place)
	if r.wide {
		m.holes++
	}
	if r.at < 0 {
		r.at = len(m.room[r.shift])
		m.room[r.shift] = append(m.room[r.shift], r)
	}
	m.mu.Unlock()
}

// narrow lets the pages of r that were taken so far be no more than they are, before
// a part of one of them is given back: else it would come back, uncounted, with the
// next write to that page or when the system next looks for what to put together.
// Whole huge pages stay.
func (m *memory) narrow(r *region) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if r.fixed == r.fresh {
		return
	}
	if unix.Madvise(r.base[:int(r.fresh)<<r.shift], unix.MADV_NOHUGEPAGE) == nil {
		r.fixed = r.fresh
	}
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
