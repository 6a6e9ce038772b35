package tiers

import (
	"context"
	"fmt"
	"time"

	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/pressure"
)

// Health returns the engine's view of itself. It does no I/O: backends are
// probed in the background.
func (e *Engine) Health(context.Context) Health {
	b := e.journal.Backlog()
	p := e.Pressure()
	level := e.thresholds.Load().Level(p)
	h := Health{
		State: e.State().String(), Verdict: "ok", AcceptingWrites: e.Ready() && level < pressure.Critical,
		L3: e.l3Backend.health(), Filter: e.filterHealth(),
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
		degraded("L3 does not answer as it should (circuit %s): %s", h.L3.Circuit, h.L3.Error)
	}
	if age, late := e.followAge(); late {
		degraded("what other nodes write is not seen for %d s (follow_interval %s): memory and Redis may be behind SQL, \"not there\" is asked of SQL", age/time.Second, time.Duration(e.followInterval.Load()))
	}
	if other := e.node.conflict.Load(); other != nil {
		degraded("another holder of this node's identity: %s", *other)
	}
	if age := e.flusher.watch.age(e.clock.UnixMilli()); age >= namedAfter {
		degraded("a batch to L3 is under way for %d s and not answered; it is given up after sql_batch_timeout", age/1000)
	}
	if ok, reason := e.l3Durable(); !ok {
		degraded("L3 does not keep what it has committed, durability l3 is refused: %s", reason)
	}
	if h.Merkle = e.treeHealth(); h.Merkle != nil && h.Merkle.Error != "" {
		degraded("the merkle tree is damaged, edgenode verify --rebuild builds it anew: %s", h.Merkle.Error)
	}
	if e.l2 != nil {
		h.L2 = e.l2.backend.health()
		_, h.L2Trusted = e.l2.trusted()
		if !h.L2.OK {
			degraded("L2 does not answer as it should (circuit %s): %s", h.L2.Circuit, h.L2.Error)
		}
		if policy := e.l2.evicts.Load(); policy != nil {
			degraded("L2 evicts by itself (maxmemory-policy %s), also what keeps older copies out: set it to noeviction", *policy)
		}
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
	if h, ok := e.fromL1(hash, key, e.clock.UnixMilli()); ok {
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
	if v, verdict := e.readL2(key); verdict == l2Hit && v.Version() >= st.Version {
		st.L1 = st.L1 && st.Version == v.Version()
		st.L2, st.Version = true, v.Version()
	}
	v, ok, err := e.readL3(ctx, key)
	switch {
	case err != nil && (st.L1 || st.L2):
		st.Where = StatusSynced // it left pending, so L3 has it
		return st, nil
	case err != nil:
		return st, err
	case ok && !e.hiddenBelow(v):
		st.Where = StatusSynced
		here := (st.L1 || st.L2) && st.Version >= v.Version()
		st.L1, st.L2, st.L3 = st.L1 && here, st.L2 && here, true
		if here && v.Kind() == item.KindTombstone {
			st.L3 = false // it lives above L3, which says only that what it had is over
			break
		}
		st.Version, st.Tombstone = v.Version(), v.Kind() == item.KindTombstone
	case st.L1 || st.L2:
		st.Where = StatusSynced // an item that lives above L3 only
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
