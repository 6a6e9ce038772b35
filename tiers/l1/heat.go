package l1

import (
	"math"
	"math/bits"
)

// heat is one word of an entry: when it was last hit in ticks (32 bits), the
// hits (16 bits, saturating), and log2 of the frequency as of that tick (16
// bits, in 1/1024). One word, so that a hit costs at most one store, and none
// when nothing changes.
//
// The frequency is f ← 1 + f·2^(−gap/H). From f = 32 on, hits are counted by
// chance: step of them with probability 1/step, step being f/16 rounded down
// to a power of two, so that a hot entry is seldom written (after R. Morris,
// "Counting Large Numbers of Events in Small Registers", 1978).
type heat uint64

const (
	heatUnit  = 1024
	coarse    = 5 // log2 f from which hits are counted by chance
	freshHeat = 1 << 16
)

func newHeat(tick uint32) heat { return heat(tick)<<32 | freshHeat }

func (h heat) last() uint32          { return uint32(h >> 32) }
func (h heat) hits() uint32          { return uint32(h>>16) & math.MaxUint16 }
func (h heat) logFrequency() float32 { return float32(uint16(h)) / heatUnit }

func (h heat) withHits(n uint32) heat {
	return h&^(math.MaxUint16<<16) | heat(min(n, math.MaxUint16))<<16
}

func packHeat(tick, hits uint32, log float32) heat {
	return heat(tick)<<32 | heat(min(hits, math.MaxUint16))<<16 |
		heat(min(log*heatUnit+0.5, math.MaxUint16))
}

// Half-lives of frequencies, in idle ages at which entries leave. What counts
// bytes has its recency from the queues, and without them wants to know what
// was asked for long ago too.
const (
	objectHalfLives = 2
	byteHalfLives   = 32
)

// pace is how fast frequencies decay: 1/H in 1/ticks, and the gap below which
// decay is not worth a store.
type pace struct {
	inverse float32 // 0 means no decay
	ignore  uint32
}

func newPace(halfLife float64) pace {
	return pace{float32(1 / halfLife), uint32(min(halfLife/64, math.MaxInt32))}
}

func (p pace) word() uint64         { return uint64(math.Float32bits(p.inverse))<<32 | uint64(p.ignore) }
func paceOf(word uint64) pace       { return pace{math.Float32frombits(uint32(word >> 32)), uint32(word)} }
func gap(tick, last uint32) uint32  { return uint32(max(0, int32(tick-last))) }
func (h heat) idle(t uint32) uint32 { return gap(t, h.last()) }

// logNow returns log2 of the frequency as of tick.
func (h heat) logNow(tick uint32, p pace) float32 {
	return h.logFrequency() - float32(h.idle(tick))*p.inverse
}

// hit returns the word after one more hit at tick. Random need only be
// different from hit to hit.
func (h heat) hit(tick uint32, p pace, random uint64) heat {
	g, log := h.idle(tick), h.logFrequency()
	if g > p.ignore {
		log -= float32(g) * p.inverse
		return packHeat(tick, h.hits()+1, log2(1+exp2(log)))
	}
	if log < coarse {
		return packHeat(h.last(), h.hits()+1, log2(1+exp2(log)))
	}
	whole := int(log)
	step := uint32(1) << (whole - 4)
	if uint32(random*0x9e3779b97f4a7c15>>32)&(step-1) != 0 {
		return h
	}
	// step/f is 2^(−4−fraction), here by the chord; log2(1+x) ≈ x/ln 2.
	gain := (2 - (log - float32(whole))) / 32 * math.Log2E
	return packHeat(h.last(), h.hits()+step, log+gain)
}

// exp2 returns 2^x for x below 127 with a relative error below 2e-4.
func exp2(x float32) float32 {
	if x < -126 {
		return 0
	}
	whole := int32(x+128) - 128
	f := x - float32(whole)
	return math.Float32frombits(uint32(whole+127)<<23) * (1 + f*(0.695556+f*(0.226173+f*0.0781455)))
}

// log2 returns the binary logarithm of a normal positive x, good to 1e-4: the
// exponent, and the first terms of 2·artanh((m−1)/(m+1))/ln 2 for the mantissa.
func log2(x float32) float32 {
	b := math.Float32bits(x)
	m := math.Float32frombits(b&(1<<23-1) | 127<<23)
	s := (m - 1) / (m + 1)
	q := s * s
	return float32(int32(b>>23)-127) + 2*math.Log2E*s*(1+q*(1.0/3+q*(1.0/5+q/7)))
}

// tickShift returns by how many bits the clock of accesses is coarsened, so
// that 32 bits of it outlast the age at which entries leave in a cache of
// maxBytes.
func tickShift(maxBytes int64) uint { return uint(max(0, bits.Len64(uint64(maxBytes))-25)) }
