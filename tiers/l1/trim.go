package l1

import "slices"

// Tables grow with the number of records: pages of entries, and indexes. When
// nothing else is left to give back, as after Resize or when the engine reserves
// nearly all, what they no longer need goes too.

// trim gives back pages without an entry in use, and the greater part of
// indexes that are three quarters empty. It reports whether it found any. It
// visits each free entry once, with entries.mu held.
func (c *Cache) trim() bool {
	freed := c.entries.trim()
	for i := range c.shards {
		freed += c.trimIndex(&c.shards[i])
	}
	c.unclaim(freed)
	return freed > 0
}

// trimIndex replaces the index of s by one twice as large as need be, if that
// is at most half as large as it is. It returns by how many bytes.
func (c *Cache) trimIndex(s *shard) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	x := s.index.Load()
	n := max(minIndexWords, 2*int(s.count.Load()))
	if len(x.words) < 2*n {
		return 0
	}
	smaller := x.copied(n, c.tickNow(0), paceOf(c.pace.Load()))
	s.seq.Add(1)
	s.index.Store(smaller)
	s.seq.Add(1)
	return x.bytes() - smaller.bytes()
}

// trim takes pages whose entries are all free out of the table, and returns how
// many bytes that frees.
//
// Readers may still come by with numbers of such a page, or hold pointers to its
// entries. Its place in the table is therefore taken by a page that is never
// used, the first that was trimmed: there as here each entry is closed for good.
func (t *entries) trim() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	pages := *t.pages.Load()
	free := make([]uint16, len(pages))
	for n := t.head; n != 0; n = t.nextFree(n - 1) {
		free[(n-1)>>pageShift]++
	}
	if !slices.Contains(free, pageEntries) {
		return 0
	}
	t.unlistPages(free)

	pages = slices.Clone(pages) // readers hold the old one
	freed := int64(0)
	for i, n := range free {
		switch {
		case n < pageEntries:
			continue
		case t.gone == nil:
			t.gone = pages[i] // stays, and is counted on
		default:
			freed += pageBytes - slotBytes
		}
		pages[i] = t.gone
		t.goneCount++
	}
	last := len(pages)
	for last > 0 && pages[last-1] == t.gone {
		last--
	}
	t.pages.Store(&pages)
	t.high.Store(uint32(last))
	return freed
}

// unlistPages takes the entries of pages that are all free off the free list.
func (t *entries) unlistPages(free []uint16) {
	head := t.head
	t.head = 0
	for n := head; n != 0; {
		next := t.nextFree(n - 1)
		if free[(n-1)>>pageShift] < pageEntries {
			t.at(n - 1).heat.Store(uint64(t.head))
			t.head = n
		}
		n = next
	}
}

// nextFree returns what follows the free entry number in the list, + 1.
func (t *entries) nextFree(number uint32) uint32 { return uint32(t.at(number).heat.Load()) }
