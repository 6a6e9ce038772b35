package tiers

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/l1"
	"github.com/edgenode/edgenode/tiers/pressure"
)

// The read path: rules, L1, pending, L2, filter, L3. A tier that fails is never "not
// found".

// A Hit is a found item. View is valid until Release, which the caller must
// call exactly once.
type Hit struct {
	View   item.View
	Source Source
	Stale  bool // purged softly: usable only where a stale answer is

	pin    l1.Pin
	pinned bool
}

// Release ends the use of View.
func (h *Hit) Release() {
	if h.pinned {
		h.pinned = false
		h.pin.Release()
	}
	h.View = nil
}

// Get returns the item of key. The second result is false if there is none;
// when no tier can tell, the error wraps ErrUnavailable. A hit in L1 allocates
// nothing and does not look at ctx.
func (e *Engine) Get(ctx context.Context, key item.Key, o ReadOptions) (h Hit, ok bool, err error) {
	h, ok, err = e.get(ctx, key, o)
	e.metrics.read(&h, ok, err)
	return h, ok, err
}

// GetVerified is Get with ReadOptions.Verify.
func (e *Engine) GetVerified(ctx context.Context, key item.Key) (Hit, bool, error) {
	return e.Get(ctx, key, ReadOptions{Verify: true})
}

// Contains reports whether the item of key exists. It asks every tier that it
// needs; an error is not "no".
func (e *Engine) Contains(ctx context.Context, key item.Key) (bool, error) {
	h, ok, err := e.Get(ctx, key, ReadOptions{Sure: true})
	if ok {
		h.Release()
	}
	return ok, err
}

// IsCurrent reports whether the item of key exists and its content has the
// given SHA-256.
func (e *Engine) IsCurrent(ctx context.Context, key item.Key, hash [sha256.Size]byte) (bool, error) {
	h, ok, err := e.Get(ctx, key, ReadOptions{Sure: true})
	if !ok {
		return false, err
	}
	defer h.Release()
	return h.View.ContentHash() == hash, nil
}

// get is Get, uncounted.
func (e *Engine) get(ctx context.Context, key item.Key, o ReadOptions) (h Hit, ok bool, err error) {
	hash, now := e.hash(key), o.Now
	if now == 0 {
		now = e.clock.UnixMilli()
	}
	if e.intoFromL1(&h, hash, key, now) && !o.Verify && o.MinVersion <= h.View.Version() {
		return h, true, nil
	}
	return e.further(ctx, hash, key, h, o)
}

// further is get after the look at L1, which had h unless that has no View.
func (e *Engine) further(ctx context.Context, hash uint64, key item.Key, h Hit, o ReadOptions) (Hit, bool, error) {
	held := item.Version(0)
	if h.View != nil {
		if o.MinVersion <= h.View.Version() {
			return e.demand(hash, h, o)
		}
		held = h.View.Version()
		h.Release() // another node may have written a newer one
	}
	if err := e.enterRead(); err != nil {
		return Hit{}, false, err
	}
	defer e.leave()
	h, ok, err := e.below(ctx, hash, key, o)
	if !ok && err == nil && held != 0 {
		return Hit{}, false, tooOld(o.MinVersion, held)
	}
	if !ok || err != nil {
		return Hit{}, false, err
	}
	return e.demand(hash, h, o)
}

func tooOld(want, newest item.Version) error {
	return fmt.Errorf("%w: asked for %s, newest is %s", ErrTooOld, want, newest)
}

// fromL1 answers from memory, as of now (Unix ms), unless a rule hides the entry.
func (e *Engine) fromL1(hash uint64, key item.Key, now int64) (h Hit, ok bool) {
	ok = e.intoFromL1(&h, hash, key, now)
	return h, ok
}

// intoFromL1 is fromL1 to h, which is zero, and stays so if there is nothing.
func (e *Engine) intoFromL1(h *Hit, hash uint64, key item.Key, now int64) bool {
	newest := e.rules.unsweptL1.Load() // before the look: a sweep may end after it, and say so
	var ok bool
	if h.pin, ok = e.l1.Get(hash, key, now); !ok {
		return false
	}
	h.View, h.Source, h.Stale, h.pinned = item.View(h.pin.Bytes()), FromL1, h.pin.Stale(), true
	if uint64(h.View.ContentVersion()) < newest && !e.passes(h, everyRule) {
		h.Release()
		*h = Hit{}
		return false
	}
	return true
}

// passes applies rules to what L1 had: those that it has not been swept for, or all
// if one of these may have been swept for since.
func (e *Engine) passes(h *Hit, relevant func(*liveRule) bool) bool {
	c := e.rules.covers(h.View, relevant)
	h.Stale = h.Stale || c.stale
	return !c.deleted && !c.purged && !(c.stale && h.View.Key().Namespace() == item.NamespaceItem)
}

// hiddenInL1 reports whether a rule hides the L1 entry v.
func (e *Engine) hiddenInL1(v item.View) bool {
	h := Hit{View: v}
	return !e.passes(&h, notInL1)
}

// demand checks what o asks of a found item.
func (e *Engine) demand(hash uint64, h Hit, o ReadOptions) (Hit, bool, error) {
	if got := h.View.Version(); got < o.MinVersion {
		h.Release()
		return Hit{}, false, tooOld(o.MinVersion, got)
	}
	if o.Verify && sha256.Sum256(h.View.Content()) != h.View.ContentHash() {
		key, version, source := append(item.Key(nil), h.View.Key()...), h.View.Version(), h.Source
		h.Release()
		e.l1.Delete(hash, key, uint64(version))
		e.metrics.corrupt(source)
		e.logger.Error("content does not match its hash", "id", key.ID(), "version", version, "tier", source)
		return Hit{}, false, fmt.Errorf("%w: version %s in %s", ErrCorrupt, version, source)
	}
	return h, true, nil
}

// below reads pending, then L2, then L3; and once more for every rule that hides
// what it has read and came meanwhile.
func (e *Engine) below(ctx context.Context, hash uint64, key item.Key, o ReadOptions) (Hit, bool, error) {
	for {
		h, found, err := e.tryBelow(ctx, hash, key, o)
		switch {
		case !errors.Is(err, errHidden):
			return h, found, err
		case ctx.Err() != nil:
			return Hit{}, false, context.Cause(ctx)
		}
	}
}

func (e *Engine) tryBelow(ctx context.Context, hash uint64, key item.Key, o ReadOptions) (Hit, bool, error) {
	// Noted before the look at pending: what is published after that look must
	// count as published since.
	epoch := e.pending.epoch(hash).Load()
	h, found, pending, err := e.fromPending(ctx, hash, key)
	switch {
	case pending && err == nil && found && h.View.Version() < o.MinVersion && readsL3(key, o):
		return e.newerInL3(ctx, hash, key, h)
	case pending || err != nil:
		return h, found, err
	case e.l2 == nil && (!readsL3(key, o) || e.missing(key, o)):
		return Hit{}, false, nil
	}
	k := flightKey{key: string(key), epoch: epoch, rules: e.rules.installed.Load(), inL3: readsL3(key, o), sure: o.sure()}
	h, found, err = e.fromFlight(ctx, hash, k)
	if found && h.Source == FromL2 && !e.satisfies(hash, &h, o) || !found && err == nil && o.MinVersion > 0 && e.l2 != nil {
		// L3 may have it newer, or whole.
		if k.fresh, k.sure = true, true; !k.inL3 {
			return Hit{}, false, nil
		}
		return e.fromFlight(ctx, hash, k)
	}
	return h, found, err
}

// newerInL3 returns what L3 holds of key if that is newer than h, which is
// pending here.
func (e *Engine) newerInL3(ctx context.Context, hash uint64, key item.Key, h Hit) (Hit, bool, error) {
	v, ok, err := e.readL3(ctx, key)
	if err != nil {
		return Hit{}, false, err
	}
	if !ok || v.Version() <= h.View.Version() {
		return h, true, nil
	}
	if err := e.awaitPublished(hash, key, v); err != nil {
		return Hit{}, false, err
	}
	newer, found := e.answer(v, FromL3, everyRule)
	return newer, found, nil
}

// satisfies reports whether a copy of L2 is what o asks for. One that is damaged
// leaves L2.
func (e *Engine) satisfies(hash uint64, h *Hit, o ReadOptions) bool {
	if h.View.Version() < o.MinVersion {
		return false
	}
	if !o.Verify || sha256.Sum256(h.View.Content()) == h.View.ContentHash() {
		return true
	}
	key, version := h.View.Key(), h.View.Version()
	e.l1.Delete(hash, key, uint64(version))
	e.metrics.corrupt(FromL2)
	e.logger.Error("content does not match its hash; the copy is dropped", "id", key.ID(), "version", version, "tier", FromL2)
	e.dropCorrupt(key, version)
	return false
}

// readsL3 reports whether L3 may hold key. Stored answers live there only on
// sites that say so; for items a choice of tiers never hides a newer version.
func readsL3(key item.Key, o ReadOptions) bool {
	return key.Namespace() == item.NamespaceItem || o.Tiers&item.L3 != 0
}

// errHidden says that a rule which came during the read covers what was read.
// Something newer may have come before that rule: who reads again finds it, or
// that there is nothing.
var errHidden = errors.New("tiers: a bulk delete came while it was read")

// errMoved says that a record left pending while it was read.
var errMoved = errors.New("tiers: flushed while it was read")

// A pendingCopy is what is read of an id under its stripe's lock.
type pendingCopy struct {
	newest, content pendingRecord
	hasContent      bool   // content is set
	memory          []byte // of newest, or of content
	contentMemory   []byte
	replayed        bool
	epoch           uint32
}

func (e *Engine) copyPending(hash uint64, key item.Key) (c pendingCopy, ok bool) {
	s := e.pending.stripe(hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	c.epoch = e.pending.epoch(hash).Load()
	p := s.ids[string(key)]
	if p == nil {
		return c, false
	}
	r := p.newestLocked(visible)
	if r == nil {
		return c, false
	}
	c.newest, c.replayed, c.memory = *r, p.replayed, s.memory[recordID{p.key, r.version}]
	if base := p.contentLocked(r); base != nil {
		c.content, c.hasContent, c.contentMemory = *base, true, s.memory[recordID{p.key, base.version}]
	}
	return c, true
}

// fromPending answers from what L3 does not hold yet. pending is false if key
// is not pending. It begins again when the record has left pending between the
// look-up and the read.
func (e *Engine) fromPending(ctx context.Context, hash uint64, key item.Key) (h Hit, found, pending bool, err error) {
	for range 4 {
		if h, found, pending, err = e.tryPending(ctx, hash, key); !errors.Is(err, errMoved) {
			return h, found, pending, err
		}
	}
	return Hit{}, false, true, fmt.Errorf("tiers: pending record of %q: %w", key.Own(), err)
}

func (e *Engine) tryPending(ctx context.Context, hash uint64, key item.Key) (h Hit, found, pending bool, err error) {
	c, ok := e.copyPending(hash, key)
	if !ok {
		return Hit{}, false, false, nil
	}
	v, err := e.assemble(ctx, key, &c)
	if err != nil {
		return Hit{}, false, true, err
	}
	if c.replayed && e.l3Up() {
		// After a crash L3 may hold a newer version than the journal's rest.
		v = e.newerOf(ctx, key, v)
	}
	if v.Version() != c.newest.version {
		if err := e.awaitPublished(hash, key, v); err != nil {
			return Hit{}, false, true, err
		}
	}
	h, found = e.answer(v, FromPending, everyRule)
	switch {
	case found:
		e.promote(hash, key, h.View, c.epoch)
	case v.Kind() != item.KindTombstone && e.pending.epoch(hash).Load() != c.epoch:
		return Hit{}, false, true, errMoved // a rule may hide it, and not what came since
	}
	return h, found, true, nil
}

// assemble reads the bytes of a pending id: its newest record and, if that
// changes metadata only, the content that belongs to it.
func (e *Engine) assemble(ctx context.Context, key item.Key, c *pendingCopy) (item.View, error) {
	newest, err := e.recordBytes(nil, c.newest, c.memory)
	if err != nil || c.newest.kind != item.KindMetadata {
		return newest, err
	}
	if c.hasContent {
		base, err := e.recordBytes(nil, c.content, c.contentMemory)
		if err != nil {
			return nil, err
		}
		return mergeMetadata(base, newest), nil
	}
	base, ok, err := e.readL3(ctx, key)
	if err != nil {
		return nil, err
	}
	if !ok || base.Kind() == item.KindTombstone {
		return tombstoneOf(newest, c.newest.version), nil // deleted elsewhere: there is nothing to change
	}
	return mergeMetadata(base, newest), nil
}

// recordBytes appends the record of r to dst and returns it alone.
func (e *Engine) recordBytes(dst []byte, r pendingRecord, memory []byte) (item.View, error) {
	if r.memory {
		if memory == nil {
			return nil, errMoved
		}
		b := append(dst, memory...)
		return item.View(b[len(dst):]), nil
	}
	from := e.journal
	if r.dead {
		from = e.dead
	}
	b, err := from.ReadAt(dst, r.pos)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errMoved, err)
	}
	return item.Parse(b[len(dst):])
}

// mergeMetadata returns base with the metadata of change, if that is newer.
func mergeMetadata(base, change item.View) item.View {
	if base.MetadataVersion() >= change.MetadataVersion() {
		return base
	}
	it, m := base.Item(), change.Item()
	it.Kind = item.KindPut
	it.State, it.Tags, it.ExpiresAt = m.State, m.Tags, m.ExpiresAt
	it.MetadataVersion, it.UpdatedAt = m.MetadataVersion, m.UpdatedAt
	it.Version = max(it.ContentVersion, it.MetadataVersion)
	return item.View(it.AppendTo(nil))
}

// tombstoneOf returns what says that the item of v does not exist any more, as
// of version.
func tombstoneOf(v item.View, version item.Version) item.View {
	it := item.Item{
		Kind: item.KindTombstone, Key: v.Key(), Tiers: v.Tiers(), Durability: v.Durability(),
		Version: version, ContentVersion: version, MetadataVersion: version, UpdatedAt: version.UnixMilli(),
		HomeInstance: v.HomeInstance(),
	}
	return item.View(it.AppendTo(nil))
}

// newerOf returns v, or what L3 holds of key if that is newer. L3 failing now
// is no reason to withhold what the journal holds.
func (e *Engine) newerOf(ctx context.Context, key item.Key, v item.View) item.View {
	other, ok, err := e.readL3(ctx, key)
	if err != nil || !ok || other.Version() <= v.Version() {
		return v
	}
	return other
}

// answer turns a record below L1 into a hit, unless it is a tombstone, expired
// or hidden by a rule that is relevant.
func (e *Engine) answer(v item.View, from Source, relevant func(*liveRule) bool) (Hit, bool) {
	if from != FromPending && e.options.L3Shared {
		e.observe(v.Version()) // of another node, whose clock may be ahead: what is written now is newer
	}
	if v.Kind() == item.KindTombstone || v.Expired(e.clock.UnixMilli()) {
		return Hit{}, false
	}
	h := Hit{View: v, Source: from}
	c := e.rules.covers(v, relevant)
	if c.deleted || c.purged && refetchable(v) {
		return Hit{}, false
	}
	h.Stale = c.stale && refetchable(v)
	return h, true
}

// answerL3 is answer for a row of L3 that was asked for at m. The error is
// errHidden if only a rule that came since covers it.
func (e *Engine) answerL3(v item.View, m moment) (Hit, bool, error) {
	h, found := e.answer(v, FromL3, sinceRead(m))
	if found {
		return h, true, nil
	}
	if _, before := e.answer(v, FromL3, knownAt(m)); before {
		return Hit{}, false, errHidden
	}
	return Hit{}, false, nil
}

// refetchable reports whether v is a copy of something held elsewhere: a stored
// answer. An item with L3 is ground truth, which a purge never removes.
func refetchable(v item.View) bool {
	return v.Key().Namespace() != item.NamespaceItem || v.Tiers()&item.L3 == 0
}

// fromFlight reads L2 and L3, once for all who ask for k: for the same key in the
// same epoch, that of a moment before it was found not to be pending.
func (e *Engine) fromFlight(ctx context.Context, hash uint64, k flightKey) (Hit, bool, error) {
	f, leader := e.fills.join(k, e.maxWaiters)
	switch {
	case f == nil:
		e.metrics.busy()
		return Hit{}, false, fmt.Errorf("%w: %d wait already", ErrBusy, e.maxWaiters)
	case leader && ctx.Done() == nil:
		e.fill(hash, k, f)
	case leader:
		e.tasks.Go(func() { e.fill(hash, k, f) })
	}
	select {
	case <-f.done:
	case <-ctx.Done():
		return Hit{}, false, context.Cause(ctx)
	}
	if f.err != nil || f.record == nil {
		return Hit{}, false, f.err
	}
	return Hit{View: item.View(f.record), Source: f.source, Stale: f.stale}, true, nil
}

// fill reads key from L2, then from L3, for all who wait for f, and promotes
// what it finds. It does not depend on the context of any of them.
func (e *Engine) fill(hash uint64, k flightKey, f *flight) {
	defer e.fills.finish(k, f)
	key := item.Key(k.key)
	if !k.fresh {
		v, verdict := e.readL2(key)
		if verdict == l2Hit || verdict == l2Gone {
			if f.err = e.awaitPublished(hash, key, v); f.err != nil {
				return
			}
		}
		switch verdict {
		case l2Gone:
			return
		case l2Hit:
			if h, found := e.answer(v, FromL2, everyRule); found {
				e.seenInL2(h.View)
				f.record, f.stale, f.source = h.View, h.Stale, FromL2
				e.promote(hash, key, h.View, k.epoch)
				return
			}
		}
	}
	if !k.inL3 {
		return
	}
	needed, news := e.askL3(key, k.sure)
	if !needed {
		return
	}
	m := e.rules.now()
	v, ok, err := e.readL3(context.Background(), key)
	if err == nil {
		e.falsePositive(news, v, ok)
	}
	if ok && err == nil {
		err = e.awaitPublished(hash, key, v)
	}
	if err != nil || !ok {
		f.err = err
		return
	}
	h, found, err := e.answerL3(v, m)
	if !found {
		f.err = err
		return
	}
	f.record, f.stale, f.source = h.View, h.Stale, FromL3
	e.promote(hash, key, h.View, k.epoch)
	if !h.Stale {
		e.fillL2(hash, h.View, k.epoch)
	}
}

// readL3 reads the row of key, tombstones included, within the engine's own
// time limit.
func (e *Engine) readL3(ctx context.Context, key item.Key) (item.View, bool, error) {
	if !e.l3Backend.circuit.Allow() {
		return nil, false, fmt.Errorf("%w: %w", ErrUnavailable, errOpen)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), e.l3TimeoutNow())
	defer cancel()
	err := e.load(ctx)
	var b []byte
	var ok bool
	if err == nil {
		b, ok, err = e.l3.Get(ctx, key, nil)
	}
	if err != nil {
		e.l3Failed(err)
		return nil, false, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	e.l3Answered()
	if v := item.View(b); ok && v.Kind() == item.KindPut {
		e.seen(key)
	} else {
		e.noteShown(key)
	}
	return item.View(b), ok, nil
}

// promote copies v, which was read below L1, into L1, unless something was
// published for its hash since epoch, or memory is too tight. What was published
// may be older than v, where v is another node's: then it makes room for v, whose
// reader must not see it after v.
func (e *Engine) promote(hash uint64, key item.Key, v item.View, epoch uint32) {
	if v.Tiers()&item.L1 == 0 || e.admit(pressure.Promote) != nil {
		return
	}
	s := e.pending.stripe(hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.pending.epoch(hash).Load() != epoch && !e.l1.Delete(hash, key, uint64(v.Version())-1) {
		e.metrics.promotionLost()
		return
	}
	e.l1PutLocked(hash, key, v)
}

// l1PutLocked stores v in L1 under the lock of its stripe, unless a rule covers
// it. Where L1 does not take it, an older version leaves too.
//
// The look at the rules under this lock is what lets a sweep of L1 end: the
// sweeper installs its rule, passes every stripe's lock once, and then sweeps.
// What was put before is swept; what is put after has seen the rule.
func (e *Engine) l1PutLocked(hash uint64, key item.Key, v item.View) {
	c := e.rules.covers(v, everyRule)
	version := uint64(v.Version())
	hidden := c.deleted || c.purged && refetchable(v)
	if hidden || !e.l1.Put(hash, key, version, v, l1.PutOptions{ExpiresAtMilli: l1Expiry(v, e.clock.UnixMilli()), Stale: c.stale && refetchable(v)}) {
		e.l1.Delete(hash, key, version)
	}
}

// l1Expiry returns when the copy of v in L1 ends: with the item, or with its
// own lifetime if that is shorter. 0 means never.
func l1Expiry(v item.View, nowMilli int64) int64 {
	at := v.ExpiresAt()
	if ttl := v.L1TTL(); ttl > 0 && (at == 0 || nowMilli+ttl < at) {
		at = nowMilli + ttl
	}
	return at
}
