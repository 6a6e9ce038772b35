package l1

import (
	"math"
	"slices"
	"sync"
	"sync/atomic"
)

// place is where a record lies: the number of its chunk (32 bits) above the
// slot in it (16 bits).
type place uint64

func newPlace(c *chunk, slot int) place { return place(c.number)<<32 | place(slot) }
func (p place) slot() int               { return int(p & math.MaxUint16) }

// chunk is a piece of memory that is cut into slots of one size, or a single
// extent for one big record.
type chunk struct {
	block
	class    *class // nil for an extent
	slotSize int
	logSize  float32
	number   uint32

	// Under the lock of class.
	owners   []uint32 // by slot: number of the entry, or nextFree | next free slot
	free     int32    // first free slot, -1 for none
	used     int
	at       int // position in class.chunks
	room     int // position in class.room, -1 if not there
	draining bool
	held     bool // it could not be drained, and no slot of it was freed since
}

const (
	nextFree   = 1 << 31
	noFree     = math.MaxInt32
	chunkBytes = 192 // of the struct, rounded up, its pointers in lists, and its share of a region
	classBytes = 264
)

// reserved returns what the chunk takes from the budget.
func (c *chunk) reserved() int64 { return int64(len(c.buf)) + chunkBytes + 4*int64(len(c.owners)) }

// class is all chunks with slots of one size.
type class struct {
	size    int // of a slot
	low     int // records above it came here when the class began
	slots   int // in a chunk
	logSize float32
	spare   atomic.Int64 // free slots in chunks that are not draining; written under mu
	counts  atomic.Pointer[sizeCounts]

	// mu guards the fields below and those of the chunks. No lock is taken
	// while it is held.
	mu     sync.Mutex
	chunks []*chunk
	room   []*chunk // those with free slots that are not draining
}

// slab is the memory of records: chunks by number, classes, and memory for
// chunks that belongs to no class at the moment.
type slab struct {
	table     atomic.Pointer[[]atomic.Pointer[chunk]]
	memory    *memory
	chunkSize int
	classes   atomic.Pointer[[]*class] // see list

	classesAtFirst int

	// mu guards the fields below. It is a leaf lock.
	mu      sync.Mutex
	numbers []uint32 // free numbers of chunks below next
	next    uint32
	spare   []block // for chunks, of no class; still taken from the budget
	ahead   []block // as spare; taken together with one that was needed
}

const (
	minSlot  = 192
	slotUnit = 16
)

// sizes returns the sizes of slots for chunks of chunkSize: what cuts a chunk
// into 4, 5, 6, … parts, each about 1.17 times the one before.
func sizes(chunkSize int) []int {
	var out []int
	for parts := 4; ; parts = int(math.Round(float64(parts) * 1.17)) {
		size := chunkSize / parts / slotUnit * slotUnit
		if size < minSlot {
			break
		}
		out = append(out, size)
	}
	slices.Reverse(out)
	return out
}

func (s *slab) init(m *memory, chunkSize, tableLen int) {
	s.memory, s.chunkSize = m, chunkSize
	var classes []*class
	low := 0
	for _, size := range sizes(chunkSize) {
		classes = append(classes, s.newClass(low, size))
		low = size
	}
	s.classes.Store(&classes)
	s.classesAtFirst = len(classes)
	table := make([]atomic.Pointer[chunk], tableLen)
	s.table.Store(&table)
}

// classFor returns the class for records of n bytes at the moment, or nil if they
// need an extent of their own.
func (s *slab) classFor(n int) *class {
	list := s.list()
	i, _ := slices.BinarySearchFunc(list, n, func(c *class, n int) int { return c.size - n })
	if i == len(list) {
		return nil
	}
	return list[i]
}

// footprint returns what a record of n bytes takes that is of cl, or of an extent
// if it is nil.
func (s *slab) footprint(cl *class, n int) int {
	if cl != nil {
		return cl.size
	}
	return s.memory.rounded(n)
}

func (s *slab) chunk(p place) *chunk { return (*s.table.Load())[p>>32].Load() }

// record returns the n bytes at p.
func (s *slab) record(p place, n uint32) []byte {
	c := s.chunk(p)
	off := p.slot() * c.slotSize
	return c.buf[off : off+int(n) : off+int(n)]
}

// enlist gives c a number. It reports false if none is left.
func (s *slab) enlist(c *chunk) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	table := *s.table.Load()
	if n := len(s.numbers); n > 0 {
		c.number = s.numbers[n-1]
		s.numbers = s.numbers[:n-1]
	} else if int(s.next) < len(table) {
		c.number = s.next
		s.next++
	} else {
		return false
	}
	table[c.number].Store(c)
	return true
}

// delist takes back the number of c.
func (s *slab) delist(c *chunk) {
	s.mu.Lock()
	defer s.mu.Unlock()
	(*s.table.Load())[c.number].Store(nil)
	s.numbers = append(s.numbers, c.number)
}

// keep takes memory of a chunk that no class needs.
func (s *slab) keep(b block) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.spare = append(s.spare, b)
}

// widen makes room for n chunks in the table. It returns how many bytes the
// table grew.
func (s *slab) widen(n int) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := *s.table.Load()
	if n <= len(old) {
		return 0
	}
	table := make([]atomic.Pointer[chunk], n)
	for i := range old {
		table[i].Store(old[i].Load())
	}
	s.table.Store(&table)
	return int64(n-len(old)) * 8
}

// unused takes a chunk's memory that belongs to no class.
func (s *slab) unused() (block, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(s.spare)
	if n == 0 {
		return block{}, false
	}
	b := s.spare[n-1]
	s.spare[n-1] = block{}
	s.spare = s.spare[:n-1]
	return b, true
}

// advance takes a chunk's memory that was taken together with another's.
func (s *slab) advance() (b block, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.ahead); n > 0 {
		b, s.ahead = s.ahead[n-1], s.ahead[:n-1]
		return b, true
	}
	return b, false
}

// together takes memory for so many chunks, as memory.together has it, and keeps all
// but the one that it returns.
func (s *slab) together(many int) (block, bool) {
	var memory [16]block
	list, ok := s.memory.takeTogether(memory[:0], s.chunkSize, many)
	if !ok {
		return block{}, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ahead = append(s.ahead, list[1:]...)
	return list[0], true
}

// add cuts b into slots of the class.
func (s *slab) add(c *class, b block) bool {
	ch := &chunk{block: b, class: c, slotSize: c.size, logSize: c.logSize, owners: make([]uint32, c.slots), room: -1}
	for i := range ch.owners {
		ch.owners[i] = nextFree | uint32(i+1)
	}
	ch.owners[c.slots-1] = nextFree | noFree
	if !s.enlist(ch) {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	ch.at = len(c.chunks)
	c.chunks = append(c.chunks, ch)
	c.enter(ch)
	return true
}

// enter lists ch among the chunks with room.
func (c *class) enter(ch *chunk) {
	ch.room = len(c.room)
	c.room = append(c.room, ch)
	c.spare.Add(int64(c.slots - ch.used))
}

// leave is the inverse of enter.
func (c *class) leave(ch *chunk) {
	last := c.room[len(c.room)-1]
	c.room[ch.room], last.room = last, ch.room
	c.room = c.room[:len(c.room)-1]
	ch.room = -1
	c.spare.Add(-int64(c.slots - ch.used))
}

// drop takes ch, which has left, out of c.
func (c *class) drop(ch *chunk) {
	last := c.chunks[len(c.chunks)-1]
	c.chunks[ch.at], last.at = last, ch.at
	c.chunks = c.chunks[:len(c.chunks)-1]
	ch.at = -1
}

// take finds a free slot and notes its owner.
func (c *class) take(owner uint32) (place, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.room) == 0 {
		return 0, false
	}
	ch := c.room[len(c.room)-1]
	slot := ch.free
	next := ch.owners[slot] &^ nextFree
	if ch.free = int32(next); next == noFree {
		ch.free = -1
	}
	ch.owners[slot] = owner
	ch.used++
	c.spare.Add(-1)
	if ch.free < 0 {
		c.leave(ch)
	}
	return newPlace(ch, int(slot)), true
}

// giveBack frees a slot of ch.
func (c *class) giveBack(ch *chunk, slot int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	next := uint32(noFree)
	if ch.free >= 0 {
		next = uint32(ch.free)
	}
	ch.owners[slot] = nextFree | next
	ch.free = int32(slot)
	ch.used--
	ch.held = false
	switch {
	case ch.draining:
	case ch.room < 0:
		c.enter(ch)
	default:
		c.spare.Add(1)
	}
}
