package load

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"time"
)

// Limits of what is read of an answer.
const (
	readBuffer = 64 << 10
	maxLine    = 32 << 10 // of a line of the header; below readBuffer
	maxFields  = 1000
)

// errAnswer is wrapped for what is no answer of HTTP/1.1.
var errAnswer = errors.New("load: the answer cannot be read")

// A conn sends requests and reads answers. It connects when it has to. It must
// be used by one goroutine.
type conn struct {
	ctx     context.Context // ends what is under way
	target  *target
	timeout time.Duration
	wire    net.Conn // nil: not connected
	release func() bool
	in      *bufio.Reader
}

// connect makes sure that there is a connection.
func (c *conn) connect() error {
	if c.wire != nil {
		return nil
	}
	wire, err := c.target.dial(c.ctx, c.timeout)
	if err != nil {
		return err
	}
	c.wire = wire
	c.release = context.AfterFunc(c.ctx, func() { _ = wire.Close() }) // ends reads and writes
	if c.in == nil {
		c.in = bufio.NewReaderSize(wire, readBuffer)
	}
	c.in.Reset(wire)
	return nil
}

// send writes requests. They and their answers have the timeout together.
func (c *conn) send(requests []byte) error {
	if err := c.wire.SetDeadline(time.Now().Add(c.timeout)); err != nil {
		return err
	}
	_, err := c.wire.Write(requests)
	return err
}

// close ends the connection, if there is one.
func (c *conn) close() {
	if c.wire != nil {
		c.release()
		_ = c.wire.Close() // nothing of it is used any more
		c.wire = nil
	}
}

// An answer is what is kept of one.
type answer struct {
	status int
	bytes  int64 // of the body
	last   bool  // the server closes the connection
}

// read reads one answer to its end.
func (c *conn) read() (a answer, err error) {
	for {
		var length int64
		if a, length, err = c.head(); err != nil {
			return a, err
		}
		if a.status >= 200 {
			return a, c.body(&a, length)
		}
	}
}

// Lengths of a body that are none.
const (
	untilClose = -1
	chunked    = -2
)

// head reads the status and the header fields.
func (c *conn) head() (a answer, length int64, err error) {
	line, err := c.line()
	if err != nil {
		return a, 0, err
	}
	if len(line) < 12 || !bytes.HasPrefix(line, []byte("HTTP/1.")) || line[8] != ' ' {
		return a, 0, fmt.Errorf("%w: it begins with %.40q", errAnswer, line)
	}
	status, ok := number(line[9:12], 10)
	if !ok || status < 100 {
		return a, 0, fmt.Errorf("%w: status %.40q", errAnswer, line)
	}
	a.status, a.last, length = int(status), line[7] == '0', untilClose
	for range maxFields {
		if line, err = c.line(); err != nil {
			return a, 0, err
		}
		if len(line) == 0 {
			if status == 204 || status == 304 || status < 200 {
				length = 0
			}
			return a, length, nil
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		switch value = bytes.TrimSpace(value); {
		case isName(name, "content-length"):
			n, ok := number(value, 10)
			if !ok {
				return a, 0, fmt.Errorf("%w: %.80q", errAnswer, line)
			}
			if length != chunked {
				length = n
			}
		case isName(name, "transfer-encoding"):
			length = chunked
		case isName(name, "connection"):
			a.last = isName(value, "close")
		}
	}
	return a, 0, fmt.Errorf("%w: more than %d header fields", errAnswer, maxFields)
}

// isName compares without regard to case. Name is in small letters.
func isName(b []byte, name string) bool {
	if len(b) != len(name) {
		return false
	}
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		if c != name[i] {
			return false
		}
	}
	return true
}

// number reads digits, without allocation.
func number(b []byte, base int64) (n int64, ok bool) {
	if len(b) == 0 || len(b) > 15 {
		return 0, false
	}
	for _, c := range b {
		d := int64(255)
		switch {
		case c >= '0' && c <= '9':
			d = int64(c - '0')
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			d = int64(c|0x20-'a') + 10
		}
		if d >= base {
			return 0, false
		}
		n = n*base + d
	}
	return n, true
}

// body reads and drops the body.
func (c *conn) body(a *answer, length int64) error {
	if length >= 0 {
		a.bytes = length
		return c.drop(length)
	}
	if length == untilClose {
		a.last = true
		n, err := io.Copy(io.Discard, c.in)
		a.bytes = n
		return err
	}
	for {
		line, err := c.line()
		if err != nil {
			return err
		}
		digits, _, _ := bytes.Cut(line, []byte(";"))
		n, ok := number(bytes.TrimSpace(digits), 16)
		if !ok {
			return fmt.Errorf("%w: chunk %.40q", errAnswer, line)
		}
		a.bytes += n
		if n == 0 {
			return c.trailer()
		}
		if err := c.drop(n + 2); err != nil { // with its line break
			return err
		}
	}
}

func (c *conn) trailer() error {
	for range maxFields {
		line, err := c.line()
		if err != nil || len(line) == 0 {
			return err
		}
	}
	return fmt.Errorf("%w: more than %d trailer fields", errAnswer, maxFields)
}

func (c *conn) drop(n int64) error {
	for n > 0 {
		k, err := c.in.Discard(int(min(n, 1<<30)))
		n -= int64(k)
		if err != nil {
			return cut(err)
		}
	}
	return nil
}

// line returns a line without its end. It is valid until the next read.
func (c *conn) line() ([]byte, error) {
	line, err := c.in.ReadSlice('\n')
	switch {
	case errors.Is(err, bufio.ErrBufferFull) || len(line) > maxLine:
		return nil, fmt.Errorf("%w: a line above %d bytes", errAnswer, maxLine)
	case err != nil:
		return nil, cut(err)
	}
	return bytes.TrimSuffix(line[:len(line)-1], []byte("\r")), nil
}

// cut makes an end that came too early an error of its own.
func cut(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// Kinds of requests that were not answered.
const (
	KindConnect = "connect" // no connection
	KindTimeout = "timeout" // no whole answer in time
	KindCut     = "cut"     // the connection ended before the answer
	KindAnswer  = "answer"  // what came is no HTTP
)

// kindOf says what kind an error of a request is.
func kindOf(err error) string {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return KindTimeout
	case errors.Is(err, errAnswer):
		return KindAnswer
	}
	return KindCut
}

// statusText returns the name of a status in a Report.
func statusText(status int) string { return strconv.Itoa(status) }
