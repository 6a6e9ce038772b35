package proxy

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"net/http"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/edgenode/edgenode/tiers"
	"github.com/edgenode/edgenode/tiers/item"
)

// phase is how far a flight is. It only grows.
type phase byte

const (
	phaseWait   phase = iota // no header yet
	phaseBody                // may be shared or stored; the body comes in
	phaseDone                // whole
	phaseStale               // the old answer stands in
	phaseAgain               // look again: somebody stored an answer meanwhile
	phaseHanded              // for the leader alone, who reads it from the origin
	phaseFailed
)

// A flight is one fetch for one class of requests: same key, same values of the
// fields that the known variants depend on. The request that began it is its
// leader; others wait. The fetch runs on a goroutine of its own, so that nobody
// who leaves disturbs the rest.
type flight struct {
	p       *Proxy
	r       *request
	class   string
	shared  bool         // it is in p.flights; else it has a leader only
	asIs    bool         // conditions and ranges of the client go upstream
	where   item.Tiers   // tiers for the second look
	stamp   item.Version // taken before the request leaves
	fwd     string       // why
	insist  bool         // the second look only serves validation
	partial bool         // what is stored of an object in parts is not enough
	hole    int64        // from here on segments are gone; -1 if that is not known

	// ahead is what counts a fetch of what is still fresh, see refreshAhead; nil for
	// others.
	ahead *aheadLimit

	reserved int64 // bytes of Proxy.fillBytes; set by the fill, given back by the last

	ctx    context.Context
	cancel context.CancelCauseFunc

	mu   sync.Mutex
	cond sync.Cond // of mu; broadcast at each change

	refs    int // the fill and all readers; the last releases old
	readers int
	leader  bool // the leader is still there
	behind  bool // nobody need wait: a background refresh
	dead    bool // given up by its last reader; nobody joins any more

	phase phase
	infos []interim
	err   error
	oa    *originAnswer // phaseHanded, until the leader takes it

	old     found // the stored answer, held for validation and as a stand-in
	meta    meta  // of the answer
	block   []byte
	body    []byte // what came so far, from off on; appended only
	off     int64
	length  int64       // announced; -1 unknown
	trailer http.Header // fields behind the body, once phaseDone
	spec    string
	hash    [hashLen]byte // of the variant, if spec is not empty
	lang    [hashLen]byte // see entry
	tags    []string
	l1TTL   time.Duration // of the copies
	l2TTL   time.Duration
	private bool  // waiters may not have it: each goes itself
	spilled bool  // too large to store: off moves with the leader
	fastest int64 // where the reader that is farthest on is

	// An object that is stored in segments: body is not used then.
	pack       *packer // nil for others; set once
	completing bool    // parts of it were stored before
	keep       *keeper // phaseHanded: what stores the part on its way to the leader
	started    bool    // a reader has sent bytes
	how        how
}

type interim struct {
	code  int
	block []byte
}

// smallBody is up to which announced length an answer is sent when it is whole.
const smallBody = 64 << 10

// window bounds what is read ahead of a client of a streamed answer.
const window = 256 << 10

// classOf appends the class of a request: its key, whether it carries
// Authorization, and its variants.
func (st *state) classOf() string {
	b := append([]byte(nil), st.key...)
	auth := byte('0')
	if st.authorization {
		auth = '1'
	}
	b = append(b, 0, auth)
	return string(append(b, st.class...))
}

func (p *Proxy) hashOf(class string) uint64 { return maphash.String(p.seed, class) }

var errWaiters = errors.New("proxy: too many waiters")

// newFlight makes a flight for a snapshot of the request of st.
func (p *Proxy) newFlight(st *state, f *found, class string) *flight {
	fl := &flight{p: p, r: p.snapshot(st), class: class, where: item.L1, stamp: p.o.Engine.Stamp(), fwd: f.reason, length: -1, hole: -1}
	fl.r.method = http.MethodGet // HEAD is answered from what a GET brings
	if f.ok {
		fl.where, fl.fwd = orDefault(st.out.ReadTiers, st.site.Tiers), fwdStale
	}
	if f.partial {
		fl.fwd, fl.partial, fl.hole = fwdPartial, true, f.hole
	}
	if st.refetch {
		fl.fwd, fl.insist = fwdRequest, true
	}
	fl.cond.L = &fl.mu
	fl.ctx, fl.cancel = context.WithCancelCause(p.ctx)
	return fl
}

// join returns the flight of a class, counted as one of its readers, and
// whether the caller leads it. A flight whose key was purged since it began is
// not joined.
func (p *Proxy) join(st *state, f *found, class string) (fl *flight, leads bool, err error) {
	for {
		p.mu.Lock()
		fl = p.flights[class]
		if fl == nil {
			p.mu.Unlock()
			break
		}
		entered, full := fl.enter(st.site.WaitersMax)
		p.mu.Unlock()
		if full {
			return nil, false, errWaiters
		}
		if !entered {
			p.detach(fl)
			continue
		}
		if !p.o.Engine.CoveredSince(fl.r.key, fl.r.tags, fl.stamp) {
			return fl, false, nil
		}
		p.detach(fl)
		fl.leave(false)
	}
	fl = p.newFlight(st, f, class)
	fl.refs, fl.readers, fl.leader, fl.shared = 2, 1, true, true
	if other, err := p.launch(fl); err != nil {
		return nil, false, err
	} else if other {
		return p.join(st, f, class)
	}
	return fl, true, nil
}

// launch puts a flight into the map, if it is shared, and starts its fill. It
// reports true if there is one of that class already; then nothing was started.
func (p *Proxy) launch(fl *flight) (other bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false, errClosed
	}
	if fl.shared {
		if p.flights[fl.class] != nil {
			return true, nil
		}
		p.flights[fl.class] = fl
	}
	p.filling[string(fl.r.key)]++ // filled ends that
	p.tasks.Add(1)
	p.fills.Add(1)
	go fl.run()
	return false, nil
}

// filled ends what launch began for invalidate to see.
func (p *Proxy) filled(key item.Key) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.filling[string(key)]--; p.filling[string(key)] <= 0 {
		delete(p.filling, string(key))
	}
}

// detach takes a flight out of the map, so that nobody joins it any more.
func (p *Proxy) detach(fl *flight) {
	p.mu.Lock()
	if p.flights[fl.class] == fl {
		delete(p.flights, fl.class)
	}
	p.mu.Unlock()
}

// enter counts a waiter in. It does not if there are enough, or if the flight
// was given up.
func (fl *flight) enter(limit int) (entered, full bool) {
	fl.mu.Lock()
	defer fl.mu.Unlock()
	if fl.dead {
		return false, false
	}
	if fl.readers >= limit {
		return false, true
	}
	fl.refs++
	fl.readers++
	return true, false
}

// leave counts a reader out. When the last has left, the fetch is ended unless
// little is missing.
func (fl *flight) leave(leader bool) {
	fl.mu.Lock()
	fl.readers--
	if leader {
		fl.leader = false
		if fl.oa != nil {
			fl.oa.Close()
			fl.oa = nil
		}
	}
	unwanted := fl.readers == 0 && !fl.behind && (fl.phase < phaseBody || fl.phase == phaseBody && !fl.nearlyWhole())
	fl.dead = fl.dead || unwanted
	fl.cond.Broadcast()
	fl.mu.Unlock()
	if unwanted || fl.phaseNow() == phaseHanded && leader {
		fl.p.detach(fl)
		fl.cancel(errAbandoned)
	}
	fl.drop()
}

func (fl *flight) phaseNow() phase {
	fl.mu.Lock()
	defer fl.mu.Unlock()
	return fl.phase
}

func (fl *flight) nearlyWhole() bool {
	have := int64(len(fl.body))
	if fl.pack != nil {
		have = fl.pack.at()
	}
	return !fl.spilled && fl.length >= 0 && fl.length-have < fl.r.site.FinishFillBytes
}

// drop gives up a reference. The last one releases the old answer and the room
// for the body.
func (fl *flight) drop() {
	fl.mu.Lock()
	fl.refs--
	last := fl.refs == 0
	fl.mu.Unlock()
	if last {
		if fl.old.ok {
			fl.old.hit.Release()
		}
		if fl.keep != nil {
			fl.p.filled(fl.r.key)
		}
		fl.p.fillBytes.Add(-fl.reserved)
		fl.cancel(errAbandoned)
	}
}

// turn moves the flight on and wakes its readers. set may be nil.
func (fl *flight) turn(to phase, set func()) {
	if to >= phaseDone {
		fl.p.detach(fl)
	}
	fl.mu.Lock()
	defer fl.mu.Unlock()
	if set != nil {
		set()
	}
	fl.phase = to
	fl.cond.Broadcast()
}

// run is the fill: one fetch from the second look at the store to the storing.
func (fl *flight) run() {
	p := fl.p
	defer p.tasks.Done()
	defer p.fills.Add(-1)
	defer p.filled(fl.r.key)
	defer fl.drop()
	if fl.ahead != nil {
		defer fl.ahead.leave()
	}
	var oa *originAnswer
	defer func() { fl.outlive(recover(), oa) }()
	if fl.secondLook() {
		fl.turn(phaseAgain, nil)
		return
	}
	header := fl.r.header
	conditional := false
	if man, gaps, ok := fl.completion(); ok && fl.complete(man, gaps) {
		return
	}
	if !fl.asIs {
		header = withoutConditions(header)
		conditional = fl.validators(header)
	}
	var err error
	oa, err = fl.send(header)
	if err == nil && conditional && oa.StatusCode == http.StatusNotModified && !fl.selects(oa) {
		oa.Close()
		conditional = false
		oa, err = fl.send(withoutConditions(fl.r.header))
	}
	switch {
	case fl.ahead != nil && (err != nil || oa.StatusCode >= http.StatusBadRequest || oa.StatusCode == http.StatusPartialContent):
		fl.letBe(oa)
	case err != nil:
		fl.fail(err)
	case conditional && oa.StatusCode == http.StatusNotModified:
		fl.validated(oa)
	case oa.StatusCode == http.StatusNotModified && !(fl.asIs && asksIfModified(header)):
		oa.Close()
		fl.fail(errUnasked)
	case oa.StatusCode >= 500 && fl.standIn(oa.StatusCode):
		oa.Close()
	case fl.r.method == http.MethodHead:
		fl.headed(oa)
	case oa.StatusCode == http.StatusPartialContent:
		fl.judgePart(oa)
	default:
		fl.judge(oa)
	}
}

// outlive ends the flight after a bug, whose panic is v; nil is none. oa is what
// was open then.
func (fl *flight) outlive(v any, oa *originAnswer) {
	if v == nil {
		return
	}
	fl.p.panicked("fetch", v)
	if oa != nil {
		oa.Close()
	}
	fl.turn(phaseFailed, func() { fl.err = errBug })
}

// panicked counts and logs a panic that was stopped. It is called by the
// function that recovered.
func (p *Proxy) panicked(where string, v any) {
	p.m.panics.Inc()
	p.o.Log.Error("panic", "in", where, "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
}

func (fl *flight) send(header http.Header) (*originAnswer, error) {
	f := fetch{p: fl.p, r: fl.r, header: header, standIn: fl.mayStandIn(), info: func(code int, h http.Header) {
		block := infoBlock(h)
		fl.mu.Lock()
		if fl.leader && len(fl.infos) < maxInfos {
			fl.infos = append(fl.infos, interim{code, block})
			fl.cond.Broadcast()
		}
		fl.mu.Unlock()
	}}
	oa, err := f.do(fl.ctx)
	if err == nil {
		oa.finish(fl.p)
	}
	return oa, err
}

// mayStandIn reports whether the old answer may stand in for one that does not
// come.
func (fl *flight) mayStandIn() bool {
	if !fl.old.ok {
		return false
	}
	fr := fl.old.meta.freshness()
	return fl.r.site.standsIn(&fr, fl.p.o.Now(), 0)
}

// maxInfos bounds the interim answers of one fetch that are passed on.
const maxInfos = 32

// secondLook asks the store again, now that the stamp is taken: what it has now
// is not older than any purge before the stamp. It reports true if there is an
// answer that may be used as it is.
func (fl *flight) secondLook() bool {
	s := seeker{key: fl.r.key}
	f := fl.p.seek(fl.ctx, &s, fl.r, tiers.ReadOptions{Tiers: fl.where})
	if !f.ok {
		fl.turn(phaseWait, func() { fl.old.indexed = f.indexed })
		return false
	}
	fr := f.meta.freshness()
	enough := !fl.partial || f.meta.flags()&metaParted == 0
	now := fl.p.o.Now()
	wanted := fl.insist || fl.ahead != nil && fr.nearEnd(fl.r.site, now)
	if !wanted && enough && fr.usable(now, f.hit.Stale) == useFresh {
		f.hit.Release()
		return true
	}
	fl.turn(phaseWait, func() { fl.old = f })
	return false
}

// asksIfModified reports whether a 304 can be the answer.
func asksIfModified(header http.Header) bool {
	return len(header["If-None-Match"])+len(header["If-Modified-Since"]) > 0
}

// validators adds conditions for the old answer and reports whether there are
// any.
func (fl *flight) validators(header http.Header) bool {
	if !fl.old.ok || fl.lacks() {
		return false
	}
	m := fl.old.meta
	if etag := m.etag(); len(etag) > 0 {
		header["If-None-Match"] = []string{string(etag)}
	}
	if fr := m.freshness(); fr.lastModified != noTime {
		header["If-Modified-Since"] = []string{string(m.line("Last-Modified"))}
	}
	return m.hasValidator()
}

// fail ends the flight with an error, or with the old answer if that may stand
// in.
func (fl *flight) fail(err error) {
	if !errors.Is(err, errAbandoned) && fl.standIn(0) {
		return
	}
	fl.turn(phaseFailed, func() { fl.err = fl.failed(err) })
}

// standIn lets the old answer stand in for an origin's status, 0 for none. It
// reports false if it may not, or if bytes of the new one were sent.
func (fl *flight) standIn(status int) bool {
	if !fl.old.ok || fl.lacks() {
		return false
	}
	now := fl.p.o.Now()
	fr := fl.old.meta.freshness()
	fl.mu.Lock()
	started := fl.started
	fl.mu.Unlock()
	if started || !fl.r.site.standsIn(&fr, now, status) {
		return false
	}
	fl.turn(phaseStale, func() {
		fl.how = how{fwd: fwdStale, fwdStatus: status, hasTTL: true, ttl: fr.lifetime - fr.age(now), source: fl.old.hit.Source}
		if fl.old.hit.Source == tiers.FromNone {
			fl.how.detail = "stale-on-error"
		}
		fl.tags = fl.oldTags()
		fl.spec = strings.Clone(fl.old.meta.vary())
		fl.hash, _ = variantHash(fl.spec, fl.r, nil)
	})
	return true
}

// lacks reports whether the old answer is part of an object and not enough for
// the leader.
func (fl *flight) lacks() bool { return fl.partial && fl.old.meta.flags()&metaParted != 0 }

func (fl *flight) oldTags() []string { return tagsOf(fl.old.hit.View) }

// tagsOf returns copies of the tags of a stored answer.
func tagsOf(v item.View) (tags []string) {
	for t := range v.Tags {
		tags = append(tags, string([]byte(t)))
	}
	return tags
}
