package tiers

import (
	"context"
	"fmt"

	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/l2"
	"github.com/edgenode/edgenode/tiers/l3"
)

// The flusher's part of L2: after a batch is committed in L3 and before its ids
// leave pending, L2 gets what the rows now hold, or loses the key. So a read
// that does not find an id in pending finds in a trusted L2 the newest version
// or none.

// copyFlushed carries the outcome of a batch to L2. If that fails, L2 is not
// trusted any more, and the walk along L3's changes will find the ids. What
// lives outside L3 is not among the changes: a tombstone of its version is
// written to L3, so that it is. An error means that this failed too: then
// nothing of the batch may leave pending.
func (e *Engine) copyFlushed(ctx context.Context, items []flushItem, out []l3.Outcome) error {
	if e.l2 == nil {
		return nil
	}
	if e.tryCopyFlushed(items, out) {
		return nil
	}
	var ops []l3.Op
	for i := range items {
		// What was written without condition is among the changes already.
		if it := &items[i]; it.conditional && out[i].Refused {
			ops = append(ops, l3.Op{Record: tombstoneOf(it.record, max(it.upTo, it.record.Version()))})
		}
	}
	if len(ops) == 0 {
		return nil
	}
	if _, err := e.l3.Apply(ctx, ops, nil, make([]l3.Outcome, len(ops))); err != nil {
		return fmt.Errorf("tiers: note in L3 what L2 did not get: %w", err)
	}
	return nil
}

// tryCopyFlushed writes to L2 if it is trusted, and reports whether L2 is right
// afterwards as far as items go.
func (e *Engine) tryCopyFlushed(items []flushItem, out []l3.Outcome) bool {
	t := e.l2
	t.writing.Lock()
	defer t.writing.Unlock()
	// Under the lock: whoever makes L2 trusted has seen the changes of this batch
	// if it does so before, and waits if it does so after.
	ok := t.token.Load() != 0
	if ok {
		ok = e.sendFlushed(items, out)
	}
	for i := range items {
		it := &items[i]
		inL2 := ok && !it.refused
		t.own.note(it.p.hash, it.upTo, inL2)
		if v := out[i].Version; v != it.upTo && out[i].Won {
			t.own.note(it.p.hash, v, inL2)
		}
	}
	return ok
}

// sendFlushed writes the batch to L2; writing is held.
func (e *Engine) sendFlushed(items []flushItem, out []l3.Outcome) bool {
	t := e.l2
	ops := make([]l2.Op, 0, len(items))
	of := make([]*flushItem, 0, len(items))
	for i := range items {
		if it := &items[i]; it.settled(&out[i]) {
			ops, of = append(ops, e.l2Op(it, &out[i])), append(of, it)
		}
	}
	results, err := e.applyL2(ops)
	if err != nil {
		e.l2Failed(err)
		return false
	}
	for i := range results {
		if results[i].Err == nil {
			continue
		}
		// Refused for what it is, or for want of memory: what is older must go. The
		// walk sees to it too, before the mark passes it.
		e.metrics.l2Refused.Inc()
		of[i].refused = true
		if !t.copies.push(l2Copy{key: of[i].p.key, hash: of[i].p.hash, version: max(of[i].upTo, ops[i].Version)}) {
			e.l2Failed(results[i].Err)
			return false
		}
		signal(t.copies.wake)
	}
	return true
}

// l2Op decides what L2 is told about an id of a batch: the record if the row is
// exactly that, a tombstone for a delete, else that everything below what the
// row holds is to go.
func (e *Engine) l2Op(it *flushItem, out *l3.Outcome) l2.Op {
	v, key := it.record, item.Key(it.p.key)
	drop := func(below item.Version) l2.Op { return l2.Op{Kind: l2.OpDrop, Key: key, Version: below} }
	inL3 := v.Tiers()&item.L3 != 0
	switch {
	case v.Kind() == item.KindMetadata:
		return drop(max(out.Version, it.upTo+1))
	case out.Version > max(it.upTo, v.Version()) && out.ContentVersion == v.ContentVersion():
		// Ours below a change of metadata by another node: the row had this version
		// before, with the older content.
		return drop(out.Version + 1)
	case out.Version > max(it.upTo, v.Version()):
		return drop(out.Version) // another node's write is newer
	case inL3 && out.Refused && !it.conditional:
		return drop(it.upTo + 1) // by a rule
	case v.Kind() == item.KindTombstone:
		return l2.Op{Kind: l2.OpTombstone, Record: v, Key: key, Version: v.Version()}
	case inL3 && (!out.Won || out.Version != v.Version() || out.ContentVersion != v.ContentVersion()):
		return drop(max(out.Version, it.upTo+1))
	case v.Tiers()&item.L2 == 0:
		return drop(v.Version())
	}
	if c := e.rules.covers(v, everyRule); c.deleted || c.purged || c.stale {
		return drop(v.Version() + 1)
	}
	return l2.Op{Kind: l2.OpPut, Record: v, Key: key, Version: v.Version()}
}
