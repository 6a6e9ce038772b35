package merkle

import (
	"bytes"
	"context"
	"errors"
	"fmt"
)

// A Finding is an item whose leaf in the tree is not that of its row.
type Finding struct {
	ID     []byte
	InTree bool // else the tree has no leaf of it
	Tree   Hash
	Row    Hash
}

// An Audit says what a comparison of the tree with its rows has come to.
type Audit struct {
	Items     uint64 // rows compared
	Findings  uint64 // of them, those that differ
	Undecided uint64 // of them, those that changed meanwhile: the tree takes them with the next steps
	Leaves    uint64 // in the tree, at the end
	// Counted says that nothing changed from begin to end, so that Leaves must
	// equal Items: if there are more, the tree has leaves without rows.
	Counted bool
}

// Good reports whether the tree is that of the rows, as far as it was compared.
func (a *Audit) Good() bool { return a.Findings == 0 && (!a.Counted || a.Leaves == a.Items) }

const (
	auditTries = 8      // of a page that others were writing
	auditDirty = 50_000 // changes beyond the tree that are looked through
)

// Audit reads all live rows and compares each with its leaf in the tree, and
// every hash on the way with what its parent says. It calls fn for each
// difference, and progress, if it is not nil, after each page; their errors end
// Audit and are returned. It changes nothing.
//
// It fails with ErrUnknown while the tree is being built, and with ErrCorrupt for
// rows of the tree that contradict each other.
//
// Cost: one scan, and for each BatchItems rows the nodes above them. Memory: those
// of one page.
func (t *Tree) Audit(ctx context.Context, progress func(Audit) error, fn func(Finding) error) (Audit, error) {
	a := auditor{tree: t, fn: fn}
	begin, st, err := t.state(ctx)
	if err == nil && st.phase != phaseFollowing {
		err = ErrUnknown
	}
	for err == nil && !a.ended {
		if err = a.page(ctx); err == nil && progress != nil {
			err = progress(a.result)
		}
	}
	if err == nil {
		err = a.count(ctx, begin)
	}
	if err != nil {
		return a.result, fmt.Errorf("merkle: audit: %w", err)
	}
	return a.result, nil
}

type auditor struct {
	tree    *Tree
	fn      func(Finding) error
	result  Audit
	after   []byte
	ended   bool
	suspect []Finding
}

// page compares the next rows.
func (a *auditor) page(ctx context.Context) error {
	var updates []update
	var st state
	for try := 1; ; try++ {
		before, s, err := a.tree.state(ctx)
		if err == nil && s.phase != phaseFollowing {
			err = ErrUnknown
		}
		if err == nil {
			st = s
			updates, err = a.read(ctx)
		}
		if err == nil {
			err = a.compare(ctx, updates)
		}
		if err == nil && len(a.suspect) == 0 {
			break
		}
		if err != nil && !errors.Is(err, ErrCorrupt) {
			return err
		}
		after, _, stateErr := a.tree.state(ctx)
		if stateErr != nil {
			return stateErr
		}
		if bytes.Equal(before, after) || try == auditTries {
			if err != nil {
				return err
			}
			break
		}
	}
	if n := len(updates); n == a.tree.opts.BatchItems {
		a.after = updates[n-1].id
	} else {
		a.ended = true
	}
	a.result.Items += uint64(len(updates))
	return a.judge(ctx, st)
}

func (a *auditor) read(ctx context.Context) (updates []update, err error) {
	err = a.tree.opts.Source.Scan(ctx, a.after, a.tree.opts.BatchItems, func(id []byte, leaf Hash) error {
		u := newUpdate(bytes.Clone(id))
		u.leaf, u.live = leaf, true
		updates = append(updates, u)
		return nil
	})
	return updates, err
}

func (a *auditor) compare(ctx context.Context, updates []update) error {
	a.suspect = a.suspect[:0]
	if len(updates) == 0 {
		return nil
	}
	w := newWorking(a.tree.opts.Store)
	if err := w.prefetch(ctx, updates); err != nil {
		return err
	}
	root := place{updates: updates}
	n := w.rows[root.ref.key()].node
	if n == nil {
		a.missing(updates)
		return nil
	}
	s := n.sum()
	a.result.Leaves = s.leaves
	return a.place(w, root, s.hash)
}

func (a *auditor) missing(updates []update) {
	for _, u := range updates {
		a.suspect = append(a.suspect, Finding{ID: u.id, Row: u.leaf})
	}
}

// place compares what is below a row, whose hash is to be want.
func (a *auditor) place(w *working, p place, want Hash) error {
	n := w.rows[p.ref.key()].node
	if n.sum().hash != want {
		return fmt.Errorf("%w: the hash of row %q is not what its parent says; rebuild the tree", ErrCorrupt, p.ref.key())
	}
	if n.fan != nil {
		for i, group := range byNibble(p.updates, p.depth, len(p.ref.nibbles)) {
			switch {
			case len(group) == 0:
			case n.fan[i].children == 0:
				a.missing(group)
			default:
				if err := a.place(w, place{p.ref.down(i), p.depth, group}, n.fan[i].hash); err != nil {
					return err
				}
			}
		}
		return nil
	}
	for segment, group := range bySegment(p.updates, p.depth) {
		at, found := n.find([]byte(segment))
		switch {
		case !found:
			a.missing(group)
		case !group[0].last(p.depth):
			if err := a.place(w, place{ref{path: p.ref.path + segment}, p.depth + 1, group}, n.list[at].hash); err != nil {
				return err
			}
		case n.list[at].hash != group[0].leaf:
			a.suspect = append(a.suspect, Finding{ID: group[0].id, InTree: true, Tree: n.list[at].hash, Row: group[0].leaf})
		}
	}
	return nil
}

// judge tells what differs, but what has changed after st.
func (a *auditor) judge(ctx context.Context, st state) error {
	if len(a.suspect) == 0 {
		return nil
	}
	dirty, page := map[string]bool{}, a.tree.opts.BatchItems
	for seen := 0; seen < auditDirty; seen += page {
		n := 0
		err := a.tree.opts.Source.Changes(ctx, st.seq, page, func(seq uint64, id []byte) error {
			n++
			st.seq, dirty[string(id)] = seq, true
			return nil
		})
		if err != nil {
			return err
		}
		if n < page {
			break
		}
	}
	for _, f := range a.suspect {
		if dirty[string(f.ID)] {
			a.result.Undecided++
			continue
		}
		a.result.Findings++
		if err := a.fn(f); err != nil {
			return err
		}
	}
	return nil
}

// count notes how many leaves the tree has, and whether that must be the number of
// rows.
func (a *auditor) count(ctx context.Context, begin []byte) error {
	st, n, err := a.tree.readRow(ctx, ref{})
	if err != nil {
		return err
	}
	a.result.Leaves = branchOf(n).Leaves
	last, err := a.tree.opts.Source.LastSeq(ctx)
	a.result.Counted = err == nil && bytes.Equal(begin, st.row()) && last == st.seq
	return err
}
