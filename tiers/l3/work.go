package l3

import (
	"bytes"
	"cmp"
	"database/sql/driver"
	"slices"

	"github.com/edgenode/edgenode/tiers/item"
)

// work collects what a transaction inserts, so that rows of a kind go into one
// statement and, for indexes, in their order: that is a third of the time of
// one statement each. Deletions and updates are made at once. One goroutine
// uses it, in one transaction.
type work struct {
	ses *session
	m   *meta
	now int64

	rows    []*slot
	tags    []tagRow
	changes []changeRow

	firstID, lastID int64 // of the rows inserted by flush
}

type tagRow struct {
	tag string
	key []byte
}

type changeRow struct {
	op      ChangeOp
	version item.Version
	key     item.Key
}

// replace makes the row of sl what sl.now and sl.content say: a live row or a
// tombstone. It keeps id and grave of sl true.
func (w *work) replace(sl *slot, op ChangeOp) error {
	if err := w.retag(sl); err != nil {
		return err
	}
	w.change(op, sl.now)
	if sl.now.Kind() == item.KindTombstone {
		return w.bury(sl)
	}
	return w.put(sl)
}

// drop removes the row of sl without tombstone.
func (w *work) drop(sl *slot, op ChangeOp) error {
	if err := w.retag(sl); err != nil {
		return err
	}
	w.change(op, sl.row)
	_, err := w.ses.exec(stmtDeleteRow, sl.id)
	return err
}

func (w *work) change(op ChangeOp, head item.View) {
	w.changes = append(w.changes, changeRow{op: op, version: head.Version(), key: head.Key()})
}

func (w *work) bury(sl *slot) error {
	if sl.id != 0 {
		if _, err := w.ses.exec(stmtDeleteRow, sl.id); err != nil {
			return err
		}
		sl.id = 0
	}
	sl.grave = true
	_, err := w.ses.exec(stmtTombstone, sl.key, int64(sl.now.Version()), int64(sl.now.ContentVersion()), w.now, []byte(sl.now))
	return err
}

func (w *work) put(sl *slot) error {
	if sl.grave {
		if _, err := w.ses.exec(stmtDropTombstone, sl.key); err != nil {
			return err
		}
		sl.grave = false
	}
	if sl.id == 0 {
		w.rows = append(w.rows, sl)
		return nil
	}
	h := sl.now
	version, cv, mv := int64(h.Version()), int64(h.ContentVersion()), int64(metadataVersion(h))
	updated, expires, json, state := h.UpdatedAt(), nullInt(h.ExpiresAt()), int64(h.Flags()&item.FlagJSON), nullText(h.State())
	if sl.won&partContent == 0 {
		_, err := w.ses.exec(stmtPutHead, version, cv, mv, updated, expires, json, state, []byte(h), sl.id)
		return err
	}
	_, err := w.ses.exec(stmtPutOver, version, cv, mv, updated, expires, json, state, []byte(h), notNil(sl.content), sl.id)
	return err
}

func nullInt(n int64) driver.Value {
	if n == 0 {
		return nil
	}
	return n
}

func nullText(s string) driver.Value {
	if s == "" {
		return nil
	}
	return s
}

// notNil returns b, or what is empty but not NULL.
func notNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// retag removes the tags that the row of sl had and sl.now has not, and notes
// the others that are new.
func (w *work) retag(sl *slot) error {
	var had []string
	if sl.id != 0 {
		had = tagsOf(sl.row)
	}
	have := tagsOf(sl.now)
	for _, t := range had {
		if _, kept := slices.BinarySearch(have, t); kept {
			continue
		}
		if _, err := w.ses.exec(stmtUntag, t, sl.key); err != nil {
			return err
		}
	}
	for _, t := range have {
		if _, kept := slices.BinarySearch(had, t); !kept {
			w.tags = append(w.tags, tagRow{tag: t, key: sl.key})
		}
	}
	return nil
}

// flush makes the insertions and takes the numbers of the changes, in the order
// in which they were noted. It is called once, last.
func (w *work) flush() error {
	if err := w.flushRows(); err != nil {
		return err
	}
	if err := w.flushTags(); err != nil {
		return err
	}
	return inserts(w.ses, stmtChangeIn, len(w.changes), func(i int, args []driver.Value) []driver.Value {
		c := &w.changes[i]
		w.m.lastSeq++
		w.m.maxVersion = max(w.m.maxVersion, c.version)
		return append(args, int64(w.m.lastSeq), w.now, int64(c.op), int64(c.version), []byte(c.key))
	})
}

// flushRows inserts the new rows by key. SQLite numbers them one after the
// other; readBack finds out if it did not.
func (w *work) flushRows() error {
	slices.SortFunc(w.rows, func(a, b *slot) int { return bytes.Compare(a.key, b.key) })
	if len(w.rows) == 0 {
		return nil
	}
	err := inserts(w.ses, stmtPutIn, len(w.rows), func(i int, args []driver.Value) []driver.Value {
		sl := w.rows[i]
		h := sl.now
		return append(args, sl.key, int64(h.Version()), int64(h.ContentVersion()), int64(metadataVersion(h)), h.UpdatedAt(),
			nullInt(h.ExpiresAt()), int64(h.Flags()&item.FlagJSON), nullText(h.State()), []byte(h), notNil(sl.content))
	})
	w.lastID = w.ses.lastID
	w.firstID = w.lastID - int64(len(w.rows)) + 1
	return err
}

func (w *work) flushTags() error {
	slices.SortFunc(w.tags, func(a, b tagRow) int { return cmp.Or(cmp.Compare(a.tag, b.tag), bytes.Compare(a.key, b.key)) })
	return inserts(w.ses, stmtTagIn, len(w.tags), func(i int, args []driver.Value) []driver.Value {
		return append(args, w.tags[i].tag, w.tags[i].key)
	})
}

// inserts inserts n rows by the widest statements that fit. row appends the
// values of the i-th.
func inserts(ses *session, first statement, n int, row func(i int, args []driver.Value) []driver.Value) error {
	var args []driver.Value
	for i := 0; i < n; {
		st, width := insertFor(first, n-i)
		args = args[:0]
		for range width {
			args = row(i, args)
			i++
		}
		if _, err := ses.exec(st, args...); err != nil {
			return err
		}
	}
	return nil
}

// eachList runs a statement with a list of keys over keys, maxWidth at a time,
// and calls each for every row. The statement has the list repeat times. A list
// is filled up with NULL, which equals nothing.
func eachList[T any](ses *session, first statement, repeat int, keys []T, each func(row []driver.Value) error) error {
	for part := range slices.Chunk(keys, maxWidth) {
		st, width := widthFor(first, len(part))
		args := make([]driver.Value, repeat*width)
		for i := range args {
			if i%width < len(part) {
				args[i] = part[i%width]
			}
		}
		if err := ses.query(st, each, args...); err != nil {
			return err
		}
	}
	return nil
}
