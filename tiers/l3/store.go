package l3

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/edgenode/edgenode/tiers/item"
)

// A Store is the ground truth in one SQLite file. Its methods are safe for
// concurrent use: writes are made one after the other, reads beside them.
//
// The context of a call ends its waiting for a connection and is asked between
// statements. A write whose context ends is rolled back as a whole.
type Store struct {
	opts    Options
	dialect *sqliteDialect
	writer  *pool
	readers *pool
	wal     *checkpointer
	metrics *storeMetrics

	// rules is what the rules table holds. Only the holder of the writer
	// session uses it.
	rules ruleSet

	lastSeq    atomic.Uint64 // as of the last commit
	maxVersion atomic.Uint64

	closed    chan struct{}
	closeOnce sync.Once
	closeErr  error
}

// Open opens the database at o.Path, creating or migrating it, and starts one
// goroutine, the checkpointer, which Close ends. It takes a lock on nothing:
// that no second process writes the file is for the caller to ensure.
//
// It fails with ErrUnavailable (directory missing or not writable, file
// locked), ErrNotOurs, ErrNewer, ErrSetting or ErrCorrupt; the text names the
// remedy.
func Open(ctx context.Context, o Options) (*Store, error) {
	o = o.withDefaults()
	if err := o.validate(); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	s, err := open(o)
	if err != nil {
		return nil, fmt.Errorf("l3: open %s: %w", o.Path, err)
	}
	return s, nil
}

func open(o Options) (*Store, error) {
	d, err := newSQLite(o.Path, o.WALMax)
	if err != nil {
		return nil, err
	}
	if err := d.prepare(sqliteMigrations); err != nil {
		return nil, err
	}
	s := &Store{opts: o, dialect: d, closed: make(chan struct{})}
	if s.writer, err = newPool(d, roleWriter, 1, s.closed); err != nil {
		return nil, err
	}
	if s.readers, err = newPool(d, roleReader, o.ReadConns, s.closed); err != nil {
		return nil, errors.Join(err, s.writer.closeAll())
	}
	if err := s.loadCounters(); err != nil {
		return nil, errors.Join(err, s.readers.closeAll(), s.writer.closeAll())
	}
	s.metrics = newMetrics(o.Metrics, s)
	s.wal = startCheckpointer(s)
	return s, nil
}

// prepare creates the file if need be and migrates it.
func (d *sqliteDialect) prepare(steps []migration) error {
	if err := d.create(); err != nil {
		return err
	}
	if err := d.refuseForeign(steps); err != nil {
		return err
	}
	conn, err := d.connect(roleWriter)
	if err != nil {
		return err
	}
	err = migrate(conn, d.path, steps)
	return errors.Join(d.classify(err), conn.Close())
}

// refuseForeign looks at the database before any setting writes to it.
func (d *sqliteDialect) refuseForeign(steps []migration) error {
	conn, err := d.driver.Open(d.uri())
	if err != nil {
		return d.openFault(err)
	}
	_, err = schemaOf(conn, d.path, steps[len(steps)-1].version)
	if err != nil {
		err = d.openFault(err)
	}
	return errors.Join(err, conn.Close())
}

func (s *Store) loadCounters() error {
	ses := s.writer.sessions[0]
	m, err := readMeta(ses)
	if err != nil {
		return err
	}
	s.publish(m)
	return nil
}

func (s *Store) publish(m meta) {
	s.lastSeq.Store(m.lastSeq)
	s.maxVersion.Store(uint64(m.maxVersion))
}

// Close refuses new calls, waits for those under way, ends the checkpointer and
// closes the connections; the last one empties the write-ahead log into the
// file. It may be called more than once.
func (s *Store) Close() error {
	s.closeOnce.Do(func() {
		close(s.closed)
		readers := s.readers.drain()
		writer := s.writer.drain()
		s.closeErr = errors.Join(readers, writer, s.wal.stop()) // last: a write uses it
		s.metrics.unregister()
	})
	return s.closeErr
}

// LastSeq returns the number of the last change committed.
func (s *Store) LastSeq() uint64 { return s.lastSeq.Load() }

// MaxVersion returns the highest version ever stored, also of items that are
// gone. A clock that begins above it never stamps a version twice.
func (s *Store) MaxVersion() item.Version { return item.Version(s.maxVersion.Load()) }

// MaxPayload returns the greatest content in bytes that Apply takes.
func (s *Store) MaxPayload() int64 { return s.opts.MaxPayload }

// meta is the row of counters.
type meta struct {
	lastSeq, trimmedSeq uint64
	maxVersion          item.Version
	rulesEpoch          int64
}

func readMeta(ses *session) (m meta, err error) {
	found := false
	err = ses.query(stmtMeta, func(row []driver.Value) error {
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
	ses, err := s.readers.acquire(ctx)
	if err != nil {
		return err
	}
	defer s.readers.release(ses)
	return fn(ses)
}

// write runs fn in a transaction, alone. m holds the counters; what fn changes
// in it is stored and published with the commit.
func (s *Store) write(ctx context.Context, fn func(*session, *meta) error) error {
	ses, err := s.writer.acquire(ctx)
	if err != nil {
		return err
	}
	defer s.writer.release(ses)
	if err := s.wal.admit(); err != nil {
		return err
	}
	if _, err := ses.exec(stmtBegin); err != nil {
		ses.rollback()
		return err
	}
	m, err := s.transact(ctx, ses, fn)
	if err != nil {
		ses.rollback()
		s.rules.forget()
		return err
	}
	s.publish(m)
	s.wal.committed(ses)
	return nil
}

func (s *Store) transact(ctx context.Context, ses *session, fn func(*session, *meta) error) (meta, error) {
	before, err := readMeta(ses)
	if err != nil {
		return meta{}, err
	}
	m := before
	if err := fn(ses, &m); err != nil {
		return meta{}, err
	}
	if m != before {
		if _, err := ses.exec(stmtSetMeta, int64(m.lastSeq), int64(m.maxVersion), m.rulesEpoch); err != nil {
			return meta{}, err
		}
	}
	if ctx.Err() != nil {
		return meta{}, context.Cause(ctx)
	}
	return m, s.metrics.timeCommit(func() error {
		_, err := ses.exec(stmtCommit)
		return err
	})
}

// wrap gives err the operation and counts it.
func (s *Store) wrap(operation string, err error) error {
	if err == nil {
		return nil
	}
	s.metrics.count(err)
	return fmt.Errorf("l3: %s: %w", operation, err)
}
