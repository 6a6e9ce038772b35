package tiers

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/pressure"
)

// Conditional writes and metadata changes read before they write. They are
// decided one at a time per id: nothing of the id may be in flight, and nothing
// may have been published between the read and the append, else the read is
// done again.

// CompareAndSubmit stores w if c holds for the present item, else it returns
// ErrPrecondition. It is Submit with w.If set to c. With Options.L3Shared the
// condition is decided in L3, and without L3 the error is ErrUnavailable.
func (e *Engine) CompareAndSubmit(ctx context.Context, c *Condition, w *Write) (Receipt, error) {
	conditional := *w
	conditional.If = c
	return e.Submit(ctx, &conditional)
}

// submitIf carries a put or delete through the write path if c holds.
func (e *Engine) submitIf(ctx context.Context, it *item.Item, c *Condition) (Receipt, error) {
	return e.decide(ctx, it.Key, func(h *Hit, ok bool) (*item.Item, error) {
		if !c.holds(h, ok) {
			return nil, ErrPrecondition
		}
		if it.Kind == item.KindTombstone {
			return it, nil
		}
		op := pressure.Put
		if ok {
			op = pressure.Conditional
		}
		return it, e.admit(op)
	})
}

// Change changes state, tags or expiry of the item of key and leaves its
// content and entity tag. The item must exist: ErrNoItem if it does not,
// ErrStateUnknown if only L3 could tell and cannot be asked.
func (e *Engine) Change(ctx context.Context, key item.Key, c MetadataChange) (Receipt, error) {
	if err := e.enterWrite(); err != nil {
		return Receipt{}, err
	}
	defer e.leave()
	if err := c.check(); err != nil {
		return Receipt{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if err := e.admit(pressure.Change); err != nil {
		return Receipt{}, err
	}
	return e.decide(ctx, key, func(h *Hit, ok bool) (*item.Item, error) {
		if !c.If.holds(h, ok) {
			return nil, ErrPrecondition
		}
		if !ok {
			return nil, ErrNoItem
		}
		it := h.View.Item()
		it.Key = key // outlives the view
		it.Kind = item.KindMetadata
		it.Version = 0
		it.Durability = e.durability(c.Durability)
		if it.Tiers&item.L3 == 0 {
			it.Durability = item.DurabilityMemory
		}
		c.apply(&it, e.clock.UnixMilli())
		if c.Tags != nil && e.rules.coversFetch(key, it.Tags, it.ContentVersion) {
			// A bulk delete of one of the new tags, older than this change, would
			// cover the content: it gets a version of its own.
			it.Kind = item.KindPut
		}
		return &it, nil
	})
}

func (c *MetadataChange) check() error {
	var errs []error
	if c.State != nil {
		errs = append(errs, item.CheckState(*c.State))
	}
	if c.Tags != nil {
		errs = append(errs, item.CheckTags(*c.Tags))
	}
	if c.TTL != nil && *c.TTL < 0 {
		errs = append(errs, errors.New("a lifetime below zero"))
	}
	return errors.Join(errs...)
}

func (c *MetadataChange) apply(it *item.Item, nowMilli int64) {
	if c.State != nil {
		it.State = *c.State
	}
	if c.Tags != nil {
		it.Tags = slices.Clone(*c.Tags)
	}
	if c.TTL != nil {
		it.ExpiresAt = 0
		if *c.TTL > 0 {
			it.ExpiresAt = nowMilli + c.TTL.Milliseconds()
		}
	}
}

// decide reads the present item of key, asks make what to write, and writes
// that if nothing changed meanwhile; else it begins again. make may be called
// several times; the hit is valid until it returns and the write is stamped.
func (e *Engine) decide(ctx context.Context, key item.Key, make func(h *Hit, ok bool) (*item.Item, error)) (Receipt, error) {
	if err := key.Check(); err != nil {
		return Receipt{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if e.sharedL3(key) {
		if r, err := e.decideInL3(ctx, key, make); !errors.Is(err, errElsewhere) {
			return r, err
		}
	}
	hash := e.hash(key)
	s := e.pending.stripe(hash)
	for {
		epoch, err := e.settled(ctx, s, hash, key)
		if err != nil {
			return Receipt{}, err
		}
		wr, existed, err := e.tryDecide(ctx, s, hash, key, epoch, make)
		if errors.Is(err, errChanged) {
			continue
		}
		if err != nil {
			return Receipt{}, err
		}
		r, err := e.complete(ctx, wr)
		r.Existed = existed
		return r, err
	}
}

// errChanged says that the id changed between read and write.
var errChanged = errors.New("tiers: changed meanwhile")

func (e *Engine) tryDecide(ctx context.Context, s *stripe, hash uint64, key item.Key, epoch uint32,
	make func(h *Hit, ok bool) (*item.Item, error)) (underway, Existence, error) {
	begun, err := e.rules.quiet(ctx)
	if err != nil {
		return underway{}, 0, err
	}
	mark := e.rules.installed.Load()
	h, ok, err := e.getInside(ctx, hash, key, ReadOptions{Sure: true})
	if errors.Is(err, ErrUnavailable) {
		return underway{}, 0, fmt.Errorf("%w: %w", ErrStateUnknown, err)
	}
	if err != nil {
		return underway{}, 0, err
	}
	existed := ExistedNo
	if ok {
		existed = ExistedYes
		defer h.Release()
	}
	it, err := make(&h, ok)
	if err != nil {
		return underway{}, 0, err
	}
	if err := e.l3Writable(it.Durability); err != nil {
		return underway{}, 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	e.rules.stamping.RLock()
	defer e.rules.stamping.RUnlock()
	if s.busyLocked(key) || e.rules.begun != begun ||
		e.pending.epoch(hash).Load() != epoch || e.rules.installed.Load() != mark {
		return underway{}, 0, errChanged
	}
	if it.Kind == item.KindMetadata && it.Durability > item.DurabilityMemory && s.contentInMemoryLocked(key) {
		it.Kind = item.KindPut // its content must be as durable as the change
	}
	now := e.clock.UnixMilli() // under the lock: see expireRows
	if it.Kind == item.KindMetadata && h.View.Expired(now) {
		return underway{}, 0, errChanged
	}
	wr, err := e.stampLocked(s, hash, it, now)
	return wr, existed, err
}

// contentInMemoryLocked reports whether the content of key is pending and in no
// journal.
func (s *stripe) contentInMemoryLocked(key item.Key) bool {
	p := s.ids[string(key)]
	if p == nil {
		return false
	}
	r := p.newestLocked(visible)
	if r == nil {
		return false
	}
	base := p.contentLocked(r)
	return base != nil && base.memory
}

// settled waits until no write of key is in flight and returns the epoch of
// that moment. A write may be in flight as long as L3 is down: the wait is as
// short as one for a read of L3.
func (e *Engine) settled(ctx context.Context, s *stripe, hash uint64, key item.Key) (uint32, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.busyLocked(key) && ctx.Err() == nil && !e.isClosing() {
		return e.pending.epoch(hash).Load(), nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, e.l3TimeoutNow(),
		fmt.Errorf("%w: a write of it waits for L3: %w", ErrStateUnknown, ErrUnavailable))
	defer cancel()
	defer context.AfterFunc(ctx, func() {
		s.mu.Lock()
		s.settled.Broadcast()
		s.mu.Unlock()
	})()
	for ; ; s.settled.Wait() {
		if ctx.Err() != nil {
			return 0, context.Cause(ctx)
		}
		if e.isClosing() {
			return 0, ErrShuttingDown
		}
		if !s.busyLocked(key) {
			return e.pending.epoch(hash).Load(), nil
		}
	}
}

// awaitPublished waits while v, read from L2 or L3, is a write of this node that
// is committed there and not yet published here. Until then others may still be
// answered with what it replaces; who has told of v before would see time go
// back. The wait is that of the few steps between commit and publication.
func (e *Engine) awaitPublished(hash uint64, key item.Key, v item.View) error {
	s := e.pending.stripe(hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.unpublishedLocked(key, v.Version()) {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), e.l3TimeoutNow())
	defer cancel()
	defer context.AfterFunc(ctx, func() {
		s.mu.Lock()
		s.settled.Broadcast()
		s.mu.Unlock()
	})()
	for s.unpublishedLocked(key, v.Version()) {
		if ctx.Err() != nil || e.isClosing() {
			return fmt.Errorf("%w: its newest version is being committed", ErrUnavailable)
		}
		s.settled.Wait()
	}
	return nil
}

// holds reports whether c holds for the present item.
func (c *Condition) holds(h *Hit, ok bool) bool {
	if c.None() {
		return true
	}
	if c.NeverMatch || c.MatchAny && !ok || c.NoneAny && ok {
		return false
	}
	var tag item.ETag
	var version item.Version
	if ok {
		tag, version = h.View.ETag(), h.View.Version()
	}
	if c.Match != nil && !(ok && slices.Contains(c.Match, tag)) {
		return false
	}
	if c.NoneMatch != nil && ok && slices.Contains(c.NoneMatch, tag) {
		return false
	}
	return c.Version == 0 || ok && c.Version == version
}

// GetOrInsert returns the item of key, or stores what fill returns and returns
// that. One fill per id runs at a time on this node; it is used only if the
// item is still absent then. The content of a Hit returned for an insert shares
// memory with what fill returned.
func (e *Engine) GetOrInsert(ctx context.Context, key item.Key, fill func(context.Context) (*Write, error)) (Hit, bool, error) {
	h, ok, err := e.Get(ctx, key, ReadOptions{Sure: true})
	if ok || err != nil {
		return h, false, err
	}
	unlock, err := e.inserts.lock(ctx, string(key))
	if err != nil {
		return Hit{}, false, err
	}
	defer unlock()
	if h, ok, err := e.Get(ctx, key, ReadOptions{Sure: true}); ok || err != nil {
		return h, false, err
	}
	w, err := fill(ctx)
	if err != nil {
		return Hit{}, false, err
	}
	w.Key = key
	_, err = e.CompareAndSubmit(ctx, &Condition{NoneAny: true}, w)
	inserted := err == nil
	if err != nil && !errors.Is(err, ErrPrecondition) {
		return Hit{}, false, err
	}
	h, ok, err = e.Get(ctx, key, ReadOptions{Sure: true})
	if err == nil && !ok {
		err = fmt.Errorf("%w: gone right after its insert", ErrNoItem)
	}
	return h, inserted, err
}

// keyedLocks lets one caller per key through at a time.
type keyedLocks struct{ flights flights }

// lock waits for the key and returns what gives it back.
func (k *keyedLocks) lock(ctx context.Context, key string) (unlock func(), err error) {
	for {
		f, leader := k.flights.join(flightKey{key: key}, 0)
		if leader {
			return func() { k.flights.finish(flightKey{key: key}, f) }, nil
		}
		if f == nil {
			return nil, ErrBusy
		}
		select {
		case <-f.done:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}
