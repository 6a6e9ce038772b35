package api

import (
	"errors"
	"io"

	"github.com/edgenode/edgenode/node/problem"
	"github.com/edgenode/edgenode/tiers/item"
)

// Bounds of what is gathered before the engine is asked: whatever comes first,
// and always when no further line is there yet, so that a client may wait for
// the answer to a line before it sends the next.
const (
	batchLines = 1024
	batchBytes = 4 << 20

	lineOverhead = 64 << 10 // of a line besides its content
)

// An entry is one line of a batch on its way.
type entry struct {
	id      string
	known   bool // id could be read
	problem *problem.Problem
	forward *forwarded // it belongs to the hub: the engine is not asked
	index   int        // if there is no problem: place among the entries that the engine is asked about
}

// A batch reads lines, asks the engine about many at once and writes a line for
// each, in order.
type batch struct {
	c      *call
	in     lineReader
	parse  func(line []byte, e *entry) *problem.Problem // takes in one line
	ask    func()                                       // asks the engine about all taken in; may emit
	answer func(b []byte, e *entry) ([]byte, bool)      // appends the members after "id"; false is a failure
	forget func()                                       // drops what was taken in

	entries    []entry
	asked      int // entries that the engine is asked about
	emitted    int // entries whose answers are in out or gone
	size       int // bytes gathered
	out        []byte
	w          io.Writer
	err        error // of writing the answer; nothing is written after it
	ok, failed int64
}

// run answers the request. Errors of single lines are told in their lines.
func (b *batch) run() *problem.Problem {
	b.in = lineReader{r: b.c.x.Body(), limit: int(2*b.c.api.maxPayload) + lineOverhead}
	if b.in.r == nil {
		b.in.err = io.EOF
	}
	for {
		line, err := b.in.next()
		if err != nil && !errors.Is(err, errLineTooLong) {
			return b.finish(err)
		}
		b.take(line, err)
		full := len(b.entries) >= batchLines || b.size >= batchBytes
		if full || !b.in.ready() {
			if b.flush(!full) != nil {
				b.c.x.Abort()
				return nil
			}
		}
	}
}

// take takes in one line.
func (b *batch) take(line []byte, err error) {
	var e entry
	if err != nil {
		e.problem = &problem.Problem{Kind: problem.ContentTooLarge, Detail: "the line is too long", Limit: int64(b.in.limit)}
	} else {
		e.problem = b.parse(line, &e)
	}
	if e.problem == nil && e.forward == nil {
		e.index = b.asked
		b.asked++
	}
	b.size += len(line)
	b.entries = append(b.entries, e)
}

// flush asks the engine and writes the answers. With now they leave at once.
func (b *batch) flush(now bool) error {
	b.forward()
	if b.asked > 0 {
		b.ask()
	}
	for b.emitted < len(b.entries) {
		b.emit()
	}
	b.forget()
	clear(b.entries)
	b.entries, b.asked, b.emitted, b.size = b.entries[:0], 0, 0, 0
	b.write(now)
	return b.err
}

// emitUntil emits all entries up to the one with the given index among those
// asked.
func (b *batch) emitUntil(index int) {
	for b.emitted < len(b.entries) {
		e := &b.entries[b.emitted]
		b.emit()
		if e.problem == nil && e.forward == nil && e.index == index {
			return
		}
	}
}

// emit answers the next entry.
func (b *batch) emit() {
	b.line(&b.entries[b.emitted])
	b.emitted++
	if len(b.out) >= pageChunk {
		b.write(false)
	}
}

// line appends the answer to one line.
func (b *batch) line(e *entry) {
	b.out = append(b.out, `{"id":`...)
	if e.known {
		b.out = appendString(b.out, e.id)
	} else {
		b.out = append(b.out, "null"...)
	}
	ok := e.problem == nil
	switch {
	case !ok:
		b.out = appendProblem(b.out, e.problem)
	case e.forward != nil:
		b.out, ok = appendForwarded(b.out, e.forward)
	default:
		b.out, ok = b.answer(b.out, e)
	}
	b.out = append(b.out, "}\n"...)
	if ok {
		b.ok++
		b.c.api.metrics.lines[0].Inc()
	} else {
		b.failed++
		b.c.api.metrics.lines[1].Inc()
	}
}

// appendProblem appends the members of a line that failed.
func appendProblem(b []byte, p *problem.Problem) []byte {
	b = appendInt(append(b, `,"status":`...), int64(p.Code()))
	return p.AppendJSON(append(b, `,"problem":`...))
}

// write lets the gathered answers go out, with now as far as the client.
func (b *batch) write(now bool) {
	if b.w == nil && b.err == nil {
		b.c.status(200)
		b.c.x.Add("Content-Type", typeNDJSON)
		b.c.x.Add("Cache-Control", "no-store")
		b.w, b.err = b.c.x.Stream(-1)
	}
	if b.err == nil && len(b.out) > 0 {
		_, b.err = b.w.Write(b.out)
	}
	b.out = b.out[:0]
	if f, ok := b.w.(interface{ Flush() error }); ok && now && b.err == nil {
		b.err = f.Flush()
	}
}

// finish ends the answer when the input has ended, well or not. Only a batch
// that was read to its end gets the last line.
func (b *batch) finish(err error) *problem.Problem {
	p := (*problem.Problem)(nil)
	if err != io.EOF {
		p = b.c.bodyProblem(err, b.c.api.maxPayload)
		if b.w == nil && len(b.entries) == 0 {
			return p
		}
	}
	if b.flush(false) == nil {
		b.last(p)
	}
	if b.err != nil || p != nil {
		b.c.x.Abort()
	}
	return nil
}

// last writes the last line: the count, or why the input could not be read.
func (b *batch) last(p *problem.Problem) {
	if p == nil {
		b.out = appendInt(append(b.out, `{"end":true,"ok":`...), b.ok)
		b.out = appendInt(append(b.out, `,"failed":`...), b.failed)
	} else {
		b.out = appendProblem(append(b.out, `{"id":null`...), p)
	}
	b.out = append(b.out, "}\n"...)
	b.write(true)
}

// takeID checks the id of a line, asks the policy unless it is a write, which
// has more to tell, and returns the key.
func (b *batch) takeID(e *entry, op Op) (item.Key, *problem.Problem) {
	if !e.known {
		return nil, problem.New(problem.BadBody, `member "id" is missing`)
	}
	key, err := item.IDKey(e.id)
	if err != nil {
		return nil, idProblem(err)
	}
	if p := b.c.reaches(key.Own()); p != nil {
		return nil, p
	}
	if b.c.api.policy == nil || op == OpWrite {
		return key, nil
	}
	b.c.d = Decision{}
	b.c.api.policy.Route(b.c.x, op, key.Own(), 0, &b.c.d)
	b.c.ignoreEdits()
	return key, b.denied()
}

// denied is denial for a line, where an answer of the policy's own cannot
// stand.
func (b *batch) denied() *problem.Problem {
	if b.c.d.Answer != nil && b.c.d.Deny == 0 {
		b.c.d.Deny, b.c.d.Reason = 403, "a hook answers this request itself; ask for the item alone"
	}
	return b.c.denial()
}

// readID reads a line that may only hold an id.
func readID(line []byte, e *entry) *problem.Problem {
	err := members(line, func(name string, value []byte) error {
		if name != "id" {
			return unknownMember(name)
		}
		e.known = true
		return stringMember(name, value, &e.id)
	})
	return lineProblem(err, e)
}

// lineProblem returns what is wrong with a line, nil for nil.
func lineProblem(err error, e *entry) *problem.Problem {
	if err == nil {
		return nil
	}
	e.known = e.known && e.id != ""
	return problem.New(problem.BadBody, err.Error())
}

func unknownMember(name string) error {
	return errors.New("member " + quoted(name) + " is not known here")
}

func quoted(s string) string { return string(appendString(nil, s)) }
