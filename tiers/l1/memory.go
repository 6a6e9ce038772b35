package l1

// A block is memory for a chunk: len(buf) bytes, zero or of an earlier life.
type block struct {
	buf    []byte
	region *region // that it is of; nil on the heap
	place  uint32  // in the region
}

// regionBytes returns how much of the addresses is reserved at once for blocks
// that take slot of them each, both powers of two: 64 of them or a sixteenth of
// the budget, whichever is less, but for big budgets a thousandth of it, so that
// there are never more regions than a process may have (vm.max_map_count).
func regionBytes(slot int, budget int64) int {
	n := slot
	for n < 64*slot && int64(n)*16 < budget || int64(n)*1024 < budget {
		n *= 2
	}
	return n
}

// Check finds out whether the system gives memory for records at all. Its error
// names the remedy. Without it a Put finds out, and is refused.
func (c *Cache) Check() error {
	b, err := c.slab.memory.take(c.slab.chunkSize)
	if err == nil {
		c.slab.memory.giveBack(b)
	}
	return err
}

// MappedBytes returns what of UsedBytes lies outside the heap: the memory of
// records. The collector's limit is to leave it out. It is 0 in builds that keep
// records on the heap.
func (c *Cache) MappedBytes() int64 { return c.slab.memory.mapped.Load() }

// block takes memory for a chunk of n bytes, for which the caller has claimed
// room.
func (c *Cache) block(n int) (block, bool) {
	b, err := c.slab.memory.take(n)
	if err != nil {
		c.unmappable.Add(1)
		if c.events.NoMemory != nil {
			c.events.NoMemory(err)
		}
	}
	return b, err == nil
}

// GiveBack returns memory of up to limit chunks to the system that nobody needs
// at the moment, as after a purge: unused ones, and those that are empty once
// their records have moved to other chunks of their class. Each class keeps a
// chunk's worth of free slots, and what was taken to fill a huge page stays for the
// next chunks. It reports how many it gave back. What is in the cache stays.
func (c *Cache) GiveBack(limit int) (chunks int) {
	for chunks < limit && (c.dropSpare() || c.compactIdle() && c.dropSpare()) {
		chunks++
	}
	return chunks
}

// compactIdle empties a chunk of a class with two chunks' worth of free slots.
func (c *Cache) compactIdle() bool {
	for _, cl := range c.slab.list() {
		if cl.spare.Load() >= 2*int64(cl.slots) && c.compact(cl) {
			return true
		}
	}
	return false
}

// Close drops all records and gives their memory back to the system; what
// readers still have pinned goes with the last of them. Afterwards the cache is
// empty and takes nothing in. Close may be called more than once. A cache that
// nobody refers to any more is closed by the collector.
func (c *Cache) Close() {
	c.ended.Store(true)
	for i := range c.shards {
		c.empty(&c.shards[i])
	}
	for _, cl := range c.slab.list() {
		c.discardEmpty(cl)
	}
	for c.dropUnused() {
	}
}

// empty drops all that the index of s names.
func (c *Cache) empty(s *shard) {
	s.mu.Lock()
	x, none := s.index.Load(), newIndex(minIndexWords)
	s.seq.Add(1)
	s.index.Store(none)
	s.seq.Add(1)
	s.count.Store(0)
	var last []uint32
	for i := range x.words {
		if w := x.words[i].Load(); w != 0 {
			_, number := split(w)
			e := c.entries.at(number)
			c.countPinned(e, -1)
			c.leaveSpace(e)
			if e.condemn() {
				last = append(last, number)
			}
		}
	}
	s.mu.Unlock()
	c.unclaim(x.bytes() - none.bytes())
	for _, number := range last {
		c.reclaim(number)
	}
}

// discardEmpty gives back the memory of all chunks of cl that are empty.
func (c *Cache) discardEmpty(cl *class) {
	for ch := cl.takeEmpty(); ch != nil; ch = cl.takeEmpty() {
		c.discard(ch)
	}
}

// takeEmpty takes a chunk of which no slot is used out of cl, or returns nil.
func (cl *class) takeEmpty() *chunk {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	for _, ch := range cl.room {
		if ch.used == 0 {
			cl.leave(ch)
			cl.drop(ch)
			return ch
		}
	}
	return nil
}

// takeIfEmpty takes ch out of cl if no slot of it is used, and nobody is draining it,
// who would do that. It reports whether it did.
func (cl *class) takeIfEmpty(ch *chunk) bool {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	if ch.used > 0 || ch.room < 0 {
		return false
	}
	cl.leave(ch)
	cl.drop(ch)
	return true
}

// discard gives back the memory of a chunk that is in no class.
func (c *Cache) discard(ch *chunk) {
	c.slab.delist(ch)
	c.slab.memory.giveBack(ch.block)
	c.unclaim(ch.reserved())
}
