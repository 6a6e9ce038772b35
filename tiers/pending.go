package tiers

import (
	"slices"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/journal"
)

// The pending table knows every write that L3 does not hold yet: its id, its
// version and where its bytes are. Contents of journaled writes stay in the
// journal; only those of memory durability are kept here.

// A phase is how far a write has come.
type phase byte

const (
	inFlight   phase = iota // has not reached its level; nobody sees it
	awaitingL3              // in the journal, waits for its commit; nobody sees it
	visible                 // acknowledged
)

// A pendingRecord is one write of an id.
type pendingRecord struct {
	version item.Version
	content item.Version // ContentVersion
	alive   int64        // of a metadata change: Unix ms at which the item was not over
	pos     journal.Pos  // if journaled
	size    uint32       // bytes of the record
	kind    item.Kind
	tiers   item.Tiers
	phase   phase
	memory  bool // the bytes are in the stripe's memory, not in the journal
	dead    bool // pos is in the dead-letter journal
}

// recordID names a record. Versions alone do not: answers of origins bring theirs.
type recordID struct {
	key     string
	version item.Version
}

// A pendingID is an id with writes that L3 does not hold yet, oldest first. One
// write at a time is the usual case and has its room inside.
type pendingID struct {
	key     string
	hash    uint64
	records []pendingRecord
	room    [1]pendingRecord

	queued   bool // stands in the dirty queue
	flushing bool // is part of the batch under way
	replayed bool // found at start: L3 may hold something newer
	stuck    bool // L3 refuses its row; counted in flusherState.stuck
	tries    int  // how often it did; only the flusher looks at both
}

// Accounted bytes of one pending id beside its key, and of each record after
// the first: structs, map slot, allocator's rounding.
const (
	pendingIDBytes     = int64(unsafe.Sizeof(pendingID{})) + 64
	pendingRecordBytes = int64(unsafe.Sizeof(pendingRecord{}))
)

const stripeCount = 1024

// A stripe is one lock's worth of ids.
type stripe struct {
	// mu guards the fields below and makes publishing atomic: while a write
	// becomes visible, pending and L1 change together. Under it only L1's and
	// the journal's own locks are taken, and the journal's append buffer may be
	// waited for; no other I/O is done.
	mu      sync.Mutex
	settled *sync.Cond // on mu: a record left phase inFlight
	ids     map[string]*pendingID
	memory  map[recordID][]byte     // records of memory durability
	waiters map[recordID]chan error // told once when L3 holds the version, or never will
}

// pass waits until whoever holds the lock now has let it go.
func (s *stripe) pass() {
	s.mu.Lock()
	defer s.mu.Unlock()
}

// pendingTable is all stripes. The zero value is not ready; see init.
type pendingTable struct {
	stripes [stripeCount]stripe
	// epochs count published writes by hash, finer than stripes: whoever read
	// an id below pending learns from an unchanged epoch that nothing was
	// published meanwhile.
	epochs [1 << 14]atomic.Uint32

	ids         atomic.Int64 // pending ids
	indexBytes  atomic.Int64 // accounted bytes of ids and records
	memoryBytes atomic.Int64 // bytes of records kept in memory
	records     atomic.Int64 // records of all phases
	changes     atomic.Int64 // of these, metadata changes
}

func (t *pendingTable) init() {
	for i := range t.stripes {
		s := &t.stripes[i]
		s.settled = sync.NewCond(&s.mu)
		s.ids = make(map[string]*pendingID)
	}
}

func (t *pendingTable) stripe(hash uint64) *stripe { return &t.stripes[hash%stripeCount] }

func (t *pendingTable) epoch(hash uint64) *atomic.Uint32 {
	return &t.epochs[hash>>32%uint64(len(t.epochs))]
}

// bytes is what the table takes from the memory budget.
func (t *pendingTable) bytes() int64 { return t.indexBytes.Load() + t.memoryBytes.Load() }

// addLocked appends r to the id of key, which becomes pending if it is not.
func (t *pendingTable) addLocked(s *stripe, hash uint64, key item.Key, r pendingRecord) *pendingID {
	p := s.ids[string(key)]
	if p == nil {
		p = &pendingID{key: string(key), hash: hash}
		p.records = p.room[:0]
		s.ids[p.key] = p
		t.ids.Add(1)
		t.indexBytes.Add(pendingIDBytes + int64(len(key)))
	} else if len(p.records) > 0 {
		t.indexBytes.Add(pendingRecordBytes)
	}
	i := len(p.records)
	for i > 0 && p.records[i-1].version > r.version {
		i-- // only a replay finds records out of order
	}
	p.records = slices.Insert(p.records, i, r)
	t.records.Add(1)
	if r.kind == item.KindMetadata {
		t.changes.Add(1)
	}
	return p
}

// findLocked returns the record of version, or nil if it left.
func (p *pendingID) findLocked(version item.Version) *pendingRecord {
	for i := range p.records {
		if p.records[i].version == version {
			return &p.records[i]
		}
	}
	return nil
}

// newestLocked returns the newest record of at least the given phase, or nil.
func (p *pendingID) newestLocked(least phase) *pendingRecord {
	for i := len(p.records) - 1; i >= 0; i-- {
		if p.records[i].phase >= least {
			return &p.records[i]
		}
	}
	return nil
}

// contentLocked returns the record that holds the content of r, or nil if that
// is not pending: r itself unless r changes metadata only.
func (p *pendingID) contentLocked(r *pendingRecord) *pendingRecord {
	if r.kind != item.KindMetadata {
		return r
	}
	for i := len(p.records) - 1; i >= 0; i-- {
		if c := &p.records[i]; c.kind == item.KindPut && c.content == r.content && c.phase > inFlight {
			return c
		}
	}
	return nil
}

// wakeSettled wakes all who wait until an id has nothing in flight.
func (t *pendingTable) wakeSettled() {
	for i := range t.stripes {
		s := &t.stripes[i]
		s.mu.Lock()
		s.settled.Broadcast()
		s.mu.Unlock()
	}
}

// loggedBeforeLocked reports whether a journal holds a record older than
// version.
func (p *pendingID) loggedBeforeLocked(version item.Version) bool {
	for i := range p.records {
		if r := &p.records[i]; r.version < version && !r.memory {
			return true
		}
	}
	return false
}

// busyLocked reports whether a write of the id is in flight.
func (p *pendingID) busyLocked() bool {
	for i := range p.records {
		if p.records[i].phase != visible {
			return true
		}
	}
	return false
}

// olderLocked reports whether there are writes older than a version that are not
// dead letters, and whether one of them is in flight.
func (s *stripe) olderLocked(than item.Version) (found, waits bool) {
	for _, p := range s.ids {
		for i := range p.records {
			r := &p.records[i]
			older := r.version < than && !r.dead
			found, waits = found || older, waits || older && r.phase == inFlight
		}
	}
	return found, waits
}

// anyOlder reports whether there are writes older than a version that are not
// dead letters.
func (t *pendingTable) anyOlder(than item.Version) bool {
	for i := range t.stripes {
		s := &t.stripes[i]
		s.mu.Lock()
		found, _ := s.olderLocked(than)
		s.mu.Unlock()
		if found {
			return true
		}
	}
	return false
}

// busyLocked reports whether a write of key is in flight.
func (s *stripe) busyLocked(key item.Key) bool {
	p := s.ids[string(key)]
	return p != nil && p.busyLocked()
}

// unpublishedLocked reports whether version of key is a write under way here.
func (s *stripe) unpublishedLocked(key item.Key, version item.Version) bool {
	p := s.ids[string(key)]
	if p == nil {
		return false
	}
	r := p.findLocked(version)
	return r != nil && r.phase != visible
}

// dropLocked takes the records for which gone is true from p, and p from the
// table when none is left. It calls released for each, so that its bytes can be
// let go; released is called with the stripe's lock held.
func (t *pendingTable) dropLocked(s *stripe, p *pendingID, gone func(*pendingRecord) bool, released func(pendingRecord)) {
	before, kept := len(p.records), p.records[:0]
	for i := range p.records {
		r := p.records[i]
		if !gone(&r) {
			kept = append(kept, r)
			continue
		}
		if r.memory {
			id := recordID{p.key, r.version}
			t.memoryBytes.Add(-int64(len(s.memory[id])))
			delete(s.memory, id)
		}
		if r.kind == item.KindMetadata {
			t.changes.Add(-1)
		}
		released(r)
	}
	p.records = kept
	t.records.Add(int64(len(kept) - before))
	extra := max(before-1, 0) - max(len(kept)-1, 0)
	t.indexBytes.Add(-int64(extra) * pendingRecordBytes)
	if len(kept) == 0 && s.ids[p.key] == p {
		delete(s.ids, p.key)
		t.ids.Add(-1)
		t.indexBytes.Add(-pendingIDBytes - int64(len(p.key)))
	}
}

// aliveSince returns until when, at most now (Unix ms), rows of L3 that are over
// may be removed: a pending metadata change may give an item more time, whose
// content is in L3 alone.
func (t *pendingTable) aliveSince(now int64) int64 {
	if t.changes.Load() == 0 {
		return now
	}
	for i := range t.stripes {
		s := &t.stripes[i]
		s.mu.Lock()
		for _, p := range s.ids {
			for j := range p.records {
				if r := &p.records[j]; r.kind == item.KindMetadata {
					now = min(now, r.alive)
				}
			}
		}
		s.mu.Unlock()
	}
	return now
}

// holdLocked keeps record in memory until id leaves the table.
func (t *pendingTable) holdLocked(s *stripe, id recordID, record []byte) {
	if s.memory == nil {
		s.memory = make(map[recordID][]byte)
	}
	s.memory[id] = record
	t.memoryBytes.Add(int64(len(record)))
}

// dirtyQueue holds the ids that have something to flush, each once, in the
// order in which they became dirty.
type dirtyQueue struct {
	mu    sync.Mutex
	ids   []*pendingID
	head  int
	bytes int64
	wake  chan struct{} // capacity 1: something to do
	full  func(items int, bytes int64) bool
	now   chan struct{} // capacity 1: a batch is full, or somebody waits for L3
	again chan struct{} // capacity 1: L3 answers again
}

func newDirtyQueue(full func(items int, bytes int64) bool) *dirtyQueue {
	return &dirtyQueue{wake: make(chan struct{}, 1), now: make(chan struct{}, 1), again: make(chan struct{}, 1), full: full}
}

// push adds p. The caller holds the stripe's lock and has set p.queued.
func (q *dirtyQueue) push(p *pendingID, bytes int64) {
	q.mu.Lock()
	q.ids = append(q.ids, p)
	q.bytes += bytes
	full := q.full(len(q.ids)-q.head, q.bytes)
	q.mu.Unlock()
	signal(q.wake)
	if full {
		signal(q.now)
	}
}

// pop returns the oldest id, or nil.
func (q *dirtyQueue) pop() *pendingID {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.head == len(q.ids) {
		q.ids, q.head, q.bytes = q.ids[:0], 0, 0
		return nil
	}
	p := q.ids[q.head]
	q.ids[q.head] = nil
	q.head++
	if q.head >= 4096 && q.head > len(q.ids)/2 {
		q.ids = append(q.ids[:0], q.ids[q.head:]...)
		q.head = 0
	}
	return p
}

// unpop puts p back where pop takes from.
func (q *dirtyQueue) unpop(p *pendingID) {
	q.mu.Lock()
	if q.head > 0 {
		q.head--
		q.ids[q.head] = p
	} else {
		q.ids = slices.Insert(q.ids, 0, p)
	}
	q.mu.Unlock()
	signal(q.wake)
}

func (q *dirtyQueue) len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.ids) - q.head
}

// signal puts a token into a channel of capacity 1 unless one is there.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
