package l1

import (
	"bytes"

	"github.com/edgenode/edgenode/tiers/item"
)

// A Pin is a record that stays in place until Release. It is a value; copies
// of it stand for the same hold.
type Pin struct {
	record []byte
	cache  *Cache
	entry  *entry
	number uint32
	stale  bool
}

// Bytes returns the record. It must not be changed, nor used after Release: its
// memory may be another's then, or none at all.
func (p Pin) Bytes() []byte { return p.record }

// Stale reports whether the record had been marked stale.
func (p Pin) Stale() bool { return p.stale }

// Release lets the record go. It must be called exactly once for each Pin that
// Get returned; on the zero Pin it does nothing.
func (p Pin) Release() {
	if p.entry != nil {
		p.cache.unpin(p.entry, p.number)
	}
}

// Get returns the record under key, pinned. It reports false if there is none,
// or if it has expired at nowMilli (Unix ms; at 0 nothing that was put with an
// end after 1970 has), in which case it is removed unless it is pinned.
// Hash must be the same function of key everywhere, well mixed in all 64 bits.
//
// While it is pinned the record takes its room even if it is replaced, deleted
// or evicted. Get takes no lock unless the key's index changes at the moment,
// and does not allocate.
func (c *Cache) Get(hash uint64, key []byte, nowMilli int64) (Pin, bool) {
	s := c.shard(hash)
	e, number, ok := c.find(s, hash, key)
	if !ok {
		s.misses.Add(1)
		return Pin{}, false
	}
	m := meta(e.meta.Load())
	if m.expired(nowMilli) {
		c.unpin(e, number)
		c.removeExpired(s, hash, number, nowMilli)
		s.misses.Add(1)
		return Pin{}, false
	}
	n := s.hits.Add(1)
	c.touch(e, nowMilli, n)
	if sampled(n, c.hotMask.Load()) {
		c.countHot(hash, key, nowMilli)
	}
	if shared(hash, c.share.Load()) {
		c.play(hash, c.slab.chunk(place(e.place.Load())).slotSize, c.spaces.Load().weight(m), nowMilli)
	}
	return Pin{c.record(e), c, e, number, m&flagStale != 0}, true
}

// Append appends the record under key to dst and returns the extended slice. It
// reports false, and returns dst as it was, if there is none or it has expired.
// It allocates only when dst is too short.
func (c *Cache) Append(dst []byte, hash uint64, key []byte, nowMilli int64) ([]byte, bool) {
	p, ok := c.Get(hash, key, nowMilli)
	if !ok {
		return dst, false
	}
	dst = append(dst, p.record...)
	p.Release()
	return dst, true
}

// touch notes a hit on e, which is pinned.
func (c *Cache) touch(e *entry, nowMilli int64, random uint64) {
	old := heat(e.heat.Load())
	if h := old.hit(c.tickNow(nowMilli), paceOf(c.pace.Load()), random); h != old {
		e.heat.Store(uint64(h))
	}
}

// found is what a look at the index came to.
type found int

const (
	absent found = iota
	present
	changing // ask again with the lock held
)

// find returns the entry of key, pinned.
func (c *Cache) find(s *shard, hash uint64, key []byte) (*entry, uint32, bool) {
	seq := s.seq.Load()
	e, number, f := c.probe(s.index.Load(), hash, key)
	if f == present {
		return e, number, true
	}
	if f == absent && seq&1 == 0 && s.seq.Load() == seq {
		return nil, 0, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	e, number, f = c.probe(s.index.Load(), hash, key)
	return e, number, f == present
}

// probe looks for key in x. What it returns is pinned. With the shard's lock
// held it never returns changing.
func (c *Cache) probe(x *index, hash uint64, key []byte) (*entry, uint32, found) {
	tag := tagOf(hash)
	for i := x.home(tag); ; i = x.next(i) {
		w := x.words[i].Load()
		if w == 0 {
			return nil, 0, absent
		}
		t, number := split(w)
		if t != tag {
			continue
		}
		e := c.entries.at(number)
		e.refs.Load() // an entry may lie on two lines of the processor's caches: both are asked for now
		if e.hash.Load() != hash {
			continue // another key, or no longer what w named: then seq tells
		}
		ok, last := e.pin()
		if !ok {
			if last {
				c.reclaim(number)
			}
			return nil, 0, changing
		}
		record := c.record(e)
		fetch(record)
		if e.hash.Load() == hash && bytes.Equal(item.View(record).Key(), key) {
			return e, number, present
		}
		c.unpin(e, number)
	}
}

// removeExpired removes the entry of a record that is over, unless its content
// is pinned.
func (c *Cache) removeExpired(s *shard, hash uint64, number uint32, nowMilli int64) {
	e := c.entries.at(number)
	s.mu.Lock()
	at := -1
	if m := meta(e.meta.Load()); e.hash.Load() == hash && m.expired(nowMilli) && m&flagPinned == 0 {
		at = s.index.Load().find(word(tagOf(hash), number))
	}
	last := false
	if at >= 0 {
		last = c.unlink(s, at)
		c.expired.Add(1)
	}
	s.mu.Unlock()
	if last {
		c.reclaim(number)
	}
}
