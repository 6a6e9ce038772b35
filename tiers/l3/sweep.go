package l3

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql/driver"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/edgenode/edgenode/tiers/item"
)

// A span is a stretch of keys or of tags that a rule may cover. Spans of keys
// have bounds [from, to) in storage keys; spans of tags have bounds (from, to)
// on tags, and go through the keys of each.
type span struct {
	byTag    bool
	from, to []byte
}

// spansOf returns where the items that the rule removes can be, in a fixed
// order. Spans are wider than the rule: Covers has the last word.
func spansOf(r *item.Rule) (spans []span) {
	if r.Match == item.MatchTag || r.Match == item.MatchTagPrefix {
		for _, value := range r.Values {
			to := append([]byte(value), 0)
			if r.Match == item.MatchTagPrefix {
				to = upperBound([]byte(value))
			}
			spans = append(spans, span{byTag: true, from: []byte(value), to: to})
		}
		return spans
	}
	for _, ns := range namespacesOf(r) {
		switch r.Match {
		case item.MatchAll:
			spans = append(spans, keySpan(item.AppendKey(nil, ns, r.Scope)))
		case item.MatchKeyPrefix:
			for _, value := range r.Values {
				spans = append(spans, keySpan(item.AppendKey(nil, ns, value)))
			}
		case item.MatchKey:
			for _, value := range r.Values {
				key := item.AppendKey(nil, ns, value).StorageKey()
				spans = append(spans, span{from: key, to: append(append([]byte(nil), key...), 0)})
			}
		}
	}
	return spans
}

func namespacesOf(r *item.Rule) (list []byte) {
	for _, ns := range [...]byte{item.NamespaceItem, item.NamespaceSite, item.NamespaceVariants, item.NamespaceChunk} {
		key := item.Key{ns}
		if probe := (item.Rule{Namespaces: r.Namespaces}); probe.InScope(key) && removes(r, key) {
			list = append(list, ns)
		}
	}
	return list
}

// storedPrefix is as much of a key prefix as storage keys share.
const storedPrefix = 513

func keySpan(prefix []byte) span {
	prefix = prefix[:min(len(prefix), storedPrefix)]
	return span{from: prefix, to: upperBound(prefix)}
}

// upperBound returns a bound above all that begins with prefix.
func upperBound(prefix []byte) []byte {
	if end := item.PrefixEnd(prefix); end != nil {
		return end
	}
	return []byte{0xff, 0xff, 0xff, 0xff} // no key or tag is above
}

// A position is how far a rule has been swept: the span, and in it the last tag
// and key. It is stored as u32 span, u32 length of tag, tag, key.
type position struct {
	span     int
	tag, key []byte
}

func (p position) encode() []byte {
	b := binary.LittleEndian.AppendUint32(nil, uint32(p.span))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(p.tag)))
	return append(append(b, p.tag...), p.key...)
}

func decodePosition(b []byte) (p position, err error) {
	if len(b) == 0 {
		return p, nil
	}
	if len(b) < 8 || uint64(len(b)-8) < uint64(binary.LittleEndian.Uint32(b[4:])) {
		return p, fmt.Errorf("%w: position of a rule has %d bytes", ErrCorrupt, len(b))
	}
	n := int(binary.LittleEndian.Uint32(b[4:]))
	return position{span: int(binary.LittleEndian.Uint32(b)), tag: b[8 : 8+n], key: b[8+n:]}, nil
}

// SweepRule applies a stored rule to the next limit rows that it may cover: the
// live rows older than the rule that match become tombstones of the rule's
// version, with a change row each. It returns how many, and whether there is
// more to do; how far it came is stored in the same transaction, so it may be
// repeated and goes on after a crash. A rule that removes nothing here (a soft
// purge, a purge of items) is done at once. It fails with ErrNoRule unless
// Apply stored the rule.
func (s *Store) SweepRule(ctx context.Context, rule item.Rule, limit int) (deleted int, more bool, err error) {
	_, err = s.write(ctx, func(w *work) error {
		deleted, more, err = sweep(ctx, w, &rule, max(limit, 1))
		return err
	})
	if err != nil {
		return 0, true, s.wrap(fmt.Sprintf("sweep rule %s", rule.Version), err)
	}
	s.metrics.swept.Add(deleted)
	return deleted, more, nil
}

func sweep(ctx context.Context, w *work, rule *item.Rule, limit int) (deleted int, more bool, err error) {
	id, done, pos, err := rulePosition(w.ses, rule)
	if err != nil || done {
		return 0, false, err
	}
	if err := w.learnTables(); err != nil {
		return 0, true, err
	}
	spans := spansOf(rule)
	for limit > 0 && pos.span < len(spans) {
		if ctx.Err() != nil {
			return 0, true, context.Cause(ctx)
		}
		page, read, next, err := sweepPage(w.ses, spans[pos.span], pos, limit)
		if err != nil {
			return 0, true, err
		}
		n, err := w.remove(rule, page)
		if err != nil {
			return 0, true, err
		}
		deleted, pos = deleted+n, next
		if read < limit {
			pos = position{span: pos.span + 1}
		}
		limit -= read
	}
	more = pos.span < len(spans)
	if !more {
		w.swept = rule
	}
	_, err = w.ses.exec(stmtMoveRule, flag(!more), pos.encode(), id)
	return deleted, more, err
}

func flag(set bool) int64 {
	if set {
		return 1
	}
	return 0
}

func rulePosition(ses *session, rule *item.Rule) (id int64, swept bool, pos position, err error) {
	digest := sha256.Sum256(rule.AppendTo(nil))
	err = ses.query(stmtRulePosition, func(row []driver.Value) (err error) {
		id, swept = intOf(row[0]), intOf(row[1]) != 0
		pos, err = decodePosition(bytesOf(row[2]))
		return err
	}, int64(rule.Version), digest[:])
	if err == nil && id == 0 {
		err = ErrNoRule
	}
	return id, swept, pos, err
}

// sweepPage reads, and on a server locks, rows of the span after pos. It looked at
// read rows of an index; fewer than limit means that the span is done.
func sweepPage(ses *session, sp span, pos position, limit int) (page []slot, read int, next position, err error) {
	if sp.byTag {
		return sweepTags(ses, sp, pos, limit)
	}
	next = pos
	from := sp.from
	if pos.key != nil {
		from = append(append([]byte(nil), pos.key...), 0)
	}
	for read < limit && bytes.Compare(from, sp.to) < 0 {
		seg := ses.tables.at(from, sp.to)
		rows, err := sweepSegment(ses, &seg, limit-read)
		if err != nil {
			return nil, 0, next, err
		}
		page, read = append(page, rows...), read+len(rows)
		if from = seg.to; len(rows) > 0 {
			next.key = rows[len(rows)-1].key
		}
	}
	return page, read, next, nil
}

// sweepSegment reads up to limit rows of a segment in the order of keys, from
// both tables if it is moving; what is moved meanwhile has been locked in the
// source or is found at home.
func sweepSegment(ses *session, seg *segment, limit int) (rows []slot, err error) {
	for _, table := range seg.places() {
		err := ses.queryIn(table, stmtSweepKeys, func(row []driver.Value) error {
			head, err := parseHead(row[2])
			rows = append(rows, slot{table: table, id: intOf(row[0]), key: bytesOf(row[1]), row: head})
			return err
		}, seg.from, seg.to, int64(limit))
		if err != nil {
			return nil, err
		}
	}
	if seg.moving {
		slices.SortFunc(rows, func(a, b slot) int { return bytes.Compare(a.key, b.key) })
	}
	return rows[:min(len(rows), limit)], nil
}

// sweepTags reads tags, and then the rows that have them.
func sweepTags(ses *session, sp span, pos position, limit int) (page []slot, read int, next position, err error) {
	next = pos
	tag := sp.from
	if pos.tag != nil {
		tag = pos.tag
	}
	args := []driver.Value{string(tag), notNil(pos.key), string(sp.to), int64(limit)}
	if ses.dialect.server() { // which has no range of pairs
		args = slices.Insert(args, 0, args[0])
	}
	var keys [][]byte
	err = ses.query(stmtSweepTags, func(row []driver.Value) error {
		read++
		next.tag, next.key = bytesOf(row[0]), bytesOf(row[1])
		keys = append(keys, next.key)
		return nil
	}, args...)
	if err != nil {
		return nil, 0, next, err
	}
	slices.SortFunc(keys, bytes.Compare)
	keys = slices.CompactFunc(keys, bytes.Equal) // a row of two tags comes twice
	for _, g := range ses.tables.groups(keys) {
		err := eachList(ses, g.table, stmtRowsIn, 1, g.keys, func(row []driver.Value) error {
			head, err := parseHead(row[2])
			page = append(page, slot{table: g.table, id: intOf(row[1]), key: bytesOf(row[0]), row: head})
			return err
		})
		if err != nil {
			return nil, 0, next, err
		}
	}
	return page, read, next, nil
}

// remove turns those rows of the page that the rule covers into tombstones.
func (w *work) remove(rule *item.Rule, page []slot) (n int, err error) {
	for i := range page {
		sl := &page[i]
		if !removes(rule, sl.row.Key()) || !rule.Covers(sl.row) {
			continue
		}
		sl.now, sl.won = merge(sl.row, tombstoneOf(sl.row, rule))
		w.replace(sl, ChangeDelete)
		n++
	}
	return n, w.flushRows()
}
