package tiers

import "github.com/edgenode/edgenode/tiers/item"

// A Hit is a found item. View is valid until Release, which the caller must
// call exactly once.
type Hit struct {
	View   item.View
	Source Source
	Stale  bool // purged softly: usable only where a stale answer is
}

// Release ends the use of View.
func (h *Hit) Release() {}
