package merkle

import (
	"context"
	"fmt"
)

// A Verdict is what a Proof says of an id.
type Verdict byte

// The verdicts.
const (
	Unproven Verdict = iota // the rows do not lead to the root's hash
	Absent                  // no item has this id
	Present
)

// A Proof reads leaves from a copy of a tree. It believes a row only if its hash is
// what the row above has for it, up to the root, which the caller has from the tree
// itself: whatever happened to the copy, what it says is what the tree holds. It is
// for one goroutine.
type Proof struct {
	rows CopyStore
	root Branch
	keep int
	seen map[string]*node // believed; nil: not to be believed
}

// NewProof returns a proof against a root. It keeps up to keep rows in memory, of
// up to 1.5 KB for usual ids.
func NewProof(rows CopyStore, root Branch, keep int) *Proof {
	return &Proof{rows: rows, root: root, keep: keep, seen: make(map[string]*node)}
}

// A way is how far down an id was followed.
type way struct {
	i    int // of the id
	id   []byte
	part int // which segment is looked for
	rest []part
	ref  ref
	hash Hash // of the row at ref
}

// Leaves calls fn for each of ids, in no order, with what is proven. It reads a row
// of each level, together for all ids.
func (p *Proof) Leaves(ctx context.Context, ids [][]byte, fn func(i int, v Verdict, leaf Hash)) error {
	var ways []way
	for i, id := range ids {
		if !p.root.Exists {
			fn(i, Absent, Hash{})
			continue
		}
		ways = append(ways, way{i: i, id: id, rest: split(id), hash: p.root.Hash})
	}
	for len(ways) > 0 {
		if err := p.fetch(ctx, ways); err != nil {
			return fmt.Errorf("merkle: proof: %w", err)
		}
		next := ways[:0]
		for _, w := range ways {
			if v, leaf, done := p.step(&w); done {
				fn(w.i, v, leaf)
			} else {
				next = append(next, w)
			}
		}
		ways = next
	}
	return nil
}

// fetch reads the rows that the ways are at.
func (p *Proof) fetch(ctx context.Context, ways []way) error {
	if len(p.seen) > p.keep {
		clear(p.seen)
	}
	var keys []string
	var hashes []Hash
	asked := map[string]bool{}
	for i := range ways {
		k := ways[i].ref.key()
		if _, ok := p.seen[k]; !ok && !asked[k] {
			asked[k] = true
			keys, hashes = append(keys, k), append(hashes, ways[i].hash)
		}
	}
	for len(keys) > 0 {
		n := min(len(keys), rowsAtOnce)
		rows, err := p.rows.Rows(ctx, keys[:n])
		if err != nil {
			return err
		}
		for i := range rows {
			node, err := parseRow(rows[i])
			if err != nil || node == nil || node.sum().hash != hashes[i] {
				node = nil
			}
			p.seen[keys[i]] = node
		}
		keys, hashes = keys[n:], hashes[n:]
	}
	return nil
}

// step goes one row down.
func (p *Proof) step(w *way) (v Verdict, leaf Hash, done bool) {
	n := p.seen[w.ref.key()]
	if n == nil {
		return Unproven, leaf, true
	}
	at := w.rest[w.part]
	if n.fan != nil {
		depth := len(w.ref.nibbles)
		if depth >= 2*len(at.sum) {
			return Unproven, leaf, true
		}
		i := at.sum.nibble(depth)
		if n.fan[i].children == 0 {
			return Absent, leaf, true
		}
		w.ref, w.hash = w.ref.down(i), n.fan[i].hash
		return 0, leaf, false
	}
	i, found := n.find(w.id[len(w.ref.path):at.end])
	last := w.part == len(w.rest)-1
	switch {
	case !found:
		return Absent, leaf, true
	case n.list[i].leaf != last:
		return Unproven, leaf, true
	case last:
		return Present, n.list[i].hash, true
	}
	w.ref, w.hash = ref{path: string(w.id[:at.end])}, n.list[i].hash
	w.part++
	return 0, leaf, false
}
