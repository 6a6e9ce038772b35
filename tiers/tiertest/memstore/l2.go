package memstore

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/l2"
)

// An L2 is a Redis server in memory with its client. Its methods are those of
// *l2.Store and keep its contract, one call at a time. It is safe for concurrent
// use. Close does nothing: the server outlives whoever used it.
type L2 struct {
	Faults

	// MaxTTL bounds the life of copies of items with L3, TombstoneTTL is that of
	// tombstones, FenceTTL says how long a drop keeps older puts out.
	MaxTTL, TombstoneTTL, FenceTTL time.Duration

	mu         sync.Mutex
	data       redisData
	snapshot   redisData
	server     int  // which one it is
	connected  int  // the one that the client is connected to
	broken     bool // a call has failed since
	generation uint64
	now        func() int64
}

// redisData is what a server holds.
type redisData struct {
	values map[string]value // by key
	mark   *l2.Mark
}

// A value is a record and the end of its life; a fence has no record.
type value struct {
	order  order
	record item.View
	until  int64 // Unix ms
}

// order says which of two values is the newer one.
type order struct {
	version, content, metadata item.Version
	hash                       [32]byte
}

func orderOf(v item.View) order {
	return order{v.Version(), v.ContentVersion(), v.MetadataVersion(), v.ContentHash()}
}

func (a order) compare(b order) int {
	return cmp.Or(cmp.Compare(a.version, b.version), cmp.Compare(a.content, b.content),
		cmp.Compare(a.metadata, b.metadata), bytes.Compare(a.hash[:], b.hash[:]))
}

// NewL2 returns an empty server with the lifetimes that *l2.Store has by
// default. now is as for NewL3.
func NewL2(now func() int64) *L2 {
	if now == nil {
		now = func() int64 { return time.Now().UnixMilli() }
	}
	return &L2{
		Faults: Faults{Err: l2.ErrUnavailable}, MaxTTL: time.Hour, TombstoneTTL: 10 * time.Minute, FenceTTL: 10 * time.Second,
		data: redisData{values: map[string]value{}}, server: 1, now: now,
	}
}

// Save takes a snapshot, for Replace.
func (s *L2) Save() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.snapshot = redisData{values: maps.Clone(s.data.values), mark: s.data.mark}
}

// Replace puts another server into the place of this one: Empty has nothing,
// Stale has what was saved last.
func (s *L2) Replace(by Kind) {
	s.hit(by)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.server++
	s.data = redisData{values: map[string]value{}}
	if by == Stale && s.snapshot.values != nil {
		s.data = redisData{values: maps.Clone(s.snapshot.values), mark: s.snapshot.mark}
	}
}

// call is enter, and connects.
func (s *L2) call(ctx context.Context, name string) (Fault, error) {
	fault, err := s.enter(ctx, name)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.broken = true
		return fault, err
	}
	if s.broken || s.connected != s.server {
		s.broken, s.connected = false, s.server
		s.generation++
	}
	return fault, nil
}

// answer is leave; a lost answer costs the connection.
func (s *L2) answer(ctx context.Context, name string, fault Fault) error {
	err := s.leave(ctx, name, fault)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.broken = s.broken || err != nil
	return err
}

// Generation is Store.Generation.
func (s *L2) Generation() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.generation
}

// Probe is Store.Probe.
func (s *L2) Probe(ctx context.Context) (l2.Server, error) {
	fault, err := s.call(ctx, "Probe")
	if err != nil {
		return l2.Server{}, err
	}
	s.mu.Lock()
	server := l2.Server{ID: fmt.Sprint(s.server), Version: "7.0.0", Role: "master", Masters: 1}
	s.mu.Unlock()
	return server, s.answer(ctx, "Probe", fault)
}

// Get is Store.Get.
func (s *L2) Get(ctx context.Context, key item.Key, dst []byte) ([]byte, bool, error) {
	fault, err := s.call(ctx, "Get")
	if err != nil {
		return dst, false, err
	}
	record := s.get(key)
	if err := s.answer(ctx, "Get", fault); err != nil || record == nil {
		return dst, false, err
	}
	return append(dst, record...), true, nil
}

func (s *L2) get(key item.Key) item.View {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.data.values[string(key)]
	if s.now() >= v.until {
		return nil
	}
	return slices.Clone(v.record)
}

// GetMany is Store.GetMany.
func (s *L2) GetMany(ctx context.Context, keys []item.Key, fn func(i int, v item.View) error) error {
	fault, err := s.call(ctx, "GetMany")
	if err != nil {
		return err
	}
	records := make([]item.View, len(keys))
	for i, key := range keys {
		records[i] = s.get(key)
	}
	if err := s.answer(ctx, "GetMany", fault); err != nil {
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

// Apply is Store.Apply. Reject refuses single rows. Later fails at once, and does
// it all after its delay.
func (s *L2) Apply(ctx context.Context, ops []l2.Op, out []l2.Outcome) error {
	fault, err := s.call(ctx, "Apply")
	if err != nil {
		failAll(out, err)
		return err
	}
	if fault.Kind == Later {
		own := make([]l2.Op, len(ops))
		for i, op := range ops {
			own[i] = l2.Op{Kind: op.Kind, Record: slices.Clone(op.Record), Key: slices.Clone(op.Key), Version: op.Version}
		}
		server := s.which()
		time.AfterFunc(fault.Delay, func() { s.applyTo(server, own, make([]l2.Outcome, len(own))) })
		err = s.fail("Apply", fault)
		failAll(out, err)
		return errors.Join(err, s.answer(ctx, "Apply", Fault{Kind: After}))
	}
	s.applyTo(s.which(), ops, out)
	if err := s.answer(ctx, "Apply", fault); err != nil {
		failAll(out, err)
		return err
	}
	return nil
}

func failAll(out []l2.Outcome, err error) {
	for i := range out {
		out[i] = l2.Outcome{Err: err}
	}
}

func (s *L2) which() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.server
}

// applyTo does ops on a server, if it is still there.
func (s *L2) applyTo(server int, ops []l2.Op, out []l2.Outcome) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.server != server {
		return
	}
	for i, op := range ops {
		if op.Kind != l2.OpDrop && s.rejects(op.Record) {
			out[i] = l2.Outcome{Err: fmt.Errorf("memstore: %w", l2.ErrRejected)}
			continue
		}
		out[i] = s.do(op)
	}
}

func (s *L2) do(op l2.Op) l2.Outcome {
	if op.Kind == l2.OpDrop {
		return s.drop(op.Key, order{version: op.Version})
	}
	life := s.life(op.Record)
	if life <= 0 {
		return s.drop(op.Record.Key(), orderOf(op.Record))
	}
	key := string(op.Record.Key())
	if old, ok := s.data.values[key]; ok && s.now() < old.until {
		if c := orderOf(op.Record).compare(old.order); c < 0 || c == 0 && old.record != nil {
			return l2.Outcome{Same: c == 0}
		}
	}
	s.data.values[key] = value{orderOf(op.Record), slices.Clone(op.Record), s.now() + life}
	return l2.Outcome{Won: true}
}

// drop removes what is below o and leaves a fence.
func (s *L2) drop(key item.Key, o order) l2.Outcome {
	if old, ok := s.data.values[string(key)]; ok && s.now() < old.until && old.order.compare(o) >= 0 {
		return l2.Outcome{}
	}
	s.data.values[string(key)] = value{order: o, until: s.now() + s.FenceTTL.Milliseconds()}
	return l2.Outcome{Won: true}
}

// life is how long a copy of v may live, in ms.
func (s *L2) life(v item.View) int64 {
	if v.Kind() == item.KindTombstone {
		return s.TombstoneTTL.Milliseconds()
	}
	life := (30 * 24 * time.Hour).Milliseconds()
	if v.Tiers()&item.L3 != 0 {
		life = min(life, s.MaxTTL.Milliseconds())
	}
	if v.L2TTL() > 0 {
		life = min(life, v.L2TTL())
	}
	if v.ExpiresAt() != 0 {
		life = min(life, v.ExpiresAt()-s.now())
	}
	return life
}

// ReadMark is Store.ReadMark.
func (s *L2) ReadMark(ctx context.Context) (l2.Mark, bool, error) {
	fault, err := s.call(ctx, "ReadMark")
	if err != nil {
		return l2.Mark{}, false, err
	}
	s.mu.Lock()
	mark := s.data.mark
	s.mu.Unlock()
	if err := s.answer(ctx, "ReadMark", fault); err != nil || mark == nil {
		return l2.Mark{}, false, err
	}
	return *mark, true, nil
}

// WriteMark is Store.WriteMark.
func (s *L2) WriteMark(ctx context.Context, m l2.Mark, generation uint64) error {
	fault, err := s.call(ctx, "WriteMark")
	if err != nil {
		return err
	}
	s.mu.Lock()
	same := s.generation == generation
	if same {
		s.data.mark = &m
	}
	s.mu.Unlock()
	if !same {
		return fmt.Errorf("memstore: write mark: %w", l2.ErrGeneration)
	}
	return s.answer(ctx, "WriteMark", fault)
}

// Sweep is Store.Sweep. drop is called without a lock.
func (s *L2) Sweep(ctx context.Context, drop func(head item.View) bool) (visited, dropped int64, err error) {
	fault, err := s.call(ctx, "Sweep")
	if err != nil {
		return 0, 0, err
	}
	for _, v := range s.Values() {
		head := v.Item()
		head.Content = nil
		visited++
		if drop(head.AppendTo(nil)) && s.dropSwept(v) {
			dropped++
		}
	}
	return visited, dropped, s.answer(ctx, "Sweep", fault)
}

func (s *L2) dropSwept(v item.View) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.data.values[string(v.Key())].order != orderOf(v) {
		return false
	}
	delete(s.data.values, string(v.Key()))
	return true
}

// Values returns every record that lives, tombstones included, by key, past all
// faults.
func (s *L2) Values() (records []item.View) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, key := range slices.Sorted(maps.Keys(s.data.values)) {
		if v := s.data.values[key]; v.record != nil && s.now() < v.until {
			records = append(records, slices.Clone(v.record))
		}
	}
	return records
}

// Close does nothing.
func (s *L2) Close() error { return nil }
