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

// page reads the next page into records.
func (sc *scan) page(ses *session) error {
	sc.records = sc.records[:0]
	rows, size, full := 0, 0, false
	st, args := sc.statement()
	err := ses.query(st, func(row []driver.Value) error {
		head, err := parseHead(row[1])
		if err != nil {
			return err
		}
		rows++
		sc.from = append(bytesOf(row[0]), 0) // the least key after this one
		if !sc.visits(head) {
			return nil
		}
		if sc.q.WithContent {
			head = appendRecord(make([]byte, 0, len(head)+len(bytesOf(row[2]))), head, bytesOf(row[2]))
		}
		sc.records = append(sc.records, head)
		if size += len(head); size > pageBytes {
			full = true
			return errFull
		}
		return nil
	}, args...)
	sc.ended = rows < sc.rows && !full
	if full {
		sc.rows = rows // the next page is hardly cut short
	}
	return err
}

// statement returns the statement with the narrowest index.
func (sc *scan) statement() (statement, []driver.Value) {
	st, args := stmtScanKey, []driver.Value{sc.from, sc.to}
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
	var all, looked, expired int64
	st, args := countStatement(&q, int64(limit))
	err = s.read(ctx, func(ses *session) error {
		return ses.query(st, func(row []driver.Value) error {
			all, looked, expired = intOf(row[0]), intOf(row[1]), intOf(row[2])
			return nil
		}, args...)
	})
	if err != nil {
		return 0, false, s.wrap("count", err)
	}
	n = max(0, all-expired)
	return min(n, int64(limit)), n <= int64(limit) && looked < expiredBound, nil
}

// countStatement asks for one item more than limit and all that may be expired.
func countStatement(q *ScanQuery, limit int64) (statement, []driver.Value) {
	sp := keySpan(q.Prefix)
	st, which := stmtCountKey, []driver.Value{notNil(sp.from), sp.to}
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
