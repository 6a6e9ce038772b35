package l3

import (
	"context"
	"errors"
)

// A pool hands out its sessions, each to one user at a time.
type pool struct {
	free     chan *session
	sessions []*session
	closed   <-chan struct{}
}

// newPool makes the sessions. Each connects when it is first used.
func newPool(d dialect, r role, size int, closed <-chan struct{}) *pool {
	p := &pool{free: make(chan *session, size), closed: closed}
	for range size {
		s := &session{dialect: d, role: r}
		p.sessions = append(p.sessions, s)
		p.free <- s
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
	case s := <-p.free:
		if err := s.use(ctx); err != nil {
			p.free <- s
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
	p.free <- s
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
