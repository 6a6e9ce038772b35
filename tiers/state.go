package tiers

import (
	"sync"
	"sync/atomic"
)

// A State is a phase of the engine's life.
type State int32

// The states, in the order in which they come.
const (
	StateCreated State = iota
	StateConnecting
	StateDrainingJournal // the journal is being indexed for reads
	StateReady
	StateRunning
	StateShuttingDown
	StateClosed
)

// String returns the state's name in health and logs.
func (s State) String() string {
	return [...]string{"created", "connecting", "draining-journal", "ready", "running", "shutting-down", "closed"}[s]
}

// A stateMachine holds the state and tells watchers of changes. The zero value
// is StateCreated.
type stateMachine struct {
	state atomic.Int32

	mu       sync.Mutex
	watchers map[chan State]struct{}
}

func (m *stateMachine) set(s State) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.state.Store(int32(s))
	for c := range m.watchers {
		select {
		case c <- s:
		default: // a watcher that does not keep up sees the next change
		}
	}
}

// State returns the engine's present state.
func (e *Engine) State() State { return State(e.state.state.Load()) }

// Ready reports whether the engine answers from L1 and pending and takes writes
// at the default durability. A lost L3 does not make it unready.
func (e *Engine) Ready() bool {
	s := e.State()
	return s == StateReady || s == StateRunning
}

// Watch returns a channel that receives the states entered from now on; it
// holds up to 16 that were not received yet. stop ends the watch.
func (e *Engine) Watch() (states <-chan State, stop func()) {
	c := make(chan State, 16)
	m := &e.state
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.watchers == nil {
		m.watchers = make(map[chan State]struct{})
	}
	m.watchers[c] = struct{}{}
	return c, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.watchers, c)
	}
}
