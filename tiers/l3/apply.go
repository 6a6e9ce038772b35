package l3

import (
	"bytes"
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"

	"github.com/edgenode/edgenode/tiers/item"
)

// An Op is one write of a batch.
type Op struct {
	// Record is a put, a tombstone or a metadata change. A metadata change has
	// the new state, tags, expiry, lifetimes, response metadata and stale flag
	// under its metadata version; its content, hash, MIME and entity tag are not
	// looked at. Apply keeps no reference to it.
	Record item.View
	// If, when not nil, decides inside the transaction whether the write takes
	// place: head is what the row holds, without content, nil if there is no
	// live row (expired rows are shown). It must be quick and must not keep head.
	// It is called again when a server makes the transaction be repeated; the
	// last answer counts.
	If func(head item.View) bool
}

// An Outcome is what became of an Op.
type Outcome struct {
	// Won reports that the row holds what the op wrote: the content of a put,
	// the deletion, the metadata of a change. A repeated op wins again.
	Won bool
	// Refused reports that a stored rule or the op's own condition was against
	// it. It was not tried.
	Refused bool
	// Existed reports that before the batch there was a live row, neither
	// expired nor covered by a rule that has yet to be swept.
	Existed bool
	// New reports a put that won where no row was.
	New bool
	// Version is what the row or tombstone holds after the batch, read back from
	// it inside the transaction; 0 means neither is there. ContentVersion is its
	// content's. If it is less than the op's and the op was not refused and is
	// no metadata change, the database did not store what it was told: the op
	// must be applied again.
	Version, ContentVersion item.Version
}

// maxStored is the greatest version that fits a signed column.
const maxStored = item.Version(1<<63 - 1)

// Apply writes ops and stores new rules in one transaction: all or nothing, and
// on disk when Apply returns. It reports the outcome of each op in out, which
// must be as long as ops, and the number of the last change. The rules are
// stored first: they hold for ops.
//
// For each key the newest wins: content by content version, metadata by
// metadata version (equal versions by content hash, then by bytes), see merge.
// A metadata change needs a live row. A put older than a stored rule that
// removes it is refused. Winners, and they alone, get their tags rewritten and
// a row in the change sequence, one for each key.
//
// An op that can never be stored fails the batch with an OpError; the rest may
// be applied again without it. After ErrUnavailable the same batch may be
// applied again. Cost: two look-ups and one write for each row, a write for
// each changed tag, one commit with fdatasync.
func (s *Store) Apply(ctx context.Context, ops []Op, rules []item.Rule, out []Outcome) (lastSeq uint64, err error) {
	b, err := s.plan(ops, rules, out)
	if err == nil {
		var m meta
		m, err = s.write(ctx, func(w *work) error { return b.run(ctx, w) })
		lastSeq = m.lastSeq
	}
	if err != nil {
		return 0, s.wrap(fmt.Sprintf("apply batch of %d operations", len(ops)), err)
	}
	s.metrics.outcomes(out)
	return lastSeq, nil
}

// A batch is one call of Apply.
type batch struct {
	store *Store
	ops   []Op
	rules []item.Rule
	out   []Outcome
	now   int64

	slots  []slot         // one for each key, in order of first use
	slotOf []int          // for each op
	byKey  map[string]int // storage key to slot
	active *ruleSet       // the rules that hold for it
}

// A slot is one row: before the batch, and as the ops have made it.
type slot struct {
	key     []byte // storage key
	table   string // where the row is, or is to be
	id      int64  // of the row there, 0 if there is none
	row     item.View
	grave   bool // there is a tombstone
	before  item.View
	now     item.View
	content []byte
	won     parts
	back    readBack
}

// readBack is what the tables say after the writes.
type readBack struct {
	version, content item.Version
	live, grave      bool // where the key was found
}

func (s *Store) plan(ops []Op, rules []item.Rule, out []Outcome) (*batch, error) {
	if len(out) != len(ops) {
		return nil, fmt.Errorf("%w: %d outcomes for %d operations", ErrRejected, len(out), len(ops))
	}
	for i := range rules {
		if err := rules[i].Check(); err != nil {
			return nil, fmt.Errorf("%w: rule %d: %w", ErrRejected, i, err)
		}
		if rules[i].Version == 0 || rules[i].Version > maxStored {
			return nil, fmt.Errorf("%w: rule %d has version %s", ErrRejected, i, rules[i].Version)
		}
	}
	b := &batch{
		store: s, ops: ops, rules: rules, out: out, now: s.opts.Clock(),
		slots: make([]slot, 0, len(ops)), slotOf: make([]int, len(ops)), byKey: make(map[string]int, len(ops)),
	}
	for i := range ops {
		if err := s.checkOp(ops[i].Record); err != nil {
			return nil, &OpError{Index: i, Err: err}
		}
		b.slotOf[i] = b.place(ops[i].Record.Key().StorageKey())
	}
	return b, nil
}

func (b *batch) place(key []byte) int {
	if n, ok := b.byKey[string(key)]; ok {
		return n
	}
	n := len(b.slots)
	b.slots = append(b.slots, slot{key: key})
	b.byKey[string(key)] = n
	return n
}

func (s *Store) checkOp(record item.View) error {
	v, err := item.Parse(record)
	if err != nil {
		return err
	}
	content, metadata := v.ContentVersion(), metadataVersion(v)
	switch {
	case v.Kind() == item.KindMetadata && metadata == 0, v.Kind() != item.KindMetadata && content == 0:
		return fmt.Errorf("kind %d without its version", v.Kind())
	case v.Version() > maxStored || v.Version() != max(content, metadata):
		return fmt.Errorf("version %s is not the greater of %s and %s, or above %s", v.Version(), content, metadata, maxStored)
	case v.Kind() == item.KindTombstone && len(v.Content()) > 0:
		return errors.New("tombstone with content")
	case int64(len(v.Content())) > s.MaxPayload():
		return fmt.Errorf("%w: content of %d bytes, allowed are %d", item.ErrTooLarge, len(v.Content()), s.MaxPayload())
	}
	return s.dialect.fits(v)
}

// run is the transaction, from the look-up to the outcomes. It may be run again,
// as if it had not been run.
func (b *batch) run(ctx context.Context, w *work) error {
	for i := range b.slots {
		b.slots[i] = slot{key: b.slots[i].key}
	}
	b.active = &w.ses.rules
	if err := b.active.load(w.ses, w.seen.rulesEpoch); err != nil {
		return err
	}
	if err := w.learnTables(); err != nil {
		return err
	}
	if err := b.addRules(w); err != nil {
		return err
	}
	if err := b.readRows(w.ses); err != nil {
		return err
	}
	if err := b.decide(); err != nil {
		return err
	}
	if err := b.write(ctx, w); err != nil {
		return err
	}
	if err := b.readBack(w); err != nil {
		return err
	}
	b.report()
	return nil
}

// keys returns the storage keys of the slots that want says, for eachList, in
// their order if they are to be locked.
func (b *batch) keys(sorted bool, want func(*slot) bool) [][]byte {
	keys := make([][]byte, 0, len(b.slots))
	for i := range b.slots {
		if want(&b.slots[i]) {
			keys = append(keys, b.slots[i].key)
		}
	}
	if sorted {
		slices.SortFunc(keys, bytes.Compare)
	}
	return keys
}

func all(*slot) bool { return true }

func (b *batch) slot(row []driver.Value) *slot { return &b.slots[b.byKey[string(bytesOf(row[0]))]] }

// readRows fetches the rows and tombstones that are there. A server locks them,
// rows before tombstones and each table's by key.
func (b *batch) readRows(ses *session) error {
	server := ses.dialect.server()
	if len(ses.tables.segments) > 1 {
		for i := range b.slots {
			b.slots[i].table = ses.tables.find(b.slots[i].key).home
		}
	}
	for _, g := range ses.tables.groups(b.keys(server, all)) {
		err := eachList(ses, g.table, stmtRowsIn, 1, g.keys, func(row []driver.Value) (err error) {
			sl := b.slot(row)
			sl.table, sl.id = g.table, intOf(row[1])
			sl.row, err = parseHead(row[2])
			return err
		})
		if err != nil {
			return err
		}
	}
	return eachList(ses, baseTable, stmtDeadIn, 1, b.keys(server, func(sl *slot) bool { return sl.id == 0 }), func(row []driver.Value) (err error) {
		sl := b.slot(row)
		sl.grave = true
		sl.row, err = parseHead(row[1])
		return err
	})
}

// decide lets the ops contend, in order, for the rows in memory.
func (b *batch) decide() error {
	for i := range b.slots {
		sl := &b.slots[i]
		sl.before = b.active.apply(sl.row, sl.id != 0)
		sl.now = sl.before
	}
	for i := range b.ops {
		record, sl := b.ops[i].Record, &b.slots[b.slotOf[i]]
		if sl.row != nil && string(sl.row.Key()) != string(record.Key()) {
			return &OpError{Index: i, Err: errors.New("another key has the same storage key")}
		}
		b.out[i] = Outcome{}
		if b.active.refuse(record) || b.ops[i].If != nil && !b.ops[i].If(liveOnly(sl.now)) {
			b.out[i].Refused = true
			continue
		}
		won := contest(sl.now, record)
		if won == 0 {
			continue
		}
		sl.now = take(sl.now, headOf(record), won)
		sl.won |= won
		if won&partContent != 0 {
			sl.content = record.Content()
		}
	}
	return nil
}

// liveOnly returns head if it is a put, else nil.
func liveOnly(head item.View) item.View {
	if head == nil || head.Kind() != item.KindPut {
		return nil
	}
	return head
}

// write brings the tables to what the slots have become.
func (b *batch) write(ctx context.Context, w *work) error {
	for i := range b.slots {
		if i%64 == 0 && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		sl := &b.slots[i]
		op := ChangePut
		switch {
		case sl.won == 0:
			continue
		case sl.now.Kind() == item.KindTombstone:
			op = ChangeDelete
		case sl.won&partContent == 0:
			op = ChangeMetadata
		}
		w.replace(sl, op)
	}
	return w.flushRows()
}

// readBack asks the tables what they hold now.
func (b *batch) readBack(w *work) error {
	live, dead := b.seenAs(true), b.seenAs(false)
	if w.ses.dialect.server() {
		return b.readBackLocked(w, live, dead)
	}
	for i := range w.parts {
		p := &w.parts[i]
		if p.lastID != 0 { // the new rows by the stretch of their ids
			if err := w.ses.queryIn(p.table, stmtReadBackRange, live, p.firstID, p.lastID); err != nil {
				return err
			}
		}
	}
	for _, table := range w.ses.tables.tables {
		var ids []int64
		for i := range b.slots {
			if sl := &b.slots[i]; sl.id != 0 && sl.table == table && !sl.dropped() {
				ids = append(ids, sl.id)
			}
		}
		if err := eachList(w.ses, table, stmtReadBackIn, 1, ids, live); err != nil {
			return err
		}
	}
	return eachList(w.ses, baseTable, stmtReadDeadIn, 1, b.keys(false, (*slot).buried), dead)
}

// seenAs notes a row of one of the tables.
func (b *batch) seenAs(live bool) func(row []driver.Value) error {
	return func(row []driver.Value) error {
		n, ok := b.byKey[string(bytesOf(row[0]))]
		if !ok {
			return nil
		}
		back := &b.slots[n].back
		back.version, back.content = item.Version(intOf(row[1])), item.Version(intOf(row[2]))
		back.live, back.grave = back.live || live, back.grave || !live
		return nil
	}
}

// readBackLocked looks for every key in all tables that it may be in, with locks. A look-up locks
// nothing where no row is, so another transaction may have made a row out of the
// same nothing, in the other table: no index forbids that. Of the two, each
// writes before it looks, so one at least sees the other here, and gives way.
func (b *batch) readBackLocked(w *work, live, dead func(row []driver.Value) error) error {
	keys := b.keys(true, all)
	for _, g := range w.ses.tables.groups(keys) {
		if err := eachList(w.ses, g.table, stmtReadBackIn, 1, g.keys, live); err != nil {
			return err
		}
	}
	if err := eachList(w.ses, baseTable, stmtReadDeadIn, 1, keys, dead); err != nil {
		return err
	}
	for i := range b.slots {
		sl := &b.slots[i]
		if sl.back.live && (sl.dropped() || sl.id == 0 && sl.won == 0) || sl.back.grave && !sl.buried() {
			return fmt.Errorf("%w: a row has appeared", errAgain)
		}
	}
	return nil
}

// dropped reports whether the ops have turned a live row into a tombstone.
func (sl *slot) dropped() bool { return sl.won != 0 && sl.now.Kind() == item.KindTombstone }

// buried reports whether there is a tombstone after the ops.
func (sl *slot) buried() bool {
	if sl.won == 0 {
		return sl.grave
	}
	return sl.now.Kind() == item.KindTombstone
}

// report fills in the outcomes.
func (b *batch) report() {
	for i := range b.ops {
		sl, o := &b.slots[b.slotOf[i]], &b.out[i]
		before := liveOnly(sl.before)
		o.Existed = before != nil && !before.Expired(b.now)
		o.Version, o.ContentVersion = sl.back.version, sl.back.content
		if o.Refused {
			continue
		}
		o.Won = holds(sl.now, b.ops[i].Record)
		o.New = o.Won && before == nil && b.ops[i].Record.Kind() == item.KindPut
		if o.Won && o.Version < b.ops[i].Record.Version() {
			o.Won = false // the row does not say what was written
			b.store.metrics.rereadNo.Inc()
		}
	}
}
