package front

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// A conn is one connection and its loop. All fields belong to the connection's
// goroutine, but for those that say otherwise. It is reused.
type conn struct {
	s        *Server
	tcp      net.Conn        // as accepted; any goroutine may close it or set its deadlines
	nc       net.Conn        // tcp, or TLS over it
	raw      syscall.RawConn // of plain TCP, else nil
	peer     netip.Addr
	trusted  *[]netip.Prefix // what believed was judged by
	believed bool            // the peer is a trusted proxy
	counted  bool            // in Server.byAddress
	index    int             // in Server.conns, under Server.mu

	serverName string // of the TLS handshake
	certified  bool   // the client's certificate was verified
	proxied    bool   // peer is what a PROXY header said

	// deadline is a deadline for the coarse clock. The connection sets it; the
	// clock and Shutdown take it away when they wake the connection.
	deadline deadlineCell

	w      *work // nil while the connection is idle on plain TCP
	r, end int   // the bytes in w.in that were read and not used
	floor  int   // first byte of w.in that may be overwritten during a request
	served int
	since  int64 // coarse time of the first byte of the head, 0 before it

	tryRead func(fd uintptr) bool // readNow
	idle    bool                  // for readNow
	got     int                   // of readNow
	gotErr  error                 // of readNow

	// outMu guards writing of sealed, the answers to earlier requests of a
	// pipeline that are still in w.out, when a handler waits: see watch.
	outMu  sync.Mutex
	sealed []byte // only the connection's goroutine sets it
	sent   bool   // the watcher has taken sealed
	broken error  // of the watcher's writing

	x Exchange
}

type deadlineCell struct{ v atomic.Int64 }

func (d *deadlineCell) Load() deadline { return deadline(d.v.Load()) }
func (d *deadlineCell) Store(x deadline) {
	d.v.Store(int64(x))
}
func (d *deadlineCell) CompareAndSwap(old, new deadline) bool {
	return d.v.CompareAndSwap(int64(old), int64(new))
}

// work is what a connection needs only while it has something to do.
type work struct {
	in      []byte // its whole length is the buffer
	out     []byte // answers that were not written yet
	head    head
	opinion opinion
}

// Sizes in bytes.
const (
	firstBuffer = 4 << 10  // of in and out
	keepBuffer  = 64 << 10 // larger buffers are not kept for the next request
	flushAbove  = 16 << 10 // pending answers are written when they exceed it
	copyBelow   = 8 << 10  // bodies up to this are copied behind their head
	minRead     = 1 << 10  // least room to read into
	drainMax    = 256 << 10
	lingerMax   = 256 << 10
	lingerTime  = 2 * time.Second
)

func newConn(s *Server) *conn {
	c := &conn{s: s}
	c.tryRead = c.readNow
	c.x.c, c.x.s = c, s
	c.x.body.c = c
	c.x.stream.x = &c.x
	return c
}

// open makes c ready for a connection. Server.mu is held.
func (c *conn) open(nc net.Conn, peer netip.Addr, believed bool) {
	c.tcp, c.nc, c.peer = nc, nc, peer
	c.trusted, c.believed, c.counted = c.s.trusted.Load(), believed, !believed
	c.served, c.since = 0, 0
	c.sealed, c.sent, c.broken = nil, false, nil
	c.serverName, c.certified, c.proxied = "", false, false
	c.deadline.Store(0)
}

// wake ends the read or write that c waits in. It may be called by any
// goroutine.
func (c *conn) wake() { c.tcp.SetDeadline(time.Unix(1, 0)) }

// arm sets the deadline for what follows.
func (c *conn) arm(d time.Duration, idle bool) { c.deadline.Store(c.s.deadlineIn(d, idle)) }

// serve is the connection's goroutine.
func (c *conn) serve() {
	s := c.s
	defer s.serving.Done()
	sound := c.loop()
	c.deadline.Store(0)
	c.nc.Close()
	s.leave(c)
	if !sound {
		return // nothing of it is used again
	}
	c.release()
	c.tcp, c.nc, c.raw = nil, nil, nil
	s.connPool.Put(c)
}

// loop serves requests until the connection is to be closed. It returns false
// after a panic of the connection's own code, which costs this connection alone.
func (c *conn) loop() (sound bool) {
	defer func() {
		if p := recover(); p != nil {
			c.panicked("connection panicked", p)
			if c.x.used {
				c.x.ctx.end()
			}
			c.reset()
		}
	}()
	if c.handshake() {
		for c.readHead() && c.exchange() {
		}
	}
	return true
}

// panicked counts and logs a panic; it is called where that is stopped.
func (c *conn) panicked(what string, p any) {
	c.s.m.refused[refusedPanic].Inc()
	c.s.o.Logger.Error(what, "listener", c.s.o.Name, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
}

// handshake sets nc and raw up. It returns false if the client does not manage
// TLS within HeaderTimeout.
func (c *conn) handshake() bool {
	if c.s.o.ProxyProtocol && c.believed {
		switch {
		case !c.announced():
			c.s.m.refused[refusedProxy].Inc()
			return false
		case !c.s.countIn(c):
			c.s.m.refused[refusedAddress].Inc()
			return false
		}
	}
	if c.s.tlsConf == nil {
		c.raw = rawOf(c.tcp)
		return true
	}
	c.arm(c.s.o.HeaderTimeout, true)
	t := tls.Server(c.tcp, c.s.tlsConf)
	c.nc = t
	if t.HandshakeContext(c.s.base) != nil {
		c.s.m.refused[refusedHandshake].Inc()
		return false
	}
	state := t.ConnectionState()
	c.serverName, c.certified = state.ServerName, len(state.VerifiedChains) > 0
	return true
}

// acquire takes buffers from the pool.
func (c *conn) acquire() {
	if c.w != nil {
		return
	}
	if w, ok := c.s.works.Get().(*work); ok {
		c.w = w
	} else {
		c.w = &work{in: make([]byte, firstBuffer), out: make([]byte, 0, firstBuffer)}
		c.w.head.maxURL, c.w.head.maxHeader = c.s.o.MaxURLBytes, c.s.o.MaxHeaderBytes
	}
	c.w.head.reset()
	c.r, c.end, c.floor = 0, 0, 0
}

// release gives the buffers back. Nothing may be left in them.
func (c *conn) release() {
	w := c.w
	if w == nil {
		return
	}
	c.w, c.x.base, c.x.h = nil, nil, nil
	if cap(w.in) > keepBuffer || cap(w.out) > keepBuffer || cap(w.head.fields) > keepBuffer/16 {
		return
	}
	w.out = w.out[:0]
	c.s.works.Put(w)
}

// readHead reads until a request head is complete. It returns false when the
// connection is to be closed; what the client must hear was written.
func (c *conn) readHead() bool {
	c.since = 0
	if c.w != nil {
		c.w.head.reset()
	}
	for {
		if c.w != nil && c.end > c.r {
			done, why := c.w.head.feed(c.w.in[c.r:c.end])
			if why != refusedNot {
				c.refuse(why)
				return false
			}
			if done {
				return true
			}
		}
		if err := c.more(); err != nil {
			if c.since != 0 && errors.Is(err, os.ErrDeadlineExceeded) {
				c.refuse(refusedHeaderSlow)
			}
			return false
		}
	}
}

var errClosing = errors.New("front: the server is closing")

// more reads further bytes of a head. Answers that are pending are written
// first, so that a client that waits for them is not left waiting.
func (c *conn) more() error {
	if err := c.flush(); err != nil {
		return err
	}
	c.idle = c.w == nil || c.end == c.r
	if c.idle {
		c.r, c.end = 0, 0
		c.arm(c.s.o.IdleTimeout, true)
		if c.s.closing.Load() {
			return errClosing
		}
	} else if err := c.partial(); err != nil {
		return err
	}
	if err := c.fill(); err != nil {
		return err
	}
	c.s.m.received.Add(c.got)
	return nil
}

// partial prepares for reading more of a head that has begun: its deadline runs
// from its first byte.
func (c *conn) partial() error {
	if c.since == 0 {
		c.since = c.s.now.Load() + 1
		c.arm(c.s.o.HeaderTimeout, false)
	}
	in := c.w.in
	if c.end < len(in) {
		return nil
	}
	if c.r == 0 {
		c.w.in = make([]byte, 2*len(in))
	}
	c.end = copy(c.w.in, in[c.r:c.end])
	c.r = 0
	return nil
}

// fill reads once, to got and end.
func (c *conn) fill() (err error) {
	if c.raw != nil {
		if err = c.raw.Read(c.tryRead); err == nil {
			err = c.gotErr
		}
		if err != nil {
			return err
		}
	} else {
		c.acquire()
		if c.got, err = c.nc.Read(c.w.in[c.end:]); c.got == 0 && err != nil {
			return err
		}
	}
	c.end += c.got
	return nil
}

// refuse answers in place of a handler and closes the connection.
func (c *conn) refuse(why refusal) {
	c.s.m.refused[why].Inc()
	if why == refusedHeaderSlow {
		c.tcp.SetDeadline(time.Time{})
	}
	x := &c.x
	x.begin(nil)
	x.problem(why)
	c.s.m.class(x.code).Inc()
	c.lingerAway()
}

// exchange hands the request that is in the buffer to the handler. It returns
// false when the connection is to be closed.
func (c *conn) exchange() bool {
	h, x := &c.w.head, &c.x
	c.deadline.Store(0)
	block := c.w.in[c.r : c.r+h.next : c.r+h.next]
	if h.length != 0 && !c.w.opinion.agrees(block, h) {
		c.refuse(refusedDisagree)
		return false
	}
	if max := c.s.o.MaxBodyBytes; max >= 0 && h.length > max {
		c.refuse(refusedBody)
		return false
	}
	c.r += h.next
	c.floor = c.r
	if len(c.w.out) > 0 {
		c.sealed, c.sent = c.w.out, false
	}
	x.begin(block)
	if h.asterisk {
		x.serverOptions()
	} else {
		c.handle()
	}
	return x.finish()
}

// handle calls the handler and outlives its panic.
func (c *conn) handle() {
	defer func() {
		if p := recover(); p != nil {
			c.panicked("handler panicked", p)
			c.x.fault(refusedPanic)
		}
	}()
	c.s.handler(&c.x)
}

// flush writes all pending answers.
func (c *conn) flush() error {
	if c.w == nil || len(c.w.out) == 0 {
		return nil
	}
	return c.flushFirst(len(c.w.out))
}

// flushFirst writes the first n bytes of what is pending and moves the rest to
// the front.
func (c *conn) flushFirst(n int) error {
	out := c.w.out
	err := c.writeOut(out[:n], nil)
	c.w.out = append(out[:0], out[n:]...)
	return err
}

// writeOut writes pending bytes, less those that the watcher has written, and
// then body, without copying it.
func (c *conn) writeOut(pending, body []byte) error {
	if len(c.sealed) > 0 {
		c.outMu.Lock()
		defer c.outMu.Unlock()
		if c.broken != nil {
			return c.broken
		}
		if c.sent {
			pending = pending[len(c.sealed):]
		}
		c.sealed = nil
	}
	if body == nil {
		return c.write(pending)
	}
	return c.writeBoth(pending, body)
}

// write writes b to the client within the time that it deserves.
func (c *conn) write(b []byte) error {
	for len(b) > 0 {
		piece := b[:min(len(b), writePiece)]
		c.arm(c.writeTime(len(piece)), false)
		n, err := c.nc.Write(piece)
		c.deadline.Store(0)
		c.s.m.sent.Add(n)
		if err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// writePiece is how much is written under one deadline.
const writePiece = 256 << 10

// writeTime is how long writing n bytes may take: a client that takes an answer
// may be as slow as one that sends a body.
func (c *conn) writeTime(n int) time.Duration {
	rate := c.s.o.MinBodyRate
	if rate <= 0 {
		rate = DefaultMinBodyRate
	}
	return c.s.o.IdleTimeout + time.Duration(int64(n)/rate)*time.Second
}

// writeBoth writes pending and body with one call of the system, where there is
// one for it.
func (c *conn) writeBoth(pending, body []byte) error {
	first := body[:min(len(body), writePiece)]
	c.arm(c.writeTime(len(first)), false)
	x := &c.x
	x.vector[0], x.vector[1] = pending, first
	x.buffers = x.vector[:]
	n, err := x.buffers.WriteTo(c.nc)
	c.deadline.Store(0)
	x.vector, x.buffers = [2][]byte{}, nil
	c.s.m.sent.AddInt64(n)
	if err != nil {
		return err
	}
	return c.write(body[len(first):])
}

// lingerAway writes what is pending and closes in a way that lets the client
// read it though it is still sending (RFC 9112 section 9.6).
func (c *conn) lingerAway() {
	if c.flush() != nil || c.w == nil {
		return
	}
	c.arm(lingerTime, true)
	if !c.s.closing.Load() {
		linger(c.nc, c.w.in, lingerMax)
	}
}

// linger says that nothing will follow and takes up to limit bytes until the
// client closes or a deadline passes.
func linger(nc net.Conn, scratch []byte, limit int) {
	half, ok := nc.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	for limit > 0 {
		n, err := nc.Read(scratch)
		if err != nil {
			return
		}
		limit -= n
	}
}

// reset closes the connection so that the client cannot take what it got for
// complete.
func (c *conn) reset() {
	if t, ok := c.tcp.(*net.TCPConn); ok {
		t.SetLinger(0)
	}
	c.tcp.Close()
}
