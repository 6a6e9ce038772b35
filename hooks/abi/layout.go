package abi

import (
	"encoding/binary"
	"unsafe"
)

// littleEndian is decided by the machine; the compiler folds it.
var one = uint16(1)

func littleEndian() bool { return *(*byte)(unsafe.Pointer(&one)) == 1 }

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
