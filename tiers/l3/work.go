package l3

import (
	"bytes"
	"cmp"
	"database/sql/driver"
	"fmt"
	"slices"

	"github.com/edgenode/edgenode/tiers/item"
)

// work collects what a transaction writes, so that rows of a kind go into one
// statement and, for indexes, in their order: that is a third of the time of
// one statement each. One goroutine uses it, in one transaction.
type work struct {
	ses  *session
	now  int64
	seen meta // the counters when the transaction began

	parts             []tablePart
	buries, buryOvers []*slot  // tombstones: where none was, over another
	unburies          [][]byte // tombstones to delete, by key
	tags, untags      []tagRow

	changes   []changeRow
	locked    *meta      // the counters, once nobody else can write them
	byRules   bool       // the transaction rests on the rules and mappings as of seen
	newRules  int64      // rules stored; each begins an epoch
	newEpochs int64      // epochs begun for other reasons
	swept     *item.Rule // no row is left that it covers: one more epoch

	movedBytes int64 // contents that this transaction takes to another table
}

// A tablePart is what is written to one of the tables of items.
type tablePart struct {
	table                 string
	inserts, overs, heads []*slot // rows: new, with other content, with other metadata only
	drops                 []int64 // rows to delete, by id
	firstID, lastID       int64   // of the rows inserted (SQLite)
}

// part returns that of a table. It is valid until the next call.
func (w *work) part(table string) *tablePart {
	for i := range w.parts {
		if w.parts[i].table == table {
			return &w.parts[i]
		}
	}
	w.parts = append(w.parts, tablePart{table: table})
	return &w.parts[len(w.parts)-1]
}

type tagRow struct {
	tag string
	key []byte
}

type changeRow struct {
	op      ChangeOp
	version item.Version
	key     []byte
	rule    []byte // the record of a rule; such changes come first
}

// replace makes the row of sl what sl.now and sl.content say: a live row or a
// tombstone. sl must stay as it is until flushRows, which writes it.
func (w *work) replace(sl *slot, op ChangeOp) {
	w.retag(sl)
	w.change(op, sl.now)
	if sl.now.Kind() == item.KindTombstone {
		w.bury(sl)
		return
	}
	w.put(sl)
}

// drop removes the row of sl without tombstone.
func (w *work) drop(sl *slot, op ChangeOp) {
	w.retag(sl)
	w.change(op, sl.row)
	w.part(sl.table).drop(sl)
}

func (w *work) change(op ChangeOp, head item.View) {
	w.changes = append(w.changes, changeRow{op: op, version: head.Version(), key: head.Key()})
}

func (w *work) bury(sl *slot) {
	if sl.id != 0 {
		w.part(sl.table).drop(sl)
	}
	if sl.grave {
		w.buryOvers = append(w.buryOvers, sl)
	} else {
		w.buries = append(w.buries, sl)
	}
}

func (w *work) put(sl *slot) {
	if sl.grave {
		w.unburies = append(w.unburies, sl.key)
	}
	p := w.part(sl.table)
	switch {
	case sl.id == 0:
		p.inserts = append(p.inserts, sl)
	case sl.won&partContent == 0:
		p.heads = append(p.heads, sl)
	default:
		p.overs = append(p.overs, sl)
	}
}

func (p *tablePart) drop(sl *slot) { p.drops = append(p.drops, sl.id) }

// learnTables makes sure that the session knows the mappings as of the
// transaction; its commit fails with errAgain if they have changed by then.
func (w *work) learnTables() error {
	w.byRules = true
	return w.ses.tables.loadAt(w.ses, w.seen.rulesEpoch)
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

// retag notes the tags that the row of sl had and sl.now has not, and the
// others that are new.
func (w *work) retag(sl *slot) {
	var had []string
	if sl.id != 0 {
		had = tagsOf(sl.row)
	}
	have := tagsOf(sl.now)
	for _, t := range had {
		if _, kept := slices.BinarySearch(have, t); !kept {
			w.untags = append(w.untags, tagRow{tag: t, key: sl.key})
		}
	}
	for _, t := range have {
		if _, kept := slices.BinarySearch(had, t); !kept {
			w.tags = append(w.tags, tagRow{tag: t, key: sl.key})
		}
	}
}

// flushRows writes the rows, tombstones and tags that were noted since the last
// call. What is deleted goes first, so that a key is never in two tables.
// Numbers of changes are taken later, by number.
func (w *work) flushRows() error {
	sortSlots(w.buries, w.buryOvers)
	for i := range w.parts {
		if err := writeList(w.ses, w.parts[i].table, stmtDropIn, w.parts[i].drops); err != nil {
			return err
		}
	}
	if err := writeList(w.ses, baseTable, stmtUnburyIn, w.unburies); err != nil {
		return err
	}
	for i := range w.parts {
		if err := w.parts[i].flush(w.ses); err != nil {
			return err
		}
	}
	for _, write := range [...]func() error{
		func() error { return writeRows(w.ses, baseTable, stmtBuryIn, w.buries, w.appendGrave) },
		func() error { return writeRows(w.ses, baseTable, stmtBuryOverIn, w.buryOvers, w.appendGrave) },
		func() error { return w.flushTags(stmtUntagIn, w.untags) },
		func() error { return w.flushTags(stmtTagIn, w.tags) },
	} {
		if err := write(); err != nil {
			return err
		}
	}
	w.buries, w.buryOvers = w.buries[:0], w.buryOvers[:0]
	w.unburies, w.tags, w.untags = w.unburies[:0], w.tags[:0], w.untags[:0]
	return nil
}

// sortSlots puts each of the lists in the order of keys.
func sortSlots(lists ...[]*slot) {
	for _, list := range lists {
		slices.SortFunc(list, func(a, b *slot) int { return bytes.Compare(a.key, b.key) })
	}
}

// flush writes the rows of one table, but what is deleted.
func (p *tablePart) flush(ses *session) error {
	sortSlots(p.inserts, p.overs, p.heads)
	for _, write := range [...]func() error{
		func() error { return writeRows(ses, p.table, stmtPutOverIn, p.overs, appendOver) },
		func() error { return writeRows(ses, p.table, stmtPutHeadIn, p.heads, appendHead) },
		func() error { return p.insert(ses) },
	} {
		if err := write(); err != nil {
			return err
		}
	}
	p.inserts, p.overs, p.heads, p.drops = p.inserts[:0], p.overs[:0], p.heads[:0], p.drops[:0]
	return nil
}

// insert adds the new rows by key. SQLite numbers them one after the other;
// readBack finds out if it did not.
func (p *tablePart) insert(ses *session) error {
	if len(p.inserts) == 0 {
		return nil
	}
	err := writeRows(ses, p.table, stmtPutIn, p.inserts, func(args []driver.Value, sl *slot) []driver.Value {
		return append(appendColumns(append(args, sl.key), sl), notNil(sl.content))
	})
	p.lastID = ses.lastID
	p.firstID = p.lastID - int64(len(p.inserts)) + 1
	return err
}

// appendColumns appends what items has of sl, but its keys and content.
func appendColumns(args []driver.Value, sl *slot) []driver.Value {
	h := sl.now
	return append(args, int64(h.Version()), int64(h.ContentVersion()), int64(metadataVersion(h)), h.UpdatedAt(),
		nullInt(h.ExpiresAt()), int64(h.Flags()&item.FlagJSON), nullText(h.State()), []byte(h))
}

func appendOver(args []driver.Value, sl *slot) []driver.Value {
	return append(appendColumns(args, sl), notNil(sl.content), sl.id, sl.key)
}

func appendHead(args []driver.Value, sl *slot) []driver.Value {
	return append(appendColumns(args, sl), sl.id, sl.key)
}

func (w *work) appendGrave(args []driver.Value, sl *slot) []driver.Value {
	return append(args, sl.key, int64(sl.now.Version()), int64(sl.now.ContentVersion()), w.now, []byte(sl.now))
}

func (w *work) flushTags(first statement, list []tagRow) error {
	slices.SortFunc(list, func(a, b tagRow) int { return cmp.Or(cmp.Compare(a.tag, b.tag), bytes.Compare(a.key, b.key)) })
	return writeRows(w.ses, baseTable, first, list, func(args []driver.Value, t tagRow) []driver.Value { return append(args, t.tag, t.key) })
}

// lock returns the counters, which from now on nobody else can write until the
// transaction ends. It comes last in a transaction, so that others wait for a
// commit only, and after the locks of rows.
func (w *work) lock() (*meta, error) {
	if w.locked != nil {
		return w.locked, nil
	}
	m, err := readMeta(w.ses, stmtLockMeta)
	if err != nil {
		return nil, err
	}
	w.locked = &m
	return w.locked, nil
}

// epochs is how many epochs the transaction begins.
func (w *work) epochs() int64 {
	n := w.newRules + w.newEpochs
	if w.swept != nil {
		n++
	}
	return n
}

// keepUp brings what the session knows of rules and mappings to the epochs that
// the transaction began, which ended with m. It does nothing if somebody else may
// have begun one too, or for mappings: then all is read again.
func (w *work) keepUp(m meta) {
	n := w.epochs()
	if n == 0 || w.newEpochs > 0 || w.ses.rules.epoch != m.rulesEpoch-n {
		return
	}
	if w.swept != nil {
		w.ses.rules.sweptNow(w.swept)
	}
	w.ses.rules.epoch = m.rulesEpoch
	if w.ses.tables.epoch == m.rulesEpoch-n {
		w.ses.tables.epoch = m.rulesEpoch
	}
}

// number takes the numbers of the changes, in the order in which they were
// noted, and stores the counters, which it returns. From here to the commit no
// other transaction can take a number: the order of numbers is that of commits.
// It fails with errAgain if rules on which the transaction rests have changed.
func (w *work) number() (meta, error) {
	if w.locked == nil && len(w.changes) == 0 && w.epochs() == 0 {
		return w.seen, nil
	}
	m, err := w.lock()
	if err != nil {
		return meta{}, err
	}
	if w.byRules && m.rulesEpoch != w.seen.rulesEpoch {
		return meta{}, fmt.Errorf("%w: a rule was stored meanwhile", errAgain)
	}
	before := *m
	if err := w.flushChanges(m); err != nil {
		return meta{}, err
	}
	m.rulesEpoch += w.epochs()
	if *m == before {
		return *m, nil
	}
	_, err = w.ses.exec(stmtSetMeta, int64(m.lastSeq), int64(m.maxVersion), m.rulesEpoch)
	return *m, err
}

func (w *work) flushChanges(m *meta) error {
	list := w.changes
	for ; len(list) > 0 && list[0].rule != nil; list = list[1:] {
		c := list[0]
		m.count(c.version)
		if _, err := w.ses.exec(stmtRuleChange, int64(m.lastSeq), w.now, int64(c.op), int64(c.version), notNil(c.key), c.rule); err != nil {
			return err
		}
	}
	return writeRows(w.ses, baseTable, stmtChangeIn, list, func(args []driver.Value, c changeRow) []driver.Value {
		m.count(c.version)
		return append(args, int64(m.lastSeq), w.now, int64(c.op), int64(c.version), c.key)
	})
}

// writeRows writes the rows of list by the widest statements that fit. values
// appends the values of one.
func writeRows[T any](ses *session, table string, first statement, list []T, values func([]driver.Value, T) []driver.Value) error {
	var args []driver.Value
	limit := ses.dialect.rows(first)
	for len(list) > 0 {
		st, width := writeFor(first, len(list), limit)
		args = args[:0]
		for _, row := range list[:width] {
			args = values(args, row)
		}
		if _, err := ses.execIn(table, st, args...); err != nil {
			return err
		}
		list = list[width:]
	}
	return nil
}

// writeList runs a statement that changes the rows of a list of keys.
func writeList[T any](ses *session, table string, first statement, keys []T) error {
	return lists(ses.dialect.rows(first), first, 1, keys, func(st statement, args []driver.Value) error {
		_, err := ses.execIn(table, st, args...)
		return err
	})
}

// eachList runs a statement with a list of keys over keys, maxWidth at a time,
// and calls each for every row. The statement has the list repeat times.
func eachList[T any](ses *session, table string, first statement, repeat int, keys []T, each func(row []driver.Value) error) error {
	return lists(maxWidth, first, repeat, keys, func(st statement, args []driver.Value) error {
		return ses.queryIn(table, st, each, args...)
	})
}

// lists calls run for each part of keys. A list is filled up with NULL, which
// equals nothing.
func lists[T any](most int, first statement, repeat int, keys []T, run func(statement, []driver.Value) error) error {
	for part := range slices.Chunk(keys, most) {
		st, width := widthFor(first, len(part))
		args := make([]driver.Value, repeat*width)
		for i := range args {
			if i%width < len(part) {
				args[i] = part[i%width]
			}
		}
		if err := run(st, args); err != nil {
			return err
		}
	}
	return nil
}
