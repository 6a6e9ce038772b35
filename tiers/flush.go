package tiers

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/l3"
)

// The flusher carries pending writes to L3: the newest version of each id, in
// batches by count, bytes and time, one batch at a time. A record leaves
// pending and the journal only when L3 says that the row holds its version or a
// newer one. It never runs on the context of a request.

// batchLimits say when a batch is sent.
type batchLimits struct {
	wait  time.Duration
	count int
	bytes int64
}

// flusherState is the flusher's, except where said.
type flusherState struct {
	// mu is held while a batch is under way. Whoever holds it sees L3 and
	// pending agree.
	mu    sync.Mutex
	watch batchWatch
	stuck atomic.Int64 // ids that L3 refuses and that are tried again; read by health

	items []flushItem
	ops   []l3.Op
	out   []l3.Outcome
	arena []byte

	unseen  int             // items of the batch that L3 took and does not show
	damaged []flushItem     // items of the batch whose rows L3 calls damaged
	damage  error           // what it said last
	gone    []pendingRecord // of one id, to be let go
	owed    []owedRelease   // what could not be let go yet

	reasonMu sync.Mutex
	reasons  map[string]string // why L3 refuses rows, by key; not all of them
}

// A flushItem is one id in a batch.
type flushItem struct {
	p      *pendingID
	upTo   item.Version // records up to this one are carried
	logged bool         // an older one is in a journal, and may come back by a crash
	record item.View    // what is sent

	conditional bool // it is sent to L3 only where that has a row
	refused     bool // L2 did not take it
}

const (
	firstBackoff = 50 * time.Millisecond
	lastBackoff  = 2 * time.Second
)

func (e *Engine) batchFull(items int, bytes int64) bool {
	b := e.batch.Load()
	return items >= b.count || bytes >= b.bytes
}

func (e *Engine) runFlusher() {
	backoff := time.Duration(0)
	progress := drainProgress{e: e}
	for e.awaitBatch(backoff) {
		_, err := e.flushBatch(e.ctx)
		progress.note()
		switch {
		case err == nil:
			backoff = 0
		default:
			backoff = min(max(2*backoff, firstBackoff), lastBackoff)
		}
	}
}

// drainProgress tells the log now and then how far a long drain has come.
type drainProgress struct {
	e       *Engine
	at      int64 // Unix ms of the last word; 0 is none
	flushed uint64
}

const (
	longDrain     = 10_000 // pending ids
	progressEvery = 5_000  // ms
)

func (d *drainProgress) note() {
	pending, now, flushed := d.e.pending.ids.Load(), d.e.clock.UnixMilli(), d.e.metrics.flushed.Get()
	if pending < longDrain {
		if d.at != 0 {
			d.e.logger.Info("drained", "pending", pending)
		}
		d.at = 0
		return
	}
	if d.at != 0 && now-d.at < progressEvery {
		return
	}
	if d.at != 0 {
		d.e.logger.Info("draining to L3", "pending", pending, "flushed", flushed-d.flushed, "ms", now-d.at)
	}
	d.at, d.flushed = now, flushed
}

// awaitBatch waits until a batch is due: something is dirty, and it is full, or
// old enough, or somebody waits for L3. After an error it waits for backoff or
// until L3 answers again, however much is dirty. It returns false when the
// engine closes.
func (e *Engine) awaitBatch(backoff time.Duration) bool {
	if backoff > 0 {
		return e.pause(backoff, e.dirty.again)
	}
	if e.dirty.len() == 0 {
		select {
		case <-e.ctx.Done():
			return false
		case <-e.dirty.wake:
		}
	}
	b := e.batch.Load()
	if e.dirty.len() >= b.count {
		return e.ctx.Err() == nil
	}
	return e.pause(b.wait, e.dirty.now)
}

// pause waits for d or for a token in early.
func (e *Engine) pause(d time.Duration, early <-chan struct{}) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-e.ctx.Done():
		return false
	case <-timer.C:
	case <-early:
	}
	return true
}

// flushBatch sends one batch and returns how many ids it settled.
func (e *Engine) flushBatch(ctx context.Context) (int, error) {
	f := &e.flusher
	f.mu.Lock()
	defer f.mu.Unlock()
	f.items, f.arena, f.unseen, f.damaged = f.items[:0], f.arena[:0], 0, f.damaged[:0]
	e.payReleases()
	unread := e.collect()
	defer func() {
		for i := range unread {
			e.requeue(&unread[i], true)
		}
	}()
	if len(f.items) == 0 {
		if len(unread) > 0 {
			return 0, fmt.Errorf("tiers: %d pending records cannot be read", len(unread))
		}
		return 0, nil
	}
	start := time.Now()
	err := e.sendItems(ctx, f.items)
	err = errors.Join(err, e.judgeDamaged())
	e.giveBack()
	e.metrics.flushSeconds.Update(time.Since(start).Seconds())
	e.metrics.batchItems.Update(float64(len(f.items)))
	if cap(f.arena) > 4*DefaultBatchFlushBytes {
		f.arena = nil
	}
	if err == nil && f.unseen == len(f.items) {
		err = fmt.Errorf("tiers: L3 shows none of the %d rows that it took", f.unseen)
	}
	return len(f.items), err
}

// collect takes dirty ids up to the batch's limits and reads their records. It
// returns the ids whose records could not be read; they are marked as part of
// the batch.
func (e *Engine) collect() (unread []flushItem) {
	f := &e.flusher
	limits := e.batch.Load()
	bytes := int64(0)
	for len(f.items) < limits.count && (bytes < limits.bytes || len(f.items) == 0) {
		p := e.dirty.pop()
		if p == nil {
			return unread
		}
		it, ok := e.plan(p)
		if !ok {
			continue
		}
		if it.record == nil {
			unread = append(unread, it)
			continue
		}
		bytes += int64(len(it.record))
		f.items = append(f.items, it)
	}
	return unread
}

// plan decides what to send of p and marks it as part of the batch. The record
// is nil if it cannot be read now.
func (e *Engine) plan(p *pendingID) (flushItem, bool) {
	key := item.Key(p.key)
	s := e.pending.stripe(p.hash)
	s.mu.Lock()
	p.queued = false
	r := p.newestLocked(awaitingL3)
	if r == nil || p.flushing {
		s.mu.Unlock()
		return flushItem{}, false
	}
	c := pendingCopy{newest: *r, memory: s.memory[recordID{p.key, r.version}]}
	if base := p.contentLocked(r); base != nil {
		c.content, c.hasContent, c.contentMemory = *base, true, s.memory[recordID{p.key, base.version}]
	}
	p.flushing = true
	buried := r.dead && p.tries >= e.triesNow()
	it := flushItem{p: p, upTo: c.newest.version, logged: p.loggedBeforeLocked(r.version)}
	s.mu.Unlock()

	v, err := e.readForFlush(&c)
	if err != nil {
		e.logger.Error("pending record cannot be read; it stays pending", "id", key.ID(), "version", c.newest.version, "err", err)
		return it, true
	}
	// What a rule covers was there, and is gone: an older row, which the rule
	// perhaps does not name, must not take its place.
	if c := e.rules.covers(v, everyRule); c.deleted || c.purged && refetchable(v) {
		v = tombstoneOf(v, c.by)
	} else if buried {
		s.mu.Lock()
		defer s.mu.Unlock()
		p.flushing = false
		if p.newestLocked(awaitingL3).version > it.upTo {
			e.enqueueLocked(p) // it came meanwhile
		}
		return flushItem{}, false
	}
	it.record = v
	return it, true
}

// readForFlush reads what L3 is to get: a put with its metadata, a tombstone,
// or a bare metadata change of content that L3 has.
func (e *Engine) readForFlush(c *pendingCopy) (item.View, error) {
	newest, err := e.readIntoArena(c.newest, c.memory)
	if err != nil || c.newest.kind != item.KindMetadata || !c.hasContent {
		return newest, err
	}
	base, err := e.readIntoArena(c.content, c.contentMemory)
	if err != nil {
		return nil, err
	}
	return mergeMetadata(base, newest), nil
}

// readSlack is how many bytes beyond the record the journal wants for a read
// without an allocation.
const readSlack = 16

// readIntoArena reads a record into the batch's arena. Where the arena has no
// room a new one is begun; views into the old one stay valid.
func (e *Engine) readIntoArena(r pendingRecord, memory []byte) (item.View, error) {
	f := &e.flusher
	if need := int(r.size) + readSlack; cap(f.arena)-len(f.arena) < need {
		f.arena = make([]byte, 0, max(need, DefaultBatchFlushBytes+DefaultBatchFlushBytes/2))
	}
	v, err := e.recordBytes(f.arena, r, memory)
	if err != nil {
		return nil, err
	}
	f.arena = f.arena[:len(f.arena)+len(v)]
	return slices.Clip(v), nil // v itself: were the room too small, it is elsewhere
}

// sendItems applies items to L3 and settles each. A batch that L3 refuses for
// what is in it is halved until the row that it refuses stands alone, so that
// one bad row does not hold up the rest.
func (e *Engine) sendItems(ctx context.Context, items []flushItem) error {
	err := e.apply(ctx, items)
	switch {
	case err == nil:
		return nil
	case (errors.Is(err, l3.ErrRejected) || errors.Is(err, l3.ErrCorrupt)) && len(items) > 1:
		half := len(items) / 2
		return errors.Join(e.sendItems(ctx, items[:half]), e.sendItems(ctx, items[half:]))
	case errors.Is(err, l3.ErrRejected):
		return e.refusedAlone(&items[0], err)
	case errors.Is(err, l3.ErrCorrupt):
		e.flusher.damaged = append(e.flusher.damaged, items[0])
		e.flusher.damage = err
		return nil
	}
	e.metrics.flushErrors.Inc()
	if ctx.Err() == nil && !errors.Is(err, errCut) {
		e.l3Failed(err)
	}
	for i := len(items) - 1; i >= 0; i-- {
		e.requeue(&items[i], true)
	}
	return err
}

// judgeDamaged decides about the items whose rows L3 calls damaged, each sent
// alone. Where others of the batch went through, these rows are damaged: their
// items go the way of those that L3 refuses. Where none did, L3 itself is: that
// is an outage.
func (e *Engine) judgeDamaged() error {
	f := &e.flusher
	if len(f.damaged) == 0 {
		return nil
	}
	if len(f.damaged) == len(f.items) && len(f.items) > 1 {
		e.metrics.flushErrors.Inc()
		e.l3Backend.circuit.Record(f.damage)
		for i := len(f.damaged) - 1; i >= 0; i-- {
			e.requeue(&f.damaged[i], true)
		}
		return f.damage
	}
	var errs []error
	for i := range f.damaged {
		errs = append(errs, e.refusedAlone(&f.damaged[i], f.damage))
	}
	return errors.Join(errs...)
}

// apply sends items in one transaction and settles them by its outcomes.
func (e *Engine) apply(ctx context.Context, items []flushItem) error {
	f := &e.flusher
	f.ops, f.out = f.ops[:0], f.out[:0]
	// While L2 is not trusted, what leaves it must be among the changes of L3:
	// the walk along them is what makes it trusted again.
	always := e.l2 != nil && e.l2.token.Load() == 0
	for i := range items {
		f.ops = append(f.ops, items[i].op(always))
	}
	f.out = append(f.out, make([]l3.Outcome, len(f.ops))...)
	limited, cancel := context.WithTimeout(ctx, time.Duration(e.applyTimeout.Load()))
	defer cancel()
	limited, end := f.watch.begin(limited, e.clock.UnixMilli())
	defer end()
	if _, err := e.l3.Apply(limited, f.ops, nil, f.out); err != nil {
		if cause := context.Cause(limited); errors.Is(cause, errCut) {
			err = cause
		}
		return err
	}
	e.l3Answered()
	e.noteOwn(items, f.out)
	if err := e.copyFlushed(limited, items, f.out); err != nil {
		return err
	}
	for i := range f.ops {
		if f.ops[i].Record.Kind() != item.KindTombstone {
			e.seen(item.Key(items[i].p.key)) // before the id leaves pending
		}
	}
	for i := range items {
		e.settleOutcome(&items[i], &f.out[i])
	}
	return nil
}

// op returns what is to be sent for it. An item that lives outside L3 replaces
// the row that L3 may have by a tombstone, and so does the delete of a stored
// answer; without a row, or one that a replay could bring, none is needed unless
// always is set.
func (it *flushItem) op(always bool) l3.Op {
	op := l3.Op{Record: it.record}
	inL3 := op.Record.Tiers()&item.L3 != 0
	if !inL3 {
		op.Record = tombstoneOf(it.record, max(it.upTo, it.record.Version()))
	}
	site := it.record.Key().Namespace() != item.NamespaceItem
	it.conditional = !always && !it.logged && (!inL3 || site && op.Record.Kind() == item.KindTombstone)
	if it.conditional {
		op.If = isLive
	}
	return op
}

// isLive lets an op take place only where there is a live row.
func isLive(head item.View) bool { return head != nil }

// settled reports whether L3 has what it carried, or something newer, or has a
// reason never to have it: a rule, or an item that is gone where only its
// metadata was to change.
func (it *flushItem) settled(out *l3.Outcome) bool {
	switch {
	case out.Refused:
		return true
	case it.record.Kind() == item.KindMetadata:
		return out.Version >= it.upTo || !out.Existed
	}
	return out.Version >= it.upTo && out.ContentVersion >= it.record.ContentVersion()
}

// settleOutcome takes a record out of pending if L3 holds its version or a
// newer one; a row that is not seen at its version stays.
func (e *Engine) settleOutcome(it *flushItem, out *l3.Outcome) {
	if !it.settled(out) {
		e.flusher.unseen++
		e.metrics.unseen.Inc()
		e.logger.Warn("L3 took a row but does not show it; it stays pending", "id", item.Key(it.p.key).ID(), "version", it.upTo, "row", out.Version)
		e.requeue(it, false)
		return
	}
	if !out.Won && !out.Refused {
		e.metrics.superseded.Inc()
	}
	e.metrics.flushed.Inc()
	e.metrics.flushBytes.Add(len(it.record))
	e.settleFlushed(it, out.Version)
}

// settleFlushed drops the records that L3 has made needless, publishes those
// that waited for it, and lets their writers go. Where the row is of a newer
// version, what L1 holds of an older one leaves.
func (e *Engine) settleFlushed(it *flushItem, row item.Version) {
	f := &e.flusher
	f.gone = f.gone[:0]
	e.settleFlushedLocking(it, row)
	e.releaseAll(it.p.key, f.gone) // not under the stripe's lock: it may wait for the disk
}

func (e *Engine) settleFlushedLocking(it *flushItem, row item.Version) {
	p := it.p
	s := e.pending.stripe(p.hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	e.unstickLocked(p)
	p.flushing, p.replayed = false, false
	if r := p.newestLocked(awaitingL3); r != nil && r.version == it.upTo && r.phase == awaitingL3 {
		e.publishFlushedLocked(p, it)
	}
	upTo := it.upTo
	if row > upTo {
		e.pending.epoch(p.hash).Add(1)
		e.l1.Delete(p.hash, item.Key(p.key), uint64(row)-1)
	}
	e.pending.dropLocked(s, p, func(r *pendingRecord) bool { return r.version <= upTo }, func(r pendingRecord) {
		s.tellLocked(recordID{p.key, r.version}, nil)
		e.flusher.gone = append(e.flusher.gone, r)
	})
	s.settled.Broadcast()
	if p.newestLocked(awaitingL3) != nil {
		e.enqueueLocked(p)
	}
}

// publishFlushedLocked makes visible what was written with durability l3.
func (e *Engine) publishFlushedLocked(p *pendingID, it *flushItem) {
	v := it.record
	key := item.Key(p.key)
	e.pending.epoch(p.hash).Add(1)
	if v.Kind() != item.KindPut || v.Tiers()&item.L1 == 0 {
		e.l1.Delete(p.hash, key, uint64(it.upTo))
		return
	}
	e.l1PutLocked(p.hash, key, v)
}

// requeue puts an id back: to the front after an outage, so that the order
// stays, to the end if its row alone made trouble.
func (e *Engine) requeue(it *flushItem, front bool) {
	s := e.pending.stripe(it.p.hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	it.p.flushing = false
	if it.p.queued || len(it.p.records) == 0 {
		return
	}
	if !front {
		e.enqueueLocked(it.p)
		return
	}
	it.p.queued = true
	e.dirty.unpop(it.p)
}

// Flush returns when everything that was acknowledged before the call is in L3.
func (e *Engine) Flush(ctx context.Context) error {
	if err := e.enterRead(); err != nil {
		return err
	}
	defer e.leave()
	if err := e.flushAll(ctx); err != nil {
		return err
	}
	return e.sweepAll(ctx)
}

// flushAll flushes until L3 has what was pending at the call. That the queue is
// empty does not say so: the flusher may hold a batch that fails yet. But a batch
// that finds nothing was alone.
func (e *Engine) flushAll(ctx context.Context) error {
	next := e.clock.Last() + 1
	for {
		if err := ctx.Err(); err != nil && e.dirty.len() > 0 {
			return fmt.Errorf("tiers: flush: %d items pending: %w", e.pending.ids.Load(), err)
		}
		n, err := e.flushBatch(ctx)
		if err != nil {
			return fmt.Errorf("tiers: flush: %w: %w", ErrUnavailable, err)
		}
		if n == 0 || !e.pending.anyOlder(next) {
			return nil
		}
	}
}
