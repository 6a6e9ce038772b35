package proxy

import (
	"context"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/edgenode/edgenode/tiers"
	"github.com/edgenode/edgenode/tiers/item"
)

// A part is what a 206 with one range brings of an object.
type part struct {
	span
	size int64 // of the whole; -1 unknown
}

// partOf reads what a 206 with one range brings. It reports false for any other
// answer, for one whose length is not that of its range, for one whose content is
// in a form of its own (several ranges, an unknown transfer coding), and, unless
// etag is "", for one that does not carry this entity tag.
func partOf(oa *originAnswer, etag string) (part, bool) {
	ranges := oa.Header["Content-Range"]
	if oa.StatusCode != http.StatusPartialContent || len(ranges) != 1 || etag != "" && !oa.carries(etag) || oa.foreign() || oa.multipart() {
		return part{}, false
	}
	pt, ok := parseContentRange(ranges[0])
	if !ok || oa.ContentLength >= 0 && oa.ContentLength != pt.last-pt.first+1 {
		return part{}, false
	}
	return pt, true
}

// carries reports whether the answer has this entity tag and no other.
func (a *originAnswer) carries(etag string) bool {
	tags := a.Header["Etag"]
	return len(tags) == 1 && tags[0] == etag
}

// multipart reports whether the content is several ranges: such an answer has no
// Content-Range of its own (RFC 9110 §15.3.7.2).
func (a *originAnswer) multipart() bool {
	const several = "multipart/byteranges"
	for _, kind := range a.Header["Content-Type"] {
		if kind = strings.Trim(kind, " \t"); len(kind) >= len(several) && strings.EqualFold(kind[:len(several)], several) {
			return true
		}
	}
	return false
}

// parseContentRange reads "bytes 0-9/10" and "bytes 0-9/*" (RFC 9110 §14.4).
func parseContentRange(s string) (pt part, ok bool) {
	unit, rest, _ := strings.Cut(strings.Trim(s, " \t"), " ")
	bytes, size, found := strings.Cut(rest, "/")
	if !found || !strings.EqualFold(unit, "bytes") {
		return pt, false
	}
	first, last, _ := strings.Cut(bytes, "-")
	var ok1, ok2 bool
	pt.first, ok1 = bigDigits(first)
	pt.last, ok2 = bigDigits(last)
	if pt.size, ok = bigDigits(size); !ok && size == "*" {
		pt.size, ok = -1, true
	}
	return pt, ok && ok1 && ok2 && pt.first <= pt.last && pt.last < noEnd && (pt.size < 0 || pt.last < pt.size)
}

// A keeper stores what a 206 brings while it is passed on.
type keeper struct {
	fl   *flight
	oa   *originAnswer
	pack *packer
	part part
	etag string // strong; "": the part stays alone
	lied bool   // the content was not as long as its range
}

// judgePart decides what is done with a 206: it goes to the leader, and is stored
// if the leader asked for it and the whole might be stored.
func (fl *flight) judgePart(oa *originAnswer) {
	p := fl.p
	pt, ok := partOf(oa, "")
	// A part may be stored if the whole might be (RFC 9111 §3.3).
	v := p.verdictOf(fl.r, http.StatusOK, oa.Header, oa.sent, oa.received, pt.size)
	fl.how = how{fwd: fl.fwd, fwdStatus: oa.StatusCode, refused: v.refused, detail: v.reason}
	if ok && v.share && fl.asIs && fl.reserve(2*fl.r.site.ChunkBytes) {
		fl.keep = fl.keeperOf(oa, &v, pt)
		p.mu.Lock()
		p.filling[string(fl.r.key)]++ // until the last has left: the fill ends before it is stored
		p.mu.Unlock()
	}
	fl.handLeader(oa)
}

// handLeader leaves an answer to the leader alone.
func (fl *flight) handLeader(oa *originAnswer) {
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

func (fl *flight) keeperOf(oa *originAnswer, v *verdict, pt part) *keeper {
	fl.present(v, http.StatusOK, withoutRange(oa.Header))
	k := &keeper{fl: fl, oa: oa, part: pt, etag: strongTag(fl.meta)}
	man := manifest{size: pt.size, chunk: fl.r.site.ChunkBytes, gen: fl.stamp}
	if old, ok := k.combinable(fl.old); ok {
		man, fl.tags = old, mergeTags(fl.tags, fl.oldTags())
	}
	k.pack = newPacker(fl.p, fl.storeKey(), man, fl.segments(&v.freshness), pt.first)
	return k
}

// combinable returns what is stored of the object if the part may be added to
// it: the same strong entity tag, the same length (RFC 9111 §3.4).
func (k *keeper) combinable(f found) (manifest, bool) {
	if !f.ok || k.etag == "" || strongTag(f.meta) != k.etag {
		return manifest{}, false
	}
	man, ok := manifestOf(f.meta, f.hit.View.Content())
	if !ok || man.size >= 0 && k.part.size >= 0 && man.size != k.part.size {
		return manifest{}, false
	}
	if man.size < 0 {
		if man.size = k.part.size; man.size >= 0 && len(man.runs) > 0 && man.runs[len(man.runs)-1].end > man.size {
			return manifest{}, false
		}
	}
	return man, true
}

// done stores the manifest of what was kept, together with what others have
// stored of the object meanwhile.
func (k *keeper) done() {
	fl, p := k.fl, k.fl.p
	k.pack.flush()
	mine := k.pack.manifest()
	if len(mine.runs) == 0 || k.lied || fl.wholeComes() {
		return
	}
	lock := &p.partLocks[p.hashOf(string(fl.r.key))%uint64(len(p.partLocks))]
	lock.Lock()
	defer lock.Unlock()
	ctx := context.WithoutCancel(fl.ctx)
	s := seeker{key: fl.r.key}
	now := p.seek(ctx, &s, fl.r, tiers.ReadOptions{Tiers: fl.r.site.Tiers})
	h := withoutRange(k.oa.Header)
	var theirTags []string
	if now.ok {
		defer now.hit.Release()
		theirs, combine := k.combinable(now)
		switch {
		case now.meta.flags()&metaParted == 0 && (k.etag == "" || strongTag(now.meta) == k.etag):
			return // the whole is there
		case combine && theirs.gen != mine.gen && named(theirs) >= named(mine):
			return
		case combine && theirs.gen == mine.gen:
			for _, r := range theirs.runs {
				mine.add(r)
			}
		}
		if combine {
			theirTags = tagsOf(now.hit.View)
			h = updated(now.meta, k.oa.Header)
		}
	}
	v := p.updateVerdict(fl.r, http.StatusOK, k.oa, h, mine.size)
	if !v.share {
		return
	}
	fl.present(&v, http.StatusOK, h)
	fl.tags = mergeTags(fl.tags, theirTags) // of their bytes
	fl.storeManifest(&v.freshness, &mine)
}

// wholeComes reports whether another fetch is about to store the whole of what
// this one has a part of. The part, whose request left later, would keep it from
// being stored.
func (fl *flight) wholeComes() bool {
	fl.p.mu.Lock()
	other := fl.p.flights[fl.class]
	fl.p.mu.Unlock()
	if other == nil {
		return false
	}
	other.mu.Lock()
	defer other.mu.Unlock()
	return other.phase < phaseBody || other.spec == fl.spec && other.hash == fl.hash
}

// named returns how many bytes a manifest names.
func named(m manifest) (n int64) {
	for _, r := range m.runs {
		n += r.end - r.first
	}
	return n
}

func withoutRange(h http.Header) http.Header {
	h = h.Clone()
	delete(h, "Content-Range")
	return h
}

// storeKey returns the key under which the answer is stored; its nominated
// names are known.
func (fl *flight) storeKey() item.Key {
	if fl.spec != "" || fl.old.indexed {
		return variantKey(nil, fl.r.key, fl.hash[:])
	}
	return fl.r.key
}

// segments returns what the segments of an object have in common. They outlive
// its record, so that a 304 can renew it without touching them.
func (fl *flight) segments(f *freshness) tiers.Write {
	ttl := fl.r.site.expiresIn(f, true)
	w := segmentsLike(fl.r.writeTiers, fl.tags, min(time.Duration(ttl)*time.Millisecond, fl.p.o.MaxLifetime), fl.p.o.MaxLifetime)
	w.Version, w.L1TTL, w.L2TTL = fl.stamp, fl.l1TTL, fl.l2TTL
	return w
}

// segmentsLike returns what the segments of an object have in common whose
// record lives for ttl.
func segmentsLike(where item.Tiers, tags []string, ttl, longest time.Duration) tiers.Write {
	return tiers.Write{
		Tags: tags, Tiers: where, MIME: "application/octet-stream", Durability: item.DurabilityMemory,
		TTL: min(2*max(ttl, 0)+24*time.Hour, longest),
	}
}

// storeManifest stores the record of an object in parts; a small one that is
// whole by now becomes one that is stored whole.
func (fl *flight) storeManifest(f *freshness, man *manifest) bool {
	if man.complete() && man.size <= fl.r.site.ChunkBytes {
		if body := make([]byte, man.size); fl.p.assemble(context.WithoutCancel(fl.ctx), fl.storeKey(), man, body, fl.r.writeTiers) {
			return fl.store(f, body)
		}
	}
	return fl.storeAs(fl.meta.parted(), f, man.append(nil))
}

// assemble fills in the bytes that a manifest names, for an object of len(body)
// bytes. It reports false if some are gone.
func (p *Proxy) assemble(ctx context.Context, main item.Key, man *manifest, body []byte, where item.Tiers) bool {
	for _, r := range man.runs {
		for pos := r.first; pos < r.end; {
			first, end, _ := man.segment(pos)
			hit, ok := p.segment(ctx, main, man, first, where)
			if !ok {
				return false
			}
			content := hit.View.Content()
			enough := int64(len(content)) >= end-first
			if enough {
				copy(body[first:end], content)
			}
			hit.Release()
			if !enough {
				return false
			}
			pos = end
		}
	}
	return true
}

// relayKeeping is relay for a 206 that is stored on its way. When the client
// leaves, the rest is read as long as little is missing.
func (p *Proxy) relayKeeping(st *state, oa *originAnswer, fl *flight) {
	defer oa.Close()
	defer fl.keep.done()
	w := p.relayHead(st, oa, &fl.how, fl.r)
	if w == nil {
		return
	}
	left := fl.keep.part.last - fl.keep.part.first + 1
	gone := false
	buf := make([]byte, pieceBytes)
	for {
		n, err := oa.Read(buf)
		if int64(n) > left || err == io.EOF && int64(n) < left {
			fl.keep.lied = true
		}
		n = int(min(int64(n), left))
		if left -= int64(n); n > 0 {
			fl.keep.pack.write(buf[:n])
			if !gone {
				if werr := writeThrough(w, buf[:n]); werr != nil {
					p.sent(werr)
					gone = true
					st.x.Abort()
				}
			}
		}
		switch {
		case err == io.EOF:
			return
		case err != nil:
			p.m.originBroken.Inc()
			if !gone {
				p.m.cut.Inc()
				st.x.Abort()
			}
			return
		case gone && left >= fl.r.site.FinishFillBytes:
			return
		}
	}
}
