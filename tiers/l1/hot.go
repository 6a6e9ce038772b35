package l1

import (
	"cmp"
	"slices"
	"sync"
	"unsafe"
)

// A HotKey is one of the keys that were hit most in a window.
type HotKey struct {
	Hash  uint64
	Key   []byte // its first MaxHotKey bytes
	Whole bool   // Key is all of it
	Hits  uint64 // estimated
	Error uint64 // by how much Hits may be too high, beside the error of the sample
}

// Hottest are the keys that were hit most from From to To, in Unix ms.
type Hottest struct {
	From, To int64
	Every    uint64   // one of so many hits was looked at, on the end
	Keys     []HotKey // the hottest first
}

// MaxHotKey is how much of a key is kept, in bytes. Longer keys with the same
// hash do not occur in practice.
const MaxHotKey = 512

const (
	hotWindow  = 10_000 // ms
	hotSamples = 2048   // after which half as many hits are looked at
	maxHotMask = 1<<16 - 1
)

// hotKeys counts hits by key, in windows. It keeps a fixed number of counters; a
// key without one takes over the least, whose count is then its error (space-
// saving, after A. Metwally, D. Agrawal, A. El Abbadi, "Efficient Computation of
// Frequent and Top-k Elements in Data Streams", 2005). Of few hits each is
// counted, of many a share: a hit costs one multiplication beside the counter
// that it has anyway, and what it costs to be counted is spread over 10 s.
type hotKeys struct {
	taken int64 // bytes, as long as it lives

	// mu guards the fields below. It is a leaf lock. A hit that finds it held is
	// not counted.
	mu            sync.Mutex
	current, last hotCounts
	samples       int // in current
}

// hotCounts are the counters of one window.
type hotCounts struct {
	from, to int64
	mask     uint64
	hashes   []uint64 // of slots, in order
	slots    []hotSlot
	keys     []byte // MaxHotKey for each slot
}

type hotSlot struct {
	hits, error uint64
	length      int // of the key
}

// hotSlots returns the number of counters, four times as many as are told of.
func hotSlots(maxBytes int64) int { return int(max(8, min(maxBytes>>18, 256))) }

func newHotCounts(n int) hotCounts {
	return hotCounts{hashes: make([]uint64, 0, n), slots: make([]hotSlot, 0, n), keys: make([]byte, n*MaxHotKey)}
}

func (h *hotKeys) init(maxBytes int64) {
	n := hotSlots(maxBytes)
	h.current, h.last = newHotCounts(n), newHotCounts(n)
	h.taken = 2 * int64(n) * (8 + int64(unsafe.Sizeof(hotSlot{})) + MaxHotKey)
}

// sampled reports whether the hit that made a shard's counter n is looked at.
func sampled(n, mask uint64) bool { return n*0x9e3779b97f4a7c15>>32&mask == 0 }

// countHot counts a hit that was looked at.
func (c *Cache) countHot(hash uint64, key []byte, nowMilli int64) {
	h := &c.hot
	if !h.mu.TryLock() {
		return
	}
	defer h.mu.Unlock()
	if nowMilli == 0 {
		nowMilli = c.nowMilli()
	}
	c.rotateLocked(nowMilli)
	mask := c.hotMask.Load()
	h.current.add(hash, key, mask+1)
	if h.samples++; h.samples%hotSamples == 0 && mask < maxHotMask {
		c.hotMask.Store(mask<<1 | 1)
	}
}

// rotateLocked ends the window if it is over at now.
func (c *Cache) rotateLocked(now int64) {
	h := &c.hot
	switch since := now - h.current.from; {
	case h.current.from == 0:
	case since >= 0 && since < hotWindow:
		return
	default:
		h.current.to, h.current.mask = min(now, h.current.from+hotWindow), c.hotMask.Load()
		h.current, h.last = h.last, h.current
		if since >= 2*hotWindow || since < 0 {
			h.last.clear(now - hotWindow)
			h.last.to = now
		}
	}
	h.current.clear(now)
	h.samples = 0
	c.hotMask.Store(c.hotMask.Load() >> 2)
}

func (h *hotCounts) clear(from int64) {
	*h = hotCounts{from: from, hashes: h.hashes[:0], slots: h.slots[:0], keys: h.keys}
}

// add counts hits of key.
func (h *hotCounts) add(hash uint64, key []byte, hits uint64) {
	if i := slices.Index(h.hashes, hash); i >= 0 {
		h.slots[i].hits += hits
		return
	}
	i := len(h.slots)
	if i < cap(h.slots) {
		h.hashes, h.slots = append(h.hashes, 0), append(h.slots, hotSlot{})
	} else {
		i = 0
		for j := range h.slots {
			if h.slots[j].hits < h.slots[i].hits {
				i = j
			}
		}
	}
	least := h.slots[i].hits
	h.hashes[i] = hash
	h.slots[i] = hotSlot{hits: least + hits, error: least, length: len(key)}
	copy(h.keys[i*MaxHotKey:][:MaxHotKey], key)
}

// Hottest returns up to n of the keys that were hit most in the last window of
// 10 s that is over at nowMilli, or in the first one while none is. No more than
// a quarter of 8 to 256 counters, by the budget, are told of, as the least are
// guesses. The result is the caller's.
func (c *Cache) Hottest(n int, nowMilli int64) Hottest {
	h := &c.hot
	h.mu.Lock()
	defer h.mu.Unlock()
	c.rotateLocked(nowMilli)
	from := &h.last
	if from.from == 0 {
		from = &h.current
		from.to, from.mask = nowMilli, c.hotMask.Load()
	}
	out := Hottest{From: from.from, To: from.to, Every: from.mask + 1}
	for i, s := range from.slots {
		key := from.keys[i*MaxHotKey:][:min(s.length, MaxHotKey)]
		out.Keys = append(out.Keys, HotKey{
			Hash: from.hashes[i], Key: slices.Clone(key), Whole: s.length <= MaxHotKey, Hits: s.hits, Error: s.error,
		})
	}
	slices.SortFunc(out.Keys, func(a, b HotKey) int {
		return cmp.Or(cmp.Compare(b.Hits, a.Hits), cmp.Compare(a.Hash, b.Hash))
	})
	out.Keys = out.Keys[:max(0, min(n, len(out.Keys), cap(from.slots)/4))]
	return out
}
