package merkle

import (
	"bytes"
	"context"
	"fmt"
)

// A Progress says how far the tree is.
type Progress struct {
	Exists bool   // false: it was never begun
	Known  bool   // false: it is being built
	Seq    uint64 // of the last change that is in it; while it is built, of the one that is followed next
}

// Progress reads how far the tree is, whoever made it so.
func (t *Tree) Progress(ctx context.Context) (Progress, error) {
	_, st, err := t.state(ctx)
	if err != nil {
		return Progress{}, fmt.Errorf("merkle: progress: %w", err)
	}
	t.metrics.applied.Store(st.seq)
	return Progress{Exists: st.phase != phaseNone, Known: st.phase == phaseFollowing, Seq: st.seq}, nil
}

// PathOf returns the path of the branch whose row has key, and an error that wraps
// ErrBadPath if no row has it. It is for keys that others name.
func PathOf(key string) (path string, err error) {
	n := len(key) - 1
	if n < 0 || int(key[n]) > min(n, maxNibbles) {
		return "", fmt.Errorf("%w: %q is no key of a row", ErrBadPath, key)
	}
	nibbles := key[n-int(key[n]) : n]
	for i := range len(nibbles) {
		if nibbles[i] >= fanOut {
			return "", fmt.Errorf("%w: %q is no key of a row", ErrBadPath, key)
		}
	}
	path = key[:n-len(nibbles)]
	return path, CheckPath([]byte(path))
}

const maxNibbles = 64 // two for each byte of a SHA-256

// Below returns p as the tree of the branch path alone: its head is that of the
// branch. It is for Diff with that path, when p tells no more, or is not to.
func (t *Tree) Below(path string) Peer { return below{t, path} }

type below struct {
	*Tree
	path string
}

// Head returns the number of the tree and the hash of the branch.
func (b below) Head(ctx context.Context) (Head, error) { return b.Branch(ctx, []byte(b.path)) }

// ParseHash reads what Hash.String has written.
func ParseHash(s string) (h Hash, err error) {
	if err := h.UnmarshalText([]byte(s)); err != nil {
		return Hash{}, err
	}
	return h, nil
}

// MarshalText writes the 64 hex digits.
func (h Hash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText reads them.
func (h *Hash) UnmarshalText(b []byte) error {
	const digits = "0123456789abcdef"
	if len(b) != 2*len(h) {
		return fmt.Errorf("merkle: hash of %d characters, want %d", len(b), 2*len(h))
	}
	for i := range b {
		d := bytes.IndexByte([]byte(digits), b[i])
		if d < 0 {
			return fmt.Errorf("merkle: %q is no hash", b)
		}
		h[i/2] = h[i/2]<<4 | byte(d)
	}
	return nil
}
