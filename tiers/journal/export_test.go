package journal

import (
	"encoding/binary"
	"hash/crc32"
)

// LastNotZero is what looks for the end of garbage.
func LastNotZero(b []byte) int { return lastNotZero(b) }

// SetFormat gives both headers of a segment another format and version.
func SetFormat(segment []byte, format uint32, version string) {
	h, _ := parseSegmentHeader(segment)
	h.format, h.version = format, version
	b := appendSegmentHeader(nil, h)
	copy(segment, b)
	copy(segment[headerStride:], b)
}

// Reseal gives every header in a segment that has a magic number the checksums
// that make it valid, so that a fuzzer gets behind them.
func Reseal(segment []byte) {
	h, ok := parseSegmentHeader(segment)
	if !ok {
		return
	}
	seed := seedOf(h.number, h.salt)
	le := binary.LittleEndian
	for off := firstOffset; off+groupBytes <= len(segment); off += align {
		b := segment[off:]
		switch le.Uint32(b) {
		case groupMagic:
			le.PutUint32(b[44:], crc32.Update(seed^uint32(off), castagnoli, b[:44]))
		case recordMagic, skipMagic:
			if n := int64(le.Uint32(b[4:])); recordBytes+n <= int64(len(b)) {
				le.PutUint32(b[8:], crc32.Checksum(b[recordBytes:recordBytes+n], castagnoli))
			}
			le.PutUint32(b[12:], crc32.Update(seed^uint32(off), castagnoli, b[:12]))
		}
	}
}
