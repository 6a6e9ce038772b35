package front

import (
	"errors"
	"strconv"
)

// ErrOrder is returned when the parts of an answer come in the wrong order, or
// a second answer is tried. Nothing was written.
var ErrOrder = errors.New("front: answer out of order")

// An answer is the state of the answer being made. Its bytes are appended to
// work.out, where answers to earlier requests of a pipeline may still wait.
type answer struct {
	start   int // of this answer in work.out; 0 once something of it was written
	code    int
	state   answerState
	dated   bool // a Date field was added
	close   bool // the connection ends after this answer
	cut     bool // the connection is cut
	failed  error
	trailer []byte // behind a body in chunks
	chunked bool
	untold  bool  // length is told by closing
	left    int64 // of an announced length, to be streamed
	sent    int64 // body bytes taken

	upgraded bool // the connection was handed over
}

// Answered returns the status of the answer so far, how many bytes of its body
// were taken, and whether the client will not get the whole.
func (x *Exchange) Answered() (status int, body int64, cut bool) {
	return x.code, x.answer.sent, x.cut || x.failed != nil || x.state == answerStreaming && x.left > 0 && x.hasBody()
}

type answerState uint8

const (
	answerNone answerState = iota
	answerFields
	answerStreaming
	answerDone
)

// Informational writes an interim answer (103 and the like) at once, with the
// prepared lines of block, each ended by CRLF. It keeps its place behind the
// answers to earlier requests. Clients that speak HTTP/1.0 do not get it. 101
// is refused with ErrOrder, as is a call after Status.
func (x *Exchange) Informational(code int, block []byte) error {
	if x.state != answerNone || code < 100 || code > 199 || code == 101 {
		return ErrOrder
	}
	if x.h.http10 {
		return nil
	}
	if code == 100 {
		x.body.expect = false
	}
	w := x.c.w
	w.out = append(w.out, x.s.lines[code-100]...)
	w.out = append(w.out, block...)
	w.out = append(w.out, "\r\n"...)
	return x.flush()
}

// Status begins the final answer. A second call discards the fields of the
// first, as long as nothing was sent. Codes are 200 to 999; others become 500.
func (x *Exchange) Status(code int) {
	if x.state > answerFields {
		return
	}
	w := x.c.w
	w.out = w.out[:x.start]
	x.state, x.code, x.dated = answerFields, code, false
	switch {
	case code >= 200 && code <= 599:
		w.out = append(w.out, x.s.lines[code-100]...)
	case code >= 600 && code <= 999:
		w.out = append(w.out, "HTTP/1.1 "...)
		w.out = strconv.AppendInt(w.out, int64(code), 10)
		w.out = append(w.out, " \r\n"...)
	default:
		x.code = 500
		w.out = append(w.out, x.s.lines[400]...)
	}
}

// Add appends one header line. Lines that would break the message (CR, LF or
// NUL in it, a name that is no token) and those that the front writes itself
// (Content-Length, Transfer-Encoding, Connection, Keep-Alive) are dropped and
// counted; "Connection: close" is obeyed. Before Status it does nothing.
func (x *Exchange) Add(name, value string) { addField(x, name, value) }

// AddBytes is Add for a value in bytes, which are copied.
func (x *Exchange) AddBytes(name string, value []byte) { addField(x, name, value) }

func addField[T string | []byte](x *Exchange, name string, value T) {
	if x.state != answerFields {
		return
	}
	if x.owned(name) || breaksLine(value) || !validName(name) {
		if len(name) == len("connection") && foldIs(value, "close") {
			x.close = true
			return
		}
		x.s.m.dropped.Inc()
		return
	}
	out := append(x.c.w.out, name...)
	out = append(out, ": "...)
	out = append(out, value...)
	x.c.w.out = append(out, "\r\n"...)
}

// owned reports whether the front writes this field itself, and notes a Date.
func (x *Exchange) owned(name string) bool {
	switch len(name) {
	case 4:
		x.dated = x.dated || foldIs(name, "date")
	case 10:
		return foldIs(name, "connection") || foldIs(name, "keep-alive")
	case 14:
		return foldIs(name, "content-length")
	case 17:
		return foldIs(name, "transfer-encoding")
	}
	return false
}

func validName(name string) bool {
	for i := 0; i < len(name); i++ {
		if classOf[name[i]]&classToken == 0 {
			return false
		}
	}
	return name != ""
}

// AddBlock appends prepared header lines, each ended by CRLF, as they are. It
// trusts them: they must be valid and hold none of the fields that Add drops. A
// Date among them is noticed.
func (x *Exchange) AddBlock(block []byte) {
	if x.state != answerFields {
		return
	}
	x.c.w.out = append(x.c.w.out, block...)
	x.dated = x.dated || hasDate(block)
}

// AddUndated is AddBlock for lines of which none is a Date, which are not looked
// through for one.
func (x *Exchange) AddUndated(block []byte) {
	if x.state == answerFields {
		x.c.w.out = append(x.c.w.out, block...)
	}
}

// Send completes the answer with this body. It adds Date if there was none,
// Content-Length unless the status forbids it, and Connection where needed. The
// body is not sent to HEAD and with statuses that have none. It is written or
// copied when Send returns. Small answers are written with one call, together
// with others of a pipeline; an error may thus appear with a later answer only.
func (x *Exchange) Send(body []byte) error {
	if x.state != answerFields {
		return ErrOrder
	}
	x.state = answerDone
	x.endHead(int64(len(body)))
	if !x.hasBody() || len(body) == 0 {
		return x.failed
	}
	w := x.c.w
	x.answer.sent = int64(len(body))
	if len(body) > copyBelow {
		return x.writeBoth(body)
	}
	w.out = append(w.out, body...)
	if len(w.out) > flushAbove {
		return x.flush()
	}
	return nil
}

// SendSized completes the answer without body bytes and announces this length:
// for HEAD, or 304. A negative length announces none. For other answers only 0
// is accepted, or else ErrOrder is returned.
func (x *Exchange) SendSized(length int64) error {
	if x.state != answerFields || length != 0 && x.hasBody() {
		return ErrOrder
	}
	x.state = answerDone
	x.endHead(length)
	return nil
}

// Abort cuts the connection, so that the client cannot take the answer for
// complete. Answers to earlier requests are written before.
func (x *Exchange) Abort() { x.cut = true }

// CloseAfter closes the connection after this answer, and says so if the head
// of the answer was not made yet.
func (x *Exchange) CloseAfter() { x.close = true }

// hasBody reports whether the answer has a body (RFC 9110 section 6.4.1).
func (x *Exchange) hasBody() bool {
	return x.h.method != "HEAD" && x.code != 204 && x.code != 304
}

// endHead appends what every head ends with; length is that of the body, or
// negative if it is not announced.
func (x *Exchange) endHead(length int64) {
	out := x.c.w.out
	if !x.dated {
		out = append(out, *x.s.date.Load()...)
	}
	switch {
	case x.code == 204 || x.code == 304 && length <= 0:
	case length >= 0:
		out = append(out, "Content-Length: "...)
		out = strconv.AppendInt(out, length, 10)
		out = append(out, "\r\n"...)
	case x.chunked:
		out = append(out, "Transfer-Encoding: chunked\r\n"...)
	}
	if x.lastAnswer() {
		x.close = true
		out = append(out, "Connection: close\r\n"...)
	} else if x.h.http10 {
		out = append(out, "Connection: keep-alive\r\n"...)
	}
	x.c.w.out = append(out, "\r\n"...)
}

// lastAnswer reports whether the connection ends after this answer.
func (x *Exchange) lastAnswer() bool {
	max := x.s.o.MaxRequestsPerConnection
	return x.close || x.untold || !x.h.persistent() || x.s.draining.Load() ||
		max > 0 && x.c.served+1 >= max || x.body.tooMuchLeft()
}

// flush writes all that is pending, this answer's bytes included.
func (x *Exchange) flush() error {
	if x.failed == nil && len(x.c.w.out) > 0 {
		x.failed = x.c.flush()
		x.start = 0
	}
	return x.failed
}

// writeBoth writes what is pending and b.
func (x *Exchange) writeBoth(b []byte) error {
	if x.failed == nil {
		x.failed = x.c.writeOut(x.c.w.out, b)
		x.c.w.out, x.start = x.c.w.out[:0], 0
	}
	return x.failed
}

// hasDate reports whether one of the lines of block is a Date.
func hasDate(block []byte) bool {
	for len(block) > len("date:") {
		if block[0]|0x20 == 'd' && block[4] == ':' && foldIs(block[:4], "date") {
			return true
		}
		n := indexLF(block)
		if n < 0 {
			return false
		}
		block = block[n+1:]
	}
	return false
}

// problem answers with an error of the front and closes.
func (x *Exchange) problem(why refusal) {
	v := why.verdict()
	kind, body := x.s.o.Problem(v.code, v.name, v.detail)
	x.close = true
	x.Status(v.code)
	x.Add("Content-Type", kind)
	if why == refusedTrace {
		x.Add("Allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")
	}
	x.Send(body)
}

// fault answers for a handler that cannot, or cuts the connection if it had
// begun to.
func (x *Exchange) fault(why refusal) {
	if x.state > answerFields {
		x.cut = true
		return
	}
	x.problem(why)
}

// finish ends the exchange after the handler returned. It returns false when
// the connection is to be closed.
func (x *Exchange) finish() bool {
	c := x.c
	if x.used {
		x.ctx, x.used = x.ctx.end(), false
	}
	if c.sent { // by the watcher
		n := copy(c.w.out, c.w.out[len(c.sealed):])
		c.w.out, x.start = c.w.out[:n], x.start-len(c.sealed)
	}
	c.sealed, c.sent = nil, false
	if x.failed == nil {
		x.failed = c.broken
	}
	if x.upgraded {
		x.s.m.class(x.code).Inc()
		return false
	}
	x.complete()
	if x.cut {
		x.s.m.requests[0].Inc()
		x.cutOff()
		return false
	}
	x.s.m.class(x.code).Inc()
	c.served++
	switch {
	case x.failed != nil:
		return false
	case x.close || !x.body.drain():
		x.closeCleanly()
		return false
	}
	return true
}

// complete brings the answer to an end that is right for its state.
func (x *Exchange) complete() {
	switch {
	case x.cut:
	case x.state == answerStreaming:
		x.stream.end()
	case x.state != answerDone:
		x.s.m.refused[refusedSilent].Inc()
		x.problem(refusedSilent)
	}
}

// cutOff writes the earlier answers, if this one is still behind them, and
// resets the connection.
func (x *Exchange) cutOff() {
	if x.failed == nil && x.start > 0 {
		x.c.w.out = x.c.w.out[:x.start]
		x.c.flush()
	}
	x.c.reset()
}

// closeCleanly writes what is pending. The connection lingers if the client may
// still be sending.
func (x *Exchange) closeCleanly() {
	c := x.c
	if x.body.err == nil || x.body.failed() || c.end > c.r {
		c.lingerAway()
		return
	}
	c.flush()
}
