package tiers

import (
	"context"
	"time"
)

// Nodes of a shared L3 that have one Redis tell each other there that they have
// written, so that nobody has to wait for its next look. It is a hint: what is
// lost is seen at that look.

// A waker is an L2 that can carry hints, as *l2.Store can.
type waker interface {
	Announce(ctx context.Context, text string) error
	Listen(ctx context.Context, fn func(text string)) error
}

const (
	announceSpacing = 5 * time.Millisecond // between two hints, and two looks
	listenAgain     = 200 * time.Millisecond
)

// runAnnouncer tells the others of what was written since the last time.
func (e *Engine) runAnnouncer(w waker) {
	for e.await(e.wrote) {
		if e.l2.backend.up() {
			ctx, cancel := e.l2Context()
			if err := w.Announce(ctx, e.identity.ID); err == nil {
				e.metrics.announced.Inc()
			} else if e.ctx.Err() == nil {
				e.l2.backend.circuit.Record(err)
			}
			cancel()
		}
		if !e.pause(announceSpacing, nil) {
			return
		}
	}
}

// runListener lets the follower look when another node has written.
func (e *Engine) runListener(w waker) {
	for {
		if e.l2.backend.up() {
			_ = w.Listen(e.ctx, func(from string) { // the keeper of L2 knows why it failed
				if from != e.identity.ID {
					e.metrics.woken.Inc()
					signal(e.followNow)
				}
			})
		}
		if !e.pause(listenAgain, nil) {
			return
		}
	}
}

// await waits for a signal; it reports false when the engine closes.
func (e *Engine) await(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	case <-e.ctx.Done():
		return false
	}
}
