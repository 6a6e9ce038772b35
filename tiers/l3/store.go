package l3

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/edgenode/edgenode/tiers/item"
)

// A Store is the ground truth in one SQLite file or in a database of a MySQL or
// MariaDB server. Its methods are safe for concurrent use. Writes to SQLite are
// made one after the other; to a server there are some at a time, of this node
// and of others. Reads go on beside them.
//
// The context of a call ends its waiting for a connection and is asked between
// statements; on a server it also ends a statement under way. A write whose
// context ends is rolled back as a whole, unless its commit was under way on a
// server: then its fate is unknown, and to repeat it changes nothing.
type Store struct {
	opts    Options
	dialect dialect
	writers *pool
	readers *pool
	wal     *checkpointer // nil on a server
	metrics *storeMetrics

	loading chan struct{} // a token: one call at a time makes the store ready
	ready   atomic.Bool   // the tables are as this binary knows them

	lastSeq    atomic.Uint64 // as of the last look
	maxVersion atomic.Uint64

	closed    chan struct{}
	closeOnce sync.Once
	closeErr  error
}

// Open opens the database of o.
//
// With o.Path it is an SQLite file, which Open creates or migrates; it starts
// one goroutine, the checkpointer, which Close ends. It takes a lock on nothing:
// that no second process writes the file is for the caller to ensure. It fails
// with ErrUnavailable (directory missing or not writable, file locked),
// ErrNotOurs, ErrNewer, ErrSetting or ErrCorrupt; the text names the remedy.
//
// With o.URL it is a database of a server, in which Open creates or migrates the
// tables. If the server cannot be reached, does not answer before ctx ends or
// refuses the login, that is logged, and Open succeeds: calls fail with
// ErrUnavailable until one of them finds the server and makes the store ready,
// see Load. It fails with ErrNewer, ErrSetting or ErrCorrupt.
func Open(ctx context.Context, o Options) (*Store, error) {
	o = o.withDefaults()
	if err := o.validate(); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	d, err := newDialect(&o)
	if err != nil {
		return nil, err
	}
	s, err := open(ctx, o, d)
	if err != nil {
		return nil, fmt.Errorf("l3: open %s: %w", d.name(), err)
	}
	return s, nil
}

func newDialect(o *Options) (dialect, error) {
	if o.URL != "" {
		return newMySQL(o)
	}
	return newSQLite(o.Path, o.WALMax)
}

func open(ctx context.Context, o Options, d dialect) (*Store, error) {
	s := &Store{opts: o, dialect: d, closed: make(chan struct{}), loading: make(chan struct{}, 1)}
	size := 1
	if d.server() {
		size = o.WriteConns
	}
	s.writers = newPool(d, roleWriter, size, s.closed)
	s.readers = newPool(d, roleReader, o.ReadConns, s.closed)
	s.metrics = newMetrics(o.Metrics, s)
	err := s.load(ctx)
	if err == nil && !d.server() {
		err = cmp.Or(s.writers.connect(ctx), s.readers.connect(ctx))
	}
	switch {
	case err != nil && d.server() && (errors.Is(err, ErrUnavailable) || ctx.Err() != nil):
		o.Logger.Warn("SQL server not reached; it is tried again", "server", d.name(), "error", err)
	case err != nil:
		s.metrics.unregister()
		return nil, errors.Join(err, s.readers.closeAll(), s.writers.closeAll())
	}
	if !d.server() {
		s.wal = startCheckpointer(s)
	}
	return s, nil
}

// Load makes the store ready if it is not (it connects to the server and creates
// or migrates its tables) and takes over MaxVersion, LastSeq, MaxPayload and
// Durable as they are now. Whoever rests on these calls it first, and again
// while it fails with ErrUnavailable. It may also fail as Open does. Every other
// call makes the store ready too.
func (s *Store) Load(ctx context.Context) error { return s.wrap("load", s.load(ctx)) }

func (s *Store) load(ctx context.Context) error {
	had := s.lastSeq.Load()
	return s.read(ctx, func(ses *session) error {
		m, err := readMeta(ses, stmtMeta)
		if err != nil {
			return err
		}
		// What had been seen before is gone: a server shows a commit before it is on
		// its disk, and may crash then; or it was restored.
		if m.lastSeq < had {
			s.lastSeq.CompareAndSwap(had, m.lastSeq)
		}
		s.publish(m)
		return nil
	})
}

// prepared makes the store ready unless it is.
func (s *Store) prepared(ctx context.Context) error {
	if s.ready.Load() {
		return nil
	}
	select {
	case s.loading <- struct{}{}:
	case <-s.closed:
		return ErrClosed
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { <-s.loading }()
	if s.ready.Load() {
		return nil
	}
	if err := s.dialect.prepare(ctx); err != nil {
		return err
	}
	s.ready.Store(true)
	return nil
}

// publish takes over counters from whoever saw them last. They only go down by load.
func (s *Store) publish(m meta) {
	raise(&s.lastSeq, m.lastSeq)
	raise(&s.maxVersion, uint64(m.maxVersion))
}

func raise(to *atomic.Uint64, n uint64) {
	for have := to.Load(); have < n && !to.CompareAndSwap(have, n); have = to.Load() {
	}
}

// Close refuses new calls, waits for those under way, ends the checkpointer and
// closes the connections; the last one empties SQLite's write-ahead log into the
// file. It may be called more than once.
func (s *Store) Close() error {
	s.closeOnce.Do(func() {
		close(s.closed)
		s.closeErr = errors.Join(s.readers.drain(), s.writers.drain())
		if s.wal != nil {
			s.closeErr = errors.Join(s.closeErr, s.wal.stop()) // last: a write uses it
		}
		s.metrics.unregister()
	})
	return s.closeErr
}

// LastSeq returns the number of the last change that this store saw committed:
// its own, and those of other nodes as of the last Load or Ping.
func (s *Store) LastSeq() uint64 { return s.lastSeq.Load() }

// MaxVersion returns the highest version ever stored, also of items that are
// gone, as of the last commit of this store, Load or Ping; 0 before the first. A
// clock that begins above it never stamps a version twice.
func (s *Store) MaxVersion() item.Version { return item.Version(s.maxVersion.Load()) }

// MaxPayload returns the greatest content in bytes that Apply takes: that of the
// options, or less if the server takes less, which is known from the first
// contact on.
func (s *Store) MaxPayload() int64 {
	if limit := s.dialect.maxPayload(); limit > 0 {
		return min(limit, s.opts.MaxPayload)
	}
	return s.opts.MaxPayload
}

// Durable reports whether what was committed survives a power loss, by the
// settings read on the connection opened last; SQLite's are enforced. If it does
// not, or if there was no connection yet, reason says which setting is to be
// changed to what.
func (s *Store) Durable() (ok bool, reason string) { return s.dialect.durable() }

// wrap gives err the operation and counts it.
func (s *Store) wrap(operation string, err error) error {
	if err == nil {
		return nil
	}
	s.metrics.count(err)
	return fmt.Errorf("l3: %s: %w", operation, err)
}
