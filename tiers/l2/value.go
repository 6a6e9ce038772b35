package l2

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/edgenode/edgenode/tiers/item"
)

// Format is the number of the value form that this version writes; see the
// package comment. It reads former ones.
const Format = 2

const (
	registersLen = 24
	untilOffset  = 1 + registersLen
	valueHeadLen = untilOffset + 8

	// Where a value has the content hash of its record, by its own format: in that
	// of format 1 always, in that of format 2 behind the head if a bit says so, as
	// package item draws them.
	format1     = 1
	hashOffset1 = valueHeadLen + 64
	hashOffset  = valueHeadLen + 24
	hasOffset   = valueHeadLen + 4
	hasHash     = 1 << 1
	leastRecord = 26 // bytes, of format 2
	comparedLen = hashOffset1 + 32

	// maxHead bounds what is read of a value at once when only its head is
	// needed: enough for nearly all heads.
	maxHead = 2 << 10
)

// Why a value is not believed. It is a miss.
var (
	errFormat  = errors.New("value is of no known format")
	errCorrupt = errors.New("value is corrupt")
)

var be = binary.BigEndian

// registers are version, content version and metadata version, 8 big-endian
// bytes each: compared as bytes they say which of two rows of an item is newer.
type registers [registersLen]byte

// registersOf returns those of v. A put that names no metadata version set the
// metadata itself, as in package l3.
func registersOf(v item.View) (r registers) {
	metadata := v.MetadataVersion()
	if metadata == 0 {
		metadata = v.ContentVersion()
	}
	be.PutUint64(r[0:], uint64(v.Version()))
	be.PutUint64(r[8:], uint64(v.ContentVersion()))
	be.PutUint64(r[16:], uint64(metadata))
	return r
}

// bound returns the least registers of version: below it is what is older.
func bound(version item.Version) (r registers) {
	be.PutUint64(r[:], uint64(version))
	return r
}

// next returns the least registers above r, or r if there are none.
func (r registers) next() registers {
	for i := registersLen - 1; i >= 0; i-- {
		if r[i]++; r[i] != 0 {
			return r
		}
	}
	return registers(bytes.Repeat([]byte{0xff}, registersLen))
}

// appendValue appends the value of record, or a fence if record is empty.
func appendValue(dst []byte, r registers, untilMilli int64, record item.View) []byte {
	dst = append(dst, Format)
	dst = append(dst, r[:]...)
	dst = be.AppendUint64(dst, uint64(untilMilli))
	return append(dst, record...)
}

// parseValue returns the record in b, nil for a fence or for what is over at
// nowMilli. key is the one asked for; nil means any. The record shares memory
// with b. An error wraps errFormat or errCorrupt. It never panics.
func parseValue(b []byte, key item.Key, nowMilli int64) (item.View, error) {
	switch {
	case len(b) == 0 || !known(b[0]):
		return nil, errFormat
	case len(b) < valueHeadLen:
		return nil, fmt.Errorf("%w: %d bytes, the head alone has %d", errCorrupt, len(b), valueHeadLen)
	case len(b) == valueHeadLen, nowMilli >= int64(be.Uint64(b[untilOffset:])):
		return nil, nil
	}
	v, err := item.Parse(b[valueHeadLen:])
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errCorrupt, err)
	}
	if v.Kind() != item.KindPut && v.Kind() != item.KindTombstone {
		return nil, fmt.Errorf("%w: record of kind %d", errCorrupt, v.Kind())
	}
	if r := registersOf(v); !bytes.Equal(r[:], b[1:untilOffset]) {
		return nil, fmt.Errorf("%w: versions of head and record differ", errCorrupt)
	}
	if key != nil && !bytes.Equal(v.Key(), key) {
		return nil, fmt.Errorf("%w: record of another key", errCorrupt)
	}
	return v, nil
}

// known reports whether values of a format can be read.
func known(format byte) bool { return format == Format || format == format1 }

// hashOf returns the content hash of the value that begins with b, zeros if it has
// none.
func hashOf(b []byte) (hash [32]byte) {
	at := hashOffset1
	if b[0] != format1 {
		if len(b) <= hasOffset || b[hasOffset]&hasHash == 0 {
			return hash
		}
		at = hashOffset
	}
	copy(hash[:], b[min(len(b), at):])
	return hash
}

// hasRecord reports whether b, the first comparedLen bytes of a value or all of it,
// is that of a record, not of a fence.
func hasRecord(b []byte) bool {
	if b[0] == format1 {
		return len(b) >= comparedLen
	}
	return len(b) >= valueHeadLen+leastRecord
}

// headLen returns how many bytes of the value that begins with b precede the
// content; 0 if b is not the beginning of a value with a record.
func headLen(b []byte) int {
	if len(b) < valueHeadLen || !known(b[0]) {
		return 0
	}
	n := item.HeadLen(b[valueHeadLen:])
	if n > 0 {
		n += valueHeadLen
	}
	return n
}

// cutContent turns the first headLen bytes of a value into the value of the
// same record without content, in place.
func cutContent(b []byte) []byte {
	item.CutContent(b[valueHeadLen:])
	return b
}
