package abi

import "encoding/binary"

func validRecord(typ uint16, d []byte) bool {
	switch typ {
	case RecKeyAddition:
		return len(d) >= 1 && len(d) <= MaxKeyAddition
	case RecTarget:
		return len(d) >= 1 && len(d) <= MaxTarget && d[0] == '/' && visible(d, "#")
	case RecTag:
		return len(d) >= 1 && len(d) <= MaxTag && visible(d, ",")
	case RecState:
		return len(d) >= 1 && len(d) <= MaxState && stateWord(d)
	case RecTiers:
		return len(d) == 2 && Tiers(d[0]|d[1])&^AllTiers == 0
	case RecLifetimes:
		return len(d) == 12
	case RecStale:
		return len(d) == 8
	case RecStatus:
		return len(d) >= 2 && len(d) <= 2+MaxReason && between(d, 400, 599) && text(d[2:])
	case RecReuse:
		return len(d) == 4
	case RecSetRequest, RecSetResponse:
		name, value, ok := SplitHeader(d)
		return ok && settable(name) && fieldValue(value)
	case RecRemove:
		return len(d) > 2 && d[0] <= 1 && d[1] == 0 && settable(d[2:])
	case RecAnswer:
		a, ok := ParseAnswer(d)
		return ok && a.valid()
	}
	return false
}

func between(d []byte, low, high uint16) bool {
	s := binary.LittleEndian.Uint16(d)
	return s >= low && s <= high
}

// SplitHeader takes a set-header record apart.
func SplitHeader(d []byte) (name, value []byte, ok bool) {
	if len(d) < 2 {
		return nil, nil, false
	}
	n := int(binary.LittleEndian.Uint16(d))
	if n > len(d)-2 {
		return nil, nil, false
	}
	return d[2 : 2+n], d[2+n:], true
}

// Answer is a response made by a hook, a view of its record.
type Answer struct {
	Status int
	Body   []byte
	count  int
	fields []byte
}

// ParseAnswer takes an answer record apart. It reports false if a length is
// wrong.
func ParseAnswer(d []byte) (a Answer, ok bool) {
	if len(d) < 8 {
		return a, false
	}
	a.Status = int(binary.LittleEndian.Uint16(d))
	a.count = int(binary.LittleEndian.Uint16(d[2:]))
	body := int64(binary.LittleEndian.Uint32(d[4:]))
	if body > MaxBody || body > int64(len(d)-8) {
		return a, false
	}
	a.fields, a.Body = d[8:len(d)-int(body)], d[len(d)-int(body):]
	rest := a.fields
	for range a.count {
		if _, _, rest, ok = nextField(rest); !ok {
			return a, false
		}
	}
	return a, len(rest) == 0
}

// Next returns the first header line of the answer and takes it off.
func (a *Answer) Next() (name, value []byte, ok bool) {
	name, value, a.fields, ok = nextField(a.fields)
	return name, value, ok
}

func nextField(d []byte) (name, value, rest []byte, ok bool) {
	if len(d) < 4 {
		return nil, nil, d, false
	}
	n, v := int(binary.LittleEndian.Uint16(d)), int(binary.LittleEndian.Uint16(d[2:]))
	if n+v > len(d)-4 {
		return nil, nil, d, false
	}
	return d[4 : 4+n], d[4+n : 4+n+v], d[4+n+v:], true
}

func (a Answer) valid() bool {
	if a.Status < 200 || a.Status > 599 {
		return false
	}
	for {
		name, value, ok := a.Next()
		if !ok {
			return true
		}
		if !settable(name) || !fieldValue(value) {
			return false
		}
	}
}

// visible reports that d is visible ASCII without the bytes in except.
func visible(d []byte, except string) bool {
	for _, c := range d {
		if c <= ' ' || c >= 0x7f {
			return false
		}
		for i := range len(except) {
			if c == except[i] {
				return false
			}
		}
	}
	return true
}

func text(d []byte) bool {
	for _, c := range d {
		if c < ' ' || c >= 0x7f {
			return false
		}
	}
	return true
}

func stateWord(d []byte) bool {
	for _, c := range d {
		if !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '_' || c == '-') {
			return false
		}
	}
	return true
}

// fieldValue holds the rule of RFC 9110, section 5.5, without obs-text.
func fieldValue(d []byte) bool {
	for _, c := range d {
		if c < ' ' && c != '\t' || c >= 0x7f {
			return false
		}
	}
	return true
}

// settable reports that name is a field name (RFC 9110, section 5.1) that a hook
// may set or remove: the fields that frame or address a message are not its.
func settable(name []byte) bool {
	if len(name) == 0 || len(name) > 128 {
		return false
	}
	for _, c := range name {
		if !token(c) {
			return false
		}
	}
	for _, f := range framing {
		if equalFold(name, f) {
			return false
		}
	}
	return true
}

// framing are the fields whose change would let a hook smuggle messages
// (RFC 9112, section 11.2) or reach another host.
var framing = [...]string{"connection", "content-length", "host", "keep-alive", "proxy-connection",
	"te", "trailer", "transfer-encoding", "upgrade", "expect", "date", "content-encoding", "content-range",
	"forwarded", "x-forwarded-for"}

func equalFold(a []byte, lower string) bool {
	if len(a) != len(lower) {
		return false
	}
	for i, c := range a {
		if c >= 'A' && c <= 'Z' {
			c |= 0x20
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}

func token(c byte) bool {
	if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' {
		return true
	}
	switch c {
	case '!', '#', '$', '%', '&', '\'', '*', '+', '-', '.', '^', '_', '`', '|', '~':
		return true
	}
	return false
}

// ValidTag reports whether tag may be a tag: 1 to MaxTag bytes of visible ASCII
// without comma.
func ValidTag(tag []byte) bool { return validRecord(RecTag, tag) }
