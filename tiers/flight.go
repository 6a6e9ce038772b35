package tiers

import "sync"

// A flightKey names what is being read: an id, and the epoch and number of rules
// at which the read began. A reader that comes after a newer write was published
// or a rule installed has another one, and does not join a read that may have
// missed it.
type flightKey struct {
	key   string
	epoch uint32
	rules uint64
	inL3  bool // L3 is read too
	fresh bool // L2 is not
	sure  bool // the filter is not
}

// A flight is one read that several callers wait for.
type flight struct {
	done    chan struct{} // closed when the fields below are final
	waiters int

	record []byte // immutable; nil if absent
	stale  bool   // purged softly
	source Source // that the record came from
	err    error
}

// flights makes one call of many for the same key. The zero value is ready.
type flights struct {
	mu     sync.Mutex
	flying map[flightKey]*flight
}

// join returns the flight for k. leader is true for the caller that must do the
// work and call finish; the others wait for done. It returns nil if maxWaiters
// (0: no bound) wait already.
func (g *flights) join(k flightKey, maxWaiters int) (f *flight, leader bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if f = g.flying[k]; f != nil {
		if maxWaiters > 0 && f.waiters >= maxWaiters {
			return nil, false
		}
		f.waiters++
		return f, false
	}
	if g.flying == nil {
		g.flying = make(map[flightKey]*flight)
	}
	f = &flight{done: make(chan struct{})}
	g.flying[k] = f
	return f, true
}

// finish ends the flight; its fields must be final.
func (g *flights) finish(k flightKey, f *flight) {
	g.mu.Lock()
	delete(g.flying, k)
	g.mu.Unlock()
	close(f.done)
}
