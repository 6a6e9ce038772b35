package tiers

import (
	"context"

	"github.com/edgenode/edgenode/tiers/merkle"
)

// What package merkle calls a head, a child, a finding and so on, for those who
// know the engine only.
type (
	TreeHead       = merkle.Head
	TreeHash       = merkle.Hash
	TreeChild      = merkle.Child
	TreeAudit      = merkle.Audit
	TreeFinding    = merkle.Finding
	TreePeer       = merkle.Peer
	TreeDifference = merkle.Difference
	TreeDiffStats  = merkle.DiffStats
	TreeDiffQuery  = merkle.DiffOptions
)

// TreeFormat is the number of the tree's form; trees of others cannot be compared.
const TreeFormat = merkle.Format

// Errors of comparisons.
var (
	ErrTreesUnlike = merkle.ErrCannotCompare // of different formats; it does not say that they differ
	ErrBadPeer     = merkle.ErrBadPeer       // the peer's answers fit no tree
	// ErrTreeBuilding says that one of them is being built.
	ErrTreeBuilding = merkle.ErrUnknown
)

// CheckTreePath reports an error unless path is that of a branch; see
// Engine.MerkleBranch.
func CheckTreePath(path string) error { return merkle.CheckPath([]byte(path)) }

// ParseTreeHash reads 64 hex digits.
func ParseTreeHash(s string) (TreeHash, error) { return merkle.ParseHash(s) }

// DiffTrees compares two trees; see merkle.Diff. It fails with ErrTreeBuilding while
// one of them is being built.
func DiffTrees(ctx context.Context, mine, theirs TreePeer, q TreeDiffQuery, fn func(d TreeDifference) error) (TreeDiffStats, error) {
	return merkle.Diff(ctx, mine, theirs, q, fn)
}
