package tiers

import (
	"context"
	"errors"
	"math"
	"sync/atomic"
	"time"

	"github.com/edgenode/edgenode/tiers/breaker"
	"github.com/edgenode/edgenode/tiers/l3"
)

// A backend is what is known about a server behind the engine: its circuit, and
// how long the last probe took.
type backend struct {
	circuit   *breaker.Breaker
	latencyMS atomic.Uint64 // math.Float64bits
}

// Probes of a backend: how often, how often while it is not well, and how long
// one may take. A lost backend is named within 2 s, one that is back within 5 s.
const (
	probeInterval = 900 * time.Millisecond
	probeRecovery = 200 * time.Millisecond
	probePatience = 900 * time.Millisecond
)

func (e *Engine) newBackend(name string) *backend {
	return &backend{circuit: breaker.New(breaker.Options{
		Name: name, Metrics: e.options.Metrics, Now: func() time.Time { return time.UnixMilli(e.clock.UnixMilli()) },
		OnChange: func(from, to breaker.State, cause error) {
			switch {
			case to == breaker.Closed:
				e.logger.Info("backend is well", "backend", name)
			case from == breaker.Closed:
				e.logger.Warn("backend does not answer as it should", "backend", name, "circuit", to.String(), "err", cause)
			}
		},
	})}
}

// up reports whether it is worth asking.
func (b *backend) up() bool { return b.circuit.State() != breaker.Open }

// interval is how long to wait until the next probe.
func (b *backend) interval() time.Duration {
	if b.circuit.State() == breaker.Closed {
		return probeInterval
	}
	return probeRecovery
}

// probe asks once and notes the outcome. A probe that was too slow says nothing
// if requests were answered meanwhile.
func (b *backend) probe(ctx context.Context, ask func(context.Context) error) (recovered bool, err error) {
	limited, cancel := context.WithTimeout(ctx, probePatience)
	defer cancel()
	start, before := time.Now(), b.circuit.Successes()
	err = ask(limited)
	if ctx.Err() != nil {
		return false, context.Cause(ctx) // closing
	}
	if err != nil && b.circuit.Successes() != before {
		return false, err
	}
	if err == nil {
		b.latencyMS.Store(math.Float64bits(float64(time.Since(start).Microseconds()) / 1000))
	}
	return b.circuit.Probe(err), err
}

func (b *backend) health() *BackendHealth {
	state, since, cause := b.circuit.Status()
	h := &BackendHealth{
		OK: state == breaker.Closed, LatencyMS: math.Float64frombits(b.latencyMS.Load()), Since: since.UnixMilli(), Circuit: state.String(),
	}
	if cause != nil {
		h.Error = cause.Error()
	}
	return h
}

func (e *Engine) l3Up() bool { return e.l3Backend.up() }

// errOpen says that a backend is not asked, since it did not answer lately.
var errOpen = errors.New("tiers: circuit open: it did not answer lately and is probed until it does")

// l3Failed notes that L3 did not answer. Damage in a row is an answer.
func (e *Engine) l3Failed(err error) {
	if errors.Is(err, l3.ErrCorrupt) || errors.Is(err, l3.ErrRejected) || errors.Is(err, l3.ErrClosed) {
		return
	}
	e.l3Backend.circuit.Record(err)
}

// l3Answered notes that it did, and wakes the flusher if that is news.
func (e *Engine) l3Answered() {
	if e.l3Backend.circuit.Record(nil) {
		e.l3Recovered()
	}
}

func (e *Engine) l3Recovered() {
	e.logger.Info("L3 answers again", "pending", e.pending.ids.Load())
	signal(e.dirty.again)
	signal(e.dirty.now)
	signal(e.sweep)
}

// runKeeper keeps the clock file ahead of the clock, knows whether L3 is there,
// and keeps this node registered in it.
func (e *Engine) runKeeper() {
	for e.pause(e.l3Backend.interval(), e.node.soon) {
		if err := e.clockFile.advance(e.clock.Last()); err != nil {
			e.logger.Error("clock file not written; a restart after a step of the clock could stamp lower versions", "err", err)
		}
		e.l1.GiveBack(idleChunks)
		e.probeL3()
		e.heartbeat()
	}
}

// probeL3 asks L3 once.
func (e *Engine) probeL3() {
	recovered, err := e.l3Backend.probe(e.ctx, func(ctx context.Context) error {
		if err := e.l3.Ping(ctx); err != nil {
			return err
		}
		return e.load(ctx)
	})
	e.flusher.watch.probed(err, !e.l3Up(), e.clock.UnixMilli())
	if recovered {
		e.l3Recovered()
	}
}
