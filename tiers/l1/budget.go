package l1

// The budget is one number, used, of all bytes that the cache has reserved:
// chunks whether filled or not, extents, pages of entries, indexes, tables and
// what the engine reserved. It is raised only by claim, before the memory is
// taken, so that it never passes the limit.

// claim reserves n bytes if they are free.
func (c *Cache) claim(n int64) bool {
	for {
		used := c.used.Load()
		if c.ended.Load() || n > c.limit.Load()-used { // not used+n, which may overflow
			return false
		}
		if c.used.CompareAndSwap(used, used+n) {
			return true
		}
	}
}

func (c *Cache) unclaim(n int64) { c.used.Add(-n) }

// makeRoom claims n bytes, evicting until they are free. It reports false when
// nothing more can leave.
func (c *Cache) makeRoom(n int64, now int64) bool {
	if c.claim(n) {
		return true
	}
	if !c.reachable(n) {
		return false // do not empty the cache in vain
	}
	b := c.borrow(now)
	defer c.giveBack(b)
	return c.claimEvicting(b, n)
}

func (c *Cache) claimEvicting(b *batch, n int64) bool {
	for !c.claim(n) {
		if !c.shrink(b) {
			return c.claim(n)
		}
	}
	return true
}

// reachable reports whether n bytes may become free at all.
func (c *Cache) reachable(n int64) bool {
	return n <= c.limit.Load()-c.external.Load()-c.pinnedBytes.Load()-c.fixedBytes()
}

// shrink does one step towards fewer reserved bytes: it gives back a chunk, or
// evicts, or gives back what tables no longer need. It reports false when neither is possible.
func (c *Cache) shrink(b *batch) bool {
	if c.dropUnused() {
		return true
	}
	if c.compactAny() {
		c.dropUnused() // unless another goroutine has already put it to use
		return true
	}
	return c.evict(b, nil) || !b.lost && c.trim()
}

// dropUnused gives the memory of one unused chunk back to the system, at last of those
// that were taken ahead.
func (c *Cache) dropUnused() bool {
	if c.dropSpare() {
		return true
	}
	b, ok := c.slab.advance()
	if ok {
		c.dropChunk(b)
	}
	return ok
}

// dropSpare is dropUnused but for what was taken ahead.
func (c *Cache) dropSpare() bool {
	b, ok := c.slab.unused()
	if ok {
		c.dropChunk(b)
	}
	return ok
}

func (c *Cache) dropChunk(b block) {
	c.slab.memory.giveBack(b)
	c.unclaim(int64(c.slab.chunkSize))
}

// allocate finds room for the record of the entry owner, evicting as needed for b,
// which may have a rival.
func (c *Cache) allocate(b *batch, in *incomer, owner uint32) (place, bool) {
	cl := in.class
	if cl == nil {
		return c.allocateExtent(b, in.n)
	}
	for tries := 0; tries < maxTries; tries++ {
		if p, ok := cl.take(owner); ok {
			return p, true
		}
		if !c.extend(cl) && !c.vacate(b, cl, tries) || b.lost {
			return 0, false
		}
	}
	return cl.take(owner)
}

// Bounds of the work for one record: victims from everywhere before they are
// looked for in the class alone, more of these if queues say who leaves, as a
// victim of the class is none of theirs; and steps at all.
const (
	widely       = 8
	queuedWidely = 64
	maxTries     = 4096
)

// vacate does one step towards a free slot of cl: a victim from anywhere, as
// the ranking has it, so that memory moves to the class that earns most; after
// some of these a victim of the class; without any, a chunk of another class.
func (c *Cache) vacate(b *batch, cl *class, tries int) bool {
	if c.compactAny() {
		return true
	}
	wide := widely
	if c.way().queues() && c.hooks.Load().evict == nil {
		wide = queuedWidely
	}
	if tries < wide && c.evict(b, nil) {
		return true
	}
	if b.lost {
		return false
	}
	return c.evict(b, cl) || !b.lost && (c.clearChunk(b, cl) || c.evict(b, nil))
}

// extend gives cl one more chunk if one is unused or the budget has room.
func (c *Cache) extend(cl *class) bool {
	c.divide(cl)
	owners := chunkBytes + 4*int64(cl.slots)
	size := int64(c.slab.chunkSize)
	b, ok := c.slab.unused()
	if !ok {
		b, ok = c.slab.advance()
	}
	if !ok {
		b, ok = c.ahead()
	}
	if !ok {
		if !c.claim(size + owners) {
			return false
		}
		if b, ok = c.block(c.slab.chunkSize); !ok {
			c.unclaim(size + owners)
			return false
		}
	} else if !c.claim(owners) {
		c.dropChunk(b) // so that there is room the next time
		return false
	}
	if !c.slab.add(cl, b) {
		c.slab.memory.giveBack(b)
		c.unclaim(size + owners)
		return false
	}
	return true
}

// ahead takes a chunk's memory with that of the next ones, if the budget has room for
// all of them.
func (c *Cache) ahead() (block, bool) {
	many := c.slab.memory.together(c.slab.chunkSize)
	size := int64(c.slab.chunkSize) * int64(many)
	if many == 1 || !c.claim(size) {
		return block{}, false
	}
	b, ok := c.slab.together(many)
	if !ok {
		c.unclaim(size)
	}
	return b, ok
}

func (c *Cache) allocateExtent(b *batch, n int) (place, bool) {
	size := c.slab.memory.rounded(n)
	if !c.reachable(int64(size)+chunkBytes) || !c.claimEvicting(b, int64(size)+chunkBytes) {
		return 0, false
	}
	extent, ok := c.block(size)
	if !ok {
		c.unclaim(int64(size) + chunkBytes)
		return 0, false
	}
	ch := &chunk{block: extent, slotSize: size, logSize: log2(float32(size))}
	if !c.slab.enlist(ch) {
		c.slab.memory.giveBack(extent)
		c.unclaim(ch.reserved())
		return 0, false
	}
	return newPlace(ch, 0), true
}

// release frees the slot or extent at p.
func (c *Cache) release(p place) {
	ch := c.slab.chunk(p)
	poison(ch.buf[p.slot()*ch.slotSize:][:ch.slotSize])
	if ch.class != nil {
		ch.class.giveBack(ch, p.slot())
		if c.ended.Load() && ch.class.takeIfEmpty(ch) {
			c.discard(ch)
		}
		return
	}
	c.discard(ch)
}

// reclaim frees what a condemned entry held, and the entry.
func (c *Cache) reclaim(number uint32) {
	c.release(place(c.entries.at(number).place.Load()))
	c.entries.put(number)
}
