package tiers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/edgenode/edgenode/tiers/durable"
	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/l1"
	"github.com/edgenode/edgenode/tiers/l3"
	"github.com/edgenode/edgenode/tiers/pressure"
)

// At an orderly end L1 is written to a file, with the number of the change of L3
// up to which it is up to date; the next start reads it behind ready. What may
// have been written, deleted or purged since is left out:
//
//	since the file, by whom ──► how it is known
//	another node, in L3     ──► its change after the file's number, rules too
//	the journal's replay    ──► the epoch of its hash was raised by the replay
//	this process            ──► the epoch of its hash was raised
//	another node, from now  ──► the follower raises the epoch, or comes after and drops it;
//	                            what was read before it came is noted (restoring)
//
// A file serves one start only: it is removed, for good, before anything is
// written. So after a crash there is none, and no old one comes back. Stored answers,
// which are not among L3's changes, are written by this node alone; that is why the
// file must be of the end of the process before. Items that live outside L3 are left out.

const (
	l1SnapshotFile = "l1.snapshot" // in the data directory
	l1SnapshotPoll = time.Second   // until L3 is there
	maxMissed      = 1 << 18       // changes since the file; more, and it is not used
)

// errL1Snapshot is the reason for which a snapshot of L1 is not used.
var errL1Snapshot = errors.New("tiers: it is not of this moment")

// takeL1Snapshot opens the file of the process before and removes it. Nil means
// that there is none, or that it must not be used.
func (e *Engine) takeL1Snapshot() *os.File {
	path := filepath.Join(e.options.DataDir, l1SnapshotFile)
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if rerr := os.Remove(path); err == nil {
		err = rerr
	}
	if err == nil {
		err = durable.SyncDir(e.options.DataDir)
	}
	if err == nil && e.options.L1Snapshot {
		return file
	}
	if err != nil {
		e.logger.Warn("snapshot of memory not used; remove the file by hand", "file", path, "err", err)
	}
	if file != nil {
		file.Close()
	}
	return nil
}

// runL1Restore reads the snapshot once L3 is there, and ends.
func (e *Engine) runL1Restore(file *os.File) {
	defer file.Close()
	defer e.restoring.Store(nil)
	for !e.loaded.Load() || !e.l3Up() {
		if !e.pause(l1SnapshotPoll, nil) {
			return
		}
	}
	start := time.Now()
	records, corrupt, err := e.restoreL1(e.ctx, file)
	switch {
	case e.ctx.Err() != nil:
	case err != nil:
		e.logger.Warn("snapshot of memory not used", "err", err, "restored", records)
	default:
		e.logger.Info("memory read from its snapshot", "records", records, "corrupt_blocks", corrupt, "took", time.Since(start))
	}
	if e.options.Restored != nil {
		e.options.Restored(records)
	}
}

// restoreL1 puts back what of the snapshot is still true.
func (e *Engine) restoreL1(ctx context.Context, file *os.File) (records int, corrupt uint64, err error) {
	r, err := l1.ReadSnapshot(file)
	if err != nil {
		return 0, 0, err
	}
	missed, err := e.missedSince(ctx, r.Head)
	if err != nil {
		return 0, 0, err
	}
	for more := true; more; {
		if ctx.Err() != nil {
			return records, r.Corrupt, context.Cause(ctx)
		}
		if more, err = r.Next(func(s l1.Saved) {
			if e.restore(s, missed) {
				records++
			}
		}); err != nil {
			break
		}
	}
	e.metrics.l1Restored.Add(records)
	e.metrics.l1CorruptBlocks.Add(int(r.Corrupt))
	return records, r.Corrupt, err
}

// missed is what L3 has learned since a snapshot.
type missed struct {
	versions map[uint64]item.Version // by hash of the key: the greatest
	rules    []item.Rule
}

// missedSince reads the changes since the snapshot. It fails if they are not to
// be known, or L3 is another one.
func (e *Engine) missedSince(ctx context.Context, h l1.SnapshotHead) (*missed, error) {
	id, err := e.nameOfL3(ctx)
	if err != nil {
		return nil, err
	}
	if id != h.Identity {
		return nil, fmt.Errorf("%w: it is of the SQL store %s, this one is %s", errL1Snapshot, h.Identity, id)
	}
	version, found, err := e.changeAt(ctx, h.Seq)
	switch {
	case err != nil:
		return nil, err
	case h.Seq != 0 && (!found || uint64(version) != h.Version):
		return nil, fmt.Errorf("%w: SQL has no change %d of version %s any more, or never had", errL1Snapshot, h.Seq, item.Version(h.Version))
	}
	m := &missed{versions: map[uint64]item.Version{}}
	for seq, n := h.Seq, walkPage; n == walkPage; {
		n = 0
		err := (filterSource{e}).ask(ctx, func(ctx context.Context) error {
			return e.l3.Changes(ctx, seq, walkPage, func(c l3.Change) error {
				n, seq = n+1, c.Seq
				if c.Op == l3.ChangeRule {
					m.rules = append(m.rules, *c.Rule)
					return nil
				}
				hash := e.hash(c.Key)
				m.versions[hash] = max(m.versions[hash], c.Version)
				return nil
			})
		})
		if err != nil {
			return nil, fmt.Errorf("changes since %d: %w", h.Seq, err)
		}
		if len(m.versions)+len(m.rules) > maxMissed {
			return nil, fmt.Errorf("%w: more than %d changes since", errL1Snapshot, maxMissed)
		}
	}
	return m, nil
}

// changeAt returns the version of the change with the number seq, if L3 has it.
func (e *Engine) changeAt(ctx context.Context, seq uint64) (v item.Version, found bool, err error) {
	if seq == 0 {
		return 0, false, nil
	}
	err = (filterSource{e}).ask(ctx, func(ctx context.Context) error {
		return e.l3.Changes(ctx, seq-1, 1, func(c l3.Change) error {
			if found = c.Seq == seq; c.Op == l3.ChangeRule {
				v = c.Rule.Version
			} else {
				v = c.Version
			}
			return nil
		})
	})
	return v, found, err
}

// covers reports whether something since the snapshot stands above v. On a shared
// L3 so does an equal version: two nodes may have given it at the same moment.
func (m *missed) covers(hash uint64, v item.View, shared bool) bool {
	if newest, ok := m.versions[hash]; ok && (newest > v.Version() || shared && newest == v.Version()) {
		return true
	}
	for i := range m.rules {
		if m.rules[i].Covers(v) {
			return true
		}
	}
	return false
}

// restore puts a record back under the stripe's lock, unless anything was
// written under its hash since the start, or a rule covers it.
func (e *Engine) restore(s l1.Saved, m *missed) bool {
	v := item.View(s.Record)
	key := v.Key()
	hash := e.hash(key)
	if m.covers(hash, v, e.options.L3Shared) || e.admit(pressure.Promote) != nil {
		return false
	}
	st := e.pending.stripe(hash)
	st.mu.Lock()
	defer st.mu.Unlock()
	if r := e.restoring.Load(); r != nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		if _, ok := r.shown[hash]; ok || len(r.shown) > maxMissed {
			return false
		}
	}
	if e.pending.epoch(hash).Load() != 0 || st.ids[string(key)] != nil {
		return false
	}
	gone, stale := e.rules.coversSaved(v)
	if gone {
		return false
	}
	s.Stale = s.Stale || stale
	return e.l1.Restore(hash, s, e.clock.UnixMilli())
}

// coversSaved reports whether any rule covers a copy of v of an earlier process, or
// may have before it was forgotten. A soft purge makes a stored answer stale.
func (s *ruleSet) coversSaved(v item.View) (gone, stale bool) {
	c := s.covers(v, everyRule)
	s.mu.RLock()
	defer s.mu.RUnlock()
	item := v.Key().Namespace() == item.NamespaceItem
	return c.deleted || c.purged || c.stale && item || v.ContentVersion() < s.forgotten, c.stale
}

// restoring is what was shown of a shared L3 while its follower may be behind: no
// older version is restored after it. Its lock is a leaf, but that L1 is written to
// under it.
type restoring struct {
	mu    sync.Mutex
	shown map[uint64]struct{} // hashes of keys; above maxMissed nothing is restored
}

// noteShown is told that a reader learns what L3 or L2 has of key.
func (e *Engine) noteShown(key item.Key) {
	r := e.restoring.Load()
	if r == nil {
		return
	}
	hash := e.hash(key)
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.shown) <= maxMissed {
		r.shown[hash] = struct{}{}
	}
}

// saveL1AtEnd leaves L1 for the next start. All goroutines have ended. What does not
// fit in the time of ctx is left out.
func (e *Engine) saveL1AtEnd(ctx context.Context) {
	if !e.options.L1Snapshot || e.l1 == nil || !e.loaded.Load() || !e.l3Up() || ctx.Err() != nil {
		return
	}
	start := time.Now()
	records, err := e.saveL1(ctx)
	if err != nil {
		e.logger.Warn("no snapshot of memory at the end; the next start begins with none", "err", err)
		return
	}
	e.logger.Info("snapshot of memory written", "records", records, "took", time.Since(start))
}

func (e *Engine) saveL1(ctx context.Context) (records uint64, err error) {
	head := l1.SnapshotHead{Seq: e.l3.LastSeq(), ID: uint64(e.clock.Stamp())} // all of it was written here
	if e.options.L3Shared {
		if err := e.follow(ctx); err != nil {
			e.logger.Debug("memory is saved without the last changes of other nodes", "err", err)
		}
		head.Seq = e.followed.Load()
	}
	if head.Identity, err = e.nameOfL3(ctx); err != nil {
		return 0, err
	}
	version, found, err := e.changeAt(ctx, head.Seq)
	if err != nil || head.Seq != 0 && !found {
		return 0, errors.Join(errL1Snapshot, err)
	}
	head.Version = uint64(version)
	path := filepath.Join(e.options.DataDir, l1SnapshotFile)
	err = durable.ReplaceBy(path, func(w io.Writer) error {
		records, err = e.l1.WriteSnapshot(w, head, func(record []byte) l1.SaveVerdict { return e.saves(ctx, item.View(record)) })
		return err
	})
	return records, err
}

// saves reports whether v is to be in the snapshot.
func (e *Engine) saves(ctx context.Context, v item.View) l1.SaveVerdict {
	switch gone, _ := e.rules.coversSaved(v); {
	case ctx.Err() != nil:
		return l1.Stop
	case gone, v.Kind() != item.KindPut, v.Key().Namespace() == item.NamespaceInternal,
		v.Key().Namespace() == item.NamespaceItem && v.Tiers()&item.L3 == 0:
		return l1.Skip
	}
	return l1.Save
}
