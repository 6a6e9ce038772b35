package tiers

import "context"

// A contextLock is a lock that can be waited for as long as a context lasts, for
// what is held during I/O of L3. It is made by newContextLock.
type contextLock chan struct{}

func newContextLock() contextLock { return make(contextLock, 1) }

// lock waits for the lock, or returns the cause of the end of ctx.
func (l contextLock) lock(ctx context.Context) error {
	select {
	case l <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (l contextLock) unlock() { <-l }
