package proxy

import (
	"context"
	"errors"
	"io"
	"net/http"
)

// inParts reports whether a new answer is stored in segments: it is larger than
// one and has a strong entity tag, under which a reader that misses one can ask
// for it (RFC 9111 §3.4).
func (fl *flight) inParts(oa *originAnswer) bool {
	return fl.r.method == http.MethodGet && oa.StatusCode == http.StatusOK && oa.ContentLength > fl.r.site.ChunkBytes &&
		len(oa.Header["Etag"]) == 1 && strongTagOf(oa.Header["Etag"][0])
}

func strongTagOf(s string) bool { return s[:min(len(s), 1)] == `"` && tagLen([]byte(s)) == len(s) }

// beginPartsLocked makes the flight one that stores segments. What is in
// fl.body stays there for those who read it.
func (fl *flight) beginPartsLocked(f *freshness, man manifest, pos int64) {
	fl.pack = newPacker(fl.p, fl.storeKey(), man, fl.segments(f), pos)
}

// newManifest describes an object of which nothing is stored yet.
func (fl *flight) newManifest() manifest {
	return manifest{size: fl.length, chunk: fl.r.site.ChunkBytes, gen: fl.stamp}
}

// outgrow turns an answer of unknown length that became larger than a segment
// into one in parts, if it has a strong entity tag and there is room. It
// reports false if not.
func (fl *flight) outgrow(f *freshness) bool {
	if fl.meta.status() != http.StatusOK || strongTag(fl.meta) == "" || !fl.reserve(2*fl.r.site.ChunkBytes) {
		return false
	}
	pack := newPacker(fl.p, fl.storeKey(), fl.newManifest(), fl.segments(f), 0)
	pack.write(fl.body)
	fl.mu.Lock()
	fl.pack, fl.body = pack, nil
	fl.cond.Broadcast()
	fl.mu.Unlock()
	return true
}

// keepUp waits until the fastest reader is no more than a window behind.
func (fl *flight) keepUp() error {
	fl.mu.Lock()
	defer fl.mu.Unlock()
	for fl.readers > 0 && fl.pack.at()-fl.fastest > window && fl.ctx.Err() == nil {
		fl.cond.Wait()
	}
	return context.Cause(fl.ctx)
}

// appendParts takes bytes of an object in parts.
func (fl *flight) appendParts(b []byte) error {
	if err := fl.keepUp(); err != nil {
		return err
	}
	fl.pack.write(b)
	fl.mu.Lock()
	fl.cond.Broadcast()
	fl.mu.Unlock()
	return nil
}

// readParts reads the rest of an object in parts from oa and, for each gap after
// it, from a range request. An answer that breaks off is taken up where it
// ended, as long as each time brings something.
func (fl *flight) readParts(oa *originAnswer, end int64, gaps []run) error {
	stop := fl.wakeOn(fl.ctx)
	defer stop()
	buf := make([]byte, pieceBytes)
	for {
		err := fl.readPart(oa, end, buf)
		if err != nil {
			return err
		}
		if len(gaps) == 0 {
			return nil
		}
		end = gaps[0].end
		fl.pack.seek(gaps[0].first)
		if oa, err = fl.resume(end); err != nil {
			return err
		}
		gaps = gaps[1:]
	}
}

// readPart reads from oa what comes before end, -1 for its own end, and closes
// it.
func (fl *flight) readPart(oa *originAnswer, end int64, buf []byte) error {
	begun := fl.pack.at()
	for {
		b := buf
		if end >= 0 {
			b = buf[:min(int64(len(buf)), end-fl.pack.at())]
		}
		n, err := oa.Read(b)
		if n > 0 {
			if err := fl.appendParts(b[:n]); err != nil {
				oa.Close()
				return err
			}
		}
		if end >= 0 && fl.pack.at() == end {
			if err == nil {
				_, err = oa.Read(buf[:1])
			}
			oa.Close()
			if errors.Is(err, errOverlong) {
				return err
			}
			return nil
		}
		if err == nil {
			continue
		}
		oa.Close()
		if err == io.EOF && end < 0 {
			return nil
		}
		if end < 0 || fl.pack.at() == begun || fl.ctx.Err() != nil || errors.Is(err, errOverlong) {
			return err
		}
		fl.p.m.originBroken.Inc()
		next, resumeErr := fl.resume(end)
		if resumeErr != nil {
			return err
		}
		oa, begun = next, fl.pack.at()
	}
}

// resume asks for the bytes from where the fill is to before end.
func (fl *flight) resume(end int64) (*originAnswer, error) {
	pos, etag := fl.pack.at(), strongTag(fl.meta)
	oa, err := fl.p.askPart(fl.ctx, fl.r, pos, end, etag)
	if err != nil {
		return nil, err
	}
	if pt, ok := oa.rest(pos, fl.length, etag); !ok || pt.last < end-1 {
		oa.Close()
		fl.p.m.changedMidway.Inc()
		return nil, errChanged
	}
	// Others get these bytes too.
	if v := fl.p.updateVerdict(fl.r, http.StatusOK, oa, updated(fl.meta, oa.Header), fl.length); !v.share {
		oa.Close()
		fl.p.m.changedMidway.Inc()
		return nil, errChanged
	}
	return oa, nil
}

// storeParts stores the record of an object whose segments have been stored, as
// far as they came; err says why they did not all come.
func (fl *flight) storeParts(f *freshness, err error) bool {
	fl.pack.flush()
	man := fl.pack.manifest()
	if man.size < 0 && err == nil {
		man.size = fl.pack.at()
	}
	if len(man.runs) == 0 || man.size < 0 || !man.complete() && fl.old.ok && !fl.completing {
		return false
	}
	return fl.storeManifest(f, &man)
}

// keepBroken stores what came of an answer that broke off before its announced
// end, if it has a strong validator by which the rest can be asked for.
func (fl *flight) keepBroken(f *freshness) {
	if fl.pack == nil {
		if strongTag(fl.meta) == "" || fl.meta.status() != http.StatusOK || fl.length <= 0 || len(fl.body) == 0 || fl.spilled || fl.old.ok {
			return
		}
		if !fl.reserve(2 * fl.r.site.ChunkBytes) {
			return
		}
		pack := newPacker(fl.p, fl.storeKey(), fl.newManifest(), fl.segments(f), 0)
		pack.write(fl.body)
		fl.mu.Lock()
		fl.pack = pack
		fl.mu.Unlock()
	}
	fl.storeParts(f, io.ErrUnexpectedEOF)
}

// maxGaps bounds the range requests that complete a big object.
const maxGaps = 8

// completion returns what is stored of an object, and what must be asked for to
// have it whole. It reports false if that is not possible or not worth it.
func (fl *flight) completion() (man manifest, gaps []run, ok bool) {
	if fl.asIs || !fl.partial || !fl.old.ok || strongTag(fl.old.meta) == "" {
		return man, nil, false
	}
	if man, ok = manifestOf(fl.old.meta, fl.old.hit.View.Content()); !ok || man.size < 0 {
		return man, nil, false
	}
	if fl.hole >= 0 {
		man.cut(fl.hole)
	}
	gaps = man.gaps()
	return man, gaps, len(gaps) == 1 || len(gaps) > 1 && len(gaps) <= maxGaps && man.size > man.chunk
}

// cut unnames what lies at pos and behind it.
func (m *manifest) cut(pos int64) {
	for i, r := range m.runs {
		if r.end > pos {
			m.runs[i].end = pos
			if r.first >= pos {
				m.runs = m.runs[:i]
			} else {
				m.runs = m.runs[:i+1]
			}
			return
		}
	}
}

// complete asks for what is missing of an object in parts and makes it whole
// (RFC 9111 §3.4). It reports false if the whole must be asked for instead.
func (fl *flight) complete(man manifest, gaps []run) bool {
	end := gaps[0].end
	if end == man.size {
		end = -1
	}
	oa, err := fl.p.askPart(fl.ctx, fl.r, gaps[0].first, end, strongTag(fl.old.meta))
	if err != nil {
		fl.fail(err)
		return true
	}
	if oa.StatusCode == http.StatusOK {
		fl.judge(oa)
		return true
	}
	pt, ok := partOf(oa, strongTag(fl.old.meta))
	h := updated(fl.old.meta, oa.Header)
	v := fl.p.updateVerdict(fl.r, http.StatusOK, oa, h, man.size)
	if !ok || pt.first != gaps[0].first || pt.last < gaps[0].end-1 || pt.size >= 0 && pt.size != man.size || !v.share {
		oa.Close()
		return false
	}
	v.tags = mergeTags(v.tags, fl.oldTags()) // part of it is of the old answer
	fl.how = how{fwd: fl.fwd, fwdStatus: oa.StatusCode, refused: v.refused, detail: v.reason}
	if man.size <= man.chunk {
		return fl.completeSmall(oa, &v, h, &man, gaps[0])
	}
	if !fl.reserve(2 * man.chunk) {
		oa.Close()
		return false
	}
	fl.turn(phaseBody, func() {
		fl.present(&v, http.StatusOK, h)
		fl.block, fl.length, fl.completing = nil, man.size, true
		fl.beginPartsLocked(&v.freshness, man, gaps[0].first)
		fl.private = !v.freshOnArrival()
	})
	fl.mark(!v.freshOnArrival())
	err = fl.readParts(oa, gaps[0].end, gaps[1:])
	fl.concludeParts(&v.freshness, err)
	return true
}

// concludeParts ends a flight that stored segments.
func (fl *flight) concludeParts(f *freshness, err error) {
	stored := fl.storeParts(f, err)
	if err != nil {
		fl.p.m.originBroken.Inc()
		fl.fail(err)
		return
	}
	fl.turn(phaseDone, func() {
		fl.how.stored = stored
		if fl.length < 0 {
			fl.length = fl.pack.at()
		}
	})
}

// completeSmall makes an object of one segment whole in memory, and stores it
// whole.
func (fl *flight) completeSmall(oa *originAnswer, v *verdict, h http.Header, man *manifest, gap run) bool {
	defer oa.Close()
	body := make([]byte, man.size)
	if !fl.reserve(man.size) || !fl.p.assemble(fl.ctx, fl.old.hit.View.Key(), man, body, fl.old.hit.View.Tiers()) {
		return false
	}
	_, err := io.ReadFull(oa, body[gap.first:gap.end])
	if err == nil {
		if _, err = oa.Read(make([]byte, 1)); err == io.EOF {
			err = nil
		}
	}
	if err != nil {
		fl.p.m.originBroken.Inc()
		fl.fail(err)
		return true
	}
	fl.turn(phaseWait, func() {
		fl.present(v, http.StatusOK, h)
		fl.block, fl.body, fl.length = nil, body, man.size
		fl.private = !v.freshOnArrival()
	})
	fl.mark(!v.freshOnArrival())
	stored := fl.store(&v.freshness, body)
	fl.turn(phaseDone, func() { fl.how.stored = stored })
	return true
}
