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

// hookQueue is the victims that a hook has chosen and that have not left yet.
type hookQueue struct {
	// mu guards the fields below. It is a leaf lock and not held while the hook
	// is asked.
	mu      sync.Mutex
	victims []victim
	asking  bool
}

// evictHooked removes a victim of the hook's choice, asking it if none is left.
// It reports false if there is none: nothing to choose from, or another
// goroutine is asking; then the native ranking stands in.
func (c *Cache) evictHooked(b *batch) bool {
	q := &c.queue
	q.mu.Lock()
	for len(q.victims) > 0 {
		v := q.victims[len(q.victims)-1]
		q.victims = q.victims[:len(q.victims)-1]
		q.mu.Unlock()
		if c.remove(&v) {
			return true
		}
		q.mu.Lock()
	}
	if q.asking {
		q.mu.Unlock()
		return false
	}
	q.asking = true
	q.mu.Unlock()

	chosen := c.ask(b)

	q.mu.Lock()
	q.asking = false
	done := false
	if len(chosen) > 0 {
		q.victims = append(q.victims[:0], chosen[1:]...)
		slices.Reverse(q.victims) // the lowest is taken first
		done = true
	}
	q.mu.Unlock()
	return done && c.remove(&chosen[0])
}

// ask returns up to hookVictims of a sample, the lowest first. The result
// shares memory with b.
func (c *Cache) ask(b *batch) []victim {
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
	b.scores = c.hook.Score(b.scores[:0], b.facts[:n], pressure)
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
