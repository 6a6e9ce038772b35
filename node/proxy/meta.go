package proxy

import (
	"bytes"
	"encoding/binary"
	"math"
	"unsafe"
)

// Format is the number of the stored form that this version writes. It reads
// no other: an unknown form is a miss.
const Format = 1

// Kinds of stored records.
const (
	kindAnswer  = 1
	kindIndex   = 3 // 2 was one without languages
	kindRetired = 4
	kindSole    = 7 // an answer that varies, alone of its URL; 5 and 6 are of segments
)

// metaFlags are the flags of a stored answer.
type metaFlags uint32

const (
	// metaNoCache: validate before every use.
	metaNoCache metaFlags = 1 << iota
	// metaNeverStale: must-revalidate, proxy-revalidate or s-maxage.
	metaNeverStale
	// metaHeuristic: the lifetime is a guess of ours or the operator's.
	metaHeuristic
	// metaIfError: the origin gave stale-if-error.
	metaIfError
	// metaPost: the answer to a POST.
	metaPost
	// metaParted: the content is a manifest of segments.
	metaParted
)

const (
	metaHead = 88
	noTime   = math.MinInt64
)

var le = binary.LittleEndian

// fresh holds the fixed fields of a stored answer. Times are Unix ms and
// durations ms.
type freshness struct {
	flags           metaFlags
	received        int64 // when the header arrived
	initialAge      int64 // corrected initial age (RFC 9111 §4.2.3)
	lifetime        int64
	whileRevalidate int64
	ifError         int64 // window past the lifetime
	date            int64 // the origin's Date, else received
	lastModified    int64 // noTime if unknown
}

// age returns the current age in ms, at least 0.
func (f *freshness) age(now int64) int64 { return max(f.initialAge+now-f.received, 0) }

// meta is the response metadata of a stored answer; see the package comment
// for its layout. Slices that its methods return share memory with it.
type meta []byte

// appendMeta appends the stored form of an answer. block holds its header
// lines, etag is a part of block (or empty), vary the nominated names, note the
// prepared end of our Cache-Status member.
func appendMeta(dst []byte, status int, f *freshness, block []byte, etagAt, etagLen int, vary, note string) []byte {
	var h [metaHead]byte
	h[0], h[1] = Format, kindAnswer
	le.PutUint16(h[2:], uint16(status))
	le.PutUint32(h[4:], uint32(f.flags))
	for i, v := range [...]int64{f.received, f.initialAge, f.lifetime, f.whileRevalidate, f.ifError, f.date, f.lastModified} {
		le.PutUint64(h[8+8*i:], uint64(v))
	}
	le.PutUint32(h[64:], uint32(len(block)))
	le.PutUint32(h[68:], uint32(etagAt))
	le.PutUint32(h[72:], uint32(etagLen))
	le.PutUint32(h[76:], uint32(len(vary)))
	le.PutUint32(h[80:], uint32(len(note)))
	dst = append(dst, h[:]...)
	dst = append(dst, block...)
	dst = append(dst, vary...)
	return append(dst, note...)
}

// parseMeta checks that b is a stored answer of a known form.
func parseMeta(b []byte) (meta, bool) {
	if len(b) < metaHead || b[0] != Format || b[1] != kindAnswer && b[1] != kindSole {
		return nil, false
	}
	block, at, n := uint64(le.Uint32(b[64:])), uint64(le.Uint32(b[68:])), uint64(le.Uint32(b[72:]))
	want := metaHead + block + uint64(le.Uint32(b[76:])) + uint64(le.Uint32(b[80:]))
	if b[1] == kindSole {
		want += hashLen
	}
	if uint64(len(b)) != want || at+n > block || le.Uint32(b[84:]) != 0 {
		return nil, false
	}
	return meta(b), true
}

func (m meta) i64(off int) int64 { return int64(le.Uint64(m[off:])) }
func (m meta) status() int       { return int(le.Uint16(m[2:])) }
func (m meta) flags() metaFlags  { return metaFlags(le.Uint32(m[4:])) }
func (m meta) blockEnd() int     { return metaHead + int(le.Uint32(m[64:])) }
func (m meta) varyEnd() int      { return m.blockEnd() + int(le.Uint32(m[76:])) }
func (m meta) block() []byte     { return m[metaHead:m.blockEnd()] }
func (m meta) vary() string      { return text(m[m.blockEnd():m.varyEnd()]) }
func (m meta) noteEnd() int      { return m.varyEnd() + int(le.Uint32(m[80:])) }
func (m meta) note() []byte      { return m[m.varyEnd():m.noteEnd()] }

// sole reports whether m is under the base key though it varies: then soleHash is
// that of its variant.
func (m meta) sole() bool       { return m[1] == kindSole }
func (m meta) soleHash() []byte { return m[m.noteEnd():] }

// asSole returns m, which is not sole, as the sole variant of its URL; asListed is
// the inverse.
func (m meta) asSole(hash *[hashLen]byte) meta {
	out := append(append(make(meta, 0, len(m)+hashLen), m...), hash[:]...)
	out[1] = kindSole
	return out
}

func (m meta) asListed() meta {
	out := append(meta(nil), m[:m.noteEnd()]...)
	out[1] = kindAnswer
	return out
}

func (m meta) etag() []byte {
	at := metaHead + int(le.Uint32(m[68:]))
	return m[at : at+int(le.Uint32(m[72:]))]
}

func (m meta) freshness() freshness {
	return freshness{
		flags: m.flags(), received: m.i64(8), initialAge: m.i64(16), lifetime: m.i64(24),
		whileRevalidate: m.i64(32), ifError: m.i64(40), date: m.i64(48), lastModified: m.i64(56),
	}
}

// age is that of its freshness.
func (m meta) age(now int64) int64 { return max(m.i64(16)+now-m.i64(8), 0) }

func (m meta) hasValidator() bool { return len(m.etag()) > 0 || m.i64(56) != noTime }

// eachLine calls yield with each line of a header block: name, value without
// outer spaces, and the whole line with its CRLF.
func eachLine(block []byte, yield func(name, value, line []byte) bool) {
	for len(block) > 0 {
		n := bytes.IndexByte(block, '\n') + 1
		if n == 0 {
			return
		}
		line := block[:n]
		block = block[n:]
		name, value, _ := bytes.Cut(line, []byte(":"))
		if !yield(name, bytes.Trim(value, " \t\r\n"), line) {
			return
		}
	}
}

// lookupLine returns the first value of a field in a header block, or nil.
func lookupLine(block []byte, name string) []byte {
	for len(block) > 0 {
		n := bytes.IndexByte(block, '\n') + 1
		if n == 0 {
			return nil
		}
		line := block[:n]
		block = block[n:]
		if len(line) > len(name) && line[len(name)] == ':' && equalFold(line[:len(name)], name) {
			return bytes.Trim(line[len(name)+1:], " \t\r\n")
		}
	}
	return nil
}

// equalFold compares ASCII without regard to case. It allocates nothing.
func equalFold(b []byte, s string) bool {
	if len(b) != len(s) {
		return false
	}
	for i := range len(s) {
		x, y := b[i], s[i]
		if x == y {
			continue
		}
		if x|0x20 != y|0x20 || !isLower(x|0x20) {
			return false
		}
	}
	return true
}

// text returns b as a string that shares its memory: what it points at is not
// changed while the string is in use.
func text(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
