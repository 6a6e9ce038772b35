package edit

import (
	"bytes"
	"slices"
	"strings"
)

// An Edit is one change to the header fields of a request or its answer. Its
// bytes belong to who made it and stay as they are until the answer is sent.
type Edit struct {
	Response bool // of the answer, else of the request
	Remove   bool // all lines of that name; else Value replaces them, or is added
	Add      bool // a line beside those of that name, whatever Remove says
	Name     []byte
	Value    []byte
}

// Max is how many names may be changed on one side of an exchange.
const Max = 64

// A List is the edits of one side, at most one for each name.
type List []Edit

// A Refusal says what was not admitted. The zero value: nothing.
type Refusal struct {
	Count int
	Name  []byte // of the first; it may be no name at all
}

func (r *Refusal) add(name []byte) {
	if r.Count++; r.Count == 1 {
		r.Name = name
	}
}

// Admit returns the edits of each side, the last for each name, and what is not
// among them: fields that nobody may change, those for which own (which may be
// nil) reports true, names and values that cannot stand in a header, and more
// than [Max]. What it returns shares the bytes of all.
func Admit(all []Edit, own func(name []byte) bool) (request, response List, no Refusal) {
	for i := range all {
		e := all[i]
		e.Value = bytes.Trim(e.Value, " \t")
		e.Remove = e.Remove && !e.Add
		side := &request
		if e.Response {
			side = &response
		}
		at := side.find(e.Name)
		switch {
		case !mayChange(e.Name) || !e.Remove && !validValue(e.Value), own != nil && own(e.Name), at < 0 && len(*side) == Max:
			no.add(e.Name)
		case at >= 0:
			(*side)[at] = e
		default:
			*side = append(*side, e)
		}
	}
	return request, response, no
}

// find returns the position of the edit of a name, or -1.
func (l List) find(name []byte) int {
	return slices.IndexFunc(l, func(e Edit) bool { return fold(e.Name, name) })
}

// A Field is a header line.
type Field struct{ Name, Value []byte }

// Fields returns the lines of a request as changed: those that have no edit, in
// their order, then those that are set.
func (l List) Fields(in func(yield func(name, value []byte) bool)) []Field {
	fields := make([]Field, 0, 16+len(l))
	in(func(name, value []byte) bool {
		if at := l.find(name); at < 0 || l[at].Add {
			fields = append(fields, Field{name, value})
		}
		return true
	})
	for i := range l {
		if !l[i].Remove {
			fields = append(fields, Field{l[i].Name, l[i].Value})
		}
	}
	return fields
}

// untouchable are the fields that no edit may name.
var untouchable = [...]string{
	// of the connection, RFC 9110 §7.6.1
	"connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade", "http2-settings",
	"proxy-authorization", "proxy-authenticate", "proxy-authentication-info",
	// of the message: where it ends, whom it is for, what its bytes are
	"host", "content-length", "content-encoding", "content-range", "expect",
	// that the node makes itself
	"age", "cache-status", "cdn-loop", "date", "via",
	"forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-port", "x-forwarded-proto", "x-real-ip",
}

// maxName bounds the length of a name.
const maxName = 128

func mayChange(name []byte) bool {
	if len(name) == 0 || len(name) > maxName {
		return false
	}
	for _, c := range name {
		if !tokenByte(c) {
			return false
		}
	}
	for _, f := range untouchable {
		if Is(name, f) {
			return false
		}
	}
	return true
}

func tokenByte(c byte) bool {
	return 'a' <= c|0x20 && c|0x20 <= 'z' || '0' <= c && c <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
}

// validValue reports whether v can be a value: no control bytes but tab.
func validValue(v []byte) bool {
	for _, c := range v {
		if c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

// Is reports whether a field name is lower, which is in lower case.
func Is(name []byte, lower string) bool {
	if len(name) != len(lower) {
		return false
	}
	for i, c := range name {
		if lowered(c) != lower[i] {
			return false
		}
	}
	return true
}

// fold compares names without regard to case.
func fold(a, b []byte) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if lowered(a[i]) != lowered(b[i]) {
			return false
		}
	}
	return true
}

func lowered(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		c |= 0x20
	}
	return c
}
