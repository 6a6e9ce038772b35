package merkle

import (
	"crypto/sha256"
	"errors"
	"fmt"
)

// MaxSegments is how many segments an id has at most: the last one takes the
// rest, separators and all. So an id costs a bounded number of rows.
const MaxSegments = 64

// ErrBadPath is returned for a path that can be no branch.
var ErrBadPath = errors.New("merkle: bad path")

// IsSeparator reports whether c ends a segment. The separators are part of the
// format.
func IsSeparator(c byte) bool { return c == '.' || c == '/' || c == ':' }

// A part is a segment of an id: where it ends, and its hash, which is its place
// among its siblings.
type part struct {
	end int
	sum Hash
}

// split cuts id into segments. Each but the last ends with its separator; the
// last has none, unless it is the one that takes the rest, and is empty if id
// ends with a separator. So no two ids have the same segments.
func split(id []byte) []part {
	parts := make([]part, 0, 4)
	begin := 0
	for i, c := range id {
		if IsSeparator(c) && len(parts) < MaxSegments-1 {
			parts = append(parts, part{end: i + 1, sum: sha256.Sum256(id[begin : i+1])})
			begin = i + 1
		}
	}
	return append(parts, part{end: len(id), sum: sha256.Sum256(id[begin:])})
}

// CheckPath reports an error that wraps ErrBadPath unless path is that of a
// branch: empty for the whole tree, or up to 63 segments, each with its
// separator. The branch holds the ids that begin with path.
func CheckPath(path []byte) error {
	if len(path) == 0 {
		return nil
	}
	if !IsSeparator(path[len(path)-1]) {
		return fmt.Errorf("%w: %q ends with none of the separators . / : of branches", ErrBadPath, path)
	}
	n := 0
	for _, c := range path {
		if IsSeparator(c) {
			n++
		}
	}
	if n >= MaxSegments {
		return fmt.Errorf("%w: %d segments, branches have %d at most", ErrBadPath, n, MaxSegments-1)
	}
	return nil
}

// A ref names a row: a node of the trie inside a branch.
type ref struct {
	path    string // of the branch
	nibbles string // one byte each, 0 to 15
}

// appendKey appends the row's key: path, nibbles, number of nibbles. It can be
// read from its end, so no two rows have the same.
func (r ref) appendKey(b []byte) []byte {
	b = append(append(b, r.path...), r.nibbles...)
	return append(b, byte(len(r.nibbles)))
}

func (r ref) key() string { return string(r.appendKey(make([]byte, 0, len(r.path)+len(r.nibbles)+1))) }

func (r ref) down(nibble int) ref { return ref{r.path, r.nibbles + string([]byte{byte(nibble)})} }

// nibble returns the n-th four bits of h.
func (h Hash) nibble(n int) int {
	b := h[n/2]
	if n%2 == 0 {
		return int(b >> 4)
	}
	return int(b & 15)
}
