// Package verify compares the items of two nodes by their trees of hashes, and
// makes equal what differs. It knows nodes by what they answer, so that it can run
// beside them: begin with [Diff] and [Repairer].
package verify

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/edgenode/edgenode/tiers"
	"github.com/edgenode/edgenode/tiers/item"
)

// What a comparison speaks of; see package tiers.
type (
	Tree       = tiers.TreePeer
	Head       = tiers.TreeHead
	Difference = tiers.TreeDifference
	Query      = tiers.TreeDiffQuery
	Stats      = tiers.TreeDiffStats
)

// Errors of comparisons. Nothing was changed.
var (
	ErrBuilding = tiers.ErrTreeBuilding // of a tree that is being built
	ErrUnlike   = tiers.ErrTreesUnlike  // of trees of different formats
	ErrBadPeer  = tiers.ErrBadPeer      // of answers that fit no tree
)

// Diff calls fn for each item that is not the same in both trees, in no order. The
// heads must be those of q.Path.
func Diff(ctx context.Context, here, there Tree, q Query, fn func(d Difference) error) (Stats, error) {
	return tiers.DiffTrees(ctx, here, there, q, fn)
}

// CheckPath reports an error unless path is that of a branch: empty, or ending with
// one of . / :
func CheckPath(path string) error { return tiers.CheckTreePath(path) }

// ParseHead makes a head of what GET /v1/merkle/nodes answers: its format, state,
// hash, and number.
func ParseHead(format int, state, hash string, seq uint64) (h Head, err error) {
	h.Format, h.Known, h.Exists, h.Seq = format, state != "unknown", state == "hash", seq
	if h.Exists {
		if h.Hash, err = tiers.ParseTreeHash(hash); err != nil {
			return h, fmt.Errorf("%w: %w", ErrBadPeer, err)
		}
	}
	return h, nil
}

// A Node is one of the two whose items are made equal.
type Node interface {
	// Retention returns how long it remembers a delete at least.
	Retention(ctx context.Context) (time.Duration, error)
	// Record returns what it has of id, a live record or a tombstone, empty if
	// nothing; pending says that writes of it are on the way.
	Record(ctx context.Context, id string) (record []byte, pending bool, err error)
	// Give hands it a record, and reports whether it took it: it does not if it has
	// something newer.
	Give(ctx context.Context, id string, record []byte) (taken bool, err error)
	// Remove deletes the item if its version is this one.
	Remove(ctx context.Context, id, version string) (done bool, err error)
}

// What a Repairer does with an item that one node lacks without any trace, and
// that is older than what is remembered.
const (
	Skip   = "skip"   // leaves it as it is
	Copy   = "copy"   // to where it is missing
	Delete = "delete" // where it is
)

// A Repairer makes items of two nodes equal: each is given the other's record, and
// takes it if it is newer. So versions decide, and tombstones are records too.
//
// An item that one node lacks without any trace is either new, or its delete was
// forgotten there, after the retention. Within that time it is new; what is older is
// for the operator to say. One goroutine may use it.
type Repairer struct {
	Here, There Node
	Missing     string       // Skip, Copy or Delete
	Now         func() int64 // Unix ms

	retention time.Duration // the shorter one; 0 until asked
}

// Repair makes one item equal and says what it did. done says that it is equal now.
func (r *Repairer) Repair(ctx context.Context, id string) (what string, done bool, err error) {
	if err := r.learn(ctx); err != nil {
		return "", false, err
	}
	mine, busyHere, err := record(ctx, r.Here, id)
	if err != nil {
		return "", false, err
	}
	theirs, busyThere, err := record(ctx, r.There, id)
	switch {
	case err != nil:
		return "", false, err
	case busyHere || busyThere:
		return "skipped: it is being written", false, nil
	case mine == nil && theirs == nil:
		return "gone meanwhile", true, nil
	case theirs == nil:
		return r.lacking(ctx, id, mine, r.Here, r.There, "here", "there")
	case mine == nil:
		return r.lacking(ctx, id, theirs, r.There, r.Here, "there", "here")
	}
	toThere, err := r.There.Give(ctx, id, mine)
	if err != nil {
		return "", false, err
	}
	toHere, err := r.Here.Give(ctx, id, theirs)
	switch {
	case err != nil:
		return "", false, err
	case toThere && toHere:
		return "merged", true, nil
	case toThere:
		return describe(mine) + " there", true, nil
	case toHere:
		return describe(theirs) + " here", true, nil
	}
	return "skipped: it changed meanwhile", false, nil
}

// learn asks both how long they remember deletes.
func (r *Repairer) learn(ctx context.Context) error {
	if r.retention != 0 {
		return nil
	}
	a, err := r.Here.Retention(ctx)
	if err != nil {
		return err
	}
	b, err := r.There.Retention(ctx)
	r.retention = max(min(a, b), time.Millisecond)
	return err
}

// describe says what taking v over is.
func describe(v item.View) string {
	if v.Kind() == item.KindTombstone {
		return "deleted"
	}
	return "copied"
}

// lacking repairs an item of which one node has v and the other has nothing.
func (r *Repairer) lacking(ctx context.Context, id string, v item.View, has, lacks Node, where, elsewhere string) (what string, done bool, err error) {
	if v.Kind() == item.KindTombstone {
		return "gone meanwhile", true, nil
	}
	missing := r.Missing
	if r.Now()-v.Version().UnixMilli() < r.retention.Milliseconds() {
		missing = Copy
	}
	switch missing {
	case Copy:
		taken, err := lacks.Give(ctx, id, v)
		if err != nil || taken {
			return "copied " + elsewhere, err == nil, err
		}
		// Nothing is there, and still it is refused: a bulk delete covers it.
	case Delete:
	default:
		return fmt.Sprintf("skipped: older than tombstone_retention %v, say --missing copy or delete", r.retention), false, nil
	}
	done, err = has.Remove(ctx, id, v.Version().String())
	if err != nil || done {
		return "deleted " + where, done, err
	}
	return "skipped: it changed meanwhile", false, nil
}

// errBadRecord is the cause of ErrBadPeer for what is no record.
var errBadRecord = errors.New("verify: no record of the item")

func record(ctx context.Context, n Node, id string) (v item.View, busy bool, err error) {
	b, busy, err := n.Record(ctx, id)
	if err != nil || len(b) == 0 {
		return nil, busy, err
	}
	v, err = item.Parse(b)
	if err == nil && v.Key().ID() != id {
		err = errBadRecord
	}
	if err != nil {
		return nil, busy, fmt.Errorf("%w: record of %q: %w", ErrBadPeer, id, err)
	}
	return v, busy, nil
}
