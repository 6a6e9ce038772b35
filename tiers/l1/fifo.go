package l1

import (
	"math"
	"sync"

	"github.com/edgenode/edgenode/tiers/item"
)

// queues order entries as S3-FIFO does: what comes in passes a small queue, and
// moves to the main one if it was hit twice meanwhile, or if it left the small
// one not long ago; what reaches the end of the main one goes round again once
// for each of up to three hits. After J. Yang et al., "FIFO queues are all you
// need for cache eviction", 2023. Hits write nothing but the heat of the entry.
//
// A queue holds names of entries. Names of what was deleted, replaced or chosen
// by others since stay until their turn comes; when they are the greater part, each
// entry that comes in has some looked at.
type queues struct {
	// mu guards the fields below. It is a leaf lock.
	mu    sync.Mutex
	small queue
	main  queue
	spare *segment
}

// queue is a list of names, first in, first out.
type queue struct {
	first, last *segment
	count       int64
	bytes       int64 // of what is named, by its size when it came
}

// segment is a part of a queue.
type segment struct {
	next     *segment
	from, to int
	names    [segmentNames]name
}

// name is an entry, if it is still of a key with this tag.
type name struct {
	tag, number, size uint32
}

const (
	segmentNames = 256
	segmentBytes = segmentNames*12 + 24 + 8 // as the runtime rounds
	smallHits    = 2                        // that lead from the small queue to the main one
	mainHits     = 3                        // that count in the main one
	longestWalk  = 128                      // names looked at for one victim; then hits do not count
)

func (q *queue) full() bool { return q.last == nil || q.last.to == segmentNames }

// push adds n at the end of q, of which seg is a new segment unless nil.
func (q *queue) push(n name, seg *segment) {
	switch {
	case seg == nil:
	case q.last == nil:
		q.first, q.last = seg, seg
	default:
		q.last.next = seg
		q.last = seg
	}
	q.last.names[q.last.to] = n
	q.last.to++
	q.count++
	q.bytes += int64(n.size)
}

// pop takes the first name, and the segment it was in if that is now empty.
func (q *queue) pop() (n name, empty *segment, ok bool) {
	s := q.first
	if s == nil || s.from == s.to {
		return name{}, nil, false
	}
	n = s.names[s.from]
	s.from++
	q.count--
	q.bytes -= int64(n.size)
	if s.from < s.to {
		return n, nil, true
	}
	if q.first = s.next; q.first == nil {
		q.last = nil
	}
	*s = segment{}
	return n, s, true
}

// enqueue puts the entry number in its queue.
func (c *Cache) enqueue(n name, main bool, now int64) {
	q := c.queues
	for {
		q.mu.Lock()
		to := &q.small
		if main {
			to = &q.main
		}
		if !to.full() {
			to.push(n, nil)
			break
		}
		if seg := q.spare; seg != nil {
			q.spare = nil
			to.push(n, seg)
			break
		}
		q.mu.Unlock()
		if !c.makeRoom(segmentBytes, now) {
			return // it may still leave as one of a sample
		}
		q.mu.Lock()
		c.keepSpareLocked(&segment{})
		q.mu.Unlock()
	}
	q.mu.Unlock()
}

// enlist puts the entry number, which has just come in, in its queue. When most names
// mean nothing, it looks at some and lets those go.
func (c *Cache) enlist(n name, main bool, now int64) {
	c.enqueue(n, main, now)
	q := c.queues
	for range 3 {
		q.mu.Lock()
		if q.small.count+q.main.count <= 2*c.Len()+4*segmentNames {
			q.mu.Unlock()
			return
		}
		// The longer one has more names than there are entries.
		main := q.main.count > q.small.count
		n, ok := q.takeLocked(c, main)
		q.mu.Unlock()
		if ok && c.named(n, main) {
			c.enqueue(n, main, now)
		}
	}
}

// takeLocked takes the first name of a queue.
func (q *queues) takeLocked(c *Cache, main bool) (name, bool) {
	from := &q.small
	if main {
		from = &q.main
	}
	n, empty, ok := from.pop()
	c.keepSpareLocked(empty)
	return n, ok
}

// keepSpareLocked keeps seg, which is counted, or gives it back.
func (c *Cache) keepSpareLocked(seg *segment) {
	switch {
	case seg == nil:
	case c.queues.spare == nil:
		c.queues.spare = seg
	default:
		c.unclaim(segmentBytes)
	}
}

// next takes the name whose turn it is, and says of which queue.
func (c *Cache) next() (n name, main, ok bool) {
	q := c.queues
	q.mu.Lock()
	defer q.mu.Unlock()
	most := c.prices.budget(c.limit.Load()-c.external.Load()) / max(1, c.way().small)
	main = q.small.bytes <= most && q.main.count > 0 || q.small.count == 0
	n, ok = q.takeLocked(c, main)
	return n, main, ok
}

// named reports whether n still is an entry of that queue. It may change.
func (c *Cache) named(n name, main bool) bool {
	if n.number >= c.entries.len() {
		return false
	}
	e := c.entries.at(n.number)
	return e.refs.Load()&closed == 0 && tagOf(e.hash.Load()) == n.tag && (meta(e.meta.Load())&flagMain != 0) == main
}

// evictQueued removes the entry whose turn it is. It reports false if there is
// none within a few rounds.
func (c *Cache) evictQueued(b *batch) bool {
	for step := range 2 * longestWalk {
		n, main, ok := c.next()
		if !ok {
			return false
		}
		if !c.named(n, main) {
			continue
		}
		e := c.entries.at(n.number)
		m, h := meta(e.meta.Load()), heat(e.heat.Load())
		again, left := turns(h, c.spaces.Load().weight(m), b.below(1<<20))
		switch {
		case m.expired(b.now):
		case m&flagPinned != 0 || !e.idle():
			c.enqueue(n, main, b.now)
			continue
		case step >= longestWalk:
		case !main && again >= smallHits:
			if c.promote(n, e, h) {
				c.enqueue(n, true, b.now)
			}
			continue
		case main && again > 0:
			e.heat.CompareAndSwap(uint64(h), uint64(h.withHits(left)))
			c.enqueue(n, true, b.now)
			continue
		}
		v := victim{number: n.number, hash: e.hash.Load(), place: place(e.place.Load()), expired: m.expired(b.now)}
		v.idle = h.idle(c.tick(b.now))
		if c.remove(&v) {
			if main {
				c.forget(v.hash)
			}
			return true
		}
		c.enqueue(n, main, b.now)
	}
	return false
}

// turns returns how many more turns the hits of h are worth in the main queue, at
// most mainHits, and the hits that are left after one. With a weight a turn takes
// so many hits fewer, or more; parts of a hit by chance, which is below 2^20.
func turns(h heat, weight int16, chance int) (again int, left uint32) {
	hits := min(h.hits(), mainHits+1)
	if weight == 0 {
		again = int(hits) - 1
		return again, uint32(max(0, again))
	}
	factor := math.Exp2(float64(weight) / item.WeightUnit)
	worth := min(mainHits, factor*max(0, float64(h.hits())-1))
	rest := (worth - 1) / factor
	if rest > 0 {
		left = uint32(rest)
		if float64(chance) < (rest-float64(left))*(1<<20) {
			left++
		}
	}
	return int(worth), left + 1
}

// promote moves e to the main queue, its hits forgotten. It reports false if e
// is no longer in the index.
func (c *Cache) promote(n name, e *entry, h heat) bool {
	s := c.shard(e.hash.Load())
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.index.Load().find(word(n.tag, n.number)) < 0 {
		return false
	}
	e.meta.Or(uint64(flagMain))
	e.heat.CompareAndSwap(uint64(h), uint64(h.withHits(1)))
	return true
}

// forget drops the ghost of the key with this hash.
func (c *Cache) forget(hash uint64) {
	s := c.shard(hash)
	s.mu.Lock()
	s.index.Load().ghosts.forget(tagOf(hash))
	s.mu.Unlock()
}
