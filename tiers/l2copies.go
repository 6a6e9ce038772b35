package tiers

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/edgenode/edgenode/tiers/durable"
	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/l2"
)

// The copier writes to L2 what does not pass through a batch of the flusher:
// stored answers that live in memory, and rows that a read has found in L3.
// Nobody waits for it. What it has not written yet it still knows: an answer of
// L2 that is older does not count.

// An l2Copy is what L2 is to be told about a key.
type l2Copy struct {
	key     string
	hash    uint64
	version item.Version
	record  item.View // nil: what L2 holds below version is to be dropped
	epoch   uint32    // at which record was the newest
	at      int64     // Unix ms at which it was told
	fill    bool      // found by a read: may be forgotten
	sending bool
}

// A copyQueue holds at most one l2Copy per key, beside those being sent. It is
// bounded: beyond maxBytes it keeps of a copy only that older ones must go, and
// beyond maxCopies not even that, and says so.
type copyQueue struct {
	count atomic.Int64 // keys in waiting
	wake  chan struct{}

	mu       sync.Mutex
	maxBytes int64
	waiting  map[string]*l2Copy
	order    []*l2Copy
	underway []*l2Copy // the batch that is being sent
	bytes    int64     // of records
	keys     int64     // of keys in order and under way, and what is beside them
	overflow bool      // L2 may hold, of keys not known here, what is out of date
}

const (
	maxCopies     = 64 << 10
	minCopyKeys   = 1 << 20 // bytes; so much for keys there is in any case
	copyKeyBytes  = 256     // of a copy beside its key and record
	copyBatch     = 500
	copyBatchSize = 1 << 20
)

func (q *copyQueue) init(maxBytes int64) {
	q.maxBytes, q.wake, q.waiting = maxBytes, make(chan struct{}, 1), make(map[string]*l2Copy)
}

// limit changes how many bytes of records may wait. What waits already may be more.
func (q *copyQueue) limit(maxBytes int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.maxBytes = maxBytes
}

// push adds c, over an older one of its key. It reports false if there is no
// room even for its key.
func (q *copyQueue) push(c l2Copy) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	old := q.waiting[c.key]
	switch {
	case old != nil && (c.fill || old.version > c.version && !old.fill):
		return true
	case c.fill && q.bytes+int64(len(c.record)) > q.maxBytes/2:
		return true
	case c.record != nil && q.bytes+int64(len(c.record)) > q.maxBytes:
		c.record = nil
	}
	q.bytes += int64(len(c.record))
	if old != nil && !old.sending {
		q.bytes -= int64(len(old.record))
		c.at = min(c.at, old.at)
		*old = c
		return true
	}
	cost := int64(len(c.key)) + copyKeyBytes
	if len(q.order) >= maxCopies || q.keys+cost > max(q.maxBytes, minCopyKeys) {
		q.bytes -= int64(len(c.record))
		q.overflow = true
		return false
	}
	q.keys += cost
	e := &c
	q.waiting[c.key] = e
	q.order = append(q.order, e)
	q.count.Store(int64(len(q.waiting)))
	return true
}

// overtaken reports whether a newer version than v of key waits to be written.
func (q *copyQueue) overtaken(key item.Key, v item.Version) bool {
	if q.count.Load() == 0 {
		return false
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	c := q.waiting[string(key)]
	return c != nil && c.version > v
}

// take marks the oldest copies as being sent and returns them.
func (q *copyQueue) take() (batch []*l2Copy) {
	q.mu.Lock()
	defer q.mu.Unlock()
	size := 0
	for len(q.order) > 0 && len(batch) < copyBatch && size < copyBatchSize {
		c := q.order[0]
		q.order[0] = nil
		q.order = q.order[1:]
		c.sending = true
		size += len(c.record)
		batch = append(batch, c)
	}
	if len(q.order) == 0 {
		q.order = nil
	}
	q.underway = batch
	return batch
}

// sent says that the batch is not under way any more; what of it was not done was
// put back.
func (q *copyQueue) sent() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.underway = nil
}

// done forgets what was sent.
func (q *copyQueue) done(c *l2Copy) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.bytes -= int64(len(c.record))
	q.keys -= int64(len(c.key)) + copyKeyBytes
	if q.waiting[c.key] == c {
		delete(q.waiting, c.key)
	}
	q.count.Store(int64(len(q.waiting)))
}

// owe puts back what could not be sent, without its record: it is not in L2, and
// nothing older may be.
func (q *copyQueue) owe(c *l2Copy) bool {
	q.done(c)
	return c.fill || q.push(l2Copy{key: c.key, hash: c.hash, version: c.version, at: c.at})
}

// forgetRecords keeps of every copy only that older ones must go, and nothing of
// those that reads have found.
func (q *copyQueue) forgetRecords() {
	q.mu.Lock()
	defer q.mu.Unlock()
	kept := q.order[:0]
	for _, c := range q.order {
		q.bytes -= int64(len(c.record))
		c.record = nil
		if !c.fill {
			kept = append(kept, c)
			continue
		}
		q.keys -= int64(len(c.key)) + copyKeyBytes
		if q.waiting[c.key] == c {
			delete(q.waiting, c.key)
		}
	}
	clear(q.order[len(kept):])
	q.order = kept
	q.count.Store(int64(len(q.waiting)))
}

// owing reports whether there is anything that L2 was not told.
func (q *copyQueue) owing() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.overflow || len(q.waiting) > 0
}

// owingSince is owing for what was told before a time, in Unix ms.
func (q *copyQueue) owingSince(before int64) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.overflow || len(q.order) > 0 && q.order[0].at < before {
		return true // they stand in order, but for those that are being sent
	}
	return slices.ContainsFunc(q.underway, func(c *l2Copy) bool { return c.at < before })
}

// overflowed reports whether keys were forgotten, and begins anew.
func (q *copyQueue) overflowed() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	was := q.overflow
	q.overflow = false
	return was
}

// forgot takes an answer of overflowed back.
func (q *copyQueue) forgot(was bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.overflow = q.overflow || was
}

// tell hands c to the copier.
func (t *l2Tier) tell(c l2Copy, e *Engine) {
	c.at = e.clock.UnixMilli()
	if t.token.Load() == 0 {
		if c.fill {
			return
		}
		c.record = nil
	}
	if !t.copies.push(c) {
		t.faults.Add(1)
		e.distrust("too many copies wait to be dropped", errOpen)
	}
	signal(t.copies.wake)
}

// tellCached hands a stored answer that lives outside L3 to L2: its copy, or
// that an older one must go. It runs under the stripe's lock, right after the
// answer was published.
func (e *Engine) tellCached(hash uint64, it *item.Item, record []byte) {
	if e.l2 == nil {
		return
	}
	c := l2Copy{key: string(it.Key), hash: hash, version: it.Version, epoch: e.pending.epoch(hash).Load()}
	if it.Tiers&item.L2 != 0 && e.l2.token.Load() != 0 {
		c.record = append(item.View(nil), record...)
	}
	e.l2.tell(c, e)
}

// fillL2 hands a row that a read has found to L2, which did not have it.
func (e *Engine) fillL2(hash uint64, v item.View, epoch uint32) {
	if e.l2 == nil || v.Tiers()&item.L2 == 0 || e.l2.token.Load() == 0 {
		return
	}
	e.l2.tell(l2Copy{key: string(v.Key()), hash: hash, version: v.Version(), record: v, epoch: epoch, fill: true}, e)
}

// What the copier owes to L2 would be forgotten with the process, and an older
// answer be believed after the next start. So a file in the data directory says
// that something is owed; whoever finds it drops what lives outside L3. While L2
// is trusted it says so only of what waits for longer than oweAfter: a kill loses
// what is younger than that and an interval of the keeper.

const oweAfter = time.Second

func (e *Engine) oweFile() string { return filepath.Join(e.options.DataDir, "l2-owes") }

// noteOwing makes the file say whether something is owed. It may wait for the
// disk, and is not called by those who write.
func (e *Engine) noteOwing() {
	t := e.l2
	owes := t.copies.owing()
	if t.token.Load() != 0 {
		owes = t.copies.owingSince(e.clock.UnixMilli() - oweAfter.Milliseconds())
	}
	if owes == t.owes.Load() {
		return
	}
	var err error
	if owes {
		err = durable.Replace(e.oweFile(), []byte("stored answers in L2 may be older than this node's\n"))
	} else if err = os.Remove(e.oweFile()); errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err != nil {
		e.logger.Warn("what L2 is owed is not noted; after a crash an older stored answer may be served", "err", err)
		return
	}
	t.owes.Store(owes)
}

// payBeforeClose sends what waits, if L2 is trusted, and notes what is owed
// else.
func (e *Engine) payBeforeClose() {
	if e.l2 == nil {
		return
	}
	for e.sendCopies() {
	}
	if e.l2.copies.owing() {
		e.distrust("closing with copies that were not written", nil)
	}
	e.noteOwing()
}

func (e *Engine) runCopier() {
	for {
		select {
		case <-e.ctx.Done():
			return
		case <-e.l2.copies.wake:
		}
		for e.ctx.Err() == nil && e.sendCopies() {
		}
	}
}

// sendCopies writes one batch. It returns false if there is none, or L2 is not
// trusted: then the way to trust pays what is owed.
func (e *Engine) sendCopies() bool {
	t := e.l2
	t.writing.Lock()
	defer t.writing.Unlock()
	if t.token.Load() == 0 {
		t.copies.forgetRecords()
		return false
	}
	n, err := e.payLocked()
	if err != nil {
		e.l2Failed(err)
	}
	return n > 0 && err == nil
}

// payLocked sends one batch of copies; writing is held.
func (e *Engine) payLocked() (int, error) {
	t := e.l2
	batch := t.copies.take()
	ops := make([]l2.Op, 0, len(batch))
	sent := make([]*l2Copy, 0, len(batch))
	for _, c := range batch {
		op, ok := e.copyOp(c)
		if !ok {
			t.copies.done(c)
			continue
		}
		ops, sent = append(ops, op), append(sent, c)
	}
	out, err := e.applyL2(ops)
	defer t.copies.sent()
	for i, c := range sent {
		switch {
		case err != nil:
			t.copies.owe(c)
		case out[i].Err != nil && c.record == nil:
			err = out[i].Err // not even a drop is taken
			t.copies.owe(c)
		case out[i].Err != nil:
			e.metrics.l2Refused.Inc()
			t.copies.owe(c)
		default:
			t.copies.done(c)
		}
	}
	return len(batch), err
}

// copyOp decides what to send of c: its record only if nothing was published for
// its hash since, and no rule covers it.
func (e *Engine) copyOp(c *l2Copy) (l2.Op, bool) {
	key := item.Key(c.key)
	if c.fill && e.options.L3Shared && e.clock.UnixMilli()-c.at > time.Duration(e.followInterval.Load()).Milliseconds() {
		return l2.Op{}, false // what others have written meanwhile is not known
	}
	if c.record != nil {
		s := e.pending.stripe(c.hash)
		s.mu.Lock()
		current := e.pending.epoch(c.hash).Load() == c.epoch
		s.mu.Unlock()
		r := e.rules.covers(c.record, everyRule)
		switch {
		case current && !r.deleted && !r.purged && !r.stale:
			return l2.Op{Kind: l2.OpPut, Record: c.record, Key: c.record.Key(), Version: c.version}, true
		case c.fill:
			return l2.Op{}, false
		case current:
			return l2.Op{Kind: l2.OpDrop, Key: key, Version: c.version + 1}, true
		}
	}
	return l2.Op{Kind: l2.OpDrop, Key: key, Version: c.version}, true
}
