package proxy

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"sync"

	"github.com/edgenode/edgenode/tiers"
	"github.com/edgenode/edgenode/tiers/item"
)

// A partReader brings an object in parts to one client, from the fill that is
// under way, from the store, or, where a segment is gone, by a range request of
// its own under the same strong validator. It is for one goroutine and holds 32
// KiB, and a segment that was read below L1 as long as Proxy.fillBytes allows.
type partReader struct {
	p    *Proxy
	st   *state
	fl   *flight // that fills the object; nil if none does
	main item.Key
	man  manifest // with a flight: what it has stored so far
	etag string   // strong; "" if there is none
	like tiers.Write
	buf  *[]byte

	held      tiers.Hit // of the segment that begins at heldFirst
	heldFirst int64
	reserved  int64

	own    *originAnswer // our range request, which has brought what is before ownAt
	ownAt  int64
	ownEnd int64
	keep   *packer
	claim  *claim // of the segment that own brings; nil if there is none
}

// pieces are the buffers of partReaders.
var pieces = sync.Pool{New: func() any { b := make([]byte, pieceBytes); return &b }}

const pieceBytes = 32 << 10

var (
	errGone    = errors.New("proxy: a part of the object is gone, and it has no strong validator to ask for it by")
	errChanged = errors.New("proxy: the object changed at the origin while it was sent")
)

// next returns some of the bytes from pos to before end, which is -1 for an
// object whose length is not known yet. They are valid until the next call. It
// returns io.EOF at the end.
func (r *partReader) next(pos, end int64) ([]byte, error) {
	if r.buf == nil {
		r.buf = pieces.Get().(*[]byte)
	}
	if pos == end && (r.fl == nil || end != r.fl.lengthNow()) {
		return nil, io.EOF // else it ends when the fill has come to a good end
	}
	buf := *r.buf
	if end >= 0 {
		buf = buf[:min(int64(len(buf)), end-pos)]
	}
	if b, err := r.fromOwn(buf, pos); len(b) > 0 || err != nil {
		return b, err
	}
	if r.fl != nil {
		b, found := r.fl.look(r.st.x.Context(), pos, buf)
		switch found {
		case lookBytes:
			return b, nil
		case lookEnd:
			return nil, io.EOF
		case lookFailed:
			return nil, r.fl.failure()
		}
		r.man = manifest{size: -1}
		if pack := r.fl.packNow(); pack != nil { // it may have begun after the reader did
			r.main, r.like, r.man = pack.main, pack.like, pack.manifest()
		}
	}
	if b := r.fromStore(buf, pos); len(b) > 0 {
		return b, nil
	}
	for n := 0; n < maxClaims && r.join(pos); n++ {
		if b := r.fromStore(buf, pos); len(b) > 0 {
			return b, nil
		}
	}
	if end < 0 {
		end = r.fl.lengthNow()
	}
	if err := r.ask(pos, end); err != nil {
		r.release()
		return nil, err
	}
	return r.fromOwn(buf, pos)
}

// close gives back what the reader holds.
func (r *partReader) close() {
	r.letGo()
	r.endOwn(r.own != nil && r.ownAt == r.ownEnd)
	if r.buf != nil {
		pieces.Put(r.buf)
		r.buf = nil
	}
}

// letGo releases the segment that is held.
func (r *partReader) letGo() {
	if r.held.View != nil {
		r.held.Release()
		r.p.fillBytes.Add(-r.reserved)
		r.reserved = 0
	}
}

// fromStore copies bytes of a stored segment. What lies below L1 is a copy of
// our own, and held while there is room for it.
func (r *partReader) fromStore(buf []byte, pos int64) []byte {
	first, end, ok := r.man.segment(pos)
	if !ok {
		return nil
	}
	if r.held.View == nil || r.heldFirst != first {
		r.letGo()
		if r.held, ok = r.p.segment(r.st.x.Context(), r.main, &r.man, first, r.like.Tiers); !ok {
			return nil
		}
		r.heldFirst = first
		if n := int64(len(r.held.View.Content())); r.held.Source != tiers.FromL1 && r.p.reserve(n) {
			r.reserved = n
		}
	}
	content := r.held.View.Content()
	n := 0
	if at := pos - first; at < int64(len(content)) {
		n = copy(buf[:min(int64(len(buf)), end-pos)], content[at:])
	}
	if r.reserved == 0 {
		r.letGo()
	}
	return buf[:n]
}

// segment reads a stored segment. The hit is to be released.
func (p *Proxy) segment(ctx context.Context, main item.Key, man *manifest, first int64, where item.Tiers) (tiers.Hit, bool) {
	hit, ok, err := p.o.Engine.Get(ctx, segmentKey(nil, main, man.gen, first), tiers.ReadOptions{Tiers: where})
	if err != nil {
		p.m.storeErrors.Inc()
	}
	if !ok || err != nil {
		return tiers.Hit{}, false
	}
	if !isSegment(&hit, man.gen, first) {
		hit.Release()
		return tiers.Hit{}, false
	}
	return hit, true
}

// maxProbes bounds how far ask looks for the next segment that is still there.
const maxProbes = 64

// missing returns up to where, from pos on, nothing is stored; at most end.
func (r *partReader) missing(pos, end int64) int64 {
	at := pos
	for range maxProbes {
		_, next, ok := r.man.segment(at)
		if !ok || next >= end {
			return end
		}
		if at = next; at < end {
			if first, _, ok := r.man.segment(at); ok {
				if hit, ok := r.p.segment(r.st.x.Context(), r.main, &r.man, first, r.like.Tiers); ok {
					hit.Release()
					return at
				}
			}
		}
	}
	return at
}

// ask begins a range request of our own for the bytes from pos on that are
// missing. What it brings is stored again.
func (r *partReader) ask(pos, end int64) error {
	if r.etag == "" {
		return errGone
	}
	if end > 0 {
		end = r.missing(pos, end)
	}
	stamp := r.p.o.Engine.Stamp()
	req := r.p.snapshot(r.st)
	oa, err := r.p.askPart(r.st.x.Context(), req, pos, end, r.etag)
	if err != nil {
		return err
	}
	part, ok := oa.rest(pos, r.man.size, r.etag)
	if !ok {
		oa.Close()
		r.p.m.changedMidway.Inc()
		if r.fl == nil && oa.tookBack(r.etag) {
			r.p.outdated(r.st.x.Context(), req, stamp) // or everybody is cut here
		}
		return errChanged
	}
	r.own, r.ownAt, r.ownEnd = oa, pos, part.last+1
	if end > 0 {
		r.ownEnd = min(r.ownEnd, end)
	}
	v := r.p.verdictOf(req, http.StatusOK, oa.Header, oa.sent, oa.received, oa.ContentLength)
	if r.man.chunk > 0 && v.share && r.p.reserve(2*r.man.chunk) {
		r.keep = r.refill(pos, stamp)
	}
	if r.keep == nil {
		r.release()
	} else if r.claim != nil {
		r.claim.got.Store(0)
	}
	return nil
}

// refill returns a packer for the segments that begin at pos or later.
func (r *partReader) refill(pos int64, stamp item.Version) *packer {
	man := r.man
	man.runs = nil
	like := r.like
	like.Version = stamp
	first, end, ok := r.man.segment(pos)
	if ok && first != pos {
		pos = end
	}
	return newPacker(r.p, r.main, man, like, pos)
}

// fromOwn reads from our own range request, if there is one and it is at pos.
func (r *partReader) fromOwn(buf []byte, pos int64) ([]byte, error) {
	if r.own == nil {
		return nil, nil
	}
	if r.ownAt != pos || pos == r.ownEnd {
		r.endOwn(pos == r.ownEnd)
		return nil, nil
	}
	for {
		n, err := r.own.Read(buf[:min(int64(len(buf)), r.ownEnd-pos)])
		if n > 0 {
			if r.keep != nil {
				if skip := r.keep.pos - pos; skip < int64(n) {
					r.keep.write(buf[max(skip, 0):n])
				}
			}
			r.ownAt += int64(n)
			r.brought(n)
			return buf[:n], nil
		}
		if err != nil {
			r.p.m.originBroken.Inc()
			r.endOwn(false)
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
}

// endOwn ends our range request; whole says that it came to its end.
func (r *partReader) endOwn(whole bool) {
	if r.own == nil {
		return
	}
	if whole {
		r.own.Read((*r.buf)[:1]) // the end of the body, so that the connection is kept
	}
	r.own.Close()
	r.own = nil
	if r.keep != nil {
		// A segment that is too short would not be replaced.
		if _, end, ok := r.man.segment(r.ownEnd - 1); whole && ok && end == r.ownEnd {
			r.keep.flush()
		}
		r.p.fillBytes.Add(-2 * r.man.chunk)
		r.keep = nil
	}
	r.release()
}

// askPart sends a range request of our own for the bytes from first to before
// end, which is -1 for all that follow, on condition that the validator holds.
func (p *Proxy) askPart(ctx context.Context, req *request, first, end int64, etag string) (*originAnswer, error) {
	p.m.ownRanges.Inc()
	f := fetch{p: p, r: req, header: withoutConditions(req.header)}
	f.header["Range"] = []string{rangeField(first, end)}
	f.header["If-Range"] = []string{etag}
	oa, err := f.do(ctx)
	if err == nil {
		oa.finish(p)
	}
	return oa, err
}

// rangeField renders Range for the bytes from first to before end; an end below
// 0 is that of the object.
func rangeField(first, end int64) string {
	b := strconv.AppendInt([]byte("bytes="), first, 10)
	b = append(b, '-')
	if end >= 0 {
		b = strconv.AppendInt(b, end-1, 10)
	}
	return string(b)
}

// A looked says where a reader finds the bytes at a position.
type looked byte

const (
	lookBytes  looked = iota // here they are
	lookStored               // the store was given them
	lookGone                 // nowhere here
	lookEnd                  // there are none
	lookFailed               // they will not come
	lookWait                 // they have not come yet
)

// look returns bytes from pos on, waiting for some while the fill will bring
// them. Those of an object in parts are copied to buf.
func (fl *flight) look(ctx context.Context, pos int64, buf []byte) ([]byte, looked) {
	fl.mu.Lock()
	defer fl.mu.Unlock()
	for {
		if pos > fl.fastest {
			fl.fastest = pos
			fl.cond.Broadcast() // the fill may wait for that
		}
		if b, found := fl.lookLocked(pos, buf); found != lookWait {
			return b, found
		}
		if ctx.Err() != nil {
			return nil, lookFailed
		}
		fl.cond.Wait()
	}
}

func (fl *flight) lookLocked(pos int64, buf []byte) ([]byte, looked) {
	if fl.pack == nil {
		return fl.lookWholeLocked(pos)
	}
	n, where := fl.pack.copyAt(pos, buf)
	switch {
	case where == lookBytes:
		return buf[:n], lookBytes
	case where == lookStored || fl.phase == phaseBody:
		return nil, where
	case fl.phase != phaseDone:
		return nil, lookFailed
	case pos == fl.length:
		return nil, lookEnd
	}
	return nil, lookGone
}

// lookWholeLocked returns bytes of an object that is gathered in memory. One that
// spills keeps only what the fastest reader has not had yet.
func (fl *flight) lookWholeLocked(pos int64) ([]byte, looked) {
	switch end := fl.off + int64(len(fl.body)); {
	case pos < fl.off:
		return nil, lookGone
	case pos < end:
		return fl.body[pos-fl.off:], lookBytes
	case fl.phase == phaseBody:
		return nil, lookWait
	case fl.phase == phaseDone:
		return nil, lookEnd
	}
	return nil, lookFailed
}

func (fl *flight) packNow() *packer {
	fl.mu.Lock()
	defer fl.mu.Unlock()
	return fl.pack
}

// lengthNow returns the length as far as it is known; -1 if not.
func (fl *flight) lengthNow() int64 {
	fl.mu.Lock()
	defer fl.mu.Unlock()
	return fl.length
}
