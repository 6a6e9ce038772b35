package merkle

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
)

// A Peer is a tree to compare: a *Tree, or another node's over the wire.
type Peer interface {
	// Head returns number and root.
	Head(ctx context.Context) (Head, error)
	// Rows returns the rows of keys in their order, nil for those that are not
	// there. It is asked for at most 256 at once.
	Rows(ctx context.Context, keys []string) ([][]byte, error)
}

var _ Peer = (*Tree)(nil)

// A Difference is an item, or with DiffOptions.Shallow a branch, that is not the
// same in both trees.
type Difference struct {
	ID                 []byte // of the item; path of the branch
	Leaf               bool   // false: a branch
	HasMine, HasTheirs bool
	Mine, Theirs       Hash // if there is one
}

// DiffOptions narrow a comparison.
type DiffOptions struct {
	// Path is the branch to compare; empty is everything.
	Path []byte
	// Shallow compares what is right below Path and does not go down: to drill
	// down, compare one of the branches found next.
	Shallow bool
	// Limit ends the comparison after so many differences; 0 means none.
	Limit int
}

// DiffStats say what a comparison took.
type DiffStats struct {
	Differences int
	RoundTrips  int // questions to the other tree
	Rows        int // rows read of it
	Hashes      int // hashes in them
	Moved       int // rows that were not what their parents said: a tree changed meanwhile
	Truncated   bool
}

// ErrBadPeer is returned for a peer whose answers fit no tree.
var ErrBadPeer = errors.New("merkle: the peer's answer fits no tree")

// Diff calls fn for each item that is not in both trees with the same leaf, in no
// order. fn owns d; its error ends Diff and is returned. It fails with
// ErrCannotCompare if the formats differ, and with ErrUnknown while one of the
// trees is being built. What changes meanwhile may be found or not.
//
// Cost: with d differences some d·(depth + log16 siblings) rows of each tree, in
// as many round trips as the tree is deep, as long as a level has no more than
// 256 of them. Memory: in the order of depth × 4096 hashes.
func Diff(ctx context.Context, mine, theirs Peer, opts DiffOptions, fn func(d Difference) error) (DiffStats, error) {
	d := &differ{mine: mine, theirs: theirs, opts: opts, fn: fn}
	err := CheckPath(opts.Path)
	if err == nil {
		err = d.run(ctx)
	}
	if err == errEnough {
		d.stats.Truncated, err = true, nil
	}
	if err != nil {
		return d.stats, fmt.Errorf("merkle: diff: %w", err)
	}
	return d.stats, nil
}

// Diff is Diff of t and theirs, counted in the metrics.
func (t *Tree) Diff(ctx context.Context, theirs Peer, opts DiffOptions, fn func(d Difference) error) (DiffStats, error) {
	s, err := Diff(ctx, t, theirs, opts, fn)
	t.metrics.diffs.Inc()
	t.metrics.diffRows.Add(s.Rows)
	t.metrics.differences.Add(s.Differences)
	return s, err
}

// A side is one tree's part of a pair: nothing, a row to fetch, or entries of a
// list that the other tree has as a fan.
type side struct {
	there bool
	hash  Hash
	node  *node // nil: to be fetched
}

// A pair is a place where the trees differ.
type pair struct {
	ref          ref
	mine, theirs side
}

type differ struct {
	mine, theirs Peer
	opts         DiffOptions
	fn           func(Difference) error
	stats        DiffStats
	stack        []pair
}

func (d *differ) run(ctx context.Context) error {
	mine, err := d.mine.Head(ctx)
	if err != nil {
		return err
	}
	d.stats.RoundTrips++
	theirs, err := d.theirs.Head(ctx)
	if err != nil {
		return err
	}
	if mine.Format != Format || theirs.Format != Format {
		return fmt.Errorf("%w: %d and %d", ErrCannotCompare, mine.Format, theirs.Format)
	}
	if !mine.Known || !theirs.Known {
		return ErrUnknown
	}
	if mine.Exists == theirs.Exists && mine.Hash == theirs.Hash {
		return nil
	}
	root := pair{ref: ref{path: string(d.opts.Path)}, mine: side{there: true}, theirs: side{there: true}}
	if len(d.opts.Path) == 0 {
		root.mine, root.theirs = side{there: mine.Exists, hash: mine.Hash}, side{there: theirs.Exists, hash: theirs.Hash}
	}
	d.stack = append(d.stack, root)
	for len(d.stack) > 0 {
		if err := d.level(ctx); err != nil {
			return err
		}
	}
	return nil
}

// level takes the pairs on top of the stack: many, so that there are few round
// trips; not all, so that the stack stays small.
func (d *differ) level(ctx context.Context) error {
	n := min(len(d.stack), rowsAtOnce)
	pairs := slices.Clone(d.stack[len(d.stack)-n:])
	d.stack = d.stack[:len(d.stack)-n]
	if _, err := d.fetch(ctx, d.mine, pairs, func(p *pair) *side { return &p.mine }); err != nil {
		return err
	}
	asked, err := d.fetch(ctx, d.theirs, pairs, func(p *pair) *side { return &p.theirs })
	if err != nil {
		return err
	}
	if asked > 0 {
		d.stats.RoundTrips++
		d.stats.Rows += asked
	}
	for i := range pairs {
		p := &pairs[i]
		d.stats.Hashes += p.theirs.node.hashes()
		if err := d.compare(p.ref, p.mine.node, p.theirs.node); err != nil {
			return err
		}
	}
	return nil
}

// maxMoved bounds the rows that do not fit their parents: so a peer that makes
// rows up cannot keep us busy.
const maxMoved = 10_000

// fetch reads the rows that one side of the pairs needs.
func (d *differ) fetch(ctx context.Context, peer Peer, pairs []pair, of func(*pair) *side) (asked int, err error) {
	var keys []string
	var sides []*side
	for i := range pairs {
		if s := of(&pairs[i]); s.there && s.node == nil {
			keys, sides = append(keys, pairs[i].ref.key()), append(sides, s)
		}
	}
	if len(keys) == 0 {
		return 0, nil
	}
	rows, err := peer.Rows(ctx, keys)
	if err != nil {
		return 0, err
	}
	if len(rows) != len(keys) {
		return 0, fmt.Errorf("%w: %d rows for %d keys", ErrBadPeer, len(rows), len(keys))
	}
	for i, s := range sides {
		if s.node, err = parseRow(rows[i]); err != nil {
			return 0, fmt.Errorf("%w: row %q: %w", ErrBadPeer, keys[i], err)
		}
		if s.hash != (Hash{}) && (s.node == nil || s.node.sum().hash != s.hash) {
			d.stats.Moved++
		}
	}
	if d.stats.Moved > maxMoved {
		return 0, fmt.Errorf("%w: %d rows were not what their parents said; compare again when it is quiet", ErrBadPeer, d.stats.Moved)
	}
	return len(keys), nil
}

// hashes returns how many hashes are in the row.
func (n *node) hashes() (count int) {
	switch {
	case n == nil:
	case n.fan == nil:
		return len(n.list)
	default:
		for i := range n.fan {
			if n.fan[i].children > 0 {
				count++
			}
		}
	}
	return count
}

// compare finds what differs between two rows of one place, nil for none.
func (d *differ) compare(r ref, mine, theirs *node) error {
	if len(r.nibbles) >= 2*sha256.Size {
		return fmt.Errorf("%w: a fan below all bits", ErrBadPeer)
	}
	if mine.isFan() || theirs.isFan() {
		a, b := mine.fanned(len(r.nibbles)), theirs.fanned(len(r.nibbles))
		for i := range a {
			d.push(r.down(i), a[i], b[i])
		}
		return nil
	}
	return d.compareLists(r, mine.entries(), theirs.entries())
}

func (n *node) isFan() bool { return n != nil && n.fan != nil }

func (n *node) entries() []entry {
	if n == nil {
		return nil
	}
	return n.list
}

// fanned returns the sides of a fan; a list is divided as a fan would be. The
// shape depends on the children alone, so equal sets have equal hashes.
func (n *node) fanned(at int) (sides [fanOut]side) {
	if n == nil {
		return sides
	}
	if n.fan != nil {
		for i := range n.fan {
			sides[i] = side{there: n.fan[i].children > 0, hash: n.fan[i].hash}
		}
		return sides
	}
	for _, e := range n.list {
		i := Hash(sha256.Sum256(e.segment)).nibble(at)
		if sides[i].node == nil {
			sides[i] = side{there: true, node: &node{}}
		}
		sides[i].node.list = append(sides[i].node.list, e)
	}
	for i := range sides {
		if sides[i].there {
			sides[i].hash = sides[i].node.sum().hash
		}
	}
	return sides
}

func (d *differ) push(r ref, mine, theirs side) {
	if mine.there != theirs.there || mine.hash != theirs.hash {
		d.stack = append(d.stack, pair{r, mine, theirs})
	}
}

// compareLists merges two lists.
func (d *differ) compareLists(r ref, mine, theirs []entry) error {
	for len(mine) > 0 || len(theirs) > 0 {
		order := 0
		switch {
		case len(mine) == 0:
			order = 1
		case len(theirs) == 0:
			order = -1
		default:
			order = bytes.Compare(mine[0].segment, theirs[0].segment)
		}
		var a, b *entry
		if order <= 0 {
			a, mine = &mine[0], mine[1:]
		}
		if order >= 0 {
			b, theirs = &theirs[0], theirs[1:]
		}
		if err := d.child(r, a, b); err != nil {
			return err
		}
	}
	return nil
}

// child takes one child, nil for none.
func (d *differ) child(r ref, mine, theirs *entry) error {
	any := mine
	if any == nil {
		any = theirs
	}
	if mine != nil && theirs != nil {
		if mine.leaf != theirs.leaf {
			return fmt.Errorf("%w: %q is an item and a branch", ErrBadPeer, r.path+string(any.segment))
		}
		if mine.hash == theirs.hash {
			return nil
		}
	}
	if any.leaf || d.opts.Shallow {
		return d.found(r, any, mine, theirs)
	}
	if !validBranch(r.path, any.segment) {
		return fmt.Errorf("%w: %q below %q is no branch", ErrBadPeer, any.segment, r.path)
	}
	d.push(ref{path: r.path + string(any.segment)}, sideOf(mine), sideOf(theirs))
	return nil
}

func sideOf(e *entry) side {
	if e == nil {
		return side{}
	}
	return side{there: true, hash: e.hash}
}

// validBranch keeps a peer from leading into endless depths.
func validBranch(path string, segment []byte) bool {
	return len(segment) > 0 && CheckPath(append([]byte(path), segment...)) == nil
}

func (d *differ) found(r ref, any, mine, theirs *entry) error {
	if d.opts.Limit > 0 && d.stats.Differences == d.opts.Limit {
		return errEnough
	}
	d.stats.Differences++
	f := Difference{ID: append([]byte(r.path), any.segment...), Leaf: any.leaf}
	if mine != nil {
		f.HasMine, f.Mine = true, mine.hash
	}
	if theirs != nil {
		f.HasTheirs, f.Theirs = true, theirs.hash
	}
	return d.fn(f)
}
