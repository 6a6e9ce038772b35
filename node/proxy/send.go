package proxy

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"net/http"
	"strconv"
)

// A reply is a whole answer on its way to a client.
type reply struct {
	meta    meta
	content []byte
	how     how
	// block replaces the stored lines, for the client whose request fetched the
	// answer: it gets what is withheld from others, and the origin's Age.
	block []byte
}

// send answers from a stored or just stored answer: conditions, then ranges,
// then the whole. It allocates nothing for a request without either.
func (p *Proxy) send(st *state, r *reply) {
	m := r.meta
	status := m.status()
	if status >= 200 && status < 300 && (st.cond.any || st.cond.ranges != nil) {
		if p.sendPart(st, r) {
			return
		}
	}
	st.x.Status(status)
	p.sendFields(st, r)
	if st.x.Method() == http.MethodHead && status != http.StatusNoContent && status != http.StatusNotModified {
		p.sent(st.x.SendSized(int64(len(r.content))))
		return
	}
	p.sent(st.x.Send(r.content))
}

// sendFields writes the stored lines, Age and Cache-Status.
func (p *Proxy) sendFields(st *state, r *reply) {
	if r.block != nil {
		st.x.AddBlock(r.block)
		st.scratch = st.scratch[:0]
	} else {
		st.x.AddBlock(r.meta.block())
		st.scratch = p.appendAge(st.scratch[:0], r.meta)
	}
	st.tell(&r.how)
	st.scratch = p.appendStatus(st.scratch, st.site, &r.how, r.meta.note())
	st.x.AddBlock(st.scratch)
}

func (p *Proxy) appendAge(dst []byte, m meta) []byte {
	f := m.freshness()
	dst = append(dst, "Age: "...)
	dst = strconv.AppendInt(dst, f.age(p.o.Now())/1000, 10)
	return append(dst, "\r\n"...)
}

// sendPart answers 304, 412, 206 or 416 if the request's conditions and ranges
// say so. It reports false if the whole answer is due.
func (p *Proxy) sendPart(st *state, r *reply) bool {
	now := p.o.Now()
	switch st.cond.evaluate(r.meta, now) {
	case http.StatusNotModified:
		p.sendNotModified(st, r)
		return true
	case http.StatusPreconditionFailed:
		st.x.Status(http.StatusPreconditionFailed)
		st.tell(&r.how)
		st.scratch = p.appendStatus(st.scratch[:0], st.site, &r.how, r.meta.note())
		st.x.AddBlock(st.scratch)
		p.sent(st.x.Send(nil))
		return true
	}
	if st.cond.ranges == nil || r.meta.status() != http.StatusOK || st.x.Method() != http.MethodGet || !st.cond.mayRange(r.meta, now) {
		return false
	}
	spans, ok := parseRanges(st.cond.ranges, int64(len(r.content)))
	if !ok {
		return false
	}
	p.m.ranges.Inc()
	switch len(spans) {
	case 0:
		st.x.Status(http.StatusRequestedRangeNotSatisfiable)
		st.x.Add("Content-Range", "bytes */"+strconv.Itoa(len(r.content)))
		st.tell(&r.how)
		st.scratch = p.appendStatus(st.scratch[:0], st.site, &r.how, r.meta.note())
		st.x.AddBlock(st.scratch)
		p.sent(st.x.Send(nil))
	case 1:
		st.x.Status(http.StatusPartialContent)
		p.sendFields(st, r)
		st.x.Add("Content-Range", contentRange(spans[0], len(r.content)))
		p.sent(st.x.Send(r.content[spans[0].first : spans[0].last+1]))
	default:
		p.sendMultipart(st, r, spans)
	}
	return true
}

func contentRange(s span, size int) string {
	return fmt.Sprintf("bytes %d-%d/%d", s.first, s.last, size)
}

// sendMultipart answers several ranges (RFC 9110 §14.6). The boundary is random:
// content cannot be made to hold it.
func (p *Proxy) sendMultipart(st *state, r *reply, spans []span) {
	block := r.block
	if block == nil {
		block = r.meta.block()
	}
	kind := string(st.sentAs("content-type", lookupLine(block, "Content-Type")))
	boundary := rand.Text()
	var body bytes.Buffer
	for _, s := range spans {
		fmt.Fprintf(&body, "\r\n--%s\r\n", boundary)
		if kind != "" {
			fmt.Fprintf(&body, "Content-Type: %s\r\n", kind)
		}
		fmt.Fprintf(&body, "Content-Range: %s\r\n\r\n", contentRange(s, len(r.content)))
		body.Write(r.content[s.first : s.last+1])
	}
	fmt.Fprintf(&body, "\r\n--%s--\r\n", boundary)
	part := *r
	var kept []byte
	eachLine(block, func(name, _, line []byte) bool {
		if !equalFold(name, "content-type") {
			kept = append(kept, line...)
		}
		return true
	})
	if r.block == nil {
		kept = p.appendAge(kept, r.meta)
	}
	part.block = kept
	st.x.Status(http.StatusPartialContent)
	p.sendFields(st, &part)
	st.x.Add("Content-Type", "multipart/byteranges; boundary="+boundary)
	p.sent(st.x.Send(body.Bytes()))
}

// sendNotModified sends what RFC 9110 §15.4.5 asks of a 304, and fields that
// guide caches. What describes the content stays out.
func (p *Proxy) sendNotModified(st *state, r *reply) {
	part := *r
	block := r.block
	if block == nil {
		block = r.meta.block()
	}
	var kept []byte
	eachLine(block, func(name, _, line []byte) bool {
		switch {
		case equalFold(name, "content-type"), equalFold(name, "content-encoding"), equalFold(name, "content-language"),
			equalFold(name, "content-range"), equalFold(name, "accept-ranges"),
			equalFold(name, "last-modified") && len(r.meta.etag()) > 0:
		default:
			kept = append(kept, line...)
		}
		return true
	})
	if r.block == nil {
		kept = p.appendAge(kept, r.meta)
	}
	part.block = kept
	p.m.notModified.Inc()
	st.x.Status(http.StatusNotModified)
	p.sendFields(st, &part)
	p.sent(st.x.Send(nil))
}

// sent counts answers that could not be written whole.
func (p *Proxy) sent(err error) {
	if err != nil {
		p.m.cut.Inc()
	}
}
