package proxy

import (
	"context"
	"io"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/edgenode/edgenode/tiers"
	"github.com/edgenode/edgenode/tiers/item"
)

// Many readers may miss the same segment. The first one claims it, asks the
// origin and stores it again; the others wait for that as long as it goes on.

// defaultRefillPatience is how long a reader waits for another that has asked for
// the segment it misses and brings nothing meanwhile.
const defaultRefillPatience = time.Second

// minRefillRate is the part of a segment that must come within the patience.
const minRefillRate = 8

// A claim is one reader's word that it brings a segment into the store.
type claim struct {
	key  string        // of the segment
	end  int64         // behind its last byte
	done chan struct{} // closed when it is stored, or will not be
	got  atomic.Int64  // bytes that came; -1 while the answer's header has not
}

// claimSegment returns a claim of a segment for the caller, or that of another. It
// takes the place of old, which brings too little.
func (p *Proxy) claimSegment(key item.Key, end int64, old *claim) (c *claim, mine bool) {
	p.refillMu.Lock()
	defer p.refillMu.Unlock()
	if c = p.refills[string(key)]; c != nil && c != old {
		return c, false
	}
	c = &claim{key: string(key), end: end, done: make(chan struct{})}
	c.got.Store(-1)
	p.refills[c.key] = c
	return c, true
}

// over gives a claim up. It may be called once.
func (c *claim) over(p *Proxy) {
	p.refillMu.Lock()
	if p.refills[c.key] == c {
		delete(p.refills, c.key)
	}
	p.refillMu.Unlock()
	close(c.done)
}

// wait returns when the claim is given up. It reports false if too little came,
// or if ctx ended.
func (c *claim) wait(ctx context.Context, chunk int64, patience time.Duration) bool {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for had := c.got.Load(); ; {
		select {
		case <-c.done:
			return true
		case <-ctx.Done():
			return false
		case <-timer.C:
		}
		got := c.got.Load()
		if had >= 0 && got-had < chunk/minRefillRate {
			return false
		}
		had = got // the origin's own time limit ends a claim without a header
		timer.Reset(patience)
	}
}

// maxClaims bounds for how many other readers of a segment one waits.
const maxClaims = 3

// join sees to it that one reader asks for a segment that many miss. It reports
// true if another has asked and the store is to be looked at again. Only segments
// that can be stored again are claimed: those of which pos is the first byte.
func (r *partReader) join(pos int64) bool {
	first, end, ok := r.man.segment(pos)
	if !ok || r.etag == "" || r.claim != nil {
		return false
	}
	key := segmentKey(nil, r.main, r.man.gen, first)
	if pos != first {
		c := r.p.claimOf(key)
		return c != nil && c.wait(r.st.x.Context(), r.man.chunk, r.p.refillPatience)
	}
	var old *claim
	for range maxClaims {
		c, mine := r.p.claimSegment(key, end, old)
		if mine {
			r.claim = c
			return false
		}
		if c.wait(r.st.x.Context(), r.man.chunk, r.p.refillPatience) {
			return true
		}
		old = c
	}
	return false
}

func (p *Proxy) claimOf(key item.Key) *claim {
	p.refillMu.Lock()
	defer p.refillMu.Unlock()
	return p.refills[string(key)]
}

// release gives up what the reader has claimed.
func (r *partReader) release() {
	if r.claim != nil {
		r.claim.over(r.p)
		r.claim = nil
	}
}

// brought notes what came for the claimed segment. When it is stored, the reader
// claims the one that follows, unless another has.
func (r *partReader) brought(n int) {
	if r.claim == nil {
		return
	}
	r.claim.got.Add(int64(n))
	if r.ownAt < r.claim.end || r.ownAt == r.ownEnd {
		return // endOwn stores the last one
	}
	r.release()
	if first, end, ok := r.man.segment(r.ownAt); ok && first == r.ownAt {
		if c, mine := r.p.claimSegment(segmentKey(nil, r.main, r.man.gen, first), end, nil); mine {
			c.got.Store(0)
			r.claim = c
		}
	}
}

// rest returns which bytes from first on an answer to a range request of our own
// brings of an object of size bytes, -1 for unknown, and reads up to the first. An
// origin that does not know ranges sends a 200: under the same strong entity tag
// what lies before first is skipped. It reports false if the answer does not
// bring that, or speaks of another object.
func (a *originAnswer) rest(first, size int64, etag string) (part, bool) {
	if a.StatusCode != http.StatusOK {
		pt, ok := partOf(a, etag)
		return pt, ok && pt.first == first && (size < 0 || pt.size < 0 || pt.size == size)
	}
	if a.ContentLength >= 0 && (size < 0 || size == a.ContentLength) {
		size = a.ContentLength
	} else if a.ContentLength >= 0 {
		return part{}, false
	}
	if size <= first || !a.carries(etag) || a.foreign() {
		return part{}, false
	}
	_, err := io.CopyN(io.Discard, a, first)
	return part{span{first, size - 1}, size}, err == nil
}

// tookBack reports whether the answer to a range request of our own shows that
// what is stored under etag is not what the origin has.
func (a *originAnswer) tookBack(etag string) bool {
	switch a.StatusCode {
	case http.StatusPartialContent, http.StatusRequestedRangeNotSatisfiable, http.StatusPreconditionFailed:
		return !a.carries(etag)
	}
	return !a.carries(etag) && refutes(a.StatusCode, "")
}

// outdated makes what is stored for the URL of a request stale, by a soft purge,
// unless another reader has since the request left at stamp: the next request asks
// whether it still holds.
func (p *Proxy) outdated(ctx context.Context, r *request, stamp item.Version) {
	tags := []string{tagURL + r.url, tagPost + r.url}
	if p.o.Engine.CoveredSince(r.key, tags, stamp) {
		return
	}
	purge := tiers.Purge{Namespaces: item.InSites, Match: item.MatchTag, Values: tags, Soft: true, Background: true}
	if _, err := p.o.Engine.Purge(context.WithoutCancel(ctx), purge); err != nil {
		p.o.Log.Error("an object that changed at the origin could not be made stale", "site", r.site.Name, "error", err)
	}
}
