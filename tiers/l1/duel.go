package l1

import (
	"sync"
	"sync/atomic"
	"unsafe"
)

// way is how it is decided what leaves and what comes in.
type way struct {
	small   int64   // of queues (see there), the small one's part of the bytes is 1/small; 0 is the lowest of a sample
	contest bool    // newcomers must beat what would leave for them
	lead    float32 // log2 of the factor by which they must, in a contest
}

func (w way) queues() bool { return w.small > 0 }

// duel decides which way is the cache's. Which is the best shows only in play: so
// for each there is a shadow cache that plays it on a share of the keys, and the
// way with the most hits of late is that of the cache.
//
// The share is halved whenever a shadow is full of items, so that its size in
// bytes stays the budget's times the share. An access to a key of the share costs
// a look-up for each way, and as many samples if it is a miss; accesses to other
// keys cost a comparison. While one access is counted, others that come are not.
type duel struct {
	verdict atomic.Uint32 // the position of the way in ways
	taken   int64         // bytes, as long as it lives

	ways    []way
	inBytes bool    // a hit counts as many as it has bytes
	kept    float64 // of the hits so far, that count on after a round
	margin  float64 // by which another way must be better, a factor from 1 up

	// mu guards the fields below. It is a leaf lock.
	mu      sync.Mutex
	shadows []*shadow // of ways, in order
	share   uint64    // mask; see shared
	counted int
	off     bool // nothing is counted
}

const (
	duelRound     = 250  // accesses of the share between verdicts
	queuesWorth   = 1.01 // what a hit of queues counts for
	minShareShift = 3
	maxShareShift = 20
	noShare       = 1<<64 - 1
)

// shared reports whether the key with this hash is in the share, which is a mask
// of bits that neither the shard nor the place in the index depends on.
func shared(hash, share uint64) bool { return hash>>32&share == 0 }

// shadowItems returns how many items each of some shadows may hold: they together,
// as they are made, take about a hundredth of the budget, and 550 KB each at most.
func shadowItems(maxBytes int64, shadows int) int {
	return int(max(64, min(maxBytes>>12/int64(shadows), 1<<13)))
}

// newDuel returns a duel that counts objects. To let newcomers contest helps
// against scans and harms when interest moves.
func newDuel(maxBytes int64, seed uint64) *duel {
	d := &duel{ways: []way{{}, {contest: true}}, kept: 0.9, margin: 1, share: 1<<minShareShift - 1}
	n := shadowItems(maxBytes, len(d.ways))
	for i, w := range d.ways {
		d.shadows = append(d.shadows, newShadow(w, n, seed+1+uint64(i)))
	}
	return d.made()
}

// newByteDuel returns a duel that counts bytes. Queues are good where what comes
// twice comes for long, with a small one that is very small in loops; frequencies that
// decay slowly where favourites stay or come back; and a contest against scans and in
// loops longer than the cache. In a loop all are as frequent, and what has just been
// asked for is ahead by as much as others have faded since their turn: without a lead
// of more than that it would win, and nothing would stay for a round. Hits of big
// objects are few and count much, so that the sums last longer and what is all but a
// draw changes nothing; queues, which do well anywhere, need be a hundredth less good.
//
// What counts bytes often holds few and big objects, of which a share says little,
// so that a small cache begins with all keys; and each shadow has as many ghosts for
// an item as the cache, which decides how long a loop it can see.
func newByteDuel(maxBytes int64, seed uint64) *duel {
	d := &duel{ways: []way{{small: 40}, {small: 10}, {}, {contest: true, lead: 0.2}}, inBytes: true, kept: 0.98, margin: 1.01}
	for budget := int64(16 << 20); budget < maxBytes && d.share < 1<<minShareShift-1; budget *= 2 {
		d.share = d.share<<1 | 1
	}
	n := shadowItems(maxBytes, len(d.ways))
	for i, w := range d.ways {
		s := newShadow(w, n, seed+1+uint64(i))
		s.least = shardsFor(maxBytes) * minIndexWords
		s.fit(d.share, 0)
		d.shadows = append(d.shadows, s)
	}
	return d.made()
}

func (d *duel) made() *duel {
	d.taken = int64(unsafe.Sizeof(*d))
	for _, s := range d.shadows {
		d.taken += s.bytes()
	}
	return d
}

// chargeNothing lets items of the shadows take their size alone.
func (d *duel) chargeNothing() {
	for _, s := range d.shadows {
		s.charge = 0
	}
}

// bytes returns what d takes.
func (d *duel) bytes() int64 {
	if d == nil {
		return 0
	}
	return d.taken
}

// way returns how c decides at the moment.
func (c *Cache) way() way {
	if c.duel == nil {
		return way{}
	}
	return c.duel.ways[c.duel.verdict.Load()]
}

// play counts an access to the key with this hash, whose record takes size
// bytes and has this weight, if it is of the share.
func (c *Cache) play(hash uint64, size int, weight int16, nowMilli int64) {
	d := c.duel
	if d == nil || !d.mu.TryLock() {
		return
	}
	defer d.mu.Unlock()
	if d.off {
		return
	}
	v := shadowView{tick: c.tickNow(nowMilli), limit: c.playLimit(d.share), halfLives: c.halfLives, scorer: c.scorer}
	size = c.prices.of(hash, size)
	full, worth := false, 1.0
	if d.inBytes {
		worth = float64(size)
	}
	for _, s := range d.shadows {
		if s.access(hash, uint32(size), weight, v) {
			s.hits += worth
		}
		full = full || len(s.items) == cap(s.items)
	}
	if full && d.share < 1<<maxShareShift-1 {
		d.narrow(v.tick)
		c.share.Store(d.share)
	}
	if d.counted++; d.counted%duelRound == 0 {
		d.judge()
	}
}

// playLimit returns how many bytes of items a shadow with this share may hold.
func (c *Cache) playLimit(share uint64) int64 {
	return c.prices.budget(c.limit.Load()-c.external.Load()-c.pinnedBytes.Load()-c.fixedBytes()) / int64(share+1)
}

// narrow halves the share.
func (d *duel) narrow(tick uint32) {
	d.share = d.share<<1 | 1
	for _, s := range d.shadows {
		s.keep(d.share)
		s.fit(d.share, tick)
	}
}

// restartDuel empties the shadows and begins anew, or, if off is true, stops. It
// must be called when the clock counts something else.
func (c *Cache) restartDuel(off bool) {
	d := c.duel
	d.mu.Lock()
	defer d.mu.Unlock()
	d.off = off
	d.verdict.Store(0)
	for _, s := range d.shadows {
		s.clear()
	}
	share := d.share
	if off {
		share = noShare
	}
	c.share.Store(share)
}

// judge gives the verdict, and lets what was fade. In a draw the earlier way is
// the better.
func (d *duel) judge() {
	best, now := 0, int(d.verdict.Load())
	for i := range d.shadows {
		if d.worth(i) > d.worth(best) {
			best = i
		}
	}
	if d.worth(best) >= d.margin*d.worth(now) {
		d.verdict.Store(uint32(best))
	}
	for _, s := range d.shadows {
		s.hits *= d.kept
	}
}

// worth returns the hits of the way i of late, of which those of queues count more.
func (d *duel) worth(i int) float64 {
	s := d.shadows[i]
	if s.queues() {
		return s.hits * queuesWorth
	}
	return s.hits
}
