// Package breaker knows for one backend whether it is worth asking. It counts
// failures of requests, opens, lets trials through once a probe has succeeded,
// and closes only after several successes in a row, so that a backend that
// answers every second call does not flap between up and down.
//
//	closed ──n failures in a row──► open
//	closed ──one failed probe──► half-open
//	open ──one success of a probe or a trial──► half-open
//	half-open ──one failure──► open
//	half-open ──m successes in a row──► closed
//
// Begin with [New], [Breaker.Allow] and [Breaker.Record]. The package starts no
// goroutine and sets no timer: whoever owns the backend probes it.
package breaker

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
)

// A State is what the breaker does with requests.
type State int32

// The states. Their numbers are those of the metric.
const (
	Closed   State = iota // all pass
	HalfOpen              // a bounded number passes, as trials
	Open                  // none passes
)

// String returns the name used in health and logs.
func (s State) String() string { return [...]string{"closed", "half-open", "open"}[s] }

// Defaults of Options.
const (
	DefaultFailures  = 3
	DefaultSuccesses = 10
)

// Options configure a breaker.
type Options struct {
	Name      string           // of the backend, in metrics: l2, l3
	Failures  uint             // in a row that open it; 3
	Successes uint             // in a row that close it; 10
	Now       func() time.Time // time.Now
	Metrics   *metrics.Set     // nil keeps none
	// OnChange is called after each change of state, one call at a time, in
	// order. cause is the error that opened it, or nil. It must not call the
	// breaker.
	OnChange func(from, to State, cause error)
}

// A Breaker is safe for concurrent use. No call blocks for longer than
// Options.OnChange does.
type Breaker struct {
	name      string
	successes uint
	now       func() time.Time
	onChange  func(from, to State, cause error)
	circuit   circuitbreaker.CircuitBreaker[any]
	metrics   *breakerMetrics

	state atomic.Int32 // a copy, for the fast path

	// mu guards the fields below, and circuit's changes of state.
	mu    sync.Mutex
	cause error     // of the last failure while not closed
	since time.Time // of the last change between closed and not closed
}

// never is the delay after which failsafe would half-open by itself: here only
// a success does.
const never = 1 << 62

// New returns a closed breaker.
func New(o Options) *Breaker {
	if o.Failures == 0 {
		o.Failures = DefaultFailures
	}
	if o.Successes == 0 {
		o.Successes = DefaultSuccesses
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	b := &Breaker{name: o.Name, successes: o.Successes, now: o.Now, onChange: o.OnChange, since: o.Now()}
	b.circuit = circuitbreaker.NewBuilder[any]().
		WithFailureThreshold(o.Failures).WithSuccessThreshold(o.Successes).WithDelay(never).Build()
	b.metrics = newMetrics(o.Metrics, b)
	return b
}

// Allow reports whether a request may be sent. For each true the caller calls
// Record once; what nobody waits for any more may be left out. It costs one
// atomic load while closed.
func (b *Breaker) Allow() bool {
	if State(b.state.Load()) == Closed {
		return true
	}
	if b.circuit.TryAcquirePermit() {
		return true
	}
	b.metrics.rejected.Inc()
	return false
}

// Record notes the outcome of a request; nil is a success. It reports whether
// that was the first success after the breaker had opened.
func (b *Breaker) Record(err error) (recovered bool) { return b.record(err, false) }

// Probe notes the outcome of a probe. One that fails makes a closed breaker
// half-open: something is wrong, and the next failure opens it.
func (b *Breaker) Probe(err error) (recovered bool) { return b.record(err, true) }

func (b *Breaker) record(err error, probe bool) (recovered bool) {
	if err == nil {
		b.metrics.successes.Inc()
		if State(b.state.Load()) == Closed {
			b.circuit.RecordSuccess()
			return false
		}
	} else {
		b.metrics.failures.Inc()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	before := b.circuit.State()
	switch {
	case err == nil:
		if before == circuitbreaker.OpenState {
			b.circuit.HalfOpen()
			recovered = true
		}
		b.circuit.RecordSuccess()
	default:
		b.cause = err
		if probe && before == circuitbreaker.ClosedState {
			b.circuit.HalfOpen()
			break
		}
		b.circuit.RecordFailure()
	}
	b.changedLocked(fromCircuit(before))
	return recovered
}

// changedLocked publishes the state if it is not what it was.
func (b *Breaker) changedLocked(from State) {
	to := fromCircuit(b.circuit.State())
	if from == to {
		return
	}
	b.state.Store(int32(to))
	b.metrics.changed(to)
	if from == Closed || to == Closed {
		b.since = b.now()
	}
	cause := b.cause
	if to == Closed {
		b.cause, cause = nil, nil
	}
	if b.onChange != nil {
		b.onChange(from, to, cause)
	}
}

func fromCircuit(s circuitbreaker.State) State {
	switch s {
	case circuitbreaker.OpenState:
		return Open
	case circuitbreaker.HalfOpenState:
		return HalfOpen
	}
	return Closed
}

// Successes returns how many requests and probes have succeeded so far.
func (b *Breaker) Successes() uint64 { return b.metrics.successes.Get() }

// State returns the present state.
func (b *Breaker) State() State { return State(b.state.Load()) }

// Status returns the state, since when the breaker is closed, or not closed, and
// the error of the last failure unless it is closed.
func (b *Breaker) Status() (s State, since time.Time, cause error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s = fromCircuit(b.circuit.State())
	if s == Closed {
		return s, b.since, nil
	}
	return s, b.since, b.cause
}

// Close takes the breaker's metrics out of their set.
func (b *Breaker) Close() { b.metrics.unregister() }
