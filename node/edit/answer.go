package edit

import "bytes"

// A Sink takes the lines of an answer. It copies what AddBlock gets.
type Sink interface {
	Add(name, value string)
	AddBlock(block []byte) // lines, each ended by CRLF
}

// An Answer applies edits to the fields of one answer on their way. It is used
// in this order: Begin, lines, End, and by one goroutine at a time.
//
// Lines that the handler says are its own (Add, Own) stay and overrule an edit of
// that name: they tell what this very answer is. Lines of a block are those of
// what is stored or came from an origin, and are changed.
type Answer struct {
	Edits List
	To    Sink

	status int
	ruled  uint64 // by position in Edits: overruled
	buf    []byte
}

// Max fits the bits of ruled.
const _ = uint64(1) << (Max - 1)

// Begin starts the fields of an answer; those of an earlier start are void.
func (a *Answer) Begin(status int) { a.status, a.ruled = status, 0 }

// Add adds a line of the handler's own.
func (a *Answer) Add(name, value string) {
	a.overrule([]byte(name))
	a.To.Add(name, value)
}

// Own adds lines of the handler's own.
func (a *Answer) Own(block []byte) {
	eachLine(block, func(name, _ []byte) { a.overrule(name) })
	a.To.AddBlock(block)
}

func (a *Answer) overrule(name []byte) {
	if a.Replaces(name) {
		a.ruled |= 1 << a.Edits.find(name)
	}
}

// AddBlock adds the lines that have no edit.
func (a *Answer) AddBlock(block []byte) {
	a.buf = a.buf[:0]
	eachLine(block, func(name, line []byte) {
		if !a.Replaces(name) {
			a.buf = append(a.buf, line...)
		}
	})
	a.To.AddBlock(a.buf)
}

// Replaces reports whether lines of a name are set or removed.
func (a *Answer) Replaces(name []byte) bool {
	at := a.Edits.find(name)
	return at >= 0 && !a.Edits[at].Add
}

// End adds the lines that are set. What describes content is not, where there is
// none of the resource: with 304, 412 and 416.
func (a *Answer) End() {
	a.buf = a.buf[:0]
	bare := a.status == 304 || a.status == 412 || a.status == 416
	for i := range a.Edits {
		e := &a.Edits[i]
		if e.Remove || a.ruled&(1<<i) != 0 || bare && (Is(e.Name, "content-type") || Is(e.Name, "content-language")) {
			continue
		}
		a.buf = append(append(append(append(a.buf, e.Name...), ": "...), e.Value...), "\r\n"...)
	}
	if len(a.buf) > 0 {
		a.To.AddBlock(a.buf)
	}
}

// Value returns what the lines of a name, in lower case, become: the value that
// is set, nil if they are removed, else old.
func (a *Answer) Value(name string, old []byte) []byte {
	at := a.Edits.find([]byte(name))
	switch {
	case at < 0 || a.Edits[at].Add:
		return old
	case a.Edits[at].Remove:
		return nil
	}
	return a.Edits[at].Value
}

func eachLine(block []byte, yield func(name, line []byte)) {
	for len(block) > 0 {
		n := bytes.IndexByte(block, '\n') + 1
		if n == 0 {
			n = len(block)
		}
		name, _, _ := bytes.Cut(block[:n], []byte(":"))
		yield(name, block[:n])
		block = block[n:]
	}
}
