package proxy

import (
	"bytes"
	"strings"
)

// conditions are the fields of a request that say what its sender has. Absent
// fields are nil.
type conditions struct {
	any             bool // one of the first four is there
	noneMatch       []byte
	modifiedSince   []byte
	match           []byte
	unmodifiedSince []byte
	ifRange, ranges []byte
}

// evaluate applies RFC 9110 §13.2.2 to a stored answer whose status is 2xx. It
// returns 0 to go on, 304 or 412.
func (c *conditions) evaluate(m meta, now int64) int {
	etag := m.etag()
	f := m.freshness()
	switch {
	case c.match != nil:
		if !listMatches(c.match, etag, strongMatch) {
			return 412
		}
	case c.unmodifiedSince != nil && f.lastModified != noTime:
		if since, ok := parseDate(text(c.unmodifiedSince), now); ok && f.lastModified > since {
			return 412
		}
	}
	if c.noneMatch != nil {
		if listMatches(c.noneMatch, etag, weakMatch) {
			return 304
		}
		return 0
	}
	if c.modifiedSince != nil {
		modified := f.lastModified
		if modified == noTime {
			modified = f.date
		}
		if since, ok := parseDate(text(c.modifiedSince), now); ok && modified <= since {
			return 304
		}
	}
	return 0
}

// mayRange reports whether If-Range lets the ranges be served (RFC 9110 §13.1.5).
func (c *conditions) mayRange(m meta, now int64) bool {
	if c.ifRange == nil {
		return true
	}
	v := bytes.Trim(c.ifRange, " \t")
	if len(v) > 0 && (v[0] == '"' || bytes.HasPrefix(v, []byte("W/"))) {
		return strongMatch(v, m.etag())
	}
	f := m.freshness()
	since, ok := parseDate(text(v), now)
	// A date is strong only if it lies well before the answer (§8.8.2.2).
	return ok && f.lastModified == since && f.date-f.lastModified >= 1000
}

// listMatches reports whether a list of entity tags holds "*" or one that
// matches etag.
func listMatches(list, etag []byte, match func(a, b []byte) bool) bool {
	list = bytes.Trim(list, " \t")
	if string(list) == "*" || len(etag) > 0 && match(list, etag) { // the latter also without quotes
		return true
	}
	for len(list) > 0 {
		list = bytes.TrimLeft(list, " \t,")
		n := tagLen(list)
		if n == 0 { // no entity tag: skip to the next comma
			if n = bytes.IndexByte(list, ','); n < 0 {
				return false
			}
			list = list[n:]
			continue
		}
		if len(etag) > 0 && match(list[:n], etag) {
			return true
		}
		list = list[n:]
	}
	return false
}

// tagLen returns the length of the entity tag at the start of b, 0 if there is
// none.
func tagLen(b []byte) int {
	at := 0
	if bytes.HasPrefix(b, []byte("W/")) {
		at = 2
	}
	if len(b) <= at || b[at] != '"' {
		return 0
	}
	end := bytes.IndexByte(b[at+1:], '"')
	if end < 0 {
		return 0
	}
	return at + 1 + end + 1
}

func weakMatch(a, b []byte) bool {
	return bytes.Equal(bytes.TrimPrefix(a, []byte("W/")), bytes.TrimPrefix(b, []byte("W/")))
}

func strongMatch(a, b []byte) bool {
	return len(a) > 0 && a[0] == '"' && bytes.Equal(a, b)
}

// A span is a range of bytes, first to last inclusive.
type span struct{ first, last int64 }

const maxSpans = 16

// parseRanges reads a Range field for content of size bytes (RFC 9110 §14.1.2).
// ok is false for a field to be ignored: another unit, bad syntax, or more than
// 16 ranges. Those that overlap or touch become one. Without a satisfiable range
// the list is empty.
func parseRanges(field []byte, size int64) (spans []span, ok bool) {
	s := string(field)
	unit, set, found := strings.Cut(s, "=")
	if !found || !strings.EqualFold(strings.Trim(unit, " \t"), "bytes") {
		return nil, false
	}
	count := 0
	for part := range strings.SplitSeq(set, ",") {
		part = strings.Trim(part, " \t")
		if part == "" {
			continue
		}
		if count++; count > maxSpans {
			return nil, false
		}
		sp, valid, satisfiable := parseSpan(part, size)
		if !valid {
			return nil, false
		}
		if satisfiable {
			spans = append(spans, sp)
		}
	}
	if count == 0 {
		return nil, false
	}
	return coalesce(spans), true
}

func parseSpan(s string, size int64) (sp span, valid, satisfiable bool) {
	first, last, ok := strings.Cut(s, "-")
	if !ok {
		return sp, false, false
	}
	if first == "" {
		n, ok := bigDigits(last)
		sp = span{max(size-n, 0), size - 1}
		return sp, ok && (n == 0 || size > 0), n > 0 // of nothing it is all, which no Content-Range can say
	}
	if sp.first, ok = bigDigits(first); !ok {
		return sp, false, false
	}
	sp.last = size - 1
	if last != "" {
		n, ok := bigDigits(last)
		if !ok || n < sp.first {
			return sp, false, false
		}
		sp.last = min(n, size-1)
	}
	return sp, true, sp.first < size
}

// bigDigits reads digits; numbers above 2^58 are 2^58.
func bigDigits(s string) (int64, bool) {
	if s == "" {
		return 0, false
	}
	const limit = 1 << 58
	var n int64
	for i := range len(s) {
		if !isDigit(s[i]) {
			return 0, false
		}
		n = min(n*10+int64(s[i]-'0'), limit)
	}
	return n, true
}
