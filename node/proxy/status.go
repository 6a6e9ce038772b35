package proxy

import (
	"strconv"

	"github.com/edgenode/edgenode/tiers"
)

// Reasons for which a request went to the origin (RFC 9211 §2.2).
const (
	fwdBypass  = "bypass"
	fwdMethod  = "method"
	fwdURIMiss = "uri-miss"
	fwdVary    = "vary-miss"
	fwdRequest = "request"
	fwdStale   = "stale"
	fwdPartial = "partial"
)

// how says how an answer came about, for Cache-Status. It is filled in where
// the decisions are made.
type how struct {
	fwd       string // "" is a hit
	neither   bool   // neither a hit nor sent on
	fwdStatus int    // 0 is not told
	stored    bool
	collapsed bool
	hasTTL    bool
	ttl       int64 // ms of freshness left, may be negative
	source    tiers.Source
	detail    string // instead of the source
	refused   bool   // a hook asked for more than it may
}

// An Outcome says how an answer came about.
type Outcome struct {
	Site      string // "" if none has the host
	Cache     string // hit, a reason of Cache-Status for going to the origin (uri-miss, …), or "" for neither
	Detail    string // the tier of a hit, why an answer was not stored, or what answered instead; may be ""
	FwdStatus int    // of the origin's answer; 0 if there was none
	Stored    bool
	Collapsed bool // it waited for another's fetch
	HasTTL    bool
	TTL       int64 // seconds of freshness left, may be negative
}

// tell notes how the answer came about for who asks.
func (st *state) tell(h *how) {
	if st.told == nil {
		return
	}
	o := st.told
	*o = Outcome{Detail: h.detail, FwdStatus: h.fwdStatus, Stored: h.stored, Collapsed: h.collapsed, HasTTL: h.hasTTL, TTL: floorSeconds(h.ttl)}
	if o.Detail == "" && h.source != tiers.FromNone {
		o.Detail = h.source.String()
	}
	switch {
	case h.neither:
	case h.fwd == "":
		o.Cache = "hit"
	default:
		o.Cache = h.fwd
	}
}

// appendStatus appends the line with our member of Cache-Status (RFC 9211). It
// stands after the lines of the origin and so is the last member. note is the
// key parameter, prepared when the answer was stored.
func (p *Proxy) appendStatus(dst []byte, s *site, h *how, note []byte) []byte {
	if s == nil || s.CacheStatus == StatusOff {
		return dst
	}
	dst = append(dst, "Cache-Status: "...)
	dst = append(dst, p.o.Name...)
	switch {
	case h.neither:
	case h.fwd == "":
		dst = append(dst, ";hit"...)
	default:
		dst = append(dst, ";fwd="...)
		dst = append(dst, h.fwd...)
	}
	if h.fwdStatus != 0 {
		dst = append(dst, ";fwd-status="...)
		dst = strconv.AppendInt(dst, int64(h.fwdStatus), 10)
	}
	if h.hasTTL {
		dst = append(dst, ";ttl="...)
		dst = strconv.AppendInt(dst, floorSeconds(h.ttl), 10)
	}
	if h.stored {
		dst = append(dst, ";stored"...)
	}
	if h.collapsed {
		dst = append(dst, ";collapsed"...)
	}
	if s.CacheStatus == StatusFull {
		dst = appendDetail(dst, h)
		dst = append(dst, note...)
	}
	if h.refused {
		dst = append(dst, ";override=refused"...)
	}
	return append(dst, "\r\n"...)
}

func appendDetail(dst []byte, h *how) []byte {
	detail := h.detail
	if detail == "" && h.source != tiers.FromNone {
		detail = h.source.String()
	}
	if detail == "" {
		return dst
	}
	dst = append(dst, ";detail="...)
	return append(dst, detail...)
}

// floorSeconds rounds ms down to whole seconds, so that what is past is
// negative.
func floorSeconds(ms int64) int64 {
	if ms < 0 {
		return (ms - 999) / 1000
	}
	return ms / 1000
}

// keyNote returns the key parameter for a URL: a structured string, so bytes
// that may not stand in one are percent-encoded.
func keyNote(url string) string {
	const hex = "0123456789ABCDEF"
	b := append(make([]byte, 0, len(url)+8), `;key="`...)
	for i := range len(url) {
		switch c := url[i]; {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c < ' ' || c > '~':
			b = append(b, '%', hex[c>>4], hex[c&15])
		default:
			b = append(b, c)
		}
	}
	return string(append(b, '"'))
}
