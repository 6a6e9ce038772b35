package proxy

import (
	"context"
	"errors"
	"io"
	"net/http"
)

// fill answers a request that the store could not answer. It reports false if
// the store is to be asked again.
func (p *Proxy) fill(st *state, f *found, try int) bool {
	if st.cacheControl && requestDirectives(st).flags&ccOnlyIfCached != 0 {
		p.refuse(st, failNotCached, how{neither: true, detail: "only-if-cached"})
		return true
	}
	if p.loops(st) {
		p.refuse(st, failLoop, how{fwd: f.reason})
		return true
	}
	if (!f.ok || f.partial) && st.x.Method() == http.MethodHead || st.storeNot { // what is stored may be used, but nothing is (RFC 9111 §5.2.1.5)
		p.pass(st, f.why(st))
		return true
	}
	class := st.classOf()
	apart := (!f.ok || f.partial) && (st.ranged && !f.small(st) || p.lonely.has(p.hashOf(class), p.o.Now()))
	fl := p.near(st, class, apart && try < 3)
	leads := fl == nil
	var err error
	if fl != nil {
		apart = false
	} else if st.x.Method() == http.MethodHead && f.ok {
		fl, err = p.askHead(st, f, class)
	} else if apart || st.alone || try >= 3 || p.lonely.has(p.hashOf(class), p.o.Now()) {
		fl = p.newFlight(st, f, class)
		fl.refs, fl.readers, fl.leader = 2, 1, true
		fl.asIs = apart
		fl.r.ranged = fl.r.ranged || apart && st.cond.any
		fl.insist = fl.insist || try >= 3
		_, err = p.launch(fl)
	} else {
		fl, leads, err = p.join(st, f, class)
	}
	switch {
	case errors.Is(err, errWaiters):
		p.m.waitersRefused.Inc()
		p.refuse(st, failWaiters, how{fwd: f.reason})
		return true
	case err != nil:
		p.refuse(st, failureOf(err), how{fwd: f.reason})
		return true
	}
	defer fl.leave(leads)
	if leads {
		return p.lead(st, fl)
	}
	return p.wait(st, fl, try)
}

// refreshBehind starts a fetch that nobody waits for, unless one for the same
// is under way.
func (p *Proxy) refreshBehind(st *state) {
	class := st.classOf()
	if p.underWay(class) {
		return
	}
	fl := p.newFlight(st, &found{ok: true}, class)
	fl.refs, fl.behind, fl.shared = 1, true, true
	if other, err := p.launch(fl); other || err != nil {
		fl.cancel(errAbandoned)
		return
	}
	p.m.background.Inc()
}

// underWay reports whether a fetch that may be joined is under way for a class.
func (p *Proxy) underWay(class string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.flights[class] != nil
}

// lead serves the request that began a flight.
func (p *Proxy) lead(st *state, fl *flight) bool {
	ph := p.ready(st.x.Context(), st, fl, true)
	switch ph {
	case phaseAgain:
		return false
	case phaseHanded:
		if oa := fl.take(); oa != nil {
			p.m.misses.Inc()
			if fl.keep != nil {
				p.relayKeeping(st, oa, fl)
				return true
			}
			p.relay(st, oa, &fl.how, fl.r)
			return true
		}
		p.refuse(st, failBroken, fl.how)
	case phaseDone, phaseStale:
		if fl.pack == nil {
			p.deliver(st, fl, ph, true)
			return true
		}
		p.follow(st, fl, true)
	case phaseBody:
		if p.follow(st, fl, true) {
			return true
		}
		return p.lead(st, fl)
	default:
		p.refuse(st, failureOf(fl.failure()), how{fwd: fl.fwd})
	}
	return true
}

// wait serves a request that joined a flight. Whether it may have the answer is
// decided before a byte of it is sent.
func (p *Proxy) wait(st *state, fl *flight, try int) bool {
	p.waiters.Add(1)
	defer p.waiters.Add(-1)
	ctx, cancel := context.WithTimeout(st.x.Context(), fl.r.pool.FirstByteTimeout)
	defer cancel()
	ph := p.ready(ctx, st, fl, false)
	switch ph {
	case phaseAgain:
		return false
	case phaseHanded:
		st.alone = true
		p.m.released.Inc()
		return false
	case phaseBody, phaseDone, phaseStale:
		return p.partake(st, fl, ph)
	case phaseFailed:
		if err := fl.failure(); try > 0 && !errors.Is(err, errAbandoned) {
			p.refuse(st, failureOf(err), how{fwd: fl.fwd, collapsed: true})
			return true
		}
		return false
	}
	if p.standInFor(st, fl) {
		return true
	}
	if fl.phaseNow() == phaseBody && st.x.Context().Err() == nil {
		// A body of unknown length comes slowly, and may yet become too large.
		st.alone = true
		p.m.released.Inc()
		return false
	}
	p.refuse(st, failTimeout, how{fwd: fl.fwd, collapsed: true})
	return true
}

// standInFor gives a waiter whose time is up the old answer, if that may stand
// in for one that did not come.
func (p *Proxy) standInFor(st *state, fl *flight) bool {
	fl.mu.Lock()
	old := fl.old
	fl.mu.Unlock()
	if !old.ok || old.meta.vary() != "" || fl.lacks() {
		return false
	}
	now := p.o.Now()
	fr := old.meta.freshness()
	if !st.site.standsIn(&fr, now, 0) || p.o.Engine.CoveredSince(fl.r.key, fl.oldTags(), fl.stamp) {
		return false
	}
	p.m.stale.Inc()
	p.send(st, &reply{
		meta: old.meta, content: old.hit.View.Content(), stored: old.hit.View,
		how: how{fwd: fwdStale, collapsed: true, hasTTL: true, ttl: fr.lifetime - fr.age(now), source: old.hit.Source},
	})
	return true
}

// partake gives a waiter the answer of a flight if it may have it: shareable,
// selected by its fields, and not purged since the fetch began. Else it reports
// false.
func (p *Proxy) partake(st *state, fl *flight, ph phase) bool {
	fl.mu.Lock()
	private := fl.private
	fl.mu.Unlock()
	if private && ph != phaseStale {
		st.alone = true
		p.m.released.Inc()
		return false
	}
	if !p.suits(st, fl) {
		return false
	}
	if ph == phaseBody || fl.pack != nil {
		return p.follow(st, fl, false)
	}
	if !p.suffices(st, fl) {
		st.alone = true
		return false
	}
	p.m.collapsed.Inc()
	p.deliver(st, fl, ph, false)
	return true
}

// suits reports whether the answer of a flight is the one that the request's
// fields select, and not purged since the fetch began.
func (p *Proxy) suits(st *state, fl *flight) bool {
	fl.mu.Lock()
	spec, hash, tags := fl.spec, fl.hash, fl.tags
	fl.mu.Unlock()
	if spec != "" {
		var mine [hashLen]byte
		if mine, st.scratch = variantHash(spec, st, st.scratch[:0]); mine != hash {
			return false
		}
	}
	return !p.o.Engine.CoveredSince(fl.r.key, tags, fl.stamp)
}

// suffices reports whether the stored answer that a flight has renewed, if it
// is one in parts, is enough for a waiter.
func (p *Proxy) suffices(st *state, fl *flight) bool {
	if !fl.old.ok || fl.old.meta.flags()&metaParted == 0 {
		return true
	}
	old := fl.old
	return p.enough(st, &old)
}

// ready waits until the request can be decided and returns the phase. It
// returns phaseWait if ctx ended before. For the leader it passes interim
// answers on.
func (p *Proxy) ready(ctx context.Context, st *state, fl *flight, leads bool) phase {
	stop := fl.wakeOn(ctx)
	defer stop()
	fl.mu.Lock()
	defer fl.mu.Unlock()
	for {
		for leads && len(fl.infos) > 0 {
			in := fl.infos[0]
			fl.infos = fl.infos[1:]
			fl.mu.Unlock()
			p.inform(st, in)
			fl.mu.Lock()
		}
		switch {
		case fl.phase >= phaseDone:
			return fl.phase
		case fl.phase == phaseBody && !fl.holdsLocked(st, leads):
			return phaseBody
		case ctx.Err() != nil:
			return phaseWait
		}
		fl.cond.Wait()
	}
}

// wakeOn makes readers look again when ctx ends.
func (fl *flight) wakeOn(ctx context.Context) (stop func() bool) {
	return context.AfterFunc(ctx, func() {
		fl.mu.Lock()
		fl.cond.Broadcast()
		fl.mu.Unlock()
	})
}

// holdsLocked reports whether a reader should wait for the whole body: it is
// small, or conditions or ranges must be seen against it, or the old answer
// could still stand in. A waiter follows only a body of known length.
func (fl *flight) holdsLocked(st *state, leads bool) bool {
	if fl.spilled || fl.pack != nil || !leads && fl.private {
		return false
	}
	if st.cond.any || st.cond.ranges != nil {
		return true
	}
	if fl.length >= 0 {
		return fl.length <= smallBody
	}
	// With a strong entity tag it will be stored in parts when it grows.
	return !leads && strongTag(fl.meta) == "" || fl.old.ok && len(fl.body) <= smallBody
}

func (p *Proxy) inform(st *state, in interim) {
	if !st.x.HTTP10() {
		p.sent(st.x.Informational(in.code, in.block))
	}
}

// take hands the origin's answer to the leader.
func (fl *flight) take() *originAnswer {
	fl.mu.Lock()
	defer fl.mu.Unlock()
	oa := fl.oa
	fl.oa = nil
	return oa
}

func (fl *flight) failure() error {
	fl.mu.Lock()
	defer fl.mu.Unlock()
	if fl.err == nil {
		return errAbandoned
	}
	return fl.err
}

// deliver sends a whole answer of a flight.
func (p *Proxy) deliver(st *state, fl *flight, ph phase, leads bool) {
	fl.mu.Lock()
	r := reply{meta: fl.meta, content: fl.body, how: fl.how, stored: fl.old.hit.View}
	if leads {
		r.block = fl.block
	}
	trailed := ph == phaseDone && len(fl.trailer) > 0 && !st.cond.any && st.cond.ranges == nil
	if ph == phaseStale {
		r.meta, r.content, r.block = fl.old.meta, fl.old.hit.View.Content(), nil
	}
	fl.mu.Unlock()
	if trailed && st.sink() != nil && p.follow(st, fl, leads) {
		return
	}
	r.how.collapsed = !leads
	if leads {
		if ph == phaseStale {
			p.m.stale.Inc()
		} else {
			p.m.misses.Inc()
		}
	}
	p.send(st, &r)
}

// follow sends the body of a flight as it comes in. It reports false if the
// flight ended another way before the first byte, or if the bytes that are asked
// for are far from those that come.
func (p *Proxy) follow(st *state, fl *flight, leads bool) bool {
	fl.mu.Lock()
	if fl.phase != phaseBody && fl.phase != phaseDone {
		fl.mu.Unlock()
		return false
	}
	r := reply{meta: fl.meta, how: fl.how}
	if leads {
		r.block = fl.block
	}
	length, parted := fl.length, fl.pack != nil
	fl.mu.Unlock()
	var spans []span
	var none bool
	if parted && length >= 0 {
		if spans, none = p.wants(st, r.meta, length); len(spans) > 1 {
			spans = nil // several are served when it is stored
		}
		if len(spans) == 1 && !leads && !fl.comes(spans[0].first) {
			st.alone = true
			return false
		}
	}
	r.how.collapsed = !leads
	fl.begun()
	p.count(leads)
	if p.sendUnmet(st, &r) {
		return true
	}
	if none {
		p.sendUnsatisfiable(st, &r, length)
		return true
	}
	first, end := int64(0), length
	if len(spans) == 1 {
		p.m.ranges.Inc()
		first, end = spans[0].first, spans[0].last+1
		p.sendPartHead(st, &r, spans[0], length)
	} else {
		st.x.Status(r.meta.status())
		p.sendFields(st, &r)
	}
	if st.x.Method() == http.MethodHead {
		p.sent(st.x.SendSized(length))
		return true
	}
	reader := p.flightReader(st, fl, &r)
	defer reader.close()
	stop := fl.wakeOn(st.x.Context())
	defer stop()
	p.sendSpan(st, reader, nil, first, end)
	return true
}

// flightReader returns a reader of what a flight brings.
func (p *Proxy) flightReader(st *state, fl *flight, r *reply) *partReader {
	return &partReader{p: p, st: st, fl: fl, etag: strongTag(r.meta)}
}

// begun notes that bytes were sent: no old answer stands in any more.
func (fl *flight) begun() {
	fl.mu.Lock()
	fl.started = true
	fl.mu.Unlock()
}

func (p *Proxy) count(leads bool) {
	if leads {
		p.m.misses.Inc()
	} else {
		p.m.collapsed.Inc()
	}
}

// comes reports whether the bytes at pos are there or will be soon.
func (fl *flight) comes(pos int64) bool {
	fl.mu.Lock()
	defer fl.mu.Unlock()
	if fl.phase != phaseBody {
		return true
	}
	if _, where := fl.pack.copyAt(pos, nil); where == lookStored {
		return true
	}
	return pos <= fl.pack.at()+fl.r.site.ChunkBytes
}

// near returns the flight under way that will soon bring the bytes that a
// request for a range asks for, counted as one of its readers; nil if there is
// none. Others that ask for ranges go to the origin by themselves.
func (p *Proxy) near(st *state, class string, apart bool) *flight {
	if !apart || !st.ranged || st.alone {
		return nil
	}
	p.mu.Lock()
	fl := p.flights[class]
	if fl == nil {
		p.mu.Unlock()
		return nil
	}
	entered, _ := fl.enter(st.site.WaitersMax)
	p.mu.Unlock()
	if !entered {
		return nil
	}
	fl.mu.Lock()
	ready, length, m := fl.phase == phaseBody && fl.pack != nil && !fl.private, fl.length, fl.meta
	fl.mu.Unlock()
	if ready && length >= 0 && p.suits(st, fl) {
		if spans, _ := p.wants(st, m, length); len(spans) == 1 && fl.comes(spans[0].first) {
			return fl
		}
	}
	fl.leave(false)
	return nil
}

// small reports whether what is stored is part of an object that is better asked
// for whole: its length is known, it fits one segment, and only one gap is left.
func (f *found) small(st *state) bool { return f.ok && f.partial && f.whole && !st.alone }

// writeThrough writes and flushes if the writer can.
func writeThrough(w io.Writer, b []byte) error {
	if _, err := w.Write(b); err != nil {
		return err
	}
	if f, ok := w.(interface{ Flush() error }); ok {
		return f.Flush()
	}
	return nil
}
