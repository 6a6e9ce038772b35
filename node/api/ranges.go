package api

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"math"

	"github.com/edgenode/edgenode/node/problem"
)

// maxRanges is how many ranges of one request are answered. More are ignored,
// as are ranges that together are longer than the content: both cost more than
// the whole (RFC 9110 section 14.2).
const maxRanges = 16

// A span is the bytes from start to before end, not empty.
type span struct{ start, end int64 }

// parseRanges reads a Range field for content of size bytes and appends the
// satisfiable spans to dst, in order. Without spans the field is to be ignored;
// ok is false if it is well-formed but nothing of it can be satisfied.
func parseRanges(value []byte, size int64, dst []span) (spans []span, ok bool) {
	const unit = "bytes="
	if size == 0 || len(value) < len(unit) || !equalFold(value[:len(unit)], unit) {
		return nil, true
	}
	var total int64
	n := 0
	for list := value[len(unit):]; list != nil; {
		var part []byte
		part, list = cutComma(list)
		if len(part) == 0 {
			continue
		}
		s, wellFormed := parseRange(part, size)
		if n++; !wellFormed || n > maxRanges {
			return nil, true
		}
		if s.start < s.end {
			dst = append(dst, s)
			total += s.end - s.start
		}
	}
	if n == 0 || total > size {
		return nil, true
	}
	return dst, len(dst) > 0
}

// cutComma cuts the first element off a list, trimmed; rest is nil at the end.
func cutComma(list []byte) (element, rest []byte) {
	i := bytes.IndexByte(list, ',')
	if i < 0 {
		return trim(list), nil
	}
	return trim(list[:i]), list[i+1:]
}

// parseRange reads first-last, first- or -suffix. An unsatisfiable range is an
// empty span.
func parseRange(part []byte, size int64) (span, bool) {
	first, last, found := bytes.Cut(part, []byte("-"))
	a, aOK := rangeInt(first)
	b, bOK := rangeInt(last)
	if !found || !aOK || !bOK || len(first) == 0 && len(last) == 0 {
		return span{}, false
	}
	switch {
	case len(first) == 0:
		return span{max(size-b, 0), size}, true
	case len(last) == 0:
		return span{min(a, size), size}, true
	case b < a:
		return span{}, false
	}
	return span{min(a, size), min(b, size-1) + 1}, true
}

// rangeInt reads decimal digits, saturating. Nothing is 0.
func rangeInt(digits []byte) (n int64, ok bool) {
	for _, c := range digits {
		if c < '0' || c > '9' {
			return 0, false
		}
		if n > (math.MaxInt64-9)/10 {
			n = math.MaxInt64 / 10
			continue
		}
		n = 10*n + int64(c-'0')
	}
	return n, true
}

// answerRanges answers 206.
func (c *call) answerRanges(spans []span, etag []byte, modified, now int64) *problem.Problem {
	content := c.hit.View.Content()
	c.status(206)
	if len(spans) > 1 {
		c.answerParts(spans, etag, modified, now)
		return nil
	}
	s := spans[0]
	b := appendContentType(c.block[:0], c.hit.View)
	b = appendContentRange(b, s, int64(len(content)))
	c.block = c.appendValidators(b, etag, modified, now)
	c.x.AddUndated(c.block)
	c.sent(c.x.Send(content[s.start:s.end]))
	return nil
}

func appendContentRange(b []byte, s span, size int64) []byte {
	b = append(b, "Content-Range: bytes "...)
	b = append(appendInt(b, s.start), '-')
	b = append(appendInt(b, s.end-1), '/')
	return append(appendInt(b, size), "\r\n"...)
}

// answerParts answers several ranges as multipart/byteranges, without copying
// the content (RFC 9110 section 14.6).
func (c *call) answerParts(spans []span, etag []byte, modified, now int64) {
	content := c.hit.View.Content()
	var random [16]byte
	rand.Read(random[:]) // never fails
	boundary := hex.EncodeToString(random[:])
	heads := make([][]byte, len(spans))
	end := []byte("\r\n--" + boundary + "--\r\n")
	length := int64(len(end))
	for i, s := range spans {
		h := append([]byte("\r\n--"+boundary+"\r\nContent-Type: "), mimeOf(c.hit.View)...)
		if i == 0 {
			h = h[2:] // a line break before the first boundary would be a preamble
		}
		h = appendContentRange(append(h, "\r\n"...), s, int64(len(content)))
		heads[i] = append(h, "\r\n"...)
		length += int64(len(heads[i])) + s.end - s.start
	}
	b := append(c.block[:0], "Content-Type: multipart/byteranges; boundary="+boundary+"\r\n"...)
	if encoding := contentEncodingOf(c.hit.View.Response()); len(encoding) > 0 && cleanValue(encoding) {
		b = append(append(append(b, "Content-Encoding: "...), encoding...), "\r\n"...)
	}
	c.block = c.appendValidators(b, etag, modified, now)
	c.x.AddUndated(c.block)
	w, err := c.x.Stream(length)
	for i := 0; i < len(spans) && err == nil; i++ {
		if _, err = w.Write(heads[i]); err == nil {
			_, err = w.Write(content[spans[i].start:spans[i].end])
		}
	}
	if err == nil {
		_, err = w.Write(end)
	}
	c.sent(err)
}
