package hooks

import (
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// waitRounds is how often a caller yields while it looks for an instance, before
// it queues for one.
const waitRounds = 16

// maxWait is how long a caller queues before it takes the pool for empty. It is
// long for a call, and for the worker's making of an instance, even on a machine
// that is short of processors.
const maxWait = 100 * time.Millisecond

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
	// attention is not 0 if a caller that returns an instance has more to do
	// than to put it in its slot: the number of callers queued, and poolClosed.
	attention atomic.Int32
	// live counts slots not emptied for good, lost those for which the worker
	// could not make an instance.
	live, lost atomic.Int32

	// mu guards queue and changes of attention. It is a leaf lock, taken only
	// when there is no idle instance and when the pool is closed.
	mu    sync.Mutex
	queue []chan *instance // of callers, the first one first; each has room for one
}

// poolClosed in attention tells callers to retire instances that they return.
const poolClosed = 1 << 30

func (p *pool) closed() bool { return p.attention.Load() >= poolClosed }

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

// yield is take for when all are busy: it lets their users run for a while.
func (p *pool) yield(hint uint32) *instance {
	for range waitRounds {
		if p.closed() {
			return nil
		}
		runtime.Gosched()
		if i := p.take(hint); i != nil {
			return i
		}
	}
	return nil
}

// wait queues for an instance, for maxWait at most. It returns nil at once if
// the pool is closed or the worker cannot make instances.
func (p *pool) wait(hint uint32) *instance {
	if int(p.lost.Load()) == len(p.slots) {
		return nil
	}
	c := make(chan *instance, 1)
	p.mu.Lock()
	if p.closed() {
		p.mu.Unlock()
		return nil
	}
	p.queue = append(p.queue, c)
	p.attention.Add(1)
	p.mu.Unlock()
	// Who returned an instance before it could see this caller has left it in
	// its slot.
	if i := p.take(hint); i != nil {
		return p.leave(c, i)
	}
	timer := time.NewTimer(maxWait)
	defer timer.Stop()
	select {
	case i := <-c:
		return i
	case <-timer.C:
		return p.leave(c, nil)
	}
}

// leave takes a caller out of the queue. It returns i, or the instance that the
// caller was handed meanwhile, after it put i back.
func (p *pool) leave(c chan *instance, i *instance) *instance {
	p.mu.Lock()
	k := slices.Index(p.queue, c)
	if k >= 0 {
		p.queue = slices.Delete(p.queue, k, k+1)
		p.attention.Add(-1)
	}
	p.mu.Unlock()
	if k >= 0 {
		return i
	}
	handed := <-c // it left the queue by being handed one, or nil by drain
	if i == nil {
		return handed
	}
	if handed != nil {
		handed.m.put(handed)
	}
	return i
}

// handOver gives an instance that is in no slot to the first caller queued, or
// retires it if the pool is closed. It reports false if neither is so.
func (m *module) handOver(i *instance) bool {
	p := &m.pool
	p.mu.Lock()
	closed := p.closed()
	if !closed && len(p.queue) == 0 {
		p.mu.Unlock()
		return false
	}
	var c chan *instance
	if !closed {
		c = p.queue[0]
		p.queue = slices.Delete(p.queue, 0, 1)
		p.attention.Add(-1)
	}
	p.mu.Unlock()
	if closed {
		m.retire(i)
	} else {
		c <- i // has room
	}
	return true
}

// put returns an instance to its slot.
func (m *module) put(i *instance) {
	s := &m.pool.slots[i.slot]
	if i.recycling {
		if fresh := s.spare.Swap(nil); fresh != nil {
			m.later(job{old: i})
			i = fresh
		}
	}
	s.idle.Store(i)
	// A caller that queues after this look finds the instance in its slot.
	for m.pool.attention.Load() != 0 && s.idle.CompareAndSwap(i, nil) && !m.handOver(i) {
		s.idle.Store(i)
	}
}

// drain empties the pool for good, now or as instances return.
func (m *module) drain() {
	m.pool.close()
	for k := range m.pool.slots {
		if i := m.pool.slots[k].idle.Swap(nil); i != nil {
			m.retire(i)
		}
	}
}

// close makes callers retire what they return, and wakes those that wait.
func (p *pool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.attention.Store(poolClosed)
	for _, c := range p.queue {
		c <- nil // has room
	}
	p.queue = nil
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
