package l1

// Memory moves between classes by whole chunks. Victims are chosen by rank
// whatever their class, so that free slots gather where what is kept is worth
// least; once a class has a chunk's worth of them, the records of its emptiest
// chunk move into them, and the chunk is free for any class or extent.

// compactAny empties a chunk of a class with a chunk's worth of free slots. It
// tries each of them: readers may hold up some for long. It reports false if it
// emptied none.
func (c *Cache) compactAny() bool {
	for _, cl := range c.slab.list() {
		if cl.spare.Load() >= int64(cl.slots) && c.compact(cl) {
			return true
		}
	}
	return false
}

// compact empties one chunk of cl by moving its records. It tries two, and
// copies less than these. It reports false if a record of either could not
// move, as while it is read.
func (c *Cache) compact(cl *class) bool {
	for range 2 {
		ch, _ := cl.emptiest(false)
		if ch == nil {
			return false
		}
		if c.drain(ch, c.move) {
			return true
		}
	}
	return false
}

// clearChunk empties a chunk of another class than cl by evicting what is in
// it. It is for a class that has nothing of its own to evict.
func (c *Cache) clearChunk(b *batch, cl *class) bool {
	var best *chunk
	least, classes := 0, c.slab.list()
	for range 8 {
		other := classes[b.below(len(classes))]
		if other == cl {
			continue
		}
		ch, used := other.emptiest(true)
		if ch != nil && (best == nil || ch.slotSize*used < least) {
			best, least = ch, ch.slotSize*used
		}
	}
	return best != nil && c.drain(best, func(number uint32, p place) bool {
		e := c.entries.at(number)
		return c.remove(&victim{number: number, hash: e.hash.Load(), place: p})
	})
}

// emptiest returns the chunk with the fewest used slots among up to 16 of those
// with room, or of all, and how many these are; or nil. Chunks that could not
// be emptied the last time come last.
func (cl *class) emptiest(all bool) (best *chunk, used int) {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	from := cl.room
	if all {
		from = cl.chunks
	}
	for i := 0; i < len(from); i += 1 + len(from)/16 {
		ch := from[i]
		if !ch.draining && (best == nil || best.held && !ch.held || best.held == ch.held && ch.used < used) {
			best, used = ch, ch.used
		}
	}
	return best, used
}

// drain calls clear for each used slot of ch and takes ch from its class if all
// of them became free. New records do not go to ch meanwhile.
func (c *Cache) drain(ch *chunk, clear func(number uint32, p place) bool) bool {
	cl := ch.class
	cl.mu.Lock()
	if ch.draining || ch.at < 0 {
		cl.mu.Unlock()
		return false
	}
	ch.draining = true
	if ch.room >= 0 {
		cl.leave(ch)
	}
	for slot := 0; slot < len(ch.owners) && ch.used > 0; slot++ {
		owner := ch.owners[slot]
		if owner&nextFree != 0 {
			continue
		}
		cl.mu.Unlock()
		cleared := clear(owner, newPlace(ch, slot))
		cl.mu.Lock()
		if !cleared {
			break
		}
	}
	ch.draining = false
	if ch.used > 0 {
		ch.held = true
		if ch.free >= 0 {
			cl.enter(ch)
		}
		cl.mu.Unlock()
		return false
	}
	cl.drop(ch)
	cl.mu.Unlock()
	c.slab.delist(ch)
	c.slab.keep(ch.block)
	c.unclaim(ch.reserved() - int64(len(ch.buf)))
	if c.ended.Load() {
		c.dropUnused()
	}
	return true
}

// move copies the record of the entry number from the place from to a free slot
// of the same class. It reports false if the entry is read, or not in the index
// yet, or no longer, or if there is no free slot.
func (c *Cache) move(number uint32, from place) bool {
	e, cl := c.entries.at(number), c.slab.chunk(from).class
	to, ok := cl.take(number)
	if !ok {
		return false
	}
	hash := e.hash.Load()
	s := c.shard(hash)
	s.mu.Lock()
	// That the index names the entry says that it belongs to this shard, whose
	// lock is held, so that nobody else closes it.
	moved := s.index.Load().find(word(tagOf(hash), number)) >= 0 && place(e.place.Load()) == from && e.seize()
	if moved {
		n := e.size.Load()
		copy(c.slab.record(to, n), c.slab.record(from, n))
		e.place.Store(uint64(to))
		e.open()
	}
	s.mu.Unlock()
	if !moved {
		from = to
	}
	c.release(from)
	if moved {
		c.moved.Add(1)
	}
	return moved
}
