package l1

import (
	"sync"
	"sync/atomic"
	"unsafe"
)

// duel decides whether newcomers must beat what would leave for them. Doing so
// helps against scans and harms when interest moves, and which of the two it is
// shows only in play: so two shadow caches play both ways on a share of the
// keys, and the way with more hits of late is that of the cache.
//
// The share starts at an eighth of the keys and is halved whenever a shadow is
// full of items, so that its size in bytes stays the budget's times the share.
// An access to a key of the share costs up to two look-ups, and two samples if
// it is a miss; accesses to other keys cost a comparison. While one access is
// counted, others that come are not.
type duel struct {
	contest atomic.Bool // the verdict
	taken   int64       // bytes, as long as it lives

	// mu guards the fields below. It is a leaf lock.
	mu      sync.Mutex
	open    *shadow // takes every newcomer
	choosy  *shadow // lets newcomers contest
	share   uint64  // mask; see shared
	counted int
	off     bool // nothing is counted
}

const (
	duelRound     = 250 // accesses of the share between verdicts
	duelKept      = 0.9 // of the hits so far, that count on
	minShareShift = 3
	maxShareShift = 20
	noShare       = 1<<64 - 1
)

// shared reports whether the key with this hash is in the share, which is a mask
// of bits that neither the shard nor the place in the index depends on.
func shared(hash, share uint64) bool { return hash>>32&share == 0 }

// shadowItems returns how many items each shadow may hold: both together, as
// they are made, take about a hundredth of the budget, and 800 KB at most.
func shadowItems(maxBytes int64) int { return int(max(64, min(maxBytes>>13, 1<<13))) }

func newDuel(maxBytes int64, seed uint64) *duel {
	n := shadowItems(maxBytes)
	d := &duel{
		open: newShadow(false, n, seed+1), choosy: newShadow(true, n, seed+2),
		share: 1<<minShareShift - 1,
	}
	d.taken = int64(unsafe.Sizeof(*d)) + d.open.bytes() + d.choosy.bytes()
	return d
}

// bytes returns what d takes.
func (d *duel) bytes() int64 {
	if d == nil {
		return 0
	}
	return d.taken
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
	v := shadowView{tick: c.tickNow(nowMilli), limit: c.playLimit(d.share), scorer: c.scorer}
	for _, s := range [...]*shadow{d.open, d.choosy} {
		if s.access(hash, uint32(size), weight, v) {
			s.hits++
		}
	}
	if max(len(d.open.items), len(d.choosy.items)) == cap(d.open.items) && d.share < 1<<maxShareShift-1 {
		d.narrow()
		c.share.Store(d.share)
	}
	if d.counted++; d.counted%duelRound == 0 {
		d.judge()
	}
}

// playLimit returns how many bytes of items a shadow with this share may hold.
func (c *Cache) playLimit(share uint64) int64 {
	return (c.limit.Load() - c.external.Load() - c.pinnedBytes.Load() - c.fixedBytes()) / int64(share+1)
}

// narrow halves the share.
func (d *duel) narrow() {
	d.share = d.share<<1 | 1
	d.open.keep(d.share)
	d.choosy.keep(d.share)
}

// restartDuel empties both shadows and begins anew, or, if off is true, stops. It
// must be called when the clock counts something else.
func (c *Cache) restartDuel(off bool) {
	d := c.duel
	d.mu.Lock()
	defer d.mu.Unlock()
	d.off = off
	d.contest.Store(false)
	d.open.clear()
	d.choosy.clear()
	share := d.share
	if off {
		share = noShare
	}
	c.share.Store(share)
}

// judge gives the verdict, and lets what was fade.
func (d *duel) judge() {
	d.contest.Store(d.choosy.hits > d.open.hits)
	d.open.hits *= duelKept
	d.choosy.hits *= duelKept
}
