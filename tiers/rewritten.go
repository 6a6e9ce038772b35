package tiers

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/l3"
)

// L3 may forget changes. A server may show a commit before it is on its disk:
// InnoDB without a binary log does, for the time of an fsync. If it crashes then,
// changes that a node has read are gone, and their numbers are given to others,
// which nobody would ever look at. The same happens when a database is restored to
// an older state under a running node. So who goes on along the sequence reads the
// last change once more that it has had, and compares.
//
// Who finds another one there makes anew what this node has made of the changes,
// and has L3 abandon the sequence: it goes on above every number that was ever
// read. So all others, other nodes and readers outside, learn that what they rest
// on is gone, by the answer that they get when they were away for too long.

// watchInterval is how often a node that alone writes L3 compares.
const watchInterval = time.Second

// A lastChange is the last change that a walk has had; the zero value is none.
type lastChange struct {
	seq     uint64
	version item.Version
	key     uint64 // its hash, 0 for a rule
}

// errRewritten says that L3 has forgotten changes that this node has seen.
var errRewritten = fmt.Errorf("%w: the last one that was seen is not there any more", l3.ErrChangesGone)

// A history is what is known of the sequence beside what the follower has had. It is
// safe for concurrent use.
type history struct {
	mu sync.Mutex
	// told are last changes of what was told to others than the follower and that it
	// has not had yet: one for each reader that began elsewhere.
	told map[uint64]lastChange
	// lost is above 0 while some changes up to this number are known to be
	// forgotten, and the sequence is not abandoned yet.
	lost      uint64
	announced bool
}

// lose notes that changes up to seen are forgotten.
func (h *history) lose(seen uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lost = max(h.lost, seen)
}

// announce is lose, and reports whether it was not called before for this loss.
func (h *history) announce(seen uint64) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	was := h.announced
	h.lost, h.announced = max(h.lost, seen), true
	return !was
}

func (h *history) lostUpTo() uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.lost
}

// begin forgets everything: the sequence begins anew.
func (h *history) begin() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lost, h.announced, h.told = 0, false, nil
}

// from returns what was told from a number on.
func (h *history) from(seq uint64) []lastChange {
	h.mu.Lock()
	defer h.mu.Unlock()
	var list []lastChange
	for s, c := range h.told {
		if s >= seq {
			list = append(list, c)
		}
	}
	return list
}

// tell notes the last change of what is about to be told, instead of those that
// were met on the way to it. It fails if another one was told under its number.
func (h *history) tell(c lastChange, met []lastChange) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if was, ok := h.told[c.seq]; ok && was != c {
		return errRewritten
	}
	for _, m := range met {
		if m.seq < c.seq {
			delete(h.told, m.seq)
		}
	}
	if h.told == nil {
		h.told = map[uint64]lastChange{}
	}
	h.told[c.seq] = c
	return nil
}

// settle forgets what was told up to a number: the follower has had it.
func (h *history) settle(seq uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	maps.DeleteFunc(h.told, func(s uint64, _ lastChange) bool { return s <= seq })
}

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
	if seq == 0 || was.seq != seq {
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

// changesToTell is Store.Changes for readers who keep the number themselves, or are
// told elsewhere: what it reads is compared with what others were told, and its last
// change is noted until the follower has had it.
func (e *Engine) changesToTell(ctx context.Context, after uint64, limit int, fn func(l3.Change) error) error {
	told := e.history.from(after)
	var was lastChange
	if i := slices.IndexFunc(told, func(c lastChange) bool { return c.seq == after }); i >= 0 {
		was = told[i]
	}
	n := 0
	last, err := e.changesAfter(ctx, after, was, limit, func(c l3.Change) error {
		n++
		if i := slices.IndexFunc(told, func(t lastChange) bool { return t.seq == c.Seq }); i >= 0 && told[i] != e.lastChangeOf(&c) {
			return errRewritten
		}
		return fn(c)
	})
	if err == nil && n > 0 && last.seq > e.followed.Load() {
		err = e.history.tell(last, told)
	}
	if errors.Is(err, errRewritten) {
		e.forgotten(after + uint64(n))
	}
	return err
}

// forgotten notes that L3 has forgotten changes of which some up to seen were read:
// the follower does the rest.
func (e *Engine) forgotten(seen uint64) {
	e.history.lose(seen)
	signal(e.followNow)
}

// compareChange fails with errRewritten if a change that was read is not in L3 any
// more. One that was trimmed says nothing.
func (e *Engine) compareChange(ctx context.Context, was lastChange) error {
	if was.seq == 0 {
		return nil
	}
	limited, cancel := context.WithTimeout(ctx, e.l3TimeoutNow())
	defer cancel()
	met := false
	err := e.l3.Changes(limited, was.seq-1, 1, func(c l3.Change) error {
		if met = true; e.lastChangeOf(&c) != was {
			return errRewritten
		}
		return nil
	})
	switch {
	case errors.Is(err, errRewritten), err == nil && met:
		return err
	case err == nil:
		return errRewritten // the sequence ends before it
	case !errors.Is(err, l3.ErrChangesGone):
		return err
	}
	if end, err := e.lookAtEnd(ctx); err != nil {
		return err
	} else if end < was.seq {
		return errRewritten
	}
	return nil
}

// compareTold compares what was told to readers before the follower had it, and
// settles what it has had. If some of it is forgotten, or was found to be by others,
// the follower begins anew.
func (e *Engine) compareTold(ctx context.Context) error {
	for _, c := range e.history.from(0) {
		err := e.compareChange(ctx, c)
		if errors.Is(err, errRewritten) {
			e.history.lose(c.seq)
			break
		}
		if err != nil {
			return err
		}
	}
	if e.history.lostUpTo() > 0 {
		return e.followAnew(ctx, errRewritten)
	}
	e.history.settle(e.followed.Load())
	return nil
}

// runWatch is the follower of a node that alone writes L3: it needs not be told of
// changes, but of their loss.
func (e *Engine) runWatch() {
	last := ""
	for e.pause(watchInterval, e.followNow) {
		if !e.loaded.Load() || !e.l3Up() {
			continue
		}
		switch err := e.watch(e.ctx); {
		case err == nil:
			last = ""
		case e.ctx.Err() == nil && err.Error() != last: // once, not every second
			last = err.Error()
			e.logger.Warn("it is not known now whether L3 has kept all changes", "err", err)
		}
	}
}

// watch compares the last change that it has had, and takes the present last one. Its
// failures do not count for the circuit: a node that is idle is told of an outage by
// probes.
func (e *Engine) watch(ctx context.Context) error {
	err := e.compareChange(ctx, e.followedLast)
	if errors.Is(err, errRewritten) {
		return e.followAnew(ctx, err)
	}
	if err == nil {
		err = e.compareTold(ctx)
	}
	if err != nil {
		return err
	}
	seq, err := e.lookAtEnd(ctx)
	if err != nil || seq == 0 || seq == e.followedLast.seq {
		return err
	}
	limited, cancel := context.WithTimeout(ctx, e.l3TimeoutNow())
	defer cancel()
	last, err := e.changesAfter(limited, seq-1, lastChange{}, 1, func(l3.Change) error { return nil })
	if errors.Is(err, l3.ErrChangesGone) {
		return nil // none is kept, or fewer are there: the next look tells
	}
	if err == nil && last.seq == seq {
		e.followed.Store(seq)
		e.followedLast = last
	}
	return err
}

// rewritten lets go of what came from changes that L3 has forgotten, up to the
// last one that was seen, and has L3 abandon the sequence.
func (e *Engine) rewritten(ctx context.Context, seen uint64) error {
	if e.history.announce(seen) {
		e.metrics.changesLost.Inc()
		e.logger.Error("L3 has forgotten changes that this node has seen: its server crashed before they were on its disk, or it was restored; copies, filter and tree are made anew, readers of the changes are told to compare", "seen", seen)
		if e.filter != nil {
			e.filter.Distrust("L3 has forgotten changes")
		}
		if e.l2 != nil {
			e.l2.unmarked.Store(true)
			e.distrust("L3 has forgotten changes", nil)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, time.Duration(e.applyTimeout.Load()))
	defer cancel()
	if _, err := e.l3.AbandonChanges(ctx, seen); err != nil {
		e.l3Failed(err)
		return fmt.Errorf("tiers: abandon the changes: %w", err)
	}
	return nil
}

// begunAnew says that nothing is left of a loss: what rests on the changes may be
// made again.
func (e *Engine) begunAnew() {
	e.history.begin()
	if e.filter != nil {
		signal(e.filter.wake)
	}
	if e.l2 != nil {
		signal(e.l2.wake)
	}
}

// endOfL3 is lookAtEnd that notes an outage.
func (e *Engine) endOfL3(ctx context.Context) (uint64, error) {
	seq, err := e.lookAtEnd(ctx)
	if err != nil {
		e.l3Failed(err)
	}
	return seq, err
}

// lookAtEnd asks for the number of the last change.
func (e *Engine) lookAtEnd(ctx context.Context) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, e.l3TimeoutNow())
	defer cancel()
	if err := e.l3.Ping(ctx); err != nil {
		return 0, fmt.Errorf("tiers: end of the changes: %w", err)
	}
	return e.l3.LastSeq(), nil
}
