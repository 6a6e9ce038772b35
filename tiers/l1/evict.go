package l1

import (
	"math"

	"github.com/edgenode/edgenode/tiers/item"
)

// Candidates per victim. Fewer cost hits, more cost cache misses: on traces at a
// tenth of their footprint 16 alone lose 2 to 3 % of the hits of 64; 32 in four
// runs, with the 8 runners-up of the sample before, at most 0.5 %.
const (
	candidates = 32
	runLength  = 8 // neighbours in the table that are looked at together
	runnersUp  = 8 // of the last sample, looked at again with the next
)

// batch is what one eviction needs: the candidates, who they are, and their
// scores. Batches are pooled.
type batch struct {
	now    int64 // Unix ms
	random uint64
	seen   [hookSample + runnersUp]victim
	facts  []item.Candidate // of seen, in order
	scores []int32

	next  [runnersUp]ranked // the lowest that did not leave, ascending
	nexts int

	rival  item.Candidate // for whom room is needed, if it must contest or be admitted
	rivals bool           // it must contest
	space  *namespace     // its own, if that is known
	asks   bool           // the admit hook is to be asked about it
	lost   bool           // it is not above what would leave for it, or was not admitted
}

// ranked is an entry in the order of leaving.
type ranked struct {
	score  int32
	number uint32
}

// victim names an entry so that it can be found again, or be seen to have
// changed.
type victim struct {
	number  uint32
	expired bool
	hash    uint64
	place   place
	idle    uint32 // ticks
	score   int32
}

// borrow returns a batch for evictions at now, or as of the clock if now is 0.
func (c *Cache) borrow(now int64) *batch {
	b := c.batches.Get().(*batch)
	if b.now = now; now == 0 {
		b.now = c.nowMilli()
	}
	b.rivals, b.asks, b.lost, b.space = false, false, false, nil
	return b
}

func (c *Cache) giveBack(b *batch) { c.batches.Put(b) }

func (c *Cache) newBatch() *batch {
	// splitmix64 of a counter: batches differ, runs with one seed do not.
	x := c.seeds.Add(0x9e3779b97f4a7c15)
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return &batch{
		random: x ^ x>>31 | 1,
		facts:  make([]item.Candidate, 0, hookSample+runnersUp),
		scores: make([]int32, 0, hookSample+runnersUp),
	}
}

// below returns a random number below n (xorshift64).
func (b *batch) below(n int) int {
	b.random ^= b.random << 13
	b.random ^= b.random >> 7
	b.random ^= b.random << 17
	return int(b.random >> 32 * uint64(n) >> 32)
}

// evict removes the lowest of some random entries, of the class cl unless it is
// nil. A namespace that has more than its share pays first. It reports false if there is nothing that may leave.
func (c *Cache) evict(b *batch, cl *class) bool {
	if cl == nil {
		if freed := c.evictPayer(b); freed || b.lost {
			return freed
		}
	}
	h := c.hooks.Load()
	if b.asks {
		if freed := c.consult(h, b, cl); freed || b.lost {
			return freed
		}
	}
	if h.evict != nil && cl == nil && c.evictHooked(h.evict, b) {
		return true
	}
	if c.way().queues() && cl == nil && c.evictQueued(b) {
		return true
	}
	for range 8 {
		if !c.sample(b, candidates, cl) {
			break
		}
		v := c.lowest(b, cl == nil)
		if b.rivals && c.loses(b, v) {
			b.lost = true
			return false
		}
		if c.remove(v) {
			return true
		}
	}
	return cl == nil && c.evictAny(b)
}

// lowest returns the victim of a sample: one that has expired, else the one
// with the least score. If keep is true it remembers the next ones. A
// sample often has more than one entry that ought to leave.
func (c *Cache) lowest(b *batch, keep bool) *victim {
	if last := &b.seen[len(b.facts)-1]; last.expired {
		return last
	}
	b.scores = c.scorer.Score(b.scores[:0], b.facts, c.Pressure())
	best := 0
	for i, s := range b.scores[:min(len(b.scores), len(b.facts))] {
		if s < b.scores[best] {
			best = i
		}
	}
	if keep {
		b.nexts = 0
		for i, s := range b.scores[:min(len(b.scores), len(b.facts))] {
			if number := b.seen[i].number; number != b.seen[best].number {
				b.remember(ranked{s, number})
			}
		}
	}
	if len(b.scores) > 0 {
		b.seen[best].score = b.scores[best]
	}
	return &b.seen[best]
}

// loses reports whether the rival of b is not above v, the lowest of the sample.
func (c *Cache) loses(b *batch, v *victim) bool {
	if v.expired {
		return false
	}
	b.facts = append(b.facts[:0], b.rival)
	b.scores = c.scorer.Score(b.scores[:0], b.facts, c.Pressure())
	return len(b.scores) == 1 && b.scores[0] <= v.score
}

// remember adds r to the next ones in its place.
func (b *batch) remember(r ranked) {
	i := b.nexts
	if i < runnersUp {
		b.nexts++
	} else if i--; b.next[i].score <= r.score {
		return
	}
	for ; i > 0 && b.next[i-1].score > r.score; i-- {
		b.next[i] = b.next[i-1]
	}
	b.next[i] = r
}

// sample fills b with what is left of the runners-up, unless cl is given, and up
// to n random entries that may leave. It stops at one that has expired. It
// reports false if it found none.
func (c *Cache) sample(b *batch, n int, cl *class) bool {
	b.facts = b.facts[:0]
	if cl == nil {
		for _, r := range b.next[:b.nexts] {
			if c.consider(b, r.number, nil) {
				return true
			}
		}
		n += len(b.facts)
	}
	for tries := 0; len(b.facts) < n && tries < 8*n/runLength; tries++ {
		var run [runLength]uint32
		if cl == nil {
			first := uint32(b.below(int(c.entries.len()))) &^ (runLength - 1)
			for i := range run {
				run[i] = first + uint32(i)
			}
		} else if !cl.pick(b, &run) {
			break
		}
		for _, number := range run {
			if len(b.facts) < n && c.consider(b, number, cl) {
				return true
			}
		}
	}
	return len(b.facts) > 0
}

// pick fills run with owners of slots of one chunk.
func (cl *class) pick(b *batch, run *[runLength]uint32) bool {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	if len(cl.chunks) == 0 {
		return false
	}
	ch := cl.chunks[b.below(len(cl.chunks))]
	first := b.below(len(ch.owners))
	for i := range run {
		run[i] = ch.owners[(first+i)%len(ch.owners)]
	}
	return true
}

// consider adds the entry to b if it may leave. It reports true if the entry
// has expired. What it reads may change meanwhile; remove checks.
func (c *Cache) consider(b *batch, number uint32, cl *class) (expired bool) {
	if number >= c.entries.len() {
		return false
	}
	e := c.entries.at(number)
	m := meta(e.meta.Load())
	if !e.idle() || m&flagPinned != 0 {
		return false
	}
	p := place(e.place.Load())
	ch := c.slab.chunk(p)
	if ch == nil || cl != nil && ch.class != cl {
		return false
	}
	h, tick, pace := heat(e.heat.Load()), c.tick(b.now), paceOf(c.pace.Load())
	v := victim{number: number, hash: e.hash.Load(), place: p, idle: h.idle(tick), expired: m.expired(b.now)}
	b.seen[len(b.facts)] = v
	size, logSize := c.priced(v.hash, ch)
	b.facts = append(b.facts, item.Candidate{
		Hash: v.hash, Size: size, LogSize: logSize,
		Hits: h.hits(), Idle: c.idleMilli(v.idle), LogFrequency: h.logNow(tick, pace),
		Lifetime: m.lifetime(b.now), Flags: m.candidateFlags(), TagClass: m.tagClass(), LogWeight: c.spaces.Load().weight(m),
	})
	return v.expired
}

// evictAny walks the table for anything that may leave, from where the last
// walk ended. It is for caches that are nearly all pinned, where samples fail.
func (c *Cache) evictAny(b *batch) bool {
	if c.Len() <= c.pinnedCount.Load() {
		return false
	}
	n := c.entries.len()
	for range n {
		b.facts = b.facts[:0]
		c.consider(b, (c.hand.Add(1)-1)%n, nil)
		if len(b.facts) > 0 && c.remove(&b.seen[0]) {
			return true
		}
	}
	return false
}

// remove evicts v unless it changed or got readers since it was seen.
func (c *Cache) remove(v *victim) bool {
	s, e := c.shard(v.hash), c.entries.at(v.number)
	s.mu.Lock()
	at := -1
	// Fields of an entry of another shard may be changing; find then fails.
	if e.idle() && e.hash.Load() == v.hash && e.place.Load() == uint64(v.place) && meta(e.meta.Load())&flagPinned == 0 {
		at = s.index.Load().find(word(tagOf(v.hash), v.number))
	}
	if at < 0 {
		s.mu.Unlock()
		return false
	}
	size, space := c.slab.chunk(v.place).slotSize, meta(e.meta.Load()).space()
	last := c.unlink(s, at)
	s.mu.Unlock()
	if last {
		c.reclaim(v.number)
	}
	if v.expired {
		c.expired.Add(1)
	} else {
		c.evicted.Add(1)
		c.spaces.Load().countEvicted(space)
		c.learn(v.idle)
	}
	if c.events.Evicted != nil {
		c.events.Evicted(v.hash, size, v.expired)
	}
	return true
}

// learn moves the half-life of frequencies towards the idle age at which entries
// leave, times halfLives, a five-hundredth of the way for each. Updates of goroutines
// that meet may be lost.
func (c *Cache) learn(idle uint32) {
	age := math.Float64frombits(c.age.Load())
	if age == 0 { // the first: as long as it took to fill up
		age = float64(max(1, gap(c.tick(c.nowMilli()), c.startTick)))
	}
	age = smoothed(age, idle)
	c.age.Store(math.Float64bits(age))
	// Hits read the pace: it is written only when it changed by a hundredth.
	now := paceOf(c.pace.Load())
	if drift := float64(now.inverse) * c.halfLives * age; drift < 0.99 || drift > 1.01 {
		c.pace.Store(newPace(c.halfLives * age).word())
	}
}

// smoothed moves age a five-hundredth of the way to idle.
func smoothed(age float64, idle uint32) float64 {
	const weight = 0.002
	return max(1, age+weight*(float64(idle)-age))
}
