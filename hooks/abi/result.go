package abi

import (
	"encoding/binary"
	"errors"
)

// Status is the kind of an answer, bits 63–56 of a result.
type Status uint8

// The statuses. A greater number is a guest error.
const (
	OK         Status = iota // decided; value, flags and records hold
	Default                  // as if the module were absent
	Pass                     // neither read nor store (ttl: do not store)
	Deny                     // refuse the request; record 8 says how, 403 without it
	GuestError               // the module could not decide
)

// Result flags, bits 55–32 of a result. All others must be zero.
const (
	ResultRecords = 1 << 0 // the output area holds records
	ResultNoStore = 1 << 1 // ttl: do not store
)

// Result is what a hook returns.
type Result uint64

// MakeResult builds a result.
func MakeResult(s Status, flags, value uint32) Result {
	return Result(uint64(s)<<56 | uint64(flags&0xffffff)<<32 | uint64(value))
}

// Status returns bits 63–56.
func (r Result) Status() Status { return Status(r >> 56) }

// Flags returns bits 55–32.
func (r Result) Flags() uint32 { return uint32(r>>32) & 0xffffff }

// Value returns bits 31–0.
func (r Result) Value() uint32 { return uint32(r) }

// Record types.
const (
	RecEnd         = 0  // closes the list; length 0
	RecKeyAddition = 1  // bytes added to the key, 1 to MaxKeyAddition
	RecTarget      = 2  // path and query that replace those of the request
	RecTag         = 3  // one tag, visible ASCII without comma
	RecState       = 4  // the item's state, [a-z0-9_-]
	RecTiers       = 5  // u8 tiers to read, u8 tiers to write
	RecLifetimes   = 6  // u32 seconds for L1, L2, L3; AsComputed leaves one as it is
	RecStale       = 7  // u32 seconds stale-while-revalidate, u32 stale-if-error
	RecStatus      = 8  // u16 status 400–599, then the reason, visible ASCII and spaces
	RecReuse       = 9  // u32 seconds the verdict may be reused
	RecSetRequest  = 10 // u16 name length, name, value
	RecSetResponse = 11 // u16 name length, name, value
	RecRemove      = 12 // u16: 0 request, 1 response; then the name
	RecAnswer      = 13 // u16 status, u16 headers, u32 body length, {u16, u16, name, value}, body
	recordTypes    = 14
	recordHead     = 4
	recordAlign    = 8
)

// ErrRecords says that an output area breaks the rules of ABI.md, section 5. The
// answer must not be used.
var ErrRecords = errors.New("abi: bad output records")

// Records walks the records in an output area.
type Records struct {
	b   []byte
	off int
	bad bool
	// checked says that the contents were found right before.
	checked bool
}

// ReadRecords returns a walk over the records at the start of out. The slices
// that Next returns are views of out.
func ReadRecords(out []byte) Records { return Records{b: out} }

// ReadChecked is ReadRecords for an area that a walk has found right to its end
// and that has not changed since: contents are not checked again.
func ReadChecked(out []byte) Records { return Records{b: out, checked: true} }

// Next returns the next record, whose content has been checked against the rules
// of its type. It reports false at the end of the list or at a fault; Err tells
// them apart.
func (r *Records) Next() (typ uint16, data []byte, ok bool) {
	if r.bad || len(r.b)-r.off < recordHead {
		r.bad = true
		return 0, nil, false
	}
	typ = binary.LittleEndian.Uint16(r.b[r.off:])
	n := int(binary.LittleEndian.Uint16(r.b[r.off+2:]))
	if typ == RecEnd {
		r.bad = n != 0
		return 0, nil, false
	}
	size := (recordHead + n + recordAlign - 1) &^ (recordAlign - 1)
	if size > len(r.b)-r.off {
		r.bad = true
		return 0, nil, false
	}
	data = r.b[r.off+recordHead : r.off+recordHead+n : r.off+recordHead+n]
	if !r.checked && !validRecord(typ, data) {
		r.bad = true
		return 0, nil, false
	}
	r.off += size
	return typ, data, true
}

// Err returns ErrRecords if the walk ended at a fault.
func (r *Records) Err() error {
	if r.bad {
		return ErrRecords
	}
	return nil
}

// AppendRecord appends one record with its padding.
func AppendRecord(dst []byte, typ uint16, data []byte) []byte {
	dst = binary.LittleEndian.AppendUint16(dst, typ)
	dst = binary.LittleEndian.AppendUint16(dst, uint16(len(data)))
	dst = append(dst, data...)
	for n := recordHead + len(data); n%recordAlign != 0; n++ {
		dst = append(dst, 0)
	}
	return dst
}

// AppendEnd closes a list of records.
func AppendEnd(dst []byte) []byte { return append(dst, 0, 0, 0, 0, 0, 0, 0, 0) }
