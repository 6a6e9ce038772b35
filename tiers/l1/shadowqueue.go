package l1

// shadowQueue names items of a shadow by their hashes, first in, first out. It is a
// ring for as many as the shadow may hold.
type shadowQueue struct {
	names        []uint64
	first, count int
	bytes        int64
}

func newShadowQueue(most int) shadowQueue { return shadowQueue{names: make([]uint64, most)} }

// takes returns how much memory q takes.
func (q *shadowQueue) takes() int64 { return int64(len(q.names)) * 8 }

func (q *shadowQueue) push(it *shadowItem) {
	q.names[(q.first+q.count)%len(q.names)] = it.hash
	q.count++
	q.bytes += int64(it.size)
}

// pop takes the first out, which is an item of s, and returns its position.
func (q *shadowQueue) pop(s *shadow) int {
	i := s.find(q.names[q.first])
	q.first = (q.first + 1) % len(q.names)
	q.count--
	q.bytes -= int64(s.items[i].size)
	return i
}

// keep lets go of all that is not of the share. The items are still there.
func (q *shadowQueue) keep(s *shadow, share uint64) {
	for range q.count {
		if it := &s.items[q.pop(s)]; shared(it.hash, share) {
			q.push(it)
		}
	}
}

func (q *shadowQueue) clear() { q.first, q.count, q.bytes = 0, 0, 0 }

// queue returns the queue of it.
func (s *shadow) queue(it *shadowItem) *shadowQueue {
	if it.main {
		return &s.main
	}
	return &s.newest
}

// next returns the position of the item whose turn it is to leave, as
// Cache.evictQueued does, and takes it off its queue. There must be one.
func (s *shadow) next(v shadowView) int {
	for step := 0; ; step++ {
		q := &s.newest
		if s.newest.bytes <= v.limit/s.way.small && s.main.count > 0 || s.newest.count == 0 {
			q = &s.main
		}
		i := q.pop(s)
		it := &s.items[i]
		again, left := turns(it.heat, it.weight, s.below(1<<20))
		switch {
		case step >= longestWalk:
			return i
		case !it.main && again >= smallHits:
			it.main, it.heat = true, it.heat.withHits(1)
		case it.main && again > 0:
			it.heat = it.heat.withHits(left)
		default:
			return i
		}
		s.main.push(it)
	}
}
