package proxy

import (
	"net/http"
	"slices"
)

// An update is an answer that carries fields for a stored one: a 304, the 200 to
// a HEAD, a 206 that completes it.

// updateVerdict judges what an update makes of a stored answer of that status;
// merged are the fields of both. Before that it judges the update by itself: what
// its own fields and the request it answers keep from being shared is for the
// client that asked, whatever the stored answer said for its own fields. Then
// nothing of it is merged, and the stored answer stays as it is.
func (p *Proxy) updateVerdict(r *request, status int, oa *originAnswer, merged http.Header, length int64) verdict {
	v := p.verdictOf(r, status, merged, oa.sent, oa.received, length)
	reason, withhold := r.site.updateAlone(r, oa.Header, merged, v.withhold)
	v.withhold = withhold
	if reason != "" {
		v.store, v.share, v.reason = false, false, reason
	}
	return v
}

// updateAlone says why an update is for its own client alone, "" if it is not,
// and which fields are withheld from others: those of merged, which withhold
// names, and those that the update names itself.
//
// A no-store that holds for the merged fields too is left to the verdict on them,
// where a policy may have been allowed to override it.
func (s *site) updateAlone(r *request, own, merged http.Header, withhold []string) (reason string, all []string) {
	cc, targeted := s.control(own)
	v := verdict{withhold: slices.Concat(withhold, cc.noCacheFields, cc.privateFields)}
	a := answer{method: r.method, authorization: r.authorized, header: own}
	if s.neverShared(&a, &cc, targeted, &v) {
		return v.reason, v.withhold
	}
	if both, _ := s.control(merged); cc.flags&(ccNoStore|ccMustUnderstand) == ccNoStore && both.flags&ccNoStore == 0 {
		return "no-store", v.withhold
	}
	return "", v.withhold
}

// withoutNamed returns h without the fields of names.
func withoutNamed(h http.Header, names []string) http.Header {
	if len(h) == 0 || len(names) == 0 {
		return h
	}
	h = h.Clone()
	for _, name := range names {
		delete(h, name)
	}
	return h
}
