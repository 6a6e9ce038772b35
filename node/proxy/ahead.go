package proxy

import (
	"hash/maphash"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/edgenode/edgenode/tiers/item"
)

// Of what is asked for most, an answer that is about to end is fetched again before
// it does, behind a hit on it: no client waits for what many want. The fetch is
// that of the request that was hit, and for all others the one fetch of its class,
// as a refresh of a stale answer is. It is asked once for each stored answer: if it
// brings nothing, that answer ends as it would have.

const (
	aheadShare  = 4  // at most the last quarter of a lifetime is ahead of its end
	aheadAtOnce = 4  // refreshes ahead under way to one pool
	aheadRate   = 10 // of them a second
	hotHits     = 10 // in the 10 s of Engine.Hottest, beside what may be a mistake
	hotAsked    = 64
	hotMillis   = 1000 // for which what was told is believed
	aheadSlots  = 1024
)

// ahead knows what is hot, and what was refreshed ahead already.
type ahead struct {
	hot atomic.Pointer[hotSet]
	// once says until when, Unix ms, answers are not refreshed again, by the hash of
	// their key and of when they came. One that another took the place of may be,
	// once more.
	once [aheadSlots]struct{ hash, until atomic.Uint64 }

	// mu is held by who begins a refresh, or asks what is hot. It comes before
	// Proxy.mu.
	mu sync.Mutex
}

// hotSet are the keys of what was asked for most, as of a moment.
type hotSet struct {
	at   int64
	keys map[string]bool
}

// done reports whether the answer with this hash was refreshed already.
func (a *ahead) done(hash uint64, now int64) bool {
	s := &a.once[hash%aheadSlots]
	return s.hash.Load() == hash && int64(s.until.Load()) > now
}

// nearEnd reports whether what is left of a fresh answer is little enough for a
// site to refresh it.
func (f *freshness) nearEnd(s *site, now int64) bool {
	left := f.lifetime - f.age(now)
	return left > 0 && left <= min(s.RefreshAhead.Milliseconds(), (f.lifetime-f.initialAge)/aheadShare)
}

// refreshAhead begins to fetch what was found again, if it is to end soon and is
// asked for much. It never waits for the origin, and costs a comparison if there is
// time left.
func (p *Proxy) refreshAhead(st *state, f *found, fr *freshness, now int64) {
	if !fr.nearEnd(st.site, now) || !st.plain() || fr.flags&(metaParted|metaPost) != 0 || f.hit.Stale {
		return
	}
	key, a := f.hit.View.Key(), &p.ahead
	hash := maphash.Bytes(p.seed, key) ^ uint64(fr.received)*0x9e3779b97f4a7c15
	if a.done(hash, now) || a.known(now) && !a.hot.Load().keys[string(key)] || !a.mu.TryLock() {
		return
	}
	defer a.mu.Unlock()
	if a.done(hash, now) || !p.isHot(key, now) {
		return
	}
	if !p.beginAhead(st, now) {
		p.m.aheadSkipped.Inc()
		return
	}
	s := &a.once[hash%aheadSlots]
	s.until.Store(uint64(now + fr.lifetime - fr.age(now)))
	s.hash.Store(hash)
}

// known reports whether what was told of what is hot is still believed.
func (a *ahead) known(now int64) bool {
	hot := a.hot.Load()
	return hot != nil && now-hot.at < hotMillis && now >= hot.at
}

// plain reports whether a request is a GET of a whole answer that shows nobody's
// name, no Authorization and no cookie, and whose answer may be stored.
func (st *state) plain() bool {
	return st.asked == nil && !st.storeNot && st.x.Method() == http.MethodGet && !st.authorization && !st.ranged && len(st.x.Header("Cookie")) == 0
}

// isHot reports whether a key is among those that are asked for most. The caller
// holds ahead.mu.
func (p *Proxy) isHot(key item.Key, now int64) bool {
	if !p.ahead.known(now) {
		hot := &hotSet{at: now, keys: map[string]bool{}}
		for _, k := range p.o.Engine.Hottest(hotAsked).Keys {
			if k.Whole && k.Hits >= k.Error+hotHits {
				hot.keys[string(k.Key)] = true
			}
		}
		p.ahead.hot.Store(hot)
	}
	return p.ahead.hot.Load().keys[string(key)]
}

// beginAhead starts a fetch that nobody waits for. It reports false if one is under
// way, if the node or the fetches have little room, if the request has been here
// before, or if the pool is not to be asked: none of its origins is well, or it is
// asked enough.
func (p *Proxy) beginAhead(st *state, now int64) bool {
	pl := st.site.pool
	if other := p.table.Load().pools[st.out.Pool]; other != nil {
		pl = other
	}
	class := st.classOf()
	if !pl.anyWell(now) || p.o.Engine.Crowded() || p.fillBytes.Load() > p.o.MaxFillBytes/2 || p.loops(st) || p.underWay(class) || !pl.ahead.enter(now) {
		return false
	}
	fl := p.newFlight(st, &found{ok: true}, class)
	fl.refs, fl.behind, fl.shared, fl.ahead = 1, true, true, &pl.ahead
	if other, err := p.launch(fl); other || err != nil {
		pl.ahead.leave()
		fl.cancel(errAbandoned)
		return false
	}
	p.m.aheadBegun.Inc()
	return true
}

// leaves reports whether what came for a flight ahead is not fresh for all, as what
// is stored still is: that stays.
func (fl *flight) leaves(v *verdict) bool { return fl.ahead != nil && !v.freshOnArrival() }

// letBe ends a flight ahead that brought nothing. Who has come to wait for it looks
// again, and asks for himself.
func (fl *flight) letBe(oa *originAnswer) {
	if oa != nil {
		oa.Close()
	}
	fl.turn(phaseAgain, nil)
}

// anyWell reports whether an origin of the pool is well.
func (pl *pool) anyWell(now int64) bool {
	for _, o := range pl.origins {
		if o.well(now) {
			return true
		}
	}
	return false
}

// aheadLimit bounds the refreshes ahead that a pool gets. It is safe for concurrent
// use.
type aheadLimit struct {
	under atomic.Int32
	rate  *rate.Limiter
}

func newAheadLimit() aheadLimit { return aheadLimit{rate: rate.NewLimiter(aheadRate, aheadRate)} }

// enter counts a refresh in, and reports false if there are enough.
func (l *aheadLimit) enter(now int64) bool {
	if l.under.Add(1) > aheadAtOnce || !l.rate.AllowN(time.UnixMilli(now), 1) {
		l.under.Add(-1)
		return false
	}
	return true
}

func (l *aheadLimit) leave() { l.under.Add(-1) }
