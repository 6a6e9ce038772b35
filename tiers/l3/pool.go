package l3

import (
	"context"
	"errors"
	"sync"
)

// A pool hands out its sessions, each to one user at a time: the one that was
// given back last, whose memory here and whose thread in a server are warm.
type pool struct {
	free     chan struct{} // a token for each session in idle
	sessions []*session
	closed   <-chan struct{}

	mu   sync.Mutex // leaf
	idle []*session
}

// newPool makes the sessions. Each connects when it is first used.
func newPool(d dialect, r role, size int, closed <-chan struct{}) *pool {
	p := &pool{free: make(chan struct{}, size), closed: closed}
	for range size {
		s := &session{dialect: d, role: r}
		p.sessions = append(p.sessions, s)
		p.give(s)
	}
	return p
}

// connect opens all connections. Nobody else may use the pool yet.
func (p *pool) connect(ctx context.Context) error {
	for _, s := range p.sessions {
		if err := s.use(ctx); err != nil {
			return err
		}
	}
	return nil
}

// acquire waits for a session until ctx ends or the store is closed.
func (p *pool) acquire(ctx context.Context) (*session, error) {
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	select {
	case <-p.closed:
		return nil, ErrClosed
	default:
	}
	select {
	case <-p.free:
		s := p.take()
		if err := s.use(ctx); err != nil {
			p.give(s)
			return nil, err
		}
		return s, nil
	case <-p.closed:
		return nil, ErrClosed
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// release gives a session back. A transaction must have ended.
func (p *pool) release(s *session) {
	s.ctx = nil
	p.give(s)
}

// take returns the session that was given back last. The caller has its token.
func (p *pool) take() *session {
	p.mu.Lock()
	defer p.mu.Unlock()
	last := len(p.idle) - 1
	s := p.idle[last]
	p.idle = p.idle[:last]
	return s
}

func (p *pool) give(s *session) {
	p.mu.Lock()
	p.idle = append(p.idle, s)
	p.mu.Unlock()
	p.free <- struct{}{} // never full
}

// shrink gives up what connections that nobody uses have cached. It waits for none,
// and who asks for one meanwhile waits for it.
func (p *pool) shrink() error {
	var errs []error
	var taken []*session
	for range p.sessions {
		select {
		case <-p.free:
			s := p.take()
			taken = append(taken, s)
			errs = append(errs, s.shrink())
		default:
		}
	}
	for i := range taken { // the last first, as they were
		p.give(taken[len(taken)-1-i])
	}
	return errors.Join(errs...)
}

// drain waits until no session is in use and closes them all. closed must be
// closed before.
func (p *pool) drain() error {
	for range p.sessions {
		<-p.free
	}
	return p.closeAll()
}

func (p *pool) closeAll() error {
	var errs []error
	for _, s := range p.sessions {
		errs = append(errs, s.close())
	}
	return errors.Join(errs...)
}
