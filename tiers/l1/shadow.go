package l1

import (
	"math/bits"
	"unsafe"

	"github.com/edgenode/edgenode/tiers/item"
)

// shadow is a cache of facts without contents: what a small cache would hold of
// a share of the keys under one way. The caller holds the lock of the duel.
type shadow struct {
	way
	hits float64

	items  []shadowItem // in no order
	index  *index       // of items; its ghosts remember what left
	least  int          // words of the indexes of a whole cache without items; 0 if index is as made
	used   int64
	charge int64       // per item beside its size
	newest shadowQueue // of all items, if the way has queues
	main   shadowQueue
	age    float64 // smoothed idle ticks of what leaves
	pace   pace
	random uint64
	facts  [candidates]item.Candidate
	scores []int32
}

// shadowItem is one item of a shadow.
type shadowItem struct {
	hash   uint64
	heat   heat
	size   uint32 // what it takes
	weight int16  // see item.Candidate.LogWeight
	main   bool   // in the main queue
}

const (
	shadowItemBytes = 24
	shadowCharge    = 64 // per item, for what the cache keeps about one
)

func newShadow(w way, most int, seed uint64) *shadow {
	s := &shadow{
		way: w, random: seed | 1, charge: shadowCharge,
		items: make([]shadowItem, 0, most), index: newIndex(max(minIndexWords, most*3/2)),
		scores: make([]int32, 0, candidates+1),
	}
	if w.queues() {
		s.newest, s.main = newShadowQueue(most), newShadowQueue(most)
	}
	return s
}

// bytes returns what s takes at most.
func (s *shadow) bytes() int64 {
	return int64(unsafe.Sizeof(*s)) + int64(cap(s.items))*shadowItemBytes + max(s.index.bytes(), indexBytes(grownWords(cap(s.items)*5/4))) +
		4*int64(cap(s.scores)) + s.newest.takes() + s.main.takes()
}

// shadowView is the moment of an access, and the limits then.
type shadowView struct {
	tick      uint32
	limit     int64
	halfLives float64 // see Cache.halfLives
	scorer    Scorer
}

// access is one request for the key with this hash, whose record takes size
// bytes and has this weight. It reports whether the shadow had it.
func (s *shadow) access(hash uint64, size uint32, weight int16, v shadowView) bool {
	if i := s.find(hash); i >= 0 {
		h := &s.items[i]
		s.random += hash
		h.heat = h.heat.hit(v.tick, s.pace, s.random)
		return true
	}
	h := newHeat(v.tick)
	if old, ok := s.index.ghosts.find(tagOf(hash), v.tick); ok {
		h = old.hit(v.tick, s.pace, s.random)
	}
	newcomer := shadowItem{hash, h, size, weight, h.logFrequency() > 0}
	if int64(size)+s.charge > v.limit || !s.makeRoom(newcomer, v) {
		s.index.ghosts.add(tagOf(hash), h, v.tick, s.pace)
		return false
	}
	if s.least > 0 && s.index.full(int64(len(s.items))) {
		s.index = s.index.copied(grownWords(len(s.index.words)), v.tick, s.pace)
	}
	s.index.ghosts.forget(tagOf(hash))
	s.index.insert(word(tagOf(hash), uint32(len(s.items))))
	s.items = append(s.items, newcomer)
	s.used += int64(size) + s.charge
	if s.queues() {
		s.queue(&newcomer).push(&newcomer)
	}
	return false
}

// find returns the position of the item with this hash, or -1.
func (s *shadow) find(hash uint64) int {
	x, tag := s.index, tagOf(hash)
	for i := x.home(tag); ; i = x.next(i) {
		w := x.words[i].Load()
		if w == 0 {
			return -1
		}
		if t, n := split(w); t == tag && s.items[n].hash == hash {
			return int(n)
		}
	}
}

// makeRoom evicts until newcomer fits. It reports false if newcomer loses
// against a victim.
func (s *shadow) makeRoom(newcomer shadowItem, v shadowView) bool {
	for len(s.items) > 0 && (s.used+int64(newcomer.size)+s.charge > v.limit || len(s.items) == cap(s.items)) {
		victim, lost := 0, false
		if s.queues() {
			victim = s.next(v)
		} else {
			victim, lost = s.pick(newcomer, v)
		}
		if lost && s.contest {
			return false
		}
		it := s.items[victim]
		idle := it.heat.idle(v.tick)
		if s.age == 0 {
			s.age = float64(max(1, v.tick))
		}
		s.age = smoothed(s.age, idle)
		s.pace = newPace(v.halfLives * s.age)
		s.remove(victim)
		if !s.queues() || !it.main {
			s.index.ghosts.add(tagOf(it.hash), it.heat, v.tick, s.pace)
		}
	}
	return true
}

// pick returns the lowest of some random items, and whether newcomer is not above it.
func (s *shadow) pick(newcomer shadowItem, v shadowView) (victim int, lost bool) {
	var at [candidates]int
	n := min(candidates, len(s.items))
	facts := s.facts[:0]
	for i := range n {
		at[i] = i
		if len(s.items) > candidates {
			at[i] = s.below(len(s.items))
		}
		facts = append(facts, s.items[at[i]].candidate(v.tick, s.pace))
	}
	s.scores = v.scorer.Score(s.scores[:0], facts, 0)
	s.facts[0], facts = newcomer.candidate(v.tick, s.pace), s.facts[:1]
	s.facts[0].LogFrequency -= s.lead
	s.scores = v.scorer.Score(s.scores, facts, 0)
	if len(s.scores) != n+1 {
		return at[0], false
	}
	best := 0
	for i, score := range s.scores[:n] {
		if score < s.scores[best] {
			best = i
		}
	}
	return at[best], s.scores[n] <= s.scores[best]
}

func (it *shadowItem) candidate(tick uint32, p pace) item.Candidate {
	return item.Candidate{
		Hash: it.hash, Size: it.size, LogSize: log2(float32(it.size)), LogWeight: it.weight, Hits: it.heat.hits(),
		LogFrequency: it.heat.logNow(tick, p), Lifetime: item.NoLifetime,
	}
}

func (s *shadow) below(n int) int {
	s.random ^= s.random << 13
	s.random ^= s.random >> 7
	s.random ^= s.random << 17
	hi, _ := bits.Mul64(s.random, uint64(n))
	return int(hi)
}

// remove takes the item at position i out. A queue still names it.
func (s *shadow) remove(i int) {
	s.index.remove(s.index.find(word(tagOf(s.items[i].hash), uint32(i))))
	s.used -= int64(s.items[i].size) + s.charge
	last := len(s.items) - 1
	if i != last {
		moved := s.items[last]
		at := s.index.find(word(tagOf(moved.hash), uint32(last)))
		s.index.words[at].Store(word(tagOf(moved.hash), uint32(i)))
		s.items[i] = moved
	}
	s.items = s.items[:last]
}

// keep removes all that is not of the share.
func (s *shadow) keep(share uint64) {
	s.newest.keep(s, share)
	s.main.keep(s, share)
	for i := len(s.items) - 1; i >= 0; i-- {
		if !shared(s.items[i].hash, share) {
			s.remove(i)
		}
	}
}

// fit makes the index as big, for the items, as those of a cache of which s plays a
// share are for theirs, unless it is to stay as it was made.
func (s *shadow) fit(share uint64, tick uint32) {
	if s.least > 0 {
		words := max(minIndexWords, s.least/int(share+1), len(s.items)*7/5)
		s.index = s.index.copied(words, tick, s.pace)
	}
}

// clear forgets everything, what has left as well.
func (s *shadow) clear() {
	for len(s.items) > 0 {
		s.remove(len(s.items) - 1)
	}
	clear(s.index.ghosts)
	s.newest.clear()
	s.main.clear()
	s.hits, s.age, s.pace = 0, 0, pace{}
}
