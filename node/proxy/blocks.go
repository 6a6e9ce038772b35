package proxy

import (
	"crypto/rand"
	"hash/maphash"
	"net/http"
	"sync"
	"sync/atomic"
)

// DefaultShareAfter is the default of Options.ShareAfter.
const DefaultShareAfter = 16

const (
	maxBlocks     = 4096
	maxBlockBytes = 4 << 20 // of all blocks
	maxBlockLines = 16 << 10
	minBlockLines = 32 // a reference has 8 bytes

	sightings  = 3       // of the same lines before they get a block
	blockEpoch = 600_000 // ms
	keepEpochs = 6       // for which an unused block stays when there is no room for a new one
)

// A block is lines that many stored answers have alike. It does not change.
type block struct {
	id    uint64 // random, never of another block
	slot  uint16
	lines []byte
	vary  string        // the names that the lines nominate
	used  atomic.Uint32 // the epoch of the last use
}

// blocks are the lines that stored answers share. An answer holds slot and number
// of its block; if another one lies in the slot, or none, the answer is a miss. So a
// block may be dropped at any time. Numbers are drawn by lot: nobody can make
// lines that are taken for others, as could be done with a hash of them, and a number
// that another process gave means nothing here.
//
// Which lines are shared is learnt, see learnt. What is unlike for each answer never
// has a block: lines get one when they came together several times.
//
// A look-up takes no lock and writes nothing but the epoch of the first use in it.
type blocks struct {
	slots [maxBlocks]atomic.Pointer[block]
	epoch atomic.Uint32

	after int // see Options.ShareAfter
	seed  maphash.Seed

	// mu guards the fields below. It is a leaf lock.
	mu      sync.Mutex
	byLines map[string]*block
	bytes   int
	next    int    // where a free slot is looked for
	began   int64  // Unix ms, of the epoch
	full    uint32 // the epoch in which there was nothing to drop
	seen    [1024]sighting
	sites   map[string]*learnt
	buf     []byte
}

// A sighting counts how often lines came.
type sighting struct {
	hash uint64
	n    int
}

func newBlocks(after int) *blocks {
	t := &blocks{after: after, seed: maphash.MakeSeed(), byLines: map[string]*block{}, sites: map[string]*learnt{}}
	t.epoch.Store(1)
	return t
}

// at returns the block of that number, nil if it is gone.
func (t *blocks) at(slot int, id uint64) *block {
	b := t.slots[slot].Load()
	if b == nil || b.id != id {
		return nil
	}
	if e := t.epoch.Load(); b.used.Load() != e { // else all cores would write there for each hit
		b.used.Store(e)
	}
	return b
}

// metaOf is parseMeta with the block that the answer refers to. If that is gone, so
// is the answer.
func (p *Proxy) metaOf(b []byte) (meta, bool) {
	m, ok := parseMeta(b)
	if !ok || !m.compact() || !m.makes(hasBlock) {
		return m, ok
	}
	if m.with = p.blocks.at(m.blockSlot(), m.blockID()); m.with == nil {
		p.m.blockGone.Inc()
		return meta{}, false
	}
	return m, true
}

// divide learns from an answer of a site and says which of its lines it shares:
// those of with. own are the names of the others, in order.
func (t *blocks) divide(site string, h http.Header, names []string, now int64) (own []string, with *block) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.turnLocked(now)
	l := t.sites[site]
	if l == nil {
		l = &learnt{fields: map[string]*field{}}
		t.sites[site] = l
	}
	own, t.buf = make([]string, 0, len(names)), t.buf[:0]
	for _, name := range names {
		if neverShared(name) || !l.repeats(name, t.hashOf(h[name]), t.after) {
			own = append(own, name)
			continue
		}
		t.buf, _, _ = appendField(t.buf, name, h[name])
	}
	if len(t.buf) < minBlockLines || len(t.buf) > maxBlockLines {
		return names, nil
	}
	if with = t.blockLocked(h); with == nil {
		return names, nil
	}
	return own, with
}

func (t *blocks) hashOf(values []string) uint64 {
	var h maphash.Hash
	h.SetSeed(t.seed)
	for _, v := range values {
		h.WriteString(v)
		h.WriteByte(0)
	}
	return h.Sum64()
}

// neverShared reports names whose lines an answer keeps itself: the entity tag is
// looked for in them, the dates can mostly be made.
func neverShared(name string) bool {
	return name == "Etag" || name == "Date" || name == "Last-Modified"
}

// blockLocked returns the block with the lines in t.buf, which are of h; nil if
// they are too new for one or there is no room.
func (t *blocks) blockLocked(h http.Header) *block {
	if b := t.byLines[string(t.buf)]; b != nil {
		b.used.Store(t.epoch.Load())
		return b
	}
	if t.after >= 0 {
		hash := maphash.Bytes(t.seed, t.buf)
		s := &t.seen[hash%uint64(len(t.seen))]
		if s.hash != hash {
			*s = sighting{hash: hash}
		}
		if s.n++; s.n < sightings {
			return nil
		}
	}
	slot, ok := t.roomLocked(len(t.buf))
	if !ok {
		return nil
	}
	var id [8]byte
	rand.Read(id[:])
	b := &block{id: le.Uint64(id[:]), slot: slot, lines: append([]byte(nil), t.buf...)}
	if lookupLine(b.lines, "Vary") != nil {
		b.vary, _ = varySpec(h["Vary"])
	}
	t.putLocked(b)
	return b
}

func (t *blocks) putLocked(b *block) {
	b.used.Store(t.epoch.Load())
	t.bytes += len(b.lines)
	t.byLines[text(b.lines)] = b
	t.slots[b.slot].Store(b)
}

// roomLocked returns a free slot, for which blocks that were long unused are
// dropped if there is no room. It reports false if there is none.
func (t *blocks) roomLocked(n int) (slot uint16, ok bool) {
	if len(t.byLines) >= maxBlocks || t.bytes+n > maxBlockBytes {
		epoch := t.epoch.Load()
		if t.full == epoch {
			return 0, false
		}
		t.full = epoch
		for lines, b := range t.byLines {
			if epoch-b.used.Load() >= keepEpochs {
				t.slots[b.slot].Store(nil)
				t.bytes -= len(b.lines)
				delete(t.byLines, lines)
			}
		}
		if len(t.byLines) >= maxBlocks || t.bytes+n > maxBlockBytes {
			return 0, false
		}
	}
	for t.slots[t.next].Load() != nil {
		t.next = (t.next + 1) % maxBlocks
	}
	return uint16(t.next), true
}

// turnLocked begins the next epoch when it is time: each store looks. Where
// nothing is stored no block is dropped either.
func (t *blocks) turnLocked(now int64) {
	if now-t.began >= blockEpoch || now < t.began {
		t.began = now
		t.epoch.Add(1)
	}
}

// stats returns how many blocks there are and the bytes of their lines.
func (t *blocks) stats() (n, bytes int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.byLines), t.bytes
}

// forget drops what was learnt of sites that are not in names.
func (t *blocks) forget(names map[string]*site) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for name := range t.sites {
		if names[name] == nil {
			delete(t.sites, name)
		}
	}
}

// learnt is what is known of the fields of a site's answers: whether a value mostly
// came before.
type learnt struct{ fields map[string]*field }

// A field remembers values by a hash. Its score rises by one for a value that came
// before and falls by newCosts for another one: it rises as long as less than one
// value in newCosts+1 is new.
type field struct {
	score  int
	recent [32]uint32
}

const (
	newCosts  = 3
	maxFields = 64 // of a site
)

// repeats notes the value of a field and reports whether its lines are shared.
func (l *learnt) repeats(name string, value uint64, after int) bool {
	f := l.fields[name]
	if f == nil {
		if len(l.fields) >= maxFields && !l.makeRoom() {
			return false
		}
		f = new(field)
		l.fields[name] = f
	}
	place, mark := &f.recent[value%uint64(len(f.recent))], uint32(value>>32)|1
	if *place == mark {
		f.score = min(f.score+1, 4*max(after, 1))
	} else {
		*place = mark
		f.score = max(f.score-newCosts, 0)
	}
	return f.score >= after
}

// makeRoom drops a field whose values do not repeat. It reports false if there is
// none.
func (l *learnt) makeRoom() bool {
	for name, f := range l.fields {
		if f.score == 0 {
			delete(l.fields, name)
			return true
		}
	}
	return false
}
