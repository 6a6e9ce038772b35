package tiers

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"sync"
	"time"

	"github.com/edgenode/edgenode/tiers/filter"
	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/l3"
)

// The keeper of the filter makes it trusted and keeps it so:
//
//	start: snapshot, then the changes since ──────────► trusted
//	no snapshot, or a bad one, or changes are gone ──► all keys of L3, then trusted
//
// Afterwards it is fed by what the flusher commits, before that leaves pending, and
// by the change sequence: on a shared L3 by the walk of the follower, else by a look
// of its own once a second, if there is news.

const (
	filterFile    = "filter.snapshot" // in the data directory
	filterTick    = time.Second       // between two looks of the keeper
	filterPage    = 1000              // keys of one query of a warm-up
	followSlack   = 50 * time.Millisecond
	firstWarmWait = time.Second // after a warm-up that failed
	lastWarmWait  = time.Minute
	// savingShare bounds the time that snapshots take: a tenth.
	savingShare = 10
)

// A filterTier is the filter as the engine keeps it. Fields without a word on it
// are the keeper's.
type filterTier struct {
	*filter.Filter // safe for concurrent use
	path           string
	wake           chan struct{} // capacity 1: there is something to do now

	id       string // of L3, as the filter knows it; empty: not asked yet
	restored bool   // the snapshot was looked for
	warmAt   int64  // Unix ms before which no warm-up begins
	warmWait time.Duration

	// saving is held while the snapshot file is written or removed.
	saving   sync.Mutex
	savedAt  int64         // Unix ms of the last snapshot's end
	saveTook time.Duration // what it took
}

// openFilter makes the filter, which trusts nothing yet.
func (e *Engine) openFilter() error {
	if e.options.FilterOff {
		return nil
	}
	f, err := filter.New(filter.Options{
		MinItems: e.options.FilterMinItems, MaxLag: e.filterMaxLag(), PageKeys: filterPage,
		Clock: e.clock.UnixMilli, Metrics: e.options.Metrics, Log: e.logger,
	})
	if err != nil {
		return fmt.Errorf("tiers: %w", err)
	}
	e.filter = &filterTier{Filter: f, path: filepath.Join(e.options.DataDir, filterFile), wake: make(chan struct{}, 1)}
	return nil
}

// filterMaxLag is how old the last look at the end of the changes may be.
func (e *Engine) filterMaxLag() time.Duration {
	if !e.options.L3Shared {
		return 0 // what this node commits is there before it leaves pending
	}
	return time.Duration(e.followInterval.Load()) + followSlack
}

func (e *Engine) runFilter() {
	last := ""
	for {
		err := e.tendFilter(e.ctx)
		switch text := fmt.Sprint(err); {
		case e.ctx.Err() != nil:
			return
		case err == nil:
			last = ""
		case text != last: // once, not every second
			last = text
			e.logger.Warn("the filter is not kept now; every miss asks L3 until it is", "err", err)
		}
		if !e.pause(filterTick, e.filter.wake) {
			return
		}
	}
}

// tendFilter does what is due.
func (e *Engine) tendFilter(ctx context.Context) error {
	t := e.filter
	if !e.l3Up() || !e.loaded.Load() {
		return nil
	}
	if err := e.beginFilter(ctx); err != nil {
		return err
	}
	if e.filterBehind() {
		// Only an outage ends it here: for the rest the warm-up below makes up.
		if err := t.CatchUp(ctx, filterSource{e}); errors.Is(err, ErrUnavailable) || ctx.Err() != nil {
			return err
		} else if err != nil {
			e.logger.Warn("the filter cannot be caught up", "err", err)
		}
	}
	if err := e.warmFilter(ctx); err != nil {
		return err
	}
	if e.snapshotDue() {
		return e.saveFilter(ctx)
	}
	return nil
}

// beginFilter learns which L3 this is and reads the snapshot, once.
func (e *Engine) beginFilter(ctx context.Context) error {
	t := e.filter
	if t.id == "" {
		id, err := e.nameOfL3(ctx)
		if err == nil {
			err = t.Identify(id)
		}
		if err != nil {
			return err
		}
		t.id = id
	}
	if t.restored {
		return nil
	}
	t.restored = true
	start := time.Now()
	t.savedAt = e.clock.UnixMilli()
	switch err := t.restoreFile(); {
	case err == nil:
		e.logger.Info("filter read from its snapshot", "change", t.Applied(), "items", t.Stats().Items, "took", time.Since(start))
	case !errors.Is(err, fs.ErrNotExist):
		e.logger.Warn("snapshot of the filter not used; it is made anew from L3", "err", err)
	}
	return nil
}

// filterBehind reports whether the keeper must read the changes itself. A filter
// that lacks keys is filled instead.
func (e *Engine) filterBehind() bool {
	if !e.filter.Stats().Complete {
		return false
	}
	if e.options.L3Shared {
		return !e.filter.Trusted() || e.filter.Applied() < e.followed.Load()
	}
	return !e.filter.Trusted() || e.filter.Applied() != e.l3.LastSeq()
}

// warmFilter fills the filter anew if it is incomplete, coarse, or full of what is
// gone. After a failure it waits, longer each time.
func (e *Engine) warmFilter(ctx context.Context) error {
	t := e.filter
	why := t.Stats().WarmWanted
	if why == "" || e.clock.UnixMilli() < t.warmAt || e.history.lostUpTo() > 0 { // it would begin at a number that goes
		return nil
	}
	start := time.Now()
	if err := t.Warm(ctx, filterSource{e}, 0); err != nil {
		t.warmWait = min(max(2*t.warmWait, firstWarmWait), lastWarmWait)
		t.warmAt = e.clock.UnixMilli() + t.warmWait.Milliseconds()
		return err
	}
	t.warmWait = 0
	s := t.Stats()
	e.logger.Info("filter filled from L3", "reason", why, "items", s.Items, "bytes", s.Bytes, "took", time.Since(start))
	t.savedAt = 0 // the next snapshot is due
	return nil
}

// snapshotDue reports whether the snapshot is old enough, or so many changes behind.
func (e *Engine) snapshotDue() bool {
	t := e.filter
	s := t.Stats()
	if !s.Complete || s.Applied == s.SavedSeq && s.SavedSeq != 0 {
		return false
	}
	since := e.clock.UnixMilli() - t.savedAt
	if since < savingShare*t.saveTook.Milliseconds() {
		return false
	}
	return since >= e.filterInterval.Load()/int64(time.Millisecond) || s.Applied-s.SavedSeq >= uint64(e.filterChanges.Load())
}

// saveFilter writes the snapshot, unless L3 is another one than the filter knows:
// then it begins anew.
func (e *Engine) saveFilter(ctx context.Context) error {
	t := e.filter
	id, err := e.nameOfL3(ctx)
	if err != nil {
		return err
	}
	if id != t.id {
		t.Distrust(fmt.Sprintf("L3 is another one: it was %s and is %s", t.id, id))
		t.id = ""
		signal(t.wake)
		return nil
	}
	return t.save(e.clock.UnixMilli)
}

func (t *filterTier) save(now func() int64) error {
	t.saving.Lock()
	defer t.saving.Unlock()
	start := time.Now()
	err := t.saveFile()
	t.savedAt, t.saveTook = now(), time.Since(start)
	if errors.Is(err, filter.ErrIncomplete) {
		return nil // it is filled anew first
	}
	return err
}

// saveFilterAtEnd leaves a snapshot for the next start. The keeper has ended. It
// reads the last changes first, if L3 answers soon.
func (e *Engine) saveFilterAtEnd(ctx context.Context) {
	t := e.filter
	if t == nil || t.id == "" {
		return
	}
	limited, cancel := context.WithTimeout(ctx, e.l3TimeoutNow())
	defer cancel()
	if e.l3Up() && e.loaded.Load() {
		if err := t.CatchUp(limited, filterSource{e}); err != nil {
			e.logger.Debug("the filter is saved without the last changes", "err", err)
		}
	}
	if s := t.Stats(); s.Applied == s.SavedSeq {
		return
	}
	if err := t.save(e.clock.UnixMilli); err != nil {
		e.logger.Warn("no snapshot of the filter at the end; the next start reads more changes, or all keys", "err", err)
	}
}

// feedFilter gives the filter a page of the follower's walk; see Filter.Walked.
func (e *Engine) feedFilter(begin int64, after uint64, page []filter.Change, end bool) {
	if e.filter == nil {
		return
	}
	if taken, err := e.filter.Walked(begin, after, page, end); err != nil || !taken {
		signal(e.filter.wake) // the keeper reads them, or fills it anew
	}
}

func filterChange(c *l3.Change) filter.Change {
	op := filter.OpOther
	switch c.Op {
	case l3.ChangePut, l3.ChangeMetadata:
		op = filter.OpPut
	case l3.ChangeDelete, l3.ChangeExpire:
		op = filter.OpRemove
	}
	return filter.Change{Seq: c.Seq, Version: c.Version, Op: op, Key: c.Key}
}

// A filterSource is L3 as the filter reads it: each call within the time for one
// read, none while the circuit is open.
type filterSource struct{ e *Engine }

func (s filterSource) ask(ctx context.Context, fn func(ctx context.Context) error) error {
	e := s.e
	if !e.l3Up() {
		return fmt.Errorf("%w: %w", ErrUnavailable, errOpen)
	}
	limited, cancel := context.WithTimeout(ctx, e.l3TimeoutNow())
	defer cancel()
	err := e.load(limited)
	if err == nil {
		err = fn(limited)
	}
	switch {
	case err == nil || ctx.Err() != nil || errors.Is(err, l3.ErrChangesGone):
		return err
	}
	e.l3Failed(err)
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}

// LastSeq is filter.Source's.
func (s filterSource) LastSeq(ctx context.Context) (seq uint64, err error) {
	err = s.ask(ctx, func(ctx context.Context) error {
		err := s.e.l3.Ping(ctx) // it looks
		seq = s.e.l3.LastSeq()
		return err
	})
	return seq, err
}

// Changes is filter.Source's.
func (s filterSource) Changes(ctx context.Context, after uint64, limit int, fn func(filter.Change) error) error {
	var refused error // by fn
	err := s.ask(ctx, func(ctx context.Context) error {
		err := s.e.changesToTell(ctx, after, limit, func(c l3.Change) error {
			refused = fn(filterChange(&c))
			return refused
		})
		if refused != nil {
			return nil
		}
		return err
	})
	if errors.Is(err, l3.ErrChangesGone) {
		err = fmt.Errorf("%w: %w", filter.ErrGone, err)
	}
	return errors.Join(refused, err)
}

// Keys is filter.Source's. Rows that are over and not removed yet are among them:
// a change of their lifetime may be under way.
func (s filterSource) Keys(ctx context.Context, after item.Key, limit int, fn func(key item.Key) error) error {
	var refused error
	err := s.ask(ctx, func(ctx context.Context) error {
		err := s.e.l3.Scan(ctx, l3.ScanQuery{After: after, Limit: limit, Now: 1}, func(v item.View) error {
			refused = fn(v.Key())
			return refused
		})
		if refused != nil {
			return nil
		}
		return err
	})
	return errors.Join(refused, err)
}

// A FilterReport is what VerifyFilter found.
type FilterReport struct {
	Checked uint64   // rows of L3
	Missing uint64   // of them, those that the filter denied
	Example item.Key // one of these, or nil
}

// VerifyFilter asks the filter for every row of L3, once the changes up to the end
// are in it. If it denies one, it is not trusted any more, its snapshot is removed,
// and it is filled anew in the background. The error is ErrNoFilter,
// ErrFilterIncomplete (it is being filled: nothing was compared), ErrUnavailable,
// or the cause of ctx. Cost: it reads all keys of L3.
func (e *Engine) VerifyFilter(ctx context.Context) (FilterReport, error) {
	if e.filter == nil {
		return FilterReport{}, ErrNoFilter
	}
	if err := e.enterRead(); err != nil {
		return FilterReport{}, err
	}
	defer e.leave()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := e.atClosing(func() { cancel(ErrShuttingDown) })
	defer stop()
	r, err := e.filter.Verify(ctx, filterSource{e})
	report := FilterReport{Checked: r.Checked, Missing: r.Missing, Example: item.Key(r.Example)}
	switch {
	case errors.Is(err, filter.ErrIncomplete):
		return report, fmt.Errorf("%w: %w", ErrFilterIncomplete, err)
	case ctx.Err() != nil:
		return report, context.Cause(ctx)
	case err != nil:
		return report, fmt.Errorf("tiers: verify the filter: %w", err)
	case r.Missing > 0:
		e.logger.Error("the filter denied rows of L3; it is filled anew, its snapshot is removed",
			"rows", r.Missing, "of", r.Checked, "example", report.Example.ID())
		err = e.filter.forget()
		signal(e.filter.wake)
	}
	return report, err
}

// forget removes the snapshot: what Verify found may be in it. The filter is not
// complete any more, so none is written meanwhile.
func (t *filterTier) forget() error {
	t.saving.Lock()
	defer t.saving.Unlock()
	if err := t.removeFile(); err != nil {
		return fmt.Errorf("%w; remove the file by hand before the next start", err)
	}
	return nil
}

// atClosing calls fn when Close begins, unless stop is called before.
func (e *Engine) atClosing(fn func()) (stop func()) {
	done := make(chan struct{})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		select {
		case <-e.closing:
			fn()
		case <-done:
		}
	}()
	return func() { close(done); <-ended }
}
