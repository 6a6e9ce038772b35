package proxy

import (
	"io"
	"net/http"
	"strconv"

	"github.com/edgenode/edgenode/tiers/item"
)

// A reply is a whole answer on its way to a client.
type reply struct {
	meta    meta
	content []byte
	how     how
	// block replaces the stored lines, for the client whose request fetched the
	// answer: it gets what is withheld from others, and the origin's Age.
	block []byte
	// stored is the record that content is part of; only objects in parts need it.
	stored item.View
	now    int64 // Unix ms, when it was found; 0 if that was not just now
}

// send answers from a stored or just stored answer: conditions, then ranges,
// then the whole. It allocates nothing for a request without either.
func (p *Proxy) send(st *state, r *reply) {
	m := r.meta
	status := m.status()
	if m.flags()&metaParted != 0 {
		p.sendParted(st, r)
		return
	}
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
		st.addLines(r.meta)
		st.scratch = appendAge(st.scratch[:0], r.meta, p.nowOr(r.now))
	}
	st.tell(&r.how)
	st.scratch = p.appendStatus(st.scratch, st.site, &r.how, st.noteOf(r.meta))
	st.x.AddBlock(st.scratch)
}

// fewOwn is up to how many bytes of own lines are copied to those that are made.
const fewOwn = 128

// addLines adds the stored lines.
func (st *state) addLines(m meta) {
	if !m.compact() {
		st.x.AddBlock(m.block())
		return
	}
	st.scratch = m.appendMade(st.scratch[:0], st.shown)
	own := m.own()
	if len(own) <= fewOwn {
		st.scratch, own = append(st.scratch, own...), nil
	}
	st.x.AddBlock(st.scratch)
	if len(own) > 0 {
		st.x.AddBlock(own)
	}
	if m.with != nil {
		st.x.AddBlock(m.with.lines)
	}
}

// noteOf returns the end of our Cache-Status member for a stored answer to the
// request. It is valid until the next call.
func (st *state) noteOf(m meta) []byte {
	if !m.compact() {
		return m.note()
	}
	if st.site.CacheStatus != StatusFull {
		return nil
	}
	st.note = appendNote(st.note[:0], st.url, m.makes(plainURL))
	return st.note
}

func (p *Proxy) appendAge(dst []byte, m meta) []byte { return appendAge(dst, m, p.o.Now()) }

func appendAge(dst []byte, m meta, now int64) []byte {
	dst = append(dst, "Age: "...)
	dst = strconv.AppendInt(dst, m.age(now)/1000, 10)
	return append(dst, "\r\n"...)
}

// sendPart answers 304, 412, 206 or 416 if the request's conditions and ranges
// say so. It reports false if the whole answer is due.
func (p *Proxy) sendPart(st *state, r *reply) bool {
	if p.sendUnmet(st, r) {
		return true
	}
	size := int64(len(r.content))
	spans, none := p.wants(st, r.meta, size)
	switch {
	case none:
		p.sendUnsatisfiable(st, r, size)
	case len(spans) == 0:
		return false
	case len(spans) == 1:
		p.m.ranges.Inc()
		p.sendPartHead(st, r, spans[0], size)
		p.sent(st.x.Send(r.content[spans[0].first : spans[0].last+1]))
	default:
		p.m.ranges.Inc()
		p.sendMultipart(st, r, spans, size, func(w io.Writer, s span) error {
			_, err := w.Write(r.content[s.first : s.last+1])
			return err
		})
	}
	return true
}

// sendUnmet answers 304 or 412 if the request's conditions say so, which speak
// of an answer of 2xx.
func (p *Proxy) sendUnmet(st *state, r *reply) bool {
	if status := r.meta.status(); !st.cond.any || status < 200 || status > 299 {
		return false
	}
	switch st.cond.evaluate(r.meta, p.o.Now()) {
	case http.StatusNotModified:
		p.sendNotModified(st, r)
		return true
	case http.StatusPreconditionFailed:
		st.x.Status(http.StatusPreconditionFailed)
		st.tell(&r.how)
		st.scratch = p.appendStatus(st.scratch[:0], st.site, &r.how, st.noteOf(r.meta))
		st.x.AddBlock(st.scratch)
		p.sent(st.x.Send(nil))
		return true
	}
	return false
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
