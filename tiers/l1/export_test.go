package l1

import "fmt"

// Audit recomputes the accounting of c, which must be at rest, from what is
// there, and checks that tables agree with each other.
func (c *Cache) Audit() error {
	used := c.fixedBytes() + c.entries.bytes() + c.external.Load() +
		int64((len(c.slab.spare)+len(c.slab.ahead))*c.slab.chunkSize)
	if q := c.queues; q != nil {
		used += q.small.segments() + q.main.segments()
		if q.spare != nil {
			used += segmentBytes
		}
	}
	sp := c.spaces.Load()
	used += sp.taken
	for _, ns := range sp.list {
		used += int64(len(ns.members.segments)) * memberSegmentBytes
	}
	for i := range c.shards {
		used += c.shards[i].index.Load().bytes() - indexBytes(minIndexWords)
	}
	slots := 0
	table := *c.slab.table.Load()
	for i := range table {
		if ch := table[i].Load(); ch != nil {
			used += ch.reserved()
			slots += ch.used
			if ch.class == nil {
				slots++
			}
		}
	}
	if got := c.used.Load(); got != used {
		return fmt.Errorf("used is %d, what is there takes %d", got, used)
	}
	if got := c.used.Load(); got > c.limit.Load() || got < 0 {
		return fmt.Errorf("used is %d, limit %d", got, c.limit.Load())
	}
	if err := c.auditEntries(slots); err != nil {
		return err
	}
	if err := c.auditSpaces(); err != nil {
		return err
	}
	for _, cl := range c.slab.list() {
		if err := cl.audit(); err != nil {
			return err
		}
	}
	return nil
}

func (t *entries) bytes() int64 {
	pages := *t.pages.Load()
	real := len(pages) - t.goneCount
	if t.gone != nil {
		real++
	}
	return int64(len(pages))*slotBytes + int64(real)*(pageBytes-slotBytes)
}

func (c *Cache) auditEntries(slots int) error {
	var live, pinnedBytes int64
	for i := range c.entries.len() {
		e := c.entries.at(i)
		refs := e.refs.Load()
		if refs == closed {
			continue
		}
		if refs != 0 {
			return fmt.Errorf("entry %d has refs %#x at rest", i, refs)
		}
		live++
		h := e.hash.Load()
		if c.shard(h).index.Load().find(word(tagOf(h), i)) < 0 {
			return fmt.Errorf("entry %d is not in the index", i)
		}
		ch := c.slab.chunk(place(e.place.Load()))
		if ch.class != nil && ch.owners[place(e.place.Load()).slot()] != i {
			return fmt.Errorf("entry %d does not own its slot", i)
		}
		if meta(e.meta.Load())&flagPinned != 0 {
			pinnedBytes += int64(ch.slotSize)
		}
	}
	if live != c.Len() || live != int64(slots) {
		return fmt.Errorf("%d live entries, %d counted, %d slots used", live, c.Len(), slots)
	}
	if got := c.pinnedBytes.Load(); got != pinnedBytes {
		return fmt.Errorf("pinned bytes are %d, want %d", got, pinnedBytes)
	}
	free := uint32(0)
	for n := c.entries.head; n != 0; n = uint32(c.entries.at(n - 1).heat.Load()) {
		free++
	}
	if gone := c.entries.goneCount << pageShift; int(free)+int(live)+gone != len(*c.entries.pages.Load())<<pageShift {
		return fmt.Errorf("%d free and %d live entries of %d", free, live, c.entries.len())
	}
	return nil
}

// auditSpaces counts each namespace anew, by the records themselves.
func (c *Cache) auditSpaces() error {
	sp := c.spaces.Load()
	bytes, items, listed := map[*namespace]int64{}, map[*namespace]int64{}, map[uint32]bool{}
	for _, ns := range sp.list {
		for i := range ns.members.count {
			if m := *ns.members.at(i); c.belongs(m, ns) {
				listed[m.number] = true
			}
		}
	}
	for i := range c.entries.len() {
		e := c.entries.at(i)
		if e.refs.Load() == closed {
			continue
		}
		ns := sp.of(c.record(e))
		if got := meta(e.meta.Load()).space(); got != ns.number() {
			return fmt.Errorf("entry %d has the number %d, its namespace is %d", i, got, ns.number())
		}
		if ns == nil {
			continue
		}
		bytes[ns] += int64(c.slab.chunk(place(e.place.Load())).slotSize)
		items[ns]++
		if ns.limit > 0 && !listed[i] && !ns.members.missed {
			return fmt.Errorf("entry %d is not listed in %s", i, ns.name)
		}
	}
	for _, ns := range sp.list {
		if got, want := ns.bytes.Load(), bytes[ns]; got != want || ns.items.Load() != items[ns] {
			return fmt.Errorf("namespace %s: %d bytes and %d items are counted, there are %d and %d", ns.name, got, ns.items.Load(), want, items[ns])
		}
	}
	return nil
}

func (cl *class) audit() error {
	var spare int64
	for i, ch := range cl.chunks {
		free := 0
		for _, o := range ch.owners {
			if o&nextFree != 0 {
				free++
			}
		}
		listed := 0
		for s := ch.free; s >= 0 && listed <= len(ch.owners); listed++ {
			if s = int32(ch.owners[s] &^ nextFree); s == noFree {
				s = -1
			}
		}
		if ch.at != i || free != len(ch.owners)-ch.used || listed != free || (ch.room >= 0) != (free > 0) {
			return fmt.Errorf("chunk %d of class %d: at %d, %d free, %d in its list, %d used, room %d",
				i, cl.size, ch.at, free, listed, ch.used, ch.room)
		}
		spare += int64(free)
	}
	if got := cl.spare.Load(); got != spare {
		return fmt.Errorf("class %d: spare is %d, want %d", cl.size, got, spare)
	}
	return nil
}

// MoveOne moves records until a chunk is free, if any class has a chunk's worth
// of free slots.
func (c *Cache) MoveOne() bool { return c.compactAny() }

// Trim gives back what tables do not need.
func (c *Cache) Trim() bool { return c.trim() }

// ClearChunk empties a chunk that is not of the class for n bytes by eviction.
func (c *Cache) ClearChunk(n int) bool {
	b := c.borrow(1)
	defer c.giveBack(b)
	return c.clearChunk(b, c.slab.classFor(n))
}

// Hit exposes the arithmetic of frequencies: log2 f as of now after hits at
// the given ticks.
func Hit(halfLife float64, now uint32, ticks ...uint32) float64 {
	h, p := newHeat(ticks[0]), newPace(halfLife)
	for i, t := range ticks[1:] {
		h = h.hit(t, p, uint64(i))
	}
	return float64(h.logNow(now, p))
}

// Sizes exposes the classes for a chunk size.
func Sizes(chunkSize int) []int { return sizes(chunkSize) }

// RecordBytes returns the bytes of all records.
func (c *Cache) RecordBytes() (sum int64) {
	for i := range c.entries.len() {
		if e := c.entries.at(i); e.refs.Load()&closed == 0 {
			sum += int64(e.size.Load())
		}
	}
	return sum
}

// Contests reports whether newcomers must contest at the moment.
func (c *Cache) Contests() bool { return c.way().contest }

// HasQueues reports whether queues say what leaves at the moment.
func (c *Cache) HasQueues() bool { return c.way().queues() }

// Names returns how many names are in the queues.
func (c *Cache) Names() int64 { return c.queues.small.count + c.queues.main.count }

func (q *queue) segments() (bytes int64) {
	for s := q.first; s != nil; s = s.next {
		bytes += segmentBytes
	}
	return bytes
}

// HeatOf returns the hits and the frequency of the record under key.
func HeatOf(c *Cache, hash uint64, key []byte) uint32 {
	s := c.shard(hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, number, ok := c.lookupLocked(s, hash, key); ok {
		return uint32(c.entries.at(number).heat.Load())
	}
	return 0
}

// Listed returns how many members are listed in all namespaces with a budget.
func (c *Cache) Listed() (n int) {
	for _, ns := range c.spaces.Load().budgeted {
		n += ns.members.count
	}
	return n
}

// ClassSizes returns the sizes of slots as they are now.
func ClassSizes(c *Cache) (sizes []int) {
	for _, cl := range c.slab.list() {
		sizes = append(sizes, cl.size)
	}
	return sizes
}

// SlotBytes returns the bytes of all slots and extents in use.
func (c *Cache) SlotBytes() (sum int64) {
	for i := range c.entries.len() {
		if e := c.entries.at(i); e.refs.Load()&closed == 0 {
			sum += int64(c.slab.chunk(place(e.place.Load())).slotSize)
		}
	}
	return sum
}

// GhostBytes returns what the ghosts take.
func GhostBytes(c *Cache) (sum int64) {
	for i := range c.shards {
		sum += int64(len(c.shards[i].index.Load().ghosts)) * 8
	}
	return sum
}
