package l3

import (
	"bytes"
	"context"
	"database/sql/driver"
	"slices"

	"github.com/edgenode/edgenode/tiers/item"
)

// A ScanQuery says which items a scan visits.
type ScanQuery struct {
	// Prefix is the beginning of the key, namespace included; empty is
	// everything. It is bytes, not a pattern.
	Prefix []byte
	State  string // only items in this state; empty means any
	Tag    string // only items with this tag; empty means any
	// After is the key of the last item seen; nil begins at the start.
	After item.Key
	Limit int // greatest number of items; 0 or less means all
	// WithContent adds the content. Without it the records have none, and only
	// the content hash tells of it.
	WithContent bool
	// Now decides what is expired, in Unix ms; 0 means the store's clock.
	Now int64
}

// A page is at most so many rows, and ends when its contents exceed so many
// bytes.
const (
	pageRows  = 256
	pageBytes = 4 << 20
)

// Scan calls fn for the items of the query in the byte order of their storage
// keys, which is that of keys up to 1,024 bytes. Tombstones and expired items
// are left out; items that a rule covers which has yet to be swept are not. v
// is valid during the call only; an error of fn ends Scan and is returned.
//
// Rows are read in pages, each one statement on an index (key, state or tag)
// and one snapshot; no connection is in use while fn runs. What was there
// throughout is visited exactly once. Cost: O(rows of the index in range);
// state together with tag goes through all items of the tag.
func (s *Store) Scan(ctx context.Context, q ScanQuery, fn func(v item.View) error) error {
	if q.Now == 0 {
		q.Now = s.opts.Clock()
	}
	sc := newScan(&q)
	for n := 0; !sc.ended; {
		if err := s.read(ctx, sc.page); err != nil {
			return s.wrap("scan", err)
		}
		for _, record := range sc.records {
			if err := fn(record); err != nil {
				return err
			}
			if n++; n == q.Limit {
				return nil
			}
		}
	}
	return nil
}

// A scan walks one query in pages.
type scan struct {
	q        *ScanQuery
	from, to []byte // what is left
	rows     int    // of a page
	records  []item.View
	ended    bool
}

func newScan(q *ScanQuery) *scan {
	sp := keySpan(q.Prefix)
	sc := &scan{q: q, from: notNil(sp.from), to: sp.to, rows: pageRows}
	if len(q.After) > 0 {
		if after := append(append([]byte(nil), q.After.StorageKey()...), 0); bytes.Compare(after, sc.from) > 0 {
			sc.from = after
		}
	}
	if q.Limit > 0 {
		sc.rows = min(sc.rows, q.Limit)
	}
	return sc
}

// page reads the next page into records, from as many segments as it takes.
func (sc *scan) page(ses *session) error {
	from, rows := sc.from, sc.rows
	return consistently(ses, func(ts *tableSet) (bool, error) {
		sc.from, sc.rows, sc.records, sc.ended = from, rows, sc.records[:0], false
		n, size := 0, 0
		for n < sc.rows && size <= pageBytes && !sc.ended {
			seg := ts.at(sc.from, sc.to)
			list, ended, err := sc.segment(ses, &seg)
			if err != nil {
				return false, err
			}
			for _, row := range list {
				n++
				if row.record != nil {
					sc.records = append(sc.records, row.record)
					size += len(row.record)
				}
			}
			switch {
			case ended:
				sc.from = seg.to
				sc.ended = bytes.Compare(seg.to, sc.to) >= 0
			case len(list) > 0:
				sc.from = append(list[len(list)-1].key, 0) // the least key after this one
			}
		}
		if size > pageBytes {
			sc.rows = max(n, 1) // the next page is hardly cut short
		}
		return false, nil
	})
}

// A scanned is a row of a page; record is nil unless the query visits it.
type scanned struct {
	key    []byte
	record item.View
}

// segment reads up to sc.rows rows of a segment, and reports whether there are
// no more. Of one that is moving it reads both tables, the source first: a row
// that is moved meanwhile is then found twice, and given once, but never missed.
func (sc *scan) segment(ses *session, seg *segment) (list []scanned, ended bool, err error) {
	if !seg.moving {
		return sc.table(ses, seg.home, seg)
	}
	source, ended, err := sc.table(ses, seg.source, seg)
	if err != nil {
		return nil, false, err
	}
	if err := ses.reopen(); err != nil {
		return nil, false, err
	}
	home, homeEnded, err := sc.table(ses, seg.home, seg)
	if err != nil {
		return nil, false, err
	}
	var known []byte // what is behind the last row of either is not known yet
	if !ended {
		known = source[len(source)-1].key
	}
	if last := len(home) - 1; !homeEnded && (known == nil || bytes.Compare(home[last].key, known) < 0) {
		known = home[last].key
	}
	if known == nil {
		return mergeRows(source, home), true, nil
	}
	return mergeRows(upTo(source, known), upTo(home, known)), false, nil
}

// upTo cuts list behind the key.
func upTo(list []scanned, key []byte) []scanned {
	n, found := slices.BinarySearchFunc(list, key, func(r scanned, key []byte) int { return bytes.Compare(r.key, key) })
	if found {
		n++
	}
	return list[:n]
}

// mergeRows merges two lists in the order of keys. A key in both comes once, as b
// has it.
func mergeRows(a, b []scanned) (list []scanned) {
	for len(a) > 0 && len(b) > 0 {
		switch c := bytes.Compare(a[0].key, b[0].key); {
		case c < 0:
			list, a = append(list, a[0]), a[1:]
		case c == 0:
			a = a[1:]
		default:
			list, b = append(list, b[0]), b[1:]
		}
	}
	return append(append(list, a...), b...)
}

// table reads up to sc.rows rows, and not much more than a page may have, of one
// table.
func (sc *scan) table(ses *session, table string, seg *segment) (list []scanned, ended bool, err error) {
	rows, size, full := 0, 0, false
	st, args := sc.statement(seg)
	err = ses.queryIn(table, st, func(row []driver.Value) error {
		head, err := parseHead(row[1])
		if err != nil {
			return err
		}
		rows++
		list = append(list, scanned{key: bytesOf(row[0])})
		if !sc.visits(head) {
			return nil
		}
		if sc.q.WithContent {
			head = appendRecord(make([]byte, 0, len(head)+len(bytesOf(row[2]))), head, bytesOf(row[2]))
		}
		list[rows-1].record = head
		if size += len(head); size > pageBytes {
			full = true
			return errFull
		}
		return nil
	}, args...)
	return list, rows < sc.rows && !full, err
}

// statement returns the statement with the narrowest index.
func (sc *scan) statement(seg *segment) (statement, []driver.Value) {
	st, args := stmtScanKey, []driver.Value{seg.from, seg.to}
	switch {
	case sc.q.Tag != "":
		st, args = stmtScanTag, append(args, sc.q.Tag)
	case sc.q.State != "":
		st, args = stmtScanState, append(args, sc.q.State)
	}
	if sc.q.WithContent {
		st++ // the same with content
	}
	return st, append(args, int64(sc.rows))
}

// visits reports what the statement could not.
func (sc *scan) visits(head item.View) bool {
	return !head.Expired(sc.q.Now) &&
		(sc.q.State == "" || head.State() == sc.q.State) &&
		(len(sc.q.Prefix) <= storedPrefix || bytes.HasPrefix(head.Key(), sc.q.Prefix))
}

// expiredBound is how many expired items, which wait for the sweeper, Count
// looks at.
const expiredBound = 10_000

// Count returns how many items Scan would visit for the query without After and
// Limit. It stops when it has found more than limit; then n is limit and exact
// is false: there are at least so many. While more than 10,000 expired items
// wait to be swept n is an estimate, which may count some of them, and exact is
// false too.
//
// Cost: at most limit + 20,000 steps on covering indexes, in one snapshot.
// State together with tag, and prefixes above 513 bytes, are counted by a scan.
func (s *Store) Count(ctx context.Context, q ScanQuery, limit int) (n int64, exact bool, err error) {
	limit = max(limit, 0)
	if q.Now == 0 {
		q.Now = s.opts.Clock()
	}
	q.After, q.WithContent = nil, false
	if q.State != "" && q.Tag != "" || len(q.Prefix) > storedPrefix {
		q.Limit = limit + 1
		err = s.Scan(ctx, q, func(item.View) error { n++; return nil })
		return min(n, int64(limit)), n <= int64(limit), err
	}
	err = s.read(ctx, func(ses *session) error {
		return consistently(ses, func(ts *tableSet) (bool, error) {
			n, exact, err = countIn(ses, ts, &q, int64(limit))
			return false, err
		})
	})
	if err != nil {
		return 0, false, s.wrap("count", err)
	}
	return min(n, int64(limit)), n <= int64(limit) && exact, nil
}

// countIn counts in all segments of the query. While rows are moved it does so in
// one snapshot, in which each row is in one table.
func countIn(ses *session, ts *tableSet, q *ScanQuery, limit int64) (n int64, exact bool, err error) {
	if ts.isMoving {
		if err := ses.snapshot(); err != nil {
			return 0, false, err
		}
		defer ses.rollback() // it wrote nothing
	}
	exact = true
	for sp := keySpan(q.Prefix); n <= limit; {
		seg := ts.at(notNil(sp.from), sp.to)
		for i, table := range seg.places() {
			st, args := countStatement(q, &seg, limit)
			err := ses.queryIn(table, st, func(row []driver.Value) error {
				all, looked, expired := intOf(row[0]), intOf(row[1]), intOf(row[2])
				if q.Tag != "" && i > 0 {
					all = 0 // the tags of both tables were counted
				}
				n += all - expired
				exact = exact && looked < expiredBound
				return nil
			}, args...)
			if err != nil {
				return 0, false, err
			}
		}
		if sp.from = seg.to; bytes.Compare(seg.to, sp.to) >= 0 {
			break
		}
	}
	return max(0, n), exact, nil
}

// snapshot begins a transaction that sees one state of all tables.
func (s *session) snapshot() error {
	if s.dialect.server() {
		if _, err := s.exec(stmtSnapshotLevel); err != nil {
			return err
		}
	}
	_, err := s.exec(stmtSnapshot)
	return err
}

// countStatement asks for one item more than limit and all that may be expired.
func countStatement(q *ScanQuery, seg *segment, limit int64) (statement, []driver.Value) {
	st, which := stmtCountKey, []driver.Value{seg.from, seg.to}
	switch {
	case q.Tag != "":
		st, which = stmtCountTag, append(which, q.Tag)
	case q.State != "":
		st, which = stmtCountState, append(which, q.State)
	}
	args := append(slices.Clone(which), limit+1+expiredBound)
	args = append(args, which...)
	return st, append(args, q.Now, int64(expiredBound))
}
