package tiers

import (
	"sync"
	"sync/atomic"
	"time"
)

// A State is a phase of the engine's life.
type State int32

// The states, in the order in which they come.
const (
	StateCreated State = iota
	StateConnecting
	StateDrainingJournal // the journal is being indexed for reads
	StateSyncingL2       // L2 begins to be caught up; that goes on behind ready
	StateWarmingUp       // what makes reads quick begins to be read; so does that
	StateReady
	StateRunning
	StateShuttingDown
	StateClosed
)

// String returns the state's name in health and logs.
func (s State) String() string {
	return [...]string{"created", "connecting", "draining-journal", "syncing-l2", "warming-up", "ready", "running", "shutting-down", "closed"}[s]
}

// A stateMachine holds the state and tells watchers of changes. The zero value
// is StateCreated.
type stateMachine struct {
	state atomic.Int32

	mu       sync.Mutex
	began    time.Time                      // of the present state
	took     [StateClosed + 1]time.Duration // of the states that are over
	watchers map[chan State]struct{}
}

func (m *stateMachine) set(s State) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	if before := State(m.state.Load()); !m.began.IsZero() {
		m.took[before] = now.Sub(m.began)
	}
	m.began = now
	m.state.Store(int32(s))
	for c := range m.watchers {
		select {
		case c <- s:
		default: // a watcher that does not keep up sees the next change
		}
	}
}

// seconds returns how long the phase s took, or takes so far.
func (m *stateMachine) seconds(s State) float64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	if State(m.state.Load()) == s {
		return time.Since(m.began).Seconds()
	}
	return m.took[s].Seconds()
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
