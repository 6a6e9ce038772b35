package tiers

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/l2"
	"github.com/edgenode/edgenode/tiers/l3"
	"github.com/edgenode/edgenode/tiers/merkle"
)

// L2 keeps a copy of L3's tree of hashes, so that it can be put right after it fell
// off the change sequence without a look at every row: the copy is brought up to the
// tree, which costs what differs, and then says for each copy of an item whether L3
// has it, as far as hashes prove that from the tree's root down. Only what is not
// proven is compared with its row. How old or damaged the copy of the tree is does
// not matter to what is right, only to what it costs.

const (
	shadowEvery   = 10 * time.Second // between two looks
	shadowLease   = 30 * time.Second
	shadowRest    = time.Minute // after a refusal, such as for want of memory; doubles
	shadowRestMax = time.Hour
	proofRows     = 4096 // rows of the tree that a repair keeps in memory
)

// A shadowStore is an L2 that can hold the copy, as *l2.Store can.
type shadowStore interface {
	TreeRows(ctx context.Context, keys []string) ([][]byte, error)
	TreeCommit(ctx context.Context, b l2.TreeBatch) error
	TreeDrop(ctx context.Context) error
	TreeLease(ctx context.Context, holder string, ttl time.Duration) (held bool, err error)
}

// A shadowKeeper keeps the copy.
type shadowKeeper struct {
	rows shadowRows
	lock contextLock // one writer on this node
	seq  atomic.Uint64
	harm atomic.Bool   // rows of it do not hash up to a root that they were copied to: it is made anew
	rest time.Duration // the loop's
	told string        // likewise
}

// openShadow makes the keeper, if there is something to keep and a place for it.
func (e *Engine) openShadow() {
	if e.l2 == nil || e.tree == nil || e.l2.shadow == nil || e.options.L2TreeItems == 0 {
		return
	}
	e.shadow = &shadowKeeper{rows: shadowRows{e, e.l2.shadow}, lock: newContextLock()}
}

// runShadow keeps the copy near the tree until the engine closes.
func (e *Engine) runShadow() {
	k := e.shadow
	for e.pause(e.shadowPause(), nil) {
		if !e.loaded.Load() || !e.l3Up() || !e.l2.backend.up() || TreeState(e.tree.state.Load()) != TreeFollowing && e.options.MerkleCalc {
			continue
		}
		var err error
		if k.harm.Swap(false) {
			e.logger.Warn("the copy of the merkle tree in L2 is damaged and made anew")
			err = k.rows.Drop(e.ctx)
		}
		if err == nil {
			_, err = e.copyTree(e.ctx, false)
		}
		switch {
		case e.ctx.Err() != nil:
			return
		case errors.Is(err, errNotHolder), errors.Is(err, merkle.ErrMoved), errors.Is(err, merkle.ErrUnknown):
			err = nil // another node writes it, or there is no tree now
		case errors.Is(err, merkle.ErrTooMany), errors.Is(err, l2.ErrRejected):
			k.rest = min(max(2*k.rest, shadowRest), shadowRestMax)
			err = errors.Join(err, k.rows.Drop(e.ctx)) // gives the memory back
		}
		if err == nil {
			k.rest, k.told = 0, ""
			continue
		}
		e.metrics.treeCopyErrors.Inc()
		if text := err.Error(); text != k.told {
			k.told = text
			e.logger.Warn("the copy of the merkle tree in L2 does not go on now; a repair of L2 would ask for more rows", "err", err)
		}
	}
}

func (e *Engine) shadowPause() time.Duration {
	every := e.options.shadowEvery
	if every == 0 {
		every = shadowEvery
	}
	return every + rand.N(every/4+1) + e.shadow.rest
}

// errNotHolder says that another node writes the copy.
var errNotHolder = errors.New("tiers: another node writes the copy of the merkle tree")

// copyTree brings the copy up to the tree. It works half of the time at most, unless
// it is known that there is a copy to begin from, when somebody waits.
func (e *Engine) copyTree(ctx context.Context, known bool) (s merkle.CopyStats, err error) {
	k := e.shadow
	if err := k.lock.lock(ctx); err != nil {
		return s, err
	}
	defer k.lock.unlock()
	if err := k.lease(ctx); err != nil {
		return s, err
	}
	o := merkle.CopyOptions{MaxItems: uint64(e.options.L2TreeItems), Known: known, Pause: func(worked time.Duration) error {
		if !known && !e.pause(worked, nil) {
			return ErrShuttingDown
		}
		return k.lease(ctx)
	}}
	s, err = merkle.Copy(ctx, treeRows{e, e.tree.store}, k.rows, o)
	e.metrics.treeCopyRows.Add(s.Written)
	if err == nil {
		k.seq.Store(s.Head.Seq)
	}
	return s, err
}

func (k *shadowKeeper) lease(ctx context.Context) error {
	e := k.rows.e
	return k.rows.ask(ctx, func(ctx context.Context) error {
		held, err := k.rows.store.TreeLease(ctx, e.node.incarnation(), shadowLease)
		if err == nil && !held {
			err = errNotHolder
		}
		return err
	})
}

// shadowRows is the copy's rows: each call within RedisTimeout, none while the
// circuit is open.
type shadowRows struct {
	e     *Engine
	store shadowStore
}

var _ merkle.CopyStore = shadowRows{}

func (r shadowRows) ask(ctx context.Context, fn func(ctx context.Context) error) error {
	circuit := r.e.l2.backend.circuit
	if !circuit.Allow() {
		return errOpen
	}
	limited, cancel := context.WithTimeout(ctx, time.Duration(r.e.redisTimeout.Load()))
	defer cancel()
	err := fn(limited)
	if err == nil || errors.Is(err, l2.ErrTreeMoved) || errors.Is(err, errNotHolder) || errors.Is(err, l2.ErrRejected) {
		circuit.Record(nil) // it answered
	} else if ctx.Err() == nil {
		circuit.Record(err)
	}
	return err
}

func (r shadowRows) Rows(ctx context.Context, keys []string) (rows [][]byte, err error) {
	err = r.ask(ctx, func(ctx context.Context) error {
		rows, err = r.store.TreeRows(ctx, keys)
		return err
	})
	return rows, err
}

func (r shadowRows) Commit(ctx context.Context, b merkle.Batch) error {
	own := l2.TreeBatch{Was: b.Was, State: b.State, Deletes: b.Deletes}
	for _, p := range b.Puts {
		own.Puts = append(own.Puts, l2.TreeRow(p))
	}
	err := r.ask(ctx, func(ctx context.Context) error { return r.store.TreeCommit(ctx, own) })
	if errors.Is(err, l2.ErrTreeMoved) {
		return fmt.Errorf("%w: %w", merkle.ErrMoved, err)
	}
	return err
}

func (r shadowRows) Drop(ctx context.Context) error {
	return r.ask(ctx, r.store.TreeDrop)
}

// proveL2 returns what proves copies right, and the change up to which it does; or
// nil, if L2 has no copy of the tree that was whole, or there is no tree: then each
// is compared with its row. An error is one of L2 or L3.
func (e *Engine) proveL2(ctx context.Context) (*proof, uint64, error) {
	last, err := e.endOfL3(ctx) // before the look at the rows
	if err != nil || e.shadow == nil {
		return nil, last, err
	}
	s, err := e.copyTree(ctx, true)
	switch {
	case ctx.Err() != nil:
		return nil, 0, context.Cause(ctx)
	case errors.Is(err, l2.ErrUnavailable), errors.Is(err, errOpen):
		return nil, 0, fmt.Errorf("tiers: the copy of the merkle tree: %w", err)
	case err != nil:
		e.logger.Info("L2 is put right without its copy of the merkle tree", "reason", err)
		return nil, last, nil
	}
	limited, cancel := context.WithTimeout(ctx, e.l3TimeoutNow())
	defer cancel()
	err = e.l3.Changes(limited, s.Head.Seq, 1, func(l3.Change) error { return nil })
	if errors.Is(err, l3.ErrChangesGone) { // the tree stands still: what came after it is not known
		return nil, last, nil
	}
	if err != nil {
		e.l3Failed(err)
		return nil, 0, fmt.Errorf("tiers: changes after the merkle tree: %w", err)
	}
	e.logger.Info("L2 is put right by its copy of the merkle tree", "change", s.Head.Seq, "rows_written", s.Written, "moved", s.Moved)
	return &proof{merkle.NewProof(e.shadow.rows, s.Head.Branch, proofRows), s.Moved == 0}, s.Head.Seq, nil
}

// A proof says which copies are right.
type proof struct {
	*merkle.Proof
	still bool // the tree did not change while it was copied: all can be proven
}

// A claim is a copy that the tree may prove.
type claim struct {
	key  item.Key
	held copyVersion
	leaf merkle.Hash
}

// prove lets those of the collected copies pass that the tree has, and compares the
// others with their rows.
func (c *comparison) prove() {
	claims := c.claims
	c.claims = c.claims[:0]
	if len(claims) == 0 || c.err != nil {
		return
	}
	ids := make([][]byte, len(claims))
	for i := range claims {
		ids[i] = claims[i].key.Own()
	}
	proven := make([]bool, len(claims))
	err := c.proof.Leaves(c.ctx, ids, func(i int, v merkle.Verdict, leaf merkle.Hash) {
		proven[i] = v == merkle.Present && leaf == claims[i].leaf
		if v == merkle.Unproven && c.proof.still {
			c.e.shadow.harm.Store(true)
		}
	})
	if err != nil {
		c.err = fmt.Errorf("tiers: the copy of the merkle tree: %w", err)
		c.stop()
		return
	}
	for i := range claims {
		if proven[i] {
			c.e.metrics.l2Proven.Inc()
		} else {
			c.ask(claims[i].key, claims[i].held)
		}
	}
}

// MerkleL2 returns what L2's copy of the tree has of the branch path; see
// MerkleBranch. It fails with ErrNoTree if no copy is kept, and with ErrUnavailable
// while L2 is away. Known is false while it is being made.
func (e *Engine) MerkleL2(ctx context.Context, path string) (h merkle.Head, err error) {
	if err := e.enterRead(); err != nil {
		return h, err
	}
	defer e.leave()
	if e.shadow == nil {
		return h, ErrNoTree
	}
	h, err = merkle.CopyHead(ctx, e.shadow.rows, []byte(path))
	switch {
	case err == nil:
		return h, nil
	case errors.Is(err, merkle.ErrBadPath):
		return h, fmt.Errorf("%w: %w", ErrInvalid, err)
	case ctx.Err() != nil:
		return h, context.Cause(ctx)
	}
	return h, fmt.Errorf("%w: %w", ErrUnavailable, err)
}
