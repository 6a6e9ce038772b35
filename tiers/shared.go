package tiers

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/l3"
)

// Where other nodes write to the same L3, a condition on an item cannot be
// decided here: it is decided in the transaction that writes. What this node has
// pending of the id goes first. The write is committed in L3 when it is
// acknowledged; it needs no journal.

// errElsewhere says that the item lives where only this node's order decides: it
// is a dead letter, or lives outside L3.
var errElsewhere = errors.New("tiers: not an item of L3")

// sharedL3 reports whether conditions on key are decided in L3.
func (e *Engine) sharedL3(key item.Key) bool {
	return e.options.L3Shared && key.Namespace() == item.NamespaceItem
}

// decideInL3 is decide for a shared L3.
func (e *Engine) decideInL3(ctx context.Context, key item.Key, make func(h *Hit, ok bool) (*item.Item, error)) (Receipt, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, time.Duration(e.l3WaitMax.Load()),
		fmt.Errorf("%w: too many writes of other nodes came in between", ErrUnavailable))
	defer cancel()
	hash := e.hash(key)
	s := e.pending.stripe(hash)
	for {
		epoch, err := e.flushID(ctx, s, hash, key)
		if err != nil {
			return Receipt{}, err
		}
		r, err := e.tryInL3(ctx, s, hash, key, epoch, make)
		if !errors.Is(err, errChanged) {
			return r, err
		}
	}
}

// flushID waits until nothing of key is in flight, and flushes until nothing of
// it is pending. It returns the epoch of that moment.
func (e *Engine) flushID(ctx context.Context, s *stripe, hash uint64, key item.Key) (uint32, error) {
	for {
		if _, err := e.settled(ctx, s, hash, key); err != nil {
			return 0, err
		}
		s.mu.Lock()
		p, epoch := s.ids[string(key)], e.pending.epoch(hash).Load()
		buried := false
		if p != nil {
			r := p.newestLocked(awaitingL3)
			buried = r != nil && r.dead
		}
		s.mu.Unlock()
		switch {
		case p == nil:
			return epoch, nil
		case buried:
			return 0, errElsewhere
		}
		if _, err := e.flushBatch(context.WithoutCancel(ctx)); err != nil {
			return 0, fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
		if ctx.Err() != nil {
			return 0, context.Cause(ctx)
		}
	}
}

func (e *Engine) tryInL3(ctx context.Context, s *stripe, hash uint64, key item.Key, epoch uint32,
	make func(h *Hit, ok bool) (*item.Item, error)) (Receipt, error) {
	begun, err := e.rules.quiet(ctx)
	if err != nil {
		return Receipt{}, err
	}
	mark := e.rules.installed.Load()
	row, _, err := e.readL3(ctx, key)
	if err != nil {
		return Receipt{}, err
	}
	var h Hit
	ok := false
	if row != nil {
		if err := e.awaitPublished(hash, key, row); err != nil {
			return Receipt{}, err
		}
		e.observe(row.Version()) // what is stamped is above what was read
		e.l1.Delete(hash, key, uint64(row.Version())-1)
		h, ok = e.answer(row, FromL3, everyRule)
	}
	if !ok && e.livesAbove(ctx, hash, key, row) {
		return Receipt{}, errElsewhere
	}
	it, err := make(&h, ok)
	if err != nil {
		return Receipt{}, err
	}
	if it.Tiers&item.L3 == 0 {
		return Receipt{}, errElsewhere
	}
	if err := e.l3Writable(it.Durability); err != nil {
		return Receipt{}, err
	}
	wr, logged, err := e.stampInL3(s, hash, it, epoch, begun, mark)
	if err != nil {
		return Receipt{}, err
	}
	defer e.buffers.put(wr.pooled)
	r, err := e.commitInL3(ctx, wr, logged, row)
	if err == nil && ok {
		r.Existed = ExistedYes
	}
	return r, err
}

// livesAbove reports whether key is an item without L3 that is newer than row.
func (e *Engine) livesAbove(ctx context.Context, hash uint64, key item.Key, row item.View) bool {
	h, ok, err := e.getInside(ctx, hash, key, ReadOptions{})
	if err != nil || !ok {
		return false
	}
	defer h.Release()
	return h.View.Tiers()&item.L3 == 0 && (row == nil || h.View.Version() >= row.Version())
}

// stampInL3 gives it its version and makes the id busy, if nothing has changed
// since it was read.
func (e *Engine) stampInL3(s *stripe, hash uint64, it *item.Item, epoch uint32, begun, mark uint64) (underway, item.View, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e.rules.stamping.RLock()
	defer e.rules.stamping.RUnlock()
	if s.ids[string(it.Key)] != nil || e.rules.begun != begun || e.pending.epoch(hash).Load() != epoch || e.rules.installed.Load() != mark {
		return underway{}, nil, errChanged
	}
	if err := e.reserve(pendingIDBytes + int64(len(it.Key))); err != nil && it.Kind != item.KindTombstone {
		return underway{}, nil, err
	}
	if err := e.stampFetched(hash, it); err != nil {
		return underway{}, nil, err
	}
	wr := underway{hash: hash, it: it, pooled: e.buffers.get()}
	logged := item.View(wr.encode())
	wr.entry = pendingRecord{
		version: it.Version, content: it.ContentVersion, alive: e.clock.UnixMilli(), size: uint32(len(logged)), kind: it.Kind, tiers: it.Tiers, memory: true,
	}
	e.pending.addLocked(s, hash, it.Key, wr.entry)
	return wr, logged, nil
}

// commitInL3 writes what wr carries if the row is still as it was read.
func (e *Engine) commitInL3(ctx context.Context, wr underway, logged, row item.View) (Receipt, error) {
	it := wr.it
	// The transaction may outlive the caller, who is then told that the fate of
	// the write is unknown.
	limited, cancel := context.WithTimeout(ctx, time.Duration(e.applyTimeout.Load()))
	defer cancel()
	out := make([]l3.Outcome, 1)
	_, err := e.l3.Apply(limited, []l3.Op{{Record: logged, If: func(head item.View) bool { return sameRow(head, row) }}}, nil, out)
	f := flushItem{p: &pendingID{key: string(it.Key), hash: wr.hash}, upTo: it.Version, record: logged}
	switch {
	case errors.Is(err, l3.ErrRejected):
		err = fmt.Errorf("%w: %w", ErrRefused, err)
	case err != nil:
		e.l3Failed(err)
		e.doubt(wr)
		err = fmt.Errorf("%w: %w: %w", ErrUnknownFate, ErrUnavailable, err)
	case out[0].Refused:
		// A newer row, or a rule of another node: what is stamped next is above.
		e.l3Answered()
		e.observe(e.l3.MaxVersion())
		err = errChanged
	case !f.settled(&out[0]):
		e.doubt(wr)
		err = fmt.Errorf("%w: L3 took the row and does not show it", ErrUnknownFate)
	}
	if err != nil {
		e.settle(wr, err)
		return Receipt{}, err
	}
	e.l3Answered()
	e.noteOwn([]flushItem{f}, out)
	if it.Kind != item.KindTombstone {
		e.seen(it.Key) // before the id leaves pending
	}
	if e.l2 != nil {
		e.tryCopyFlushed([]flushItem{f}, out)
	}
	e.settleInL3(wr)
	level := item.DurabilityL3
	if ok, _ := e.l3Durable(); !ok {
		level = item.DurabilityJournal // survives the server's end, not a power loss
	}
	e.metrics.acknowledged[level].Inc()
	return Receipt{Version: it.Version, ETag: it.ETag, Persisted: level, Existed: ExistedNo}, nil
}

// sameRow reports whether head, the live row in the transaction or nil, is what
// was read before: row, which may be nil, a tombstone, over, or hidden.
func sameRow(head, row item.View) bool {
	if head == nil {
		return row == nil || row.Kind() == item.KindTombstone
	}
	return row != nil && row.Kind() == item.KindPut && head.Version() == row.Version() &&
		head.ContentVersion() == row.ContentVersion() && head.ContentHash() == row.ContentHash()
}

// doubt lets no copy stand that a write may have replaced.
func (e *Engine) doubt(wr underway) {
	e.supersedeInL1(wr.hash, wr.it.Key, wr.it.Version)
	if e.l2 != nil {
		e.l2.tell(l2Copy{key: string(wr.it.Key), hash: wr.hash, version: wr.it.Version}, e)
	}
}

// settleInL3 publishes what L3 holds now, and ends its flight.
func (e *Engine) settleInL3(wr underway) {
	s := e.pending.stripe(wr.hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.settled.Broadcast()
	p := s.ids[string(wr.it.Key)]
	if p == nil {
		return
	}
	r := p.findLocked(wr.it.Version)
	if r == nil {
		return // a newer write has been flushed meanwhile
	}
	r.phase = visible
	if p.newestLocked(visible) == r {
		e.publishLocked(wr.hash, wr.it, wr.record)
	}
	e.pending.dropLocked(s, p, func(r *pendingRecord) bool { return r.version == wr.it.Version }, e.release)
}
