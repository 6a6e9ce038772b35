package proxy

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/edgenode/edgenode/tiers"
	"github.com/edgenode/edgenode/tiers/item"
)

// coalesce joins spans that overlap or touch (RFC 9110 §15.3.7.2). The order is
// that in which their first ones were asked for.
func coalesce(spans []span) []span {
	var out []span
	for _, s := range spans {
		for i := 0; i < len(out); {
			if o := out[i]; s.first <= o.last+1 && o.first <= s.last+1 {
				s = span{min(s.first, o.first), max(s.last, o.last)}
				out = append(out[:i], out[i+1:]...)
				i = 0
				continue
			}
			i++
		}
		out = append(out, s)
	}
	return out
}

// wants returns the spans that a GET asks of an object of size bytes, or nil for
// all of it. none says that it asks for bytes and that there are none such. A
// size below 0 is not known: no span then ends with the object.
func (p *Proxy) wants(st *state, m meta, size int64) (spans []span, none bool) {
	if st.cond.ranges == nil || m.status() != http.StatusOK || st.x.Method() != http.MethodGet || !st.cond.mayRange(m, p.o.Now()) {
		return nil, false
	}
	if size < 0 {
		size = noEnd
	}
	spans, ok := parseRanges(st.cond.ranges, size)
	if !ok {
		return nil, false
	}
	return spans, len(spans) == 0
}

// noEnd stands for the size of an object that is not known.
const noEnd = 1 << 58

// enough reports whether what is stored of an object in parts is enough for the
// request. If not, it notes what is missing.
func (p *Proxy) enough(st *state, f *found) bool {
	man, ok := parseManifest(f.hit.View.Content())
	if !ok {
		f.partial, f.hole = true, -1
		return false
	}
	ok, f.hole = p.serves(st, f.meta, &man, &f.hit)
	f.partial = !ok
	f.whole = man.size >= 0 && man.size <= man.chunk && strongTag(f.meta) != "" && len(man.gaps()) == 1
	return ok
}

// serves reports whether what is stored of an object in parts is enough for the
// request, as far as can be told without reading all of it. hole is the first
// byte that is named and gone, -1 if there is none.
func (p *Proxy) serves(st *state, m meta, man *manifest, h *tiers.Hit) (ok bool, hole int64) {
	if st.x.Method() == http.MethodHead {
		return man.size >= 0, -1
	}
	if status := m.status(); st.cond.any && status >= 200 && status < 300 && st.cond.evaluate(m, p.o.Now()) != 0 {
		return true, -1
	}
	first := int64(0)
	spans, none := p.wants(st, m, man.size)
	switch {
	case none:
		return true, -1
	case spans == nil && !man.complete():
		return false, -1
	case spans != nil:
		for _, s := range spans {
			if !man.holds(s) {
				return false, -1
			}
		}
		first = spans[0].first
	}
	at, _, found := man.segment(first)
	if !found {
		return man.size == 0, -1
	}
	hit, found := p.segment(st.x.Context(), h.View.Key(), man, at, h.View.Tiers())
	if !found {
		return false, at
	}
	hit.Release()
	return true, -1
}

// sendParted answers from an object in parts: conditions, then ranges, then the
// whole.
func (p *Proxy) sendParted(st *state, r *reply) {
	m := r.meta
	parsed, ok := parseManifest(r.content)
	if !ok || r.stored == nil {
		p.refuse(st, failBug, r.how)
		return
	}
	man := &parsed
	if p.sendUnmet(st, r) {
		return
	}
	spans, none := p.wants(st, m, man.size)
	switch {
	case st.x.Method() == http.MethodHead:
		st.x.Status(m.status())
		p.sendFields(st, r)
		p.sent(st.x.SendSized(man.size))
		return
	case none:
		p.sendUnsatisfiable(st, r, man.size)
		return
	case spans == nil && !man.complete():
		p.refuse(st, failBroken, r.how)
		return
	}
	reader := p.storedReader(st, r, man)
	defer reader.close()
	first, end := int64(0), man.size
	if spans != nil {
		first, end = spans[0].first, spans[0].last+1
	}
	// What is gone and cannot be had any more is known before the header is sent.
	head, err := reader.next(first, end)
	if err != nil && err != io.EOF {
		p.refuse(st, failureOf(err), r.how)
		return
	}
	switch len(spans) {
	case 0:
		st.x.Status(m.status())
		p.sendFields(st, r)
		p.sendSpan(st, reader, head, first, end)
	case 1:
		p.m.ranges.Inc()
		p.sendPartHead(st, r, spans[0], man.size)
		p.sendSpan(st, reader, head, first, end)
	default:
		p.m.ranges.Inc()
		p.sendMultipart(st, r, spans, man.size, func(w io.Writer, s span) error {
			return p.copySpan(reader, w, nil, s.first, s.last+1)
		})
	}
}

// storedReader returns a reader of an object that nobody fills.
func (p *Proxy) storedReader(st *state, r *reply, man *manifest) *partReader {
	reader := &partReader{p: p, st: st, man: *man, etag: strongTag(r.meta)}
	v := r.stored
	left := time.Duration(v.ExpiresAt()-p.o.Now()) * time.Millisecond
	reader.main = append(item.Key(nil), v.Key()...)
	reader.like = segmentsLike(v.Tiers(), tagsOf(v), left, p.o.MaxLifetime)
	return reader
}

// strongTag returns the strong entity tag of an answer, "" if it has none.
func strongTag(m meta) string {
	if etag := m.etag(); len(etag) > 1 && etag[0] == '"' && tagLen(etag) == len(etag) {
		return string(etag)
	}
	return ""
}

// sendPartHead sends everything of a 206 with one range but the body.
func (p *Proxy) sendPartHead(st *state, r *reply, s span, size int64) {
	st.x.Status(http.StatusPartialContent)
	p.sendFields(st, r)
	st.x.Add("Content-Range", contentRange(s, size))
}

// sendUnsatisfiable answers 416.
func (p *Proxy) sendUnsatisfiable(st *state, r *reply, size int64) {
	p.m.ranges.Inc()
	st.x.Status(http.StatusRequestedRangeNotSatisfiable)
	st.x.Add("Content-Range", "bytes */"+strconv.FormatInt(size, 10))
	st.tell(&r.how)
	st.scratch = p.appendStatus(st.scratch[:0], st.site, &r.how, st.noteOf(r.meta))
	st.x.AddBlock(st.scratch)
	p.sent(st.x.Send(nil))
}

// contentRange renders Content-Range; a size below 0 is not known.
func contentRange(s span, size int64) string {
	if size < 0 {
		return fmt.Sprintf("bytes %d-%d/*", s.first, s.last)
	}
	return fmt.Sprintf("bytes %d-%d/%d", s.first, s.last, size)
}

// sendSpan streams the bytes from first to before end; head are the first of
// them, if they were read already.
func (p *Proxy) sendSpan(st *state, r *partReader, head []byte, first, end int64) {
	length := int64(-1)
	if end >= 0 {
		length = end - first
	}
	w, err := st.x.Stream(length)
	if err != nil {
		p.sent(err)
		return
	}
	if err := p.copySpan(r, w, head, first, end); err != nil {
		p.m.cut.Inc()
		st.x.Abort()
		return
	}
	if r.fl != nil && first == 0 && (end < 0 || end == r.fl.lengthNow()) {
		p.trail(st, r.fl.trailer) // set before the end was
	}
}

// copySpan writes the bytes from first to before end, of which head are the
// first; an end below 0 is that of the object.
func (p *Proxy) copySpan(r *partReader, w io.Writer, head []byte, first, end int64) error {
	for piece := head; ; {
		if len(piece) == 0 {
			var err error
			if piece, err = r.next(first, end); err == io.EOF {
				return nil
			} else if err != nil {
				return err
			}
		}
		if err := writeThrough(w, piece); err != nil {
			return err
		}
		first += int64(len(piece))
		piece = nil
		if r.st.x.Context().Err() != nil {
			return context.Cause(r.st.x.Context())
		}
	}
}

// sendMultipart answers several ranges of an object of size bytes (RFC 9110
// §14.6). part writes one of them. The boundary is random: content cannot be
// made to hold it.
func (p *Proxy) sendMultipart(st *state, r *reply, spans []span, size int64, part func(io.Writer, span) error) {
	block := r.block
	if block == nil {
		block = r.meta.block()
	}
	kind := string(st.sentAs("content-type", lookupLine(block, "Content-Type")))
	boundary := rand.Text()
	heads, end := multipartHeads(spans, size, kind, boundary)
	length := int64(len(end))
	for i, s := range spans {
		length += int64(len(heads[i])) + s.last - s.first + 1
	}
	shown := *r
	shown.block = withoutContentType(block)
	if r.block == nil {
		shown.block = p.appendAge(shown.block, r.meta)
	}
	st.x.Status(http.StatusPartialContent)
	p.sendFields(st, &shown)
	st.x.Add("Content-Type", "multipart/byteranges; boundary="+boundary)
	w, err := st.x.Stream(length)
	for i := 0; i < len(spans) && err == nil; i++ {
		if _, err = w.Write(heads[i]); err == nil {
			err = part(w, spans[i])
		}
	}
	if err == nil {
		_, err = w.Write(end)
	}
	if err != nil {
		p.m.cut.Inc()
		st.x.Abort()
	}
}

func multipartHeads(spans []span, size int64, kind, boundary string) (heads [][]byte, end []byte) {
	for _, s := range spans {
		head := fmt.Appendf(nil, "\r\n--%s\r\n", boundary)
		if kind != "" {
			head = fmt.Appendf(head, "Content-Type: %s\r\n", kind)
		}
		heads = append(heads, fmt.Appendf(head, "Content-Range: %s\r\n\r\n", contentRange(s, size)))
	}
	return heads, fmt.Appendf(nil, "\r\n--%s--\r\n", boundary)
}

func withoutContentType(block []byte) (kept []byte) {
	eachLine(block, func(name, _, line []byte) bool {
		if !equalFold(name, "content-type") {
			kept = append(kept, line...)
		}
		return true
	})
	return kept
}
