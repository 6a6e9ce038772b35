package memstore

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/l3"
)

// An L3 is a ground truth in memory. Its methods are those of *l3.Store and
// keep its contract, in one sequence. It is safe for concurrent use.
//
// Close does nothing: what the store holds outlives whoever used it.
type L3 struct {
	Faults

	mu    sync.Mutex
	state l3State
	now   func() int64
	check func(before, after *item.Item) // see OnWrite
}

// l3State is what a transaction changes. Maps are changed in place after all
// that can fail is over.
type l3State struct {
	rows       map[string]*row // by storage key, tombstones included
	rules      []l3.StoredRule // oldest first
	changes    []l3.Change
	nodes      []l3.NodeInfo // by id
	leases     map[string]lease
	trimmed    uint64
	lastSeq    uint64
	maxVersion item.Version
}

type lease struct {
	holder string
	until  int64 // Unix ms
}

type row struct {
	item     item.Item
	storedAt int64
}

// NewL3 returns an empty store. now returns Unix milliseconds; nil is the
// clock of package time, which is a bubble's own under testing/synctest.
func NewL3(now func() int64) *L3 {
	if now == nil {
		now = func() int64 { return time.Now().UnixMilli() }
	}
	return &L3{now: now, state: l3State{rows: map[string]*row{}}}
}

// OnWrite sets a function that sees every row that changes, before and after;
// nil stands for no row. It is called with a lock held.
func (s *L3) OnWrite(f func(before, after *item.Item)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.check = f
}

// Apply is Store.Apply. Swallow loses every second op of the batch, beginning
// with the first: it is not stored, and the outcome tells what the row holds.
func (s *L3) Apply(ctx context.Context, ops []l3.Op, rules []item.Rule, out []l3.Outcome) (uint64, error) {
	fault, err := s.enter(ctx, "Apply")
	if err != nil {
		return 0, err
	}
	seq, err := s.apply(ops, rules, out, fault.Kind == Swallow)
	if err != nil {
		return 0, err
	}
	return seq, s.leave(ctx, "Apply", fault)
}

func (s *L3) apply(ops []l3.Op, rules []item.Rule, out []l3.Outcome, swallow bool) (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(ops) != len(out) {
		return 0, fmt.Errorf("memstore: %w: %d outcomes for %d operations", l3.ErrRejected, len(out), len(ops))
	}
	for i, op := range ops {
		if err := checkOp(op.Record); err != nil {
			return 0, &l3.OpError{Index: i, Err: err}
		}
		if s.rejects(op.Record) {
			return 0, &l3.OpError{Index: i, Err: errors.New("memstore: refused")}
		}
	}
	for _, r := range rules {
		if err := r.Check(); err != nil || r.Version == 0 {
			return 0, fmt.Errorf("memstore: %w: rule of version %s: %w", l3.ErrRejected, r.Version, err)
		}
	}
	for i := range rules {
		s.addRule(&rules[i])
	}
	b := batch{store: s, now: map[string]*item.Item{}, won: map[string]parts{}}
	for i := range ops {
		lost := swallow && i%2 == 0
		if lost {
			s.hit(Swallow)
		}
		out[i] = b.decide(&ops[i], lost)
	}
	b.write()
	for i := range ops {
		b.report(&ops[i], &out[i])
	}
	return s.state.lastSeq, nil
}

// parts says which registers were won.
type parts struct{ any, content bool }

// A batch is the rows that a call of apply looks at, as its ops make them.
type batch struct {
	store *L3
	order []string              // storage keys, in order of first use
	now   map[string]*item.Item // nil: no row
	won   map[string]parts
	first map[string]*item.Item // before the batch, as the rules leave it
}

// at returns the row under key as the ops so far have made it. A row that a
// rule covers counts as deleted already.
func (b *batch) at(key string) *item.Item {
	if it, ok := b.now[key]; ok {
		return it
	}
	var it *item.Item
	if r := b.store.state.rows[key]; r != nil {
		it = new(item.Item)
		*it = r.item
		if rule := b.store.covering(it, true); rule != nil {
			next, _, _, _ := merge(it, graveOf(it, rule))
			it = &next
		}
	}
	b.order = append(b.order, key)
	b.now[key] = it
	if b.first == nil {
		b.first = map[string]*item.Item{}
	}
	b.first[key] = it
	return it
}

// decide lets op contend for its row.
func (b *batch) decide(op *l3.Op, lost bool) (out l3.Outcome) {
	record := cloned(op.Record)
	key := string(record.Key.StorageKey())
	cur := b.at(key)
	if record.Kind == item.KindPut && b.store.covering(&record, false) != nil || op.If != nil && !op.If(headOf(cur)) {
		out.Refused = true
		return out
	}
	if lost {
		return out
	}
	next, content, metadata, stamp := merge(cur, record)
	if content || metadata || stamp {
		b.now[key] = &next
		w := b.won[key]
		b.won[key] = parts{true, w.content || content}
	}
	return out
}

// write stores the rows that were won.
func (b *batch) write() {
	for _, key := range b.order {
		w, it := b.won[key], b.now[key]
		op := l3.ChangePut
		switch {
		case !w.any:
			continue
		case it.Kind == item.KindTombstone:
			op = l3.ChangeDelete
			it.Content = nil
		case !w.content:
			op = l3.ChangeMetadata
		}
		b.store.put(key, it, op)
	}
}

// report completes the outcome of op from what is stored.
func (b *batch) report(op *l3.Op, out *l3.Outcome) {
	key := op.Record.Key().StorageKey()
	before := b.first[string(key)]
	live := before != nil && before.Kind == item.KindPut
	out.Existed = live && !before.Expired(b.store.now())
	r := b.store.state.rows[string(key)]
	if r == nil {
		return
	}
	out.Version, out.ContentVersion = r.item.Version, r.item.ContentVersion
	if out.Refused {
		return
	}
	record := op.Record.Item()
	if record.Kind == item.KindMetadata {
		out.Won = r.item.Kind == item.KindPut && metadataVersion(&r.item) == metadataVersion(&record)
	} else {
		out.Won = compareContent(&r.item, &record) == 0
	}
	out.New = out.Won && !live && record.Kind == item.KindPut
	out.Won = out.Won && out.Version >= record.Version
}

// put stores it and adds its change.
func (s *L3) put(key string, it *item.Item, op l3.ChangeOp) {
	before := s.state.rows[key]
	if s.check != nil {
		var b *item.Item
		if before != nil {
			b = &before.item
		}
		s.check(b, it)
	}
	s.state.rows[key] = &row{item: *it, storedAt: s.now()}
	s.changed(l3.Change{Op: op, Version: it.Version, Key: it.Key})
}

func (s *L3) changed(c l3.Change) {
	s.state.lastSeq++
	c.Seq, c.At = s.state.lastSeq, s.now()
	s.state.maxVersion = max(s.state.maxVersion, c.Version)
	s.state.changes = append(s.state.changes, c)
}

// checkOp refuses what can never be stored.
func checkOp(record item.View) error {
	v, err := item.Parse(record)
	if err != nil {
		return err
	}
	it := v.Item()
	content, metadata := it.ContentVersion, metadataVersion(&it)
	switch {
	case it.Kind == item.KindMetadata && metadata == 0, it.Kind != item.KindMetadata && content == 0:
		return errors.New("memstore: no version")
	case it.Version != max(content, metadata) || it.Version >= 1<<63:
		return fmt.Errorf("memstore: version %s of %s and %s", it.Version, content, metadata)
	case it.Kind == item.KindTombstone && len(it.Content) > 0:
		return errors.New("memstore: tombstone with content")
	}
	return nil
}

// cloned decodes a record into memory of its own.
func cloned(v item.View) item.Item { return item.View(slices.Clone(v)).Item() }

// headOf returns what Op.If is shown: a live row without content.
func headOf(it *item.Item) item.View {
	if it == nil || it.Kind != item.KindPut {
		return nil
	}
	head := *it
	head.Content = nil
	return head.AppendTo(nil)
}

// Get is Store.Get.
func (s *L3) Get(ctx context.Context, key item.Key, dst []byte) ([]byte, bool, error) {
	fault, err := s.enter(ctx, "Get")
	if err != nil {
		return dst, false, err
	}
	record := s.get(key)
	if err := s.leave(ctx, "Get", fault); err != nil {
		return dst, false, err
	}
	if record == nil {
		return dst, false, nil
	}
	return append(dst, record...), true, nil
}

func (s *L3) get(key item.Key) item.View {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.state.rows[string(key.StorageKey())]
	if r == nil || string(r.item.Key) != string(key) {
		return nil
	}
	return r.item.AppendTo(nil)
}

// GetMany is Store.GetMany.
func (s *L3) GetMany(ctx context.Context, keys []item.Key, fn func(i int, v item.View) error) error {
	fault, err := s.enter(ctx, "GetMany")
	if err != nil {
		return err
	}
	records := make([]item.View, len(keys))
	s.mu.Lock()
	for i, key := range keys {
		if r := s.state.rows[string(key.StorageKey())]; r != nil && string(r.item.Key) == string(key) {
			records[i] = r.item.AppendTo(nil)
		}
	}
	s.mu.Unlock()
	if err := s.leave(ctx, "GetMany", fault); err != nil {
		return err
	}
	for i, v := range records {
		if v == nil {
			continue
		}
		if err := fn(i, v); err != nil {
			return err
		}
	}
	return nil
}

// Scan is Store.Scan, in one snapshot.
func (s *L3) Scan(ctx context.Context, q l3.ScanQuery, fn func(v item.View) error) error {
	fault, err := s.enter(ctx, "Scan")
	if err != nil {
		return err
	}
	found := s.scan(&q)
	if err := s.leave(ctx, "Scan", fault); err != nil {
		return err
	}
	if q.Limit > 0 {
		found = found[:min(q.Limit, len(found))]
	}
	for _, v := range found {
		if err := fn(v); err != nil {
			return err
		}
	}
	return nil
}

// scan returns all that q selects, in order.
func (s *L3) scan(q *l3.ScanQuery) (found []item.View) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := q.Now
	if now == 0 {
		now = s.now()
	}
	for _, key := range slices.Sorted(maps.Keys(s.state.rows)) {
		it := s.state.rows[key].item
		switch {
		case len(q.After) > 0 && key <= string(q.After.StorageKey()):
		case !strings.HasPrefix(string(it.Key), string(q.Prefix)):
		case it.Kind != item.KindPut || it.Expired(now):
		case q.State != "" && it.State != q.State:
		case q.Tag != "" && !slices.Contains(it.Tags, q.Tag):
		default:
			if !q.WithContent {
				it.Content = nil
			}
			found = append(found, it.AppendTo(nil))
		}
	}
	return found
}

// Count is Store.Count; it is always exact up to limit.
func (s *L3) Count(ctx context.Context, q l3.ScanQuery, limit int) (int64, bool, error) {
	fault, err := s.enter(ctx, "Count")
	if err != nil {
		return 0, false, err
	}
	q.After = nil
	n := len(s.scan(&q))
	return int64(min(n, limit)), n <= limit, s.leave(ctx, "Count", fault)
}

// Ping is Store.Ping.
func (s *L3) Ping(ctx context.Context) error {
	fault, err := s.enter(ctx, "Ping")
	if err != nil {
		return err
	}
	return s.leave(ctx, "Ping", fault)
}

// MaxVersion is Store.MaxVersion.
func (s *L3) MaxVersion() item.Version {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state.maxVersion
}

// LastSeq is Store.LastSeq.
func (s *L3) LastSeq() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state.lastSeq
}

// Close does nothing.
func (s *L3) Close() error { return nil }

// Rows returns every row and tombstone, by storage key, past all faults.
func (s *L3) Rows() []item.Item {
	s.mu.Lock()
	defer s.mu.Unlock()
	var rows []item.Item
	for _, key := range slices.Sorted(maps.Keys(s.state.rows)) {
		rows = append(rows, s.state.rows[key].item)
	}
	return rows
}
