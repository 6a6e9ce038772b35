package l1

import (
	"math"
	"sync/atomic"

	"github.com/edgenode/edgenode/tiers/item"
)

// clock is when things happen: accesses so far in ticks, or, if something reads
// idleness in time, time in 16 ms since the start. It lags behind by the
// accesses to shards into which nothing was put since. It never jumps: what is
// counted can change, from where the clock stands.
type clock struct {
	accesses atomic.Uint64
	mode     atomic.Uint64 // what is counted, a clockMode
	pace     atomic.Uint64 // see pace.word
	share    atomic.Uint64 // of the duel, noShare without one
	hotMask  atomic.Uint64 // one of hotMask+1 hits is looked at by hotKeys
	_        [24]byte      // hits read the above; what follows is written by evictions
	age      atomic.Uint64 // float64: smoothed idle ticks at eviction; 0 before the first
}

const timeTick = 4 // log2 of 16 ms

// clockMode is what a clock counts, with what is added to that: 32 bits of ticks.
// It is one word, so that nobody ever reads half of a change.
type clockMode uint64

const countsTime clockMode = 1 << 32

func (m clockMode) time() bool { return m&countsTime != 0 }

// counted returns what the clock counts as of nowMilli, in ticks: time or accesses.
func (c *Cache) counted(time bool, nowMilli int64) uint32 {
	if time {
		return uint32((nowMilli - c.startMilli) >> timeTick)
	}
	return uint32(c.accesses.Load() >> c.tickShift)
}

// tick returns what the clock shows at nowMilli, which must not be 0.
func (c *Cache) tick(nowMilli int64) uint32 {
	m := clockMode(c.mode.Load())
	return uint32(m) + c.counted(m.time(), nowMilli)
}

// tickNow is tick, as of now if nowMilli is 0.
func (c *Cache) tickNow(nowMilli int64) uint32 {
	m := clockMode(c.mode.Load())
	if nowMilli == 0 && m.time() {
		nowMilli = c.nowMilli()
	}
	return uint32(m) + c.counted(m.time(), nowMilli)
}

// idleMilli returns how long ticks are, or 0 if accesses are counted.
func (c *Cache) idleMilli(ticks uint32) uint32 {
	if !clockMode(c.mode.Load()).time() {
		return 0
	}
	return uint32(min(uint64(ticks)<<timeTick, math.MaxUint32))
}

// advanceLocked adds the accesses to s since the last time to the clock. The
// caller holds s.mu.
func (c *Cache) advanceLocked(s *shard) {
	total := s.hits.Load() + s.misses.Load() + s.puts.Load()
	c.accesses.Add(total - s.flushed)
	s.flushed = total
}

func (m meta) tagClass() uint8 { return uint8(m & 0xff) }

func (m meta) candidateFlags() item.CandidateFlags {
	if m&flagStale != 0 {
		return item.CandidateStale
	}
	return 0
}

// turnedAt is what both countings were when the clock last changed what it counts.
type turnedAt struct{ time, accesses uint32 }

// turnClock makes the clock count time, or accesses. The idle ages so far are
// turned into the other unit by how many of the one there were to the other since
// the last change: whose hits were before it has an idle age that is an estimate,
// in the right order. It costs a look at each entry and ghost, and blocks nobody
// for longer than one shard's ghosts take. The caller holds c.hooking.
func (c *Cache) turnClock(time bool) {
	old := clockMode(c.mode.Load())
	if old.time() == time {
		return
	}
	now := c.nowMilli()
	at := turnedAt{c.counted(true, now), c.counted(false, 0)}
	from, to := at.accesses-c.turned.accesses, at.time-c.turned.time
	if !time {
		from, to = to, from
	}
	c.turned = at
	shown := c.tick(now)
	mode := clockMode(shown - c.counted(time, now))
	if time {
		mode |= countsTime
	}
	c.mode.Store(uint64(mode))
	r := rescaling{at: shown, factor: float64(to) / float64(max(1, from))}
	if age := math.Float64frombits(c.age.Load()); age > 0 {
		age = max(1, age*r.factor)
		c.age.Store(math.Float64bits(age))
		c.pace.Store(newPace(c.halfLives * age).word())
	}
	c.rescale(r)
}

// rescaling turns idle ages as of the tick at into another unit.
type rescaling struct {
	at     uint32
	factor float64
}

// heat returns h with its idle age in the other unit. No idle age passes
// what a ghost can hold.
func (r rescaling) heat(h heat) heat {
	const most = 1 << (ghostTickBits + ghostTickDrop - 1)
	idle := uint32(min(float64(h.idle(r.at))*r.factor, most))
	return heat(r.at-idle)<<32 | h&math.MaxUint32
}

// rescale turns the idle ages of entries and ghosts. An entry that is hit
// meanwhile is left as the hit leaves it; a hit at the same moment may undo the
// turn of that one entry, which the next hit puts right.
func (c *Cache) rescale(r rescaling) {
	for number := range c.entries.len() {
		e := c.entries.at(number)
		// In a free entry the word is something else, so it is pinned.
		switch ok, last := e.pin(); {
		case ok:
			if h := heat(e.heat.Load()); h.idle(r.at) > 0 {
				e.heat.CompareAndSwap(uint64(h), uint64(r.heat(h)))
			}
			c.unpin(e, number)
		case last:
			c.reclaim(number)
		}
	}
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		g := s.index.Load().ghosts
		for at, w := range g {
			if w != 0 {
				g[at] = ghostWord(uint32(w>>32), r.heat(ghostHeat(w, r.at)))
			}
		}
		s.mu.Unlock()
	}
}
