package l1

import (
	"math"
	"slices"
	"sync/atomic"
)

// Classes begin about 1.17 apart, so that a record leaves a thirteenth of its slot
// empty on average, and a seventh at worst. Finer ones would be of use for what is
// stored much of, and cost the rest: each class keeps about a chunk that is not
// full. So a class is divided once that saves more than the chunk that is not full
// takes: it counts the sizes that come, and gets a smaller one below it.
const (
	sizeBins       = 8         // of a class
	divideSavings  = 2         // chunks
	fineUnit       = 8         // bytes, of sizes of slots
	maxClassFactor = 4         // times as many as at first
	divideChunk    = 256 << 10 // bytes of a chunk: caches below 32 MiB keep their classes
)

// sizeCounts is how many records of which sizes came to a class. Its fields are
// atomics: some lost counts do no harm.
type sizeCounts struct {
	low, high int // sizes above low, up to high
	came      [sizeBins]atomic.Uint32
	most      [sizeBins]atomic.Uint32 // the largest of the bin
}

func newSizeCounts(low, high int) *sizeCounts { return &sizeCounts{low: low, high: high} }

// note counts a record of n bytes.
func (s *sizeCounts) note(n int) {
	i := (n - s.low - 1) * sizeBins / (s.high - s.low)
	if i < 0 || i >= sizeBins { // as it looked for a class before that was divided
		return
	}
	s.came[i].Add(1)
	if most := s.most[i].Load(); uint32(n) > most {
		s.most[i].CompareAndSwap(most, uint32(n))
	}
}

// slotFor returns the size of the slots of a class that is added for n bytes.
func slotFor(n int) int { return max(minSlot, (n+fineUnit-1)/fineUnit*fineUnit) }

// best returns the size of a class that would save the greatest share of a class
// with chunks of chunkSize, and that share; 0 if there is none. Came is how many
// records were counted.
func (s *sizeCounts) best(chunkSize int) (size int, share float64, came int) {
	var below [sizeBins]int
	for i := range s.came {
		came += int(s.came[i].Load())
		below[i] = came
	}
	taken := float64(chunkSize / (chunkSize / s.high))
	most := 0
	for i := range below {
		most = max(most, int(s.most[i].Load()))
		if below[i] == 0 {
			continue
		}
		at := slotFor(most)
		if at >= s.high {
			break
		}
		saved := 1 - float64(chunkSize)/float64(chunkSize/at)/taken
		if by := saved * float64(below[i]) / float64(came); by > share {
			size, share = at, by
		}
	}
	return size, share, came
}

// fits reports whether a record of n bytes may take the slot of another of cl.
func (cl *class) fits(n int) bool { return n > cl.low && n <= cl.size }

// divide adds a class below cl if it saves memory. It is called when cl needs a
// chunk, and looks at the counts then. Records that are there stay where they are.
func (c *Cache) divide(cl *class) {
	s := &c.slab
	if s.chunkSize < divideChunk {
		return
	}
	cl.mu.Lock()
	chunks := len(cl.chunks)
	cl.mu.Unlock()
	if chunks < divideSavings*2 || !c.claim(classBytes) {
		return
	}
	if !s.divide(cl, chunks) {
		c.unclaim(classBytes)
	}
}

func (s *slab) divide(cl *class, chunks int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	counts := cl.counts.Load()
	size, share, came := counts.best(s.chunkSize)
	if came < chunks*cl.slots/2 { // too few to tell
		return false
	}
	list := *s.classes.Load()
	if share*float64(chunks) < divideSavings || len(list) >= maxClassFactor*s.classesAtFirst {
		if came > 4*chunks*cl.slots { // others may come by and by
			cl.counts.Store(newSizeCounts(counts.low, cl.size))
		}
		return false
	}
	at := slices.Index(list, cl)
	list = slices.Insert(slices.Clone(list), at, s.newClass(counts.low, size)) // others read the old one
	cl.counts.Store(newSizeCounts(size, cl.size))
	s.classes.Store(&list)
	return true
}

func (s *slab) newClass(low, size int) *class {
	cl := &class{size: size, low: low, slots: s.chunkSize / size, logSize: float32(math.Log2(float64(size)))}
	cl.counts.Store(newSizeCounts(low, size))
	return cl
}

// list returns the classes, ascending by size. It may become longer; no class
// leaves it.
func (s *slab) list() []*class { return *s.classes.Load() }
