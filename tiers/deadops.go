package tiers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/edgenode/edgenode/tiers/item"
)

// A DeadLetter is a write that L3 refuses for what is in it.
type DeadLetter struct {
	Key     item.Key
	Version item.Version
	Kind    item.Kind
	Bytes   int64  // of its record
	Reason  string // what L3 said last; empty after a restart, until it is tried
}

// errNotDead is wrapped in ErrNoItem by calls for a dead letter that is none.
var errNotDead = errors.New("tiers: no dead letter of this id")

const maxReasons = 1024

// DeadLetters returns up to limit dead letters (0 means 100, at most 1,000) in
// the order of their keys, those after cursor, and the cursor of the next page,
// empty on the last. It costs as much as there is pending.
func (e *Engine) DeadLetters(_ context.Context, cursor string, limit int) (list []DeadLetter, next string, err error) {
	if err := e.enterRead(); err != nil {
		return nil, "", err
	}
	defer e.leave()
	if limit == 0 {
		limit = defaultPage
	}
	if limit < 0 || limit > maxPage {
		return nil, "", fmt.Errorf("%w: limit %d, allowed are 1 to %d", ErrInvalid, limit, maxPage)
	}
	q := Query{Cursor: cursor}
	after, err := q.decodeCursor()
	if err != nil {
		return nil, "", err
	}
	for i := range e.pending.stripes {
		s := &e.pending.stripes[i]
		s.mu.Lock()
		for _, p := range s.ids {
			if r := p.deadLocked(); r != nil && p.key > string(after) {
				list = append(list, DeadLetter{Key: item.Key(p.key), Version: r.version, Kind: r.kind, Bytes: int64(r.size)})
			}
		}
		s.mu.Unlock()
	}
	slices.SortFunc(list, func(a, b DeadLetter) int { return bytes.Compare(a.Key, b.Key) })
	if len(list) > limit {
		list = list[:limit]
		next = q.encodeCursor(list[limit-1].Key)
	}
	e.flusher.reasonMu.Lock()
	defer e.flusher.reasonMu.Unlock()
	for i := range list {
		list[i].Reason = e.flusher.reasons[string(list[i].Key)]
	}
	return list, next, nil
}

// deadLocked returns the dead letter of p, if that is its newest write.
func (p *pendingID) deadLocked() *pendingRecord {
	if r := p.newestLocked(awaitingL3); r != nil && r.dead {
		return r
	}
	return nil
}

// noteReason keeps why L3 refuses a row, for the operator.
func (e *Engine) noteReason(key string, cause error) {
	f := &e.flusher
	f.reasonMu.Lock()
	defer f.reasonMu.Unlock()
	if f.reasons == nil || len(f.reasons) >= maxReasons {
		f.reasons = make(map[string]string)
	}
	f.reasons[key] = cause.Error()
}

func (e *Engine) forgetReason(key string) {
	f := &e.flusher
	f.reasonMu.Lock()
	defer f.reasonMu.Unlock()
	delete(f.reasons, key)
}

// RetryDeadLetter gives the dead letter of key to L3 once more. It returns nil
// when L3 has it, ErrRefused if L3 refuses it again, ErrUnavailable if L3 cannot
// be asked (it is tried when it can), and ErrNoItem if there is none.
func (e *Engine) RetryDeadLetter(ctx context.Context, key item.Key) error {
	if err := e.enterWrite(); err != nil {
		return err
	}
	defer e.leave()
	p, err := e.reviveDead(key)
	if err != nil {
		return err
	}
	for {
		if _, err := e.flushBatch(context.WithoutCancel(ctx)); err != nil {
			return fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
		switch again, buried := e.deadFate(p); {
		case !again:
			return nil
		case buried:
			e.flusher.reasonMu.Lock()
			defer e.flusher.reasonMu.Unlock()
			return fmt.Errorf("%w: %s", ErrRefused, e.flusher.reasons[string(key)])
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
}

// reviveDead makes the flusher try the dead letter of key again, once.
func (e *Engine) reviveDead(key item.Key) (*pendingID, error) {
	hash := e.hash(key)
	s := e.pending.stripe(hash)
	e.flusher.mu.Lock() // tries is the flusher's
	defer e.flusher.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.ids[string(key)]
	if p == nil || p.deadLocked() == nil {
		return nil, fmt.Errorf("%w: %w", ErrNoItem, errNotDead)
	}
	p.tries = e.triesNow() - 1
	e.enqueueLocked(p)
	return p, nil
}

// deadFate reports whether p is a dead letter still, and has been refused again.
func (e *Engine) deadFate(p *pendingID) (still, buried bool) {
	e.flusher.mu.Lock()
	defer e.flusher.mu.Unlock()
	s := e.pending.stripe(p.hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	still = s.ids[p.key] == p && p.deadLocked() != nil
	return still, still && p.tries >= e.triesNow()
}

// DropDeadLetter gives up the dead letter of key for good: what L3 has of the id
// is served again, if anything. It returns ErrNoItem if there is none.
func (e *Engine) DropDeadLetter(_ context.Context, key item.Key) error {
	if err := e.enterWrite(); err != nil {
		return err
	}
	defer e.leave()
	e.flusher.mu.Lock() // no letter moves meanwhile
	defer e.flusher.mu.Unlock()
	version, err := e.deadVersion(key)
	if err != nil {
		return err
	}
	if err := e.logRelease(string(key), version); err != nil {
		return fmt.Errorf("tiers: drop of a dead letter: %w", journalError(err))
	}
	e.dropDead(key, version)
	e.forgetReason(string(key))
	e.logger.Warn("dead letter dropped", "id", key.ID(), "version", version)
	return nil
}

// deadVersion returns the version of the dead letter of key.
func (e *Engine) deadVersion(key item.Key) (item.Version, error) {
	s := e.pending.stripe(e.hash(key))
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.ids[string(key)]
	if p == nil || p.deadLocked() == nil {
		return 0, fmt.Errorf("%w: %w", ErrNoItem, errNotDead)
	}
	return p.deadLocked().version, nil
}

// dropDead lets go of the dead letter of key, whose release is on disk, and of
// what is older.
func (e *Engine) dropDead(key item.Key, version item.Version) {
	hash := e.hash(key)
	s := e.pending.stripe(hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.ids[string(key)]
	if p == nil {
		return
	}
	e.unstickLocked(p)
	e.pending.epoch(hash).Add(1)
	e.l1.Delete(hash, key, uint64(version))
	e.pending.dropLocked(s, p, func(r *pendingRecord) bool { return r.version <= version }, func(r pendingRecord) {
		if r.dead {
			e.dead.Release(r.pos)
			return
		}
		e.release(r)
	})
	s.settled.Broadcast()
}
