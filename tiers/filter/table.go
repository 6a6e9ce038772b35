package filter

import (
	"math/bits"
	"sync/atomic"

	"github.com/cespare/xxhash/v2"
)

// A table is a set of hashes of hashBits bits, cut into segments by their first
// bits: an extendible directory (Fagin et al., "Extendible Hashing", 1979). One
// goroutine at a time writes, any may ask.
type table struct {
	seed     uint64
	hashBits uint8
	dir      atomic.Pointer[directory]

	// What follows is the writer's; readers take it as a figure.
	items    atomic.Uint64
	pages    atomic.Int64
	minRests atomic.Uint64 // of all segments: the coarsest
}

// A directory holds for each value of the first depth bits its segment. One of
// less depth stands in several places.
type directory struct {
	depth    uint8
	segments []atomic.Pointer[segment]
}

// maxHashBits keeps products of hashes and buckets below 2^63.
const maxHashBits = 48

// newTable returns an empty table that grows from room for expect entries. It
// stays precise until it has some sixty times as many.
func newTable(seed, expect uint64) *table {
	pages, depth := pagesFor(expect), uint8(0)
	for pages > maxPages {
		pages, depth = (pages+1)/2, depth+1
	}
	local := uint8(1)
	for depth+local < maxHashBits && restsOf(local+1, bucketsOf(pages)) <= maxRest+1 {
		local++
	}
	t := &table{seed: seed, hashBits: depth + local}
	t.minRests.Store(restsOf(local, bucketsOf(pages)))
	d := &directory{depth: depth, segments: make([]atomic.Pointer[segment], 1<<depth)}
	for i := range d.segments {
		d.segments[i].Store(newSegment(uint64(i), depth, local, pages))
	}
	t.pages.Store(int64(pages) << depth)
	t.dir.Store(d)
	return t
}

// hash returns the hash of key in this table. What attackers know of xxHash does
// not tell them where in the table a key is: the permutation behind it has a
// secret. Keys of equal xxHash are one entry.
func (t *table) hash(key []byte) uint64 {
	h := xxhash.Sum64(key) ^ t.seed
	h = (h ^ h>>32) * 0xd6e8feb86659fd93
	h = (h ^ h>>32 ^ bits.RotateLeft64(t.seed, 32)) * 0xd6e8feb86659fd93
	return (h ^ h>>32) >> (64 - t.hashBits)
}

// find returns the segment of h and the rest of h in it.
func (t *table) find(h uint64) (*segment, uint64) {
	d := t.dir.Load()
	s := d.segments[h>>(t.hashBits-d.depth)].Load()
	return s, h & (1<<s.bits - 1)
}

// has reports whether h is there; see segment.has.
func (t *table) has(h uint64) bool {
	s, local := t.find(h)
	return s.has(local)
}

// add puts in h unless it is there, and reports whether it could.
func (t *table) add(h uint64) bool {
	for {
		s, local := t.find(h)
		if s.has(local) {
			return true
		}
		if !s.full() && s.add(local) {
			t.items.Add(1)
			return true
		}
		grown := s.grown()
		if grown == nil {
			return false
		}
		t.replace(s, grown)
	}
}

// replace puts one or two segments in the place of s. Readers that have s go on
// with it: all that was added so far is in it.
func (t *table) replace(s *segment, with []*segment) {
	d := t.dir.Load()
	if s.depth == d.depth && len(with) == 2 {
		d = d.doubled()
	}
	for _, r := range with {
		t.pages.Add(int64(r.pages()))
		t.minRests.Store(min(t.minRests.Load(), r.rests()))
		d.put(r)
	}
	t.pages.Add(-int64(s.pages()))
	t.dir.Store(d)
}

// put stores r wherever it belongs.
func (d *directory) put(r *segment) {
	span := uint64(1) << (d.depth - r.depth)
	for i := range span {
		d.segments[r.prefix*span+i].Store(r)
	}
}

func (d *directory) doubled() *directory {
	r := &directory{depth: d.depth + 1, segments: make([]atomic.Pointer[segment], 2*len(d.segments))}
	for i := range r.segments {
		r.segments[i].Store(d.segments[i/2].Load())
	}
	return r
}

// bytes returns the memory of the table.
func (t *table) bytes() int64 {
	const segmentBytes = 96
	n := int64(len(t.dir.Load().segments))
	return t.pages.Load()*pageWords*8 + n*(8+segmentBytes)
}

// falsePositives returns the chance that a key which is not there is found, at
// the fill of the coarsest segment.
func (t *table) falsePositives() float64 {
	return t.load() * lanes / float64(t.minRests.Load())
}

// load returns the share of slots in use.
func (t *table) load() float64 {
	return float64(t.items.Load()) / float64(t.pages.Load()*pageWords*4/5*lanes)
}
