package tiers

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/l1"
	"github.com/edgenode/edgenode/tiers/l3"
)

// Bulk deletes and purges are rules: one version, one journal record, true for
// every read from the acknowledgement on. The sweeper applies them to L1 and L3
// in bounded steps.

const (
	sweepPage     = 1000             // rows of L3 in one transaction
	sweepStep     = 256              // entries of L1 between two looks at the clock
	sweepPatience = 2 * time.Second  // how long a caller waits for its own sweep
	expiryPage    = 1000             // expired rows in one transaction
	forgetEvery   = time.Minute      // between two looks at what is past its retention
	forgetAfter   = 10 * time.Minute // rules outlive every write and fetch that began before
)

// DeleteMatching deletes every item that q selects, as one rule: what was
// acknowledged before is gone, what comes after stays. Only a query by state is
// resolved to ids first and deleted one by one. d is at least DurabilityJournal.
func (e *Engine) DeleteMatching(ctx context.Context, q Query, d item.Durability) (BulkReceipt, error) {
	if err := e.enterWrite(); err != nil {
		return BulkReceipt{}, err
	}
	defer e.leave()
	if err := q.check(); err != nil {
		return BulkReceipt{}, err
	}
	if q.disjoint() {
		return BulkReceipt{Complete: true, Persisted: e.durability(d)}, nil
	}
	if q.State != "" {
		return e.deleteListed(ctx, q, d)
	}
	r := item.Rule{Op: item.OpDelete, Namespaces: item.InItems, Scope: []byte(q.Scope), Match: item.MatchAll}
	switch {
	case q.Tag != "":
		r.Match, r.Values = item.MatchTag, []string{q.Tag}
		r.Scope = []byte(q.keyPrefix())
	case q.Prefix != "":
		r.Match, r.Values = item.MatchKeyPrefix, []string{q.Prefix}
	}
	return e.submitRule(ctx, r, d)
}

// deleteListed deletes what a listing finds, page by page.
func (e *Engine) deleteListed(ctx context.Context, q Query, d item.Durability) (BulkReceipt, error) {
	out := BulkReceipt{Persisted: e.durability(d), Complete: true}
	q.Limit, q.Cursor = maxPage, ""
	for {
		keys, next, err := e.listKeys(ctx, q)
		if err != nil {
			return out, err
		}
		receipts := make([]Receipt, len(keys))
		e.deleteMany(ctx, keys, d, receipts)
		for _, r := range receipts {
			if r.Err != nil {
				return out, r.Err
			}
			out.L3++
			out.Version = max(out.Version, r.Version)
		}
		if next == "" {
			return out, nil
		}
		q.Cursor = next
	}
}

// Purge invalidates what p selects: stored answers are gone, or stale if the
// purge is soft; of items only the copies in L1 and L2 leave, since L3 is the
// truth.
func (e *Engine) Purge(ctx context.Context, p Purge) (BulkReceipt, error) {
	if err := e.enterWrite(); err != nil {
		return BulkReceipt{}, err
	}
	defer e.leave()
	if p.State != "" {
		return e.purgeState(ctx, p)
	}
	r := item.Rule{Op: item.OpPurge, Namespaces: p.Namespaces, Match: p.Match, Values: p.Values, Scope: []byte(p.Scope)}
	if p.Soft {
		r.Op = item.OpPurgeSoft
	}
	if p.Background {
		live, err := e.holdRule(r, item.DurabilitySync)
		if err != nil {
			return BulkReceipt{}, err
		}
		signal(e.sweep)
		return BulkReceipt{Version: live.Version, Persisted: item.DurabilitySync}, nil
	}
	return e.submitRule(ctx, r, item.DurabilitySync)
}

// purgeState drops the copies in L1 and L2 of the items that are in a state now. For
// other nodes their ids are rules, a page each.
func (e *Engine) purgeState(ctx context.Context, p Purge) (BulkReceipt, error) {
	q := Query{State: p.State, Scope: p.Scope, Limit: maxPage}
	out := BulkReceipt{Version: e.clock.Stamp(), Complete: true}
	for {
		keys, next, err := e.listKeys(ctx, q)
		if err != nil {
			return out, err
		}
		if e.options.L3Shared && len(keys) > 0 {
			if err := e.purgeKeys(ctx, p, keys, &out); err != nil {
				return out, err
			}
			keys = nil
		}
		for _, key := range keys {
			hash := e.hash(key)
			s := e.pending.stripe(hash)
			s.mu.Lock()
			e.pending.epoch(hash).Add(1) // no older copy is restored
			if e.l1.Delete(hash, key, uint64(out.Version)) {
				out.L1++
			}
			s.mu.Unlock()
			if e.l2 != nil {
				e.l2.tell(l2Copy{key: string(key), hash: hash, version: out.Version}, e)
				out.L2++
			}
		}
		if next == "" {
			return out, nil
		}
		q.Cursor = next
	}
}

// purgeKeys makes a rule of keys and adds what it did to out.
func (e *Engine) purgeKeys(ctx context.Context, p Purge, keys []item.Key, out *BulkReceipt) error {
	r := item.Rule{Op: item.OpPurge, Namespaces: item.InItems, Match: item.MatchKey, Scope: []byte(p.Scope)}
	if p.Soft {
		r.Op = item.OpPurgeSoft
	}
	for _, key := range keys {
		r.Values = append(r.Values, key.ID())
	}
	got, err := e.submitRule(ctx, r, item.DurabilitySync)
	if err != nil {
		return err
	}
	out.Version, out.Seq, out.Persisted = got.Version, got.Seq, got.Persisted
	out.L1, out.L2, out.Complete = out.L1+got.L1, out.L2+got.L2, out.Complete && got.Complete
	return nil
}

// holdRule stamps r, makes it durable, and makes it hold.
func (e *Engine) holdRule(r item.Rule, d item.Durability) (*liveRule, error) {
	if err := e.l3Writable(d); err != nil {
		return nil, err
	}
	if err := e.rules.room(); err != nil {
		return nil, fmt.Errorf("%w: %w", &Refusal{Level: "rules", Pressure: 1, RetryAfter: time.Second}, err)
	}
	live, err := e.makeRule(r, d)
	if err == nil {
		e.wakeBuried()
	}
	return live, err
}

// submitRule makes r hold, and applies as much of it as fits into sweepPatience.
func (e *Engine) submitRule(ctx context.Context, r item.Rule, d item.Durability) (BulkReceipt, error) {
	d = max(e.durability(d), item.DurabilityJournal)
	live, err := e.holdRule(r, d)
	if err != nil {
		return BulkReceipt{}, err
	}
	out := BulkReceipt{Version: live.Version, Persisted: d}
	ctx, cancel := context.WithTimeout(ctx, sweepPatience)
	defer cancel()
	err = e.applyRule(ctx, live)
	if err == nil && e.l2 != nil && e.rules.is(live, notSweptInL2) {
		err = e.sweepL2(ctx)
	}
	signal(e.sweep) // for what is left
	out.L1, out.L2, out.L3 = live.countL1.Load(), live.countL2.Load(), live.countL3.Load()
	e.rules.is(live, func(r *liveRule) bool { out.Seq = r.seq; return true })
	out.Complete = err == nil
	if d == item.DurabilityL3 && !e.ruleInL3(live) {
		return out, fmt.Errorf("%w: the rule holds and is in the journal, but L3 does not have it yet", ErrUnknownFate)
	}
	return out, nil
}

// makeRule gives r its version, carries it to its level, and makes it hold.
func (e *Engine) makeRule(r item.Rule, d item.Durability) (*liveRule, error) {
	e.rules.begin(func() { r.Version = e.clock.Stamp() })
	defer e.rules.end()
	r.CreatedAt = r.Version.UnixMilli()
	if err := r.Check(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	pos, err := e.append(item.KindRule, r.AppendTo(nil))
	if err != nil {
		return nil, err
	}
	if err := e.reach(d, pos); err != nil {
		e.journal.Release(pos)
		return nil, err
	}
	live := &liveRule{Rule: r, pos: pos, logged: true, sweptL2: e.l2 == nil}
	e.rules.add(live)
	return live, nil
}

func (e *Engine) ruleInL3(r *liveRule) bool {
	return e.rules.is(r, func(r *liveRule) bool { return r.inL3 })
}

// applyRule carries r to L1, then into L3's table, then to L3's rows. It may be
// called again after an error and goes on where it was.
func (e *Engine) applyRule(ctx context.Context, r *liveRule) error {
	if err := e.sweeping.lock(ctx); err != nil {
		return err
	}
	defer e.sweeping.unlock()
	if err := e.sweepL1(ctx, r); err != nil {
		return err
	}
	if err := e.ruleToL3(ctx, r); err != nil {
		return err
	}
	for {
		if !e.rules.is(r, notSweptInL3) {
			return nil
		}
		n, more, err := e.l3.SweepRule(ctx, r.Rule, sweepPage)
		if err != nil {
			return fmt.Errorf("tiers: sweep of rule %s: %w", r.Version, err)
		}
		r.countL3.Add(int64(n))
		e.metrics.swept.Add(n)
		if !more {
			e.rules.update(func(r *liveRule) { r.sweptL3 = true }, r)
		}
	}
}

// ruleToL3 puts r into L3's table of rules, which refuses older writes that it
// covers, and releases its journal record.
func (e *Engine) ruleToL3(ctx context.Context, r *liveRule) error {
	if e.ruleInL3(r) {
		return nil
	}
	if r.Match == item.MatchTag || r.Match == item.MatchTagPrefix {
		if err := e.flushOlder(ctx, r.Version); err != nil {
			return fmt.Errorf("tiers: rule %s to L3: %w", r.Version, err)
		}
		if err := e.shieldBuried(ctx, &r.Rule); err != nil {
			return fmt.Errorf("tiers: rule %s to L3: %w", r.Version, err)
		}
	}
	seq, err := e.l3.Apply(ctx, nil, []item.Rule{r.Rule}, nil)
	if err != nil {
		if ctx.Err() == nil {
			e.l3Failed(err)
		}
		return fmt.Errorf("tiers: rule %s to L3: %w", r.Version, err)
	}
	signal(e.wrote)
	if t := e.l2; t != nil {
		// While L2 is not trusted, the walk that makes it so meets the rule.
		t.writing.Lock()
		defer t.writing.Unlock()
	}
	e.rules.update(func(r *liveRule) {
		r.inL3, r.seq = true, seq
		r.sweptL2 = r.sweptL2 || e.l2 == nil || e.l2.token.Load() == 0
	}, r)
	if r.logged {
		e.journal.Release(r.pos)
	}
	return nil
}

// flushOlder flushes what is older than a version. A rule by tag speaks of the
// tags that items had at its version: before L3 looks at its rows, they must
// have them. Else a row that lost the tag since would become a tombstone, newer
// than the write that is pending.
func (e *Engine) flushOlder(ctx context.Context, than item.Version) error {
	for i := range e.pending.stripes {
		for e.awaitOlder(&e.pending.stripes[i], than) {
			if _, err := e.flushBatch(context.WithoutCancel(ctx)); err != nil {
				return err
			}
			if err := ctx.Err(); err != nil {
				return err
			}
		}
	}
	return nil
}

// awaitOlder reports whether anything older than a version is to be flushed. It
// waits for what is in flight.
func (e *Engine) awaitOlder(s *stripe, than item.Version) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		found, inFlight := s.olderLocked(than)
		if !inFlight {
			return found
		}
		s.settled.Wait()
	}
}

// sweepL1 removes from L1 what r covers, and with it what the other rules cover
// that wait for it: one pass for all. Before it begins it passes every stripe's
// lock: an entry that was stored without a look at them is in L1 by then and will
// be visited. The caller holds e.sweeping.
func (e *Engine) sweepL1(ctx context.Context, r *liveRule) error {
	if !e.rules.is(r, notInL1) {
		return nil
	}
	rules := e.rules.waiting(notInL1)
	index := newRuleIndex(rules)
	for i := range e.pending.stripes {
		e.pending.stripes[i].pass()
	}
	var cursor l1.Cursor
	for {
		finished := e.l1.Sweep(&cursor, sweepStep, func(record []byte, _ bool) l1.Verdict {
			return index.verdict(item.View(record))
		})
		if finished {
			break
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	e.rules.update(func(r *liveRule) { r.sweptL1 = true }, rules...)
	return nil
}

// verdict says what becomes of v in L1, and counts it for each rule that has a
// part in that.
func (x *ruleIndex) verdict(v item.View) l1.Verdict {
	verdict := l1.Keep
	for r := range x.covering(v) {
		r.countL1.Add(1)
		if r.Op != item.OpPurgeSoft || v.Key().Namespace() == item.NamespaceItem {
			verdict = l1.Drop
		} else if verdict == l1.Keep {
			verdict = l1.MarkStale
		}
	}
	return verdict
}

// sweepAll applies every rule that waits.
func (e *Engine) sweepAll(ctx context.Context) error {
	err := e.applyRules(ctx)
	if e.l2 != nil && e.l2.token.Load() != 0 && ctx.Err() == nil {
		err = errors.Join(err, e.sweepL2(ctx))
	}
	return err
}

// sweepInTurn is sweepAll for the background: L2 has its pauses.
func (e *Engine) sweepInTurn(ctx context.Context) error {
	if e.l2 == nil || e.clock.UnixMilli() >= e.l2.sweepAt.Load() || e.rules.crowded() {
		return e.sweepAll(ctx)
	}
	return e.applyRules(ctx)
}

// applyRules applies every rule to L1 and L3. One that fails by itself does not
// hold up the others; an outage ends the round.
func (e *Engine) applyRules(ctx context.Context) error {
	var errs []error
	for _, r := range e.rules.waiting(unapplied) {
		err := e.applyRule(ctx, r)
		errs = append(errs, err)
		if errors.Is(err, l3.ErrUnavailable) || ctx.Err() != nil {
			break
		}
	}
	return errors.Join(errs...)
}

// runSweeper applies rules in the background, removes expired rows and lets go
// of what nothing can need any more.
func (e *Engine) runSweeper() {
	lastForget := e.clock.UnixMilli()
	for {
		if !e.pause(time.Duration(e.expirySweep.Load()), e.sweep) {
			return
		}
		if e.l3Up() {
			if err := e.sweepInTurn(e.ctx); err != nil && e.ctx.Err() == nil {
				e.logger.Warn("rules wait to be applied", "err", err)
			}
			e.expireRows()
		}
		if now := e.clock.UnixMilli(); now-lastForget >= forgetEvery.Milliseconds() && !e.forget() {
			lastForget = now
		}
	}
}

// expireRows removes rows whose time is over from L3. Rows that a pending change
// may have given more time wait for it.
func (e *Engine) expireRows() {
	until := e.pending.aliveSince(e.clock.UnixMilli())
	for e.ctx.Err() == nil {
		n, err := e.l3.Expire(e.ctx, until, expiryPage)
		if err != nil {
			if e.ctx.Err() == nil {
				e.logger.Warn("expired rows were not removed", "err", err)
			}
			return
		}
		e.metrics.expired.Add(n)
		if n < expiryPage {
			return
		}
	}
}

// oldestPending returns the least version that is pending, or the present one.
func (e *Engine) oldestPending() item.Version {
	oldest := e.clock.Last()
	for i := range e.pending.stripes {
		s := &e.pending.stripes[i]
		s.mu.Lock()
		for _, p := range s.ids {
			if len(p.records) > 0 {
				oldest = min(oldest, p.records[0].version)
			}
		}
		s.mu.Unlock()
	}
	for _, r := range e.rules.waiting(unapplied) {
		oldest = min(oldest, r.Version)
	}
	return oldest
}

// CoveredSince reports whether a purge or bulk delete newer than since names
// key or one of tags: what was fetched at since must not be used any more.
func (e *Engine) CoveredSince(key item.Key, tags []string, since item.Version) bool {
	return e.rules.coversFetch(key, tags, since)
}
