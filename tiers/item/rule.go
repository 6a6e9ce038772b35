package item

import (
	"bytes"
	"fmt"
	"strings"
)

// An Operation is what a rule does to the items that it covers.
type Operation byte

// Operations of rules.
const (
	OpDelete    Operation = 1 // the items no longer exist
	OpPurge     Operation = 2 // copies that can be fetched again are gone
	OpPurgeSoft Operation = 3 // they are stale at once
)

// A Predicate says how the values of a rule are compared.
type Predicate byte

// Predicates of rules.
const (
	MatchAll       Predicate = 1 // everything in scope; no values
	MatchKey       Predicate = 2 // the key after its namespace equals a value
	MatchKeyPrefix Predicate = 3 // the key after its namespace begins with a value
	MatchTag       Predicate = 4 // a tag equals a value
	MatchTagPrefix Predicate = 5 // a tag begins with a value
)

// Namespaces is a set of the namespaces that a rule speaks of.
type Namespaces byte

// The sets of namespaces.
const (
	InItems Namespaces = 1 << iota // NamespaceItem
	InSites                        // NamespaceSite, NamespaceVariants, NamespaceChunk
)

// A Rule is a bulk delete or purge: one version and a predicate. It covers
// every item in its namespaces that matches and whose version is less than
// Version, wherever it is, and nothing newer.
type Rule struct {
	Version    Version
	CreatedAt  int64 // Unix ms
	Op         Operation
	Match      Predicate
	Namespaces Namespaces
	Scope      []byte   // the key after its namespace must begin with this; nil is everything
	Values     []string // at least one, except for MatchAll
}

// Covers reports whether the rule covers the item of v, by its content version.
func (r *Rule) Covers(v View) bool {
	if v.ContentVersion() >= r.Version || !r.InScope(v.Key()) {
		return false
	}
	switch r.Match {
	case MatchAll:
		return true
	case MatchKey, MatchKeyPrefix:
		return r.MatchesKey(v.Key())
	}
	for head, tail := range v.TagParts {
		if r.matchesParts(head, tail) {
			return true
		}
	}
	return false
}

// InScope reports whether key is in the namespaces and the scope of the rule.
func (r *Rule) InScope(key Key) bool {
	return r.Namespaces&namespacesOf(key.Namespace()) != 0 && bytes.HasPrefix(key.Own(), r.Scope)
}

func namespacesOf(namespace byte) Namespaces {
	switch namespace {
	case NamespaceItem:
		return InItems
	case NamespaceSite, NamespaceVariants, NamespaceChunk:
		return InSites
	}
	return 0
}

// MatchesKey reports whether a rule by key or key prefix names key. It looks
// neither at the scope nor at versions.
func (r *Rule) MatchesKey(key Key) bool {
	for _, value := range r.Values {
		if r.Match == MatchKey && string(key.Own()) == value ||
			r.Match == MatchKeyPrefix && strings.HasPrefix(text(key.Own()), value) {
			return true
		}
	}
	return false
}

// MatchesTag reports whether a rule by tag or tag prefix names tag.
func (r *Rule) MatchesTag(tag string) bool {
	for _, value := range r.Values {
		if r.Match == MatchTag && tag == value || r.Match == MatchTagPrefix && strings.HasPrefix(tag, value) {
			return true
		}
	}
	return false
}

// matchesParts is MatchesTag of a tag in two parts.
func (r *Rule) matchesParts(head, tail string) bool {
	for _, value := range r.Values {
		if r.Match == MatchTag && len(value) != len(head)+len(tail) || len(value) > len(head)+len(tail) {
			continue
		}
		n := min(len(value), len(head))
		if value[:n] == head[:n] && value[n:] == tail[:len(value)-n] {
			return true
		}
	}
	return false
}

const (
	ruleFormat  = 1
	ruleHeadLen = 28
	maxRuleLen  = 1 << 20
)

// AppendTo appends the record of r to dst.
func (r *Rule) AppendTo(dst []byte) []byte {
	dst = append(dst, ruleFormat, byte(KindRule), byte(r.Op), byte(r.Match), byte(r.Namespaces), 0, 0, 0)
	dst = le.AppendUint64(dst, uint64(r.Version))
	dst = le.AppendUint64(dst, uint64(r.CreatedAt))
	dst = le.AppendUint32(dst, uint32(len(r.Values)))
	dst = le.AppendUint32(dst, uint32(len(r.Scope)))
	dst = append(dst, r.Scope...)
	for _, value := range r.Values {
		dst = le.AppendUint32(dst, uint32(len(value)))
		dst = append(dst, value...)
	}
	return dst
}

// ParseRule checks that b is exactly one record of a rule and decodes it. The
// result shares no memory with b.
func ParseRule(b []byte) (Rule, error) {
	kind, err := RecordKind(b)
	if err != nil {
		return Rule{}, err
	}
	if kind != KindRule || b[0] != ruleFormat || len(b) < ruleHeadLen || len(b) > maxRuleLen {
		return Rule{}, fmt.Errorf("%w: kind %d of format %d with %d bytes is not a rule", ErrMalformed, kind, b[0], len(b))
	}
	r := Rule{
		Op: Operation(b[2]), Match: Predicate(b[3]), Namespaces: Namespaces(b[4]),
		Version: Version(le.Uint64(b[8:])), CreatedAt: int64(le.Uint64(b[16:])),
	}
	count, rest := le.Uint32(b[24:]), b[ruleHeadLen:]
	scope, rest, ok := cutPart(rest)
	if len(scope) > 0 {
		r.Scope = bytes.Clone(scope)
	}
	for ; ok && count > 0; count-- {
		var value []byte
		if value, rest, ok = cutPart(rest); ok {
			r.Values = append(r.Values, string(value))
		}
	}
	if !ok || len(rest) != 0 {
		return Rule{}, fmt.Errorf("%w: lengths of a rule do not fit", ErrMalformed)
	}
	return r, r.Check()
}

func cutPart(b []byte) (part, rest []byte, ok bool) {
	if len(b) < 4 || uint64(len(b)-4) < uint64(le.Uint32(b)) {
		return nil, nil, false
	}
	n := 4 + int(le.Uint32(b))
	return b[4:n], b[n:], true
}

// Check reports an error that wraps ErrMalformed unless operation, predicate,
// namespaces and values make sense together.
func (r *Rule) Check() error {
	if r.Op < OpDelete || r.Op > OpPurgeSoft || r.Match < MatchAll || r.Match > MatchTagPrefix ||
		r.Namespaces == 0 || r.Namespaces&^(InItems|InSites) != 0 {
		return fmt.Errorf("%w: rule with operation %d, predicate %d, namespaces %d", ErrMalformed, r.Op, r.Match, r.Namespaces)
	}
	if (r.Match == MatchAll) != (len(r.Values) == 0) {
		return fmt.Errorf("%w: predicate %d with %d values", ErrMalformed, r.Match, len(r.Values))
	}
	n := ruleHeadLen + 4 + len(r.Scope)
	for _, value := range r.Values {
		n += 4 + len(value)
	}
	if n > maxRuleLen {
		return fmt.Errorf("%w: rule of %d bytes, allowed are %d", ErrMalformed, n, maxRuleLen)
	}
	return nil
}
