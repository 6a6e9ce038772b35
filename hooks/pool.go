package hooks

import (
	"runtime"
	"sync/atomic"
)

// waitRounds is how often a caller yields while it looks for an instance before
// it takes the pool for empty.
const waitRounds = 256

// slot holds one idle instance, or nil while somebody owns the slot. Spare is the
// replacement of an instance that is to be recycled; its owner swaps it in when
// it returns.
type slot struct {
	idle  atomic.Pointer[instance]
	spare atomic.Pointer[instance]
	_     [112]byte // slots do not share cache lines
}

// pool is the bounded set of instances of one module. An instance is out of its
// slot while a caller has it; the slot stays that instance's. A slot whose
// instance faulted belongs to the worker until it puts a new one in.
type pool struct {
	slots []slot
	// closed tells callers to return instances by retiring them.
	closed atomic.Bool
	// live counts slots not emptied for good.
	live atomic.Int32
}

// take returns an idle instance, or nil. It costs a compare-and-swap when the
// slot hint is idle.
func (p *pool) take(hint uint32) *instance {
	n := uint32(len(p.slots))
	if hint >= n {
		hint = 0
	}
	for range n {
		idle := &p.slots[hint].idle
		if i := idle.Load(); i != nil && idle.CompareAndSwap(i, nil) {
			return i
		}
		if hint++; hint == n {
			hint = 0
		}
	}
	return nil
}

// wait is take for when all are busy: it yields to their users for a while.
func (p *pool) wait(hint uint32) *instance {
	for range waitRounds {
		if p.closed.Load() {
			return nil
		}
		runtime.Gosched()
		if i := p.take(hint); i != nil {
			return i
		}
	}
	return nil
}

// put returns an instance to its slot.
func (m *module) put(i *instance) {
	s := &m.pool.slots[i.slot]
	if i.recycling {
		if fresh := s.spare.Swap(nil); fresh != nil {
			m.host.closeLater(i)
			i = fresh
		}
	}
	s.idle.Store(i)
	if m.pool.closed.Load() && s.idle.CompareAndSwap(i, nil) {
		m.retire(i)
	}
}

// drain empties the pool for good, now or as instances return.
func (m *module) drain() {
	m.pool.closed.Store(true)
	for k := range m.pool.slots {
		if i := m.pool.slots[k].idle.Swap(nil); i != nil {
			m.retire(i)
		}
	}
}

// retire gives a slot up. i is its instance, nil if it has none. A spare that was
// not yet swapped in is closed with the runtime.
func (m *module) retire(i *instance) {
	if i != nil {
		i.close()
	}
	if m.pool.live.Add(-1) == 0 {
		m.gen.moduleDrained()
	}
}
