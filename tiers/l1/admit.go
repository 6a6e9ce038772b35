package l1

import "slices"

// admitVictims is how many of those that would leave first the admit hook is
// shown.
const admitVictims = 4

// consult asks the admit hook about the rival of b, of whom room for is needed in
// the class cl or, if that is nil, anywhere. If the hook says no, b is lost; if it
// has no answer, b may have to contest as it would without. It reports true if it
// did not ask because something had expired, which it has removed.
func (c *Cache) consult(h *hooks, b *batch, cl *class) (freed bool) {
	if h.admit == nil { // it has just gone
		b.asks = false
		return false
	}
	for range 8 {
		n, expired := c.nextVictims(h, b, cl)
		if expired != nil {
			if c.remove(expired) {
				return true
			}
			continue
		}
		if b.asks = false; n == 0 {
			return false
		}
		for i := range n {
			b.facts[i].Age = c.ageSeconds(&b.seen[i], b.now)
		}
		c.hookCalls.Add(1)
		switch admit, ok := h.admit.Admit(b.rival, b.facts[:n], c.Pressure()); {
		case !ok:
			c.hookFaults.Add(1)
		case admit:
			b.rivals = false
		default:
			c.hookRefused.Add(1)
			b.lost = true
		}
		return false
	}
	return false
}

// nextVictims fills b with those that would leave next, the first first, and
// returns how many these are, at most admitVictims; or one that has expired.
func (c *Cache) nextVictims(h *hooks, b *batch, cl *class) (n int, expired *victim) {
	if h.evict != nil && cl == nil {
		var numbers [admitVictims]uint32
		n := c.queue.lowest(&numbers)
		if n == 0 && c.refill(h.evict, b) {
			n = c.queue.lowest(&numbers)
		}
		b.facts = b.facts[:0]
		for _, number := range numbers[:n] {
			if c.consider(b, number, nil) {
				return 0, &b.seen[len(b.facts)-1]
			}
		}
		if len(b.facts) > 0 {
			return len(b.facts), nil
		}
	}
	if !c.sample(b, candidates, cl) {
		return 0, nil
	}
	v := c.lowest(b, cl == nil)
	if v.expired {
		return 0, v
	}
	if cl == nil {
		b.remember(ranked{v.score, v.number}) // so that the next sample has it
	}
	return b.leastFirst(admitVictims), nil
}

// leastFirst moves the lowest of the sample, at most so many and none of them
// twice, to its beginning, and returns how many these are.
func (b *batch) leastFirst(most int) int {
	n, kept := min(len(b.scores), len(b.facts)), 0
	for at := 0; at < n && kept < most; at++ {
		low := at
		for i := at + 1; i < n; i++ {
			if b.scores[i] < b.scores[low] {
				low = i
			}
		}
		b.swap(at, low)
		if !slices.ContainsFunc(b.seen[:kept], func(v victim) bool { return v.number == b.seen[at].number }) {
			b.swap(kept, at)
			kept++
		}
	}
	return kept
}

func (b *batch) swap(i, k int) {
	b.seen[i], b.seen[k] = b.seen[k], b.seen[i]
	b.facts[i], b.facts[k] = b.facts[k], b.facts[i]
	b.scores[i], b.scores[k] = b.scores[k], b.scores[i]
}
