package merkle

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
)

// An update makes an item's leaf what it is now.
type update struct {
	id    []byte
	parts []part
	leaf  Hash
	live  bool // else the item is gone
}

func newUpdate(id []byte) update { return update{id: id, parts: split(id)} }

// segment returns the segment at a depth, which is that of its branch.
func (u *update) segment(depth int) []byte {
	begin := 0
	if depth > 0 {
		begin = u.parts[depth-1].end
	}
	return u.id[begin:u.parts[depth].end]
}

func (u *update) last(depth int) bool { return depth == len(u.parts)-1 }

// A working is a set of rows that one step reads and changes in memory.
type working struct {
	store Store
	rows  map[string]*loaded // by key
	dirty []string           // keys of those that may have changed
	reads int
}

// A loaded row: as it was, and as it is.
type loaded struct {
	was   []byte // nil: there was none
	node  *node  // nil: there is none
	dirty bool   // node may not be as in was
}

func newWorking(s Store) *working { return &working{store: s, rows: map[string]*loaded{}} }

// rowsAtOnce bounds a question to the store.
const rowsAtOnce = 256

// load reads rows that are not there yet.
func (w *working) load(ctx context.Context, refs []ref) error {
	var keys []string
	for _, r := range refs {
		if k := r.key(); w.rows[k] == nil {
			w.rows[k] = &loaded{}
			keys = append(keys, k)
		}
	}
	for chunk := range slices.Chunk(keys, rowsAtOnce) {
		rows, err := w.store.Rows(ctx, chunk)
		if err == nil && len(rows) != len(chunk) {
			err = fmt.Errorf("%w: %d rows for %d keys", ErrCorrupt, len(rows), len(chunk))
		}
		if err != nil {
			return err
		}
		w.reads += len(chunk)
		for i, b := range rows {
			n, err := parseRow(b)
			if err != nil {
				return fmt.Errorf("row %q: %w", chunk[i], err)
			}
			*w.rows[chunk[i]] = loaded{was: b, node: n}
		}
	}
	return nil
}

// A place is a row that updates lead to.
type place struct {
	ref     ref
	depth   int
	updates []update
}

// prefetch loads all rows on the ways of the updates, level by level.
func (w *working) prefetch(ctx context.Context, updates []update) error {
	level := []place{{updates: updates}}
	for len(level) > 0 {
		refs := make([]ref, len(level))
		for i := range level {
			refs[i] = level[i].ref
		}
		if err := w.load(ctx, refs); err != nil {
			return err
		}
		var next []place
		for i := range level {
			if p := level[i].ref; w.rows[p.key()].node == nil && p != (ref{}) {
				return fmt.Errorf("%w: row %q is missing; rebuild the tree", ErrCorrupt, p.key())
			}
			next = w.below(next, &level[i])
		}
		level = next
	}
	return nil
}

// below appends the rows below p that exist and that its updates lead to.
func (w *working) below(next []place, p *place) []place {
	n := w.rows[p.ref.key()].node
	if n == nil {
		return next
	}
	if n.fan != nil {
		for i, group := range byNibble(p.updates, p.depth, len(p.ref.nibbles)) {
			if len(group) > 0 && n.fan[i].children > 0 {
				next = append(next, place{p.ref.down(i), p.depth, group})
			}
		}
		return next
	}
	for segment, group := range bySegment(p.updates, p.depth) {
		if _, ok := n.find([]byte(segment)); ok && !group[0].last(p.depth) {
			next = append(next, place{ref{path: p.ref.path + segment}, p.depth + 1, group})
		}
	}
	return next
}

func byNibble(updates []update, depth, at int) (groups [fanOut][]update) {
	for _, u := range updates {
		i := u.parts[depth].sum.nibble(at)
		groups[i] = append(groups[i], u)
	}
	return groups
}

func bySegment(updates []update, depth int) map[string][]update {
	groups := make(map[string][]update, min(len(updates), 2*fanOut))
	for i := range updates {
		s := updates[i].segment(depth)
		groups[string(s)] = append(groups[string(s)], updates[i])
	}
	return groups
}

// apply makes the updates, of distinct ids, in the rows.
func (w *working) apply(ctx context.Context, updates []update) error {
	if err := w.prefetch(ctx, updates); err != nil {
		return err
	}
	_, err := w.update(ctx, place{updates: updates})
	return err
}

// update makes the updates of a place, below it too, and returns what its parent
// shall know.
func (w *working) update(ctx context.Context, p place) (sum, error) {
	if len(p.updates) == 0 {
		return sum{}, nil
	}
	l := w.touch(p.ref) // one that was not loaded is below a row that is not in the store either
	n := l.node
	if n == nil {
		n = &node{}
	}
	var err error
	if n.fan != nil {
		err = w.updateFan(ctx, n, p)
	} else {
		err = w.updateList(ctx, n, p)
	}
	if err != nil {
		return sum{}, err
	}
	s := n.sum()
	if l.node = n; s.children == 0 {
		l.node = nil
	}
	return s, nil
}

// touch returns a row that is going to change; one that was not loaded is new.
func (w *working) touch(r ref) *loaded {
	k := r.key()
	l := w.rows[k]
	if l == nil {
		l = &loaded{}
		w.rows[k] = l
	}
	if !l.dirty {
		l.dirty = true
		w.dirty = append(w.dirty, k)
	}
	return l
}

func (w *working) updateFan(ctx context.Context, n *node, p place) error {
	for i, group := range byNibble(p.updates, p.depth, len(p.ref.nibbles)) {
		if len(group) == 0 {
			continue
		}
		s, err := w.update(ctx, place{p.ref.down(i), p.depth, group})
		if err != nil {
			return err
		}
		n.fan[i] = s
	}
	total := uint64(0)
	for i := range n.fan {
		if n.fan[i].children == 0 {
			n.fan[i] = sum{}
		}
		total += n.fan[i].children
	}
	if total > fanOut {
		return nil
	}
	return w.collapse(ctx, n, p.ref)
}

// collapse turns a fan of few children, whose rows are lists, into a list.
func (w *working) collapse(ctx context.Context, n *node, r ref) error {
	var below []ref
	for i := range n.fan {
		if n.fan[i].children > 0 {
			below = append(below, r.down(i))
		}
	}
	if err := w.load(ctx, below); err != nil {
		return err
	}
	n.fan, n.list = nil, make([]entry, 0, fanOut+1)
	for _, r := range below {
		l := w.touch(r)
		if l.node == nil || l.node.fan != nil {
			return fmt.Errorf("%w: %q should be a list; rebuild the tree", ErrCorrupt, r.key())
		}
		n.list = append(n.list, l.node.list...)
		l.node = nil
	}
	slices.SortFunc(n.list, func(a, b entry) int { return bytes.Compare(a.segment, b.segment) })
	return nil
}

func (w *working) updateList(ctx context.Context, n *node, p place) error {
	for segment, group := range bySegment(p.updates, p.depth) {
		e := entry{segment: []byte(segment)}
		if u := &group[0]; u.last(p.depth) {
			e.leaf, e.hash = true, u.leaf
			if u.live {
				e.leaves = 1
			}
		} else {
			s, err := w.update(ctx, place{ref{path: p.ref.path + segment}, p.depth + 1, group})
			if err != nil {
				return err
			}
			e.hash, e.leaves = s.hash, s.leaves
		}
		n.set(e)
	}
	if len(n.list) > fanOut {
		w.spread(n, p.ref)
	}
	return nil
}

// set puts e into the list, or takes it out if nothing is below it.
func (n *node) set(e entry) {
	at, found := n.find(e.segment)
	switch {
	case found && e.leaves == 0:
		n.list = slices.Delete(n.list, at, at+1)
	case found:
		e.segment = n.list[at].segment
		n.list[at] = e
	case e.leaves > 0:
		n.list = slices.Insert(n.list, at, e)
	}
}

// spread turns a list of too many children into a fan of lists, or of fans where
// that does not suffice.
func (w *working) spread(n *node, r ref) {
	var groups [fanOut][]entry
	for _, e := range n.list {
		i := Hash(sha256.Sum256(e.segment)).nibble(len(r.nibbles))
		groups[i] = append(groups[i], e)
	}
	n.list, n.fan = nil, new([fanOut]sum)
	for i, group := range groups {
		if len(group) == 0 {
			continue
		}
		child, at := &node{list: group}, r.down(i)
		if len(group) > fanOut {
			w.spread(child, at)
		}
		n.fan[i] = child.sum()
		w.touch(at).node = child // a list has no rows of the trie below it
	}
}

// changes returns the rows that are not as they were, in order, and takes them
// for stored.
func (w *working) changes() (puts []Row, deletes []string) {
	for _, k := range w.dirty {
		l := w.rows[k]
		l.dirty = false
		if l.node == nil {
			if l.was != nil {
				deletes, l.was = append(deletes, k), nil
			}
			continue
		}
		if b := l.node.appendRow(make([]byte, 0, l.node.rowLen())); !bytes.Equal(b, l.was) {
			puts, l.was = append(puts, Row{Key: k, Value: b}), b
		}
	}
	w.dirty = w.dirty[:0]
	slices.SortFunc(puts, func(a, b Row) int { return strings.Compare(a.Key, b.Key) })
	slices.Sort(deletes)
	return puts, deletes
}
