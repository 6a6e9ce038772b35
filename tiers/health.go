package tiers

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/pressure"
)

// probeInterval is how often the keeper asks L3 whether it is there, and the
// longest that a probe may take: a lost backend is named within 2 s.
const probeInterval = 900 * time.Millisecond

// A backendState is what is known about a backend.
type backendState struct {
	mu        sync.Mutex
	up        bool
	err       string
	since     int64 // Unix ms of the last change of up
	latencyMS float64
}

// set notes whether the backend is up and reports whether that changed.
func (b *backendState) set(up bool, err string, nowMilli int64) (changed bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	changed = b.up != up || b.since == 0
	if changed {
		b.since = nowMilli
	}
	b.up, b.err = up, err
	return changed
}

func (b *backendState) health() *BackendHealth {
	b.mu.Lock()
	defer b.mu.Unlock()
	return &BackendHealth{OK: b.up, LatencyMS: b.latencyMS, Error: b.err, Since: b.since}
}

func (e *Engine) l3Up() bool {
	e.l3State.mu.Lock()
	defer e.l3State.mu.Unlock()
	return e.l3State.up
}

// l3Failed notes that L3 did not answer.
func (e *Engine) l3Failed(err error) {
	if e.l3State.set(false, err.Error(), e.clock.UnixMilli()) {
		e.logger.Warn("L3 does not answer; writes stay in the journal", "err", err)
	}
}

// l3Answered notes that it did, and wakes the flusher if that is news.
func (e *Engine) l3Answered() {
	if e.l3State.set(true, "", e.clock.UnixMilli()) {
		e.logger.Info("L3 answers again", "pending", e.pending.ids.Load())
		signal(e.dirty.again)
		signal(e.dirty.now)
		signal(e.sweep)
	}
}

// probeL3 asks L3 once.
func (e *Engine) probeL3() {
	ctx, cancel := context.WithTimeout(e.ctx, probeInterval)
	defer cancel()
	start := time.Now()
	err := e.l3.Ping(ctx)
	if err == nil {
		err = e.load(ctx)
	}
	latency := time.Since(start)
	if e.ctx.Err() != nil {
		return // closing
	}
	if err != nil {
		e.l3Failed(err)
		return
	}
	e.l3State.mu.Lock()
	e.l3State.latencyMS = float64(latency.Microseconds()) / 1000
	e.l3State.mu.Unlock()
	e.l3Answered()
}

// runKeeper keeps the clock file ahead of the clock and knows whether L3 is
// there.
func (e *Engine) runKeeper() {
	tick := time.NewTicker(probeInterval)
	defer tick.Stop()
	for {
		select {
		case <-e.ctx.Done():
			return
		case <-tick.C:
		}
		if err := e.clockFile.advance(e.clock.Last()); err != nil {
			e.logger.Error("clock file not written; a restart after a step of the clock could stamp lower versions", "err", err)
		}
		e.probeL3()
	}
}

// Health returns the engine's view of itself. It does no I/O: backends are
// probed in the background.
func (e *Engine) Health(context.Context) Health {
	b := e.journal.Backlog()
	p := e.Pressure()
	level := e.thresholds.Load().Level(p)
	h := Health{
		State: e.State().String(), Verdict: "ok", AcceptingWrites: e.Ready() && level < pressure.Critical,
		L3:             e.l3State.health(),
		JournalRecords: int64(b.Records), JournalBytes: b.Bytes, JournalQuota: b.QuotaBytes,
		Pressure: p, PressureLevel: level.String(),
		L1Bytes: e.l1.UsedBytes(), L1Max: e.l1.MaxBytes(), L1Items: int64(e.l1.Len()),
	}
	degraded := func(format string, args ...any) {
		h.Verdict = "degraded"
		h.Reasons = append(h.Reasons, fmt.Sprintf(format, args...))
	}
	if err := e.journal.Broken(); err != nil {
		h.AcceptingWrites = false
		degraded("the journal is read-only, writes are refused: %v", err)
	}
	if !h.L3.OK {
		degraded("L3 does not answer: %s", h.L3.Error)
	}
	if level >= pressure.Throttle {
		degraded("pressure %.2f, level %s: writes are refused", p, level)
	}
	if n := e.flusher.stuck.Load(); n > 0 {
		degraded("%d items are refused by L3 and tried again; see the log", n)
	}
	if n := e.dead.Backlog().Records; n > 0 {
		degraded("%d dead letters: L3 refuses these items; see the log, write them anew, or restart to try again", n)
	}
	if !e.Ready() {
		h.Verdict = "down"
		h.Reasons = append(h.Reasons, "state "+h.State)
	}
	return h
}

// Status says where the newest version of the item of key is.
func (e *Engine) Status(ctx context.Context, key item.Key) (Status, error) {
	if err := e.enterRead(); err != nil {
		return Status{}, err
	}
	defer e.leave()
	hash := e.hash(key)
	var st Status
	if h, ok := e.fromL1(hash, key); ok {
		st.Version, st.L1 = h.View.Version(), true
		h.Release()
	}
	c, pending := e.copyPending(hash, key)
	if pending {
		if c.newest.version > st.Version {
			st.L1 = false
		}
		st.Version, st.Tombstone = c.newest.version, c.newest.kind == item.KindTombstone
		st.Where = StatusJournaled
		switch {
		case c.newest.dead:
			st.Where = StatusDeadLetter
		case c.newest.memory:
			st.Where = StatusPending
		}
		if !st.Tombstone && e.hiddenPending(&c) {
			st.Where = StatusMissing
		}
		return st, nil
	}
	v, ok, err := e.readL3(ctx, key)
	switch {
	case err != nil && st.L1:
		st.Where = StatusSynced // it left pending, so L3 has it
		return st, nil
	case err != nil:
		return st, err
	case ok && !e.hiddenBelow(v):
		st.L3, st.Where, st.Tombstone = true, StatusSynced, v.Kind() == item.KindTombstone
		st.L1 = st.L1 && st.Version >= v.Version()
		st.Version = v.Version()
	case st.L1:
		st.Where = StatusSynced // an item that lives in memory only
	default:
		st.Where = StatusMissing
	}
	return st, nil
}

// hiddenPending reports whether the newest pending record is over or covered by
// a rule.
func (e *Engine) hiddenPending(c *pendingCopy) bool {
	v, err := e.recordBytes(nil, c.newest, c.memory)
	if err != nil {
		return false // flushed meanwhile
	}
	_, found := e.answer(v, FromPending, everyRule)
	return !found
}

// hiddenBelow reports whether v, a row of L3, is over or covered by a rule.
func (e *Engine) hiddenBelow(v item.View) bool {
	if v.Kind() == item.KindTombstone {
		return false
	}
	_, found := e.answer(v, FromL3, everyRule)
	return !found
}

// PendingItems returns how many ids have writes that L3 does not hold yet.
func (e *Engine) PendingItems() int64 { return e.pending.ids.Load() }
