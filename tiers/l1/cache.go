package l1

import (
	"math/bits"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/VictoriaMetrics/metrics"

	"github.com/edgenode/edgenode/tiers/item"
)

// A Scorer ranks candidates for eviction; the lowest score leaves first.
//
// Score appends one score per candidate to dst, in order. It is called with no
// lock held, from several goroutines. It must not keep dst or c. Pressure is
// the share of the budget that cannot be dropped, from 0 to 1.
type Scorer interface {
	Score(dst []int32, c []item.Candidate, pressure float64) []int32
}

// Sizes of budgets, in bytes.
const (
	DefaultMaxBytes = 256 << 20
	MinMaxBytes     = 1 << 20 // below 16 MiB the overhead of classes weighs in
)

// Options says how New makes a Cache. The zero value is a cache of 256 MiB in
// which the frequency of hits decides.
type Options struct {
	// MaxBytes is the budget for everything that the cache reserves. 0 means
	// DefaultMaxBytes; less than MinMaxBytes means MinMaxBytes.
	MaxBytes int64

	// Scorer is the native ranking. It must not block. Nil means that the
	// least frequently hit leaves, whatever its size.
	Scorer Scorer

	// Hook and Admit are asked what leaves and what comes in; see SetHooks. Nil
	// is none.
	Hook  Scorer
	Admit Admitter

	// Contest lets the cache find out, by two shadows of itself on a share of
	// the keys, whether what comes in must beat what would leave for it; while
	// it must, a Put of what loses is refused. It has no effect while there is
	// a Hook, nor on what Admit has answered.
	Contest bool

	// Queues is for hits of bytes. It lets entries leave in the order of S3-FIFO,
	// for which Scorer ranks only within a class of sizes, unless the cache finds
	// out, by three shadows as with Contest, that Scorer ranks better, with
	// frequencies that decay slowly, and whether with a contest. A Hook comes before
	// it. It excludes Contest.
	Queues bool

	// TimeIdle measures idleness in time (16 ms) and not in accesses to the
	// cache. Rankings that read Candidate.Idle need it; hooks imply it while they
	// are there. For others accesses are better: nights and bursts do not count.
	TimeIdle bool

	Prices *Prices // nil is what records take

	Seed    uint64       // of the choice of candidates
	Now     func() int64 // Unix ms, where a call is not given the time; nil is the system's clock
	Metrics *metrics.Set // nil means none
	Events  Events
}

// Events are called when something happened, with no lock held. Each may be
// nil. They must not block.
type Events struct {
	// Evicted tells of an entry that left for room: the hash of its key, the
	// bytes it freed, and whether it had expired anyway.
	Evicted func(hash uint64, bytes int, expired bool)

	// NoMemory tells that the system gave no memory for records, so that a
	// record was refused or others left for it. It may be called with locks of
	// the caller of Put held, and often.
	NoMemory func(error)
}

// Cache keeps records by key within a budget of bytes. Use New. All methods
// may be called by any goroutine at any time.
type Cache struct {
	shards   []shard
	shift    uint // hash >> shift is the shard
	entries  entries
	slab     slab
	scorer   Scorer
	hooks    atomic.Pointer[hooks] // never nil
	events   Events
	timeIdle bool    // the ranking reads Candidate.Idle
	duel     *duel   // nil without Options.Contest and Options.Queues
	queues   *queues // nil without Options.Queues
	prices   *prices // nil without Options.Prices

	halfLives float64 // half-life of frequencies ÷ idle age at which entries leave

	tickShift  uint
	startMilli int64
	startTick  uint32
	nowMilli   func() int64
	batches    sync.Pool
	spaces     atomic.Pointer[spaces] // never nil

	_ [56]byte
	clock
	_ [64]byte

	used, limit, external    atomic.Int64
	pinnedBytes, pinnedCount atomic.Int64
	hand                     atomic.Uint32
	seeds                    atomic.Uint64
	queue                    hookQueue
	hooking                  sync.Mutex // guards changes of hooks and of namespaces, and turned
	turned                   turnedAt
	hot                      hotKeys

	evicted, expired, refused    atomic.Uint64
	lost                         atomic.Uint64
	moved, hookCalls, hookFaults atomic.Uint64
	hookRefused                  atomic.Uint64
	unmappable                   atomic.Uint64
	ended                        atomic.Bool // by Close
}

// New returns an empty cache. It starts no goroutine.
func New(o Options) *Cache {
	if o.MaxBytes == 0 {
		o.MaxBytes = DefaultMaxBytes
	}
	o.MaxBytes = max(o.MaxBytes, MinMaxBytes)
	if o.Now == nil {
		o.Now = func() int64 { return time.Now().UnixMilli() }
	}
	if o.Scorer == nil {
		o.Scorer = byFrequency{}
	}
	shardCount := shardsFor(o.MaxBytes)
	c := &Cache{
		shards: make([]shard, shardCount), shift: uint(64 - bits.Len(uint(shardCount-1))),
		scorer: o.Scorer, events: o.Events, timeIdle: o.TimeIdle, halfLives: objectHalfLives,
		tickShift: tickShift(o.MaxBytes), startMilli: o.Now(), nowMilli: o.Now,
	}
	c.limit.Store(o.MaxBytes)
	c.hot.init(o.MaxBytes)
	c.seeds.Store(o.Seed)
	c.share.Store(noShare)
	switch {
	case o.Queues:
		c.queues, c.halfLives = &queues{}, byteHalfLives
		c.duel = newByteDuel(o.MaxBytes, o.Seed)
		c.share.Store(c.duel.share)
	case o.Contest:
		c.duel = newDuel(o.MaxBytes, o.Seed)
		c.share.Store(c.duel.share)
	}
	if c.prices = newPrices(o.Prices); c.prices != nil && c.duel != nil {
		c.duel.chargeNothing()
	}
	if c.timeIdle {
		c.mode.Store(uint64(countsTime))
	}
	c.batches.New = func() any { return c.newBatch() }
	c.pace.Store(pace{}.word())
	c.entries.pages.Store(&[]*entryPage{})
	m := systemMemory(o.MaxBytes)
	runtime.AddCleanup(c, (*memory).unmap, m)
	chunkSize := chunkSizeFor(o.MaxBytes, m.page)
	c.slab.init(m, chunkSize, tableLen(o.MaxBytes, chunkSize))
	for i := range c.shards {
		c.shards[i].index.Store(newIndex(minIndexWords))
	}
	c.hooks.Store(&hooks{})
	c.SetHooks(o.Hook, o.Admit)
	c.spaces.Store(&spaces{metrics: o.Metrics})
	c.used.Store(c.fixedBytes())
	if o.Metrics != nil {
		c.register(o.Metrics)
	}
	return c
}

// shardsFor returns a power of two: 256 from 64 MiB up.
func shardsFor(maxBytes int64) int {
	n := 4
	for n < 256 && int64(n)<<18 < maxBytes {
		n *= 2
	}
	return n
}

// chunkSizeFor returns a power of two: 256 KiB from 32 MiB up, so that slots
// reach 64 KiB. It is at least a page of the machine.
func chunkSizeFor(maxBytes int64, page int) int {
	n := max(16<<10, page)
	for n < 256<<10 && int64(n)*128 < maxBytes {
		n *= 2
	}
	return n
}

// tableLen returns the most chunks and extents that fit maxBytes.
func tableLen(maxBytes int64, chunkSize int) int { return int(maxBytes/int64(chunkSize/4)) + 1 }

// fixedBytes returns what an empty cache takes.
func (c *Cache) fixedBytes() int64 {
	return int64(unsafe.Sizeof(*c)) + int64(len(c.shards))*(int64(unsafe.Sizeof(shard{}))+indexBytes(minIndexWords)) +
		int64(len(*c.slab.table.Load()))*8 + int64(len(c.slab.list()))*classBytes + c.duel.bytes() + c.hot.taken
}

// byFrequency is the ranking without a ranking.
type byFrequency struct{}

func (byFrequency) Score(dst []int32, c []item.Candidate, _ float64) []int32 {
	for i := range c {
		dst = append(dst, int32(max(-1<<30, min(1<<30, c[i].LogFrequency*4096))))
	}
	return dst
}

func (c *Cache) shard(hash uint64) *shard { return &c.shards[hash>>c.shift] }

// record returns the record of e, which the caller has pinned or whose shard
// it has locked.
func (c *Cache) record(e *entry) []byte {
	return c.slab.record(place(e.place.Load()), e.size.Load())
}

// unpin lets go of e, and frees it if it was the last to hold a condemned one.
func (c *Cache) unpin(e *entry, number uint32) {
	if e.unpin() {
		c.reclaim(number)
	}
}

// Len returns how many records are in the cache, expired ones included.
func (c *Cache) Len() int64 {
	var n int64
	for i := range c.shards {
		n += c.shards[i].count.Load()
	}
	return n
}

// UsedBytes returns what is reserved, at most MaxBytes except while Resize
// shrinks the cache.
func (c *Cache) UsedBytes() int64 { return c.used.Load() }

// MaxBytes returns the budget.
func (c *Cache) MaxBytes() int64 { return c.limit.Load() }

// PinnedBytes returns what records that cannot be dropped take.
func (c *Cache) PinnedBytes() int64 { return c.pinnedBytes.Load() }

// Pressure returns the share of the budget that is pinned or reserved by the
// engine, from 0 to 1.
func (c *Cache) Pressure() float64 {
	return min(1, float64(c.pinnedBytes.Load()+c.external.Load())/float64(c.limit.Load()))
}

// Reserve takes n bytes of the budget for something of the engine's, evicting
// to make room. It reports false, and takes nothing, if what may leave does not
// suffice.
func (c *Cache) Reserve(n int64) bool {
	if n < 0 || !c.makeRoom(n, 0) {
		return false
	}
	c.external.Add(n)
	return true
}

// Unreserve gives back n bytes taken by Reserve.
func (c *Cache) Unreserve(n int64) {
	c.external.Add(-n)
	c.unclaim(n)
}

// Resize changes the budget. If it is smaller, entries are evicted before
// Resize returns; it reports false if what is pinned or read at the moment does
// not fit, in which case the cache shrinks as soon as it can. Shards, chunks
// and classes stay as New made them; tables that would take too much of the new
// budget are given back once all records have left.
func (c *Cache) Resize(maxBytes int64) bool {
	maxBytes = max(maxBytes, MinMaxBytes)
	c.limit.Store(maxBytes)
	c.used.Add(c.slab.widen(tableLen(maxBytes, c.slab.chunkSize)))
	b := c.borrow(0)
	defer c.giveBack(b)
	for c.used.Load() > c.limit.Load() {
		if !c.shrink(b) {
			return false
		}
	}
	return true
}
