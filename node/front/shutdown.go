package front

import (
	"context"
	"fmt"
	"time"
)

// Drain makes every further answer carry Connection: close, while connections
// are still accepted.
func (s *Server) Drain() { s.draining.Store(true) }

// handlersLeave is how long Shutdown waits for handlers after their contexts
// were cancelled and their connections closed.
const handlersLeave = 5 * time.Second

// Shutdown stops accepting, closes idle connections, lets requests under way
// finish with Connection: close, and returns when all are done and every
// goroutine has ended. When ctx ends first, contexts of exchanges are cancelled
// with ErrShutdown, connections are closed, and the error says how many; it is
// an error too if handlers do not return within five seconds of that. It may
// be called more than once.
func (s *Server) Shutdown(ctx context.Context) error {
	s.draining.Store(true)
	s.closing.Store(true)
	s.stopOnce.Do(func() { close(s.stopped) })
	s.ln.Close()
	s.closeIdle()
	defer s.m.close()
	done := make(chan struct{})
	go func() { // ends when the last connection does
		s.accepts.Wait()
		s.serving.Wait()
		close(done)
	}()
	select {
	case <-done:
		s.cut(ErrShutdown)
		return nil
	case <-ctx.Done():
	}
	n := s.closeAll()
	t := time.NewTimer(handlersLeave)
	defer t.Stop()
	select {
	case <-done:
		return fmt.Errorf("front: shutdown of listener %s: %d connections cut: %w", s.o.Name, n, context.Cause(ctx))
	case <-t.C:
		return fmt.Errorf("front: shutdown of listener %s: %d connections cut, some handlers do not return: %w", s.o.Name, n, context.Cause(ctx))
	}
}

// closeIdle wakes the connections that wait for a request; they find that the
// server is closing. One that becomes idle later finds it by itself.
func (s *Server) closeIdle() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.conns {
		if d := c.deadline.Load(); d.idle() && c.deadline.CompareAndSwap(d, 0) {
			c.wake()
		}
	}
}

// closeAll cancels every exchange and closes every connection. It returns how
// many there were.
func (s *Server) closeAll() int {
	s.mu.Lock()
	n := len(s.conns)
	s.mu.Unlock()
	s.cut(ErrShutdown) // first, so that handlers learn the true cause
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.conns {
		c.tcp.Close()
	}
	return n
}
