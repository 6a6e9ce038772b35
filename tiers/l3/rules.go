package l3

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql/driver"
	"fmt"

	"github.com/edgenode/edgenode/tiers/item"
)

// A StoredRule is a rule as the store keeps it.
type StoredRule struct {
	item.Rule
	Swept    bool  // no row is left that it covers
	StoredAt int64 // Unix ms
}

// removes reports whether the rule takes rows of key's kind out of the ground
// truth: a delete does, and a hard purge of stored answers of origins. A purge
// of items speaks of copies in memory and Redis only.
func removes(r *item.Rule, key item.Key) bool {
	switch r.Op {
	case item.OpDelete:
		return true
	case item.OpPurge:
		return key.Namespace() != item.NamespaceItem
	}
	return false
}

// A ruleSet is the content of the rules table as of an epoch.
type ruleSet struct {
	loaded     bool
	epoch      int64
	rules      []StoredRule
	newest     item.Version // of all that may remove
	newestLive item.Version // of those not swept
}

func (rs *ruleSet) forget() { *rs = ruleSet{} }

// load reads the table unless rs is of this epoch.
func (rs *ruleSet) load(ses *session, epoch int64) error {
	if rs.loaded && rs.epoch == epoch {
		return nil
	}
	rules, err := readRules(ses)
	if err != nil {
		return err
	}
	*rs = ruleSet{loaded: true, epoch: epoch}
	for _, r := range rules {
		rs.add(r)
	}
	return nil
}

func (rs *ruleSet) add(r StoredRule) {
	rs.rules = append(rs.rules, r)
	if r.Op == item.OpPurgeSoft {
		return
	}
	rs.newest = max(rs.newest, r.Version)
	if !r.Swept {
		rs.newestLive = max(rs.newestLive, r.Version)
	}
}

// sweptNow notes that r is swept, if it is there.
func (rs *ruleSet) sweptNow(r *item.Rule) {
	rs.newestLive = 0
	for i := range rs.rules {
		own := &rs.rules[i]
		if own.Version == r.Version && !own.Swept && bytes.Equal(own.AppendTo(nil), r.AppendTo(nil)) {
			own.Swept = true
		}
		if !own.Swept && own.Op != item.OpPurgeSoft {
			rs.newestLive = max(rs.newestLive, own.Version)
		}
	}
}

// refuse reports whether a rule covers the put in record. Newer writes, the
// usual case, cost one comparison.
func (rs *ruleSet) refuse(record item.View) bool {
	return record.Kind() == item.KindPut && record.ContentVersion() < rs.newest && rs.covering(record, false) != nil
}

// apply returns head as the rules that are not swept yet leave it: a tombstone
// if one covers it.
func (rs *ruleSet) apply(head item.View, live bool) item.View {
	if !live || head.ContentVersion() >= rs.newestLive {
		return head
	}
	if r := rs.covering(head, true); r != nil {
		head, _ = merge(head, tombstoneOf(head, &r.Rule))
	}
	return head
}

// covering returns the newest rule that removes the item of v, nil if none
// does.
func (rs *ruleSet) covering(v item.View, unsweptOnly bool) *StoredRule {
	var newest *StoredRule
	for i := range rs.rules {
		r := &rs.rules[i]
		if unsweptOnly && r.Swept || newest != nil && newest.Version >= r.Version {
			continue
		}
		if removes(&r.Rule, v.Key()) && r.Covers(v) {
			newest = r
		}
	}
	return newest
}

// addRules stores the rules of the batch that are not stored yet.
func (b *batch) addRules(w *work) error {
	for i := range b.rules {
		record := b.rules[i].AppendTo(nil)
		digest := sha256.Sum256(record)
		added, err := w.ses.exec(stmtAddRule, int64(b.rules[i].Version), digest[:], b.now, record)
		if err != nil {
			return err
		}
		if added == 0 {
			continue
		}
		rule, err := item.ParseRule(record) // a copy: the caller keeps its own
		if err != nil {
			return fmt.Errorf("%w: rule %d: %w", ErrRejected, i, err)
		}
		w.changes = append(w.changes, changeRow{op: ChangeRule, version: rule.Version, rule: record})
		w.newRules++
		b.active.add(StoredRule{Rule: rule, StoredAt: b.now})
	}
	return nil
}

func readRules(ses *session) (rules []StoredRule, err error) {
	err = ses.query(stmtRules, func(row []driver.Value) error {
		r, err := item.ParseRule(bytesOf(row[3]))
		if err != nil {
			return fmt.Errorf("%w: rule of version %d: %w", ErrCorrupt, intOf(row[0]), err)
		}
		rules = append(rules, StoredRule{Rule: r, StoredAt: intOf(row[1]), Swept: intOf(row[2]) != 0})
		return nil
	})
	return rules, err
}

// Rules returns the stored rules, oldest first.
func (s *Store) Rules(ctx context.Context) (rules []StoredRule, err error) {
	err = s.read(ctx, func(ses *session) error {
		rules, err = readRules(ses)
		return err
	})
	return rules, s.wrap("read rules", err)
}

// DropRules forgets the swept rules that are older than the version and were
// stored before the time (Unix ms), and returns how many. From then on older
// writes that they covered are no longer refused.
func (s *Store) DropRules(ctx context.Context, olderThan item.Version, storedBefore int64) (n int, err error) {
	_, err = s.write(ctx, func(w *work) error {
		dropped, err := w.ses.exec(stmtDropRules, int64(min(olderThan, maxStored)), storedBefore)
		if dropped > 0 {
			w.newEpochs = 1
		}
		n = int(dropped)
		return err
	})
	if err != nil {
		return 0, s.wrap("drop rules", err)
	}
	return n, nil
}
