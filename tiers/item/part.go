package item

import (
	"encoding/hex"
	"strings"
)

// A short number is one byte below 128; two up to 32,511, the first with the high
// bits and 128; else 255 and a u32.

const (
	short1    = 0x80
	short2    = 0x7f00
	shortMark = 0xff
)

func shortLen(n int) int {
	switch {
	case n < short1:
		return 1
	case n < short2:
		return 2
	}
	return 5
}

// appendShort appends n, which a u32 has room for.
func appendShort(dst []byte, n int) []byte {
	switch {
	case n < short1:
		return append(dst, byte(n))
	case n < short2:
		return append(dst, 0x80|byte(n>>8), byte(n))
	}
	return le.AppendUint32(append(dst, shortMark), uint32(n))
}

// short returns the number that b begins with and its length in b; 0 if there is
// none, or one that could be shorter.
func short(b []byte) (n, size int) {
	switch {
	case len(b) > 0 && b[0] < short1:
		return int(b[0]), 1
	case len(b) > 1 && b[0] != shortMark:
		n, size = int(b[0]&0x7f)<<8|int(b[1]), 2
	case len(b) > 4 && b[0] == shortMark:
		n, size = int(le.Uint32(b[1:])), 5
	}
	if size != shortLen(n) {
		return 0, 0
	}
	return n, size
}

// A short text is its length as a short number, then its bytes.

func shortTextLen(s string) int { return shortLen(len(s)) + len(s) }

func appendShortText(dst []byte, s string) []byte { return append(appendShort(dst, len(s)), s...) }

func cutShortText(b []byte) (part, rest []byte, ok bool) {
	n, size := short(b)
	if size == 0 || n > len(b)-size {
		return nil, nil, false
	}
	return b[size : size+n], b[size+n:], true
}

// A MIME type is its place in mimes, or 0 and a short text.

func mimeLen(s string) int {
	if mimeCode(s) != 0 {
		return 1
	}
	return 1 + shortTextLen(s)
}

func appendMIME(dst []byte, s string) []byte {
	code := mimeCode(s)
	if dst = append(dst, code); code != 0 {
		return dst
	}
	return appendShortText(dst, s)
}

func cutMIME(b []byte) (mime string, rest []byte, ok bool) {
	switch {
	case len(b) == 0 || int(b[0]) >= len(mimes):
		return "", nil, false
	case b[0] != 0:
		return mimes[b[0]], b[1:], true
	}
	part, rest, ok := cutShortText(b[1:])
	return text(part), rest, ok
}

// The id of a node is a short number: 1 and the 16 bytes of a UUID, or twice its
// length and its bytes.

const (
	uuidText = 36
	uuidMark = 1
)

type home struct {
	id   []byte
	uuid bool
}

func homeLen(s string) int {
	if _, ok := uuidOf(s); ok {
		return 1 + 16
	}
	return shortLen(2*len(s)) + len(s)
}

func appendHome(dst []byte, s string) []byte {
	if id, ok := uuidOf(s); ok {
		return append(append(dst, uuidMark), id[:]...)
	}
	return append(appendShort(dst, 2*len(s)), s...)
}

func cutHome(b []byte) (h home, rest []byte, ok bool) {
	n, size := short(b)
	if h.uuid = n == uuidMark; h.uuid {
		n = 2 * 16
	}
	if size == 0 || n&1 != 0 || n/2 > len(b)-size {
		return home{}, nil, false
	}
	h.id = b[size : size+n/2]
	return h, b[size+n/2:], true
}

// String returns the id. It makes the string of a UUID.
func (h home) String() string {
	if !h.uuid {
		return text(h.id)
	}
	var s [uuidText]byte
	hex.Encode(s[:], h.id[:4])
	hex.Encode(s[9:], h.id[4:6])
	hex.Encode(s[14:], h.id[6:8])
	hex.Encode(s[19:], h.id[8:10])
	hex.Encode(s[24:], h.id[10:])
	s[8], s[13], s[18], s[23] = '-', '-', '-', '-'
	return string(s[:])
}

// uuidOf returns the bytes of the UUID in s, if s is one as String writes it.
func uuidOf(s string) (id [16]byte, ok bool) {
	const (
		at     = "\x00\x02\x04\x06\x09\x0b\x0e\x10\x13\x15\x18\x1a\x1c\x1e\x20\x22" // where each byte is in s
		digits = "0123456789abcdef"
	)
	if len(s) != uuidText || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return id, false
	}
	var wrong byte
	for i := range id {
		high, low := s[at[i]], s[at[i]+1]
		h, l := (high&0xf+high>>6*9)&0xf, (low&0xf+low>>6*9)&0xf
		wrong |= digits[h] ^ high | digits[l] ^ low
		id[i] = h<<4 | l
	}
	return id, wrong == 0
}

// A tag is twice its length as a short number, then its bytes. One of which the
// key has a part begins with twice the length of what stands before that, plus one;
// then come these bytes, and as short numbers where the part is in the key and its
// length.

const (
	ownTag    = '\x01' // first byte of a tag of a stored answer, two bytes before a URL or host
	ownPrefix = 3
	minRef    = 4 // of a part: its reference takes up to five bytes more than none
)

// tagRef returns where the part of tag behind its prefix is in key.
func tagRef(key Key, tag string) (at int, ok bool) {
	if len(tag) < ownPrefix+minRef || tag[0] != ownTag {
		return 0, false
	}
	at = strings.Index(text(key), tag[ownPrefix:])
	return at, at >= 0
}

func tagLen(key Key, tag string) int {
	if at, ok := tagRef(key, tag); ok {
		return 1 + ownPrefix + shortLen(at) + shortLen(len(tag)-ownPrefix)
	}
	return shortLen(2*len(tag)) + len(tag)
}

func appendTag(dst []byte, key Key, tag string) []byte {
	if at, ok := tagRef(key, tag); ok {
		dst = append(append(dst, 2*ownPrefix+1), tag[:ownPrefix]...)
		return appendShort(appendShort(dst, at), len(tag)-ownPrefix)
	}
	return append(appendShort(dst, 2*len(tag)), tag...)
}

// cutTag returns the two parts of the tag that b begins with.
func cutTag(b []byte, key Key) (head, tail, rest []byte, ok bool) {
	n, size := short(b)
	if size == 0 || n/2 > len(b)-size {
		return nil, nil, nil, false
	}
	head, rest = b[size:size+n/2], b[size+n/2:]
	if n&1 == 0 {
		return head, nil, rest, true
	}
	at, size := short(rest)
	if size == 0 {
		return nil, nil, nil, false
	}
	rest = rest[size:]
	length, size := short(rest)
	if size == 0 || at+length > len(key) {
		return nil, nil, nil, false
	}
	return head, key[at : at+length], rest[size:], true
}
