package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// An originAnswer is an answer under way. It may be closed more than once.
type originAnswer struct {
	*http.Response
	sent, received int64 // Unix ms
	ctx            context.Context
	cancel         context.CancelCauseFunc
	wanted         context.Context // of whoever asked
	stall          *time.Timer
	stallAfter     time.Duration
	origin         *origin
	tap            *tap
	wire           *wireCall // nil for an answer that came by net/http
	reused         bool      // the connection had answered before
	closed         atomic.Bool
	wrote          atomic.Bool // the request's header left
}

// Read reads the body. io.EOF means that it came whole, as far as its framing
// can tell.
func (a *originAnswer) Read(b []byte) (int, error) {
	if a.stall != nil {
		a.stall.Reset(a.stallAfter)
	}
	n, err := a.Body.Read(b)
	if a.stall != nil {
		a.stall.Stop() // what the client takes until the next read is not the origin's
	}
	if err == nil {
		return n, nil
	}
	if a.wire != nil {
		err = a.ended(err)
	}
	if cause := context.Cause(a.ctx); cause != nil && err != io.EOF {
		return n, cause
	}
	if err == io.EOF && a.broken() {
		return n, errOverlong
	}
	return n, err
}

// ended gives back the wire of a body that has ended, or has not with another error.
func (a *originAnswer) ended(err error) error {
	a.wire.end(err == io.EOF)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return errStalled
	}
	return err
}

// broken reports whether the framing of the answer is not to be trusted.
func (a *originAnswer) broken() bool {
	if a.wire != nil {
		return a.wire.broken()
	}
	return a.tap != nil && a.tap.broken()
}

// began reports whether a byte of an answer came.
func (a *originAnswer) began() bool {
	if a.wire != nil {
		return a.wire.came
	}
	return a.tap != nil && a.tap.began()
}

// took reports whether the origin took the request and closed, see tap.took.
func (a *originAnswer) took() bool {
	if a.wire != nil {
		return a.wire.took
	}
	return a.tap.took()
}

// errBegan wraps the error of a fetch whose answer had begun: it is not repeated.
var errBegan = errors.New("proxy: the answer broke off in its header")

// errKept wraps the error of a fetch over a connection that had answered before and
// was closed without a byte of this answer.
var errKept = errors.New("proxy: the origin closed a kept connection")

// errUnsent wraps the error of a fetch whose request never left.
var errUnsent = errors.New("proxy: the request was not sent")

// errOverlong is returned at the end of a body after which more came than was
// announced, or whose header had two framings.
var errOverlong = errors.New("proxy: the origin's answer is not framed as announced")

// foreign reports whether the body is in a transfer coding that nobody here knows:
// it is for the client that asked and not to be stored.
func (a *originAnswer) foreign() bool {
	if a.tap == nil {
		return false
	}
	c, ok := a.tap.Conn.(*codingConn)
	return ok && c.unknownCoding()
}

// Close ends the exchange; a connection whose answer was not read to its end,
// or was followed by more, is not used again.
func (a *originAnswer) Close() {
	if a.closed.Swap(true) {
		return
	}
	a.origin.inFlight.Add(-1)
	if a.wire != nil {
		a.wire.end(false)
		return
	}
	a.stall.Stop()
	a.Body.Close()
	a.cancel(errAbandoned)
	if a.tap != nil && a.tap.broken() {
		a.tap.Conn.Close()
	}
}

// fetch is one request to an origin.
type fetch struct {
	p      *Proxy
	r      *request
	header http.Header
	body   *guardedBody // nil for none
	// upgrade says that the client asked for another protocol: 101 is an answer.
	upgrade bool
	// standIn says that a stored answer stands in for one that does not come: a
	// request that the origin took is not repeated then.
	standIn bool
	again   bool // this is the repeat
	// info gets each 1xx but 100 and 101; it may be called by another goroutine
	// until do returns.
	info func(code int, h http.Header)
}

// do sends the request and returns the answer's header. If nothing of an answer
// came and the request can be repeated, it is, once:
//
//   - on a new connection, if a kept one was closed: the origin may have closed it
//     for being idle while the request was on its way (RFC 9112 §9.3.1). That is no
//     failure of the origin, and costs nothing of the budget;
//   - within a budget, if it did not leave, or if there is another origin.
//
// A new connection that closes is an error.
func (f *fetch) do(ctx context.Context) (*originAnswer, error) {
	o := f.r.pool.pick(f.r.key, nil)
	a, err := f.try(ctx, o)
	if err == nil || ctx.Err() != nil || !f.repeatable(err) {
		return a, err
	}
	if errors.Is(err, errKept) {
		f.r.pool.closeIdle(false) // they may be as old
	} else if !f.r.pool.retryAllowed() {
		return a, err
	} else {
		o = f.r.pool.pick(f.r.key, o)
	}
	f.p.m.retries.Inc()
	f.again = true
	return f.try(ctx, o)
}

func (f *fetch) repeatable(err error) bool {
	if f.body != nil || errors.Is(err, errBegan) || failureOf(err) == failTimeout {
		return false
	}
	switch f.r.method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodPut, http.MethodDelete:
		return errors.Is(err, errKept) || errors.Is(err, errUnsent) || !f.standIn && len(f.r.pool.origins) > 1
	}
	return failureOf(err) == failUnreachable
}

func (f *fetch) try(ctx context.Context, o *origin) (*originAnswer, error) {
	f.p.m.fetches.Inc()
	f.r.pool.earnRetry()
	if l, host := f.wireFor(o); l != nil {
		return f.over(ctx, o, l, host)
	}
	wanted := ctx
	ctx, cancel := context.WithCancelCause(ctx)
	a := &originAnswer{ctx: ctx, cancel: cancel, wanted: wanted, origin: o, stallAfter: f.p.o.StallTimeout}
	// One limit for waiting in the pool, connecting and waiting for the header.
	// With a body it begins anew whenever the origin took a part of it.
	limit := f.r.pool.ConnectTimeout + f.r.pool.FirstByteTimeout
	timer := newPatience(limit, func() { cancel(errFirstByte) })
	if f.body != nil {
		f.body.origin.Store(timer)
	}
	req, err := f.request(a.watch(ctx, f), o)
	if err != nil {
		timer.end()
		cancel(err)
		return nil, err
	}
	o.inFlight.Add(1)
	a.sent = f.p.o.Now()
	resp, err := f.r.pool.transport.RoundTrip(req)
	timer.end()
	if err != nil {
		o.inFlight.Add(-1)
		return nil, f.failed(a, err)
	}
	a.stall = time.AfterFunc(a.stallAfter, func() { cancel(errStalled) })
	a.stall.Stop()
	return f.arrived(a, resp)
}

// arrived notes the header of an answer.
func (f *fetch) arrived(a *originAnswer, resp *http.Response) (*originAnswer, error) {
	o := a.origin
	if o.worked() {
		f.p.o.Log.Info("origin answers again", "pool", f.r.pool.Name, "origin", o.authority)
	}
	a.received = f.p.o.Now()
	a.Response = resp
	if resp.StatusCode == http.StatusSwitchingProtocols && !f.upgrade {
		a.Close()
		return nil, fmt.Errorf("proxy: origin %s: it switched protocols unasked", o.authority)
	}
	return a, nil
}

// failed turns a transport's error into ours and notes the origin's health.
func (f *fetch) failed(a *originAnswer, err error) error {
	o := a.origin
	if !a.wrote.Load() {
		err = fmt.Errorf("%w: %w", errUnsent, err)
	}
	began := a.began()
	if began {
		err = fmt.Errorf("%w: %w", errBegan, err)
	}
	if a.reused && !began && !f.again && !(f.standIn && a.took()) {
		err = fmt.Errorf("%w: %w", errKept, err)
	}
	if cause := context.Cause(a.ctx); cause != nil {
		err = cause
	}
	if a.cancel != nil {
		a.cancel(err)
	}
	if f.body != nil {
		if bodyErr := f.body.failure(); bodyErr != nil {
			return fmt.Errorf("%w: %w", errRequestBody, bodyErr)
		}
	}
	switch {
	case a.wanted.Err() != nil: // nobody gave the origin its time
	case errors.Is(err, errKept) && f.repeatable(err): // the repeat will tell
	default:
		if o.failed(f.p.o.Now()) {
			f.p.o.Log.Warn("origin rests: it failed several times in a row", "pool", f.r.pool.Name, "origin", o.authority,
				"failures", f.r.pool.MaxFailures, "error", err)
		}
		f.p.m.originErrors.Inc()
		f.p.o.Log.Debug("origin request failed", "pool", f.r.pool.Name, "origin", o.authority, "error", err)
	}
	return fmt.Errorf("proxy: fetch from pool %s: %w", f.r.pool.Name, err)
}

func (f *fetch) request(ctx context.Context, o *origin) (*http.Request, error) {
	if !validTarget(f.r.target) {
		return nil, fmt.Errorf("proxy: target %q cannot be sent", f.r.target)
	}
	var body io.ReadCloser
	if f.repeatsItself() {
		body = emptyBody{}
	}
	req := (&http.Request{
		Method: f.r.method, URL: o.target(f.r.target), Header: f.header, Body: body,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Host: f.r.pool.hostField(o, f.r.host),
	}).WithContext(ctx)
	if _, ok := req.Header["User-Agent"]; !ok {
		req.Header["User-Agent"] = nil // do not let net/http name itself
	}
	if f.body != nil {
		req.Body, req.ContentLength = f.body, f.r.length
	}
	return req, nil
}

// repeatsItself reports whether net/http would repeat the request by itself, as
// often as it finds a kept connection, and an empty body adds no framing to it.
func (f *fetch) repeatsItself() bool {
	switch f.r.method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
		return !f.upgrade
	}
	return false
}

// emptyBody is the body of a request without one that net/http does not repeat by
// itself: it cannot be rewound.
type emptyBody struct{}

func (emptyBody) Read([]byte) (int, error) { return 0, io.EOF }
func (emptyBody) Close() error             { return nil }

// validTarget reports whether a target can go into a request line.
func validTarget(s string) bool {
	if s == "" || s[0] != '/' && s != "*" {
		return false
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] == 0x7f {
			return false
		}
	}
	return true
}

// watch adds the hooks that see interim answers and the connection.
func (a *originAnswer) watch(ctx context.Context, f *fetch) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(info httptrace.GotConnInfo) {
			if t, ok := info.Conn.(*tap); ok {
				a.tap, a.reused = t, info.Reused
				if c, ok := t.Conn.(*codingConn); ok {
					c.begin()
				}
				if !t.begin() {
					t.Conn.Close()
				}
			}
		},
		PutIdleConn: func(error) {
			if l := a.origin.line; l != nil && l.crowded() {
				f.r.pool.transport.CloseIdleConnections()
			}
		},
		WroteHeaders: func() { a.wrote.Store(true) },
		Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
			if f.info != nil && code != http.StatusContinue && code != http.StatusSwitchingProtocols {
				f.info(code, http.Header(h))
			}
			return nil
		},
	})
}

// errRequestBody wraps errors of reading the client's body.
var errRequestBody = errors.New("proxy: request body")

// A guardedBody hands a client's body to the transport, whose goroutine may
// read on after the answer came. release ends that: it waits for a read under
// way, and none comes after it.
//
// The exchange is for one goroutine at a time, so whoever writes an answer while
// the body may still be read holds mu (see state.take). A client that sends
// nothing then delays its own answer, as long as the body's time limits let it.
type guardedBody struct {
	p      *Proxy
	origin atomic.Pointer[patience] // with the origin, while it is asked

	// mu is held for each use of the exchange.
	mu     sync.Mutex
	r      io.Reader
	closed bool
	err    atomic.Pointer[error]
}

// Read implements io.Reader.
func (g *guardedBody) Read(b []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return 0, net.ErrClosed
	}
	if origin := g.origin.Load(); origin != nil {
		origin.pause() // the client has limits of its own
		defer origin.resume()
	}
	n, err := g.read(b)
	if err != nil && err != io.EOF {
		g.err.Store(&err)
	}
	return n, err
}

// read turns a panic into an error: it would end the process on the transport's
// goroutine.
func (g *guardedBody) read(b []byte) (n int, err error) {
	defer func() {
		if v := recover(); v != nil {
			g.p.panicked("request body", v)
			n, err = 0, errBug
		}
	}()
	return g.r.Read(b)
}

// patience is a time limit that can stand still. It is safe for concurrent use.
type patience struct {
	limit time.Duration

	// mu guards the fields below. It is a leaf lock.
	mu    sync.Mutex
	timer *time.Timer
	over  bool
}

func newPatience(limit time.Duration, lost func()) *patience {
	return &patience{limit: limit, timer: time.AfterFunc(limit, lost)}
}

// pause stops the time, resume lets the whole limit begin anew.
func (p *patience) pause() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.timer.Stop()
}

func (p *patience) resume() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.over {
		p.timer.Reset(p.limit)
	}
}

// end ends it; pause and resume do nothing then.
func (p *patience) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.over = true
	p.timer.Stop()
}

// Close is called by the transport; the client's body is not closed by it.
func (g *guardedBody) Close() error { return nil }

func (g *guardedBody) release() {
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
}

// failure returns what reading the client's body failed with.
func (g *guardedBody) failure() error {
	if err := g.err.Load(); err != nil {
		return *err
	}
	return nil
}

// infoBlock renders the fields of an interim answer, which announces no length.
func infoBlock(h http.Header) []byte {
	h = h.Clone()
	cleanNames(h)
	removeHopByHop(h)
	block, _, _ := appendBlock(nil, h, "Content-Length")
	return block
}

// finish makes the fields ready for the client.
func (a *originAnswer) finish(p *Proxy) {
	if a.tap != nil {
		a.tap.restore(a.Header)
	}
	p.finishFields(a.Header, a.ProtoMajor, a.ProtoMinor, a.received)
}
