package proxy

import (
	"bytes"
	"encoding/binary"
	"math"
	"unsafe"
)

// Format is the number of the stored form that this version writes where others
// may read it; what stays in this process is of formatCompact. An unknown form is a
// miss.
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
// for its layouts. Slices and strings that its methods return share memory with it,
// but those of lines. The zero meta is none.
type meta struct {
	b    []byte
	with *block // that a compact form refers to
}

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

// parseMeta checks that b is a stored answer of a known form. A block that it
// refers to is not looked for: see Proxy.metaOf.
func parseMeta(b []byte) (meta, bool) {
	if len(b) > 0 && b[0] == formatCompact {
		return meta{b: b}, parseCompact(b)
	}
	if len(b) < metaHead || b[0] != Format || b[1] != kindAnswer && b[1] != kindSole {
		return meta{}, false
	}
	block, at, n := uint64(le.Uint32(b[64:])), uint64(le.Uint32(b[68:])), uint64(le.Uint32(b[72:]))
	want := metaHead + block + uint64(le.Uint32(b[76:])) + uint64(le.Uint32(b[80:]))
	if b[1] == kindSole {
		want += hashLen
	}
	if uint64(len(b)) != want || at+n > block || le.Uint32(b[84:]) != 0 {
		return meta{}, false
	}
	return meta{b: b}, true
}

func (m meta) none() bool        { return m.b == nil }
func (m meta) compact() bool     { return m.b[0] == formatCompact }
func (m meta) i64(off int) int64 { return int64(le.Uint64(m.b[off:])) }
func (m meta) status() int       { return int(le.Uint16(m.b[2:])) }
func (m meta) blockEnd() int     { return metaHead + int(le.Uint32(m.b[64:])) }
func (m meta) varyEnd() int      { return m.blockEnd() + int(le.Uint32(m.b[76:])) }

func (m meta) flags() metaFlags {
	if m.compact() {
		return metaFlags(m.set() & (hasSeconds - 1))
	}
	return metaFlags(le.Uint32(m.b[4:]))
}

// block returns all header lines. Those of a compact form are a copy.
func (m meta) block() []byte {
	if !m.compact() {
		return m.b[metaHead:m.blockEnd()]
	}
	all := append(m.appendMade(nil, new([2]shownDate)), m.own()...)
	if m.with != nil {
		all = append(all, m.with.lines...)
	}
	return all
}

// line returns the first value of a field, whose name is as appendBlock writes it,
// or nil.
func (m meta) line(name string) []byte {
	if m.compact() {
		return m.compactLine(name)
	}
	return lookupLine(m.block(), name)
}

func (m meta) vary() string {
	if m.compact() {
		return m.compactVary()
	}
	return text(m.b[m.blockEnd():m.varyEnd()])
}

// note returns the prepared end of our Cache-Status member; the compact form has
// none, see state.noteOf.
func (m meta) note() []byte {
	if m.compact() {
		return nil
	}
	return m.b[m.varyEnd() : m.varyEnd()+int(le.Uint32(m.b[80:]))]
}

// sole reports whether m is under the base key though it varies: then soleHash is
// that of its variant.
func (m meta) sole() bool       { return m.b[1] == kindSole }
func (m meta) soleHash() []byte { return m.b[len(m.b)-hashLen:] }

// asSole returns m, which is not sole, as the sole variant of its URL; asListed is
// the inverse.
func (m meta) asSole(hash *[hashLen]byte) meta {
	out := append(append(make([]byte, 0, len(m.b)+hashLen), m.b...), hash[:]...)
	out[1] = kindSole
	return meta{out, m.with}
}

func (m meta) asListed() meta {
	out := append([]byte(nil), m.b[:len(m.b)-hashLen]...)
	out[1] = kindAnswer
	return meta{out, m.with}
}

// parted returns the metadata of an answer whose content is a manifest.
func (m meta) parted() meta {
	out := bytes.Clone(m.b)
	out[4] |= byte(metaParted) // the lowest byte of the flags in both forms
	return meta{out, m.with}
}

func (m meta) etag() []byte {
	if m.compact() {
		at := ownAt(m.set()) + int(le.Uint16(m.b[14:]))
		return m.b[at : at+int(m.b[20])]
	}
	at := metaHead + int(le.Uint32(m.b[68:]))
	return m.b[at : at+int(le.Uint32(m.b[72:]))]
}

func (m meta) freshness() freshness {
	if m.compact() {
		return m.compactFreshness()
	}
	return freshness{
		flags: m.flags(), received: m.i64(8), initialAge: m.i64(16), lifetime: m.i64(24),
		whileRevalidate: m.i64(32), ifError: m.i64(40), date: m.i64(48), lastModified: m.i64(56),
	}
}

// age is that of its freshness.
func (m meta) age(now int64) int64 {
	if m.compact() {
		return m.compactAge(now)
	}
	return max(m.i64(16)+now-m.i64(8), 0)
}

func (m meta) lastModified() int64 {
	f := m.freshness()
	return f.lastModified
}

func (m meta) hasValidator() bool { return len(m.etag()) > 0 || m.lastModified() != noTime }

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
