package tiers

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/l3"
	"github.com/edgenode/edgenode/tiers/merkle"
)

// The tree of hashes (package merkle) is kept in L3, over the items of the items
// API. It follows the change sequence apart from reads and writes: one node of an
// L3, by a lease, takes a step after the other; any other may go on after it, and
// two at once do no harm. Its rows are ours to look at on every node.

const (
	treeLease     = 10 * time.Second
	treeLeaseName = "merkle"
)

// treeStore is what an L3 that keeps the tree can do; see package l3.
type treeStore interface {
	MerkleRows(ctx context.Context, keys []string) ([][]byte, error)
	MerkleCommit(ctx context.Context, b l3.MerkleBatch) error
	MerkleClear(ctx context.Context, was []byte, limit int) (int, error)
	Heads(ctx context.Context, keys []item.Key, fn func(i int, v item.View) error) error
	AcquireLease(ctx context.Context, name, holder string, ttl time.Duration) (held bool, err error)
	ReleaseLease(ctx context.Context, name, holder string) error
}

// A treeKeeper is the engine's hand on the tree.
type treeKeeper struct {
	store  treeStore
	tree   *merkle.Tree
	again  chan struct{} // capacity 1: look at it now
	state  atomic.Int32  // of TreeState
	seq    atomic.Uint64 // of the last change that is in it, as of the last look
	calc   atomic.Bool   // this node calculates
	broken atomic.Pointer[string]

	// The fields below are the loop's.
	held bool
	due  time.Time // of the next renewal of the lease
	told string    // the last error that was logged
}

// A TreeState says what is known of the tree.
type TreeState int32

// The states of the tree.
const (
	TreeUnknown   TreeState = iota // not looked at yet, or nobody has begun it
	TreeBuilding                   // from all rows
	TreeFollowing                  // the change sequence
	TreeCorrupt                    // its rows contradict each other: see Engine.MerkleRebuild
)

// String returns the state's name.
func (s TreeState) String() string {
	return [...]string{"unknown", "building", "following", "corrupt"}[s]
}

// openTree makes the tree known, if L3 keeps one. It does no I/O.
func (e *Engine) openTree() error {
	store, ok := e.l3.(treeStore)
	if !ok {
		return nil
	}
	k := &treeKeeper{store: store, again: make(chan struct{}, 1)}
	var err error
	k.tree, err = merkle.New(merkle.Options{
		Store: treeRows{e, store}, Source: treeSource{e, store}, BatchItems: e.options.merkleBatch, Metrics: e.options.Metrics, Log: e.logger,
	})
	if err == nil {
		e.tree = k
	}
	return err
}

// closeTree takes its metrics back.
func (e *Engine) closeTree() {
	if e.tree != nil {
		e.tree.tree.Close()
	}
}

// runTree keeps the tree up with the change sequence until the engine closes. It
// works half of the time at most, so that the writes of L3 go on beside it.
func (e *Engine) runTree() {
	k := e.tree
	for e.pause(e.treePause(), k.again) {
		if e.loaded.Load() && e.l3Up() {
			e.tendTree()
		}
	}
	if k.held {
		ctx, cancel := context.WithTimeout(context.Background(), probePatience)
		defer cancel()
		if err := k.store.ReleaseLease(ctx, treeLeaseName, e.node.incarnation()); err != nil {
			e.logger.Debug("the lease of the tree ends by itself", "err", err)
		}
	}
}

// treePause is how long to wait between two looks: nodes look at different times.
func (e *Engine) treePause() time.Duration {
	pause := time.Duration(e.followInterval.Load())
	if jitter := e.options.MerkleJitter; jitter > 0 {
		pause += rand.N(jitter)
	}
	return pause
}

// tendTree takes all steps that there are to take, if that is this node's work.
func (e *Engine) tendTree() {
	k := e.tree
	for more := true; more; {
		begin := time.Now()
		held, err := e.holdTree()
		if err == nil && held {
			more, err = e.stepTree()
		}
		if err == nil && (!held || !more) {
			err, more = e.lookAtTree(), false
		}
		e.toldOfTree(err)
		if err != nil || more && !e.pause(time.Since(begin), nil) {
			return
		}
	}
	k.told = ""
}

// holdTree reports whether this node is to calculate. It renews its lease when
// that is due; where it is the only one that writes L3 there is no other.
func (e *Engine) holdTree() (bool, error) {
	k := e.tree
	if !e.options.L3Shared {
		k.calc.Store(true)
		return true, nil
	}
	if k.held && time.Now().Before(k.due) {
		return true, nil
	}
	ctx, cancel := context.WithTimeout(e.ctx, e.l3TimeoutNow())
	defer cancel()
	held, err := k.store.AcquireLease(ctx, treeLeaseName, e.node.incarnation(), treeLease)
	if held && !k.held {
		e.logger.Info("this node calculates the merkle tree")
	}
	k.held, k.due = held, time.Now().Add(treeLease/3)
	k.calc.Store(held)
	return held, err
}

func (e *Engine) stepTree() (more bool, err error) {
	ctx, cancel := context.WithTimeout(e.ctx, time.Duration(e.applyTimeout.Load()))
	defer cancel()
	return e.tree.tree.Step(ctx)
}

// lookAtTree notes how far the tree is, whoever has made it so.
func (e *Engine) lookAtTree() error {
	ctx, cancel := context.WithTimeout(e.ctx, e.l3TimeoutNow())
	defer cancel()
	p, err := e.tree.tree.Progress(ctx)
	if err != nil {
		return err
	}
	e.tree.note(p)
	return nil
}

func (k *treeKeeper) note(p merkle.Progress) {
	state := TreeUnknown
	switch {
	case p.Known:
		state = TreeFollowing
	case p.Exists:
		state = TreeBuilding
	}
	k.seq.Store(p.Seq)
	k.state.Store(int32(state))
	k.broken.Store(nil)
}

// toldOfTree takes the outcome of a look or step. Rows that contradict each other
// are told once; what to do is an operator's decision.
func (e *Engine) toldOfTree(err error) {
	k := e.tree
	if err == nil || e.ctx.Err() != nil {
		return
	}
	if errors.Is(err, merkle.ErrCorrupt) {
		text := err.Error()
		if k.broken.Swap(&text) == nil {
			e.logger.Error("the merkle tree is damaged and stays as it is; build it anew with edgenode verify --rebuild", "err", err)
		}
		k.state.Store(int32(TreeCorrupt))
		return
	}
	e.l3Failed(err)
	if err.Error() != k.told {
		k.told = err.Error()
		e.logger.Warn("the merkle tree does not go on now", "err", err)
	}
}

// treeLag returns how many changes the tree is behind, as of the last look.
func (e *Engine) treeLag() uint64 {
	last, seq := e.l3.LastSeq(), e.tree.seq.Load()
	return max(last, seq) - seq
}

// treeRows is the tree's Store.
type treeRows struct {
	e     *Engine
	store treeStore
}

var _ merkle.Store = treeRows{}

func (r treeRows) Rows(ctx context.Context, keys []string) ([][]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, r.e.l3TimeoutNow())
	defer cancel()
	return r.store.MerkleRows(ctx, keys)
}

func (r treeRows) Commit(ctx context.Context, b merkle.Batch) error {
	puts := make([]l3.MerkleRow, len(b.Puts))
	for i, p := range b.Puts {
		puts[i] = l3.MerkleRow(p)
	}
	return moved(r.store.MerkleCommit(ctx, l3.MerkleBatch{Was: b.Was, State: b.State, Puts: puts, Deletes: b.Deletes}))
}

func (r treeRows) Clear(ctx context.Context, was []byte, limit int) (int, error) {
	n, err := r.store.MerkleClear(ctx, was, limit)
	return n, moved(err)
}

func moved(err error) error {
	if errors.Is(err, l3.ErrMerkleMoved) {
		return fmt.Errorf("%w: %w", merkle.ErrMoved, err)
	}
	return err
}

// treeSource is what the tree is made from: the items of the items API.
type treeSource struct {
	e     *Engine
	store treeStore
}

var _ merkle.Source = treeSource{}

func (s treeSource) LastSeq(ctx context.Context) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, s.e.l3TimeoutNow())
	defer cancel()
	if err := s.e.l3.Ping(ctx); err != nil { // looks at the counters
		return 0, err
	}
	return s.e.l3.LastSeq(), nil
}

func (s treeSource) Changes(ctx context.Context, after uint64, limit int, fn func(seq uint64, id []byte) error) error {
	ctx, cancel := context.WithTimeout(ctx, s.e.l3TimeoutNow())
	defer cancel()
	err := s.e.l3.Changes(ctx, after, limit, func(c l3.Change) error {
		if c.Op == l3.ChangeRule || c.Key.Namespace() != item.NamespaceItem {
			return fn(c.Seq, nil)
		}
		return fn(c.Seq, c.Key.Own())
	})
	if errors.Is(err, l3.ErrChangesGone) {
		err = fmt.Errorf("%w: %w", merkle.ErrGone, err)
	}
	return err
}

func (s treeSource) Leaves(ctx context.Context, ids [][]byte, fn func(i int, leaf merkle.Hash)) error {
	ctx, cancel := context.WithTimeout(ctx, s.e.l3TimeoutNow())
	defer cancel()
	keys := make([]item.Key, len(ids))
	for i, id := range ids {
		keys[i] = append(item.Key{item.NamespaceItem}, id...)
	}
	return s.store.Heads(ctx, keys, func(i int, v item.View) error {
		fn(i, merkle.LeafOf(v))
		return nil
	})
}

// longAgo is when nothing had expired: the sweeper decides what is gone.
const longAgo = 1

func (s treeSource) Scan(ctx context.Context, after []byte, limit int, fn func(id []byte, leaf merkle.Hash) error) error {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(s.e.applyTimeout.Load()))
	defer cancel()
	q := l3.ScanQuery{Prefix: []byte{item.NamespaceItem}, Limit: limit, Now: longAgo}
	if after != nil {
		q.After = append(item.Key{item.NamespaceItem}, after...)
	}
	return s.e.l3.Scan(ctx, q, func(v item.View) error { return fn(v.Key().Own(), merkle.LeafOf(v)) })
}
