package tiers

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/l2"
	"github.com/edgenode/edgenode/tiers/l3"
	"github.com/edgenode/edgenode/tiers/merkle"
)

// L2 is trusted when every change of L3 up to now has been applied to it: it has
// the new version, or has lost the old one. A mark in L2 says up to which change
// that is so. It travels with the data: a server restored from an old copy brings
// its own old mark.
//
//	not trusted ──read the mark, walk the changes after it──► trusted
//	trusted ──another server, a connection made anew, a write that failed──► not trusted
//
// A mark that is missing, of another L3, ahead of it, or behind what L3 still
// knows, says nothing: then every copy is compared with L3's tree of hashes, of which
// L2 has a copy too (shadow.go), or with its row, and what has no row is dropped.
//
// While L2 is trusted the same walk goes on once a follow interval: it finds the
// writes of other nodes, and those of a node that crashed between L3 and L2. Only
// it moves the mark.

const (
	walkPage    = 500 // changes in one step
	comparePage = 500 // copies in one query of L3
)

func (e *Engine) runTrust() {
	last := ""
	for {
		err := e.tendL2(e.ctx)
		switch text := fmt.Sprint(err); {
		case e.ctx.Err() != nil:
			return
		case err == nil:
			last = ""
		case text != last: // once, not every interval
			last = text // which may hold the number of a port, and so be another each time
			if kept, ok := e.l2.troubleLog.now(e.clock.UnixMilli()); ok {
				e.logger.Warn("L2 cannot be caught up now; reads pass it by", "err", err, "since_last_line", kept)
			}
		}
		if !e.pause(time.Duration(e.followInterval.Load()), e.l2.wake) {
			return
		}
	}
}

// tendL2 makes room in L2, also while L3 is away, since stored answers need none;
// and makes it trusted, or follows the changes and applies rules if it is.
func (e *Engine) tendL2(ctx context.Context) error {
	if !e.l2.backend.up() {
		return nil // its keeper says when there is work
	}
	return errors.Join(e.evictL2(ctx), e.tendTrust(ctx))
}

func (e *Engine) tendTrust(ctx context.Context) error {
	t := e.l2
	if !e.l3Up() || !e.loaded.Load() || e.history.lostUpTo() > 0 {
		return nil
	}
	if _, ok := t.trusted(); !ok {
		e.distrust("another server or a new connection", nil)
		return e.catchUp(ctx)
	}
	if err := e.followChanges(ctx); err != nil {
		return err
	}
	if err := errors.Join(e.checkL3(ctx), e.sweepL2(ctx)); err != nil {
		return err
	}
	return e.moveMark(ctx)
}

// catchUp makes L2 trusted.
func (e *Engine) catchUp(ctx context.Context) error {
	unmarked := e.l2.unmarked.Swap(false)
	err := e.catchUpFrom(ctx, unmarked)
	if err != nil && unmarked {
		e.l2.unmarked.Store(true)
	}
	return err
}

// catchUpFrom is catchUp from the mark on, unless unmarked says that it means
// nothing.
func (e *Engine) catchUpFrom(ctx context.Context, unmarked bool) error {
	t := e.l2
	start := time.Now()
	faults := t.faults.Load()
	if err := e.nameL3(ctx); err != nil {
		return err
	}
	mark, found, generation, err := e.readMark()
	if err != nil {
		t.backend.circuit.Record(err)
		return fmt.Errorf("tiers: read the mark of L2: %w", err)
	}
	seq, known := mark.Seq, found && mark.L3 == t.id && !unmarked
	if known {
		if seq, err = e.walkAll(ctx, seq); errors.Is(err, l3.ErrChangesGone) {
			known = false
		} else if err != nil {
			return err
		}
	}
	forgotten := t.copies.overflowed()
	if !known || forgotten {
		var proof *proof
		if !known {
			if proof, seq, err = e.proveL2(ctx); err != nil {
				t.copies.forgot(forgotten)
				return err
			}
			e.metrics.l2Repairs.Inc()
			if kept, ok := t.compareLog.now(e.clock.UnixMilli()); ok {
				e.logger.Info("L2 has no mark of this L3: each copy is compared with it", "mark", found, "by_tree", proof != nil, "since_last_line", kept)
			}
		}
		if err := e.compareL2(ctx, !known, proof); err != nil {
			t.copies.forgot(forgotten)
			return fmt.Errorf("tiers: compare L2 with L3: %w", err)
		}
	}
	if err := e.sweepL2(ctx); err != nil {
		t.copies.forgot(forgotten)
		return err
	}
	if err := e.believe(ctx, seq, faults, generation); err != nil {
		t.copies.forgot(forgotten)
		return err
	}
	if kept, ok := t.trustLog.now(e.clock.UnixMilli()); ok {
		e.logger.Info("L2 is trusted", "change", t.seq, "took", time.Since(start), "since_last_line", kept)
	}
	signal(t.copies.wake)
	return e.moveMark(ctx)
}

// readMark reads the mark, and the generation of the server that it is of: the
// first contact, or one after an outage, begins a new one.
func (e *Engine) readMark() (mark l2.Mark, found bool, generation uint64, err error) {
	t := e.l2
	for range 3 {
		generation = t.store.Generation()
		limited, cancel := e.l2Context()
		mark, found, err = t.store.ReadMark(limited)
		cancel()
		if err != nil || t.store.Generation() == generation {
			break
		}
	}
	return mark, found, generation, err
}

// checkL3 asks whether L3 is still the one that it was when L2 was caught up, if
// it has changed since the last call.
func (e *Engine) checkL3(ctx context.Context) error {
	t := e.l2
	walked, was := t.walked.Load(), t.id
	if walked == t.checked {
		return nil
	}
	if err := e.nameL3(ctx); err != nil {
		return err
	}
	t.checked = walked
	if t.id != was {
		e.distrust("L3 is another one", fmt.Errorf("it was %s and is %s", was, t.id))
	}
	return nil
}

// nameL3 learns the identity of L3, which stands in a row of its own, and makes
// it if there is none: it goes where the data go, and all nodes find the same.
func (e *Engine) nameL3(ctx context.Context) error {
	name, err := e.nameOfL3(ctx)
	if err == nil {
		e.l2.id = name
	}
	return err
}

// nameOfL3 is nameL3, which keeps it for L2.
func (e *Engine) nameOfL3(ctx context.Context) (string, error) {
	key := item.AppendKey(nil, item.NamespaceInternal, "l3-identity")
	v, found, err := e.readL3(ctx, key)
	if err == nil && (!found || v.Kind() != item.KindPut) {
		if err = e.makeL3Name(ctx, key); err == nil {
			v, found, err = e.readL3(ctx, key) // another node may have been quicker
		}
	}
	switch {
	case err != nil:
		return "", fmt.Errorf("tiers: identity of L3: %w", err)
	case !found:
		return "", fmt.Errorf("tiers: identity of L3: %w: written and not seen", ErrUnavailable)
	}
	return string(v.Content()), nil
}

func (e *Engine) makeL3Name(ctx context.Context, key item.Key) error {
	u, err := uuid.NewV7()
	if err != nil {
		return err
	}
	stamp := e.clock.Stamp()
	it := item.Item{
		Kind: item.KindPut, Key: key, Tiers: item.L3, Version: stamp, ContentVersion: stamp, MetadataVersion: stamp,
		UpdatedAt: stamp.UnixMilli(), MIME: "text/plain", Content: []byte(u.String()),
	}
	it.Seal()
	ctx, cancel := context.WithTimeout(ctx, e.l3TimeoutNow())
	defer cancel()
	ops := []l3.Op{{Record: it.AppendTo(nil), If: func(head item.View) bool { return head == nil }}}
	if _, err := e.l3.Apply(ctx, ops, nil, make([]l3.Outcome, 1)); err != nil {
		e.l3Failed(err)
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return nil
}

// errFaults says that L2 did not stay as it was while it was caught up.
var errFaults = errors.New("tiers: a write to L2 failed, or its server changed, while it was caught up")

// believe takes the last step: with all writers of L2 waiting, it walks the last
// changes, pays what is owed, and trusts.
func (e *Engine) believe(ctx context.Context, seq, faults, generation uint64) error {
	t := e.l2
	t.writing.Lock()
	defer t.writing.Unlock()
	for more := true; more; {
		n, err := e.walkLocked(ctx, &seq, true)
		if err != nil {
			return err
		}
		more = n == walkPage
	}
	t.copies.forgetRecords()
	for t.copies.count.Load() > 0 {
		n, err := e.payLocked()
		if err != nil {
			t.faults.Add(1)
			t.backend.circuit.Record(err)
			return fmt.Errorf("tiers: drop what is out of date in L2: %w", err)
		}
		if n == 0 {
			break
		}
	}
	if t.faults.Load() != faults || t.store.Generation() != generation {
		return errFaults
	}
	t.seq, t.marked = seq, 0
	t.generation.Store(generation)
	t.token.Store(t.tokens.Add(1))
	return nil
}

// walkAll walks from a change to the last, a page at a time.
func (e *Engine) walkAll(ctx context.Context, seq uint64) (uint64, error) {
	for {
		e.l2.writing.Lock()
		n, err := e.walkLocked(ctx, &seq, true)
		e.l2.writing.Unlock()
		if err != nil || n < walkPage {
			return seq, err
		}
	}
}

// followChanges is walkAll for an L2 that is trusted.
func (e *Engine) followChanges(ctx context.Context) error {
	t := e.l2
	for {
		t.writing.Lock()
		n, err := 0, error(nil)
		if t.token.Load() != 0 {
			n, err = e.walkLocked(ctx, &t.seq, false)
		}
		t.writing.Unlock()
		if errors.Is(err, l3.ErrChangesGone) {
			if errors.Is(err, errRewritten) {
				t.unmarked.Store(true)
			}
			e.distrust("the changes that it lacks are gone", err)
		}
		if err != nil || n < walkPage {
			return err
		}
	}
}

// walkLocked applies up to walkPage changes after *seq to L2, and those of other
// nodes to L1, and moves *seq. Rules that it finds are left to sweepL2; again
// says that those of this node were perhaps not swept. writing is held.
func (e *Engine) walkLocked(ctx context.Context, seq *uint64, again bool) (int, error) {
	t := e.l2
	limited, cancel := context.WithTimeout(ctx, e.l3TimeoutNow())
	defer cancel()
	n, last := 0, *seq
	var ops []l2.Op
	read, err := e.changesAfter(limited, *seq, t.last, walkPage, func(c l3.Change) error {
		n++
		last = c.Seq
		if c.Op == l3.ChangeRule {
			e.meetRule(c.Rule, again)
			return nil
		}
		hash := e.hash(c.Key)
		own, inL2 := t.own.find(hash, c.Version)
		if !own && c.Op != l3.ChangeExpire {
			e.supersedeInL1(hash, c.Key, c.Version+1)
		}
		// On a shared L3 also what L2 has got from here: the read of another node
		// may have put an older row in its place since.
		if again || !inL2 || e.options.L3Shared {
			below := c.Version
			if c.Op == l3.ChangeExpire || again && e.options.L3Shared {
				below++ // see l2Op: of two rows of one version it may be the older
			}
			ops = append(ops, l2.Op{Kind: l2.OpDrop, Key: append(item.Key(nil), c.Key...), Version: below})
		}
		return nil
	})
	if err != nil {
		switch {
		case errors.Is(err, errRewritten):
			e.forgotten(*seq)
		case !errors.Is(err, l3.ErrChangesGone):
			e.l3Failed(err)
		}
		return 0, fmt.Errorf("tiers: changes for L2: %w", err)
	}
	out, err := e.applyL2(ops)
	for i := range out {
		if err == nil {
			err = out[i].Err
		}
	}
	if err != nil {
		e.l2Failed(err)
		return 0, fmt.Errorf("tiers: drop what is out of date in L2: %w", err)
	}
	*seq, t.last = last, read
	t.walked.Store(last)
	return n, nil
}

// supersedeInL1 drops what L1 holds of key below a version that another node has
// written. Reads under way are not promoted.
func (e *Engine) supersedeInL1(hash uint64, key item.Key, version item.Version) {
	s := e.pending.stripe(hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	e.pending.epoch(hash).Add(1)
	e.l1.Delete(hash, key, uint64(version)-1)
}

// meetRule makes a rule of the change sequence hold here, if it does not yet,
// until L2 is swept for it.
func (e *Engine) meetRule(r *item.Rule, again bool) {
	live, met := e.rules.meet(&liveRule{Rule: *r, inL3: true, sweptL2: e.l2 == nil})
	if !met {
		signal(e.sweep)
	} else if again {
		e.rules.update(func(l *liveRule) { l.sweptL2 = false }, live)
	}
}

// A sweep of L2 looks at every key there. Where nobody waits for it, there are
// pauses of l2SweepRest times its own time between two, of l2SweepLatest at most;
// meanwhile the rules hide what they cover.
const (
	l2SweepRest   = 9
	l2SweepLatest = time.Minute
)

// sweepL2 removes from L2 what the rules cover that it has not been swept for,
// all in one pass.
func (e *Engine) sweepL2(ctx context.Context) error {
	t := e.l2
	if err := t.sweeping.lock(ctx); err != nil {
		return err
	}
	defer t.sweeping.unlock()
	rules := e.rules.waiting(notSweptInL2)
	if len(rules) == 0 {
		return nil
	}
	// What was written to L2 without a look at them is there when this lock was
	// had once.
	t.writing.Lock()
	token := t.token.Load()
	t.writing.Unlock()
	index, begun := newRuleIndex(rules), e.clock.UnixMilli()
	_, dropped, err := t.store.Sweep(ctx, func(head item.View) bool {
		drop := false
		for r := range index.covering(head) {
			if r.Op != item.OpPurgeSoft || !refetchable(head) {
				r.countL2.Add(1)
				drop = true
			}
		}
		return drop
	})
	now := e.clock.UnixMilli()
	t.sweepAt.Store(now + min(l2SweepRest*(now-begun), l2SweepLatest.Milliseconds()))
	e.metrics.l2Swept.Add(int(dropped))
	if err != nil {
		if ctx.Err() == nil {
			e.l2Failed(err)
		}
		return fmt.Errorf("tiers: sweep of L2: %w", err)
	}
	if t.token.Load() != token {
		return errFaults
	}
	e.rules.update(func(r *liveRule) { r.sweptL2 = true }, rules...)
	return nil
}

// compareL2 drops from L2 every copy that is not what L3 holds, if rows is set,
// and every copy of what lives outside L3: nobody knows whether it was deleted. What
// proof, if there is one, says of a copy needs no look at the row.
func (e *Engine) compareL2(ctx context.Context, rows bool, proof *proof) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c := comparison{e: e, ctx: ctx, stop: cancel, proof: proof}
	before := e.clock.Stamp()
	_, _, err := e.l2.store.Sweep(ctx, func(head item.View) bool {
		if c.err != nil || head.Version() > before {
			return false
		}
		if head.Tiers()&item.L3 == 0 {
			return true
		}
		if rows {
			c.note(head)
		}
		return false
	})
	if c.err == nil {
		c.prove()
	}
	if c.err == nil {
		c.run()
	}
	return errors.Join(err, c.err)
}

// A comparison collects copies until they make one query of L3.
type comparison struct {
	e    *Engine
	ctx  context.Context
	keys []item.Key
	held []copyVersion
	stop func() // the sweep: what it finds cannot be compared
	err  error

	proof  *proof // nil: rows are asked for
	claims []claim
}

// A copyVersion is that of a row, which is its content's or its metadata's, and
// that of its content.
type copyVersion struct{ row, content item.Version }

func (c *comparison) note(head item.View) {
	key, held := append(item.Key(nil), head.Key()...), copyVersion{head.Version(), head.ContentVersion()}
	if c.proof == nil || key.Namespace() != item.NamespaceItem || head.Kind() != item.KindPut {
		c.ask(key, held)
		return
	}
	c.claims = append(c.claims, claim{key, held, merkle.LeafOf(head)})
	if len(c.claims) == comparePage {
		c.prove()
	}
}

// ask compares a copy with its row.
func (c *comparison) ask(key item.Key, held copyVersion) {
	c.keys, c.held = append(c.keys, key), append(c.held, held)
	if len(c.keys) == comparePage {
		c.run()
	}
}

// run compares what was collected. Copies of another version than the row's
// leave; so does one whose row is gone.
func (c *comparison) run() {
	if len(c.keys) == 0 || c.err != nil {
		return
	}
	c.e.metrics.l2Compared.Add(len(c.keys))
	ctx, cancel := context.WithTimeout(c.ctx, c.e.l3TimeoutNow())
	defer cancel()
	rows := make([]copyVersion, len(c.keys))
	c.err = c.e.l3.GetMany(ctx, c.keys, func(i int, v item.View) error {
		if v.Kind() == item.KindPut {
			rows[i] = copyVersion{v.Version(), v.ContentVersion()}
		}
		return nil
	})
	if c.err != nil {
		c.stop()
		c.e.l3Failed(c.err)
		return
	}
	var ops []l2.Op
	for i, key := range c.keys {
		if rows[i] != c.held[i] {
			ops = append(ops, l2.Op{Kind: l2.OpDrop, Key: key, Version: max(rows[i].row, c.held[i].row+1)})
		}
	}
	c.keys, c.held = c.keys[:0], c.held[:0]
	c.e.l2.writing.Lock()
	out, err := c.e.applyL2(ops)
	c.e.l2.writing.Unlock()
	for i := range out {
		if err == nil {
			err = out[i].Err
		}
	}
	c.err = err
	c.e.metrics.l2Repaired.Add(len(ops))
}

// moveMark tells L2 up to which change it is right, once it has been swept for
// every rule before.
func (e *Engine) moveMark(ctx context.Context) error {
	t := e.l2
	t.writing.Lock()
	defer t.writing.Unlock()
	if t.token.Load() == 0 || t.seq == t.marked && t.marked != 0 || len(e.rules.waiting(notSweptInL2)) > 0 {
		return nil
	}
	limited, cancel := e.l2Context()
	defer cancel()
	if err := t.store.WriteMark(limited, l2.Mark{L3: t.id, Seq: t.seq}, t.generation.Load()); err != nil {
		if errors.Is(err, l2.ErrGeneration) {
			e.distrust("another server or a new connection", err)
			return nil
		}
		t.backend.circuit.Record(err)
		return fmt.Errorf("tiers: write the mark of L2: %w", err)
	}
	t.marked = t.seq
	return nil
}
