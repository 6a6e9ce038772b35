package replay

import (
	"errors"
	"fmt"
	"math"
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
// those of the key eviction, as a node has them, but that nothing contests its
// place: room is made before an object is offered, unless a hook is to be asked.
var policies = []struct {
	name     string
	ranking  l1.Scorer
	timeIdle bool
	queues   bool
}{
	{"auto", eviction.Auto{}, false, false},
	{"bytes", eviction.Auto{Bytes: 1}, false, true},
	{"tan", eviction.Tan{}, true, false},
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
	// bodyBytes makes every record one that lies by itself, in an extent of 5
	// KiB: slots of the smallest cache end at 4 KiB.
	bodyBytes = 4 << 10
	// firstRoom is the budget at the start; it doubles, so that it never counts.
	firstRoom = 64 << 20
	startTime = 1_700_000_000_000 // Unix ms of second 0 of a trace
)

// Memory is the memory tier with recorded sizes as the price. It must be used
// by one goroutine.
type Memory struct {
	cache    *l1.Cache
	capacity int64
	charged  int64    // sum of the sizes of what is kept; at most capacity after Access
	sizes    []uint32 // by id, as it was last offered
	asks     bool     // a hook is asked about what comes in
	room     int64    // budget of the cache
	now      int64    // Unix ms
	record   []byte
	key      item.Key
	blank    []byte
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
	m := &Memory{capacity: capacity, room: firstRoom, now: startTime, blank: make([]byte, bodyBytes)}
	o := l1.Options{MaxBytes: l1.MinMaxBytes, Now: func() int64 { return m.now }, Seed: 1, Events: l1.Events{Evicted: m.left}}
	for _, p := range policies {
		if p.name == policy || policy == "" && p.name == DefaultPolicy {
			o.Scorer, o.TimeIdle, o.Queues = &priced{m: m, ranking: p.ranking}, p.timeIdle, p.queues
		}
	}
	if o.Scorer == nil {
		return nil, fmt.Errorf("%w %q: there are %q", ErrPolicy, policy, Policies())
	}
	if hooks.Evict != nil {
		o.Hook = &priced{m: m, ranking: hooks.Evict}
	}
	if m.asks = hooks.Admit != nil; m.asks {
		o.Admit = &pricedAdmission{priced: priced{m: m}, admit: hooks.Admit}
	}
	m.cache = l1.New(o)
	// The smallest budget is in use from the start, so that every budget below
	// what is used can be set.
	if !m.cache.Resize(m.room) || !m.cache.Reserve(l1.MinMaxBytes) {
		return nil, errors.New("replay: the memory tier takes no budget")
	}
	return m, nil
}

// Access asks for the object id, and puts it in if it is not there.
func (m *Memory) Access(id, size uint32, nowMilli int64) bool {
	m.now = startTime + nowMilli
	hash := scatter(id)
	m.key = strconv.AppendUint(append(m.key[:0], item.NamespaceItem), uint64(id), 10)
	if pin, ok := m.cache.Get(hash, m.key, m.now); ok {
		pin.Release()
		return true
	}
	if int64(size) <= m.capacity/4 {
		m.offer(hash, id, size)
	}
	return false
}

// offer puts the object in. Where a hook is asked, a cache without room for one
// more record has it asked; the rest of the room is made afterwards.
func (m *Memory) offer(hash uint64, id, size uint32) {
	m.grow(id)
	full := m.charged+int64(size) > m.capacity
	if !m.asks {
		if m.makeRoom(int64(size)) {
			m.put(hash, id, size)
		}
		return
	}
	if full {
		m.cache.Resize(m.cache.UsedBytes())
	}
	m.put(hash, id, size)
	if full {
		m.cache.Resize(m.room)
		m.makeRoom(0)
	}
}

// grow makes room for the id among the sizes, and in the cache for what takes the
// place of no other record.
func (m *Memory) grow(id uint32) {
	if m.cache.UsedBytes() > m.room/2 {
		m.room *= 2
		m.cache.Resize(m.room)
	}
	for uint64(id) >= uint64(len(m.sizes)) {
		m.sizes = append(m.sizes, make([]uint32, max(1024, len(m.sizes)))...)
	}
}

// makeRoom evicts until n bytes more are within the capacity.
func (m *Memory) makeRoom(n int64) bool {
	for m.charged+n > m.capacity {
		before := m.charged
		m.cache.Resize(m.cache.UsedBytes() - 1) // one record leaves
		m.cache.Resize(m.room)
		if m.charged == before {
			return false
		}
	}
	return true
}

func (m *Memory) put(hash uint64, id, size uint32) {
	m.sizes[id] = size
	it := item.Item{Kind: item.KindPut, Tiers: item.L1, Key: m.key, Version: item.VersionAt(m.now), Content: m.blank}
	m.record = it.AppendTo(m.record[:0])
	if m.cache.Put(hash, m.key, uint64(it.Version), m.record, l1.PutOptions{NowMilli: m.now}) {
		m.charged += int64(size)
	}
}

// left is told of each record that leaves.
func (m *Memory) left(hash uint64, _ int, _ bool) { m.charged -= int64(m.sizes[gather(hash)]) }

// Now returns the time of the last request, Unix ms.
func (m *Memory) Now() int64 { return m.now }

// Len returns how many objects are kept.
func (m *Memory) Len() int64 { return m.cache.Len() }

// Bytes returns the sum of their sizes.
func (m *Memory) Bytes() int64 { return m.charged }

// HookCalls returns how often the hook was asked, and how often it gave no
// answer that could be used.
func (m *Memory) HookCalls() (calls, faults uint64) {
	s := m.cache.Stats()
	return s.HookCalls, s.HookFaults
}

// Refused returns how many objects the hook did not let in.
func (m *Memory) Refused() uint64 { return m.cache.Stats().HookRefused }

// priced hands candidates to a ranking with their recorded sizes.
type priced struct {
	m       *Memory
	ranking l1.Scorer
	space   []item.Candidate
}

// Score implements l1.Scorer.
func (p *priced) Score(dst []int32, c []item.Candidate, _ float64) []int32 {
	return p.ranking.Score(dst, p.price(c), 0)
}

// price returns the candidates with their recorded sizes, until the next call.
func (p *priced) price(c []item.Candidate) []item.Candidate {
	p.space = append(p.space[:0], c...)
	for i := range p.space {
		size := p.m.sizes[gather(c[i].Hash)]
		p.space[i].Size, p.space[i].LogSize = size, float32(math.Log2(float64(max(size, 1))))
	}
	return p.space
}

// pricedAdmission is priced for an admit hook.
type pricedAdmission struct {
	priced
	admit l1.Admitter
}

// Admit implements l1.Admitter.
func (p *pricedAdmission) Admit(newcomer item.Candidate, victims []item.Candidate, _ float64) (admit, ok bool) {
	priced := p.price(append([]item.Candidate{newcomer}, victims...))
	return p.admit.Admit(priced[0], priced[1:], 0)
}

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
