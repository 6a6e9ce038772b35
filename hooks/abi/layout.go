package abi

import (
	"encoding/binary"
	"slices"
	"unsafe"
)

// littleEndian reports whether the machine stores the low byte first.
func littleEndian() bool {
	one := uint16(1)
	return *(*byte)(unsafe.Pointer(&one)) == 1
}

// putCandidates writes c to b, which holds exactly its bytes.
//
// A Candidate has no padding and its fields stand in the order of the block, so
// on a little-endian machine its memory is its wire form and is copied whole.
// TestCandidateLayout holds this.
func putCandidates(b []byte, c []Candidate) {
	if len(c) == 0 {
		return
	}
	if littleEndian() {
		copy(b, unsafe.Slice((*byte)(unsafe.Pointer(&c[0])), len(c)*CandidateBytes))
		return
	}
	for i := range c {
		putCandidate(b[i*CandidateBytes:], &c[i])
	}
}

// appendScores appends the numbers in b, whose length is a multiple of 4.
//
// On a little-endian machine their wire form is their memory, and dst is aligned
// since it is a slice of int32; b need not be, it is only read as bytes.
func appendScores(dst []int32, b []byte) []int32 {
	n, k := len(dst), len(b)/4
	if k == 0 {
		return dst
	}
	dst = slices.Grow(dst, k)[:n+k]
	if littleEndian() {
		copy(unsafe.Slice((*byte)(unsafe.Pointer(&dst[n])), k*4), b)
		return dst
	}
	for i := range k {
		dst[n+i] = int32(binary.LittleEndian.Uint32(b[i*4:]))
	}
	return dst
}

func putCandidate(b []byte, c *Candidate) {
	le := binary.LittleEndian
	_ = b[CandidateBytes-1]
	le.PutUint64(b, c.ID)
	le.PutUint32(b[8:], c.Size)
	le.PutUint32(b[12:], c.AgeSeconds)
	le.PutUint32(b[16:], c.IdleMillis)
	le.PutUint32(b[20:], c.Hits)
	le.PutUint32(b[24:], c.LeftSeconds)
	le.PutUint16(b[28:], c.Flags)
	le.PutUint16(b[30:], c.TagClass)
}
