package merkle

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/VictoriaMetrics/metrics"
)

// Errors of the tree and of what it is made from.
var (
	// ErrGone is what a Source returns from Changes when changes after the asked
	// number are missing. Step answers it by a rebuild.
	ErrGone = errors.New("merkle: changes are gone")
	// ErrMoved is what a Store returns when the state is not the one expected:
	// another node was faster. Nothing was written.
	ErrMoved = errors.New("merkle: another node has gone on with the tree")
	// ErrUnknown is returned for questions about a tree that is being built.
	ErrUnknown = errors.New("merkle: the tree is being built")
	// ErrCannotCompare is returned by Diff for trees of different formats. It does
	// not say that they differ.
	ErrCannotCompare = errors.New("merkle: cannot compare trees of different formats")
)

// A Row is a node of the tree as the store keeps it.
type Row struct {
	Key   string // up to 8 KiB; up to 1,089 bytes for items of the items API
	Value []byte
}

// A Batch is what one step writes, all or nothing.
type Batch struct {
	Was, State []byte // the state's row, as it must be and as it becomes; Was nil: there must be none
	Puts       []Row
	Deletes    []string
}

// A Store keeps the rows. The row of key "" is the state; nodes never have that
// key.
type Store interface {
	// Rows returns the values of keys in their order, nil for those that are not
	// there, as of one moment. The caller does not change them.
	Rows(ctx context.Context, keys []string) ([][]byte, error)
	// Commit writes b in one transaction if the state's row is b.Was, else it
	// fails with ErrMoved. It keeps nothing of b.
	Commit(ctx context.Context, b Batch) error
	// Clear deletes up to limit rows but that of the state, if that is was, else
	// it fails with ErrMoved. It returns how many there were.
	Clear(ctx context.Context, was []byte, limit int) (int, error)
}

// A Source is the ground truth, as far as the tree reads it. Ids are up to 8 KiB;
// which key space they are of is the source's choice, one per tree.
type Source interface {
	// LastSeq returns the number of the newest committed change. It asks the
	// store: what was committed before the call is counted.
	LastSeq(ctx context.Context) (uint64, error)
	// Changes calls fn for up to limit changes after the number after, in order
	// and without gap; id is nil if the change concerns no item of the tree. It
	// fails with ErrGone if some are missing, or if that number was never given.
	// fn does not keep id.
	Changes(ctx context.Context, after uint64, limit int, fn func(seq uint64, id []byte) error) error
	// Leaves calls fn with the leaf (LeafOf) of each of ids that has a live row,
	// by its place in ids. Rows that are over but not yet removed are live. It
	// asks the rows after the call began.
	Leaves(ctx context.Context, ids [][]byte, fn func(i int, leaf Hash)) error
	// Scan calls fn for up to limit live rows after the id after (nil begins at
	// the start), in the store's order; a row that was live throughout all calls
	// of a walk is met by it. fn does not keep id.
	Scan(ctx context.Context, after []byte, limit int, fn func(id []byte, leaf Hash) error) error
}

// Options are the settings of a tree.
type Options struct {
	Store  Store
	Source Source
	// BatchItems is how many changes, or rows of a rebuild, one step takes.
	// Default 1000.
	BatchItems int
	// CacheRows is how many rows are kept in memory from step to step. Default
	// 4096, below 10 MiB for usual ids; -1 means none.
	CacheRows int
	// Metrics takes the metrics until Close; nil means none.
	Metrics *metrics.Set
	// Log takes rebuilds and takeovers. Default: discarded.
	Log *slog.Logger
}

// Defaults of Options.
const (
	DefaultBatchItems = 1000
	DefaultCacheRows  = 4096
)

func (o *Options) fill() error {
	if o.BatchItems == 0 {
		o.BatchItems = DefaultBatchItems
	}
	if o.CacheRows == 0 {
		o.CacheRows = DefaultCacheRows
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	var errs []error
	if o.Store == nil || o.Source == nil {
		errs = append(errs, errors.New("a Store and a Source are needed"))
	}
	if o.BatchItems < 1 {
		errs = append(errs, fmt.Errorf("BatchItems is %d, allowed are 1 and more", o.BatchItems))
	}
	return errors.Join(errs...)
}

// A Tree is a node's hand on the tree in a store. Any number of nodes may have
// one: a step that another was faster with changes nothing. All methods are safe
// for concurrent use.
type Tree struct {
	opts    Options
	metrics *treeMetrics

	stepping chan struct{} // token: one Step at a time; guards the fields below
	cache    *working      // rows as of serial, or nil
	serial   uint64
	began    []byte // the state's row at the begin of the step
}

// New returns a tree over what store and source have. It does no I/O.
func New(opts Options) (*Tree, error) {
	if err := opts.fill(); err != nil {
		return nil, fmt.Errorf("merkle: options: %w", err)
	}
	t := &Tree{opts: opts, stepping: make(chan struct{}, 1)}
	t.metrics = newMetrics(opts.Metrics)
	return t, nil
}

// Close takes the metrics back.
func (t *Tree) Close() { t.metrics.unregister() }

// Step brings the tree nearer to the rows: one transaction with the nodes and the
// cursor that covers them. It reports whether there is more to do. A tree that
// does not exist, or whose changes are gone, it builds from all rows, step by
// step. After an error the tree is as it was, but ErrCorrupt asks for Rebuild.
//
// Cost: about log16(siblings) rows per segment of each changed id, those of a
// batch shared.
func (t *Tree) Step(ctx context.Context) (more bool, err error) {
	select {
	case t.stepping <- struct{}{}:
	case <-ctx.Done():
		return true, fmt.Errorf("merkle: step: %w", context.Cause(ctx))
	}
	defer func() { <-t.stepping }()
	begin := time.Now()
	more, err = t.step(ctx)
	if errors.Is(err, ErrCorrupt) && t.wasOvertaken(ctx) {
		err = ErrMoved
	}
	t.metrics.stepTime.UpdateDuration(begin)
	switch {
	case errors.Is(err, ErrMoved):
		t.metrics.moved.Inc()
		t.cache = nil
		return true, nil
	case err != nil:
		t.cache = nil
		t.metrics.failed.Inc()
		return true, fmt.Errorf("merkle: step: %w", err)
	}
	return more, nil
}

// wasOvertaken reports whether rows may not have fitted each other because
// another node wrote while they were read.
func (t *Tree) wasOvertaken(ctx context.Context) bool {
	row, _, err := t.state(ctx)
	return err == nil && !bytes.Equal(row, t.began)
}

func (t *Tree) step(ctx context.Context) (more bool, err error) {
	was, st, err := t.state(ctx)
	if err != nil {
		return true, err
	}
	t.began = was
	t.metrics.applied.Store(st.seq)
	switch st.phase {
	case phaseNone:
		return true, t.restart(ctx, was, st)
	case phaseClearing:
		return true, t.clear(ctx, was, st)
	case phaseScanning:
		return true, t.scan(ctx, was, st)
	}
	more, err = t.follow(ctx, was, st)
	if errors.Is(err, ErrGone) {
		t.opts.Log.Warn("merkle tree is rebuilt", "reason", err)
		return true, t.restart(ctx, was, st)
	}
	return more, err
}

// Rebuild makes Step build the tree anew, whatever its state is. Until that is done
// its root is unknown.
func (t *Tree) Rebuild(ctx context.Context) error {
	was, st, err := t.state(ctx)
	if err == nil || was != nil && errors.Is(err, ErrCorrupt) {
		err = t.restart(ctx, was, st)
	}
	if err != nil {
		return fmt.Errorf("merkle: rebuild: %w", err)
	}
	return nil
}

// state reads the state's row.
func (t *Tree) state(ctx context.Context) (row []byte, st state, err error) {
	rows, err := t.opts.Store.Rows(ctx, []string{""})
	if err == nil && len(rows) != 1 {
		err = fmt.Errorf("%w: %d rows for one key", ErrCorrupt, len(rows))
	}
	if err != nil {
		return nil, st, err
	}
	st, err = parseState(rows[0])
	return rows[0], st, err
}

// restart begins a build: what is committed from here on is among the changes
// that are followed after it.
func (t *Tree) restart(ctx context.Context, was []byte, st state) error {
	seq, err := t.opts.Source.LastSeq(ctx)
	if err != nil {
		return err
	}
	t.metrics.rebuilds.Inc()
	next := state{phase: phaseClearing, serial: st.serial + 1, seq: seq}
	return t.opts.Store.Commit(ctx, Batch{Was: was, State: next.row()})
}

// clearRows is how many rows one step deletes.
const clearRows = 1000

func (t *Tree) clear(ctx context.Context, was []byte, st state) error {
	n, err := t.opts.Store.Clear(ctx, was, clearRows)
	if err != nil || n == clearRows {
		return err
	}
	st.phase, st.serial = phaseScanning, st.serial+1
	return t.opts.Store.Commit(ctx, Batch{Was: was, State: st.row()})
}

// scan adds a page of rows.
func (t *Tree) scan(ctx context.Context, was []byte, st state) error {
	var updates []update
	err := t.opts.Source.Scan(ctx, st.position, t.opts.BatchItems, func(id []byte, leaf Hash) error {
		u := newUpdate(append([]byte(nil), id...))
		u.leaf, u.live = leaf, true
		updates = append(updates, u)
		return nil
	})
	if err != nil {
		return err
	}
	before := st.serial
	if n := len(updates); n == t.opts.BatchItems {
		st.position = updates[n-1].id
	} else {
		st.phase, st.position = phaseFollowing, nil
		t.opts.Log.Info("merkle tree is built", "follows from", st.seq)
	}
	return t.commit(ctx, was, before, st, updates)
}

// follow takes the next changes.
func (t *Tree) follow(ctx context.Context, was []byte, st state) (more bool, err error) {
	var ids [][]byte
	known := map[string]bool{}
	n, before := 0, st.serial
	err = t.opts.Source.Changes(ctx, st.seq, t.opts.BatchItems, func(seq uint64, id []byte) error {
		n++
		st.seq = seq
		if id != nil && !known[string(id)] {
			known[string(id)] = true
			ids = append(ids, append([]byte(nil), id...))
		}
		return nil
	})
	if err != nil || n == 0 {
		return false, err
	}
	updates, err := t.updates(ctx, ids)
	if err != nil {
		return false, err
	}
	t.metrics.changes.Add(n)
	return n == t.opts.BatchItems, t.commit(ctx, was, before, st, updates)
}

// updates asks what the ids are now. That may be newer than the changes: then
// those that follow say the same again.
func (t *Tree) updates(ctx context.Context, ids [][]byte) ([]update, error) {
	list := make([]update, len(ids))
	for i, id := range ids {
		list[i] = newUpdate(id)
	}
	if len(ids) == 0 {
		return nil, nil
	}
	err := t.opts.Source.Leaves(ctx, ids, func(i int, leaf Hash) {
		list[i].leaf, list[i].live = leaf, true
	})
	return list, err
}

// commit writes the updates and the state that covers them. The rows it rests on
// are those of the state was: each commit changes the state.
func (t *Tree) commit(ctx context.Context, was []byte, before uint64, st state, updates []update) error {
	w := t.cache
	if t.cache = nil; w == nil || t.serial != before || len(w.rows) > t.opts.CacheRows {
		w = newWorking(t.opts.Store)
	}
	if err := w.apply(ctx, updates); err != nil {
		return err
	}
	st.serial = before + 1
	b := Batch{Was: was, State: st.row()}
	b.Puts, b.Deletes = w.changes()
	if err := t.opts.Store.Commit(ctx, b); err != nil {
		return err
	}
	t.metrics.written.Add(len(b.Puts) + len(b.Deletes))
	t.metrics.applied.Store(st.seq)
	t.cache, t.serial = w, st.serial
	return nil
}
