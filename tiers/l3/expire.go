package l3

import (
	"context"
	"database/sql/driver"

	"github.com/edgenode/edgenode/tiers/item"
)

// Expire removes up to limit items whose time was over at now (Unix ms), with
// their tags and without tombstone, and adds a change of kind ChangeExpire for
// each. It returns how many; fewer than limit means that none is left.
func (s *Store) Expire(ctx context.Context, now int64, limit int) (n int, err error) {
	_, err = s.write(ctx, func(w *work) error {
		page, err := expiredPage(w, now, max(limit, 1))
		if err != nil {
			return err
		}
		for i := range page {
			w.drop(&page[i], ChangeExpire)
		}
		n = len(page)
		return w.flushRows()
	})
	if err != nil {
		return 0, s.wrap("expire", err)
	}
	s.metrics.expired.Add(n)
	return n, nil
}

// expiredPage goes through the tables in turn.
func expiredPage(w *work, now int64, limit int) (page []slot, err error) {
	if err := w.learnTables(); err != nil {
		return nil, err
	}
	for _, table := range w.ses.tables.tables {
		if len(page) >= limit {
			break
		}
		err := w.ses.queryIn(table, stmtExpired, func(row []driver.Value) error {
			head, err := parseHead(row[2])
			page = append(page, slot{table: table, id: intOf(row[0]), key: bytesOf(row[1]), row: head})
			return err
		}, now, int64(limit-len(page)))
		if err != nil {
			return nil, err
		}
	}
	return page, nil
}

// PurgeTombstones forgets up to limit tombstones whose version is less than
// olderThan and which were stored before storedBefore (Unix ms). It returns how
// many; fewer than limit means that none is left. From then on an older write
// of such a key would be taken for a new item, so the caller must know that
// there is none.
func (s *Store) PurgeTombstones(ctx context.Context, olderThan item.Version, storedBefore int64, limit int) (n int, err error) {
	_, err = s.write(ctx, func(w *work) error {
		purged, err := w.ses.exec(stmtPurgeTombstones, int64(min(olderThan, maxStored)), storedBefore, int64(max(limit, 1)))
		n = int(purged)
		return err
	})
	if err != nil {
		return 0, s.wrap("purge tombstones", err)
	}
	s.metrics.purged.Add(n)
	return n, nil
}

// Tombstones calls fn for the tombstones of keys that begin with prefix, in the
// byte order of their storage keys, beginning after the key after, at most
// limit (0 or less: all). It reads in pages, as Scan does.
func (s *Store) Tombstones(ctx context.Context, prefix []byte, after item.Key, limit int, fn func(v item.View) error) error {
	sc := newScan(&ScanQuery{Prefix: prefix, After: after, Limit: limit})
	for n := 0; !sc.ended; {
		if err := s.read(ctx, sc.graves); err != nil {
			return s.wrap("list tombstones", err)
		}
		for _, record := range sc.records {
			if err := fn(record); err != nil {
				return err
			}
			if n++; n == limit {
				return nil
			}
		}
	}
	return nil
}

// graves is page for tombstones.
func (sc *scan) graves(ses *session) error {
	sc.records = sc.records[:0]
	rows := 0
	err := ses.query(stmtTombstoneList, func(row []driver.Value) error {
		head, err := parseHead(row[1])
		if err != nil {
			return err
		}
		rows++
		sc.from = append(bytesOf(row[0]), 0)
		if len(sc.q.Prefix) <= storedPrefix || string(head.Key()[:min(len(head.Key()), len(sc.q.Prefix))]) == string(sc.q.Prefix) {
			sc.records = append(sc.records, head)
		}
		return nil
	}, sc.from, sc.to, int64(sc.rows))
	sc.ended = rows < sc.rows
	return err
}
