package l1

import (
	"cmp"
	"slices"
	"sync"

	"github.com/edgenode/edgenode/tiers/item"
)

// How a hook is asked: of hookSample entries the hookBatch lowest by the native
// ranking, and the hookVictims lowest of these by the hook leave, one by one.
// That is one call per eight evictions and sixteen candidates per victim.
const (
	hookVictims = 8
	hookSample  = hookVictims * 16
	hookBatch   = 64
)

// An Admitter decides whether a newcomer is worth what would leave for it.
//
// Admit reports whether newcomer comes in at the price of victims, of which there
// are 1 to 4, the first to leave first; there may be others. ok is false if it has
// no answer: then the cache decides as it does without. It is called with no lock
// held, from several goroutines, and each call holds up one Put: it must be
// short. It must not keep victims. Pressure is as for Scorer.
type Admitter interface {
	Admit(newcomer item.Candidate, victims []item.Candidate, pressure float64) (admit, ok bool)
}

// hooks are who is asked now. Either may be nil.
type hooks struct {
	evict Scorer
	admit Admitter
}

// SetHooks changes who is asked, nil being nobody, from the next eviction on.
// What was asked before may still answer one call of each goroutine.
//
// Evict is asked about up to 64 candidates at most once per eight evictions, by
// the goroutine that needs room. What it answers stands for the native ranking
// of these, unless there are not as many scores as candidates. While it is asked,
// other goroutines go by the native ranking.
//
// Admit is asked at most once in a Put, and only if others would have to leave for
// what comes in, this replaces nothing, is not pinned, and nothing that has expired
// can leave instead.
//
// Both are told idle ages in time, so the first hook makes the cache count these
// in time, and when the last one goes accesses are counted again; each change
// costs a look at every entry.
func (c *Cache) SetHooks(evict Scorer, admit Admitter) {
	c.hooking.Lock()
	defer c.hooking.Unlock()
	old := *c.hooks.Load()
	turned := clockMode(c.mode.Load()).time()
	c.turnClock(c.timeIdle || evict != nil || admit != nil)
	turned = turned != clockMode(c.mode.Load()).time()
	c.hooks.Store(&hooks{evict, admit})
	if evict == nil {
		c.queue.forget()
	}
	if c.duel != nil && (turned || (old.evict != nil) != (evict != nil)) {
		c.restartDuel(evict != nil)
	}
}

// hookQueue is the victims that a hook has chosen and that have not left yet.
type hookQueue struct {
	// mu guards the fields below. It is a leaf lock and not held while the hook
	// is asked.
	mu      sync.Mutex
	victims []victim // the lowest last
	asking  bool
}

// pop takes the lowest.
func (q *hookQueue) pop() (v victim, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.victims) == 0 {
		return victim{}, false
	}
	v = q.victims[len(q.victims)-1]
	q.victims = q.victims[:len(q.victims)-1]
	return v, true
}

// lowest writes the numbers of the lowest to dst, in order, and returns how many
// there are.
func (q *hookQueue) lowest(dst *[admitVictims]uint32) int {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := min(len(q.victims), len(dst))
	for i := range n {
		dst[i] = q.victims[len(q.victims)-1-i].number
	}
	return n
}

func (q *hookQueue) forget() {
	q.mu.Lock()
	q.victims = q.victims[:0]
	q.mu.Unlock()
}

// evictHooked removes a victim of the hook's choice, asking it if none is left.
// It reports false if there is none: nothing to choose from, or another
// goroutine is asking; then the native ranking stands in.
func (c *Cache) evictHooked(hook Scorer, b *batch) bool {
	for {
		v, ok := c.queue.pop()
		if !ok {
			break
		}
		if c.remove(&v) {
			return true
		}
	}
	if !c.refill(hook, b) {
		return false
	}
	v, ok := c.queue.pop()
	return ok && c.remove(&v)
}

// refill asks the hook for the next victims, unless another goroutine does. It
// reports whether there are any.
func (c *Cache) refill(hook Scorer, b *batch) bool {
	q := &c.queue
	q.mu.Lock()
	if q.asking {
		q.mu.Unlock()
		return false
	}
	q.asking = true
	q.mu.Unlock()

	chosen := c.ask(hook, b)

	q.mu.Lock()
	defer q.mu.Unlock()
	q.asking = false
	q.victims = append(q.victims[:0], chosen...)
	slices.Reverse(q.victims) // the lowest is taken first
	return len(q.victims) > 0
}

// ask returns up to hookVictims of a sample, the lowest first. The result
// shares memory with b.
func (c *Cache) ask(hook Scorer, b *batch) []victim {
	b.nexts = 0
	if !c.sample(b, hookSample, nil) {
		return nil
	}
	if last := len(b.facts) - 1; b.seen[last].expired {
		return b.seen[last : last+1]
	}
	n := c.shortlist(b)
	pressure := c.Pressure()
	c.hookCalls.Add(1)
	b.scores = hook.Score(b.scores[:0], b.facts[:n], pressure)
	if len(b.scores) == n {
		for i := range n {
			b.seen[i].score = b.scores[i]
		}
		slices.SortStableFunc(b.seen[:n], func(x, y victim) int { return cmp.Compare(x.score, y.score) })
	} else {
		c.hookFaults.Add(1)
		b.scores = make([]int32, 0, cap(b.facts)) // the hook may have kept or replaced it
	}
	return b.seen[:min(n, hookVictims)]
}

// shortlist orders the sample by the native ranking, drops what is there twice,
// and keeps the hookBatch lowest, whose ages it fills in. It returns how many
// these are.
func (c *Cache) shortlist(b *batch) int {
	n := len(b.facts)
	b.scores = c.scorer.Score(b.scores[:0], b.facts, c.Pressure())
	for i := range min(n, len(b.scores)) {
		b.seen[i].score = b.scores[i]
	}
	var facts [hookSample]item.Candidate
	copy(facts[:], b.facts)
	var order [hookSample]int
	for i := range n {
		order[i] = i
	}
	slices.SortFunc(order[:n], func(x, y int) int {
		return cmp.Or(cmp.Compare(b.seen[x].score, b.seen[y].score), cmp.Compare(b.seen[x].number, b.seen[y].number))
	})
	seen, kept := b.seen, 0
	for i, at := range order[:n] {
		if kept == hookBatch {
			break
		}
		if i > 0 && seen[at].number == seen[order[i-1]].number {
			continue
		}
		b.seen[kept], b.facts[kept] = seen[at], facts[at]
		b.facts[kept].Age = c.ageSeconds(&b.seen[kept], b.now)
		kept++
	}
	return kept
}

// ageSeconds returns how long ago the version of v was stamped, or 0 if v
// changed meanwhile.
func (c *Cache) ageSeconds(v *victim, now int64) uint32 {
	e := c.entries.at(v.number)
	ok, last := e.pin()
	if ok {
		defer c.unpin(e, v.number)
	} else if last {
		c.reclaim(v.number)
	}
	if !ok || e.place.Load() != uint64(v.place) {
		return 0
	}
	stamped := item.View(c.record(e)).Version().UnixMilli()
	return uint32(max(0, min((now-stamped)/1000, 1<<32-1)))
}
