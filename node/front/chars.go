package front

import (
	"bytes"
	"encoding/binary"
)

// Classes of bytes in classOf.
const (
	classToken  = 1 << iota // tchar, RFC 9110 section 5.6.2
	classTarget             // what a request target may hold: visible ASCII but "#", and bytes above 0x7f, which clients do send
	classHost               // uri-host and port, RFC 3986 section 3.2.2
)

// classOf holds the classes of each byte. It is a constant, so that nobody can
// write to it and an index by a byte needs no bounds check.
const classOf = "" +
	"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00" +
	"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00" +
	"\x00\x07\x02\x01\x07\x07\x07\x07\x06\x06\x07\x07\x06\x07\x07\x02" +
	"\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x06\x06\x02\x06\x02\x02" +
	"\x02\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07" +
	"\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x06\x02\x06\x03\x07" +
	"\x03\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07" +
	"\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x02\x03\x02\x07\x00" +
	"\x02\x02\x02\x02\x02\x02\x02\x02\x02\x02\x02\x02\x02\x02\x02\x02" +
	"\x02\x02\x02\x02\x02\x02\x02\x02\x02\x02\x02\x02\x02\x02\x02\x02" +
	"\x02\x02\x02\x02\x02\x02\x02\x02\x02\x02\x02\x02\x02\x02\x02\x02" +
	"\x02\x02\x02\x02\x02\x02\x02\x02\x02\x02\x02\x02\x02\x02\x02\x02" +
	"\x02\x02\x02\x02\x02\x02\x02\x02\x02\x02\x02\x02\x02\x02\x02\x02" +
	"\x02\x02\x02\x02\x02\x02\x02\x02\x02\x02\x02\x02\x02\x02\x02\x02" +
	"\x02\x02\x02\x02\x02\x02\x02\x02\x02\x02\x02\x02\x02\x02\x02\x02" +
	"\x02\x02\x02\x02\x02\x02\x02\x02\x02\x02\x02\x02\x02\x02\x02\x02"

// isToken reports whether b is a token of at least one byte.
func isToken(b []byte) bool {
	for _, c := range b {
		if classOf[c]&classToken == 0 {
			return false
		}
	}
	return len(b) > 0
}

// isTarget reports whether b holds only bytes of a request target.
func isTarget(b []byte) bool {
	for _, c := range b {
		if classOf[c]&classTarget == 0 {
			return false
		}
	}
	return len(b) > 0
}

const (
	eachByte = 0x0101010101010101
	highBits = 0x80 * eachByte
)

// suspicious reports whether one of the eight bytes of w is below 0x20 or is
// 0x7f. (Bit Twiddling Hacks, "Determine if a word has a byte less than n".)
func suspicious(w uint64) bool {
	del := w ^ 0x7f*eachByte
	return ((w-0x20*eachByte)&^w|(del-eachByte)&^del)&highBits != 0
}

// isValue reports whether b is free of control characters other than HTAB
// (RFC 9110 section 5.5).
func isValue(b []byte) bool {
	if len(b) < 8 {
		return isValueSlow(b)
	}
	last := b[len(b)-8:]
	for ; len(b) > 8; b = b[8:] {
		if suspicious(binary.LittleEndian.Uint64(b)) && !isValueSlow(b[:8]) {
			return false
		}
	}
	return !suspicious(binary.LittleEndian.Uint64(last)) || isValueSlow(last)
}

func isValueSlow(b []byte) bool {
	for _, c := range b {
		if c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

// breaksLine reports whether s holds a byte that would end or cut a field line:
// CR, LF or NUL.
func breaksLine[T string | []byte](s T) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c <= '\r' && (c == '\r' || c == '\n' || c == 0) {
			return true
		}
	}
	return false
}

// foldIs reports whether b equals want without regard to case; want is lower
// case, and b holds no control characters.
func foldIs[T string | []byte](b T, want string) bool {
	if len(b) != len(want) {
		return false
	}
	for i := 0; i < len(want); i++ {
		c := b[i]
		if c != want[i] && (c|0x20 != want[i] || c < 'A' || c > 'Z') {
			return false
		}
	}
	return true
}

// foldEqual reports whether a and b are equal without regard to the case of
// ASCII letters.
func foldEqual(a []byte, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		x, y := a[i], b[i]
		if x == y {
			continue
		}
		if x ^= y; x != 0x20 || y|0x20 < 'a' || y|0x20 > 'z' {
			return false
		}
	}
	return true
}

// trimOWS cuts spaces and tabs from both ends.
func trimOWS(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t') {
		b = b[1:]
	}
	for len(b) > 0 && (b[len(b)-1] == ' ' || b[len(b)-1] == '\t') {
		b = b[:len(b)-1]
	}
	return b
}

// nextElement cuts the first element off a comma-separated list. It knows no
// quoted strings.
func nextElement(list []byte) (element, rest []byte) {
	element, rest, _ = bytes.Cut(list, []byte{','})
	return trimOWS(element), rest
}
