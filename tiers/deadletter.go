package tiers

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/journal"
)

// A row that L3 refuses for what is in it would hold up its journal segment for
// ever. After a few tries its record moves to the dead letters: a journal of
// their own beside the first. It stays readable there, is shown by Status and
// Health, and is superseded by a newer write of its id. At the next start it is
// tried again.

// ErrRefused is returned by a write of durability l3 that L3 refuses for what is
// in it. It was not stored.
var ErrRefused = errors.New("tiers: L3 refuses this item")

// journalQuota and deadLetterQuota share JournalMaxBytes.
func (o *Options) journalQuota() int64    { return o.JournalMaxBytes - o.deadLetterQuota() }
func (o *Options) deadLetterQuota() int64 { return o.JournalMaxBytes / 8 }

// openDeadLetters opens the journal of dead letters and makes what it holds
// pending.
func (e *Engine) openDeadLetters() error {
	var err error
	e.dead, err = journal.Open(journal.Options{
		Dir: filepath.Join(e.options.DataDir, "dead-letters"), FS: e.options.JournalFS,
		MaxBytes: e.options.deadLetterQuota(), SegmentBytes: 1 << 20, Logger: e.logger, // the reserve is for releases
	})
	if err != nil {
		return err
	}
	return e.dead.Replay(func(pos journal.Pos, record []byte) error {
		if key, version, ok := parseRelease(record); ok {
			e.replayRelease(pos, key, version)
			return nil
		}
		return e.replayItem(pos, record, true)
	})
}

// refusedAlone counts that L3 refuses this one row, and buries it when it has
// been tried often enough. If that fails too, the error makes the flusher wait.
func (e *Engine) refusedAlone(it *flushItem, cause error) error {
	p := it.p
	e.noteReason(p.key, cause)
	if !p.stuck {
		p.stuck = true
		e.flusher.stuck.Add(1)
		e.logger.Error("L3 refuses a row", "id", item.Key(p.key).ID(), "version", it.upTo, "err", cause)
	}
	p.tries++
	if p.tries < e.triesNow() {
		e.requeue(it, false)
		return nil
	}
	err := e.bury(it, cause)
	if err != nil {
		e.logger.Error("dead letter not written; the row is tried again", "id", item.Key(p.key).ID(), "err", err)
		e.requeue(it, false)
	}
	return err
}

// bury moves the record of it to the dead letters: it is on disk there before
// the first journal lets go of it. A write that waits for L3 was never
// acknowledged: it is told and dropped. No lock is held while the disk works.
func (e *Engine) bury(it *flushItem, cause error) error {
	var pos journal.Pos
	moves := e.movesToDead(it)
	if moves {
		var err error
		if pos, err = e.dead.Append(it.record); err == nil {
			err = e.dead.Sync(pos)
		}
		if err != nil {
			return err
		}
	}
	e.flusher.gone = e.flusher.gone[:0]
	if !e.buryLocking(it, pos, moves, cause) && moves {
		e.flusher.gone = append(e.flusher.gone, pendingRecord{version: it.upTo, pos: pos, dead: true}) // it left meanwhile
	}
	e.releaseAll(it.p.key, e.flusher.gone)
	return nil
}

// movesToDead reports whether the record of it is to be written to the dead
// letters.
func (e *Engine) movesToDead(it *flushItem) bool {
	s := e.pending.stripe(it.p.hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	r := it.p.findLocked(it.upTo)
	return r != nil && !r.dead && r.phase != awaitingL3
}

// buryLocking makes the pending table say so, and reports whether the letter at
// pos is part of it now. What is to be released is in flusherState.gone.
func (e *Engine) buryLocking(it *flushItem, pos journal.Pos, moves bool, cause error) (used bool) {
	p := it.p
	s := e.pending.stripe(p.hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.settled.Broadcast()
	let := func(r pendingRecord) { e.flusher.gone = append(e.flusher.gone, r) }
	r := p.findLocked(it.upTo)
	switch {
	case r == nil:
	case r.dead: // found at start, and refused again
		e.unstickLocked(p)
		p.tries = e.triesNow()
		// A crash may have left the first journal's record beside it.
		e.pending.dropLocked(s, p, func(r *pendingRecord) bool { return r.version <= it.upTo && !r.dead }, let)
	case r.phase == awaitingL3:
		s.tellLocked(recordID{p.key, it.upTo}, fmt.Errorf("%w: %w", ErrRefused, cause))
		e.pending.dropLocked(s, p, func(r *pendingRecord) bool { return r.version == it.upTo }, let)
		e.unstickLocked(p)
	case moves:
		e.unstickLocked(p)
		p.tries = e.triesNow()
		buried := *r
		buried.pos, buried.dead, buried.memory = pos, true, false
		buried.kind, buried.content, buried.size = it.record.Kind(), it.record.ContentVersion(), uint32(len(it.record))
		e.pending.dropLocked(s, p, func(r *pendingRecord) bool { return r.version <= it.upTo }, func(r pendingRecord) {
			s.tellLocked(recordID{p.key, r.version}, fmt.Errorf("%w: nor what was written over it: %w", ErrRefused, cause))
			let(r)
		})
		e.pending.addLocked(s, p.hash, item.Key(p.key), buried)
		used = true
	}
	p.flushing = false
	if newest := p.newestLocked(awaitingL3); newest != nil && newest.version != it.upTo {
		e.enqueueLocked(p) // something newer, or what the refused write was to replace
	}
	return used
}

// wakeBuried shows the dead letters to the flusher: those that a rule covers are
// to become tombstones.
func (e *Engine) wakeBuried() {
	if e.dead.Backlog().Records == 0 {
		return
	}
	for i := range e.pending.stripes {
		s := &e.pending.stripes[i]
		s.mu.Lock()
		for _, p := range s.ids {
			if r := p.newestLocked(awaitingL3); r != nil && r.dead {
				e.enqueueLocked(p)
			}
		}
		s.mu.Unlock()
	}
}

// unstickLocked ends the count of refusals of p.
func (e *Engine) unstickLocked(p *pendingID) {
	p.tries = 0
	if p.stuck {
		p.stuck = false
		e.flusher.stuck.Add(-1)
	}
}

// tellLocked ends the wait of the writer of id, if it waits for L3.
func (s *stripe) tellLocked(id recordID, err error) {
	if done := s.waiters[id]; done != nil {
		done <- err
		delete(s.waiters, id)
	}
}
