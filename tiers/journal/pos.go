package journal

import (
	"cmp"
	"fmt"
)

// Pos is the place of a record in the journal. Positions are totally ordered by
// the order of appending. The zero Pos is before every record.
//
// A Pos stays valid, also over restarts, until its record is released.
type Pos struct {
	Segment uint32 // number of the segment, from 1
	Offset  uint32 // of the record's header in the segment, in bytes
	Length  uint32 // of the payload, in bytes
}

// Compare reports -1, 0 or +1 as p was appended before q, is q, or was appended
// after q.
func (p Pos) Compare(q Pos) int { return cmp.Compare(p.place(), q.place()) }

// IsZero reports whether p is no position.
func (p Pos) IsZero() bool { return p == Pos{} }

// String shows p as segment:offset+length.
func (p Pos) String() string { return fmt.Sprintf("%d:%d+%d", p.Segment, p.Offset, p.Length) }

// place is the beginning of the record.
func (p Pos) place() place { return at(p.Segment, int64(p.Offset)) }

// end is the place just behind the record.
func (p Pos) end() place { return at(p.Segment, int64(p.Offset)+recordSize(int64(p.Length))) }

// A place is a point in the log: the segment's number in the upper, the offset
// in the lower 32 bits. Places order as the log does.
type place uint64

func at(segment uint32, offset int64) place { return place(segment)<<32 | place(uint32(offset)) }

func (p place) segment() uint32 { return uint32(p >> 32) }
func (p place) offset() int64   { return int64(uint32(p)) }
