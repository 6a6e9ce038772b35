package front

import (
	"bytes"
)

// maxMethod is the longest method in bytes.
const maxMethod = 32

// requestLine reads "method SP target SP version" (RFC 9112 section 3); at is
// its offset. Exactly one space stands between the parts.
func (h *head) requestLine(line []byte, at uint32) refusal {
	n := bytes.IndexByte(line, ' ')
	if n <= 0 || n > maxMethod || !isToken(line[:n]) {
		return refusedSyntax
	}
	h.method = internMethod(line[:n])
	rest := line[n+1:]
	n++
	m := bytes.IndexByte(rest, ' ')
	if m <= 0 {
		return refusedSyntax
	}
	if why := h.version(rest[m+1:]); why != refusedNot {
		return why
	}
	switch {
	case m > h.maxURL:
		return refusedURL
	case h.method == "CONNECT":
		return refusedConnect
	case h.method == "TRACE":
		return refusedTrace
	}
	return h.readTarget(rest[:m], at+uint32(n))
}

// version accepts HTTP/1.x; an x above 1 counts as 1 (RFC 9110 section 2.5).
func (h *head) version(v []byte) refusal {
	if len(v) != 8 || string(v[:5]) != "HTTP/" || v[6] != '.' || v[5]-'0' > 9 || v[7]-'0' > 9 {
		return refusedSyntax
	}
	if v[5] != '1' {
		return refusedVersion
	}
	h.http10 = v[7] == '0'
	return refusedNot
}

// readTarget sets the target in origin form, and the authority if there is one.
func (h *head) readTarget(t []byte, at uint32) refusal {
	end := at + uint32(len(t))
	h.whole = span{at, end}
	switch {
	case !isTarget(t):
		return refusedTarget
	case t[0] == '/':
		h.target = span{at, end}
		return refusedNot
	case len(t) == 1 && t[0] == '*' && h.method == "OPTIONS":
		h.asterisk, h.target = true, span{at, end}
		return refusedNot
	}
	n := schemeLen(t)
	if n == 0 {
		return refusedTarget
	}
	m := bytes.IndexAny(t[n:], "/?")
	if m < 0 {
		m = len(t) - n
	}
	if !isAuthority(t[n : n+m]) {
		return refusedTarget
	}
	from := at + uint32(n)
	h.absolute, h.authority = true, span{from, from + uint32(m)}
	h.target = span{from + uint32(m), end}
	h.noPath = m == len(t)-n || t[n+m] == '?'
	return refusedNot
}

// schemeLen returns the length of "http://" or "https://" at the start of t, or
// 0.
func schemeLen(t []byte) int {
	for _, scheme := range [...]string{"http://", "https://"} {
		if len(t) > len(scheme) && foldIs(t[:len(scheme)], scheme) {
			return len(scheme)
		}
	}
	return 0
}

// isAuthority reports whether b is a host with an optional port. Neither a user
// part (RFC 9110 section 4.2.4) nor an empty host is accepted; a name is not
// checked beyond its bytes.
func isAuthority(b []byte) bool {
	for _, c := range b {
		if classOf[c]&classHost == 0 {
			return false
		}
	}
	host, port := b, []byte(nil)
	if len(b) > 0 && b[0] == '[' {
		n := bytes.IndexByte(b, ']')
		if n < 2 || bytes.IndexByte(b[1:], '[') >= 0 || !isLiteral(b[1:n]) {
			return false
		}
		if n+1 == len(b) {
			return true
		}
		if b[n+1] != ':' {
			return false
		}
		port = b[n+2:]
	} else {
		if n := bytes.IndexByte(b, ':'); n >= 0 {
			host, port = b[:n], b[n+1:]
		}
		if len(host) == 0 || bytes.IndexByte(host, '[') >= 0 || bytes.IndexByte(host, ']') >= 0 {
			return false
		}
	}
	return isPort(port)
}

// isPort accepts no digits too: "host:" is a valid authority.
func isPort(b []byte) bool {
	for _, c := range b {
		if c < '0' || c > '9' {
			return false
		}
	}
	return len(b) <= 5
}

func isLiteral(b []byte) bool {
	for _, c := range b {
		if c == ']' || c == '%' || c == ',' {
			return false
		}
	}
	return len(b) > 0
}

// internMethod returns the method as a string, without an allocation for those
// that are usual.
func internMethod(m []byte) string {
	switch string(m) {
	case "GET":
		return "GET"
	case "HEAD":
		return "HEAD"
	case "PUT":
		return "PUT"
	case "POST":
		return "POST"
	case "DELETE":
		return "DELETE"
	case "OPTIONS":
		return "OPTIONS"
	case "PATCH":
		return "PATCH"
	case "PURGE":
		return "PURGE"
	case "QUERY":
		return "QUERY"
	case "CONNECT":
		return "CONNECT"
	case "TRACE":
		return "TRACE"
	}
	return string(m)
}
