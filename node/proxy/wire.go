package proxy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// A wire is a connection to an origin of our own: for requests without a body, in
// HTTP/1.1 without TLS. The goroutine that asks writes the request and reads the
// answer itself. net/http has two goroutines for each connection, and each exchange
// wakes both; that costs more than all else of a miss.
//
// Answers of the usual shape are read by readPlain. All others are read by net/http's
// ReadResponse, with the same tap and codingConn before it as its own connections
// have, so that nothing is taken for granted that they would refuse.
//
// A wire is used by one exchange at a time, and kept only if all of its answer was
// read, nothing came behind it, and nobody said that it closes.
type wire struct {
	net.Conn
	line  *line
	since time.Time // idle since
	used  bool      // it has answered
	*ear

	in    []byte // what was read, of which in[r:w] is not yet used
	r, w  int
	out   []byte   // of a request
	names []string // of its fields
}

// wireBytes is the room for what is read at once: a usual header and a small body.
const wireBytes = 8 << 10

func newWire(c net.Conn, l *line) *wire {
	return &wire{Conn: c, line: l, ear: newEar(c), in: make([]byte, wireBytes)}
}

// fill reads behind what is there. There must be room.
func (w *wire) fill() (int, error) {
	if w.r == w.w {
		w.r, w.w = 0, 0
	}
	n, err := w.Conn.Read(w.in[w.w:])
	w.w += n
	return n, err
}

// A wireCall is one exchange over a wire. Its Read is that of the answer's body;
// it is used by one goroutine, end by any.
type wireCall struct {
	*wire
	stall  time.Duration // between bytes of the body
	unhook func() bool   // of the context that ends the call
	over   atomic.Bool   // the wire was given back
	came   bool          // a byte of an answer
	took   bool          // see tap.took
	wrong  bool          // more came than was announced
	keep   bool          // the origin keeps the connection open
	inBody bool
	failed error // what Read has returned
	left   int64 // of the body, where readPlain found its length

	// For an answer that net/http reads; nil and 0 for a plain one.
	body   io.Reader
	tap    *tap
	buffer *bufio.Reader
	head   int64 // bytes that its header may still have
}

// errHead is returned for an answer whose header is too long.
var errHead = errors.New("proxy: the header of the origin's answer is too long")

// end gives the wire back, once; whole says that all of the answer was read. A call
// that is not whole closes it, which ends a Read under way.
func (c *wireCall) end(whole bool) {
	if c.over.Swap(true) {
		return
	}
	alone := c.unhook()
	c.line.release(c.wire, whole && alone && c.clean())
}

// clean reports whether nothing of the exchange is left, and the next one may have
// the connection.
func (c *wireCall) clean() bool {
	if !c.keep || c.wrong || c.r != c.w {
		return false
	}
	return c.tap == nil || c.buffer.Buffered() == 0 && c.tap.settled()
}

// send writes the request and waits for the header of its answer until then.
func (c *wireCall) send(f *fetch, host string, until time.Time, wrote *atomic.Bool) (*http.Response, error) {
	if err := c.write(f, host); err != nil {
		return nil, err
	}
	first := time.Now().Add(f.r.pool.FirstByteTimeout)
	if until.Before(first) {
		first = until
	}
	if err := c.SetDeadline(first); err != nil {
		return nil, err
	}
	n, failed := c.Conn.Write(c.out)
	if n > 0 {
		wrote.Store(true)
	}
	resp, err := c.answer(f)
	if err == nil && failed != nil {
		c.keep = false // it answered without having read all
	}
	if err != nil && failed != nil && !c.came {
		err = failed
	}
	if err == io.EOF && failed == nil && !c.came {
		c.took = acknowledged(c.Conn)
	}
	return resp, err
}

// write makes the request.
func (c *wireCall) write(f *fetch, host string) error {
	out := append(append(append(c.out[:0], f.r.method...), ' '), f.r.target...)
	out = append(append(append(out, " HTTP/1.1\r\nHost: "...), host...), "\r\n"...)
	switch f.r.method {
	case http.MethodPost, http.MethodPut, http.MethodPatch: // else it might lack (RFC 9110 §8.6)
		out = append(out, "Content-Length: 0\r\n"...)
	}
	c.names = c.names[:0]
	for name := range f.header {
		c.names = append(c.names, name)
	}
	slices.Sort(c.names)
	for _, name := range c.names {
		if name == "Host" || name == "Content-Length" || name == "Transfer-Encoding" || name == "Trailer" {
			continue
		}
		for _, value := range f.header[name] {
			if name == "" || tokenLen(name) != len(name) || !validValue(value) {
				return fmt.Errorf("proxy: field %q of a request cannot be sent", name)
			}
			out = append(append(append(append(out, name...), ": "...), strings.Trim(value, " \t")...), "\r\n"...)
		}
	}
	c.out = append(out, "\r\n"...)
	return nil
}

// validValue reports whether a field value can be sent (RFC 9110 §5.5).
func validValue(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' && s[i] != '\t' || s[i] == 0x7f {
			return false
		}
	}
	return true
}

// answer reads the header of the answer, interim ones before it.
func (c *wireCall) answer(f *fetch) (*http.Response, error) {
	for {
		if end := headEnd(c.in[c.r:c.w]); end >= 0 {
			if resp, ok := readPlain(c.in[c.r:c.r+end], f.r.method); ok {
				c.r += end
				c.left, c.keep = resp.ContentLength, true
				c.wrong = c.left < int64(c.w-c.r)
				c.inBody = true
				return resp, nil
			}
			break
		}
		if c.r == 0 && c.w == len(c.in) {
			break
		}
		n, err := c.fill()
		c.came = c.came || n > 0
		if err != nil && c.w > c.r {
			err = fmt.Errorf("proxy: the header of the answer: %w", noEOF(err))
		}
		if err != nil {
			return nil, err
		}
	}
	return c.unusual(f)
}

// noEOF makes the end of a connection an error.
func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// unusual reads an answer as net/http's own connections do.
func (c *wireCall) unusual(f *fetch) (*http.Response, error) {
	coding := &codingConn{Conn: wireRest{c.Conn, c}}
	c.tap = newTap(coding)
	coding.begin()
	c.tap.begin()
	c.head = maxAnswerHeader
	c.buffer = bufio.NewReader(headLimit{c})
	req := &http.Request{Method: f.r.method}
	for {
		resp, err := http.ReadResponse(c.buffer, req)
		if err != nil {
			return nil, fmt.Errorf("proxy: the header of the answer: %w", err)
		}
		if code := resp.StatusCode; code >= 200 || code == http.StatusSwitchingProtocols || code < 100 {
			c.head, c.inBody = -1, true
			c.keep = !resp.Close && code >= 200
			if c.body = resp.Body; resp.Body == http.NoBody {
				c.body = nil
			}
			return resp, nil
		}
		if f.info != nil && resp.StatusCode != http.StatusContinue {
			f.info(resp.StatusCode, resp.Header)
		}
		c.head = maxAnswerHeader
	}
}

// wireRest is the connection of a call as tap and codingConn see it: what was read
// already comes first.
type wireRest struct {
	net.Conn
	c *wireCall
}

// Read implements net.Conn.
func (r wireRest) Read(b []byte) (int, error) {
	c := r.c
	if c.r < c.w {
		n := copy(b, c.in[c.r:c.w])
		c.r += n
		return n, nil
	}
	return c.read(b)
}

// headLimit bounds a header.
type headLimit struct{ c *wireCall }

func (h headLimit) Read(b []byte) (int, error) {
	c := h.c
	if c.head == 0 {
		return 0, errHead
	}
	if c.head > 0 && int64(len(b)) > c.head {
		b = b[:c.head]
	}
	n, err := c.tap.Read(b)
	if c.head > 0 {
		c.head -= int64(n)
	}
	return n, err
}

// read reads from the connection, in a body for the time that the origin has
// between two bytes of it.
func (c *wireCall) read(b []byte) (int, error) {
	c.patient()
	n, err := c.Conn.Read(b)
	c.came = c.came || n > 0
	return n, err
}

func (c *wireCall) patient() {
	if c.inBody {
		_ = c.SetReadDeadline(time.Now().Add(c.stall)) // else the Read tells
	}
}

// Read reads the body. With the last byte comes io.EOF. Errors come again.
func (c *wireCall) Read(b []byte) (n int, err error) {
	switch {
	case c.failed != nil:
		return 0, c.failed
	case c.over.Load():
		return 0, net.ErrClosed // the connection may be another call's
	case c.tap == nil:
		n, err = c.plain(b)
	case c.body == nil:
		err = io.EOF
	default:
		n, err = c.body.Read(b)
	}
	c.failed = err
	return n, err
}

// plain reads a body of known length.
func (c *wireCall) plain(b []byte) (int, error) {
	n, err := c.sized(b)
	c.left -= int64(n)
	if c.left == 0 {
		return n, io.EOF
	}
	return n, noEOF(err)
}

// sized reads at most what is left, and looks whether more comes with the last byte.
func (c *wireCall) sized(b []byte) (int, error) {
	switch {
	case c.left == 0 || len(b) == 0:
		return 0, nil
	case c.r == c.w && int64(len(b)) > c.left: // with room to see what is behind it
		n, err := c.read(b)
		if int64(n) > c.left {
			c.wrong = true
			n = int(c.left)
		}
		return n, err
	case c.r == c.w && int64(len(b)) < c.left && len(b) >= wireBytes:
		return c.read(b)
	case c.r == c.w:
		c.patient()
		if n, err := c.fill(); n == 0 {
			return 0, err
		}
		c.wrong = int64(c.w-c.r) > c.left
	}
	n := copy(b[:min(int64(len(b)), c.left)], c.in[c.r:c.w])
	c.r += n
	return n, nil
}

// broken reports whether the framing of the answer is not to be trusted.
func (c *wireCall) broken() bool { return c.wrong || c.tap != nil && c.tap.broken() }

// wireFor returns the line over which f goes to o, and what it gets as Host; nil if
// net/http has to ask: for a request with a body or for another protocol, or for a
// host that net/http would rewrite.
func (f *fetch) wireFor(o *origin) (l *line, host string) {
	if o.line == nil || f.body != nil || f.upgrade {
		return nil, ""
	}
	host = f.r.pool.hostField(o, f.r.host)
	for i := range len(host) {
		if c := host[i]; c <= ' ' || c >= 0x7f || c == '%' || c == '/' {
			return nil, ""
		}
	}
	if host == "" {
		return nil, ""
	}
	return o.line, host
}

// over is try over a wire.
func (f *fetch) over(ctx context.Context, o *origin, l *line, host string) (*originAnswer, error) {
	a := &originAnswer{ctx: ctx, wanted: ctx, origin: o}
	if !validTarget(f.r.target) {
		return nil, fmt.Errorf("proxy: target %q cannot be sent", f.r.target)
	}
	o.inFlight.Add(1)
	a.sent = f.p.o.Now()
	resp, err := a.call(f, l, host)
	if err != nil {
		if a.wire != nil {
			a.wire.end(false)
		}
		o.inFlight.Add(-1)
		return nil, f.failed(a, err)
	}
	return f.arrived(a, resp)
}

// call gets a wire and sends the request.
func (a *originAnswer) call(f *fetch, l *line, host string) (*http.Response, error) {
	until := time.Now().Add(f.r.pool.ConnectTimeout + f.r.pool.FirstByteTimeout)
	w := l.kept()
	if w == nil {
		var err error
		if w, err = l.wireBy(a.ctx, until); err != nil {
			return nil, err
		}
	}
	c := &wireCall{wire: w, stall: f.p.o.StallTimeout}
	c.unhook = context.AfterFunc(a.ctx, func() { w.Conn.Close() })
	a.wire, a.reused = c, w.used
	resp, err := c.send(f, host, until, &a.wrote)
	w.used = true
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = errFirstByte
	}
	if err != nil {
		return nil, err
	}
	a.tap = c.tap
	if resp.Body == http.NoBody {
		c.end(true)
		return resp, nil
	}
	resp.Body = io.NopCloser(c)
	return resp, nil
}

// wireBy is wire until a time.
func (l *line) wireBy(ctx context.Context, until time.Time) (*wire, error) {
	ctx, cancel := context.WithDeadlineCause(ctx, until, errFirstByte)
	defer cancel()
	return l.wire(ctx)
}
