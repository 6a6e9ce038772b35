package tiers

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/journal"
	"github.com/edgenode/edgenode/tiers/pressure"
)

// The write path, in order: admit, stamp, journal, wait for the level, publish
// in L1 and pending, acknowledge. The flusher (flush.go) does the rest.

// Submit stores w and returns once it has reached its durability. At journal
// and above nobody sees the write before; afterwards this node serves it or
// something newer. See the errors of writes for what is refused, and
// ErrUnknownFate for the one case in which it is not known what remains.
func (e *Engine) Submit(ctx context.Context, w *Write) (Receipt, error) {
	if err := e.enterWrite(); err != nil {
		return Receipt{}, err
	}
	defer e.leave()
	it, err := e.itemOf(w)
	if err != nil {
		return Receipt{}, err
	}
	if !w.If.None() {
		return e.submitIf(ctx, it, w.If)
	}
	if err := e.admit(pressure.Put); err != nil {
		return Receipt{}, err
	}
	if livesInMemory(it) {
		return e.cache(it)
	}
	wr, err := e.begin(it)
	if err != nil {
		return Receipt{}, err
	}
	return e.complete(ctx, wr)
}

// livesInMemory reports whether it is a stored answer without a place in L3.
func livesInMemory(it *item.Item) bool {
	return it.Key.Namespace() != item.NamespaceItem && it.Tiers&item.L3 == 0
}

// cache stores an answer that lives in memory only. It does not become pending:
// it may be lost at any time.
func (e *Engine) cache(it *item.Item) (Receipt, error) {
	hash := e.hash(it.Key)
	s := e.pending.stripe(hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := e.stampFetched(hash, it); err != nil {
		return Receipt{}, err
	}
	buf := e.buffers.get()
	defer e.buffers.put(buf)
	*buf = it.AppendTo((*buf)[:0])
	e.pending.epoch(hash).Add(1)
	e.l1PutLocked(hash, it.Key, item.View(*buf))
	e.tellCached(hash, it, *buf)
	return Receipt{Version: it.Version, ETag: it.ETag, Persisted: item.DurabilityMemory}, nil
}

// stampFetched completes the versions of it. An answer of an origin keeps the
// version that it was asked for at, and is refused if something newer is there
// or a rule since covers it. The stripe of hash is locked.
func (e *Engine) stampFetched(hash uint64, it *item.Item) error {
	if it.Version == 0 {
		it.Version = e.clock.Stamp()
	} else if e.rules.coversFetch(it.Key, it.Tags, it.Version) {
		return ErrPurged
	} else if e.newerHeldLocked(hash, it) {
		return ErrSuperseded
	}
	it.UpdatedAt = it.Version.UnixMilli()
	it.MetadataVersion = it.Version
	if it.Kind != item.KindMetadata {
		it.ContentVersion = it.Version
	}
	return nil
}

// newerHeldLocked reports whether L1 holds a version of it.Key above it.Version,
// or pending one at least as new.
func (e *Engine) newerHeldLocked(hash uint64, it *item.Item) bool {
	if p := e.pending.stripe(hash).ids[string(it.Key)]; p != nil {
		if p.records[len(p.records)-1].version >= it.Version {
			return true
		}
	}
	pin, ok := e.l1.Get(hash, it.Key, e.clock.UnixMilli())
	if !ok {
		return false
	}
	defer pin.Release()
	return item.View(pin.Bytes()).Version() > it.Version
}

// Delete removes the item of key. It is acknowledged whether or not there is
// one; the receipt says what is known about that. The tombstone keeps older
// writes and copies from coming back.
func (e *Engine) Delete(ctx context.Context, key item.Key, c *Condition, d item.Durability) (Receipt, error) {
	if err := e.enterWrite(); err != nil {
		return Receipt{}, err
	}
	defer e.leave()
	if err := key.Check(); err != nil {
		return Receipt{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	it := e.tombstone(key, d)
	if !c.None() {
		return e.submitIf(ctx, it, c)
	}
	existed := e.existed(ctx, key)
	wr, err := e.begin(it)
	if err != nil {
		return Receipt{}, err
	}
	r, err := e.complete(ctx, wr)
	if r.Existed == ExistedUnknown {
		r.Existed = existed
	}
	return r, err
}

func (e *Engine) tombstone(key item.Key, d item.Durability) *item.Item {
	it := &item.Item{Kind: item.KindTombstone, Key: key, Tiers: item.AllTiers, Durability: e.durability(d)}
	if key.Namespace() != item.NamespaceItem {
		it.Durability = item.DurabilityMemory
	}
	return it
}

// existed asks every tier, L3 with little patience. What the filter says is true
// now on an L3 of its own only.
func (e *Engine) existed(ctx context.Context, key item.Key) Existence {
	ctx, cancel := context.WithTimeout(ctx, existedPatience)
	defer cancel()
	h, ok, err := e.getInside(ctx, e.hash(key), key, ReadOptions{Sure: e.options.L3Shared})
	switch {
	case err != nil:
		return ExistedUnknown
	case ok:
		h.Release()
		return ExistedYes
	}
	return ExistedNo
}

const existedPatience = 250 * time.Millisecond

// itemOf checks w and turns it into an item that lacks its version.
func (e *Engine) itemOf(w *Write) (*item.Item, error) {
	if limit := e.maxPayload.Load(); int64(len(w.Content)) > limit {
		return nil, fmt.Errorf("%w: %d bytes, the limit is %d (max_payload_bytes)", ErrTooLarge, len(w.Content), limit)
	}
	site := w.Key.Namespace() != item.NamespaceItem
	if !site && w.Version != 0 {
		return nil, fmt.Errorf("%w: only answers of origins bring their version", ErrInvalid)
	}
	it := &item.Item{
		Kind: item.KindPut, Key: w.Key, Version: w.Version, Content: w.Content, MIME: w.MIME, State: w.State, Tags: w.Tags,
		Response: w.Response, Tiers: w.Tiers, Durability: w.Durability,
		L1TTL: w.L1TTL.Milliseconds(), L2TTL: w.L2TTL.Milliseconds(),
		BatchID: w.BatchID, TraceParent: w.TraceParent, TraceState: w.TraceState,
	}
	if err := e.fillDefaults(it, site); err != nil {
		return nil, err
	}
	if w.TTL < 0 || w.L1TTL < 0 || w.L2TTL < 0 {
		return nil, fmt.Errorf("%w: a lifetime below zero", ErrInvalid)
	}
	if w.TTL > 0 {
		it.ExpiresAt = e.clock.UnixMilli() + w.TTL.Milliseconds()
	}
	if err := it.Check(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if !site {
		if err := errors.Join(item.CheckState(it.State), item.CheckTags(it.Tags)); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
		}
	}
	if it.Tiers&item.L3 != 0 {
		it.HomeInstance = e.identity.ID // who is asked of what SQL holds; of a cache nobody is
	}
	seal(it, site)
	return it, nil
}

// seal computes what is known of the content. An answer of an origin has an entity
// tag of its origin's, or none, and nobody asks whether it is JSON.
func seal(it *item.Item, site bool) {
	if site {
		it.ContentHash = sha256.Sum256(it.Content)
		if it.MIME == "" {
			it.MIME = defaultMIME
		}
		return
	}
	it.Seal()
	if it.MIME == "" {
		it.MIME = defaultMIME
		if it.Flags&item.FlagJSON != 0 {
			it.MIME = "application/json"
		}
		it.Seal()
	}
}

const defaultMIME = "application/octet-stream"

// fillDefaults sets tiers and durability. Items without L3 are cache: memory.
func (e *Engine) fillDefaults(it *item.Item, site bool) error {
	if it.Tiers == 0 {
		it.Tiers = item.AllTiers
		if site {
			it.Tiers = item.L1 | item.L2
		}
	}
	switch {
	case it.Tiers == item.L2 && e.l2 == nil && !site: // there is no L2 behind this engine
		return fmt.Errorf("%w: tier l2 alone, which this node does not have: the item would be nowhere; add l1 or l3", ErrInvalid)
	case it.Tiers&item.L3 == 0 && it.Durability > item.DurabilityMemory:
		return fmt.Errorf("%w: durability %s needs tier l3; an item without it is cache and has durability memory", ErrInvalid, it.Durability)
	case it.Tiers&item.L3 == 0 || site && it.Durability == item.DurabilityDefault:
		it.Durability = item.DurabilityMemory
	default:
		it.Durability = e.durability(it.Durability)
	}
	return nil
}

func (e *Engine) durability(asked item.Durability) item.Durability {
	if asked == item.DurabilityDefault {
		return item.Durability(e.defaultDurability.Load())
	}
	return asked
}

// admit applies the table of package pressure to op.
func (e *Engine) admit(op pressure.Operation) error {
	p := e.Pressure()
	th := e.thresholds.Load()
	verdict := th.Admit(op, p, rand.Float64())
	if verdict == pressure.Allow {
		return nil
	}
	e.metrics.refused(verdict)
	return &Refusal{
		Level: th.Level(p).String(), Pressure: p,
		Throttled: verdict == pressure.Delay, RetryAfter: pressure.RetryAfter,
	}
}

// begin carries it, which has no condition, to where it waits for its level.
func (e *Engine) begin(it *item.Item) (underway, error) {
	if err := e.l3Writable(it.Durability); err != nil {
		return underway{}, err
	}
	hash := e.hash(it.Key)
	s := e.pending.stripe(hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	return e.stampLocked(s, hash, it, 0)
}

// l3Writable refuses durability l3 at once while L3 is down, or does not keep
// what it has committed.
func (e *Engine) l3Writable(d item.Durability) error {
	if d != item.DurabilityL3 {
		return nil
	}
	if !e.l3Up() {
		return fmt.Errorf("%w: durability l3 cannot be reached now", ErrUnavailable)
	}
	if ok, reason := e.l3Durable(); !ok {
		return fmt.Errorf("%w: durability l3 cannot be kept: %s", ErrUnavailable, reason)
	}
	return nil
}

// An underway is a write between its stamp and its acknowledgement.
type underway struct {
	hash   uint64
	it     *item.Item
	record []byte // for L1: always with content
	entry  pendingRecord
	done   chan error // told once when L3 holds it, or never will; nil unless asked for
	pooled *[]byte    // what record is part of, to be given back
}

// stampLocked gives it the next version, writes it to the journal or to memory,
// and makes it pending but not visible. alive is for a metadata change: when the
// item was not over.
func (e *Engine) stampLocked(s *stripe, hash uint64, it *item.Item, alive int64) (underway, error) {
	room := pendingIDBytes + int64(len(it.Key))
	if it.Durability == item.DurabilityMemory {
		room += int64(it.EncodedLen())
	}
	if err := e.reserve(room); err != nil && it.Kind != item.KindTombstone {
		return underway{}, err // a delete makes room: it passes
	}
	if err := e.stampFetched(hash, it); err != nil {
		return underway{}, err
	}
	return e.logLocked(s, hash, it, alive)
}

// logLocked writes it, which has its versions, to the journal or to memory, and
// makes it pending but not visible.
func (e *Engine) logLocked(s *stripe, hash uint64, it *item.Item, alive int64) (underway, error) {
	wr := underway{hash: hash, it: it, pooled: e.buffers.get()}
	logged := wr.encode()
	wr.entry = pendingRecord{
		version: it.Version, content: it.ContentVersion, alive: alive, size: uint32(len(logged)), kind: it.Kind, tiers: it.Tiers,
	}
	if it.Durability == item.DurabilityMemory {
		wr.entry.memory = true
	} else {
		pos, err := e.append(it.Kind, logged)
		if err != nil {
			e.buffers.put(wr.pooled)
			return underway{}, err
		}
		wr.entry.pos = pos
	}
	id := recordID{e.pending.addLocked(s, hash, it.Key, wr.entry).key, it.Version}
	if wr.entry.memory {
		e.pending.holdLocked(s, id, append([]byte(nil), logged...))
	}
	if it.Durability == item.DurabilityL3 {
		wr.done = make(chan error, 1)
		if s.waiters == nil {
			s.waiters = make(map[recordID]chan error)
		}
		s.waiters[id] = wr.done
	}
	return wr, nil
}

// encode fills wr.record with what L1 is to hold and returns what the journal
// is to hold. They differ for a metadata change: L1 holds the whole item, the
// journal leaves the content where its version is.
func (wr *underway) encode() (logged []byte) {
	whole := *wr.it
	if whole.Kind == item.KindMetadata {
		whole.Kind = item.KindPut
		bare := *wr.it
		bare.Content = nil
		logged = bare.AppendTo(nil)
	}
	*wr.pooled = whole.AppendTo((*wr.pooled)[:0])
	wr.record = *wr.pooled
	if logged == nil {
		logged = wr.record
	}
	return logged
}

// append writes record to the journal and maps its errors. Deletes may use the
// reserve.
func (e *Engine) append(kind item.Kind, record []byte) (journal.Pos, error) {
	appendTo := e.journal.Append
	if kind == item.KindTombstone || kind == item.KindRule {
		appendTo = e.journal.AppendReserved
	}
	pos, err := appendTo(record)
	return pos, journalError(err)
}

func journalError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, journal.ErrFull):
		return fmt.Errorf("%w: %w", ErrFull, err)
	case errors.Is(err, journal.ErrTooLarge):
		return fmt.Errorf("%w: %w", ErrTooLarge, err)
	case errors.Is(err, journal.ErrUnknown): // before the next: a waiting call gets both
		return fmt.Errorf("%w: %w", ErrUnknownFate, err)
	case errors.Is(err, journal.ErrReadOnly):
		return fmt.Errorf("%w: %w", ErrReadOnly, err)
	case errors.Is(err, journal.ErrClosed):
		return ErrShuttingDown
	}
	return fmt.Errorf("tiers: journal: %w", err)
}

// complete waits for the write's level, publishes it and returns its receipt.
func (e *Engine) complete(ctx context.Context, wr underway) (Receipt, error) {
	defer e.buffers.put(wr.pooled)
	it := wr.it
	if err := e.reach(it.Durability, wr.entry.pos); err != nil {
		e.settle(wr, err)
		return Receipt{}, err
	}
	existed := e.settle(wr, nil)
	r := Receipt{Version: it.Version, ETag: it.ETag, Persisted: it.Durability, Existed: existed}
	if wr.done == nil {
		e.metrics.acknowledged[it.Durability].Inc()
		return r, nil
	}
	signal(e.dirty.now)
	patience := time.NewTimer(time.Duration(e.l3WaitMax.Load()))
	defer patience.Stop()
	select {
	case <-patience.C:
		return Receipt{}, fmt.Errorf("%w: it is in the journal and will be flushed, but L3 did not have it within %v",
			ErrUnknownFate, time.Duration(e.l3WaitMax.Load()))
	case err := <-wr.done:
		if err == nil {
			e.metrics.acknowledged[it.Durability].Inc()
		}
		return r, err
	case <-ctx.Done():
		return Receipt{}, fmt.Errorf("%w: it is in the journal and will be flushed, but L3 does not have it yet: %w", ErrUnknownFate, context.Cause(ctx))
	case <-e.closing:
		return Receipt{}, fmt.Errorf("%w: it is in the journal, but L3 does not have it yet: %w", ErrUnknownFate, ErrShuttingDown)
	}
}

// reach waits until what was appended at pos has the level.
func (e *Engine) reach(level item.Durability, pos journal.Pos) error {
	switch level {
	case item.DurabilityJournal:
		return journalError(e.journal.Written(pos))
	case item.DurabilitySync, item.DurabilityL3:
		return journalError(e.journal.Sync(pos))
	}
	return nil
}

// settle ends the flight of a write: published, or gone if err says that its
// level was not reached. A write that waits for L3 stays out of sight until it
// is there.
func (e *Engine) settle(wr underway, err error) Existence {
	s := e.pending.stripe(wr.hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.settled.Broadcast()
	p := s.ids[string(wr.it.Key)]
	var r *pendingRecord
	if p != nil {
		r = p.findLocked(wr.it.Version)
	}
	if r == nil {
		return ExistedUnknown // a newer write has been flushed meanwhile
	}
	if err != nil {
		e.pending.dropLocked(s, p, func(r *pendingRecord) bool { return r.version == wr.it.Version }, e.release)
		delete(s.waiters, recordID{p.key, wr.it.Version})
		return ExistedUnknown
	}
	existed := e.existedLocked(p, wr)
	if wr.done != nil {
		r.phase = awaitingL3
	} else {
		r.phase = visible
		if p.newestLocked(visible) == r { // else a newer write was quicker
			e.publishLocked(wr.hash, wr.it, wr.record)
		}
	}
	e.enqueueLocked(p)
	return existed
}

// existedLocked says what pending, L1 and the filter know about the time before wr.
func (e *Engine) existedLocked(p *pendingID, wr underway) Existence {
	for i := len(p.records) - 1; i >= 0; i-- {
		switch r := &p.records[i]; {
		case r.phase != visible || r.version >= wr.it.Version:
			continue
		case r.kind == item.KindTombstone:
			return ExistedNo
		}
		break
	}
	if pin, ok := e.l1.Get(wr.hash, wr.it.Key, e.clock.UnixMilli()); ok {
		defer pin.Release()
		if !e.hiddenInL1(item.View(pin.Bytes())) {
			return ExistedYes
		}
	}
	if e.neverWas(p) {
		return ExistedNo
	}
	return ExistedUnknown
}

// enqueueLocked makes p known to the flusher.
func (e *Engine) enqueueLocked(p *pendingID) {
	if p.queued || p.flushing {
		return
	}
	p.queued = true
	e.dirty.push(p, int64(p.records[len(p.records)-1].size))
}

// publishLocked makes a version what this node serves. It runs under the
// stripe's lock, so that L1 and pending change together.
func (e *Engine) publishLocked(hash uint64, it *item.Item, record []byte) {
	e.pending.epoch(hash).Add(1)
	if it.Kind == item.KindTombstone || it.Tiers&item.L1 == 0 {
		e.l1.Delete(hash, it.Key, uint64(it.Version))
		return
	}
	e.l1PutLocked(hash, it.Key, item.View(record))
}

// release lets go of what a journal holds of a record that left pending before
// it was visible: no dead letter is one.
func (e *Engine) release(r pendingRecord) {
	if !r.memory && !r.dead {
		e.journal.Release(r.pos)
	}
}
