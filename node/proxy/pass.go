package proxy

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"

	"github.com/edgenode/edgenode/tiers"
	"github.com/edgenode/edgenode/tiers/item"
)

// pass sends a request to the origin without looking it up and streams the
// answer to the one client.
func (p *Proxy) pass(st *state, fwd string) {
	if p.loops(st) {
		p.refuse(st, failLoop, how{fwd: fwd})
		return
	}
	r := p.snapshot(st)
	p.m.passes.Inc()
	var stamp item.Version
	if r.method == http.MethodPost {
		stamp = p.o.Engine.Stamp()
	}
	informer := &informer{p: p, st: st}
	f := fetch{p: p, r: r, header: r.header, info: informer.inform}
	if r.length != 0 {
		f.body = &guardedBody{p: p, r: st.x.Body()}
		st.body = f.body
		defer f.body.release()
	}
	oa, err := f.do(st.x.Context())
	informer.end()
	if err != nil {
		st.endBody()
		if !safe(r.method) && failureOf(err) != failUnreachable {
			p.invalidate(st, r, nil, false) // it may have been done all the same
		}
		p.refuse(st, failureOf(err), how{fwd: fwd})
		return
	}
	oa.finish(p)
	h := how{fwd: fwd, fwdStatus: oa.StatusCode}
	if !safe(r.method) && oa.StatusCode < 400 {
		if room := postRoom(r, oa); p.postable(r, oa) && p.reserve(room) {
			defer p.fillBytes.Add(-room)
			p.passAndStore(st, oa, &h, r, stamp, room)
			return
		}
		p.invalidate(st, r, oa.Header, false)
	}
	p.relay(st, oa, &h, r)
}

// endBody waits until no origin reads the request's body any more.
func (st *state) endBody() {
	if st.body != nil {
		st.body.release()
		st.body = nil
	}
}

// safe reports methods that change nothing (RFC 9110 §9.2.1). Unknown ones may.
func safe(method string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		return true
	}
	return false
}

// An informer passes interim answers to the client while the request waits for
// the header. It is called by the transport's goroutine.
type informer struct {
	p    *Proxy
	st   *state
	mu   sync.Mutex
	done bool
}

func (i *informer) inform(code int, h http.Header) {
	i.mu.Lock()
	defer i.mu.Unlock()
	defer func() {
		if v := recover(); v != nil {
			i.p.panicked("interim answer", v)
		}
	}()
	if !i.done {
		i.st.take()
		defer i.st.give()
		i.p.inform(i.st, interim{code, infoBlock(h)})
	}
}

func (i *informer) end() {
	i.mu.Lock()
	i.done = true
	i.mu.Unlock()
}

// relay streams an origin's answer to the client and closes it. An answer that
// breaks off is cut for the client too.
func (p *Proxy) relay(st *state, oa *originAnswer, h *how, r *request) {
	defer oa.Close()
	if w := p.relayHead(st, oa, h, r); w != nil {
		p.copyFrom(st, oa, w)
	}
}

// relayHead sends everything but the body, and returns where the body goes; nil
// if there is none.
func (p *Proxy) relayHead(st *state, oa *originAnswer, h *how, r *request) io.Writer {
	st.take()
	defer st.give()
	x := st.x
	x.Status(oa.StatusCode)
	block, _, _ := appendBlock(nil, oa.Header, notSent...)
	x.AddBlock(block)
	if oa.ContentLength < 0 {
		p.announce(st, oa.Trailer)
	}
	st.tell(h)
	st.scratch = p.appendStatus(st.scratch[:0], st.site, h, []byte(keyNote(r.url)))
	x.AddBlock(st.scratch)
	switch {
	case x.Method() == http.MethodHead:
		p.sent(x.SendSized(oa.ContentLength))
		return nil
	case oa.StatusCode == http.StatusNoContent, oa.StatusCode == http.StatusNotModified, oa.ContentLength == 0:
		p.sent(x.Send(nil))
		return nil
	}
	w, err := x.Stream(oa.ContentLength)
	if err != nil {
		p.sent(err)
		return nil
	}
	return w
}

func (p *Proxy) copyFrom(st *state, oa *originAnswer, w io.Writer) {
	lent := p.buffers.Get().(*[]byte)
	defer p.buffers.Put(lent)
	buf := *lent
	for {
		n, err := oa.Read(buf)
		if n > 0 {
			if werr := st.write(w, buf[:n]); werr != nil {
				p.sent(werr)
				p.abort(st)
				return
			}
		}
		if err == io.EOF {
			p.trail(st, oa.Trailer)
			return
		}
		if err != nil {
			p.m.originBroken.Inc()
			p.m.cut.Inc()
			p.abort(st)
			return
		}
	}
}

// sendFirst writes what was read of a body before its head was sent.
func (p *Proxy) sendFirst(st *state, w io.Writer, b []byte) bool {
	err := st.write(w, b)
	if err != nil {
		p.sent(err)
		p.abort(st)
	}
	return err == nil
}

// write is writeThrough for an answer whose request may still be read.
func (st *state) write(w io.Writer, b []byte) error {
	st.take()
	defer st.give()
	return writeThrough(w, b)
}

func (p *Proxy) abort(st *state) {
	st.take()
	st.x.Abort()
	st.give()
}

// postable reports whether the answer to a POST may serve later GETs: it has
// explicit freshness and is the representation of the URL itself (RFC 9110
// §9.3.3).
func (p *Proxy) postable(r *request, oa *originAnswer) bool {
	if r.method != http.MethodPost || oa.foreign() || oa.ContentLength > r.site.MaxObjectBytes || len(oa.Header["Content-Location"]) != 1 {
		return false
	}
	if same := p.sameOrigin(r, oa.Header["Content-Location"][0]); same != r.url {
		return false
	}
	v := p.verdictOf(r, oa.StatusCode, oa.Header, oa.sent, oa.received, oa.ContentLength)
	return v.share && v.explicit && v.lifetime > 0
}

// postRoom returns how many bytes of an answer to a POST are read before it is
// sent: what it announces, else at most 1 MiB.
func postRoom(r *request, oa *originAnswer) int64 {
	if oa.ContentLength >= 0 {
		return oa.ContentLength
	}
	return min(r.site.MaxObjectBytes, 1<<20)
}

// passAndStore reads a whole answer to a POST of at most room bytes, stores it
// for later GETs and sends it. A longer one is only sent.
func (p *Proxy) passAndStore(st *state, oa *originAnswer, h *how, r *request, stamp item.Version, room int64) {
	defer oa.Close()
	var body bytes.Buffer
	_, err := io.CopyN(&body, oa, room+1)
	if err == nil { // there is more
		p.invalidate(st, r, oa.Header, false)
		h.detail = "too-large"
		if w := p.relayHead(st, oa, h, r); w != nil && p.sendFirst(st, w, body.Bytes()) {
			p.copyFrom(st, oa, w)
		}
		return
	}
	st.endBody()
	if err != io.EOF {
		p.invalidate(st, r, oa.Header, false)
		p.refuse(st, failureOf(err), *h)
		return
	}
	p.invalidate(st, r, oa.Header, true)
	v := p.verdictOf(r, oa.StatusCode, oa.Header, oa.sent, oa.received, oa.ContentLength)
	for i, t := range v.tags {
		if u, ok := strings.CutPrefix(t, tagURL); ok {
			v.tags[i] = tagPost + u
		}
	}
	v.flags |= metaPost
	fl := &flight{p: p, r: r, stamp: stamp, ctx: st.x.Context()}
	fl.present(&v, oa.StatusCode, oa.Header)
	h.stored = fl.store(&v.freshness, body.Bytes())
	p.send(st, &reply{meta: fl.meta, content: body.Bytes(), how: *h, block: fl.block})
}

// invalidate makes what is stored for the URL of an unsafe request unusable, and
// for the same-origin Location and Content-Location of its answer (RFC 9111
// §4.4), and the groups that the answer names (RFC 9875 §3). keepPost spares what an earlier POST stored for the URL: it is about to
// be replaced.
//
// Answers being fetched are covered too. Where nothing is stored or fetched
// there is nothing to do, and no rule is written.
func (p *Proxy) invalidate(st *state, r *request, h http.Header, keepPost bool) {
	urls := []string{r.url}
	if len(st.out.Target) > 0 {
		urls = append(urls, r.scheme+"://"+string(st.host)+string(r.site.appendTarget(nil, st.x.Target())))
	}
	for _, name := range []string{"Location", "Content-Location"} {
		for _, line := range h[name] {
			if u := p.sameOrigin(r, line); u != "" && !slices.Contains(urls, u) {
				urls = append(urls, u)
			}
		}
	}
	var values []string
	for i, u := range urls {
		if !p.maybeStored(st, r, u) {
			continue
		}
		values = append(values, tagURL+u)
		if i > 0 || !keepPost {
			values = append(values, tagPost+u)
		}
	}
	for _, group := range groupsOf(h["Cache-Group-Invalidation"]) {
		values = append(values, groupTag(r, group))
	}
	if len(values) == 0 {
		return
	}
	p.m.invalidated.Inc()
	ctx := context.WithoutCancel(st.x.Context()) // also when the client has gone
	_, err := p.o.Engine.Purge(ctx, tiers.Purge{Namespaces: item.InSites, Match: item.MatchTag, Values: values, Background: true})
	if err != nil {
		p.o.Log.Error("invalidation after an unsafe request failed", "site", r.site.Name, "error", err)
	}
}

// maybeStored reports whether anything may be stored or on its way for a URL of
// the request's host. With a routing
// policy it cannot tell: keys may have additions.
func (p *Proxy) maybeStored(st *state, r *request, u string) bool {
	if r.site.keyed() {
		return true
	}
	if p.o.Policy != nil {
		if r, ok := p.o.Policy.(routing); !ok || r.Routes() {
			return true
		}
	}
	key := append(append([]byte{item.NamespaceSite}, r.site.Name...), 0)
	key = append(key, u...)
	hit, ok, err := p.o.Engine.Get(st.x.Context(), item.Key(key), tiers.ReadOptions{Tiers: r.site.Tiers})
	if ok {
		hit.Release()
	}
	if ok || err != nil {
		return true
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.filling[string(key)] > 0
}

// sameOrigin resolves a reference against the request's URL and returns the
// result by the site's rules, or "" if it lies on another origin.
func (p *Proxy) sameOrigin(r *request, ref string) string {
	base, err := url.Parse(r.url)
	if err != nil {
		return ""
	}
	u, err := base.Parse(strings.Trim(ref, " \t"))
	if err != nil || u.User != nil {
		return ""
	}
	host, _ := splitHost(nil, []byte(u.Host), u.Scheme)
	if u.Scheme != base.Scheme || string(host) != base.Host {
		return ""
	}
	target := u.EscapedPath()
	if target == "" {
		target = "/"
	}
	if u.RawQuery != "" || u.ForceQuery {
		target += "?" + u.RawQuery
	}
	return u.Scheme + "://" + string(host) + string(r.site.appendTarget(nil, []byte(target)))
}
