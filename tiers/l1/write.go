package l1

import (
	"bytes"
	"math"

	"github.com/edgenode/edgenode/tiers/item"
)

// PutOptions go with a record.
type PutOptions struct {
	// ExpiresAtMilli is the earlier of the end of the item and of its lifetime
	// here, in Unix ms; 0 means never.
	ExpiresAtMilli int64

	Pinned   bool  // it must not be evicted until Unpin
	Stale    bool  // it is to be returned as stale
	TagClass uint8 // passed on to hooks; 0 means none

	// NowMilli is the time, if the caller has it at hand; 0 means to look at
	// the clock if need be.
	NowMilli int64
}

// Put stores a copy of record under key, in place of an older or equal version
// of it, and evicts what it needs to. The record must be a whole item.View with
// this key and version. It reports false, and stores nothing, if
//
//   - an entry with a newer version is there,
//   - record takes more than a quarter of the budget or 4 GiB, or is not what it
//     must be,
//   - room cannot be made, as too much is pinned or read at the moment.
//
// In the last two cases an older version that was there may still be: the
// caller deletes it if it must not be seen. Put keeps no reference to its
// arguments. It does not allocate except for memory of the budget. The copy is
// made with no lock held, unless it replaces one of about the same size.
func (c *Cache) Put(hash uint64, key []byte, version uint64, record []byte, o PutOptions) bool {
	if !c.admissible(key, version, record) {
		c.refused.Add(1)
		return false
	}
	s := c.shard(hash)
	if done, stored := c.overwrite(s, hash, key, version, record, o); done {
		return stored
	}
	number, ok := c.newEntry(o.NowMilli)
	if !ok {
		c.refused.Add(1)
		return false
	}
	p, ok := c.allocate(len(record), number, o.NowMilli)
	if !ok {
		c.entries.put(number)
		c.refused.Add(1)
		return false
	}
	copy(c.slab.record(p, uint32(len(record))), record)
	if !c.lockWithRoom(s, o.NowMilli) {
		c.release(p)
		c.entries.put(number)
		c.refused.Add(1)
		return false
	}
	return c.linkAndUnlock(s, number, p, hash, key, version, record, o)
}

// admissible reports whether record is what Put asks for.
func (c *Cache) admissible(key []byte, version uint64, record []byte) bool {
	v, err := item.Parse(record)
	return err == nil && uint64(v.Version()) == version && bytes.Equal(v.Key(), key) &&
		uint64(len(record)) <= math.MaxUint32 && // as entry.size holds
		int64(c.slab.footprint(len(record))) <= c.limit.Load()/4
}

// overwrite does the whole of a Put if there is an entry that is newer, or one
// that nobody reads and whose slot fits.
func (c *Cache) overwrite(s *shard, hash uint64, key []byte, version uint64, record []byte, o PutOptions) (done, stored bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, number, ok := c.lookupLocked(s, hash, key)
	if !ok {
		return false, false
	}
	e := c.entries.at(number)
	if c.versionOf(e) > version {
		return true, false
	}
	p := place(e.place.Load())
	cl := c.slab.chunk(p).class
	if cl == nil || cl != c.slab.classFor(len(record)) || !e.seize() {
		return false, false
	}
	c.countPinned(e, -1)
	copy(c.slab.record(p, uint32(len(record))), record)
	e.size.Store(uint32(len(record)))
	e.meta.Store(uint64(newMeta(o)))
	c.countPinned(e, 1)
	s.puts.Add(1)
	c.advanceLocked(s)
	e.heat.Store(uint64(c.warmer(e, o.NowMilli)))
	e.open()
	return true, true
}

// warmer returns the heat of e after one more access.
func (c *Cache) warmer(e *entry, nowMilli int64) heat {
	return heat(e.heat.Load()).hit(c.tickNow(nowMilli), paceOf(c.pace.Load()), e.hash.Load())
}

func (c *Cache) tickNow(nowMilli int64) uint32 {
	if nowMilli == 0 && c.timeIdle {
		nowMilli = c.nowMilli()
	}
	return c.tick(nowMilli)
}

// newEntry returns a closed entry that is in no list.
func (c *Cache) newEntry(now int64) (number uint32, ok bool) {
	for {
		if number, ok = c.entries.take(); ok {
			return number, true
		}
		if !c.makeRoom(pageBytes, now) {
			return c.entries.take()
		}
		taken := c.entries.grow()
		c.unclaim(pageBytes - taken)
		if taken == 0 {
			return 0, false
		}
	}
}

// lockWithRoom locks s with room for one more word in its index. It reports
// false, and leaves s unlocked, if there is no room for a bigger one.
func (c *Cache) lockWithRoom(s *shard, now int64) bool {
	s.mu.Lock()
	for x := s.index.Load(); x.full(s.count.Load()); x = s.index.Load() {
		s.mu.Unlock()
		more := int64(grownWords(len(x.words))) * 8
		if !c.makeRoom(more, now) {
			return false
		}
		s.mu.Lock()
		if s.index.Load() != x {
			c.unclaim(more)
			continue
		}
		bigger := x.copied(grownWords(len(x.words)))
		s.seq.Add(1)
		s.index.Store(bigger)
		s.seq.Add(1)
		c.unclaim(x.bytes())
	}
	return true
}

// linkAndUnlock makes the entry number the one of key, unless a newer one came
// in meanwhile, and unlocks s. It reports whether it did.
func (c *Cache) linkAndUnlock(s *shard, number uint32, p place, hash uint64, key []byte, version uint64, record []byte, o PutOptions) bool {
	at, old, replaces := c.lookupLocked(s, hash, key)
	if replaces && c.versionOf(c.entries.at(old)) > version {
		s.mu.Unlock()
		c.release(p)
		c.entries.put(number)
		return false
	}
	s.puts.Add(1)
	c.advanceLocked(s)
	e := c.entries.at(number)
	e.hash.Store(hash)
	e.meta.Store(uint64(newMeta(o)))
	e.place.Store(uint64(p))
	e.size.Store(uint32(len(record)))
	e.heat.Store(uint64(newHeat(c.tickNow(o.NowMilli))))
	c.countPinned(e, 1)
	// The index names the entry before it is open: else a reader that comes by
	// a word of an earlier life of the entry could return this version while
	// others still find the one before.
	last := false
	if replaces {
		before := c.entries.at(old)
		e.heat.Store(uint64(c.warmer(before, o.NowMilli)))
		s.index.Load().words[at].Store(word(tagOf(hash), number))
		s.seq.Add(2) // who still goes by the old word looks again
		e.open()
		c.countPinned(before, -1)
		last = before.condemn()
	} else {
		s.index.Load().insert(word(tagOf(hash), number))
		s.count.Add(1)
		e.open()
	}
	s.mu.Unlock()
	if last {
		c.reclaim(old)
	}
	return true
}

// lookupLocked returns where the entry of key is in the index, and its number.
// The caller holds s.mu.
func (c *Cache) lookupLocked(s *shard, hash uint64, key []byte) (at int, number uint32, ok bool) {
	x, tag := s.index.Load(), tagOf(hash)
	for i := x.home(tag); ; i = x.next(i) {
		w := x.words[i].Load()
		if w == 0 {
			return 0, 0, false
		}
		t, n := split(w)
		if t != tag {
			continue
		}
		if e := c.entries.at(n); e.hash.Load() == hash && bytes.Equal(item.View(c.record(e)).Key(), key) {
			return i, n, true
		}
	}
}

// versionOf returns the version of the record of e, an entry of a shard that
// the caller has locked.
func (c *Cache) versionOf(e *entry) uint64 { return uint64(item.View(c.record(e)).Version()) }

// unlink takes the entry at position at out of the index and condemns it. If it
// returns true the caller must reclaim the entry. The caller holds s.mu.
func (c *Cache) unlink(s *shard, at int) (last bool) {
	x := s.index.Load()
	_, number := split(x.words[at].Load())
	s.seq.Add(1)
	x.remove(at)
	s.seq.Add(1)
	s.count.Add(-1)
	e := c.entries.at(number)
	c.countPinned(e, -1)
	return e.condemn()
}

// countPinned adds e to what is pinned, or takes it away, if it is.
func (c *Cache) countPinned(e *entry, sign int64) {
	if meta(e.meta.Load())&flagPinned != 0 {
		c.pinnedBytes.Add(sign * int64(c.slab.chunk(place(e.place.Load())).slotSize))
		c.pinnedCount.Add(sign)
	}
}

// Delete removes the record under key if its version is at most upToVersion. It
// reports whether it did. Readers that have it pinned keep it.
func (c *Cache) Delete(hash uint64, key []byte, upToVersion uint64) bool {
	s := c.shard(hash)
	s.mu.Lock()
	at, number, ok := c.lookupLocked(s, hash, key)
	if !ok || c.versionOf(c.entries.at(number)) > upToVersion {
		s.mu.Unlock()
		return false
	}
	last := c.unlink(s, at)
	s.mu.Unlock()
	if last {
		c.reclaim(number)
	}
	return true
}

// Unpin lets the record under key be evicted from now on, if its version is at
// most upToVersion. It reports whether it was pinned.
func (c *Cache) Unpin(hash uint64, key []byte, upToVersion uint64) bool {
	return c.change(hash, key, upToVersion, func(e *entry, m meta) meta {
		c.countPinned(e, -1)
		return m &^ flagPinned
	})
}

// SetStale marks the record under key as stale, if its version is at most
// upToVersion. It reports whether it was not stale before.
func (c *Cache) SetStale(hash uint64, key []byte, upToVersion uint64) bool {
	return c.change(hash, key, upToVersion, func(_ *entry, m meta) meta { return m | flagStale })
}

// change replaces the meta of an entry and reports whether that changed it.
func (c *Cache) change(hash uint64, key []byte, upToVersion uint64, f func(*entry, meta) meta) bool {
	s := c.shard(hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	_, number, ok := c.lookupLocked(s, hash, key)
	if !ok {
		return false
	}
	e := c.entries.at(number)
	if c.versionOf(e) > upToVersion {
		return false
	}
	m := meta(e.meta.Load())
	changed := f(e, m)
	e.meta.Store(uint64(changed))
	return changed != m
}
