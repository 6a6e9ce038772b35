package l1

import (
	"math/bits"
	"sync"
	"sync/atomic"
)

// shard is one part of the index, for the keys whose hashes share their high
// bits.
type shard struct {
	index  atomic.Pointer[index]
	seq    atomic.Uint64 // odd while words move; changed by every move
	hits   atomic.Uint64
	misses atomic.Uint64
	puts   atomic.Uint64
	count  atomic.Int64 // entries in index; written under mu

	// mu is held by who changes the index, or closes, moves or opens an entry
	// of the shard. While it is held the lock of a slab class may be taken, no
	// other shard's, and no scorer or visitor is called.
	mu      sync.Mutex
	flushed uint64 // accesses already added to the clock

	_ [64]byte // the next shard is on other cache lines
}

// index is an open-addressing table with linear probing. A word holds the low
// 32 bits of the hash above the number of the entry + 1; 0 is empty. Words are
// ordered by home position, so that removal closes gaps and leaves no marks.
// Readers take no lock: they validate what they found on the entry, and what
// they did not find by seq. The ghosts are of keys that are not there; readers do
// not look at them.
type index struct {
	words  []atomic.Uint64
	ghosts ghosts
}

const minIndexWords = 16

func newIndex(words int) *index { return &index{make([]atomic.Uint64, words), newGhosts(words)} }

// indexBytes returns what an index of so many words takes.
func indexBytes(words int) int64   { return int64(words+words&^(ghostBucket-1)) * 8 }
func (x *index) bytes() int64      { return indexBytes(len(x.words)) }
func (x *index) full(n int64) bool { return n*5 >= int64(len(x.words))*4 }

// home returns where a word with this tag belongs if there is room.
func (x *index) home(tag uint32) int {
	hi, _ := bits.Mul64(uint64(tag)<<32, uint64(len(x.words)))
	return int(hi)
}

func (x *index) next(i int) int {
	if i++; i == len(x.words) {
		return 0
	}
	return i
}

func tagOf(hash uint64) uint32            { return uint32(hash) }
func word(tag, number uint32) uint64      { return uint64(tag)<<32 | uint64(number+1) }
func split(w uint64) (tag, number uint32) { return uint32(w >> 32), uint32(w) - 1 }

// insert adds w. The caller holds the shard's lock and knows of an empty word.
func (x *index) insert(w uint64) {
	tag, _ := split(w)
	i := x.home(tag)
	for x.words[i].Load() != 0 {
		i = x.next(i)
	}
	x.words[i].Store(w)
}

// find returns the position of w, or -1. The caller holds the shard's lock.
func (x *index) find(w uint64) int {
	tag, _ := split(w)
	for i := x.home(tag); ; i = x.next(i) {
		switch x.words[i].Load() {
		case w:
			return i
		case 0:
			return -1
		}
	}
}

// remove empties position i and moves later words of the run back over it, as
// far as their homes allow. The caller holds the shard's lock and has made seq
// odd.
func (x *index) remove(i int) {
	for j := x.next(i); ; j = x.next(j) {
		w := x.words[j].Load()
		if w == 0 {
			break
		}
		tag, _ := split(w)
		if x.distance(x.home(tag), j) >= x.distance(i, j) {
			x.words[i].Store(w)
			i = j
		}
	}
	x.words[i].Store(0)
}

// distance returns how many steps lead from i to j.
func (x *index) distance(i, j int) int {
	if j >= i {
		return j - i
	}
	return j + len(x.words) - i
}

// copied returns a copy of x with other room. The tick and pace say which ghosts
// are worth keeping.
func (x *index) copied(words int, tick uint32, p pace) *index {
	out := newIndex(words)
	for i := range x.words {
		if w := x.words[i].Load(); w != 0 {
			out.insert(w)
		}
	}
	x.ghosts.copyTo(out.ghosts, tick, p)
	return out
}

// grownWords returns a quarter more.
func grownWords(n int) int { return n + n/4 }
