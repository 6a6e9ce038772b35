package front

import (
	"bytes"
	"errors"
	"io"
	"os"
	"time"
)

// Errors of a request's body. After each the connection is closed behind the
// answer.
var (
	// ErrBodyTooLarge is returned when more than MaxBodyBytes arrive. It has a
	// method BodyTooLarge() bool.
	ErrBodyTooLarge error = tooLarge{}
	// ErrBodySlow is returned when the client sends more slowly than
	// MinBodyRate, or stalls. It has a method Timeout() bool.
	ErrBodySlow error = tooSlow{}
	// ErrBodyMalformed is returned when the chunks cannot be read.
	ErrBodyMalformed error = malformed{}
)

type tooLarge struct{}

func (tooLarge) Error() string      { return "front: request body larger than max_payload_bytes" }
func (tooLarge) BodyTooLarge() bool { return true }

type malformed struct{}

func (malformed) Error() string       { return "front: malformed chunked body" }
func (malformed) BodyMalformed() bool { return true }

type tooSlow struct{}

func (tooSlow) Error() string { return "front: request body slower than min_body_rate" }
func (tooSlow) Timeout() bool { return true }

// bodyGrace is how long a body may take without regard to its rate.
const bodyGrace = 10 * time.Second

// Bounds of what surrounds the data of a chunked body, in bytes.
const (
	maxChunkLine = 512      // size and extensions
	maxTrailer   = 8 << 10  // all trailer lines
	maxOverhead  = 16 << 10 // what chunks have too much of, in all
	fairOverhead = 16       // what a chunk may have, besides twice its data
)

// A body reads a request's body from the connection.
type body struct {
	c      *conn
	err    error // io.EOF when the body was read, or is none
	left   int64 // of the body, or of the chunk
	got    int64 // data bytes so far
	around int64 // bytes around the data of chunks that were too many
	waited int64 // coarse milliseconds spent waiting for the client

	chunked bool
	inChunk bool // a chunk's data, or the CRLF behind it, comes next
	expect  bool // the client waits for 100 Continue
}

func (b *body) begin(h *head, request bool) {
	*b = body{c: b.c, err: io.EOF}
	if request && h.length != 0 {
		b.err, b.expect = nil, h.expect
		if b.chunked = h.length == lengthChunked; !b.chunked {
			b.left = h.length
		}
	}
}

// failed reports whether the body ended early.
func (b *body) failed() bool { return b.err != nil && b.err != io.EOF }

// Read implements io.Reader. It buffers nothing beyond the connection's buffer.
func (b *body) Read(p []byte) (int, error) {
	if b.err != nil || len(p) == 0 {
		return 0, b.err
	}
	n, err := b.read(p)
	if err != nil {
		b.fail(err)
		return n, err
	}
	b.got += int64(n)
	b.left -= int64(n)
	if b.left == 0 && !b.chunked {
		b.ended()
	}
	return n, nil
}

func (b *body) read(p []byte) (int, error) {
	if err := b.goOn(); err != nil {
		return 0, err
	}
	if b.chunked && b.left == 0 {
		if err := b.nextChunk(); err != nil {
			return 0, err
		}
	}
	return b.data(p[:min(int64(len(p)), b.left)])
}

// fail notes the body's end; nothing more of the connection is read as
// requests, unless it is the true end.
func (b *body) fail(err error) {
	b.err = err
	switch {
	case err == io.EOF:
		b.ended()
	case err == ErrBodyTooLarge:
		b.c.s.m.refused[refusedBody].Inc()
	case err == ErrBodySlow:
		b.c.s.m.refused[refusedBodySlow].Inc()
	case err == ErrBodyMalformed:
		b.c.s.m.refused[refusedChunk].Inc()
	}
	if err != io.EOF {
		b.c.x.close = true
	}
	if err == io.ErrUnexpectedEOF && b.c.x.used {
		b.c.x.ctx.clientGone()
	}
}

// ended notes that the whole body was read.
func (b *body) ended() {
	b.err = io.EOF
	if b.c.x.used {
		b.c.x.ctx.bodyRead()
	}
}

// goOn sends 100 Continue if the client waits for it.
func (b *body) goOn() error {
	if !b.expect {
		return nil
	}
	b.expect = false
	c, x := b.c, &b.c.x
	if c.end > c.r || x.state > answerFields {
		return nil // it goes on by itself, or has its answer
	}
	if x.start > 0 {
		if err := c.flushFirst(x.start); err != nil {
			return err
		}
		x.start = 0
	}
	return c.write([]byte("HTTP/1.1 100 Continue\r\n\r\n"))
}

// data reads at least one byte of the body into p.
func (b *body) data(p []byte) (int, error) {
	c := b.c
	if c.r == c.end {
		if len(p) >= 2*minRead {
			return b.receive(p)
		}
		if err := b.more(); err != nil {
			return 0, err
		}
	}
	n := copy(p, c.w.in[c.r:c.end])
	c.r += n
	return n, nil
}

// more reads into the connection's buffer.
func (b *body) more() error {
	b.c.roomForBody()
	n, err := b.receive(b.c.w.in[b.c.end:])
	b.c.end += n
	return err
}

// receive reads once from the connection, within the time that the body's rate
// leaves.
func (b *body) receive(p []byte) (int, error) {
	c := b.c
	began := c.s.now.Load()
	c.arm(b.patience(), false)
	n, err := c.nc.Read(p)
	c.deadline.Store(0)
	b.waited += c.s.now.Load() - began
	c.s.m.received.Add(n)
	switch {
	case n > 0:
		return n, nil
	case errors.Is(err, os.ErrDeadlineExceeded):
		c.tcp.SetDeadline(time.Time{}) // the answer is still to be written
		return 0, ErrBodySlow
	default:
		return 0, io.ErrUnexpectedEOF
	}
}

// patience is how long the next read may wait.
func (b *body) patience() time.Duration {
	o := &b.c.s.o
	if o.MinBodyRate <= 0 {
		return o.IdleTimeout
	}
	earned := time.Duration(b.got/o.MinBodyRate) * time.Second
	rest := bodyGrace + earned - time.Duration(b.waited)*time.Millisecond
	return max(0, min(rest, o.IdleTimeout))
}

// roomForBody makes room to read into behind the head, whose bytes the handler
// still uses: if there is too little, it changes to another buffer.
func (c *conn) roomForBody() {
	if c.r == c.end {
		c.r, c.end = c.floor, c.floor
	}
	in := c.w.in
	if len(in)-c.end >= minRead {
		return
	}
	if rest := c.end - c.r; len(in)-c.floor-rest >= minRead {
		c.end = c.floor + copy(in[c.floor:], in[c.r:c.end])
		c.r = c.floor
		return
	}
	c.w.in = make([]byte, 2*max(firstBuffer, c.end-c.r))
	c.end = copy(c.w.in, in[c.r:c.end])
	c.r, c.floor = 0, 0
}

// nextChunk reads up to the data of the next chunk. At the last chunk it reads
// the trailers and returns io.EOF.
func (b *body) nextChunk() error {
	if b.inChunk {
		line, err := b.line(2)
		if err != nil {
			return err
		}
		if len(line) != 0 {
			return ErrBodyMalformed
		}
	}
	line, err := b.line(maxChunkLine)
	if err != nil {
		return err
	}
	size, ok := chunkSize(line)
	switch limit := b.c.s.o.MaxBodyBytes; {
	case !ok:
		return ErrBodyMalformed
	case limit >= 0 && size > limit-b.got:
		return ErrBodyTooLarge
	case size == 0:
		return b.trailers()
	}
	b.left, b.inChunk = size, true
	b.around = max(0, b.around-fairOverhead-2*size)
	return nil
}

// trailers reads the lines behind the last chunk, checks and drops them.
func (b *body) trailers() error {
	for total := 0; total <= maxTrailer; {
		line, err := b.line(maxTrailer)
		if err != nil {
			return err
		}
		if len(line) == 0 {
			return io.EOF
		}
		if _, _, why := splitField(line); why != refusedNot {
			return ErrBodyMalformed
		}
		total += len(line)
	}
	return ErrBodyMalformed
}

// line returns the next line without its CRLF, which is at most limit bytes
// with it. It is valid until the next read.
func (b *body) line(limit int) ([]byte, error) {
	c := b.c
	for seen := 0; ; {
		have := c.w.in[c.r:c.end]
		if i := bytes.IndexByte(have[seen:], '\n'); i >= 0 {
			n := seen + i
			if n == 0 || have[n-1] != '\r' || n+1 > limit {
				return nil, ErrBodyMalformed
			}
			c.r += n + 1
			if b.around += int64(n + 1); b.around > maxOverhead {
				return nil, ErrBodyMalformed
			}
			return have[:n-1], nil
		}
		if seen = len(have); seen >= limit {
			return nil, ErrBodyMalformed
		}
		if err := b.more(); err != nil {
			return nil, err
		}
	}
}

// maxSizeDigits keeps a chunk size within an int64.
const maxSizeDigits = 15

// chunkSize reads "size [extensions]" (RFC 9112 section 7.1). Extensions are
// ignored; they hold no control characters.
func chunkSize(line []byte) (size int64, ok bool) {
	n := 0
	for ; n < len(line); n++ {
		digit := hexDigit(line[n])
		if digit < 0 {
			break
		}
		size = size<<4 | digit
		if n == maxSizeDigits {
			return 0, false
		}
	}
	rest := trimOWS(line[n:])
	return size, n > 0 && (len(rest) == 0 && len(line) == n || len(rest) > 0 && rest[0] == ';' && isValue(rest))
}

func hexDigit(c byte) int64 {
	switch {
	case c >= '0' && c <= '9':
		return int64(c - '0')
	case c|0x20 >= 'a' && c|0x20 <= 'f':
		return int64(c|0x20-'a') + 10
	}
	return -1
}

// tooMuchLeft reports whether the unread rest of the body is not worth reading:
// it is large, or the client waits to be asked for it.
func (b *body) tooMuchLeft() bool {
	return b.failed() || b.err == nil && (b.expect || !b.chunked && b.left > drainMax)
}

// drain reads and drops the rest of the body, up to a bound. It returns false
// if the next request cannot be read then.
func (b *body) drain() bool {
	if b.err == nil && !b.tooMuchLeft() && b.c.flush() == nil {
		scratch := b.c.w.out[:cap(b.c.w.out)]
		for start := b.got; b.err == nil && b.got-start <= drainMax; {
			b.Read(scratch)
		}
	}
	return b.err == io.EOF
}
