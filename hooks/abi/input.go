package abi

import "encoding/binary"

// HeadBytes is the length of the input head of this minor version.
const HeadBytes = 64

// HeaderBytes is the length of one entry of the header table.
const HeaderBytes = 8

// ResponseBit marks a header entry as taken from the response.
const ResponseBit = 1 << 15

// Offsets of the input head's fields.
const (
	OffHeadLen   = 0
	OffHook      = 2
	OffOperation = 3
	OffMethod    = 4
	OffTiers     = 5
	OffFlags     = 6
	OffNow       = 8
	OffContent   = 16
	OffKey       = 24
	OffKeyLen    = 28
	OffHeaders   = 32
	OffCount     = 36
	OffStatus    = 38
	OffLifetime  = 40
	OffHits      = 44
	OffClient    = 48
)

// Input is the fixed part of an input block.
type Input struct {
	Hook         Hook
	Operation    Operation
	Method       Method
	Tiers        Tiers
	Flags        Flags
	NowMillis    uint64
	ContentBytes uint64 // UnknownBytes if not known
	Status       uint16 // of the response; 0 before there is one
	Lifetime     uint32 // seconds; valid with FlagLifetimeKnown
	Hits         uint32
	Client       [16]byte // IPv4 as ::ffff:a.b.c.d
}

// Header is one header line to be written. Name is the position of its name in
// the manifest's list, with ResponseBit set for a response header.
type Header struct {
	Name  uint16
	Value []byte
}

// AppendInput writes an input block into the free capacity of dst, which must be
// empty, and returns it. The key is the concatenation of head and tail. What
// does not fit in cap(dst), or is longer than a field can say, is cut off at
// the end and FlagTruncated is set. A dst shorter than HeadBytes gives nil.
//
// It keeps no reference to its arguments and never allocates.
func AppendInput(dst []byte, in *Input, head, tail []byte, headers []Header) []byte {
	limit := cap(dst)
	if limit < HeadBytes || len(dst) != 0 {
		return nil
	}
	flags := in.Flags &^ FlagTruncated
	table := HeadBytes
	n := min(len(headers), (limit-table)/HeaderBytes, 1<<16-1)
	key := table + n*HeaderBytes
	b := dst[:key]
	b = appendCut(b, head, limit)
	b = appendCut(b, tail, limit)
	keyLen := len(b) - key
	if n < len(headers) || keyLen < len(head)+len(tail) {
		flags |= FlagTruncated
	}
	written := 0
	for i := range headers[:n] {
		h := &headers[i]
		if len(h.Value) > limit-len(b) || len(h.Value) > 1<<16-1 {
			flags |= FlagTruncated
			break
		}
		e := b[table+i*HeaderBytes : table+i*HeaderBytes+HeaderBytes]
		binary.LittleEndian.PutUint64(e, uint64(h.Name)|uint64(len(h.Value))<<16|uint64(len(b))<<32)
		b = append(b, h.Value...)
		written++
	}
	putHead(b, in, flags)
	binary.LittleEndian.PutUint64(b[OffKey:], uint64(key)|uint64(keyLen)<<32)
	binary.LittleEndian.PutUint64(b[OffHeaders:], uint64(table)|uint64(written)<<32|uint64(in.Status)<<48)
	return b
}

func appendCut(b, s []byte, limit int) []byte {
	return append(b, s[:min(len(s), limit-len(b))]...)
}

// putHead writes all fields of the head but the key and the header table.
func putHead(b []byte, in *Input, flags Flags) {
	_ = b[HeadBytes-1]
	binary.LittleEndian.PutUint64(b, HeadBytes|uint64(in.Hook)<<16|uint64(in.Operation)<<24|
		uint64(in.Method)<<32|uint64(in.Tiers)<<40|uint64(flags)<<48)
	binary.LittleEndian.PutUint64(b[OffNow:], in.NowMillis)
	binary.LittleEndian.PutUint64(b[OffContent:], in.ContentBytes)
	binary.LittleEndian.PutUint64(b[OffLifetime:], uint64(in.Lifetime)|uint64(in.Hits)<<32)
	copy(b[OffClient:HeadBytes], in.Client[:])
}

// Candidate is one item that might be evicted, exactly as it stands in a block.
// All numbers saturate.
type Candidate struct {
	ID          uint64 // hash of the id
	Size        uint32 // bytes
	AgeSeconds  uint32 // since it was stored
	IdleMillis  uint32 // since its last use
	Hits        uint32
	LeftSeconds uint32 // until it expires; NoLifetime if it does not
	Flags       uint16
	TagClass    uint16
}

// CandidateBytes is the length of a Candidate in a block.
const CandidateBytes = 32

// EvictHead is the offset of the first candidate in an evict or admit block of
// this minor version: the input head, then u32 count and u32 pressure.
const EvictHead = HeadBytes + 8

// PressureOne is the pressure field's value for pressure 1.
const PressureOne = 1 << 16

// AppendEvict writes an evict or admit block into the free capacity of dst,
// which must be empty, and returns it: the head, the number of candidates, the
// pressure, the candidates. Pressure is clamped to [0, 1]. It returns nil if the
// candidates do not fit or are more than MaxCandidates.
func AppendEvict(dst []byte, in *Input, pressure float64, c []Candidate) []byte {
	size := EvictHead + len(c)*CandidateBytes
	if len(c) > MaxCandidates || cap(dst) < size || len(dst) != 0 {
		return nil
	}
	b := dst[:size]
	putHead(b, in, in.Flags)
	binary.LittleEndian.PutUint64(b[OffKey:], HeadBytes)
	binary.LittleEndian.PutUint64(b[OffHeaders:], HeadBytes|uint64(in.Status)<<48)
	p := uint64(0)
	if pressure > 0 { // false for NaN
		p = uint64(min(pressure, 1) * PressureOne)
	}
	binary.LittleEndian.PutUint64(b[HeadBytes:], uint64(len(c))|p<<32)
	putCandidates(b[EvictHead:], c)
	return b
}

// AppendScores appends the n scores at the start of the output area out to dst.
// It reports false, and returns dst as it was, if out is too short.
func AppendScores(dst []int32, out []byte, n int) ([]int32, bool) {
	if n < 0 || n > len(out)/4 {
		return dst, false
	}
	return appendScores(dst, out[:n*4]), true
}
