package l3

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/edgenode/edgenode/tiers/item"
)

// meta is the row of counters.
type meta struct {
	lastSeq, trimmedSeq uint64
	maxVersion          item.Version
	rulesEpoch          int64 // changes when the rules do
}

// count takes the number of a change of version.
func (m *meta) count(version item.Version) {
	m.lastSeq++
	m.maxVersion = max(m.maxVersion, version)
}

func readMeta(ses *session, st statement) (m meta, err error) {
	found := false
	err = ses.query(st, func(row []driver.Value) error {
		m = meta{
			lastSeq: uint64(intOf(row[0])), trimmedSeq: uint64(intOf(row[1])),
			maxVersion: item.Version(intOf(row[2])), rulesEpoch: intOf(row[3]),
		}
		found = true
		return errStop
	})
	if err == nil && !found {
		err = fmt.Errorf("%w: the row of counters is missing", ErrCorrupt)
	}
	return m, err
}

// read runs fn with a reader's session.
func (s *Store) read(ctx context.Context, fn func(*session) error) error {
	if err := s.prepared(ctx); err != nil {
		return err
	}
	ses, err := s.readers.acquire(ctx)
	if err != nil {
		return err
	}
	defer s.readers.release(ses)
	return fn(ses)
}

// write runs fn in a transaction. What fn notes in w is written, numbered and
// committed after it. On a server fn is run again, in a new transaction, while
// others are in the way.
func (s *Store) write(ctx context.Context, fn func(w *work) error) (m meta, err error) {
	if err := s.prepared(ctx); err != nil {
		return meta{}, err
	}
	patience := patience{limit: s.opts.RetryFor}
	for {
		m, err = s.writeOnce(ctx, fn)
		if !errors.Is(err, errAgain) {
			return m, err
		}
		s.metrics.retries.Inc()
		if err := patience.wait(ctx, err); err != nil {
			return meta{}, err
		}
	}
}

func (s *Store) writeOnce(ctx context.Context, fn func(w *work) error) (meta, error) {
	ses, err := s.writers.acquire(ctx)
	if err != nil {
		return meta{}, err
	}
	defer s.writers.release(ses)
	if s.wal != nil {
		if err := s.wal.admit(); err != nil {
			return meta{}, err
		}
	}
	if _, err := ses.exec(stmtBegin); err != nil {
		ses.rollback()
		return meta{}, err
	}
	m, err := s.transact(ctx, ses, fn)
	if err != nil {
		ses.rollback()
		ses.rules.forget()
		ses.tables.forget()
		return meta{}, err
	}
	s.publish(m)
	if s.wal != nil {
		s.wal.committed(ses)
	}
	return m, nil
}

func (s *Store) transact(ctx context.Context, ses *session, fn func(*work) error) (meta, error) {
	seen, err := readMeta(ses, stmtMeta)
	if err != nil {
		return meta{}, err
	}
	w := work{ses: ses, now: s.opts.Clock(), seen: seen}
	if err := fn(&w); err != nil {
		return meta{}, err
	}
	m, err := w.number()
	if err != nil {
		return meta{}, err
	}
	if ctx.Err() != nil {
		return meta{}, context.Cause(ctx)
	}
	err = s.metrics.timeCommit(func() error {
		_, err := ses.exec(stmtCommit)
		return err
	})
	if err == nil {
		w.keepUp(m)
	}
	return m, err
}

// Pauses between two tries of a transaction grow to maxPause and are random, so
// that two nodes do not meet again and again.
const (
	firstPause = time.Millisecond
	maxPause   = 64 * time.Millisecond
)

// patience bounds the tries of one write.
type patience struct {
	limit time.Duration
	begun time.Time
	tries int
}

// wait pauses before the next try, or says that there is none.
func (p *patience) wait(ctx context.Context, cause error) error {
	if p.tries++; p.tries == 1 {
		p.begun = time.Now()
	}
	if time.Since(p.begun) > p.limit {
		return fmt.Errorf("%w: others were in the way of %d tries in %v: %w", ErrUnavailable, p.tries, p.limit, cause)
	}
	pause := min(maxPause, firstPause<<min(p.tries, 10))
	timer := time.NewTimer(rand.N(pause) + pause/8)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
