package tiers

import (
	"context"
	"errors"
	"fmt"

	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/l3"
)

// A server may show a commit before it is on its disk: InnoDB without a binary log
// does, for the time of an fsync. If it crashes then, changes that a node has read
// are gone, and their numbers are given to others, which nobody would ever look at.
// So who goes on along the sequence reads the last change once more that it has had,
// and compares.

// A lastChange is the last change that a walk has had; the zero value is none.
type lastChange struct {
	seq     uint64
	version item.Version
	key     uint64 // its hash, 0 for a rule
}

// errRewritten says that L3 has forgotten changes that this node has seen.
var errRewritten = fmt.Errorf("%w: the last one that was seen is not there any more", l3.ErrChangesGone)

func (e *Engine) lastChangeOf(c *l3.Change) lastChange {
	last := lastChange{seq: c.Seq, version: c.Version}
	if c.Rule == nil {
		last.key = e.hash(c.Key)
	} else {
		last.version = c.Rule.Version
	}
	return last
}

// changesAfter is Store.Changes for a walk that goes on at change seq, and has had
// was. It returns the last change that it has read, and fails with errRewritten,
// which is also an l3.ErrChangesGone, if was is not in L3 any more. A was of another
// number than seq is not compared. Cost: one change more is read.
func (e *Engine) changesAfter(ctx context.Context, seq uint64, was lastChange, limit int, fn func(l3.Change) error) (lastChange, error) {
	if seq == 0 || was.seq != seq || !e.options.L3Shared {
		was = lastChange{}
		err := e.l3.Changes(ctx, seq, limit, func(c l3.Change) error {
			was = e.lastChangeOf(&c)
			return fn(c)
		})
		return was, err
	}
	last, met := was, false
	err := e.l3.Changes(ctx, seq-1, limit+1, func(c l3.Change) error {
		switch last = e.lastChangeOf(&c); {
		case c.Seq != seq:
			return fn(c)
		case last != was:
			return errRewritten
		}
		met = true
		return nil
	})
	if err == nil && !met {
		err = errRewritten // the sequence ends before it
	}
	if errors.Is(err, l3.ErrChangesGone) && !errors.Is(err, errRewritten) {
		// It was trimmed perhaps, and those after it were not.
		return e.changesAfter(ctx, seq, lastChange{}, limit, fn)
	}
	return last, err
}

// rewritten lets go of what came from changes that L3 has forgotten, up to the
// last one that was seen.
func (e *Engine) rewritten(seen uint64) {
	e.logger.Error("L3 has forgotten changes that this node has seen: its server crashed before they were on its disk, or it was restored; copies and filter are made anew", "seen", seen)
	if e.filter != nil {
		e.filter.Distrust("L3 has forgotten changes")
		signal(e.filter.wake)
	}
	if e.l2 != nil {
		e.l2.unmarked.Store(true)
		e.distrust("L3 has forgotten changes", nil)
	}
}

// endOfL3 asks for the number of the last change.
func (e *Engine) endOfL3(ctx context.Context) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, e.l3TimeoutNow())
	defer cancel()
	if err := e.l3.Ping(ctx); err != nil {
		e.l3Failed(err)
		return 0, fmt.Errorf("tiers: end of the changes: %w", err)
	}
	return e.l3.LastSeq(), nil
}
