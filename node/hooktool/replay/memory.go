package replay

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/edgenode/edgenode/tiers/eviction"
	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/l1"
)

// A Cache is asked for one object after the other.
type Cache interface {
	// Access asks for the object id at nowMilli, Unix ms, and reports whether it
	// was there. If not, the object was offered to the cache.
	Access(id, size uint32, nowMilli int64) bool
}

// Policies are the names of the built-in rankings, the default first. They are
// those of the key eviction, as a node has them.
var policies = []struct {
	name     string
	ranking  l1.Scorer
	timeIdle bool
	contest  bool
	queues   bool
}{
	{"auto", eviction.Auto{}, false, true, false},
	{"bytes", eviction.Auto{Bytes: 1}, false, false, true},
	{"tan", eviction.Tan{}, true, false, false},
}

// DefaultPolicy is the built-in ranking that a node has by default.
const DefaultPolicy = "auto"

// ErrPolicy is wrapped for the name of a ranking that there is none of.
var ErrPolicy = errors.New("replay: unknown policy")

// Policies returns the names of the built-in rankings, the default first.
func Policies() (names []string) {
	for _, p := range policies {
		names = append(names, p.name)
	}
	return names
}

// Sizes of the cache behind a Memory.
const (
	// firstRoom is what records may take at the start; it doubles, so that it never
	// counts. What they cost does.
	firstRoom = 64 << 20
	// mostPlanned is the capacity up to which the cache is made as a node's of this
	// size: its tables grow with it.
	mostPlanned = 16 << 30
	startTime   = 1_700_000_000_000 // Unix ms of second 0 of a trace
)

// Memory is the memory tier with recorded sizes as the price, and records without
// contents. It must be used by one goroutine.
type Memory struct {
	cache  *l1.Cache
	sizes  []uint32 // by id, as it was last offered
	most   int64    // an object may cost
	room   int64    // budget of the cache
	now    int64    // Unix ms
	record []byte
	key    item.Key
}

var _ Cache = (*Memory)(nil)

// Hooks are who is asked, as a node asks its evict and admit hooks. Either may be
// nil.
type Hooks struct {
	Evict l1.Scorer
	Admit l1.Admitter
}

// NewMemory returns an empty memory tier for capacity bytes. Policy is one of
// Policies, or "" for the default.
func NewMemory(capacity int64, policy string, hooks Hooks) (*Memory, error) {
	if capacity < 1 {
		return nil, fmt.Errorf("replay: capacity of %d bytes must be above 0", capacity)
	}
	m := &Memory{most: capacity / 4, room: max(firstRoom, min(capacity, mostPlanned)), now: startTime}
	o := l1.Options{
		MaxBytes: min(capacity, mostPlanned), Now: func() int64 { return m.now }, Seed: 1, Hook: hooks.Evict, Admit: hooks.Admit,
		Prices: &l1.Prices{Budget: capacity, Of: func(hash uint64) uint32 { return m.sizes[gather(hash)] }},
	}
	for _, p := range policies {
		if p.name == policy || policy == "" && p.name == DefaultPolicy {
			o.Scorer, o.TimeIdle, o.Contest, o.Queues = p.ranking, p.timeIdle, p.contest, p.queues
		}
	}
	if o.Scorer == nil {
		return nil, fmt.Errorf("%w %q: there are %q", ErrPolicy, policy, Policies())
	}
	m.cache = l1.New(o)
	if !m.cache.Resize(m.room) {
		return nil, errors.New("replay: the memory tier takes no budget")
	}
	return m, nil
}

// Access asks for the object id, and offers it if it is not there.
func (m *Memory) Access(id, size uint32, nowMilli int64) bool {
	m.now = startTime + nowMilli
	hash := scatter(id)
	m.key = strconv.AppendUint(append(m.key[:0], item.NamespaceItem), uint64(id), 10)
	if pin, ok := m.cache.Get(hash, m.key, m.now); ok {
		pin.Release()
		return true
	}
	if int64(size) <= m.most {
		m.offer(hash, id, size)
	}
	return false
}

// offer puts the object in, if it is let in.
func (m *Memory) offer(hash uint64, id, size uint32) {
	m.grow(id)
	m.sizes[id] = size
	it := item.Item{Kind: item.KindPut, Tiers: item.L1, Key: m.key, Version: item.VersionAt(m.now)}
	m.record = it.AppendTo(m.record[:0])
	m.cache.Put(hash, m.key, uint64(it.Version), m.record, l1.PutOptions{NowMilli: m.now})
}

// grow makes room for the id among the sizes, and in the cache for one more record.
func (m *Memory) grow(id uint32) {
	if m.cache.UsedBytes() > m.room/2 {
		m.room *= 2
		m.cache.Resize(m.room)
	}
	for uint64(id) >= uint64(len(m.sizes)) {
		m.sizes = append(m.sizes, make([]uint32, max(1024, len(m.sizes)))...)
	}
}

// Now returns the time of the last request, Unix ms.
func (m *Memory) Now() int64 { return m.now }

// Len returns how many objects are kept.
func (m *Memory) Len() int64 { return m.cache.Len() }

// Bytes returns the sum of their sizes.
func (m *Memory) Bytes() int64 { return m.cache.HeldPrice() }

// HookCalls returns how often the hook was asked, and how often it gave no
// answer that could be used.
func (m *Memory) HookCalls() (calls, faults uint64) {
	s := m.cache.Stats()
	return s.HookCalls, s.HookFaults
}

// Lost returns how many objects were not let in, whoever said so.
func (m *Memory) Lost() uint64 { return m.cache.Stats().Lost }

// Refused returns how many objects the hook did not let in.
func (m *Memory) Refused() uint64 { return m.cache.Stats().HookRefused }

// The hash of an id is well mixed in all bits and can be undone, so that a
// candidate leads to its size without a table of hashes.
const (
	mixA     = 0x9e3779b97f4a7c15
	mixB     = 0xd6e8feb86659fd93
	inverseA = 0xf1de83e19937733d // mixA · inverseA = 1, modulo 2⁶⁴
	inverseB = 0xcfee444d8b59a89b
)

func scatter(id uint32) uint64 {
	x := (uint64(id) + 1) * mixA
	x = (x ^ x>>32) * mixB
	return x ^ x>>32
}

func gather(hash uint64) uint32 {
	x := (hash ^ hash>>32) * inverseB
	return uint32((x^x>>32)*inverseA - 1)
}
