package l1

// A Verdict says what becomes of a record that Sweep has shown.
type Verdict int

// The verdicts.
const (
	Keep Verdict = iota
	Drop
	MarkStale
)

// A Cursor is where a sweep stands. The zero Cursor is before the beginning. It
// belongs to one cache and one goroutine.
type Cursor struct {
	next, end uint32
	begun     bool
}

// Sweep shows up to limit records, at least one, to fn and does as it says, beginning at
// cursor, which it moves on. It reports whether the sweep is complete: then
// each record that was there from its beginning to its end was shown at least
// once. Records that came in meanwhile may or may not be shown, as may expired
// ones. A record that is replaced counts as a new one.
//
// Fn is called with no lock held; the record is valid only during the call. A
// record that was replaced meanwhile is left alone. Pinned ones are dropped
// like others. Besides what it shows, a call passes over at most 16 times as
// many free places.
func (c *Cache) Sweep(cursor *Cursor, limit int, fn func(record []byte, stale bool) Verdict) (done bool) {
	if !cursor.begun {
		*cursor = Cursor{end: c.entries.len(), begun: true}
	}
	const passed = 16
	limit = max(1, min(limit, maxEntries)) // so that each call gets on, and work does not overflow
	for work := 0; work < limit*passed && cursor.next < cursor.end; work++ {
		if c.show(cursor.next, fn) {
			work += passed - 1
		}
		cursor.next++
	}
	return cursor.next >= cursor.end
}

// show calls fn for the entry number and reports whether there is one.
func (c *Cache) show(number uint32, fn func([]byte, bool) Verdict) bool {
	e := c.entries.at(number)
	if !c.pinPatiently(e, number) {
		return false
	}
	defer c.unpin(e, number)
	hash, m := e.hash.Load(), meta(e.meta.Load())
	switch fn(c.record(e), m&flagStale != 0) {
	case Drop:
		c.settle(hash, number, func(s *shard, at int) { c.unlink(s, at) })
	case MarkStale:
		c.settle(hash, number, func(*shard, int) { e.meta.Or(uint64(flagStale)) })
	}
	return true
}

// settle calls f with the lock of the shard held if the entry, which the caller
// has pinned, is still in the index. As it is pinned, what f condemns is
// reclaimed when the caller lets go.
func (c *Cache) settle(hash uint64, number uint32, f func(s *shard, at int)) {
	s := c.shard(hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	if at := s.index.Load().find(word(tagOf(hash), number)); at >= 0 {
		f(s, at)
	}
}

// pinPatiently pins e unless it is free or condemned. It waits for a writer
// that has seized it.
func (c *Cache) pinPatiently(e *entry, number uint32) bool {
	if e.refs.Load()&seized == closed {
		return false
	}
	if ok, last := e.pin(); ok {
		return true
	} else if last {
		c.reclaim(number)
	}
	s := c.shard(e.hash.Load())
	s.mu.Lock()
	defer s.mu.Unlock()
	ok, last := e.pin()
	if last {
		c.reclaim(number)
	}
	return ok
}
