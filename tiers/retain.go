package tiers

import (
	"context"
	"errors"
	"sort"
	"time"

	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/l3"
	"github.com/edgenode/edgenode/tiers/merkle"
)

// What L3 keeps for those who come late leaves after tombstone_retention, once
// every known node has applied it: changes, of which some always stay, tombstones
// and rules.

const (
	keptChanges  = 10_000 // changes that stay, however old
	trimPage     = 2000   // changes in one transaction
	forgetBudget = 300 * time.Millisecond
	// treeGrace is for how many retentions changes stay that the tree of hashes
	// lacks: one that nobody calculates must not keep them for ever.
	treeGrace = 2
)

// forget drops old rules from memory, and from L3 the changes, tombstones and
// rules that are past their retention, applied by every known node, and older than
// every record that a replay could still give: those must never find the field
// empty. It works for forgetBudget at most, and says whether there is more to do.
func (e *Engine) forget() (more bool) {
	now := e.clock.UnixMilli()
	ago := func(d time.Duration) item.Version { return item.VersionAt(now - d.Milliseconds()) }
	oldest := e.oldestPending()
	retention, lifetime := time.Duration(e.retention.Load()), time.Duration(e.maxLifetime.Load())
	e.rules.forget(min(ago(forgetAfter), oldest), ago(lifetime))
	if !e.l3Up() || !e.loaded.Load() {
		return false
	}
	if err := e.journal.Mark(); err != nil { // what was released is never replayed
		return false
	}
	ctx, cancel := context.WithTimeout(e.ctx, max(e.l3TimeoutNow(), 2*forgetBudget))
	defer cancel()
	f := forgetting{e: e, ctx: ctx, end: time.Now().Add(forgetBudget), cutoff: now - retention.Milliseconds(), treeCutoff: now - treeGrace*retention.Milliseconds()}
	if err := f.run(min(ago(retention), oldest), ago(lifetime)); err != nil && e.ctx.Err() == nil {
		e.logger.Warn("old changes, tombstones and rules stay in L3 until this is possible", "err", err)
		return false
	}
	return f.more
}

// forgetting is one call of forget.
type forgetting struct {
	e      *Engine
	ctx    context.Context
	end    time.Time
	cutoff int64 // Unix ms: what was stored later stays
	// treeCutoff is that of changes that the tree of hashes lacks.
	treeCutoff int64
	applied    uint64 // by every known node
	more       bool
}

func (f *forgetting) run(before, lifetime item.Version) error {
	if err := f.lookAtNodes(); err != nil {
		return err
	}
	storedBefore, err := f.storedBefore()
	if err != nil {
		return err
	}
	if err := f.trim(); err != nil {
		return err
	}
	f.repeat(func() bool {
		var n int
		n, err = f.e.l3.PurgeTombstones(f.ctx, before, storedBefore, expiryPage)
		return err == nil && n == expiryPage
	})
	if err != nil {
		return err
	}
	_, err = f.e.l3.DropRules(f.ctx, min(before, lifetime), storedBefore)
	return err
}

// repeat calls step until it says that nothing is left, or the time is up.
func (f *forgetting) repeat(step func() bool) {
	for step() {
		if f.ctx.Err() != nil || time.Now().After(f.end) {
			f.more = true
			return
		}
	}
}

// lookAtNodes learns what every known node has applied. A node is known until it
// is removed, or its lease is over for the retention.
func (f *forgetting) lookAtNodes() error {
	nodes, err := f.e.l3.Nodes(f.ctx)
	if err != nil {
		return err
	}
	f.applied = min(f.e.applied(), f.e.l3.LastSeq())
	for _, n := range nodes {
		if n.LeaseUntil > f.cutoff {
			f.applied = min(f.applied, n.AppliedSeq)
		}
	}
	return nil
}

// storedBefore returns the time before which tombstones and rules may go: the
// cutoff, or that of the first change that a known node has not applied.
func (f *forgetting) storedBefore() (int64, error) {
	at, err := f.changedAt(f.applied + 1)
	if err != nil || at == 0 {
		return f.cutoff, err
	}
	return min(f.cutoff, at-f.e.options.ClockSkewMax.Milliseconds()), nil
}

// changedAt returns when a change was made (Unix ms), or 0 if it is gone or yet to
// come.
func (f *forgetting) changedAt(seq uint64) (at int64, err error) {
	err = f.e.l3.Changes(f.ctx, seq-1, 1, func(c l3.Change) error {
		at = c.At
		return nil
	})
	if errors.Is(err, l3.ErrChangesGone) {
		err = nil
	}
	return at, err
}

// trim removes changes. The mark of L2 is never older than the retention unless
// Redis was away for longer; then its copies are compared with their rows. The tree
// of hashes is waited for: one that lacks changes is built anew, which reads all rows.
func (f *forgetting) trim() error {
	e := f.e
	from, to := e.trimmed, f.applied
	if last := e.l3.LastSeq(); last < uint64(e.keptChanges) {
		return nil
	} else if to = min(to, last-uint64(e.keptChanges)); to <= from {
		return nil
	}
	upTo, err := f.olderThan(f.cutoff, from, to)
	if err != nil || upTo == from {
		return err
	}
	upTo, unhashed, err := f.awaitTree(from, upTo)
	if err != nil || upTo == from {
		return err
	}
	left := true
	f.repeat(func() bool {
		var n int
		n, err = e.l3.TrimChanges(f.ctx, upTo, trimPage)
		e.metrics.trimmed.Add(n)
		left = n == trimPage
		return err == nil && left
	})
	if err == nil && !left {
		e.trimmed = upTo
		e.metrics.unhashed.Add(int(unhashed))
	}
	return err
}

// olderThan returns the last of the changes from+1 to to that was made before a
// time, from if none was.
func (f *forgetting) olderThan(cutoff int64, from, to uint64) (last uint64, err error) {
	n := sort.Search(int(to-from), func(i int) bool {
		if err != nil {
			return true
		}
		var at int64
		at, err = f.changedAt(from + 1 + uint64(i))
		return err != nil || at >= cutoff
	})
	return from + uint64(n), err
}

// awaitTree returns how much of the changes from+1 to upTo may go, and how many of
// them the tree of hashes lacks, though they have waited for it.
func (f *forgetting) awaitTree(from, upTo uint64) (to, unhashed uint64, err error) {
	if f.e.tree == nil {
		return upTo, 0, nil
	}
	p, err := f.e.tree.tree.Progress(f.ctx)
	if errors.Is(err, merkle.ErrCorrupt) || err == nil && (!p.Exists || p.Seq >= upTo) {
		return upTo, 0, nil // a damaged one is built anew anyway
	}
	if err != nil {
		return from, 0, err
	}
	at := max(p.Seq, from)
	if to, err = f.olderThan(f.treeCutoff, at, upTo); err != nil || to == at {
		return at, 0, err
	}
	if kept, ok := f.e.treeLeft.now(f.e.clock.UnixMilli()); ok {
		f.e.logger.Warn("changes go that the merkle tree lacks: it stands still for more than twice tombstone_retention, and will be built anew from all rows when a node calculates it",
			"tree", p.Seq, "trimmed", to, "since_last_line", kept)
	}
	return to, to - at, nil
}
