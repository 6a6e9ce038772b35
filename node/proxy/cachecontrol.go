package proxy

import (
	"net/http"
	"strings"
)

// ccFlags are the directives of Cache-Control without a number.
type ccFlags uint16

const (
	ccPublic ccFlags = 1 << iota
	ccPrivate
	ccNoStore
	ccNoCache
	ccMustRevalidate
	ccProxyRevalidate
	ccMustUnderstand
	ccOnlyIfCached
	ccMaxStaleAny // max-stale without a value
)

// maxDelta is where delta-seconds saturate (RFC 9111 §1.2.2).
const maxDelta = 1 << 31

// absent stands for a directive that was not sent.
const absent = -1

// directives is a parsed Cache-Control. Numbers are seconds; absent is -1. A
// lifetime that cannot be read is 0: the answer is stale (RFC 9111 §4.2.1).
type directives struct {
	flags ccFlags
	// malformed says that a quoted string never ended, so that nothing about the
	// rest is known: such an answer is not stored.
	malformed       bool
	maxAge, sMaxage int64
	whileRevalidate int64
	ifError         int64
	minFresh        int64
	maxStale        int64
	noCacheFields   []string // no-cache="…"; canonical names
	privateFields   []string // private="…"
}

func noDirectives() directives {
	return directives{maxAge: absent, sMaxage: absent, whileRevalidate: absent, ifError: absent, minFresh: absent, maxStale: absent}
}

// parseCacheControl reads the lines of one Cache-Control field as one list.
func parseCacheControl(lines []string) directives {
	d := noDirectives()
	for _, line := range lines {
		for rest := line; rest != ""; {
			var dir directive
			dir, rest = nextDirective(rest)
			d.add(dir)
		}
	}
	return d
}

// A directive is one member of Cache-Control. bad says that something other
// than a token or a whole quoted string follows the name.
type directive struct {
	name, value      string
	hasValue, quoted bool
	bad, unclosed    bool
}

// nextDirective cuts the first member off s. It always consumes something.
func nextDirective(s string) (d directive, rest string) {
	s = strings.TrimLeft(s, " \t,")
	n := tokenLen(s)
	d.name, s = s[:n], s[n:]
	if strings.HasPrefix(s, "=") {
		d.hasValue = true
		if s = s[1:]; strings.HasPrefix(s, `"`) {
			d.quoted = true
			d.value, s, d.unclosed = cutQuoted(s)
		} else {
			n = tokenLen(s)
			d.value, s = s[:n], s[n:]
			d.bad = n == 0
		}
	}
	s = strings.TrimLeft(s, " \t")
	if s == "" || s[0] == ',' {
		return d, s
	}
	d.bad = true
	for s != "" && s[0] != ',' {
		if s[0] == '"' {
			var open bool
			_, s, open = cutQuoted(s)
			d.unclosed = d.unclosed || open
			continue
		}
		s = s[1:]
	}
	return d, s
}

// cutQuoted cuts a quoted string off s, which begins with the quote, and
// returns it without quotes and escapes.
func cutQuoted(s string) (value, rest string, unclosed bool) {
	escaped := false
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '\\':
			escaped = true
			i++
		case '"':
			value = s[1:i]
			if escaped {
				value = unescape(value)
			}
			return value, s[i+1:], false
		}
	}
	return s[1:], "", true
}

func unescape(s string) string {
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		b = append(b, s[i])
	}
	return string(b)
}

// tokenLen returns the length of the token at the start of s (RFC 9110 §5.6.2).
func tokenLen(s string) int {
	for i := range len(s) {
		if !isTokenByte(s[i]) {
			return i
		}
	}
	return len(s)
}

func isTokenByte(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
}

var ccNames = map[string]ccFlags{
	"public": ccPublic, "no-store": ccNoStore, "must-revalidate": ccMustRevalidate,
	"proxy-revalidate": ccProxyRevalidate, "must-understand": ccMustUnderstand, "only-if-cached": ccOnlyIfCached,
}

func (d *directives) add(dir directive) {
	d.malformed = d.malformed || dir.unclosed
	name := strings.ToLower(dir.name)
	switch name {
	case "no-cache":
		d.addFields(ccNoCache, &d.noCacheFields, dir)
	case "private":
		d.addFields(ccPrivate, &d.privateFields, dir)
	case "max-age":
		d.addLifetime(&d.maxAge, dir)
	case "s-maxage":
		d.addLifetime(&d.sMaxage, dir)
	case "stale-while-revalidate":
		d.addWindow(&d.whileRevalidate, dir)
	case "stale-if-error":
		d.addWindow(&d.ifError, dir)
	case "min-fresh":
		d.addWindow(&d.minFresh, dir)
	case "max-stale":
		if !dir.hasValue && !dir.bad {
			d.flags |= ccMaxStaleAny
		}
		d.addWindow(&d.maxStale, dir)
	default:
		d.flags |= ccNames[name]
	}
}

// addFields takes a directive that may list field names. Without a list that
// can be read it speaks of the whole answer.
func (d *directives) addFields(flag ccFlags, fields *[]string, dir directive) {
	names, ok := fieldNames(dir.value)
	if !dir.hasValue || dir.bad || dir.unclosed || !ok {
		d.flags |= flag
		return
	}
	*fields = append(*fields, names...)
}

// fieldNames splits a list of field names. It reports false for an empty list
// and for anything that is not a name.
func fieldNames(list string) ([]string, bool) {
	var names []string
	for part := range strings.SplitSeq(list, ",") {
		part = strings.Trim(part, " \t")
		if part == "" {
			continue
		}
		if tokenLen(part) != len(part) {
			return nil, false
		}
		names = append(names, http.CanonicalHeaderKey(part))
	}
	return names, len(names) > 0
}

// addLifetime takes a number that may only shorten what was there before. RFC 9111
// §4.2.1 wants the first of several or none (stale): with the least, an answer is
// reused only while the first allows it, and is stale from where any says so.
func (d *directives) addLifetime(to *int64, dir directive) {
	n, ok := deltaSeconds(dir.value)
	if !ok || dir.bad || dir.unclosed {
		n = 0
	}
	if *to == absent || n < *to {
		*to = n
	}
}

func (d *directives) addWindow(to *int64, dir directive) {
	n, ok := deltaSeconds(dir.value)
	if ok && !dir.bad && !dir.unclosed && (*to == absent || n < *to) {
		*to = n
	}
}

// deltaSeconds reads one or more digits; more than 2^31 is 2^31.
func deltaSeconds(s string) (int64, bool) {
	if s == "" {
		return 0, false
	}
	var n int64
	for i := range len(s) {
		c := s[i]
		if c < '0' || c > '9' {
			return 0, false
		}
		n = min(n*10+int64(c-'0'), maxDelta)
	}
	return n, true
}
