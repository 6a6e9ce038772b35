package front

import (
	"bytes"
	"errors"
	"io"
	"strconv"
)

// ErrTooLong is returned by a Write beyond the announced length. What fits was
// taken; the connection will be closed.
var ErrTooLong = errors.New("front: answer longer than announced")

// Stream begins an answer whose body follows by writes: of this length, or of
// unknown length if it is negative, which is chunked, or delimited by close to
// HTTP/1.0. Writes gather until they make some kilobytes; the writer has a
// method Flush() error. The end is implied when the handler returns. If less
// was written than announced, or Abort was called, the connection is cut.
func (x *Exchange) Stream(length int64) (io.Writer, error) {
	if x.state != answerFields {
		return nil, ErrOrder
	}
	x.state = answerStreaming
	x.left = length
	if x.hasBody() && length < 0 {
		x.chunked, x.untold = !x.h.http10, x.h.http10
	}
	x.endHead(length)
	return &x.stream, nil
}

// Trailer sets the fields that follow a streamed body (RFC 9110 section 6.5):
// prepared lines, each ended by CRLF, of which it keeps a copy. It trusts them as
// AddBlock does. It reports false, and nothing is sent, unless the body is being
// streamed in chunks. Whether the client wants them is for the caller to know.
func (x *Exchange) Trailer(block []byte) bool {
	if x.state != answerStreaming || !x.chunked {
		return false
	}
	x.trailer = append([]byte(nil), block...)
	return true
}

// stream is the writer of a streamed answer.
type stream struct{ x *Exchange }

// Write takes p; it keeps no reference to it.
func (w *stream) Write(p []byte) (int, error) {
	x := w.x
	switch {
	case x.state != answerStreaming:
		return 0, ErrOrder
	case x.failed != nil:
		return 0, x.failed
	case len(p) == 0:
		return 0, nil
	}
	n, err := len(p), error(nil)
	if x.left >= 0 {
		if int64(n) > x.left {
			n, err, x.close = int(x.left), ErrTooLong, true
		}
		x.left -= int64(n)
	}
	if x.hasBody() && n > 0 {
		if failed := w.put(p[:n]); failed != nil {
			return 0, failed
		}
	}
	return n, err
}

// put appends or writes a part of the body.
func (w *stream) put(p []byte) error {
	x, work := w.x, w.x.c.w
	x.answer.sent += int64(len(p))
	if x.chunked {
		work.out = strconv.AppendInt(work.out, int64(len(p)), 16)
		work.out = append(work.out, "\r\n"...)
	}
	if len(p) > copyBelow {
		if err := x.writeBoth(p); err != nil {
			return err
		}
	} else {
		work.out = append(work.out, p...)
	}
	if x.chunked {
		work.out = append(work.out, "\r\n"...)
	}
	if len(work.out) > flushAbove {
		return x.flush()
	}
	return nil
}

// Flush sends what was written so far.
func (w *stream) Flush() error {
	if w.x.state != answerStreaming {
		return ErrOrder
	}
	return w.x.flush()
}

// end completes the body, or has the connection cut if it is not whole.
func (w *stream) end() {
	x := w.x
	x.state = answerDone
	switch {
	case x.failed != nil:
		x.cut = true
	case !x.hasBody():
	case x.left > 0:
		x.cut = true
	case x.chunked:
		x.c.w.out = append(x.c.w.out, "0\r\n"...)
		x.c.w.out = append(x.c.w.out, x.trailer...)
		x.c.w.out = append(x.c.w.out, "\r\n"...)
	}
}

func indexLF(b []byte) int { return bytes.IndexByte(b, '\n') }
