package memstore

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/l3"
)

// removes reports whether a rule takes rows like it out of the ground truth.
func removes(r *item.Rule, it *item.Item) bool {
	return r.Op == item.OpDelete || r.Op == item.OpPurge && it.Key.Namespace() != item.NamespaceItem
}

// covering returns the newest rule that removes it, nil if none does.
func (s *L3) covering(it *item.Item, unsweptOnly bool) *item.Rule {
	view := item.View(it.AppendTo(nil))
	var newest *item.Rule
	for i := range s.state.rules {
		r := &s.state.rules[i]
		if unsweptOnly && (r.Swept || it.Kind != item.KindPut) || !removes(&r.Rule, it) || !r.Covers(view) {
			continue
		}
		if newest == nil || r.Version > newest.Version {
			newest = &r.Rule
		}
	}
	return newest
}

// graveOf is the tombstone that a rule makes of it.
func graveOf(it *item.Item, r *item.Rule) item.Item {
	return item.Item{
		Kind: item.KindTombstone, Tiers: item.AllTiers, Key: it.Key, Version: r.Version,
		ContentVersion: r.Version, MetadataVersion: r.Version, UpdatedAt: r.CreatedAt,
	}
}

func sameRule(a, b *item.Rule) bool { return string(a.AppendTo(nil)) == string(b.AppendTo(nil)) }

func (s *L3) findRule(r *item.Rule) *l3.StoredRule {
	for i := range s.state.rules {
		if sameRule(&s.state.rules[i].Rule, r) {
			return &s.state.rules[i]
		}
	}
	return nil
}

func (s *L3) addRule(r *item.Rule) {
	if s.findRule(r) != nil {
		return
	}
	own, err := item.ParseRule(r.AppendTo(nil))
	if err != nil {
		panic(fmt.Sprintf("memstore: a rule that passed its check: %v", err))
	}
	s.state.rules = append(s.state.rules, l3.StoredRule{Rule: own, StoredAt: s.now()})
	slices.SortStableFunc(s.state.rules, func(a, b l3.StoredRule) int { return cmp.Compare(a.Version, b.Version) })
	s.changed(l3.Change{Op: l3.ChangeRule, Version: own.Version, Rule: &own})
}

// Rules is Store.Rules.
func (s *L3) Rules(ctx context.Context) ([]l3.StoredRule, error) {
	fault, err := s.enter(ctx, "Rules")
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	rules := slices.Clone(s.state.rules)
	s.mu.Unlock()
	return rules, s.leave(ctx, "Rules", fault)
}

// SweepRule is Store.SweepRule. limit counts the rows that are removed.
func (s *L3) SweepRule(ctx context.Context, rule item.Rule, limit int) (deleted int, more bool, err error) {
	fault, err := s.enter(ctx, "SweepRule")
	if err != nil {
		return 0, true, err
	}
	if deleted, more, err = s.sweep(&rule, max(limit, 1)); err != nil {
		return 0, true, err
	}
	if err := s.leave(ctx, "SweepRule", fault); err != nil {
		return 0, true, err
	}
	return deleted, more, nil
}

func (s *L3) sweep(rule *item.Rule, limit int) (deleted int, more bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	stored := s.findRule(rule)
	if stored == nil {
		return 0, true, fmt.Errorf("memstore: %w", l3.ErrNoRule)
	}
	if stored.Swept {
		return 0, false, nil
	}
	for _, key := range slices.Sorted(maps.Keys(s.state.rows)) {
		it := s.state.rows[key].item
		if it.Kind != item.KindPut || !removes(rule, &it) || !rule.Covers(it.AppendTo(nil)) {
			continue
		}
		if deleted == limit {
			return deleted, true, nil
		}
		next, _, _, _ := merge(&it, graveOf(&it, rule))
		next.Content = nil
		s.put(key, &next, l3.ChangeDelete)
		deleted++
	}
	stored.Swept = true
	return deleted, false, nil
}

// DropRules is Store.DropRules.
func (s *L3) DropRules(ctx context.Context, olderThan item.Version, storedBefore int64) (n int, err error) {
	fault, err := s.enter(ctx, "DropRules")
	if err != nil {
		return 0, err
	}
	s.mu.Lock()
	before := len(s.state.rules)
	s.state.rules = slices.DeleteFunc(s.state.rules, func(r l3.StoredRule) bool {
		return r.Swept && r.Version < olderThan && r.StoredAt < storedBefore
	})
	n = before - len(s.state.rules)
	s.mu.Unlock()
	return n, s.leave(ctx, "DropRules", fault)
}

// Expire is Store.Expire.
func (s *L3) Expire(ctx context.Context, now int64, limit int) (n int, err error) {
	fault, err := s.enter(ctx, "Expire")
	if err != nil {
		return 0, err
	}
	s.mu.Lock()
	for _, key := range slices.Sorted(maps.Keys(s.state.rows)) {
		it := s.state.rows[key].item
		if n < max(limit, 1) && it.Kind == item.KindPut && it.Expired(now) {
			if s.check != nil {
				s.check(&it, nil)
			}
			delete(s.state.rows, key)
			s.changed(l3.Change{Op: l3.ChangeExpire, Version: it.Version, Key: it.Key})
			n++
		}
	}
	s.mu.Unlock()
	return n, s.leave(ctx, "Expire", fault)
}

// PurgeTombstones is Store.PurgeTombstones.
func (s *L3) PurgeTombstones(ctx context.Context, olderThan item.Version, storedBefore int64, limit int) (n int, err error) {
	fault, err := s.enter(ctx, "PurgeTombstones")
	if err != nil {
		return 0, err
	}
	s.mu.Lock()
	for _, key := range slices.Sorted(maps.Keys(s.state.rows)) {
		r := s.state.rows[key]
		if n < max(limit, 1) && r.item.Kind == item.KindTombstone && r.item.Version < olderThan && r.storedAt < storedBefore {
			delete(s.state.rows, key)
			n++
		}
	}
	s.mu.Unlock()
	return n, s.leave(ctx, "PurgeTombstones", fault)
}

// Changes is Store.Changes.
func (s *L3) Changes(ctx context.Context, after uint64, limit int, fn func(c l3.Change) error) error {
	fault, err := s.enter(ctx, "Changes")
	if err != nil {
		return err
	}
	s.mu.Lock()
	var list []l3.Change
	gone := after < s.state.trimmed || after > s.state.lastSeq
	for _, c := range s.state.changes {
		if !gone && c.Seq > after && len(list) < max(limit, 1) {
			list = append(list, c)
		}
	}
	s.mu.Unlock()
	if err := s.leave(ctx, "Changes", fault); err != nil {
		return err
	}
	if gone {
		return fmt.Errorf("memstore: changes after %d: %w", after, l3.ErrChangesGone)
	}
	for _, c := range list {
		if err := fn(c); err != nil {
			return err
		}
	}
	return nil
}

// TrimChanges is Store.TrimChanges.
func (s *L3) TrimChanges(ctx context.Context, upTo uint64, limit int) (n int, err error) {
	fault, err := s.enter(ctx, "TrimChanges")
	if err != nil {
		return 0, err
	}
	s.mu.Lock()
	to := min(upTo, s.state.lastSeq, s.state.trimmed+uint64(max(limit, 1)))
	for len(s.state.changes) > 0 && s.state.changes[0].Seq <= to {
		s.state.changes = s.state.changes[1:]
		n++
	}
	s.state.trimmed = max(s.state.trimmed, to)
	s.mu.Unlock()
	return n, s.leave(ctx, "TrimChanges", fault)
}

// AbandonChanges is Store.AbandonChanges.
func (s *L3) AbandonChanges(ctx context.Context, seen uint64) (abandoned bool, err error) {
	fault, err := s.enter(ctx, "AbandonChanges")
	if err != nil {
		return false, err
	}
	s.mu.Lock()
	if abandoned = s.state.trimmed <= seen; abandoned {
		s.state.lastSeq = max(s.state.lastSeq, seen) + 1
		s.state.changes, s.state.trimmed = nil, s.state.lastSeq
	}
	s.mu.Unlock()
	return abandoned, s.leave(ctx, "AbandonChanges", fault)
}

// SetBack makes the store what it is now, when the function that it returns is
// called: as a server that was restored from a backup, below engines that run.
func (s *L3) SetBack() (back func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	was := s.state
	was.rows, was.leases = maps.Clone(was.rows), maps.Clone(was.leases)
	was.rules, was.changes, was.nodes = slices.Clone(was.rules), slices.Clone(was.changes), slices.Clone(was.nodes)
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.state = was
	}
}
