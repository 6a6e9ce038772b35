package l1

import (
	"math"
	"slices"
	"sync"
	"sync/atomic"
)

// entry is what the cache keeps about one record, 40 bytes without pointers.
//
// Hash, place and size are written only while refs says that the entry is
// closed, by the one who closed it: a reader that has pinned it when it was
// open may rely on them until it lets go. Meta is written under the lock of the
// shard, heat by whoever has pinned the entry.
type entry struct {
	hash  atomic.Uint64
	heat  atomic.Uint64 // see heat.go; in a free entry the next free number
	meta  atomic.Uint64 // see meta
	place atomic.Uint64 // see place
	size  atomic.Uint32 // length of the record
	refs  atomic.Uint32 // readers, and the two bits below
}

const entryBytes = 40

// States of refs. An open entry has readers only; a free one is closed. A
// condemned one left the index and is waiting for its readers; whoever finds it without any turns it
// into a free one and gives its slot back. Readers that come by a stale index
// word may add and take away one at any time, in every state.
const (
	closed    = 1 << 31
	condemned = closed | 1<<30
	seized    = closed | 1<<29 // by a writer that will open it again
)

// pin makes e stay as it is until unpin, or reports false and changes nothing.
func (e *entry) pin() (ok, last bool) {
	if e.refs.Add(1)&closed == 0 {
		return true, false
	}
	return false, e.unpin()
}

// unpin lets go. If it returns true the caller must reclaim the entry.
func (e *entry) unpin() (last bool) {
	return e.refs.Add(^uint32(0)) == condemned && e.refs.CompareAndSwap(condemned, closed)
}

// condemn closes e for good. If it returns true the caller must reclaim it,
// else the last reader will.
func (e *entry) condemn() (last bool) {
	return e.refs.Or(condemned) == 0 && e.refs.CompareAndSwap(condemned, closed)
}

// seize closes e, which is open, if nobody reads it. Open opens it again, or a
// free one.
func (e *entry) seize() bool { return e.refs.CompareAndSwap(0, seized) }
func (e *entry) open()       { e.refs.And(^uint32(seized)) }

// idle reports whether e is open and nobody reads it.
func (e *entry) idle() bool { return e.refs.Load() == 0 }

// meta is when the entry ends (45 bits of Unix ms, to the year 3084, all ones for
// never), the number of its namespace (8 bits), flags, and the tag class.
type meta uint64

const (
	flagPinned meta = 1 << (8 + iota)
	flagStale
	flagMain // in the main queue, see queues

	spaceShift = 11
	spaceMask  = meta(math.MaxUint8) << spaceShift
	endShift   = 19
	never      = 1<<(64-endShift) - 1
)

func newMeta(o PutOptions) meta {
	at := uint64(never)
	if o.ExpiresAtMilli != 0 {
		at = uint64(max(0, min(o.ExpiresAtMilli, never-1)))
	}
	m := meta(at<<endShift) | meta(o.TagClass)
	if o.Pinned {
		m |= flagPinned
	}
	if o.Stale {
		m |= flagStale
	}
	return m
}

// end returns when the entry ends, never for never.
func (m meta) end() uint64 { return uint64(m >> endShift) }

// space returns the number of the namespace, 0 for none; in puts it there.
func (m meta) space() uint8        { return uint8(m >> spaceShift) }
func (m meta) in(space uint8) meta { return m&^spaceMask | meta(space)<<spaceShift }

func (m meta) expired(nowMilli int64) bool {
	at := int64(m >> endShift)
	return at != never && nowMilli >= at
}

func (m meta) lifetime(nowMilli int64) uint32 {
	at := int64(m >> endShift)
	if at == never {
		return math.MaxUint32
	}
	return uint32(max(0, min((at-nowMilli)/1000, math.MaxUint32-1)))
}

// entries is the table of all entries, in pages that never move. The table
// never gets shorter.
type entries struct {
	pages atomic.Pointer[[]*entryPage]
	high  atomic.Uint32 // pages up to the last that is not gone

	// mu guards the fields below and changes of those above. It is a leaf lock.
	mu        sync.Mutex
	head      uint32     // number of the first free entry + 1; 0 means none
	gone      *entryPage // see trim
	goneCount int        // how often it is in pages
}

const (
	pageShift   = 8
	pageEntries = 1 << pageShift
	slotBytes   = 8 // of the pointer to a page
	pageBytes   = pageEntries*entryBytes + slotBytes

	maxEntries = 1<<31 - 2
)

type entryPage [pageEntries]entry

// len returns a number above those of all entries in use.
func (t *entries) len() uint32 { return t.high.Load() << pageShift }

func (t *entries) at(number uint32) *entry {
	return &(*t.pages.Load())[number>>pageShift][number%pageEntries]
}

// take removes an entry from the free list. It is closed.
func (t *entries) take() (number uint32, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.head == 0 {
		return 0, false
	}
	number = t.head - 1
	t.head = uint32(t.at(number).heat.Load())
	return number, true
}

// put gives back an entry that is closed.
func (t *entries) put(number uint32) {
	t.mu.Lock()
	t.at(number).heat.Store(uint64(t.head))
	t.head = number + 1
	t.mu.Unlock()
}

// grow adds a page, for which the caller has reserved pageBytes, and returns
// how many of these it took: 0 at the most entries that a number can name.
func (t *entries) grow() (taken int64) {
	page := new(entryPage)
	t.mu.Lock()
	defer t.mu.Unlock()
	pages := *t.pages.Load()
	at := len(pages)
	if t.goneCount > 0 {
		at = slices.Index(pages, t.gone)
		pages = slices.Clone(pages) // readers hold the old one
		pages[at] = page
		t.goneCount--
		taken = pageBytes - slotBytes
	} else {
		if at > (maxEntries-pageEntries)>>pageShift {
			return 0
		}
		// Growing in place is safe: who holds the old header never looks
		// beyond its length.
		pages = append(pages, page)
		taken = pageBytes
	}
	first := uint32(at) << pageShift
	for i := range page {
		page[i].refs.Store(closed)
		page[i].heat.Store(uint64(first) + uint64(i) + 2)
	}
	page[pageEntries-1].heat.Store(uint64(t.head))
	t.pages.Store(&pages)
	t.high.Store(max(t.high.Load(), uint32(at)+1))
	t.head = first + 1
	return taken
}
