package front

import (
	"bytes"
)

// A span is a part of the head, as offsets from the head's first byte.
type span struct{ from, to uint32 }

func (p span) of(b []byte) []byte { return b[p.from:p.to:p.to] }

// A field is one header line.
type field struct {
	name, value span
	kind        fieldKind
}

// A fieldKind tells the lines apart that the front itself reads.
type fieldKind uint8

const (
	fieldPlain fieldKind = iota
	fieldHost
	fieldForwarded // Forwarded, X-Forwarded-*, X-Real-IP: the word of a proxy
	fieldVia
)

// Body lengths that are no number.
const lengthChunked = -1

// A head is one request head, checked line by line as its bytes arrive. Offsets
// count from the first byte of the head, so that the buffer may move. The zero
// value with limits is ready; reset makes it so again.
type head struct {
	maxURL, maxHeader int

	next    int // first byte of the line that is not complete yet
	scanned int // bytes in which every LF was found
	first   int // first byte after the request line, 0 before it was read

	method    string
	whole     span // the target as it was sent
	target    span // origin form
	authority span // of absolute form
	hostSpan  span // value of Host as sent
	fields    []field
	length    int64 // of the body; lengthChunked
	hosts     int

	skipped    bool // one empty line before the request line
	absolute   bool // authority holds
	noPath     bool // absolute form without a path: "/" is put before target
	asterisk   bool
	http10     bool
	hasLength  bool
	coded      bool // Transfer-Encoding was there
	close      bool // Connection: close
	keepAlive  bool // Connection: keep-alive
	expect     bool // Expect: 100-continue
	forwarding bool // some field of kind fieldForwarded
	via        bool
}

// reset forgets the request and keeps the limits and the space for fields.
func (h *head) reset() {
	*h = head{maxURL: h.maxURL, maxHeader: h.maxHeader, fields: h.fields[:0]}
}

// feed checks the lines that b has completed since the last call. b begins at
// the head's first byte, and holds what the earlier b held. done is true when
// the empty line was found: the head is then b[:h.next]. After a refusal h must
// be reset. Its cost is linear in the length of the head, however it is cut.
func (h *head) feed(b []byte) (done bool, why refusal) {
	for {
		i := bytes.IndexByte(b[h.scanned:], '\n')
		if i < 0 {
			h.scanned = len(b)
			return false, h.unfinished(b)
		}
		start, end := h.next, h.scanned+i
		h.next, h.scanned = end+1, end+1
		if end == start || b[end-1] != '\r' {
			return false, refusedBareLF
		}
		switch line := b[start : end-1]; {
		case h.first != 0 && len(line) == 0:
			return true, h.complete(b)
		case h.first != 0:
			why = h.fieldLine(line, uint32(start))
		case len(line) == 0:
			why = h.emptyLine()
		default:
			h.first = h.next
			why = h.requestLine(line, uint32(start))
		}
		if why == refusedNot {
			why = h.limits(h.next)
		}
		if why != refusedNot {
			return false, why
		}
	}
}

// emptyLine allows one empty line before the request line (RFC 9112 section
// 2.2): old clients send it after a body.
func (h *head) emptyLine() refusal {
	if h.skipped {
		return refusedSyntax
	}
	h.skipped = true
	return refusedNot
}

// roomOfLine is what a request line has besides its target.
const roomOfLine = maxMethod + len("  HTTP/1.1\r\n") + len("\r\n")

// unfinished judges a head whose last line lacks its end.
func (h *head) unfinished(b []byte) refusal {
	if h.first == 0 && len(b) > h.next {
		if c := b[h.next]; c == 0x16 {
			return refusedPlainTLS
		} else if classOf[c]&classToken == 0 && c != '\r' {
			return refusedSyntax
		}
	}
	return h.limits(len(b))
}

// limits judges the head when its first n bytes are there.
func (h *head) limits(n int) refusal {
	if h.first == 0 {
		if n > h.maxURL+roomOfLine {
			return refusedURL
		}
		return refusedNot
	}
	if n-h.first > h.maxHeader {
		return refusedHeader
	}
	return refusedNot
}

// fieldLine reads one header line; at is its offset.
func (h *head) fieldLine(line []byte, at uint32) refusal {
	name, value, why := splitField(line)
	if why != refusedNot {
		return why
	}
	f := field{name: span{at + name.from, at + name.to}, value: span{at + value.from, at + value.to}}
	f.kind, why = h.known(name.of(line), value.of(line))
	if f.kind == fieldHost {
		h.hostSpan = f.value
	}
	h.fields = append(h.fields, f)
	return why
}

// splitField finds name and value in a line that is not empty. It is strict: a
// name of token bytes, a colon at once, a value without control characters.
func splitField(line []byte) (name, value span, why refusal) {
	n := 0
	for n < len(line) && classOf[line[n]]&classToken != 0 {
		n++
	}
	if n == 0 || n == len(line) || line[n] != ':' {
		if line[0] == ' ' || line[0] == '\t' {
			return name, value, refusedFold
		}
		return name, value, refusedFieldName
	}
	from, to := n+1, len(line)
	for from < to && (line[from] == ' ' || line[from] == '\t') {
		from++
	}
	for to > from && (line[to-1] == ' ' || line[to-1] == '\t') {
		to--
	}
	if !isValue(line[from:to]) {
		return name, value, refusedFieldValue
	}
	return span{0, uint32(n)}, span{uint32(from), uint32(to)}, refusedNot
}

// known takes notice of the fields that matter to the front.
func (h *head) known(name, value []byte) (fieldKind, refusal) {
	switch len(name) {
	case 3:
		if foldIs(name, "via") {
			h.via = true
			return fieldVia, refusedNot
		}
	case 4:
		if foldIs(name, "host") {
			return fieldHost, h.hostField(value)
		}
	case 6:
		if foldIs(name, "expect") {
			return fieldPlain, h.expectField(value)
		}
	case 9:
		if foldIs(name, "forwarded") || foldIs(name, "x-real-ip") {
			h.forwarding = true
			return fieldForwarded, refusedNot
		}
	case 10:
		if foldIs(name, "connection") {
			h.connectionField(value)
		}
	case 14:
		if foldIs(name, "content-length") {
			return fieldPlain, h.lengthField(value)
		}
	case 17:
		if foldIs(name, "transfer-encoding") {
			return fieldPlain, h.codingField(value)
		}
	}
	if len(name) > 12 && foldIs(name[:12], "x-forwarded-") {
		h.forwarding = true
		return fieldForwarded, refusedNot
	}
	return fieldPlain, refusedNot
}

func (h *head) hostField(value []byte) refusal {
	h.hosts++
	if h.hosts > 1 || !isAuthority(value) {
		return refusedHost
	}
	return refusedNot
}

func (h *head) expectField(value []byte) refusal {
	if !foldIs(value, "100-continue") {
		return refusedExpect
	}
	h.expect = true
	return refusedNot
}

func (h *head) connectionField(value []byte) {
	for len(value) > 0 {
		var option []byte
		option, value = nextElement(value)
		switch {
		case foldIs(option, "close"):
			h.close = true
		case foldIs(option, "keep-alive"):
			h.keepAlive = true
		}
	}
}

// maxLengthDigits keeps a Content-Length within an int64.
const maxLengthDigits = 18

func (h *head) lengthField(value []byte) refusal {
	if h.hasLength || len(value) == 0 || len(value) > maxLengthDigits {
		return refusedLength
	}
	h.hasLength = true
	n := int64(0)
	for _, c := range value {
		if c < '0' || c > '9' {
			return refusedLength
		}
		n = n*10 + int64(c-'0')
	}
	h.length = n
	return refusedNot
}

func (h *head) codingField(value []byte) refusal {
	if h.coded || len(value) == 0 {
		return refusedCoding
	}
	h.coded = true
	if foldIs(value, "chunked") {
		return refusedNot
	}
	for len(value) > 0 { // a known word in the wrong place is malformed, another word is not implemented
		var coding []byte
		if coding, value = nextElement(value); foldIs(coding, "chunked") && len(value) > 0 || foldIs(coding, "identity") {
			return refusedCoding
		}
	}
	return refusedCodingUnknown
}

// complete judges the head as a whole.
func (h *head) complete(b []byte) refusal {
	switch {
	case h.hosts == 0 && !h.http10:
		return refusedHost
	case h.coded && h.hasLength:
		return refusedBothFramings
	case h.coded && h.http10:
		return refusedCoding
	case h.coded:
		h.length = lengthChunked
	}
	if h.http10 {
		h.expect = false
	}
	if h.absolute {
		h.replaceHost()
	}
	return h.limits(len(b[:h.next]))
}

// replaceHost gives the Host line the authority of an absolute-form target
// (RFC 9112 section 3.2.2).
func (h *head) replaceHost() {
	for i := range h.fields {
		if h.fields[i].kind == fieldHost {
			h.fields[i].value = h.authority
		}
	}
}

// host returns the authority of the target, or the value of Host, or nil. b is
// the head.
func (h *head) host(b []byte) []byte {
	if h.absolute {
		return h.authority.of(b)
	}
	return h.hostLine(b)
}

// hostLine returns the value of Host as it was sent, or nil.
func (h *head) hostLine(b []byte) []byte {
	if h.hosts == 0 {
		return nil
	}
	return h.hostSpan.of(b)
}

// persistent reports whether the client wants the connection kept.
func (h *head) persistent() bool { return !h.close && (!h.http10 || h.keepAlive) }
