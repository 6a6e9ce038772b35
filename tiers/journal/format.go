package journal

import (
	"encoding/binary"
	"hash/crc32"
	"math"
)

// Sizes of format 1, drawn in doc.go.
const (
	formatNumber = 1

	segmentMagic = "EDGEJRNL"
	headerBytes  = 128            // of one copy of the segment header
	headerStride = 4096           // the copies stand at 0 and here, so that no one page holds both
	firstOffset  = 2 * 4096       // of the first group
	groupMagic   = 0x31475245     // "ERG1"
	groupBytes   = 48             // of a group header
	recordMagic  = 0x31525245     // "ERR1"
	skipMagic    = 0x31535245     // "ERS1"
	recordBytes  = 16             // of a record header
	align        = 16             // of records and groups
	maxOffset    = math.MaxUint32 // a Pos holds no more
)

// Flags of a group.
const (
	flagClean   = 1 << iota // the journal was closed here
	flagLast                // the log goes on in the next segment
	flagOpened              // the journal was opened here; all before is synced
	flagChecked             // written by Mark
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// recordSize is what a payload of n bytes takes in a segment.
func recordSize(n int64) int64 { return (recordBytes + n + align - 1) &^ (align - 1) }

// segmentHeader is the head of a segment file.
type segmentHeader struct {
	format   uint32
	number   uint32
	salt     uint32
	recycled bool // the file held another segment before
	created  int64
	size     int64
	version  string
}

// appendSegmentHeader appends one copy of h. The magic, format, version and
// checksum keep their places in every format to come.
func appendSegmentHeader(dst []byte, h segmentHeader) []byte {
	var b [headerBytes]byte
	copy(b[0:8], segmentMagic)
	le := binary.LittleEndian
	le.PutUint32(b[8:], h.format)
	le.PutUint32(b[12:], h.number)
	le.PutUint32(b[16:], h.salt)
	if h.recycled {
		le.PutUint32(b[20:], 1)
	}
	le.PutUint64(b[24:], uint64(h.created))
	le.PutUint64(b[32:], uint64(h.size))
	copy(b[40:72], h.version)
	le.PutUint32(b[124:], crc32.Checksum(b[:124], castagnoli))
	return append(dst, b[:]...)
}

// parseSegmentHeader reports whether b begins with an undamaged header, of any
// format.
func parseSegmentHeader(b []byte) (segmentHeader, bool) {
	le := binary.LittleEndian
	if len(b) < headerBytes || string(b[:8]) != segmentMagic ||
		le.Uint32(b[124:]) != crc32.Checksum(b[:124], castagnoli) {
		return segmentHeader{}, false
	}
	v := b[40:72]
	n := 0
	for n < len(v) && v[n] != 0 {
		n++
	}
	return segmentHeader{
		format:   le.Uint32(b[8:]),
		number:   le.Uint32(b[12:]),
		salt:     le.Uint32(b[16:]),
		recycled: le.Uint32(b[20:])&1 != 0,
		created:  int64(le.Uint64(b[24:])),
		size:     int64(le.Uint64(b[32:])),
		version:  string(v[:n]),
	}, true
}

// seedOf makes the number that binds checksums to one segment. The checksum of
// a header begins with seed XOR offset; a CRC maps different beginnings to
// different results for equal bytes, so that no header is valid at another
// offset of its segment, and by number and salt in no other segment.
func seedOf(number, salt uint32) uint32 {
	var b [8]byte
	binary.LittleEndian.PutUint32(b[0:], number)
	binary.LittleEndian.PutUint32(b[4:], salt)
	return crc32.Checksum(b[:], castagnoli)
}

// groupHeader heads the records that were written together.
type groupHeader struct {
	flags    uint32
	length   uint32 // bytes of records that follow
	count    uint32 // records that follow
	synced   place  // end of what was known to be synced
	released place  // all records before were released
	written  int64  // Unix ms
}

func putGroup(b []byte, h groupHeader, seed uint32, off int64) {
	le := binary.LittleEndian
	le.PutUint32(b[0:], groupMagic)
	le.PutUint32(b[4:], h.flags)
	le.PutUint32(b[8:], h.length)
	le.PutUint32(b[12:], h.count)
	le.PutUint64(b[16:], uint64(h.synced))
	le.PutUint64(b[24:], uint64(h.released))
	le.PutUint64(b[32:], uint64(h.written))
	le.PutUint32(b[40:], 0)
	le.PutUint32(b[44:], crc32.Update(seed^uint32(off), castagnoli, b[:44]))
}

// parseGroup reports whether b begins with a valid group header for offset off
// whose records end at or before limit.
func parseGroup(b []byte, seed uint32, off, limit int64) (groupHeader, bool) {
	le := binary.LittleEndian
	if len(b) < groupBytes || le.Uint32(b) != groupMagic ||
		le.Uint32(b[44:]) != crc32.Update(seed^uint32(off), castagnoli, b[:44]) {
		return groupHeader{}, false
	}
	h := groupHeader{
		flags:    le.Uint32(b[4:]),
		length:   le.Uint32(b[8:]),
		count:    le.Uint32(b[12:]),
		synced:   place(le.Uint64(b[16:])),
		released: place(le.Uint64(b[24:])),
		written:  int64(le.Uint64(b[32:])),
	}
	return h, h.length%align == 0 && off+groupBytes+int64(h.length) <= limit
}

// putRecord writes the header of a record of n payload bytes with checksum crc.
func putRecord(b []byte, magic uint32, n int64, crc, seed uint32, off int64) {
	le := binary.LittleEndian
	le.PutUint32(b[0:], magic)
	le.PutUint32(b[4:], uint32(n))
	le.PutUint32(b[8:], crc)
	le.PutUint32(b[12:], crc32.Update(seed^uint32(off), castagnoli, b[:12]))
}

// recordHeader heads one payload.
type recordHeader struct {
	skip   bool // the bytes are nothing: a tail was cut here
	length int64
	crc    uint32
}

// parseRecord reports whether b begins with a valid record header for offset
// off whose payload ends at or before limit.
func parseRecord(b []byte, seed uint32, off, limit int64) (recordHeader, bool) {
	le := binary.LittleEndian
	if len(b) < recordBytes {
		return recordHeader{}, false
	}
	magic := le.Uint32(b)
	if magic != recordMagic && magic != skipMagic ||
		le.Uint32(b[12:]) != crc32.Update(seed^uint32(off), castagnoli, b[:12]) {
		return recordHeader{}, false
	}
	h := recordHeader{skip: magic == skipMagic, length: int64(le.Uint32(b[4:])), crc: le.Uint32(b[8:])}
	return h, off+recordSize(h.length) <= limit
}
