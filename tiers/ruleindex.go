package tiers

import (
	"iter"
	"slices"

	"github.com/edgenode/edgenode/tiers/item"
)

// A ruleIndex finds the rules that may cover an item. Unsafe requests make a
// rule each, by tag: a read must not look at all of them. The zero value is
// empty. Concurrent readers need that nobody adds.
type ruleIndex struct {
	byKey, byTag map[string][]*liveRule // those by key and by tag, under each of their values
	wide         []*liveRule            // the others
}

func newRuleIndex(rules []*liveRule) *ruleIndex {
	x := new(ruleIndex)
	for _, r := range rules {
		x.add(r)
	}
	return x
}

func (x *ruleIndex) add(r *liveRule) {
	var in *map[string][]*liveRule
	switch r.Match {
	case item.MatchKey:
		in = &x.byKey
	case item.MatchTag:
		in = &x.byTag
	default:
		x.wide = insert(x.wide, r)
		return
	}
	if *in == nil {
		*in = map[string][]*liveRule{}
	}
	for _, value := range r.Values {
		(*in)[value] = insert((*in)[value], r)
	}
}

// newer are the rules newer than version that may cover an item with key and
// tags; one that names it in two ways comes twice.
func (x *ruleIndex) newer(key item.Key, tags []string, version item.Version) iter.Seq[*liveRule] {
	return func(yield func(*liveRule) bool) {
		if !x.newerByKey(key, version, yield) || len(x.byTag) == 0 {
			return
		}
		for _, tag := range tags {
			if !newest(x.byTag[tag], version, yield) {
				return
			}
		}
	}
}

// newerOf is newer of the item of v. It makes no string of a tag.
func (x *ruleIndex) newerOf(v item.View, version item.Version) iter.Seq[*liveRule] {
	return func(yield func(*liveRule) bool) {
		if !x.newerByKey(v.Key(), version, yield) || len(x.byTag) == 0 {
			return
		}
		var space [512]byte
		for head, tail := range v.TagParts {
			tag := append(append(space[:0], head...), tail...)
			if !newest(x.byTag[string(tag)], version, yield) {
				return
			}
		}
	}
}

func (x *ruleIndex) newerByKey(key item.Key, version item.Version, yield func(*liveRule) bool) bool {
	return newest(x.wide, version, yield) && newest(x.byKey[string(key.Own())], version, yield)
}

// covering are the rules that cover v, each once.
func (x *ruleIndex) covering(v item.View) iter.Seq[*liveRule] {
	return func(yield func(*liveRule) bool) {
		var seen []*liveRule
		for r := range x.newerOf(v, v.ContentVersion()) {
			if slices.Contains(seen, r) || !r.Covers(v) {
				continue
			}
			if seen = append(seen, r); !yield(r) {
				return
			}
		}
	}
}

// newest yields what in list, ascending, is newer than version.
func newest(list []*liveRule, version item.Version, yield func(*liveRule) bool) bool {
	for i := len(list) - 1; i >= 0 && list[i].Version > version; i-- {
		if !yield(list[i]) {
			return false
		}
	}
	return true
}

// insert puts r where its version belongs, mostly at the end.
func insert(list []*liveRule, r *liveRule) []*liveRule {
	i := len(list)
	for i > 0 && list[i-1].Version > r.Version {
		i--
	}
	return slices.Insert(list, i, r)
}
