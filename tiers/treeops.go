package tiers

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/edgenode/edgenode/tiers/merkle"
)

// Errors of questions about the tree of hashes. Nothing was changed.
var (
	// ErrNoTree is returned when L3 keeps no tree.
	ErrNoTree = errors.New("tiers: this L3 keeps no merkle tree")
	// ErrTreeUnknown is returned while the tree is being built, or was never begun.
	ErrTreeUnknown = errors.New("tiers: the merkle tree is being built, or no node calculates it")
	// ErrTreeCorrupt is returned when rows of the tree contradict each other; see
	// Engine.MerkleRebuild.
	ErrTreeCorrupt = errors.New("tiers: the merkle tree is damaged; build it anew")
)

// maxPeerRows is how many rows of the tree a peer may ask for at once.
const maxPeerRows = 256

// asked runs fn with the tree, as every operation below does.
func (e *Engine) asked(ctx context.Context, what string, fn func(t *merkle.Tree) error) error {
	if err := e.enterRead(); err != nil {
		return err
	}
	defer e.leave()
	if e.tree == nil {
		return ErrNoTree
	}
	if !e.l3Up() {
		return fmt.Errorf("%w: %w", ErrUnavailable, errOpen)
	}
	if err := fn(e.tree.tree); err != nil {
		return fmt.Errorf("tiers: %s: %w", what, e.treeError(ctx, err))
	}
	return nil
}

// treeError says what an error of the tree means to who asked.
func (e *Engine) treeError(ctx context.Context, err error) error {
	switch {
	case errors.Is(err, merkle.ErrBadPath):
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	case errors.Is(err, merkle.ErrUnknown), errors.Is(err, merkle.ErrGone):
		return fmt.Errorf("%w: %w", ErrTreeUnknown, err)
	case errors.Is(err, merkle.ErrCorrupt):
		return fmt.Errorf("%w: %w", ErrTreeCorrupt, err)
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, merkle.ErrBadPeer), errors.Is(err, merkle.ErrCannotCompare), errors.Is(err, ErrShuttingDown):
		return err
	}
	e.l3Failed(err)
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}

// MerkleBranch returns hash and counts of what is below path: empty is the whole,
// else it ends with one of the separators . / : and holds exactly the items whose
// ids begin with it. Known is false while the tree is being built, which is neither
// absent nor different. What is pending is not in the tree, nor are changes beyond
// Seq. It fails with ErrNoTree, ErrInvalid, ErrTreeCorrupt or ErrUnavailable.
func (e *Engine) MerkleBranch(ctx context.Context, path string) (h merkle.Head, err error) {
	err = e.asked(ctx, "merkle branch", func(t *merkle.Tree) (err error) {
		h, err = t.Branch(ctx, []byte(path))
		return err
	})
	return h, err
}

// MerkleChildren calls fn for up to limit children of path, after the one with the
// segment after; nil begins at the start. Their order is that of their hashes. It
// fails as MerkleBranch does, and with ErrTreeUnknown.
func (e *Engine) MerkleChildren(ctx context.Context, path string, after []byte, limit int, fn func(c merkle.Child) error) error {
	return e.asked(ctx, "merkle children", func(t *merkle.Tree) error { return t.Children(ctx, []byte(path), after, limit, fn) })
}

// MerkleDirty counts the items below path whose changes are not in the tree yet,
// and those of each of the first segments. It looks at the next limit changes;
// exact is false if there are more. It fails as MerkleChildren does.
func (e *Engine) MerkleDirty(ctx context.Context, path string, limit int) (n int, exact bool, err error) {
	err = e.asked(ctx, "merkle dirty", func(t *merkle.Tree) (err error) {
		n, exact, err = t.Dirty(ctx, []byte(path), limit)
		return err
	})
	return n, exact, err
}

// MerkleDirtyBranches is MerkleDirty for each first segment that has any.
func (e *Engine) MerkleDirtyBranches(ctx context.Context, limit int) (counts map[string]int, exact bool, err error) {
	err = e.asked(ctx, "merkle dirty branches", func(t *merkle.Tree) (err error) {
		counts, exact, err = t.DirtyBranches(ctx, limit)
		return err
	})
	return counts, exact, err
}

// MerkleRows returns rows of the tree for a peer that compares, nil for those that
// are not there. Keys are those that merkle.Diff asks for, up to 256; each must be
// one of a row below path. It fails as MerkleChildren does.
func (e *Engine) MerkleRows(ctx context.Context, path string, keys []string) (rows [][]byte, err error) {
	err = e.asked(ctx, "merkle rows", func(t *merkle.Tree) (err error) {
		if len(keys) > maxPeerRows {
			return fmt.Errorf("%w: %d keys, allowed are %d", ErrInvalid, len(keys), maxPeerRows)
		}
		for _, k := range keys {
			at, err := merkle.PathOf(k)
			if err != nil {
				return err
			}
			if len(at) < len(path) || at[:len(path)] != path {
				return fmt.Errorf("%w: row %q is outside %q", merkle.ErrBadPath, k, path)
			}
		}
		rows, err = t.Rows(ctx, keys)
		return err
	})
	return rows, err
}

// MerkleDiff compares the branch path with another tree; see merkle.Diff. The
// other's Head must be that of the same branch. It fails as MerkleChildren does,
// with merkle.ErrBadPeer and merkle.ErrCannotCompare, and as the peer does.
func (e *Engine) MerkleDiff(ctx context.Context, theirs merkle.Peer, o merkle.DiffOptions, fn func(d merkle.Difference) error) (s merkle.DiffStats, err error) {
	err = e.asked(ctx, "merkle diff", func(t *merkle.Tree) (err error) {
		if err := merkle.CheckPath(o.Path); err != nil {
			return err
		}
		s, err = merkle.Diff(ctx, t.Below(string(o.Path)), theirs, o, fn)
		return err
	})
	return s, err
}

// MerkleAudit compares every row of L3 with the tree, and calls fn for each that
// differs and progress, if it is not nil, after each page of rows; see
// merkle.Tree.Audit. It ends with ErrShuttingDown when the engine closes.
func (e *Engine) MerkleAudit(ctx context.Context, progress func(merkle.Audit) error, fn func(merkle.Finding) error) (a merkle.Audit, err error) {
	err = e.asked(ctx, "merkle audit", func(t *merkle.Tree) (err error) {
		a, err = t.Audit(ctx, func(a merkle.Audit) error {
			if e.isClosing() {
				return ErrShuttingDown
			}
			if progress == nil {
				return nil
			}
			return progress(a)
		}, fn)
		return err
	})
	return a, err
}

// MerkleRebuild has the tree built anew from all rows, by the node that calculates
// it. Until that is done it is unknown. It is for operators: nothing but changes
// that are gone makes a tree be built anew by itself, so that whoever lost rows
// learns of it.
func (e *Engine) MerkleRebuild(ctx context.Context) error {
	return e.asked(ctx, "merkle rebuild", func(t *merkle.Tree) error {
		if err := t.Rebuild(ctx); err != nil {
			return err
		}
		e.tree.note(merkle.Progress{Exists: true})
		e.logger.Warn("the merkle tree is built anew, as it was asked for")
		signal(e.tree.again)
		return nil
	})
}

// TombstoneRetention returns how long a delete is remembered at least.
func (e *Engine) TombstoneRetention() time.Duration { return time.Duration(e.retention.Load()) }

// TreeHealth says how the tree of hashes is.
type TreeHealth struct {
	State       string // unknown, building, following or corrupt
	Calculating bool   // by this node
	Seq         uint64 // of the last change that is in it
	LagChanges  uint64 // how many changes it is behind
	Error       string // why it is corrupt
}

func (e *Engine) treeHealth() *TreeHealth {
	if e.tree == nil || !e.options.MerkleCalc {
		return nil
	}
	k := e.tree
	h := &TreeHealth{State: TreeState(k.state.Load()).String(), Calculating: k.calc.Load(), Seq: k.seq.Load(), LagChanges: e.treeLag()}
	if text := k.broken.Load(); text != nil {
		h.Error = *text
	}
	return h
}
