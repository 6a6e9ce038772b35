package proxy

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/edgenode/edgenode/tiers"
	"github.com/edgenode/edgenode/tiers/item"
)

// retiredRecord stands in place of a stored answer that the origin has taken
// back. It is of no kind that is read, and so a miss.
var retiredRecord = []byte{Format, kindRetired, 0, 0}

// refutes reports whether an answer of the origin that is not stored, for a reason
// that judge gave, still shows that what was stored is out of date: a whole answer
// says that it is not suitable (RFC 9111 §4.3.3), and a 304 may take it back.
//
// What speaks of the one who asks (Authorization, cookies) says nothing about
// others. Errors leave what is there: 5xx may be overruled by it, and other 4xx
// than 404 and 410 refuse a request.
func refutes(status int, reason string) bool {
	switch {
	case reason == "authorization" || reason == "set-cookie":
		return false
	case status == http.StatusNotModified:
		return reason != ""
	case status == http.StatusPartialContent:
		return false
	}
	return status >= 200 && status < 400 || status == http.StatusNotFound || status == http.StatusGone
}

// takenBack says why the fields of a stored answer, merged with those of a 304 that
// was not stored, forbid others to have it; "" if they do not.
func (s *site) takenBack(merged http.Header) string {
	cc, _ := s.control(merged)
	_, star := varySpec(merged["Vary"])
	switch {
	case cc.flags&ccPrivate != 0:
		return "private"
	case cc.flags&(ccNoStore|ccMustUnderstand) == ccNoStore:
		return "no-store"
	case star:
		return "vary-star"
	}
	return ""
}

// retire makes the old answer unusable, also as one that stands in, if an answer
// that was not stored refutes it. It comes before anybody is given that answer. A
// newer one that somebody has stored meanwhile stays, and so does one that was still
// fresh and refreshed ahead: it ends in time.
func (fl *flight) retire(status int, reason string) {
	if fl.ahead != nil || !fl.old.ok || !refutes(status, reason) {
		return
	}
	p, v := fl.p, fl.old.hit.View
	left := time.Duration(v.ExpiresAt()-p.o.Now()) * time.Millisecond
	if left <= 0 {
		return
	}
	ctx := context.WithoutCancel(fl.ctx)
	key := append(item.Key(nil), v.Key()...)
	if fl.old.meta.sole() {
		lock := p.indexLock(key)
		lock.Lock()
		defer lock.Unlock()
		b := p.baseOf(ctx, key, fl.r.writeTiers)
		b.hit.Release()
		if b.indexed { // it was moved meanwhile
			key = variantKey(key, nil, fl.old.meta.soleHash())
		}
	}
	w := tiers.Write{
		Key: key, Tags: tagsOf(v), Response: retiredRecord, MIME: "application/octet-stream",
		Tiers: v.Tiers() | fl.r.writeTiers, TTL: left, Durability: item.DurabilityMemory, Version: fl.stamp,
	}
	_, err := p.o.Engine.Submit(ctx, &w)
	if err != nil && !errors.Is(err, tiers.ErrSuperseded) && !errors.Is(err, tiers.ErrPurged) {
		p.o.Log.Warn("what the origin took back is still stored", "site", fl.r.site.Name, "error", err)
	}
}
