package node

import (
	"sync"

	"github.com/edgenode/edgenode/hooks/abi"
	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/l1"
)

// memoryHooks let evict hooks rank what may leave memory, and admit hooks say
// what comes in at the price of others.
type memoryHooks struct {
	hooks *hookSet
	space sync.Pool // *[]abi.Candidate
}

var (
	_ l1.Scorer   = (*memoryHooks)(nil)
	_ l1.Admitter = (*memoryHooks)(nil)
)

func newMemoryHooks(h *hookSet) *memoryHooks {
	return &memoryHooks{hooks: h, space: sync.Pool{New: func() any { return new([]abi.Candidate) }}}
}

// Score appends one score per candidate, or nothing if no evict hook answers:
// then the native ranking stands.
func (s *memoryHooks) Score(dst []int32, c []item.Candidate, pressure float64) []int32 {
	space := s.space.Get().(*[]abi.Candidate)
	defer s.space.Put(space)
	*space = appendCandidates((*space)[:0], c)
	dst, _ = s.hooks.host.Score(dst, *space, pressure, uint64(s.hooks.now()))
	return dst
}

// Admit asks the admit hooks. If none answers the native admission stands.
func (s *memoryHooks) Admit(newcomer item.Candidate, victims []item.Candidate, pressure float64) (admit, ok bool) {
	space := s.space.Get().(*[]abi.Candidate)
	defer s.space.Put(space)
	*space = appendCandidates((*space)[:0], victims)
	return s.hooks.host.Admit(abiCandidate(&newcomer), *space, pressure, uint64(s.hooks.now()))
}

func appendCandidates(dst []abi.Candidate, c []item.Candidate) []abi.Candidate {
	for i := range c {
		dst = append(dst, abiCandidate(&c[i]))
	}
	return dst
}

func abiCandidate(c *item.Candidate) abi.Candidate {
	return abi.Candidate{
		ID: c.Hash, Size: c.Size, AgeSeconds: c.Age, IdleMillis: c.Idle, Hits: c.Hits,
		LeftSeconds: c.Lifetime, Flags: uint16(c.Flags), TagClass: uint16(c.TagClass),
	}
}
