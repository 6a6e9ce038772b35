package merkle

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"
)

// ErrTooMany is returned by Copy for a tree of more items than the copy may have.
// Nothing was written.
var ErrTooMany = errors.New("merkle: the tree has more items than its copy may have")

// A CopyStore keeps a copy of a tree. Rows and Commit are those of Store, but for
// one moment: rows need not be as of one, since only copies write.
type CopyStore interface {
	Rows(ctx context.Context, keys []string) ([][]byte, error)
	Commit(ctx context.Context, b Batch) error
	// Drop deletes all rows and the state.
	Drop(ctx context.Context) error
}

// CopyOptions bound a copy.
type CopyOptions struct {
	MaxItems uint64 // 0 means no bound
	// Known makes Copy fail with ErrUnknown, before it writes, unless there is a
	// copy that was whole once: to bring it up costs no more than what differs.
	Known bool
	// Pause is called after each commit but the last with the time since the one
	// before; its error ends Copy. Nil means no pause.
	Pause func(worked time.Duration) error
}

// CopyStats say what a copy took.
type CopyStats struct {
	Head    Head // of the tree, as it is in the copy if Moved is 0
	Read    int  // rows read of the tree
	Written int  // rows written or deleted
	Moved   int  // rows that changed in the tree meanwhile: the next call fetches them
}

const (
	copyRows  = 1000 // rows in one commit, about
	copyBytes = 512 << 10
)

// Copy makes the rows in dst those of the tree in src: the more they differ, the
// longer it takes, like Diff. What the tree does not have any more leaves dst. A copy
// that was left half done, after an error, is begun anew by the next call.
//
// It fails with ErrUnknown while the tree is being built, with ErrTooMany, and with
// ErrMoved if somebody else has written to dst: one at a time should. Use a Proof to
// read from dst.
//
// Cost: one read of up to 32 rows of either for each inner row that differs. It
// holds one commit's rows, and those of one way down, in memory.
func Copy(ctx context.Context, src Store, dst CopyStore, o CopyOptions) (CopyStats, error) {
	c := &copier{src: src, dst: dst, opts: o, late: map[string][]byte{}, loose: map[string]bool{}, began: time.Now()}
	err := c.run(ctx)
	if err != nil && !errors.Is(err, ErrMoved) {
		err = fmt.Errorf("merkle: copy: %w", err)
	}
	return c.stats, err
}

// A copier is one call of Copy. It goes down where rows differ. What it writes is the
// tree of the moment at which it read the root: a row that has changed since, as the
// hash above it shows, stays in dst as it was, and all above it get a hash of zeros
// for what is on the way to it. So a hash in dst that is equal to the tree's says
// that all below is equal too.
type copier struct {
	src   Store
	dst   CopyStore
	opts  CopyOptions
	stats CopyStats
	began time.Time // of the commit under way

	was   []byte // the state's row in dst
	st    state
	late  map[string][]byte // rows not committed yet, nil for those deleted
	size  int
	loose map[string]bool // branches whose list became a fan; true: found in a part of it
}

func (c *copier) run(ctx context.Context) error {
	root := ref{}
	mine, err := c.read(ctx, []string{root.key()})
	if err != nil {
		return err
	}
	n, err := parseRow(mine[0])
	if err != nil {
		return err
	}
	c.stats.Head.Branch = branchOf(n)
	if most := c.opts.MaxItems; most > 0 && c.stats.Head.Leaves > most {
		return fmt.Errorf("%w: %d, allowed are %d", ErrTooMany, c.stats.Head.Leaves, most)
	}
	theirs, err := c.begin(ctx, root.key())
	if err != nil {
		return err
	}
	if _, err := c.place(ctx, root, mine[0], theirs); err != nil {
		return err
	}
	if c.was != nil && len(c.late) == 0 && c.st.phase == phaseFollowing && c.st.seq == c.stats.Head.Seq {
		return nil
	}
	c.st.phase, c.st.seq = phaseFollowing, c.stats.Head.Seq
	return c.commit(ctx)
}

// begin looks at what dst has, and returns its first row.
func (c *copier) begin(ctx context.Context, root string) ([]byte, error) {
	rows, err := c.have(ctx, []string{"", root})
	if err != nil {
		return nil, err
	}
	st, err := parseState(rows[0])
	if err == nil && st.phase == phaseFollowing {
		c.was, c.st = rows[0], st
		return rows[1], nil
	}
	if c.opts.Known {
		return nil, ErrUnknown
	}
	if rows[0] == nil && rows[1] == nil {
		return nil, nil
	}
	return nil, c.dst.Drop(ctx) // half done, of another format, or of nobody
}

// read reads rows of the tree, all of one moment, and checks that it is whole.
func (c *copier) read(ctx context.Context, keys []string) ([][]byte, error) {
	rows, err := c.src.Rows(ctx, append([]string{""}, keys...))
	if err == nil && len(rows) != len(keys)+1 {
		err = fmt.Errorf("%w: %d rows for %d keys", ErrCorrupt, len(rows), len(keys)+1)
	}
	if err != nil {
		return nil, err
	}
	st, err := parseState(rows[0])
	if err != nil {
		return nil, err
	}
	if st.phase != phaseFollowing {
		return nil, ErrUnknown
	}
	if c.stats.Read == 0 {
		c.stats.Head = Head{Format: Format, Known: true, Seq: st.seq}
	}
	c.stats.Read += len(keys)
	return rows[1:], nil
}

// have reads rows of dst as they will be.
func (c *copier) have(ctx context.Context, keys []string) ([][]byte, error) {
	rows, err := c.dst.Rows(ctx, keys)
	if err == nil && len(rows) != len(keys) {
		err = fmt.Errorf("%w: %d rows for %d keys of the copy", ErrCorrupt, len(rows), len(keys))
	}
	if err != nil {
		return nil, err
	}
	for i, k := range keys {
		if row, ok := c.late[k]; ok {
			rows[i] = row
		}
	}
	return rows, nil
}

// place makes dst at r and below what the tree is, whose row is mine. It reports
// whether that was possible for all of it.
func (c *copier) place(ctx context.Context, r ref, mine, theirs []byte) (exact bool, err error) {
	if bytes.Equal(mine, theirs) {
		return true, nil
	}
	a, err := parseRow(mine)
	if err != nil {
		return false, err
	}
	b, err := parseRow(theirs)
	if err != nil {
		b = nil // damaged: written over
	}
	c.find(r, a)
	moved := c.loosen(r, a, b)
	if exact, err = c.children(ctx, r, a, differing(r, a, b)); err != nil {
		return false, err
	}
	for _, p := range moved {
		found := c.loose[p.path]
		if delete(c.loose, p.path); !found {
			err = errors.Join(err, c.remove(ctx, p, nil))
		}
	}
	for p := range b.places(r) {
		if err == nil && len(moved) == 0 && a.hashOf(r, p) == nil {
			err = c.remove(ctx, p, a)
		}
	}
	if err != nil {
		return false, err
	}
	if exact {
		c.put(r.key(), bytes.Clone(mine))
	} else {
		c.put(r.key(), a.appendRow(nil))
	}
	return exact, c.between(ctx)
}

// loosen returns the branches of a list that has become a fan: where in it they are
// now, if anywhere, is seen below.
func (c *copier) loosen(r ref, a, b *node) (list []ref) {
	if !a.isFan() || b.isFan() {
		return nil
	}
	for p := range b.places(r) {
		c.loose[p.path] = false
		list = append(list, p)
	}
	return list
}

// find notes which branches that were loosened are in the row a.
func (c *copier) find(r ref, a *node) {
	if len(c.loose) == 0 || a.isFan() {
		return
	}
	for p := range a.places(r) {
		if _, ok := c.loose[p.path]; ok {
			c.loose[p.path] = true
		}
	}
}

// children takes the places below r, which all are a's. Those that are not, or no
// more, as a says get a hash of zeros in it.
func (c *copier) children(ctx context.Context, r ref, a *node, below []ref) (exact bool, err error) {
	exact = true
	if len(below) == 0 {
		return exact, nil
	}
	keys := make([]string, len(below))
	for i := range below {
		keys[i] = below[i].key()
	}
	mine, err := c.read(ctx, keys)
	if err != nil {
		return false, err
	}
	theirs, err := c.have(ctx, keys)
	if err != nil {
		return false, err
	}
	for i, p := range below {
		n, err := parseRow(mine[i])
		if err != nil {
			return false, err
		}
		hash := a.hashOf(r, p)
		whole := n != nil && n.sum().hash == *hash
		if !whole {
			c.stats.Moved++
		} else if whole, err = c.place(ctx, p, mine[i], theirs[i]); err != nil {
			return false, err
		}
		if !whole {
			*hash, exact = Hash{}, false
		}
	}
	return exact, nil
}

// remove deletes what dst has at r and below, but for the branches that keep, a list
// above, has too.
func (c *copier) remove(ctx context.Context, r ref, keep *node) error {
	if len(r.nibbles) == 0 {
		keep = nil // another branch
	}
	rows, err := c.have(ctx, []string{r.key()})
	if err != nil || rows[0] == nil {
		return err
	}
	b, err := parseRow(rows[0])
	if err != nil {
		b = nil
	}
	for p := range b.places(r) {
		if keep.hashOf(ref{path: r.path}, p) != nil {
			continue
		}
		if err := c.remove(ctx, p, keep); err != nil {
			return err
		}
	}
	c.put(r.key(), nil)
	return c.between(ctx)
}

// differing returns the places right below r that a has, and b not or otherwise.
func differing(r ref, a, b *node) (list []ref) {
	for p := range a.places(r) {
		if had := b.hashOf(r, p); had == nil || *had != *a.hashOf(r, p) {
			list = append(list, p)
		}
	}
	return list
}

// places yields the rows that the row n at r leads to.
func (n *node) places(r ref) func(yield func(ref) bool) {
	return func(yield func(ref) bool) {
		switch {
		case n == nil:
		case n.fan != nil:
			for i := range n.fan {
				if n.fan[i].children > 0 && !yield(r.down(i)) {
					return
				}
			}
		default:
			for i := range n.list {
				if e := &n.list[i]; !e.leaf && !yield(ref{path: r.path + string(e.segment)}) {
					return
				}
			}
		}
	}
}

// hashOf returns the hash that the row n at r has for the place p below it, or nil.
func (n *node) hashOf(r, p ref) *Hash {
	switch {
	case n == nil:
	case n.fan != nil:
		if p.path == r.path && len(p.nibbles) == len(r.nibbles)+1 {
			if s := &n.fan[p.nibbles[len(r.nibbles)]]; s.children > 0 {
				return &s.hash
			}
		}
	case len(p.path) > len(r.path):
		if i, ok := n.find([]byte(p.path[len(r.path):])); ok && !n.list[i].leaf {
			return &n.list[i].hash
		}
	}
	return nil
}

func (c *copier) put(key string, row []byte) {
	if old, ok := c.late[key]; ok {
		c.size -= len(key) + len(old)
	}
	c.late[key] = row
	c.size += len(key) + len(row)
}

// between commits a part, if it is large enough. What is above it in dst still has the
// hashes of what was below before: so the state says that the copy is half done.
func (c *copier) between(ctx context.Context) error {
	if len(c.late) < copyRows && c.size < copyBytes {
		return nil
	}
	c.st.phase = phaseScanning
	if err := c.commit(ctx); err != nil {
		return err
	}
	worked := time.Since(c.began)
	if c.opts.Pause != nil {
		if err := c.opts.Pause(worked); err != nil {
			return err
		}
	}
	c.began = time.Now()
	return nil
}

func (c *copier) commit(ctx context.Context) error {
	c.st.serial, c.st.position = c.st.serial+1, nil
	b := Batch{Was: c.was, State: c.st.row()}
	for key, row := range c.late {
		if row == nil {
			b.Deletes = append(b.Deletes, key)
		} else {
			b.Puts = append(b.Puts, Row{Key: key, Value: row})
		}
	}
	if err := c.dst.Commit(ctx, b); err != nil {
		return err
	}
	c.stats.Written += len(c.late)
	c.was, c.size = b.State, 0
	clear(c.late)
	return nil
}

// CopyHead returns number and hash of the branch path in a copy, as a copy that is
// whole says; Known is false for one that is half done, or was never begun.
func CopyHead(ctx context.Context, dst CopyStore, path []byte) (Head, error) {
	h := Head{Format: Format}
	if err := CheckPath(path); err != nil {
		return h, err
	}
	rows, err := dst.Rows(ctx, []string{"", ref{path: string(path)}.key()})
	if err != nil {
		return h, fmt.Errorf("merkle: head of the copy: %w", err)
	}
	st, err := parseState(rows[0])
	if err != nil || st.phase != phaseFollowing {
		return h, nil // it is begun anew
	}
	n, err := parseRow(rows[1])
	if err != nil {
		return h, nil
	}
	h.Known, h.Seq, h.Branch = true, st.seq, branchOf(n)
	return h, nil
}
