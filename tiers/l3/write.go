package l3

import (
	"database/sql/driver"
	"slices"

	"github.com/edgenode/edgenode/tiers/item"
)

// eachList runs a statement with lists of keys over keys, maxWidth at a time,
// and calls each for every row. The statement has the list repeat times.
func eachList(ses *session, first statement, repeat int, keys [][]byte, each func(row []driver.Value) error) error {
	for part := range slices.Chunk(keys, maxWidth) {
		st, width := widthFor(first, len(part))
		args := make([]driver.Value, 0, repeat*width)
		for range repeat {
			for i := range width {
				args = append(args, part[min(i, len(part)-1)])
			}
		}
		if err := ses.query(st, each, args...); err != nil {
			return err
		}
	}
	return nil
}

// writeSlot brings the tables to what the slot has become, and adds its change.
func (b *batch) writeSlot(ses *session, m *meta, sl *slot) error {
	op := ChangePut
	switch {
	case sl.now.Kind() == item.KindTombstone:
		op = ChangeDelete
	case sl.won&partContent == 0:
		op = ChangeMetadata
	}
	return replace(ses, m, sl, op, b.now)
}

// replace makes the row of sl what sl.now and sl.content say: a live row or a
// tombstone. It keeps id and grave of sl true.
func replace(ses *session, m *meta, sl *slot, op ChangeOp, now int64) error {
	if err := retag(ses, sl); err != nil {
		return err
	}
	var err error
	if sl.now.Kind() == item.KindTombstone {
		err = bury(ses, sl, now)
	} else {
		err = putRow(ses, sl)
	}
	if err != nil {
		return err
	}
	return addChange(ses, m, now, op, sl.now.Version(), sl.now.Key(), nil)
}

func bury(ses *session, sl *slot, now int64) error {
	if sl.id != 0 {
		if _, _, err := ses.exec(stmtDeleteRow, sl.id); err != nil {
			return err
		}
		sl.id = 0
	}
	sl.grave = true
	_, _, err := ses.exec(stmtTombstone, sl.key, int64(sl.now.Version()), int64(sl.now.ContentVersion()), now, []byte(sl.now))
	return err
}

func putRow(ses *session, sl *slot) (err error) {
	if sl.grave {
		if _, _, err := ses.exec(stmtDropTombstone, sl.key); err != nil {
			return err
		}
		sl.grave = false
	}
	h, content := sl.now, sl.content
	if content == nil {
		content = []byte{} // NULL is not an empty content
	}
	version, cv, mv := int64(h.Version()), int64(h.ContentVersion()), int64(metadataVersion(h))
	updated, expires, json, state := h.UpdatedAt(), nullInt(h.ExpiresAt()), int64(h.Flags()&item.FlagJSON), nullText(h.State())
	switch {
	case sl.id == 0:
		sl.id, _, err = ses.exec(stmtPutNew, sl.key, version, cv, mv, updated, expires, json, state, []byte(h), content)
	case sl.won&partContent != 0:
		_, _, err = ses.exec(stmtPutOver, version, cv, mv, updated, expires, json, state, []byte(h), content, sl.id)
	default:
		_, _, err = ses.exec(stmtPutHead, version, cv, mv, updated, expires, json, state, []byte(h), sl.id)
	}
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

// retag writes the tags that sl.now has and sl.row, if it is a row, had not,
// and removes the others.
func retag(ses *session, sl *slot) error {
	var had []string
	if sl.id != 0 {
		had = tagsOf(sl.row)
	}
	have := tagsOf(sl.now)
	for _, t := range had {
		if _, kept := slices.BinarySearch(have, t); kept {
			continue
		}
		if _, _, err := ses.exec(stmtUntag, t, sl.key); err != nil {
			return err
		}
	}
	for _, t := range have {
		if _, kept := slices.BinarySearch(had, t); kept {
			continue
		}
		if _, _, err := ses.exec(stmtTag, t, sl.key); err != nil {
			return err
		}
	}
	return nil
}

// addChange takes the next number of the sequence.
func addChange(ses *session, m *meta, now int64, op ChangeOp, version item.Version, key item.Key, rule []byte) error {
	m.lastSeq++
	m.maxVersion = max(m.maxVersion, version)
	var record driver.Value
	if rule != nil {
		record = rule
	}
	if key == nil {
		key = item.Key{}
	}
	_, _, err := ses.exec(stmtChange, int64(m.lastSeq), now, int64(op), int64(version), []byte(key), record)
	return err
}
