package front

import (
	"context"
	"errors"
	"sync"
	"time"
)

// Causes of the end of an exchange's context, besides ErrShutdown.
var (
	// ErrClientGone means that the client has closed its connection.
	ErrClientGone = errors.New("front: the client has gone")
	// ErrAnswered means that the handler has returned.
	ErrAnswered = errors.New("front: the handler has returned")
)

// exchangeContext is the context of an exchange. It becomes a real one, and
// starts the watcher, when Done is called; one that did not is used again for
// the next exchange. Done may be called by any goroutine.
type exchangeContext struct {
	c *conn

	// mu guards the fields below. Locks of package context are taken under it.
	mu       sync.Mutex
	active   bool // the exchange lasts
	whole    bool // the body was read: the watcher may run
	gone     bool // the body broke off
	inner    context.Context
	cancel   context.CancelCauseFunc
	watching chan struct{} // closed by the watcher's end
}

var _ context.Context = (*exchangeContext)(nil)

// begin makes x the context of an exchange; whole says that no body is to be
// read. It returns false if somebody has used x after its exchange.
func (x *exchangeContext) begin(whole bool) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.active, x.whole, x.gone = true, whole, false
	return x.inner == nil
}

// end cancels the context and waits for the watcher. It returns the context for
// the next exchange, or nil if this one was given away.
func (x *exchangeContext) end() *exchangeContext {
	x.mu.Lock()
	x.active = false
	cancel, watching := x.cancel, x.watching
	x.mu.Unlock()
	if watching != nil {
		x.c.stopWatch(watching)
	}
	if cancel == nil {
		return x
	}
	cancel(ErrAnswered)
	return nil
}

// bodyRead lets the watcher start if it is wanted.
func (x *exchangeContext) bodyRead() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.whole = true
	x.watchLocked()
}

// clientGone cancels the context: the client left before its body's end.
func (x *exchangeContext) clientGone() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.gone = true
	if x.cancel != nil {
		x.cancel(ErrClientGone)
	}
}

// Deadline reports none.
func (x *exchangeContext) Deadline() (time.Time, bool) { return time.Time{}, false }

// Done returns the channel that is closed when the exchange ends, the client
// leaves, or the server is shut down by force.
func (x *exchangeContext) Done() <-chan struct{} {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.inner == nil {
		x.inner, x.cancel = context.WithCancelCause(x.c.s.base)
		switch {
		case !x.active:
			x.cancel(ErrAnswered)
		case x.gone:
			x.cancel(ErrClientGone)
		}
		x.watchLocked()
	}
	return x.inner.Done()
}

// watchLocked starts the watcher when it is wanted and nothing else reads from
// the connection.
func (x *exchangeContext) watchLocked() {
	if !x.active || !x.whole || x.inner == nil || x.watching != nil {
		return
	}
	x.watching = make(chan struct{})
	go x.c.watch(x.cancel, x.watching)
}

// Err returns nil until Done would be closed.
func (x *exchangeContext) Err() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	switch {
	case x.inner != nil:
		return x.inner.Err()
	case !x.active || x.gone:
		return context.Canceled
	}
	return x.c.s.base.Err()
}

// Value makes derived contexts and context.Cause find the real context.
func (x *exchangeContext) Value(key any) any {
	x.mu.Lock()
	inner := x.inner
	x.mu.Unlock()
	if inner == nil {
		return nil
	}
	return inner.Value(key)
}
