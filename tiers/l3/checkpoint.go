package l3

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// The write-ahead log is emptied by one goroutine with a connection of its own,
// never by a commit: once passiveAt bytes wait it moves them to the file beside
// writers and readers. If the log is above Options.WALMax nevertheless, the
// next batch first restarts it, which waits for readers. A reader of another
// process that keeps a snapshot stops that: each batch is then delayed by
// checkpointTimeout, and above hardLimit × WALMax it is refused.
const (
	passiveAt = 4 << 20
	hardLimit = 4
	pageSize  = 4096
	frameSize = pageSize + 24 // a page and its header in the log
)

// After idleAfter without a commit the page caches are given up: what was written
// by then is seldom what is written next, and a page takes twice its size, as the
// allocator beneath SQLite knows powers of two only.
const idleAfter = 5 * time.Second

type checkpointer struct {
	store  *Store
	kick   chan struct{} // one pending wish is enough
	idle   *time.Timer   // set by each commit
	cancel context.CancelFunc
	done   chan struct{}

	// mu is held during a checkpoint: SQLite refuses two at a time. It is taken
	// after the writer's session, never before.
	mu  sync.Mutex
	ses *session

	bytes   atomic.Int64 // in the log, as of the last look
	blocked atomic.Bool  // the last restart found a reader in its way
}

func startCheckpointer(s *Store) *checkpointer {
	ctx, cancel := context.WithCancel(context.Background())
	c := &checkpointer{
		store: s, kick: make(chan struct{}, 1), idle: time.NewTimer(idleAfter), cancel: cancel, done: make(chan struct{}),
		ses: &session{dialect: s.dialect, role: roleCheckpointer},
	}
	go c.run(ctx)
	return c
}

// stop ends the goroutine and closes its connection.
func (c *checkpointer) stop() error {
	c.cancel()
	<-c.done
	return c.ses.close()
}

func (c *checkpointer) run(ctx context.Context) {
	defer close(c.done)
	defer c.idle.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.idle.C:
			if err := c.shrink(); err != nil {
				c.store.opts.Logger.Warn("page caches are not given up", "error", err)
			}
		case <-c.kick:
			c.store.metrics.checkpoint(passive)
			if _, err := c.checkpoint(stmtWALPassive); err != nil {
				c.store.metrics.count(err)
				c.store.opts.Logger.Warn("checkpoint failed", "error", err)
			}
		}
	}
}

// committed looks at the log after a commit, on the writer's session.
func (c *checkpointer) committed(ses *session) {
	c.idle.Reset(idleAfter)
	state, err := walState(ses, stmtWALState)
	if err != nil {
		c.store.metrics.count(err)
		return
	}
	c.bytes.Store(state.frames * frameSize)
	if (state.frames-state.moved)*frameSize >= min(passiveAt, c.store.opts.WALMax/2) {
		select {
		case c.kick <- struct{}{}:
		default: // one is pending
		}
	}
}

// admit makes room in the log before a batch, or refuses it. The caller holds
// the writer's session.
func (c *checkpointer) admit() error {
	if c.bytes.Load() <= c.store.opts.WALMax {
		return nil
	}
	if err := c.restart(); err != nil {
		return err
	}
	size, limit := c.bytes.Load(), hardLimit*c.store.opts.WALMax
	if size <= limit {
		return nil
	}
	return fmt.Errorf("%w: the write-ahead log of %s has %d bytes, allowed are %d: "+
		"a reader of another process keeps it from being emptied; end that reader", ErrUnavailable, c.store.opts.Path, size, limit)
}

func (c *checkpointer) checkpoint(st statement) (wal, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.ses.use(background); err != nil {
		return wal{}, err
	}
	return walState(c.ses, st)
}

// shrink gives up the page caches of all connections that nobody uses.
func (c *checkpointer) shrink() error {
	c.mu.Lock()
	err := c.ses.shrink()
	c.mu.Unlock()
	return errors.Join(err, c.store.writers.shrink(), c.store.readers.shrink())
}

// restart moves all of the log to the file, so that the next write begins at
// its start.
func (c *checkpointer) restart() error {
	state, err := c.checkpoint(stmtWALRestart)
	c.store.metrics.checkpoint(restart)
	if err != nil {
		return err
	}
	if !state.busy {
		c.bytes.Store(0)
	}
	if c.blocked.Swap(state.busy) != state.busy {
		if state.busy {
			c.store.opts.Logger.Warn("write-ahead log cannot be emptied: a reader of another process holds a snapshot; end it",
				"path", c.store.opts.Path, "bytes", c.bytes.Load(), "limit", hardLimit*c.store.opts.WALMax)
		} else {
			c.store.opts.Logger.Info("write-ahead log is emptied again", "path", c.store.opts.Path)
		}
	}
	return nil
}

// wal is the state of the log in frames.
type wal struct {
	busy          bool
	frames, moved int64
}

func walState(ses *session, st statement) (w wal, err error) {
	err = ses.query(st, func(row []driver.Value) error {
		w = wal{busy: intOf(row[0]) != 0, frames: max(0, intOf(row[1])), moved: max(0, intOf(row[2]))}
		return nil
	})
	return w, err
}
