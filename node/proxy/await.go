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
	if !f.ok && st.x.Method() == http.MethodHead || st.storeNot { // what is stored may be used, but nothing is (RFC 9111 §5.2.1.5)
		p.pass(st, f.why(st))
		return true
	}
	class := st.classOf()
	apart := !f.ok && (st.ranged || p.lonely.has(p.hashOf(class), p.o.Now()))
	var fl *flight
	leads := true
	var err error
	if st.x.Method() == http.MethodHead && f.ok {
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
	p.mu.Lock()
	busy := p.flights[class] != nil
	p.mu.Unlock()
	if busy {
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

// lead serves the request that began a flight.
func (p *Proxy) lead(st *state, fl *flight) bool {
	ph := p.ready(st.x.Context(), st, fl, true)
	switch ph {
	case phaseAgain:
		return false
	case phaseHanded:
		if oa := fl.take(); oa != nil {
			p.m.misses.Inc()
			p.relay(st, oa, &fl.how, fl.r)
			return true
		}
		p.refuse(st, failBroken, fl.how)
	case phaseDone, phaseStale:
		p.deliver(st, fl, ph, true)
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
	p.refuse(st, failTimeout, how{fwd: fl.fwd, collapsed: true})
	return true
}

// standInFor gives a waiter whose time is up the old answer, if that may stand
// in for one that did not come.
func (p *Proxy) standInFor(st *state, fl *flight) bool {
	fl.mu.Lock()
	old := fl.old
	fl.mu.Unlock()
	if !old.ok || old.meta.vary() != "" {
		return false
	}
	now := p.o.Now()
	fr := old.meta.freshness()
	if !st.site.standsIn(&fr, now, 0) || p.o.Engine.CoveredSince(fl.r.key, fl.oldTags(), fl.stamp) {
		return false
	}
	p.m.stale.Inc()
	p.send(st, &reply{
		meta: old.meta, content: old.hit.View.Content(),
		how: how{fwd: fwdStale, collapsed: true, hasTTL: true, ttl: fr.lifetime - fr.age(now), source: old.hit.Source},
	})
	return true
}

// partake gives a waiter the answer of a flight if it may have it: shareable,
// selected by its fields, and not purged since the fetch began. Else it reports
// false.
func (p *Proxy) partake(st *state, fl *flight, ph phase) bool {
	fl.mu.Lock()
	private, spec, hash, tags := fl.private, fl.spec, fl.hash, fl.tags
	fl.mu.Unlock()
	if private && ph != phaseStale {
		st.alone = true
		p.m.released.Inc()
		return false
	}
	if spec != "" {
		var mine [hashLen]byte
		if mine, st.scratch = variantHash(spec, st, st.scratch[:0]); mine != hash {
			return false
		}
	}
	if p.o.Engine.CoveredSince(fl.r.key, tags, fl.stamp) {
		return false
	}
	p.m.collapsed.Inc()
	if ph == phaseBody {
		return p.follow(st, fl, false)
	}
	p.deliver(st, fl, ph, false)
	return true
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
	if fl.spilled || !leads && fl.private {
		return false
	}
	if st.cond.any || st.cond.ranges != nil {
		return true
	}
	if fl.length >= 0 {
		return fl.length <= smallBody
	}
	return !leads || fl.old.ok && len(fl.body) <= smallBody
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
	r := reply{meta: fl.meta, content: fl.body, how: fl.how}
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
// flight ended another way before the first byte.
func (p *Proxy) follow(st *state, fl *flight, leads bool) bool {
	fl.mu.Lock()
	if fl.phase != phaseBody && fl.phase != phaseDone {
		fl.mu.Unlock()
		return false
	}
	fl.started = true
	r := reply{meta: fl.meta, how: fl.how}
	if leads {
		r.block = fl.block
	}
	length := fl.length
	fl.mu.Unlock()
	r.how.collapsed = !leads
	if status := r.meta.status(); st.cond.any && status >= 200 && status < 300 {
		st.cond.ranges = nil
		if p.sendPart(st, &r) {
			return true
		}
	}
	st.x.Status(r.meta.status())
	p.sendFields(st, &r)
	if st.x.Method() == http.MethodHead {
		p.sent(st.x.SendSized(length))
		return true
	}
	w, err := st.x.Stream(length)
	if err != nil {
		p.sent(err)
		return true
	}
	if leads {
		p.m.misses.Inc()
	}
	p.copyBody(st, fl, w, leads)
	return true
}

func (p *Proxy) copyBody(st *state, fl *flight, w io.Writer, leads bool) {
	ctx := st.x.Context()
	stop := fl.wakeOn(ctx)
	defer stop()
	for pos := int64(0); ; {
		chunk, ph := fl.next(ctx, pos, leads)
		if len(chunk) == 0 {
			if ph == phaseDone {
				p.trail(st, fl.trailer)
			} else {
				p.m.cut.Inc()
				st.x.Abort()
			}
			return
		}
		if err := writeThrough(w, chunk); err != nil {
			p.sent(err)
			st.x.Abort()
			return
		}
		pos += int64(len(chunk))
	}
}

// next returns the bytes from pos on, waiting for some. It returns none at the
// end, with the phase that ended it.
func (fl *flight) next(ctx context.Context, pos int64, leads bool) ([]byte, phase) {
	fl.mu.Lock()
	defer fl.mu.Unlock()
	if leads && pos > fl.taken {
		fl.taken = pos
		if fl.spilled {
			fl.cond.Broadcast()
		}
	}
	for pos == fl.off+int64(len(fl.body)) && fl.phase == phaseBody && ctx.Err() == nil {
		fl.cond.Wait()
	}
	if ctx.Err() != nil {
		return nil, phaseFailed
	}
	return fl.body[pos-fl.off:], fl.phase
}

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
