package api

import (
	"bytes"

	"github.com/edgenode/edgenode/node/problem"
	"github.com/edgenode/edgenode/tiers"
	"github.com/edgenode/edgenode/tiers/item"
)

// precondition decides a read's conditions against the present item: 0 go on,
// 304 or 412. etag is in quotes, modified in Unix ms.
func (c *call) precondition(etag []byte, modified int64) int {
	in := &c.in.values
	seconds := modified / 1000
	if list := in[fieldIfMatch]; list != nil {
		if !matches(list, etag, false) {
			return 412
		}
	} else if date := in[fieldIfUnmodifiedSince]; date != nil {
		if since, ok := parseHTTPDate(date); ok && seconds > since {
			return 412
		}
	}
	if list := in[fieldIfNoneMatch]; list != nil {
		if matches(list, etag, true) {
			return 304
		}
	} else if date := in[fieldIfModifiedSince]; date != nil {
		if since, ok := parseHTTPDate(date); ok && seconds <= since {
			return 304
		}
	}
	return 0
}

// rangeHolds decides If-Range. A date never holds: two contents may share a
// second, and parts of both must not be mixed (RFC 9110 section 13.1.5).
func (c *call) rangeHolds(etag []byte) bool {
	validator := c.in.values[fieldIfRange]
	return validator == nil || bytes.Equal(validator, etag)
}

// matches reports whether list is * or holds the tag etag (in quotes). A weak
// tag of the list matches only if weak comparison is asked. A malformed rest
// matches nothing.
func matches(list, etag []byte, weakToo bool) bool {
	if len(list) == 1 && list[0] == '*' {
		return true
	}
	for len(list) > 0 {
		tag, weak, rest, ok := nextTag(list)
		if !ok {
			return false
		}
		if (weakToo || !weak) && bytes.Equal(tag, etag) {
			return true
		}
		list = rest
	}
	return false
}

// nextTag cuts the first entity tag off a list (RFC 9110 section 8.8.3). The
// tag keeps its quotes; it is nil at the end of the list.
func nextTag(list []byte) (tag []byte, weak bool, rest []byte, ok bool) {
	list = bytes.TrimLeft(list, " \t,")
	if len(list) == 0 {
		return nil, false, nil, true
	}
	if len(list) > 2 && list[0] == 'W' && list[1] == '/' {
		weak, list = true, list[2:]
	}
	if list[0] != '"' {
		return nil, false, nil, false
	}
	end := bytes.IndexByte(list[1:], '"') + 1
	if end == 0 {
		return nil, false, nil, false
	}
	tag = list[:end+1]
	for _, c := range tag[1:end] {
		if c <= ' ' || c == 0x7f {
			return nil, false, nil, false
		}
	}
	rest = bytes.TrimLeft(list[end+1:], " \t")
	if len(rest) > 0 && rest[0] != ',' {
		return nil, false, nil, false
	}
	return tag, weak, rest, true
}

// condition reads the conditions of a write. It returns nil if there is none.
func (c *call) condition() (*tiers.Condition, *problem.Problem) {
	var cond tiers.Condition
	in := &c.in.values
	if list := in[fieldIfMatch]; list != nil {
		any, tags, p := writeTags("If-Match", list, false)
		if p != nil {
			return nil, p
		}
		cond.MatchAny, cond.Match = any, tags
		cond.NeverMatch = !any && len(tags) == 0
	}
	if list := in[fieldIfNoneMatch]; list != nil {
		any, tags, p := writeTags("If-None-Match", list, true)
		if p != nil {
			return nil, p
		}
		cond.NoneAny, cond.NoneMatch = any, tags
	}
	if value := in[fieldIfVersion]; value != nil {
		if p := versionParam("Edge-If-Version", string(value), &cond.Version); p != nil {
			return nil, p
		}
	}
	if in[fieldIfMatch] == nil && in[fieldIfUnmodifiedSince] != nil && cond.Version == 0 {
		if p := c.unmodifiedSince(&cond); p != nil {
			return nil, p
		}
	}
	if cond.None() {
		return nil, nil
	}
	return &cond, nil
}

// writeTags reads the list of a write's condition: * or the tags that can be
// ours. A malformed list is a problem, so that a mistyped condition never
// becomes a write without one.
func writeTags(name string, list []byte, weakToo bool) (any bool, tags []item.ETag, p *problem.Problem) {
	if len(list) == 1 && list[0] == '*' {
		return true, nil, nil
	}
	found := false
	for len(list) > 0 {
		text, weak, rest, ok := nextTag(list)
		if !ok {
			return false, nil, problem.Newf(problem.BadCondition, "%s is %q", name, list)
		}
		found = found || text != nil
		if text != nil && (weakToo || !weak) {
			if tag, ok := item.ParseETag(string(text[1 : len(text)-1])); ok && tag.String() == string(text[1:len(text)-1]) {
				tags = append(tags, tag)
			}
		}
		list = rest
	}
	if !found {
		return false, nil, problem.Newf(problem.BadCondition, "%s is empty", name)
	}
	return false, tags, nil
}

// unmodifiedSince turns If-Unmodified-Since into a condition that the engine
// can decide: the present version, if it is old enough. An item that is not
// there has no date, so that the field is ignored (RFC 9110 section 13.1.4).
func (c *call) unmodifiedSince(cond *tiers.Condition) *problem.Problem {
	since, ok := parseHTTPDate(c.in.values[fieldIfUnmodifiedSince])
	if !ok {
		return problem.New(problem.BadCondition, "If-Unmodified-Since is not an HTTP date")
	}
	h, found, err := c.api.engine.Get(c.x.Context(), c.key, tiers.ReadOptions{})
	if err != nil {
		p := c.fault(err)
		if p.Kind == problem.Unavailable {
			p.Kind = problem.StateUnknown
		}
		return p
	}
	if !found {
		return nil
	}
	defer h.Release()
	if modifiedAt(h.View, c.api.now())/1000 > since {
		return &problem.Problem{Kind: problem.PreconditionFailed}
	}
	cond.Version = h.View.Version()
	return nil
}
