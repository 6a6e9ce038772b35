package tiers

import (
	"slices"

	"github.com/edgenode/edgenode/tiers/item"
)

// RulesCovering returns the purges and bulk deletes newer than v's content that
// cover it, the newest first. Rules that were applied everywhere and forgotten are
// not among them. It is for people: it looks at every rule.
func (e *Engine) RulesCovering(v item.View) []item.Rule {
	version := v.ContentVersion()
	found := e.rules.which(func(r *liveRule) bool { return r.Version > version && r.Covers(v) })
	list := make([]item.Rule, 0, len(found))
	for _, r := range slices.Backward(found) {
		list = append(list, r.Rule)
	}
	return list
}
