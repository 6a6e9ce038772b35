package memstore

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/edgenode/edgenode/tiers/l3"
)

// A Kind is what goes wrong with a call.
type Kind int

// The kinds of faults.
const (
	None    Kind = iota
	Before       // an error; nothing was done
	After        // an error, as of a time limit; all was done
	Slow         // done late; an error if the caller gave up before, and nothing was done
	Late         // done at once, answered late; an error if the caller gave up before
	Later        // an error at once; L2 does it all the same, after the delay
	Swallow      // Apply says that it went well, and has lost rows
	Reject       // Apply refuses the batch for one row of it
	Empty        // L2 is there again, and has forgotten everything
	Stale        // L2 is there again, as it was a while ago
	Down         // every call fails; counted once for each call
	numKinds
)

var kindNames = [numKinds]string{"none", "error before", "error after", "slow", "late", "later", "swallow", "reject", "empty", "stale", "down"}

func (k Kind) String() string { return kindNames[k] }

// A Fault strikes one call.
type Fault struct {
	Kind  Kind
	Delay time.Duration // for Slow before the call does anything, for After and Late before its answer
}

// Faults are those of one backend. The zero value has none. It is safe for
// concurrent use.
type Faults struct {
	// Err is what a failing call wraps.
	Err error

	mu      sync.Mutex
	down    bool
	planned map[string][]Fault // by call
	reject  func(record []byte) bool
	hits    [numKinds]int
	calls   map[string]int
}

// SetDown makes every call fail, or ends that.
func (f *Faults) SetDown(down bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.down = down
}

// Plan has the next call of that name suffer fault. Faults of one name strike
// one call each, in the order in which they were planned. A call's name is that
// of its method.
func (f *Faults) Plan(call string, fault Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.planned == nil {
		f.planned = map[string][]Fault{}
	}
	f.planned[call] = append(f.planned[call], fault)
}

// Unplan forgets what was planned for calls of that name.
func (f *Faults) Unplan(call string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.planned, call)
}

// RejectRows has writes refuse rows for which bad is true, until it is set to
// nil.
func (f *Faults) RejectRows(bad func(record []byte) bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reject = bad
}

// Heal ends all faults, planned ones included.
func (f *Faults) Heal() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.down, f.planned, f.reject = false, nil, nil
}

// Hits returns how often a kind of fault struck.
func (f *Faults) Hits(k Kind) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.hits[k]
}

// Calls returns how many calls of a name there were.
func (f *Faults) Calls(call string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls[call]
}

// enter counts a call and returns the fault that it is to suffer, after its
// delay. The error is set if nothing may be done any more.
func (f *Faults) enter(ctx context.Context, call string) (Fault, error) {
	fault := f.next(call)
	if fault.Kind == Slow {
		if err := sleep(ctx, fault.Delay); err != nil {
			return fault, fmt.Errorf("memstore: %s: %w", call, err)
		}
		// The server may have gone down meanwhile.
		if f.isDown() {
			fault.Kind = Down
		}
	}
	switch {
	case fault.Kind == Before || fault.Kind == Down:
		return fault, f.fail(call, fault)
	case ctx.Err() != nil:
		return fault, fmt.Errorf("memstore: %s: %w", call, context.Cause(ctx))
	}
	return fault, nil
}

// leave is to be called when the effect of a call has taken place. It returns
// the error of a call whose answer is lost.
func (f *Faults) leave(ctx context.Context, call string, fault Fault) error {
	if fault.Kind != After && fault.Kind != Late {
		return nil
	}
	if err := sleep(ctx, fault.Delay); err != nil {
		return fmt.Errorf("memstore: %s: %w", call, err)
	}
	if fault.Kind == Late {
		return nil
	}
	return f.fail(call, fault)
}

func (f *Faults) next(call string) Fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.calls == nil {
		f.calls = map[string]int{}
	}
	f.calls[call]++
	fault := Fault{}
	if f.down {
		fault.Kind = Down
	} else if p := f.planned[call]; len(p) > 0 {
		fault, f.planned[call] = p[0], p[1:]
	}
	if fault.Kind != Swallow && fault.Kind != Reject { // counted when a row is there
		f.hits[fault.Kind]++
	}
	return fault
}

func (f *Faults) isDown() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.down
}

func (f *Faults) hit(k Kind) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hits[k]++
}

// rejects reports whether a row is refused.
func (f *Faults) rejects(record []byte) bool {
	f.mu.Lock()
	bad := f.reject
	f.mu.Unlock()
	if bad == nil || !bad(record) {
		return false
	}
	f.hit(Reject)
	return true
}

func (f *Faults) fail(call string, fault Fault) error {
	err := f.Err
	if err == nil {
		err = l3.ErrUnavailable
	}
	return fmt.Errorf("memstore: %s: fault %q: %w", call, fault.Kind, err)
}

// sleep waits for d or until ctx ends, which is an error.
func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
