package l3

import (
	"bytes"
	"context"
	"database/sql/driver"
	"errors"
	"fmt"

	"github.com/edgenode/edgenode/tiers/item"
)

// Errors of mappings. Nothing was changed.
var (
	// ErrMoving is returned while rows of another mapping are moved: only one
	// moves at a time. MoveMapped brings it to its end.
	ErrMoving = errors.New("l3: rows of a mapping are being moved")
	// ErrMapped is returned for a prefix that has another table, or a table that
	// has another prefix.
	ErrMapped = errors.New("l3: prefix or table is mapped already")
	// ErrNotMapped is returned for a prefix without a table of its own.
	ErrNotMapped = errors.New("l3: prefix is not mapped")
)

const (
	// MaxMappings is the greatest number of mappings at a time.
	MaxMappings = 64
	// MaxTableName is the greatest length of a table's name in bytes: with its
	// prefix it is the longest that a server takes.
	MaxTableName = 48
)

// CheckTable reports why a mapping cannot name a table so: names have 1 to
// MaxTableName bytes of a to z, 0 to 9 and _.
func CheckTable(name string) error {
	if len(name) < 1 || len(name) > MaxTableName {
		return fmt.Errorf("l3: name %q of a table has %d bytes, allowed are 1 to %d", name, len(name), MaxTableName)
	}
	for i := range len(name) {
		if c := name[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' {
			return fmt.Errorf("l3: name %q of a table has the byte %q, allowed are a to z, 0 to 9 and _", name, c)
		}
	}
	return nil
}

// MapPrefix gives the items whose keys begin with prefix (a namespace and at
// least one byte more, at most 513 in all) a table of their own, which is created
// with the columns and indexes of the others; of two prefixes the longer wins. It
// returns at once: from now on new rows go there, and MoveMapped moves the others
// in pages. What is asked of the store has the same answer before, meanwhile and
// after.
//
// The mapping is stored in the database: every node follows it, and a binary that
// does not know mappings cannot open the database any more. To map a prefix to the
// table that it has does nothing; one that is being unmapped must have left
// before. It fails with ErrMoving, ErrMapped or ErrRejected.
func (s *Store) MapPrefix(ctx context.Context, prefix item.Key, table string) error {
	err := s.checkMapping(prefix, table)
	if err == nil {
		err = s.createTable(ctx, table)
	}
	if err == nil {
		err = s.changeMapping(ctx, func(have []mapped) (*mapped, error) { return mapTo(have, prefix, table) })
	}
	return s.wrap(fmt.Sprintf("map prefix %q to table %s", prefix, table), err)
}

// UnmapPrefix ends the mapping of prefix: from now on new rows go where they
// would without it, and MoveMapped moves the others there. The table stays, empty.
// It fails with ErrNotMapped or ErrMoving.
func (s *Store) UnmapPrefix(ctx context.Context, prefix item.Key) error {
	err := s.changeMapping(ctx, func(have []mapped) (*mapped, error) {
		m := mappingOf(have, prefix)
		switch {
		case m == nil:
			return nil, ErrNotMapped
		case m.state == mapDraining:
			return nil, nil
		case anyMoving(have) != nil:
			return nil, fmt.Errorf("%w: those of table %s", ErrMoving, anyMoving(have).table)
		}
		return &mapped{table: m.table, prefix: m.prefix, state: mapDraining}, nil
	})
	return s.wrap(fmt.Sprintf("unmap prefix %q", prefix), err)
}

// Mappings returns all mappings in the order of prefixes.
func (s *Store) Mappings(ctx context.Context) (list []Mapping, err error) {
	err = s.read(ctx, func(ses *session) error {
		ses.tables.forget()
		err := ses.tables.load(ses)
		list = ses.tables.mappings(s.dialect)
		return err
	})
	if err != nil {
		return nil, s.wrap("list mappings", err)
	}
	return list, nil
}

func (s *Store) checkMapping(prefix item.Key, table string) error {
	if len(prefix) < 2 || len(prefix) > storedPrefix {
		return fmt.Errorf("%w: prefix of %d bytes, allowed are 2 to %d with the namespace", ErrRejected, len(prefix), storedPrefix)
	}
	if err := CheckTable(table); err != nil {
		return fmt.Errorf("%w: %w", ErrRejected, err)
	}
	return nil
}

// createTable makes sure that the table is there. A server commits that at once,
// hence it comes before the mapping; one that nobody maps is empty.
func (s *Store) createTable(ctx context.Context, table string) error {
	if err := s.prepared(ctx); err != nil {
		return err
	}
	ses, err := s.writers.acquire(ctx)
	if err != nil {
		return err
	}
	defer s.writers.release(ses)
	if err := s.dialect.createTable(ses.ctx, ses.conn, table); err != nil {
		_ = ses.close() // its next user begins with a new one
		return s.dialect.classify(err)
	}
	return nil
}

// changeMapping stores what change makes of the mappings, nil for nothing. All
// changes are one after the other, by the lock of the counters, and each begins
// an epoch: transactions that rest on the mappings before it are made again.
func (s *Store) changeMapping(ctx context.Context, change func(have []mapped) (*mapped, error)) error {
	_, err := s.write(ctx, func(w *work) error {
		if _, err := w.lock(); err != nil {
			return err
		}
		have, err := readMappings(w.ses)
		if err != nil {
			return err
		}
		next, err := change(have)
		if err != nil || next == nil {
			return err
		}
		if _, err := w.ses.exec(stmtMapMinBinary); err != nil {
			return err
		}
		return w.setMapping(next)
	})
	return err
}

// setMapping stores a state of a mapping under the epoch that it begins.
func (w *work) setMapping(m *mapped) error {
	counters, err := w.lock()
	if err != nil {
		return err
	}
	w.newEpochs++
	_, err = w.ses.exec(stmtMapSet, m.table, counters.rulesEpoch+w.epochs(), notNil(m.prefix), m.state)
	return err
}

func mappingOf(have []mapped, prefix []byte) *mapped {
	for i := range have {
		if have[i].state != mapGone && bytes.Equal(have[i].prefix, prefix) {
			return &have[i]
		}
	}
	return nil
}

func anyMoving(have []mapped) *mapped {
	for i := range have {
		if have[i].moving() {
			return &have[i]
		}
	}
	return nil
}

// mapTo returns the new mapping, nil if it is there.
func mapTo(have []mapped, prefix item.Key, table string) (*mapped, error) {
	active := 0
	for i := range have {
		m := &have[i]
		if m.state == mapGone {
			continue
		}
		active++
		if samePrefix, sameTable := bytes.Equal(m.prefix, prefix), m.table == table; samePrefix && sameTable && m.state != mapDraining {
			return nil, nil
		} else if samePrefix || sameTable {
			return nil, fmt.Errorf("%w: %q has table %s; unmap it first", ErrMapped, m.prefix, m.table)
		}
	}
	if m := anyMoving(have); m != nil {
		return nil, fmt.Errorf("%w: those of table %s", ErrMoving, m.table)
	}
	if active >= MaxMappings {
		return nil, fmt.Errorf("%w: there are %d mappings, more are not allowed; unmap one", ErrRejected, active)
	}
	return &mapped{table: table, prefix: prefix, state: mapFilling}, nil
}

// MoveMapped moves the next rows, at most limit and some 4 MiB, of the mapping
// that moves, and stores how far it came in the same transaction: it may be
// repeated, by any node, and goes on after a crash. It returns how many were
// moved and whether there is more to do; without a mapping that moves there is
// not. A row keeps its version, and no change is noted.
func (s *Store) MoveMapped(ctx context.Context, limit int) (moved int, more bool, err error) {
	_, err = s.write(ctx, func(w *work) error {
		moved, more, err = w.move(max(limit, 1))
		return err
	})
	if err != nil {
		return 0, true, s.wrap("move rows of a mapping", err)
	}
	s.metrics.moved.Add(moved)
	return moved, more, nil
}

func (w *work) move(limit int) (moved int, more bool, err error) {
	if err := w.learnTables(); err != nil {
		return 0, true, err
	}
	ts := &w.ses.tables
	m := anyMoving(ts.all)
	if m == nil {
		return 0, false, nil
	}
	from, err := w.lockMapping(m)
	if err != nil {
		return 0, true, err
	}
	to := upperBound(m.prefix)
	for moved < limit && bytes.Compare(from, to) < 0 {
		seg := ts.at(from, to)
		if !seg.moving {
			from = seg.to // a longer prefix
			continue
		}
		n, last, err := w.movePage(&seg, limit-moved)
		if err != nil {
			return 0, true, err
		}
		if n == 0 {
			from = seg.to
			continue
		}
		moved += n
		from = append(last, 0)
		if w.movedBytes > pageBytes {
			break
		}
	}
	if err := w.flushRows(); err != nil {
		return 0, true, err
	}
	if bytes.Compare(from, to) < 0 {
		_, err = w.ses.exec(stmtMapPosition, from, m.table)
		return moved, true, err
	}
	next := mapped{table: m.table, prefix: m.prefix, state: mapSettled}
	if m.state == mapDraining {
		next.state = mapGone
	}
	return moved, false, w.setMapping(&next)
}

// lockMapping lets no other node move at the same time, and returns where to go
// on.
func (w *work) lockMapping(m *mapped) (from []byte, err error) {
	same := false
	err = w.ses.query(stmtMapLock, func(row []driver.Value) error {
		same, from = intOf(row[0]) == m.version, bytesOf(row[1])
		return nil
	}, m.table)
	if err == nil && !same {
		err = fmt.Errorf("%w: a mapping has changed", errAgain)
	}
	if from == nil {
		from = m.prefix
	}
	return from, err
}

// movePage notes the next rows of a segment to be written to its home and deleted
// from its source.
func (w *work) movePage(seg *segment, limit int) (n int, last []byte, err error) {
	err = w.ses.queryIn(seg.source, stmtMovePage, func(row []driver.Value) error {
		if w.movedBytes > pageBytes {
			return nil // read to its end: it is one small answer
		}
		n++
		last = bytesOf(row[0])
		w.movedBytes += intOf(row[1])
		return nil
	}, seg.from, seg.to, int64(limit))
	if err != nil || n == 0 {
		return 0, nil, err
	}
	home, source := []*slot{}, []int64{}
	err = w.ses.queryIn(seg.source, stmtMoveRows, func(row []driver.Value) error {
		head, err := parseHead(row[2])
		home = append(home, &slot{key: bytesOf(row[1]), now: head, content: bytesOf(row[3])})
		source = append(source, intOf(row[0]))
		return err
	}, seg.from, last)
	if err == nil && len(home) != n {
		err = fmt.Errorf("%w: %d of %d rows to move are there", errAgain, len(home), n)
	}
	if err != nil {
		return 0, nil, err
	}
	p := w.part(seg.home)
	p.inserts = append(p.inserts, home...)
	p = w.part(seg.source)
	p.drops = append(p.drops, source...)
	return n, last, nil
}
