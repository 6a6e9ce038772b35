package tiers

import (
	"encoding/binary"
	"slices"

	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/journal"
)

// A journal forgets for good only its beginning: a dead letter that is over would
// come back by a crash as long as an older one is there. So the journal of dead
// letters holds releases too. A release stands behind the letter that it ends and
// is let go at once: a replay gives it as long as it gives the letter.
//
//	0   1  format, 1
//	1   1  255, the kind of no item
//	2   6  zero
//	8   8  version, little endian: letters of the key up to this one are over
//	16     key

const (
	releaseFormat  = 1
	kindRelease    = 255
	releaseHeadLen = 16
)

func appendRelease(dst []byte, key string, version item.Version) []byte {
	dst = append(dst, releaseFormat, kindRelease, 0, 0, 0, 0, 0, 0)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(version))
	return append(dst, key...)
}

// parseRelease reports whether b is a release. The key shares memory with b.
func parseRelease(b []byte) (key item.Key, version item.Version, ok bool) {
	if kind, err := item.RecordKind(b); err != nil || b[0] != releaseFormat || kind != kindRelease || len(b) <= releaseHeadLen {
		return nil, 0, false
	}
	return item.Key(b[releaseHeadLen:]), item.Version(binary.LittleEndian.Uint64(b[8:])), true
}

// replayRelease lets go of the letters of key up to version that were found
// before it.
func (e *Engine) replayRelease(pos journal.Pos, key item.Key, version item.Version) {
	over := []journal.Pos{pos}
	s := e.pending.stripe(e.hash(key))
	s.mu.Lock()
	if p := s.ids[string(key)]; p != nil {
		e.pending.dropLocked(s, p, func(r *pendingRecord) bool { return r.dead && r.version <= version },
			func(r pendingRecord) { over = append(over, r.pos) })
	}
	s.mu.Unlock()
	e.dead.Release(over...)
}

// logRelease writes that the letters of key up to version are over, and returns
// when that is on disk.
func (e *Engine) logRelease(key string, version item.Version) error {
	pos, err := e.dead.AppendReserved(appendRelease(nil, key, version))
	if err != nil {
		return err
	}
	defer e.dead.Release(pos)
	return e.dead.Sync(pos)
}

// An owedRelease is what left pending of an id while the release of its dead
// letter could not be written.
type owedRelease struct {
	key     string
	records []pendingRecord
}

// releaseAll lets go of records of key, dead letters first: by a crash in between
// they must not come back when what replaced them is gone. Where the disk does
// not take that, all stay in the journals, until the next batch tries again.
// flusherState.mu is held.
func (e *Engine) releaseAll(key string, records []pendingRecord) {
	if err := e.forgetBuried(key, records); err != nil {
		e.logger.Warn("the release of a dead letter is not written; it is tried again", "id", item.Key(key).ID(), "err", err)
		e.flusher.owed = append(e.flusher.owed, owedRelease{key, slices.Clone(records)})
		return
	}
	for _, r := range records {
		e.release(r)
	}
}

// payReleases does what releaseAll could not.
func (e *Engine) payReleases() {
	owed := e.flusher.owed
	e.flusher.owed = nil
	for _, o := range owed {
		e.releaseAll(o.key, o.records)
	}
}

// forgetBuried releases the dead letters among records, and returns when no crash
// can bring them back: they were at the beginning of their journal, or a release
// says so.
func (e *Engine) forgetBuried(key string, records []pendingRecord) error {
	var last pendingRecord
	for _, r := range records {
		if !r.dead {
			continue
		}
		e.dead.Release(r.pos)
		last.version = max(last.version, r.version)
		if r.pos.Compare(last.pos) > 0 {
			last.pos = r.pos
		}
	}
	if last.pos.IsZero() {
		return nil
	}
	if oldest, live := e.dead.OldestLive(); !live || last.pos.Compare(oldest) < 0 {
		return e.dead.Mark()
	}
	return e.logRelease(key, last.version)
}
