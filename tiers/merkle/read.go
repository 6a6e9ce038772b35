package merkle

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
)

// A Head is what a peer tells of its tree.
type Head struct {
	Format int
	Known  bool   // false: it is being built, and the rest says nothing
	Seq    uint64 // of the last change that is in it
	Branch
}

// A Branch is what is below a path.
type Branch struct {
	Exists   bool // false: no item is below it, and there is no hash
	Hash     Hash
	Leaves   uint64 // items
	Children uint64 // items and branches right below
}

func branchOf(n *node) Branch {
	if n == nil {
		return Branch{}
	}
	s := n.sum()
	return Branch{Exists: true, Hash: s.hash, Leaves: s.leaves, Children: s.children}
}

// Head returns number and root of the tree.
func (t *Tree) Head(ctx context.Context) (Head, error) {
	h, err := t.Branch(ctx, nil)
	if err != nil {
		return h, fmt.Errorf("merkle: head: %w", err)
	}
	return h, nil
}

// Branch returns what is below path; see CheckPath. Known is false while the tree
// is being built.
func (t *Tree) Branch(ctx context.Context, path []byte) (Head, error) {
	h := Head{Format: Format}
	if err := CheckPath(path); err != nil {
		return h, err
	}
	st, n, err := t.readRow(ctx, ref{path: string(path)})
	if err != nil || st.phase != phaseFollowing {
		return h, err
	}
	h.Known, h.Seq, h.Branch = true, st.seq, branchOf(n)
	return h, nil
}

// readRow reads one row together with the state.
func (t *Tree) readRow(ctx context.Context, r ref) (st state, n *node, err error) {
	rows, err := t.opts.Store.Rows(ctx, []string{"", r.key()})
	if err == nil && len(rows) != 2 {
		err = fmt.Errorf("%w: %d rows for two keys", ErrCorrupt, len(rows))
	}
	if err == nil {
		st, err = parseState(rows[0])
	}
	if err == nil {
		n, err = parseRow(rows[1])
	}
	return st, n, err
}

// Rows returns rows for a peer, which parses them; it makes a Tree a Peer. Keys
// are those that Diff asks for; the state is never given.
func (t *Tree) Rows(ctx context.Context, keys []string) ([][]byte, error) {
	for _, k := range keys {
		if k == "" {
			return nil, fmt.Errorf("%w: an empty key", ErrBadPath)
		}
	}
	return t.opts.Store.Rows(ctx, keys)
}

// A Child is an item or a branch right below a path.
type Child struct {
	Segment []byte // with its separator, if it is a branch; may be empty, if it is an item
	Leaf    bool   // an item, with Hash its leaf
	Hash    Hash
	Leaves  uint64
}

// Children calls fn for up to limit children of path, after the child with the
// segment after; nil begins at the start. Their order is that of their hashes: it
// does not change, so a child that is there throughout comes exactly once. fn may
// keep c. It fails with ErrUnknown while the tree is being built.
func (t *Tree) Children(ctx context.Context, path, after []byte, limit int, fn func(c Child) error) error {
	if err := CheckPath(path); err != nil {
		return err
	}
	w := &walk{tree: t, limit: limit, fn: fn}
	if after != nil {
		sum := Hash(sha256.Sum256(after))
		w.after = &sum
	}
	if err := w.node(ctx, ref{path: string(path)}); err != nil && err != errEnough {
		return fmt.Errorf("merkle: children of %q: %w", path, err)
	}
	return nil
}

// errEnough ends a walk.
var errEnough = errors.New("merkle: enough")

// A walk visits the children of a branch in the order of their hashes.
type walk struct {
	tree  *Tree
	after *Hash
	limit int
	fn    func(Child) error
}

func (w *walk) node(ctx context.Context, r ref) error {
	st, n, err := w.tree.readRow(ctx, r)
	if err != nil {
		return err
	}
	if st.phase != phaseFollowing {
		return ErrUnknown
	}
	if n == nil {
		return nil
	}
	if n.fan == nil {
		return w.list(n)
	}
	for i := range n.fan {
		if n.fan[i].children == 0 || w.passed(r.nibbles, i) {
			continue
		}
		if err := w.node(ctx, r.down(i)); err != nil {
			return err
		}
	}
	return nil
}

// passed reports whether all below nibble i are before the begin.
func (w *walk) passed(nibbles string, i int) bool {
	if w.after == nil {
		return false
	}
	for at := range len(nibbles) {
		if a := w.after.nibble(at); int(nibbles[at]) != a {
			return int(nibbles[at]) < a
		}
	}
	return i < w.after.nibble(len(nibbles))
}

func (w *walk) list(n *node) error {
	for _, c := range byHash(n.list) {
		if w.after != nil && bytes.Compare(c.sum[:], w.after[:]) <= 0 {
			continue
		}
		if w.limit <= 0 {
			return errEnough
		}
		w.limit--
		e := c.entry
		if err := w.fn(Child{Segment: e.segment, Leaf: e.leaf, Hash: e.hash, Leaves: e.leaves}); err != nil {
			return err
		}
	}
	return nil
}

// Dirty counts the items below path whose changes are not in the tree yet. It
// looks at no more than the next limit changes; exact is false if there are more.
// It fails with ErrUnknown while the tree is being built, and with ErrGone if
// changes are missing.
func (t *Tree) Dirty(ctx context.Context, path []byte, limit int) (n int, exact bool, err error) {
	if err := CheckPath(path); err != nil {
		return 0, false, err
	}
	exact, err = t.dirty(ctx, limit, func(id []byte) {
		if bytes.HasPrefix(id, path) {
			n++
		}
	})
	return n, exact, err
}

// DirtyBranches is Dirty for each of the first segments that have any: branches
// end with their separator.
func (t *Tree) DirtyBranches(ctx context.Context, limit int) (counts map[string]int, exact bool, err error) {
	counts = map[string]int{}
	exact, err = t.dirty(ctx, limit, func(id []byte) {
		counts[string(id[:split(id)[0].end])]++
	})
	return counts, exact, err
}

// dirty calls fn for the distinct ids of changes beyond the cursor.
func (t *Tree) dirty(ctx context.Context, limit int, fn func(id []byte)) (exact bool, err error) {
	_, st, err := t.state(ctx)
	if err == nil && st.phase != phaseFollowing {
		err = ErrUnknown
	}
	seen, known, page := 0, map[string]bool{}, t.opts.BatchItems
	for err == nil && seen < limit {
		n := 0
		want := min(page, limit-seen)
		err = t.opts.Source.Changes(ctx, st.seq, want, func(seq uint64, id []byte) error {
			n++
			st.seq = seq
			if id != nil && !known[string(id)] {
				known[string(id)] = true
				fn(id)
			}
			return nil
		})
		if seen += n; n < want {
			break
		}
	}
	if err != nil {
		return false, fmt.Errorf("merkle: dirty: %w", err)
	}
	last, err := t.opts.Source.LastSeq(ctx)
	if err != nil {
		return false, fmt.Errorf("merkle: dirty: %w", err)
	}
	return last <= st.seq, nil
}
