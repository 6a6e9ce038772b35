package front

import (
	"context"
	"io"
	"net"
	"net/netip"
)

// An Exchange is one request and its answer, as a handler sees them. Its byte
// slices are parts of the connection's buffer: they must not be written to, and
// are void when the handler returns, as the Exchange itself. Only one goroutine
// may use it at a time.
//
// The answer is made in this order: Informational any number of times, Status,
// fields, then exactly one of Send, SendSized and Stream.
type Exchange struct {
	c *conn
	s *Server
	h *head

	base   []byte // the head
	rooted []byte // space for a target that lacks its path
	body   body
	client netip.Addr // when clientOf was asked
	ctx    *exchangeContext
	used   bool // ctx was handed out during this exchange

	answer
	stream  stream
	vector  [2][]byte
	buffers net.Buffers
}

// begin makes x ready for the request whose head is base; nil is for an answer
// to what is no request.
func (x *Exchange) begin(base []byte) {
	x.base, x.h = base, &x.c.w.head
	x.client, x.used = netip.Addr{}, false
	x.answer = answer{start: len(x.c.w.out)}
	x.body.begin(x.h, base != nil)
	if base == nil {
		x.close = true
	}
	if t := x.s.trusted.Load(); t != x.c.trusted {
		x.c.trusted, x.c.believed = t, contains(*t, x.c.peer)
	}
}

// Method returns the method as it was sent. Unusual ones cost an allocation
// when they are read.
func (x *Exchange) Method() string { return x.h.method }

// Target returns path and query exactly as received; of an absolute-form target
// only these, with a path of "/" if it has none.
func (x *Exchange) Target() []byte {
	t := x.h.target.of(x.base)
	if x.h.noPath {
		x.rooted = append(append(x.rooted[:0], '/'), t...)
		return x.rooted
	}
	return t
}

// Host returns the authority of an absolute-form target, else the Host field;
// nil if there is neither, which only HTTP/1.0 may do.
func (x *Exchange) Host() []byte { return x.h.host(x.base) }

// Scheme returns "https" if the listener speaks TLS, else "http".
func (x *Exchange) Scheme() string {
	if x.s.tlsConf != nil {
		return "https"
	}
	return "http"
}

// ServerName returns the host name that the client asked for in its TLS
// handshake (SNI); "" without TLS, or if it named none.
func (x *Exchange) ServerName() string { return x.c.serverName }

// ClientCertificate reports whether the client has shown a certificate that was
// verified.
func (x *Exchange) ClientCertificate() bool { return x.c.certified }

// Header returns the value of the first field of this name, in any case, or nil
// if there is none. The value of an empty field is empty and not nil.
func (x *Exchange) Header(name string) []byte {
	for i := range x.h.fields {
		f := &x.h.fields[i]
		if int(f.name.to-f.name.from) == len(name) && foldEqual(f.name.of(x.base), name) && x.shown(f) {
			return f.value.of(x.base)
		}
	}
	return nil
}

// Fields yields every header line in the order received, name and value as
// sent. With an absolute-form target, Host has the target's authority. Fields
// that only a trusted proxy may send are left out if another peer sent them.
func (x *Exchange) Fields(yield func(name, value []byte) bool) {
	for i := range x.h.fields {
		f := &x.h.fields[i]
		if x.shown(f) && !yield(f.name.of(x.base), f.value.of(x.base)) {
			return
		}
	}
}

// shown reports whether handlers see the field.
func (x *Exchange) shown(f *field) bool { return f.kind != fieldForwarded || x.c.believed }

// ContentLength returns the announced length of the body in bytes: 0 if there
// is none, -1 if it is unknown (chunked).
func (x *Exchange) ContentLength() int64 { return x.h.length }

// Body returns the reader of the request's body, always the same one. It fails
// with ErrBodyTooLarge, ErrBodySlow, ErrBodyMalformed, or io.ErrUnexpectedEOF
// when the client leaves. The first Read asks the client to go on if it waits
// for that (Expect: 100-continue).
func (x *Exchange) Body() io.Reader { return &x.body }

// Peer returns the address at the other end of the connection, or the one for
// which a trusted proxy has opened it (PROXY protocol).
func (x *Exchange) Peer() netip.Addr { return x.c.peer }

// Client returns the client's address: the peer, or what trusted proxies say.
func (x *Exchange) Client() netip.Addr {
	if !x.c.believed || !x.h.forwarding {
		return x.c.peer
	}
	if !x.client.IsValid() {
		x.client = clientOf(x.c.peer, *x.c.trusted, x.h.fields, x.base)
	}
	return x.client
}

// Local reports whether the peer is on this machine and the request shows no
// trace of a proxy: no Forwarded, X-Forwarded-*, X-Real-IP or Via. The handler
// checks Host.
func (x *Exchange) Local() bool {
	return x.c.peer.IsLoopback() && !x.c.proxied && !x.h.forwarding && !x.h.via
}

// HTTP10 reports whether the client speaks HTTP/1.0.
func (x *Exchange) HTTP10() bool { return x.h.http10 }

// Context returns a context that is cancelled when the client is known to be
// gone, at a forced shutdown, and when the handler returns. It costs nothing
// until Done is asked for, also by way of a derived context; from then on a
// goroutine watches the connection, once the request's body was read. A client
// that has closed its sending side counts as gone.
func (x *Exchange) Context() context.Context {
	if !x.used {
		x.used = true
		whole := x.body.err != nil
		if x.ctx == nil || !x.ctx.begin(whole) {
			x.ctx = &exchangeContext{c: x.c}
			x.ctx.begin(whole)
		}
	}
	return x.ctx
}

// serverOptions answers "OPTIONS *" (RFC 9110 section 9.3.7).
func (x *Exchange) serverOptions() {
	x.Status(204)
	x.Add("Allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")
	x.Send(nil)
}
