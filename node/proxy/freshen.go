package proxy

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"

	"github.com/edgenode/edgenode/tiers"
	"github.com/edgenode/edgenode/tiers/item"
)

// selects reports whether a 304 speaks of the old answer (RFC 9111 §4.3.4): it
// carries the entity tag of that one, or none. An old answer without an entity
// tag is known by its Last-Modified.
func (fl *flight) selects(oa *originAnswer) bool {
	lines := oa.Header["Etag"]
	if len(lines) == 0 {
		return true
	}
	m := fl.old.meta
	if etag := m.etag(); len(etag) > 0 {
		return weakMatch([]byte(lines[0]), etag)
	}
	return sameModified(oa.Header, m)
}

// sameModified reports whether an answer carries the Last-Modified of a stored
// one.
func sameModified(h http.Header, m meta) bool {
	lines := h["Last-Modified"]
	return len(lines) == 1 && lines[0] == string(m.line("Last-Modified"))
}

// updated returns the fields of a stored answer with those that came for it
// (RFC 9111 §3.2). Those that frame a message stay what they are: of the stored
// content.
func updated(m meta, with http.Header) http.Header {
	h := headerOf(m.block())
	for name, lines := range with {
		if name != "Content-Length" && name != "Content-Range" {
			h[name] = lines
		}
	}
	return h
}

// validated lets a 304 renew the old answer (RFC 9111 §4.3.4), which then is the
// flight's.
func (fl *flight) validated(oa *originAnswer) {
	oa.Close()
	v, stored := fl.renew(oa)
	left := v.lifetime - v.age(fl.p.o.Now())
	fl.turn(phaseDone, func() {
		fl.body = fl.old.hit.View.Content()
		fl.how = how{fwd: fwdStale, fwdStatus: oa.StatusCode, stored: stored, refused: v.refused, hasTTL: true, ttl: left, detail: v.reason}
		if fl.fwd == fwdRequest {
			fl.how.fwd = fwdRequest
		}
	})
}

// renew stores the old content with the fields of an answer that speaks of it,
// unless that one is for its client alone (see updateVerdict).
func (fl *flight) renew(oa *originAnswer) (v verdict, stored bool) {
	p, m := fl.p, fl.old.meta
	h := updated(m, oa.Header)
	size := sizeOf(m, fl.old.hit.View.Content())
	v = p.updateVerdict(fl.asGet(), m.status(), oa, h, size)
	v.flags |= m.flags() & metaParted
	old := fl.oldTags()
	if !carriesTags(oa.Header) {
		v.tags = mergeTags(v.tags, old)
	}
	covered := p.o.Engine.CoveredSince(fl.r.key, old, fl.stamp)
	fl.turn(phaseWait, func() {
		fl.present(&v, m.status(), h)
		if fl.block = nil; len(v.withhold) > 0 { // which the client that asked gets
			fl.block, _, _ = appendBlock(nil, h, append([]string{"Age"}, notSent...)...)
			fl.block = p.appendAge(fl.block, fl.meta)
		}
		fl.private = covered || !v.freshOnArrival()
		fl.length = size
	})
	if covered {
		p.m.purgedMeanwhile.Inc()
	} else if fl.leaves(&v) {
		return v, false
	} else if v.share {
		stored = fl.store(&v.freshness, fl.old.hit.View.Content())
	} else {
		fl.retire(http.StatusNotModified, fl.r.site.takenBack(h))
	}
	fl.mark(!v.freshOnArrival())
	p.m.validated.Inc()
	return v, stored
}

// asGet returns the request as one that may be judged: what HEAD renews is the
// answer to a GET.
func (fl *flight) asGet() *request {
	if fl.r.method != http.MethodHead {
		return fl.r
	}
	r := *fl.r
	r.method = http.MethodGet
	return &r
}

func carriesTags(h http.Header) bool {
	return len(h["Surrogate-Key"])+len(h["Cache-Tag"])+len(h["Cache-Groups"]) > 0
}

func mergeTags(a, b []string) []string {
	for _, t := range b {
		if !slices.Contains(a, t) {
			a = append(a, t)
		}
	}
	return a
}

// askHead makes a flight for a HEAD whose stored answer may not be used as it
// is. It goes on as HEAD, and what comes renews the stored answer or ends it
// (RFC 9111 §4.3.5). Nobody else waits for it.
func (p *Proxy) askHead(st *state, f *found, class string) (*flight, error) {
	fl := p.newFlight(st, f, class)
	fl.r.method = http.MethodHead
	fl.refs, fl.readers, fl.leader = 2, 1, true
	_, err := p.launch(fl)
	return fl, err
}

// headed takes a final answer to HEAD that is not a 304 to us. A 200 of the same
// validators and length renews the old answer; one that differs makes it stale,
// if it was not. The client gets it as it is.
func (fl *flight) headed(oa *originAnswer) {
	to := how{fwd: fl.fwd, fwdStatus: oa.StatusCode}
	switch {
	case oa.StatusCode != http.StatusOK || !fl.old.ok:
	case fl.sameAsOld(oa):
		_, to.stored = fl.renew(oa)
	default:
		fl.disown(oa)
	}
	left := false
	fl.turn(phaseHanded, func() {
		fl.how = to
		if left = !fl.leader; !left {
			fl.oa = oa
		}
	})
	if left {
		oa.Close()
	}
}

// sameAsOld compares the validators and the length that an answer carries with
// those of the old answer.
func (fl *flight) sameAsOld(oa *originAnswer) bool {
	m := fl.old.meta
	if m.status() != http.StatusOK {
		return false
	}
	if lines := oa.Header["Etag"]; len(lines) > 0 && (len(lines) > 1 || lines[0] != string(m.etag())) {
		return false
	}
	if len(oa.Header["Last-Modified"]) > 0 && !sameModified(oa.Header, m) {
		return false
	}
	length := sizeOf(m, fl.old.hit.View.Content())
	lines := oa.Header["Content-Length"]
	return len(lines) == 0 || length < 0 || lines[0] == strconv.FormatInt(length, 10)
}

// disown makes an old answer that is still fresh stale, by a soft purge of its
// URL. One that is stale already needs no rule.
func (fl *flight) disown(oa *originAnswer) {
	p := fl.p
	fr := fl.old.meta.freshness()
	if fr.usable(p.o.Now(), fl.old.hit.Stale) == useNot {
		return
	}
	purge := tiers.Purge{Namespaces: item.InSites, Match: item.MatchTag, Values: []string{tagURL + fl.r.url, tagPost + fl.r.url}, Soft: true, Background: true}
	if _, err := p.o.Engine.Purge(oa.ctx, purge); err != nil {
		p.o.Log.Error("an answer to HEAD could not make the stored one stale", "site", fl.r.site.Name, "error", err)
	}
}

// errMustRevalidate wraps the error of a fetch whose stored answer must not be
// used stale.
var errMustRevalidate = errors.New("proxy: the stored answer must be validated")

// failed names the reason for which no old answer stands in: the client is told
// 504 then (RFC 9111 §5.2.2.2).
func (fl *flight) failed(err error) error {
	if fl.old.ok && fl.old.meta.flags()&metaNeverStale != 0 {
		return fmt.Errorf("%w: %w", errMustRevalidate, err)
	}
	return err
}
