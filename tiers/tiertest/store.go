// Package tiertest holds what the engine's tests put between the engine and
// its tiers: a layer of faults over a real L3. The crash file system for the
// journal is in crashfs.
package tiertest

import (
	"context"
	"fmt"
	"sync"

	"github.com/edgenode/edgenode/tiers"
	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/l3"
)

// A Store passes calls on to a real store unless it was told to fail them, to
// hold them up, or to lose part of them. It is safe for concurrent use.
type Store struct {
	tiers.Store

	mu      sync.Mutex
	down    bool
	noSweep bool
	swallow func(op l3.Op) bool
	onGet   func(key item.Key)
	onApply func(ops []l3.Op)
	after   func(ops []l3.Op)
	reject  func(op l3.Op) bool

	gets, applies int
}

// Wrap returns a function for Options.WrapStore that puts s over the real
// store.
func (s *Store) Wrap(real tiers.Store) tiers.Store {
	s.Store = real
	return s
}

// SetDown makes every call fail as an outage does, or ends that.
func (s *Store) SetDown(down bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = down
}

// FailSweeps makes the sweeps of rules fail as an outage does, or ends that.
func (s *Store) FailSweeps(fail bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.noSweep = fail
}

// Swallow makes Apply lose the operations for which f is true: they are not
// stored, and the outcome is what the rows then hold. nil ends that.
func (s *Store) Swallow(f func(op l3.Op) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.swallow = f
}

// Reject makes Apply refuse batches that hold an operation for which f is true.
func (s *Store) Reject(f func(op l3.Op) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reject = f
}

// OnGet calls f after a read of a row and before its answer; f may block.
func (s *Store) OnGet(f func(key item.Key)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.onGet = f
}

// OnApply calls before ahead of a batch, and after once it is committed and
// before the caller learns so; both may block. Either may be nil.
func (s *Store) OnApply(before, after func(ops []l3.Op)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.onApply, s.after = before, after
}

// Calls returns how often rows were read one by one, and batches applied.
func (s *Store) Calls() (gets, applies int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.gets, s.applies
}

func (s *Store) fail() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down {
		return fmt.Errorf("tiertest: %w", l3.ErrUnavailable)
	}
	return nil
}

// Get is Store.Get.
func (s *Store) Get(ctx context.Context, key item.Key, dst []byte) ([]byte, bool, error) {
	s.mu.Lock()
	s.gets++
	onGet := s.onGet
	s.mu.Unlock()
	if err := s.fail(); err != nil {
		return dst, false, err
	}
	b, ok, err := s.Store.Get(ctx, key, dst)
	if onGet != nil {
		onGet(key)
	}
	return b, ok, err
}

// GetMany is Store.GetMany.
func (s *Store) GetMany(ctx context.Context, keys []item.Key, fn func(i int, v item.View) error) error {
	if err := s.fail(); err != nil {
		return err
	}
	return s.Store.GetMany(ctx, keys, fn)
}

// Scan is Store.Scan.
func (s *Store) Scan(ctx context.Context, q l3.ScanQuery, fn func(v item.View) error) error {
	if err := s.fail(); err != nil {
		return err
	}
	return s.Store.Scan(ctx, q, fn)
}

// Count is Store.Count.
func (s *Store) Count(ctx context.Context, q l3.ScanQuery, limit int) (int64, bool, error) {
	if err := s.fail(); err != nil {
		return 0, false, err
	}
	return s.Store.Count(ctx, q, limit)
}

// Apply is Store.Apply.
func (s *Store) Apply(ctx context.Context, ops []l3.Op, rules []item.Rule, out []l3.Outcome) (uint64, error) {
	s.mu.Lock()
	s.applies++
	before, after, swallow, reject := s.onApply, s.after, s.swallow, s.reject
	s.mu.Unlock()
	if before != nil {
		before(ops)
	}
	if err := s.fail(); err != nil {
		return 0, err
	}
	if reject != nil {
		for i, op := range ops {
			if reject(op) {
				return 0, &l3.OpError{Index: i, Err: fmt.Errorf("tiertest: refused")}
			}
		}
	}
	seq, err := s.apply(ctx, ops, rules, out, swallow)
	if err == nil && after != nil {
		after(ops)
	}
	return seq, err
}

// apply gives the real store what is not swallowed. For the rest it gives a
// write that never takes place, so that the outcome is what the row holds.
func (s *Store) apply(ctx context.Context, ops []l3.Op, rules []item.Rule, out []l3.Outcome, swallow func(l3.Op) bool) (uint64, error) {
	if swallow == nil {
		return s.Store.Apply(ctx, ops, rules, out)
	}
	kept := make([]l3.Op, len(ops))
	lost := make([]bool, len(ops))
	for i, op := range ops {
		kept[i] = op
		if lost[i] = swallow(op); lost[i] {
			kept[i].If = func(item.View) bool { return false }
		}
	}
	seq, err := s.Store.Apply(ctx, kept, rules, out)
	for i := range lost {
		if lost[i] && err == nil {
			out[i].Refused = false // the store does not know that it lost the row
		}
	}
	return seq, err
}

// SweepRule is Store.SweepRule.
func (s *Store) SweepRule(ctx context.Context, rule item.Rule, limit int) (int, bool, error) {
	s.mu.Lock()
	noSweep := s.noSweep
	s.mu.Unlock()
	if noSweep {
		return 0, false, fmt.Errorf("tiertest: %w", l3.ErrUnavailable)
	}
	if err := s.fail(); err != nil {
		return 0, false, err
	}
	return s.Store.SweepRule(ctx, rule, limit)
}

// Expire is Store.Expire.
func (s *Store) Expire(ctx context.Context, now int64, limit int) (int, error) {
	if err := s.fail(); err != nil {
		return 0, err
	}
	return s.Store.Expire(ctx, now, limit)
}

// Changes is Store.Changes.
func (s *Store) Changes(ctx context.Context, after uint64, limit int, fn func(c l3.Change) error) error {
	if err := s.fail(); err != nil {
		return err
	}
	return s.Store.Changes(ctx, after, limit, fn)
}

// TrimChanges is Store.TrimChanges.
func (s *Store) TrimChanges(ctx context.Context, upTo uint64, limit int) (int, error) {
	if err := s.fail(); err != nil {
		return 0, err
	}
	return s.Store.TrimChanges(ctx, upTo, limit)
}

// AbandonChanges is Store.AbandonChanges.
func (s *Store) AbandonChanges(ctx context.Context, seen uint64) (bool, error) {
	if err := s.fail(); err != nil {
		return false, err
	}
	return s.Store.AbandonChanges(ctx, seen)
}

// RegisterNode is Store.RegisterNode.
func (s *Store) RegisterNode(ctx context.Context, n l3.NodeInfo) error {
	if err := s.fail(); err != nil {
		return err
	}
	return s.Store.RegisterNode(ctx, n)
}

// Nodes is Store.Nodes.
func (s *Store) Nodes(ctx context.Context) ([]l3.NodeInfo, error) {
	if err := s.fail(); err != nil {
		return nil, err
	}
	return s.Store.Nodes(ctx)
}

// RemoveNode is Store.RemoveNode.
func (s *Store) RemoveNode(ctx context.Context, id string) (bool, error) {
	if err := s.fail(); err != nil {
		return false, err
	}
	return s.Store.RemoveNode(ctx, id)
}

// Rules is Store.Rules.
func (s *Store) Rules(ctx context.Context) ([]l3.StoredRule, error) {
	if err := s.fail(); err != nil {
		return nil, err
	}
	return s.Store.Rules(ctx)
}

// Ping is Store.Ping.
func (s *Store) Ping(ctx context.Context) error {
	if err := s.fail(); err != nil {
		return err
	}
	return s.Store.Ping(ctx)
}
