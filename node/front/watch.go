package front

import (
	"context"
	"time"
)

// watch is the goroutine that waits, while a handler does, for the client to
// leave. It first writes the answers to earlier requests, so that these do not
// wait for the handler too. It ends when the client leaves or stopWatch is
// called.
func (c *conn) watch(cancel context.CancelCauseFunc, ended chan<- struct{}) {
	defer close(ended)
	if !c.writeSealed() || c.awaitGone() {
		cancel(ErrClientGone)
	}
}

// writeSealed writes the answers that were pending when the exchange began,
// unless the handler's own answer has done so.
func (c *conn) writeSealed() bool {
	c.outMu.Lock()
	defer c.outMu.Unlock()
	if len(c.sealed) == 0 || c.sent {
		return true
	}
	c.sent = true
	c.broken = c.write(c.sealed)
	return c.broken == nil
}

// stopWatch ends the watcher and waits for it.
func (c *conn) stopWatch(ended <-chan struct{}) {
	select {
	case <-ended:
		return
	default:
	}
	c.tcp.SetReadDeadline(time.Unix(1, 0))
	<-ended
	c.tcp.SetReadDeadline(time.Time{})
}
