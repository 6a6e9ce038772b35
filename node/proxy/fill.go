package proxy

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"time"

	"github.com/edgenode/edgenode/tiers"
	"github.com/edgenode/edgenode/tiers/item"
)

// verdictOf judges an answer with the site's rules and the policy.
func (p *Proxy) verdictOf(r *request, status int, h http.Header, sent, received, length int64) verdict {
	a := answer{method: r.method, authorization: r.authorized, ranged: r.ranged, status: status, header: h, sent: sent, received: received}
	v := r.site.judge(&a)
	v.tags = surrogateTags(h)
	for _, group := range groupsOf(h["Cache-Groups"]) {
		v.tags = append(v.tags, groupTag(r, group))
	}
	if p.o.Policy != nil {
		in := TTLInput{
			Site: r.site.Name, Method: r.method, URL: r.url, Request: r.header, Client: r.client, Status: status, Header: h,
			Lifetime: time.Duration(v.lifetime) * time.Millisecond, Known: v.explicit, Length: length,
		}
		var out TTLDecision
		p.o.Policy.TTL(&in, &out)
		out.Tags = slices.DeleteFunc(slices.Clone(out.Tags), func(t string) bool { return !validTag(t) })
		cc, _ := r.site.control(h)
		v.apply(r.site, &out, &cc)
		if v.refused {
			p.m.refusedOverrides.Inc()
		}
	}
	v.tags = append(slices.Clone(r.tags), v.tags...)
	return v
}

// freshOnArrival reports whether others may have an answer without asking the
// origin again.
func (v *verdict) freshOnArrival() bool {
	return v.share && v.flags&metaNoCache == 0 && v.lifetime > v.initialAge
}

// present renders an answer: the stored form for everybody, and the lines for
// the leader.
func (fl *flight) present(v *verdict, status int, h http.Header) {
	without := append([]string{"Age"}, notSent...)
	fl.meta = fl.p.storedForm(fl.r, status, v, h, append(without, v.withhold...))
	fl.block, _, _ = appendBlock(nil, h, notSent...)
	fl.spec, fl.tags = v.vary, v.tags
	fl.l1TTL, fl.l2TTL = v.l1TTL, v.l2TTL
	fl.hash, _ = variantHash(v.vary, fl.r, nil)
	fl.lang = [hashLen]byte{}
	if l := contentLanguage(h); l != "" && nominates(v.vary, acceptLanguage) {
		fl.lang, _ = languageHash(v.vary, l, fl.r, nil)
	}
}

// storedForm renders an answer as it is stored: the compact form if nobody but this
// process reads it.
func (p *Proxy) storedForm(r *request, status int, v *verdict, h http.Header, without []string) meta {
	names := namesOf(h, without)
	if r.writeTiers == item.L1 {
		c := compactForm{status: status, f: &v.freshness, header: h, vary: v.vary, url: r.url}
		c.own, c.with = p.blocks.divide(r.site.Name, h, names, p.o.Now())
		if b, ok := c.append(nil); ok {
			if c.with != nil {
				p.m.shared.Inc()
			}
			return meta{b, c.with}
		}
	}
	block, at, n := appendBlock(nil, h, without...)
	return meta{b: appendMeta(nil, status, &v.freshness, block, at, n, v.vary, keyNote(r.url))}
}

// judge decides what is done with a whole new answer, and does it.
func (fl *flight) judge(oa *originAnswer) {
	p, r := fl.p, fl.r
	v := p.verdictOf(r, oa.StatusCode, oa.Header, oa.sent, oa.received, oa.ContentLength)
	if v.share && oa.foreign() {
		v.share, v.reason = false, "transfer-coding"
	}
	if fl.leaves(&v) {
		fl.letBe(oa)
		return
	}
	fl.how = how{fwd: fl.fwd, fwdStatus: oa.StatusCode, refused: v.refused, detail: v.reason}
	if !v.share {
		fl.retire(oa.StatusCode, v.reason)
		fl.handOver(oa)
		return
	}
	parted := fl.inParts(oa)
	need := max(oa.ContentLength, 0)
	if parted {
		need = 2 * r.site.ChunkBytes
	}
	if !parted && oa.ContentLength > r.site.MaxObjectBytes || !fl.reserve(need) {
		if fl.ahead != nil {
			fl.letBe(oa)
			return
		}
		fl.how.detail = "too-large"
		fl.retire(oa.StatusCode, fl.how.detail)
		fl.handOver(oa)
		return
	}
	defer oa.Close()
	fl.turn(phaseBody, func() {
		fl.present(&v, oa.StatusCode, oa.Header)
		fl.length = oa.ContentLength
		if r.method == http.MethodHead || oa.StatusCode == http.StatusNoContent {
			fl.length = 0
		}
		if parted {
			fl.beginPartsLocked(&v.freshness, fl.newManifest(), 0)
		} else {
			fl.body = make([]byte, 0, min(max(fl.length, 0), 1<<20)+1) // one more: room to read the end
		}
		fl.private = !v.freshOnArrival()
	})
	fl.mark(!v.freshOnArrival())
	err := fl.readAll(oa, &v.freshness)
	if err == nil {
		fl.trailer = withoutNamed(oa.Trailer, v.withhold)
	}
	if fl.pack != nil {
		fl.concludeParts(&v.freshness, err)
		return
	}
	if err != nil {
		p.m.originBroken.Inc()
		fl.keepBroken(&v.freshness)
		fl.fail(err)
		return
	}
	stored := !fl.spilled && fl.store(&v.freshness, fl.body)
	if !stored {
		fl.retire(oa.StatusCode, "")
	}
	fl.turn(phaseDone, func() { fl.how.stored = stored })
}

// mark remembers whether answers of this class can be shared.
func (fl *flight) mark(alone bool) {
	h := fl.p.hashOf(fl.class)
	if alone {
		fl.p.lonely.add(h, fl.p.o.Now())
		return
	}
	fl.p.lonely.remove(h)
}

// handOver gives an answer that is not stored to the leader alone, who reads it
// from the origin; the waiters go themselves.
func (fl *flight) handOver(oa *originAnswer) {
	if !fl.r.ranged || fl.how.detail != "status" { // else it is the answer to ranges or conditions that nobody shares
		fl.mark(true)
	}
	fl.p.m.notStored.Inc()
	left := false
	fl.turn(phaseHanded, func() {
		if left = !fl.leader; !left {
			fl.oa = oa
		}
	})
	if left {
		oa.Close()
	}
}

// reserve counts n bytes more, unless that is above the limit.
func (p *Proxy) reserve(n int64) bool {
	if p.fillBytes.Add(n) <= p.o.MaxFillBytes {
		return true
	}
	p.fillBytes.Add(-n)
	return false
}

// reserve is that of the Proxy for the body, which counts until the last reader
// has left: a client that takes its time keeps it in memory.
func (fl *flight) reserve(n int64) bool {
	ok := fl.p.reserve(n)
	if ok {
		fl.reserved += n
	}
	return ok
}

// readAll reads the body into fl.body. When an answer of unknown length grows
// too large to be stored it spills: from then on it only runs a window ahead of
// the leader.
func (fl *flight) readAll(oa *originAnswer, f *freshness) error {
	if fl.pack != nil {
		return fl.readParts(oa, fl.length, nil)
	}
	if fl.length >= 0 {
		return fl.readSized(oa)
	}
	lent := fl.p.buffers.Get().(*[]byte)
	defer fl.p.buffers.Put(lent)
	buf := *lent
	for {
		n, err := oa.Read(buf)
		if n > 0 {
			if !fl.spilled && (!fl.reserve(int64(n)) || int64(len(fl.body)+n) > fl.r.site.MaxObjectBytes) {
				fl.spill()
			}
			if err := fl.append(buf[:n]); err != nil {
				return err
			}
			if !fl.spilled && err == nil && int64(len(fl.body)) > fl.r.site.ChunkBytes && fl.outgrow(f) {
				return fl.readParts(oa, -1, nil)
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// readSized is readAll for a body of announced length. It never spills: there is
// room for it. What is behind the end of fl.body is this goroutine's alone.
func (fl *flight) readSized(oa *originAnswer) error {
	const step = 64 << 10
	room := fl.body
	for {
		if len(room) == cap(room) {
			room = slices.Grow(room, step)
		}
		n, err := oa.Read(room[len(room):cap(room)])
		if n > 0 {
			room = room[:len(room)+n]
			fl.mu.Lock()
			fl.body = room
			fl.cond.Broadcast()
			fl.mu.Unlock()
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (fl *flight) spill() {
	fl.mark(true)
	fl.p.detach(fl)
	fl.mu.Lock()
	fl.spilled, fl.private = true, true
	fl.how.detail = "too-large"
	fl.cond.Broadcast()
	fl.mu.Unlock()
}

// append adds bytes to the body. While the answer spills it waits until the
// leader is no more than a window behind.
func (fl *flight) append(b []byte) error {
	fl.mu.Lock()
	defer fl.mu.Unlock()
	if fl.spilled {
		for fl.leader && fl.off+int64(len(fl.body))-fl.fastest > window && fl.ctx.Err() == nil {
			fl.cond.Wait()
		}
		if !fl.leader || fl.ctx.Err() != nil {
			return errAbandoned
		}
		if done := fl.fastest - fl.off; done > 0 {
			fl.body = append([]byte(nil), fl.body[done:]...)
			fl.off = fl.fastest
		}
	}
	fl.body = append(fl.body, b...)
	fl.cond.Broadcast()
	return nil
}

// store puts the answer into the engine and reports whether it is there.
func (fl *flight) store(f *freshness, content []byte) bool { return fl.storeAs(fl.meta, f, content) }

// storeAs is store with other response metadata: that of an answer in parts.
func (fl *flight) storeAs(m meta, f *freshness, content []byte) bool {
	p := fl.p
	ttl := fl.r.site.expiresIn(f, m.hasValidator()) - max(p.o.Now()-f.received, 0)
	if ttl <= 0 {
		p.m.notStored.Inc()
		return false
	}
	w := tiers.Write{
		Key: fl.r.key, Content: content, MIME: string(m.line("Content-Type")), Tags: fl.tags,
		Response: m.b, Tiers: fl.r.writeTiers, TTL: min(time.Duration(ttl)*time.Millisecond, p.o.MaxLifetime),
		L1TTL: fl.l1TTL, L2TTL: fl.l2TTL, Durability: item.DurabilityMemory, Version: fl.stamp,
	}
	// The request of a client must not end what serves the next one.
	ctx := context.WithoutCancel(fl.ctx)
	if fl.spec != "" || fl.old.indexed {
		return fl.storeVariant(ctx, &w, m)
	}
	return fl.submit(ctx, &w)
}

// submit stores w and reports whether it is there.
func (fl *flight) submit(ctx context.Context, w *tiers.Write) bool {
	if _, err := fl.p.o.Engine.Submit(ctx, w); err != nil {
		fl.notStored(err)
		return false
	}
	fl.p.m.stored.Inc()
	return true
}

func (fl *flight) notStored(err error) {
	if errors.Is(err, tiers.ErrPurged) {
		fl.p.m.purgedMeanwhile.Inc()
		return
	}
	fl.p.m.notStored.Inc()
	if !errors.Is(err, tiers.ErrSuperseded) && !errors.Is(err, tiers.ErrPressure) {
		fl.p.o.Log.Warn("answer not stored", "site", fl.r.site.Name, "error", err)
	}
}
