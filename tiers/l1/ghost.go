package l1

import (
	"math"
	"math/bits"
)

// ghosts remember the frequency of what has left: a table of words of 8 bytes in
// buckets of 8, one cache line each. A word holds the low 32 bits of the hash,
// the tick of the last hit (24 bits, in 16 ticks), and log2 of the frequency as
// of then (8 bits, in 1/8). In a full bucket the least frequent as of now makes
// room. A mistaken ghost, about one in 2^29 look-ups, lends a newcomer the
// frequency of another for once.
//
// A shard has as many as its index has words, which is 1.25 to 1.6 times what
// the cache holds. They are used under the lock of the shard only.
type ghosts []uint64

const (
	ghostBucket   = 8
	ghostTickBits = 24
	ghostTickDrop = 4
	ghostLogUnit  = 8
)

func newGhosts(words int) ghosts { return make(ghosts, words&^(ghostBucket-1)) }

func (g ghosts) bucket(tag uint32) []uint64 {
	hi, _ := bits.Mul64(uint64(tag)<<32, uint64(len(g)/ghostBucket))
	return g[hi*ghostBucket:][:ghostBucket]
}

// ghostWord returns the word for an entry that leaves with h.
func ghostWord(tag uint32, h heat) uint64 {
	log := min(uint64(max(0, h.logFrequency())*ghostLogUnit+0.5), math.MaxUint8)
	return uint64(tag)<<32 | uint64(h.last()>>ghostTickDrop&(1<<ghostTickBits-1))<<8 | log
}

// ghostHeat is the inverse of ghostWord as of tick, but for what was rounded
// off. It counts no hits.
func ghostHeat(w uint64, tick uint32) heat {
	const wrap = 1<<ghostTickBits - 1
	ago := (tick>>ghostTickDrop - uint32(w>>8)) & wrap
	if ago > wrap-wrap/16 { // of a clock that was ahead
		ago = 0
	}
	return packHeat(tick-min(tick, ago<<ghostTickDrop), 0, float32(w&math.MaxUint8)/ghostLogUnit)
}

// add remembers h of the key with this tag, in place of what it was before.
func (g ghosts) add(tag uint32, h heat, tick uint32, p pace) {
	g.insert(ghostWord(tag, h), tick, p)
}

func (g ghosts) insert(w uint64, tick uint32, p pace) {
	b := g.bucket(uint32(w >> 32))
	least, at := float32(math.MaxFloat32), 0
	for i, old := range b {
		if old == 0 || old>>32 == w>>32 {
			at = i
			break
		}
		if f := ghostHeat(old, tick).logNow(tick, p); f < least {
			least, at = f, i
		}
	}
	b[at] = w
}

// find returns what is remembered of the key with this tag.
func (g ghosts) find(tag uint32, tick uint32) (heat, bool) {
	for _, w := range g.bucket(tag) {
		if w != 0 && uint32(w>>32) == tag {
			return ghostHeat(w, tick), true
		}
	}
	return 0, false
}

// forget drops what is remembered of the key with this tag.
func (g ghosts) forget(tag uint32) {
	b := g.bucket(tag)
	for i, w := range b {
		if uint32(w>>32) == tag {
			b[i] = 0
		}
	}
}

// copyTo adds all of g to other.
func (g ghosts) copyTo(other ghosts, tick uint32, p pace) {
	for _, w := range g {
		if w != 0 {
			other.insert(w, tick, p)
		}
	}
}
