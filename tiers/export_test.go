package tiers

import (
	"context"
	"errors"
	"time"

	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/merkle"
)

// Waiters returns how many callers wait for the read of key that is under way.
func (e *Engine) Waiters(key item.Key) int {
	k := flightKey{key: string(key), epoch: e.pending.epoch(e.hash(key)).Load(), rules: e.rules.installed.Load(), inL3: true}
	e.fills.mu.Lock()
	defer e.fills.mu.Unlock()
	if f := e.fills.flying[k]; f != nil {
		return f.waiters
	}
	return 0
}

// CloseAbruptly ends the engine as kill -9 does, as far as a test in the same
// process can: nothing is flushed, only what the journal has remains.
func (e *Engine) CloseAbruptly() error {
	var err error
	e.closeOnce.Do(func() {
		e.stop(errors.New("killed"))
		e.tasks.Wait()
		err = e.closeParts()
	})
	return err
}

// AccountedBytes recomputes what the pending table holds, to be compared with
// its counters.
func (e *Engine) AccountedBytes() (ids, index, memory, records int64) {
	t := &e.pending
	for i := range t.stripes {
		s := &t.stripes[i]
		s.mu.Lock()
		for _, p := range s.ids {
			ids++
			index += pendingIDBytes + int64(len(p.key)) + int64(len(p.records)-1)*pendingRecordBytes
			records += int64(len(p.records))
		}
		for _, b := range s.memory {
			memory += int64(len(b))
		}
		s.mu.Unlock()
	}
	return ids, index, memory, records
}

// CountedBytes returns the pending table's counters.
func (e *Engine) CountedBytes() (ids, index, memory, records int64) {
	t := &e.pending
	return t.ids.Load(), t.indexBytes.Load(), t.memoryBytes.Load(), t.records.Load()
}

// CloseWaits reports whether Close waits for calls under way, or is past that.
func (e *Engine) CloseWaits() bool {
	if !e.gate.TryRLock() {
		return true
	}
	defer e.gate.RUnlock()
	return e.closed.Load()
}

// CallUnderWay reports whether a call below L1 is under way.
func (e *Engine) CallUnderWay() bool {
	if !e.gate.TryLock() {
		return true
	}
	e.gate.Unlock()
	return false
}

// ProbeL3 asks L3 now, as the keeper does all the time.
func (e *Engine) ProbeL3() { e.probeL3() }

// L2Trusted reports whether L2 is asked.
func (e *Engine) L2Trusted() bool {
	_, ok := e.l2.trusted()
	return ok
}

// WarmFilter fills the filter anew, as its keeper does when it wants to.
func (e *Engine) WarmFilter(ctx context.Context) error {
	return e.filter.Warm(ctx, filterSource{e}, 0)
}

// Forget lets go of what is past its retention, all of it, with so many changes
// that stay.
func (e *Engine) Forget(kept uint64) {
	e.keptChanges = kept
	for e.forget() {
	}
}

// Settled reports whether nothing is pending and every rule has been applied.
func (e *Engine) Settled() bool {
	return e.pending.ids.Load() == 0 && len(e.rules.which(unapplied)) == 0
}

// Followed returns the last change of a shared L3 that was seen.
func (e *Engine) Followed() uint64 { return e.followed.Load() }

// WritesStream reports whether this node writes the stream of changes.
func (e *Engine) WritesStream() bool { return e.metrics.cdcLeads.Load() }

// NoteOwing is what the keeper of L2 does now and then.
func (e *Engine) NoteOwing() { e.noteOwing() }

// Heartbeat is what the keeper does now and then.
func (e *Engine) Heartbeat() { e.heartbeat() }

// AppendRelease appends the record that ends the dead letters of key.
func AppendRelease(dst []byte, key string, version item.Version) []byte {
	return appendRelease(dst, key, version)
}

// StepTree takes one step of the tree of hashes.
func (e *Engine) StepTree(ctx context.Context) (more bool, err error) { return e.tree.tree.Step(ctx) }

// SetMerkleBatch sets how many changes a step takes.
func (o *Options) SetMerkleBatch(n int) { o.merkleBatch = n }

// SetShadowEvery sets the pause between two looks at the copy of the tree in L2.
func (o *Options) SetShadowEvery(d time.Duration) { o.shadowEvery = d }

// CopyTree brings the copy of the tree in L2 up to the tree.
func (e *Engine) CopyTree(ctx context.Context) (merkle.CopyStats, error) {
	return e.copyTree(ctx, false)
}

// FollowNow has the follower look at once.
func (e *Engine) FollowNow() { signal(e.followNow) }
