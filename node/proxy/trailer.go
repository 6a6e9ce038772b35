package proxy

import (
	"net/http"
	"slices"
	"strings"
)

// Trailer fields (RFC 9110 §6.5) go behind the body to a client that said TE:
// trailers, if the body is streamed to it in chunks. They are never merged with
// the header, never stored, and dropped otherwise.

// wantsTrailers reports whether a line of TE has the member trailers.
func wantsTrailers(te []byte) bool {
	for member := range strings.SplitSeq(text(te), ",") {
		if strings.EqualFold(strings.Trim(member, " \t"), "trailers") {
			return true
		}
	}
	return false
}

// notTrailing are fields that do not stand in a trailer (RFC 9110 §6.5.1): those
// of framing and routing, of authentication, that control a message or say how
// its content is to be read.
var notTrailing = []string{
	"Content-Length", "Content-Encoding", "Content-Type", "Content-Range", "Host", "Set-Cookie", "Cookie", "Authorization",
	"Www-Authenticate", "Authentication-Info", "Age", "Cache-Control", "Cache-Status", "Date", "Expires", "Location", "Retry-After",
	"Vary", "Via", "Max-Forwards", "Expect", "Te", "Pragma", "Warning", "Surrogate-Key", "Cache-Tag",
}

// trailerOf returns what of an origin's trailer goes to the client. Fields that are
// set or removed in its answer are not: they would come back this way.
func (st *state) trailerOf(h http.Header) http.Header {
	if len(h) == 0 {
		return nil
	}
	h = h.Clone()
	cleanNames(h)
	for _, name := range append(slices.Clone(hopByHop), notTrailing...) {
		delete(h, name)
	}
	if x, ok := st.x.(*edited); ok {
		for name := range h {
			if x.answer.Replaces([]byte(name)) {
				delete(h, name)
			}
		}
	}
	return h
}

// sink returns what sends trailers to the client of st, or nil if it wants none.
func (st *state) sink() trailing {
	if !st.trailers || st.x.HTTP10() || st.x.Method() == http.MethodHead {
		return nil
	}
	t, _ := received(st.x).(trailing)
	return t
}

// announce adds the Trailer field for names that the origin announced.
func (p *Proxy) announce(st *state, h http.Header) {
	if len(h) == 0 || st.sink() == nil {
		return
	}
	var names []string
	for name := range st.trailerOf(h) {
		names = append(names, wireName(name))
	}
	slices.Sort(names)
	if len(names) > 0 {
		st.x.Add("Trailer", strings.Join(names, ", "))
	}
}

// trail sends a trailer behind a body that was sent whole.
func (p *Proxy) trail(st *state, h http.Header) {
	t := st.sink()
	if t == nil || len(h) == 0 {
		return
	}
	if block, _, _ := appendBlock(nil, st.trailerOf(h)); len(block) > 0 {
		st.take()
		t.Trailer(block)
		st.give()
	}
}
