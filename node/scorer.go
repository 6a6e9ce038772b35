package node

import (
	"sync"

	"github.com/edgenode/edgenode/hooks/abi"
	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/l1"
)

// A hookScorer lets evict hooks rank what may leave memory.
type hookScorer struct {
	hooks *hookSet
	space sync.Pool // *[]abi.Candidate
}

var _ l1.Scorer = (*hookScorer)(nil)

func newHookScorer(h *hookSet) *hookScorer {
	return &hookScorer{hooks: h, space: sync.Pool{New: func() any { return new([]abi.Candidate) }}}
}

// Score appends one score per candidate, or nothing if no evict hook answers:
// then the native ranking stands.
func (s *hookScorer) Score(dst []int32, c []item.Candidate, pressure float64) []int32 {
	if !s.hooks.has(abi.Evict) {
		return dst
	}
	space := s.space.Get().(*[]abi.Candidate)
	list := (*space)[:0]
	for i := range c {
		list = append(list, abi.Candidate{
			ID: c[i].Hash, Size: c[i].Size, AgeSeconds: c[i].Age, IdleMillis: c[i].Idle, Hits: c[i].Hits,
			LeftSeconds: c[i].Lifetime, Flags: uint16(c[i].Flags), TagClass: c[i].TagClass,
		})
	}
	dst, _ = s.hooks.host.Score(dst, list, pressure, uint64(s.hooks.now()))
	*space = list
	s.space.Put(space)
	return dst
}
