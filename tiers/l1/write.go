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
//   - room cannot be made, as too much is pinned or read at the moment,
//   - its namespace has a budget, of which it takes more than a quarter, or in
//     which room cannot be made for the same reasons,
//   - others would have to leave for it, and it loses the contest against them
//     or the admit hook says no. What is Pinned, or replaces an older
//     version, is never refused so.
//
// In the second to fourth case an older version that was there may still be: the
// caller deletes it if it must not be seen. Put keeps no reference to its
// arguments. It does not allocate except for memory of the budget. The copy is
// made with no lock held, unless it replaces one of about the same size.
func (c *Cache) Put(hash uint64, key []byte, version uint64, record []byte, o PutOptions) bool {
	in := incomer{hash: hash, n: len(record), class: c.slab.classFor(len(record))}
	in.size = c.prices.of(hash, c.slab.footprint(in.class, in.n))
	if !c.admissible(&in, key, version, record) {
		c.refused.Add(1)
		return false
	}
	s, sp := c.shard(hash), c.spaces.Load()
	in.ns = sp.of(record)
	if shared(hash, c.share.Load()) {
		c.play(hash, in.size, in.ns.weight(), o.NowMilli)
	}
	done, stored := c.overwrite(s, &in, key, version, record, o)
	if done {
		return stored
	}
	if !c.claimIn(&in, o) {
		c.refused.Add(1)
		return false
	}
	number, ok := c.newEntry(o.NowMilli)
	if !ok {
		c.giveUp(&in)
		return false
	}
	p, ok := c.roomFor(number, &in, o)
	if !ok {
		c.entries.put(number)
		c.giveUp(&in)
		return false
	}
	copy(c.slab.record(p, uint32(len(record))), record)
	if !c.lockWithRoom(s, o.NowMilli) {
		c.release(p)
		c.entries.put(number)
		c.giveUp(&in)
		return false
	}
	return c.linkAndUnlock(s, number, p, &in, key, version, record, sp, o)
}

// An incomer is what a Put is about to bring in.
type incomer struct {
	ns       *namespace // nil for none
	hash     uint64
	came     heat
	n        int    // bytes of the record
	class    *class // that it goes to, nil for an extent: classes may be divided meanwhile
	size     int    // that it takes
	replaces bool   // an older version
	won      bool   // against what left for it in its namespace
}

// giveUp gives back what in has claimed of its namespace.
func (c *Cache) giveUp(in *incomer) {
	in.ns.unclaim(int64(in.size))
	c.refused.Add(1)
}

// roomFor finds room for the record of the entry number. What came as
// one of a key that is not there may have to contest it; if it loses, its
// frequency is remembered for the next time.
func (c *Cache) roomFor(number uint32, in *incomer, o PutOptions) (place, bool) {
	if in.class != nil {
		in.class.counts.Load().note(in.n)
		if c.prices == nil {
			if p, ok := in.class.take(number); ok {
				return p, true
			}
		}
	}
	b := c.borrow(o.NowMilli)
	defer c.giveBack(b)
	if !in.replaces && !o.Pinned {
		c.challenge(b, in, o)
		b.rivals = b.rivals && !in.won
	}
	var p place
	ok := c.afford(b, in)
	if ok {
		p, ok = c.allocate(b, in, number)
	}
	if b.lost {
		c.haunt(in, o.NowMilli)
	}
	return p, ok
}

// haunt notes that what came in has lost, and remembers its frequency.
func (c *Cache) haunt(in *incomer, nowMilli int64) {
	c.lost.Add(1)
	s := c.shard(in.hash)
	s.mu.Lock()
	s.index.Load().ghosts.add(tagOf(in.hash), in.came, c.tickNow(nowMilli), paceOf(c.pace.Load()))
	s.mu.Unlock()
}

// challenge makes what comes in the rival of b. An admit hook is to be
// asked about it. Unless there is an evict hook it must contest, if the duel says
// so or room is scarce: above the pressure at which the engine warns it must be
// more frequent the higher the pressure, at last twice as frequent.
func (c *Cache) challenge(b *batch, in *incomer, o PutOptions) {
	const scarce = 0.7
	h := c.hooks.Load()
	margin := max(0, c.Pressure()-scarce) / (1 - scarce)
	b.asks = h.admit != nil
	w := c.way()
	b.rivals = h.evict == nil && c.duel != nil && (w.contest || margin > 0 && !w.queues())
	if !b.asks && !b.rivals {
		return
	}
	m := newMeta(o)
	b.space = in.ns
	b.rival = item.Candidate{
		Hash: in.hash, Size: uint32(min(in.size, math.MaxUint32)), LogSize: log2(float32(max(1, in.size))), Hits: in.came.hits(),
		LogFrequency: in.came.logNow(c.tickNow(o.NowMilli), paceOf(c.pace.Load())) - float32(margin) - w.lead,
		Lifetime:     m.lifetime(b.now), Flags: m.candidateFlags(), TagClass: m.tagClass(), LogWeight: in.ns.weight(),
	}
}

// coming returns the heat of a key that comes in, from what its ghost remembers
// if there is one. The caller holds the lock of s.
func (c *Cache) coming(s *shard, hash uint64, nowMilli int64) heat {
	tick := c.tickNow(nowMilli)
	if old, ok := s.index.Load().ghosts.find(tagOf(hash), tick); ok {
		return old.hit(tick, paceOf(c.pace.Load()), hash)
	}
	return newHeat(tick)
}

// admissible reports whether record is what Put asks for.
func (c *Cache) admissible(in *incomer, key []byte, version uint64, record []byte) bool {
	v, err := item.Parse(record)
	return err == nil && record[0] == item.Format && uint64(v.Version()) == version && bytes.Equal(v.Key(), key) &&
		uint64(len(record)) <= math.MaxUint32 && // as entry.size holds
		int64(in.size) <= c.prices.budget(c.limit.Load())/4
}

// overwrite does the whole of a Put if there is an entry that is newer, or one
// that nobody reads and whose slot fits. Else it notes whether there is one, and the
// heat of the key as of now.
func (c *Cache) overwrite(s *shard, in *incomer, key []byte, version uint64, record []byte, o PutOptions) (done, stored bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, number, ok := c.lookupLocked(s, in.hash, key)
	if !ok {
		in.came = c.coming(s, in.hash, o.NowMilli)
		return false, false
	}
	in.replaces = true
	e := c.entries.at(number)
	if c.versionOf(e) > version {
		return true, false
	}
	p := place(e.place.Load())
	cl := c.slab.chunk(p).class
	if cl == nil || !cl.fits(in.n) || !e.seize() {
		in.came = newHeat(c.tickNow(o.NowMilli))
		return false, false
	}
	c.countPinned(e, -1)
	copy(c.slab.record(p, uint32(len(record))), record)
	e.size.Store(uint32(len(record)))
	e.meta.Store(uint64(newMeta(o) | meta(e.meta.Load())&(flagMain|spaceMask)))
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
		more := indexBytes(grownWords(len(x.words)))
		if !c.makeRoom(more, now) {
			return false
		}
		s.mu.Lock()
		if s.index.Load() != x {
			c.unclaim(more)
			continue
		}
		bigger := x.copied(grownWords(len(x.words)), c.tickNow(now), paceOf(c.pace.Load()))
		s.seq.Add(1)
		s.index.Store(bigger)
		s.seq.Add(1)
		c.unclaim(x.bytes())
	}
	return true
}

// linkAndUnlock makes the entry number the one of key, unless a newer one came
// in meanwhile, and unlocks s. It reports whether it did.
func (c *Cache) linkAndUnlock(s *shard, number uint32, p place, in *incomer, key []byte, version uint64, record []byte, sp *spaces, o PutOptions) bool {
	hash, came := in.hash, in.came
	at, old, replaces := c.lookupLocked(s, hash, key)
	if c.ended.Load() || replaces && c.versionOf(c.entries.at(old)) > version {
		s.mu.Unlock()
		in.ns.unclaim(int64(c.slab.chunk(p).slotSize))
		c.release(p)
		c.entries.put(number)
		return false
	}
	size := c.slab.chunk(p).slotSize
	if now := c.spaces.Load(); now != sp { // see SetNamespaces
		in.ns.unclaim(int64(size))
		in.ns = now.of(record)
		in.ns.take(int64(size))
	}
	c.prices.enter(hash)
	s.puts.Add(1)
	c.advanceLocked(s)
	e := c.entries.at(number)
	e.hash.Store(hash)
	m := newMeta(o).in(in.ns.number())
	if c.queues != nil && (came.logFrequency() > 0 || replaces && meta(c.entries.at(old).meta.Load())&flagMain != 0) {
		m |= flagMain
	}
	e.meta.Store(uint64(m))
	e.place.Store(uint64(p))
	e.size.Store(uint32(len(record)))
	e.heat.Store(uint64(came))
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
		c.leaveSpace(before)
		c.prices.leave(hash)
		last = before.condemn()
	} else {
		s.index.Load().ghosts.forget(tagOf(hash))
		s.index.Load().insert(word(tagOf(hash), number))
		s.count.Add(1)
		e.open()
	}
	in.ns.enter()
	s.mu.Unlock()
	if last {
		c.reclaim(old)
	}
	if c.queues != nil {
		c.enlist(name{tagOf(hash), number, uint32(min(c.prices.of(hash, size), math.MaxUint32))}, m&flagMain != 0, o.NowMilli)
	}
	if in.ns != nil {
		c.joined(in.ns, member{tagOf(hash), number}, o.NowMilli)
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
	tag, number := split(x.words[at].Load())
	s.seq.Add(1)
	x.remove(at)
	s.seq.Add(1)
	s.count.Add(-1)
	e := c.entries.at(number)
	x.ghosts.add(tag, heat(e.heat.Load()), c.tickNow(0), paceOf(c.pace.Load()))
	c.countPinned(e, -1)
	c.leaveSpace(e)
	c.prices.leave(e.hash.Load())
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
