package api

import (
	"encoding/binary"
	"strconv"

	"github.com/edgenode/edgenode/node/problem"
	"github.com/edgenode/edgenode/tiers"
	"github.com/edgenode/edgenode/tiers/item"
)

// get answers GET and HEAD of one item.
func (c *call) get() *problem.Problem {
	id := c.key.Own()
	if p := c.need(ScopeRead); p != nil {
		return p
	}
	if p := c.reaches(id); p != nil {
		return p
	}
	o, p := c.readOptions()
	if p != nil {
		return p
	}
	now := c.api.now()
	o.Now = now
	if c.api.policy != nil {
		c.d.Tiers = o.Tiers
		if done, p := c.consult(OpRead, id, 0); done || p != nil {
			return p
		}
		o.Tiers = c.d.Tiers & item.AllTiers
	}
	var h tiers.Hit
	var ok bool
	var err error
	if c.theirs(id) {
		if p := c.partition(); p != nil {
			return p
		}
		h, ok, err = c.getTheirs(o)
	} else {
		h, ok, err = c.api.engine.Get(c.x.Context(), c.key, o)
	}
	if err != nil {
		return c.fault(err)
	}
	if !ok {
		return c.missing()
	}
	c.hit = h
	defer c.hit.Release() // also if answering panics: a pinned item never leaves L1
	if h.Source != tiers.FromL1 {
		now = c.api.now() // it may have taken a while
	}
	return c.answerHit(now)
}

// readOptions reads verify and min_version, and Edge-Tiers.
func (c *call) readOptions() (o tiers.ReadOptions, p *problem.Problem) {
	if list := c.in.values[fieldTiers]; list != nil {
		if o.Tiers, p = parseTiers(list); p != nil {
			return o, p
		}
	}
	if len(c.query) == 0 {
		return o, nil
	}
	return readParams(c.query, o)
}

func readParams(query []byte, o tiers.ReadOptions) (tiers.ReadOptions, *problem.Problem) {
	p := params(query, func(name, value string) (bool, *problem.Problem) {
		switch name {
		case "verify":
			return true, flagParam(name, value, &o.Verify)
		case "min_version":
			return true, versionParam(name, value, &o.MinVersion)
		}
		return false, nil
	})
	return o, p
}

// missing answers for an item that is known not to be there. Looking for what
// is not there is common, so that all of it is prepared.
func (c *call) missing() *problem.Problem {
	c.status(404)
	c.addOwn(c.api.missing.block)
	c.addStale()
	c.sent(c.x.Send(c.api.missing.body))
	return nil
}

// A prepared answer. It is never changed.
type prepared struct{ block, body []byte }

// prepareMissing renders the answer for an item that is not there.
func prepareMissing(cacheStatus []byte) prepared {
	p := problem.Problem{Kind: problem.NotFound}
	block := append([]byte("Content-Type: "+problem.ContentType+"\r\nCache-Control: no-store\r\n"), cacheStatus...)
	return prepared{block: append(block, "\r\n"...), body: append(p.AppendJSON(nil), '\n')}
}

// answerHit answers with the hit, or with less if a condition says so. Order of
// conditions: RFC 9110 section 13.2.2.
func (c *call) answerHit(now int64) *problem.Problem {
	v := c.hit.View
	modified := modifiedAt(v, now)
	etag := etagText(v)
	switch code := c.precondition(etag[:], modified); code {
	case 304:
		c.status(code)
		c.block = c.appendValidators(c.block[:0], etag[:], modified, now)
		c.x.AddUndated(c.block)
		c.sent(c.x.Send(nil))
		return nil
	case 412:
		return &problem.Problem{Kind: problem.PreconditionFailed}
	}
	content := v.Content()
	if c.in.values[fieldRange] != nil && c.x.Method() == "GET" && c.rangeHolds(etag[:]) {
		spans, ok := parseRanges(c.in.values[fieldRange], int64(len(content)), c.spans[:0])
		if !ok {
			return &problem.Problem{Kind: problem.RangeNotSatisfiable, ContentRange: "bytes */" + strconv.Itoa(len(content))}
		}
		if len(spans) > 0 {
			return c.answerRanges(spans, etag[:], modified, now)
		}
	}
	c.status(200)
	c.block = c.appendValidators(appendContentType(c.block[:0], v), etag[:], modified, now)
	c.x.AddUndated(c.block)
	c.sent(c.x.Send(content))
	return nil
}

// modifiedAt returns when the content became what it is, in Unix ms and never
// in the future. It goes with the ETag: a change of state or tags leaves it.
func modifiedAt(v item.View, now int64) int64 {
	version := v.ContentVersion()
	if version == 0 {
		version = v.Version()
	}
	return min(version.UnixMilli(), now)
}

// etagText returns the entity tag with its quotes.
func etagText(v item.View) (text [34]byte) {
	tag := v.ETag()
	text[0], text[33] = '"', '"'
	for i := 0; i < len(tag); i += 4 {
		binary.LittleEndian.PutUint64(text[1+2*i:], hexDigits(binary.LittleEndian.Uint32(tag[i:])))
	}
	return text
}

// hexDigits returns the eight digits of four bytes, all at once: both words have
// what comes first in their lowest byte.
func hexDigits(b uint32) uint64 {
	const (
		each = 0x0101010101010101 // times what is wanted in each byte
		low  = 0x000f000f000f000f
	)
	x := (uint64(b) | uint64(b)<<16) & 0x0000ffff0000ffff
	x = (x | x<<8) & 0x00ff00ff00ff00ff
	x = x>>4&low | x&low<<8             // a nibble in each byte, the high one first
	letters := (x + 6*each) >> 4 & each // 1 for what is above 9
	return x + '0'*each + letters*('a'-'0'-10)
}

// appendContentType appends the lines that say what the content is.
func appendContentType(b []byte, v item.View) []byte {
	b = append(b, "Content-Type: "...)
	b = append(b, mimeOf(v)...)
	b = append(b, "\r\n"...)
	if encoding := contentEncodingOf(v.Response()); len(encoding) > 0 && cleanValue(encoding) {
		b = append(b, "Content-Encoding: "...)
		b = append(b, encoding...)
		b = append(b, "\r\n"...)
	}
	return b
}

// mimeOf returns the MIME type of v in a form that can stand in a header: other
// writers than this API may have stored anything.
func mimeOf(v item.View) string {
	if m := v.MIME(); m != "" && cleanValue(m) {
		return m
	}
	return "application/octet-stream"
}

// cleanValue reports whether s can be the value of a header field.
func cleanValue[S ~string | ~[]byte](s S) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

// validators begins the lines of every answer about an item that is there, with
// room for its tag and its date.
const (
	validators = beforeTag + `"00000000000000000000000000000000"` + beforeDate + "Thu, 01 Jan 1970 00:00:00 GMT" + "\r\nAge: "
	beforeTag  = "Accept-Ranges: bytes\r\nETag: "
	beforeDate = "\r\nLast-Modified: "
	etagAt     = len(beforeTag)
	dateAt     = etagAt + 34 + len(beforeDate)
)

// appendValidators appends the lines that an answer has whether or not its
// content is sent.
func (c *call) appendValidators(b, etag []byte, modified, now int64) []byte {
	v := c.hit.View
	at := len(b)
	b = append(b, validators...)
	copy(b[at+etagAt:], etag)
	c.modified.put(b[at+dateAt:], modified)
	b = appendInt(b, max(now-modified, 0)/1000)
	b = append(b, "\r\nCache-Control: no-cache\r\nEdge-Version: "...)
	b = strconv.AppendUint(b, uint64(v.Version()), 10)
	if state := v.State(); state != "" && cleanValue(state) {
		b = append(b, "\r\nEdge-State: "...)
		b = append(b, state...)
	}
	if c.hit.Stale || c.stale {
		b = append(b, "\r\nEdge-Stale: true"...)
	}
	b = append(b, "\r\n"...)
	if c.stale {
		b = c.appendAge(b)
	}
	return c.appendCacheStatus(b, now)
}

// appendCacheStatus appends the line Cache-Status (RFC 9211).
func (c *call) appendCacheStatus(b []byte, now int64) []byte {
	b = append(b, c.api.cacheStatus[c.hit.Source]...)
	if at := c.hit.View.ExpiresAt(); at != 0 {
		b = append(b, "; ttl="...)
		b = appendInt(b, (at-now)/1000)
	}
	return append(b, "\r\n"...)
}
