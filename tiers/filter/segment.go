package filter

import "sync/atomic"

// Sizes of a segment. A slot has 20 bits, a bucket four slots: 64 bits of tags
// and 16 bits of what does not fit there. Pages are those of Go's allocator, so
// that nothing is lost to rounding.
const (
	lanes     = 4
	pageWords = 1024 // 8 KiB
	maxPages  = 20   // then a segment is split; so halves have 10

	maxRest  = 1<<19 - 2 // greatest rest that a slot can hold; 0 is an empty slot
	maxNodes = 256       // buckets that an insertion looks at for a free slot
	laneOnes = 0x0001_0001_0001_0001
	laneHigh = 0x8000_8000_8000_8000
)

// A segment is the exact set of those hashes that begin with its prefix, without
// that prefix: numbers of bits bits. It is a cuckoo table of any number of
// buckets: a number is split into bucket and rest, the rest is stored, in that
// bucket or in its partner (flag 1), so that the number can be told from the slot.
//
// One goroutine at a time writes; any may ask with has meanwhile. A segment that
// was replaced is never written again.
type segment struct {
	prefix  uint64 // the first depth bits of the hashes
	depth   uint8
	bits    uint8
	buckets uint64
	used    int           // slots in use; the writer's
	moves   atomic.Uint64 // odd while an entry is between two buckets
	words   []uint64      // tags of a bucket each, then rests of four buckets each; atomic
}

// newSegment returns an empty segment of so many pages.
func newSegment(prefix uint64, depth, bits uint8, pages int) *segment {
	return &segment{
		prefix: prefix, depth: depth, bits: bits,
		buckets: bucketsOf(pages), words: make([]uint64, pages*pageWords),
	}
}

func bucketsOf(pages int) uint64 { return uint64(pages) * pageWords * 4 / 5 }

// pagesFor returns the pages for n entries at nine tenths of the load that
// makes a segment grow.
func pagesFor(n uint64) int { return int(n*10/9/(lanes*pageWords*4/5)) + 1 }

func (s *segment) pages() int { return len(s.words) / pageWords }

// rests returns how many rests there are: the chance that a hash which is not
// there is found is (entries per bucket) / rests.
func (s *segment) rests() uint64 { return restsOf(s.bits, s.buckets) }

func restsOf(bits uint8, buckets uint64) uint64 { return (1<<bits-1)/buckets + 1 }

// full reports whether the load is 95 %.
func (s *segment) full() bool { return s.used*20 >= int(s.buckets)*lanes*19 }

// place splits h, below 2^bits, into bucket and rest.
func (s *segment) place(h uint64) (bucket, rest uint64) {
	product := h * s.buckets
	return product >> s.bits, product & (1<<s.bits - 1) / s.buckets
}

// joined is the inverse of place.
func (s *segment) joined(bucket, rest uint64) uint64 {
	return (bucket<<s.bits+s.buckets-1)/s.buckets + rest
}

// partner returns the other bucket of an entry. It is its own inverse.
func (s *segment) partner(bucket, rest uint64) uint64 {
	sum := ((rest + 1) * 0x9e3779b97f4a7c15 >> 32) * s.buckets >> 32
	if sum >= bucket {
		return sum - bucket
	}
	return sum + s.buckets - bucket
}

// slotOf returns what a slot holds for a rest in its own bucket; with the lowest
// bit set it is in the partner.
func slotOf(rest uint64) uint64 { return (rest + 1) << 1 }
func restOf(slot uint64) uint64 { return slot>>1 - 1 }

// has reports whether h is there. It never reports false for what was there all
// the time; while entries are moved it may report true for what is not there.
func (s *segment) has(h uint64) bool {
	bucket, rest := s.place(h)
	slot, partner := slotOf(rest), s.partner(bucket, rest)
	for range 4 {
		before := s.moves.Load()
		if s.match(bucket, slot) || s.match(partner, slot|1) {
			return true
		}
		if before&1 == 0 && s.moves.Load() == before {
			return false
		}
	}
	return true
}

// match reports whether the bucket has the slot.
func (s *segment) match(bucket, slot uint64) bool {
	x := atomic.LoadUint64(&s.words[bucket]) ^ slot&0xffff*laneOnes
	if (x-laneOnes)&^x&laneHigh == 0 {
		return false // no tag is equal
	}
	high := s.high(bucket)
	for i := range lanes {
		if x>>(16*i)&0xffff == 0 && high>>(4*i)&0xf == slot>>16 {
			return true
		}
	}
	return false
}

// high returns the upper four bits of the four slots of a bucket.
func (s *segment) high(bucket uint64) uint64 {
	return atomic.LoadUint64(&s.words[s.buckets+bucket/4]) >> (16 * (bucket % 4)) & 0xffff
}

func (s *segment) slot(bucket uint64, lane int) uint64 {
	return atomic.LoadUint64(&s.words[bucket])>>(16*lane)&0xffff | s.high(bucket)>>(4*lane)&0xf<<16
}

func (s *segment) set(bucket uint64, lane int, slot uint64) {
	tag, at := &s.words[bucket], 16*lane
	high, highAt := &s.words[s.buckets+bucket/4], 16*(bucket%4)+4*uint64(lane)
	atomic.StoreUint64(high, *high&^(0xf<<highAt)|slot>>16<<highAt)
	atomic.StoreUint64(tag, *tag&^(0xffff<<at)|slot&0xffff<<at)
}

// free returns a free slot of the bucket, or -1.
func (s *segment) free(bucket uint64) int {
	for i := range lanes {
		if s.slot(bucket, i) == 0 {
			return i
		}
	}
	return -1
}

// put stores slot in a free slot of the bucket, if there is one.
func (s *segment) put(bucket, slot uint64) bool {
	lane := s.free(bucket)
	if lane >= 0 {
		s.set(bucket, lane, slot)
	}
	return lane >= 0
}

// add puts in h, which is not there, and reports whether there was room.
func (s *segment) add(h uint64) bool {
	bucket, rest := s.place(h)
	slot, partner := slotOf(rest), s.partner(bucket, rest)
	ok := s.put(bucket, slot) || s.put(partner, slot|1)
	if !ok && s.makeRoom(bucket, partner) {
		ok = s.put(bucket, slot) || s.put(partner, slot|1)
	}
	if ok {
		s.used++
	}
	return ok
}

// A node is a bucket into which the entry in a slot of its parent could move.
type node struct {
	bucket uint64
	parent int16 // -1 for the two buckets to begin with
	lane   int8
}

// makeRoom frees a slot in one of the two buckets: it searches breadth first for
// a chain of moves that ends at a free slot, and does them from its end. Each
// move leaves the table right, so it may stop at any.
func (s *segment) makeRoom(bucket, partner uint64) bool {
	var nodes [maxNodes]node
	nodes[0], nodes[1] = node{bucket: bucket, parent: -1}, node{bucket: partner, parent: -1}
	n := 2
	for i := 0; i < n; i++ {
		for lane := range lanes {
			if n == maxNodes {
				return false
			}
			from := nodes[i].bucket
			to := s.partner(from, restOf(s.slot(from, lane)))
			nodes[n] = node{bucket: to, parent: int16(i), lane: int8(lane)}
			if s.free(to) >= 0 {
				return s.moveAlong(nodes[:n+1])
			}
			n++
		}
	}
	return false
}

// moveAlong does the moves that lead to the last node.
func (s *segment) moveAlong(nodes []node) bool {
	s.moves.Add(1)
	defer s.moves.Add(1)
	for i := len(nodes) - 1; nodes[i].parent >= 0; i = int(nodes[i].parent) {
		from, lane := nodes[nodes[i].parent].bucket, int(nodes[i].lane)
		slot := s.slot(from, lane)
		// A chain that meets a bucket twice may have changed what is there.
		if slot == 0 || s.partner(from, restOf(slot)) != nodes[i].bucket || !s.put(nodes[i].bucket, slot^1) {
			return false
		}
		s.set(from, lane, 0)
	}
	return true
}

// each calls fn with all numbers of the segment. For the writer only.
func (s *segment) each(fn func(h uint64) bool) bool {
	for bucket := range s.buckets {
		for lane := range lanes {
			slot := s.slot(bucket, lane)
			if slot == 0 {
				continue
			}
			own := bucket
			if slot&1 != 0 {
				own = s.partner(bucket, restOf(slot))
			}
			if !fn(s.joined(own, restOf(slot))) {
				return false
			}
		}
	}
	return true
}

// grown returns the segment with one page more, or its two halves when it has
// as many as it may; nil if that does not help, which takes hashes that are not
// random.
func (s *segment) grown() []*segment {
	for pages := s.pages() + 1; pages <= maxPages; pages++ {
		if r := newSegment(s.prefix, s.depth, s.bits, pages); s.each(r.add) {
			return []*segment{r}
		}
	}
	return s.halves()
}

// leastRests is where splitting ends: below it every second question about an
// absent key would be answered "perhaps" soon.
const leastRests = 64

func (s *segment) halves() []*segment {
	if s.rests() < leastRests {
		return nil
	}
	bits := s.bits - 1
	var count [2]uint64
	s.each(func(h uint64) bool { count[h>>bits]++; return true })
	var halves [2]*segment
	for i := range halves {
		pages := pagesFor(count[i])
		for restsOf(bits, bucketsOf(pages)) > maxRest+1 {
			pages++
		}
		if pages > maxPages {
			return nil
		}
		halves[i] = newSegment(s.prefix<<1|uint64(i), s.depth+1, bits, pages)
	}
	ok := s.each(func(h uint64) bool { return halves[h>>bits].add(h & (1<<bits - 1)) })
	if !ok {
		return nil
	}
	return halves[:]
}
