package item

import (
	"encoding/binary"
	"errors"
	"math"
	"strings"
)

// Format is the number of the record form that this version writes. Parse reads
// those before it too.
const Format = 2

// Offsets in the fixed head, and its length. The package comment draws it.
const (
	offPlace      = 2
	offFlags      = 3
	offHas        = 4
	offKeyLen     = 6
	offVersion    = 8
	offContentLen = 16
	offMetaEnd    = 20
	offResponse   = 22
	headLen       = 24

	maxPart = 1<<31 - 1
)

// Bits of the two presence bytes. The first four say what stands between the head
// and the key, so that the key is found by shifts alone; the others what is behind.
const (
	hasETag            = 1 << 0 // 16 bytes
	hasHash            = 1 << 1 // 32 bytes
	hasExpiry          = 1 << 2
	hasWide            = 1 << 3
	hasContentVersion  = 1 << 4
	hasMetadataVersion = 1 << 5
	hasUpdatedAt       = 1 << 6
	hasL1TTL           = 1 << 7

	hasL2TTL  = 1 << 0 // of the second byte
	hasAccess = 1 << 1
	hasMIME   = 1 << 2
	hasState  = 1 << 3
	hasBatch  = 1 << 4
	hasTrace  = 1 << 5
	hasHome   = 1 << 6
	hasTags   = 1 << 7
)

// ErrMalformed is returned by Parse for bytes that are not a record of a known
// format.
var ErrMalformed = errors.New("item: malformed record")

var le = binary.LittleEndian

// has returns the presence bytes.
func (it *Item) has() (a, b byte) {
	set := func(to *byte, bit byte, present bool) {
		if present {
			*to |= bit
		}
	}
	set(&a, hasETag, it.ETag != ETag{})
	set(&a, hasHash, it.ContentHash != [32]byte{})
	set(&a, hasExpiry, it.ExpiresAt != 0)
	set(&a, hasWide, len(it.Response) > math.MaxUint16 || it.metaBound() > math.MaxUint16)
	set(&a, hasContentVersion, it.ContentVersion != it.Version)
	set(&a, hasMetadataVersion, it.MetadataVersion != it.Version)
	set(&a, hasUpdatedAt, it.UpdatedAt != it.Version.UnixMilli())
	set(&a, hasL1TTL, it.L1TTL != 0)
	set(&b, hasL2TTL, it.L2TTL != 0)
	set(&b, hasAccess, it.AccessCount != 0 || it.LastAccessed != 0)
	set(&b, hasMIME, it.MIME != "")
	set(&b, hasState, it.State != "")
	set(&b, hasBatch, it.BatchID != "")
	set(&b, hasTrace, it.TraceParent != "" || it.TraceState != "")
	set(&b, hasHome, it.HomeInstance != "")
	set(&b, hasTags, len(it.Tags) != 0)
	return a, b
}

// fixedMost is above what head, numbers and lengths of texts take together.
const fixedMost = headLen + 160

// metaBound is at least the length of all that stands before the response
// metadata.
func (it *Item) metaBound() int {
	n := fixedMost + len(it.Key) + len(it.MIME) + len(it.State) + len(it.BatchID) + len(it.TraceParent) +
		len(it.TraceState) + len(it.HomeInstance)
	for _, t := range it.Tags {
		n += 5 + len(t)
	}
	return n
}

// EncodedLen returns the length of the record of it in bytes.
func (it *Item) EncodedLen() int {
	a, b := it.has()
	n := keyOffset(a) + len(it.Key) + numbersLen(a, b) + len(it.Response) + len(it.Content)
	if b&hasMIME != 0 {
		n += mimeLen(it.MIME)
	}
	if b&hasState != 0 {
		n += shortTextLen(it.State)
	}
	if b&hasBatch != 0 {
		n += shortTextLen(it.BatchID)
	}
	if b&hasTrace != 0 {
		n += shortTextLen(it.TraceParent) + shortTextLen(it.TraceState)
	}
	if b&hasHome != 0 {
		n += homeLen(it.HomeInstance)
	}
	if b&hasTags != 0 {
		n += shortLen(len(it.Tags))
		for _, t := range it.Tags {
			n += tagLen(it.Key, t)
		}
	}
	return n
}

// AppendTo appends the record of it to dst and returns the extended slice. The
// item must satisfy Check. It allocates only when dst is too short.
func (it *Item) AppendTo(dst []byte) []byte {
	start := len(dst)
	a, b := it.has()
	dst = it.appendHead(dst, a, b)
	dst = append(dst, it.Key...)
	dst = it.appendNumbers(dst, a, b)
	dst = it.appendTexts(dst, b)
	if b&hasTags != 0 {
		dst = appendShort(dst, len(it.Tags))
		for _, t := range it.Tags {
			dst = appendTag(dst, it.Key, t)
		}
	}
	metaEnd := uint32(len(dst) - start)
	le.PutUint16(dst[start+offMetaEnd:], uint16(metaEnd))
	if a&hasWide != 0 {
		le.PutUint16(dst[start+keyOffset(a)-4:], uint16(metaEnd>>16))
	}
	dst = append(dst, it.Response...)
	return append(dst, it.Content...)
}

// appendHead appends what stands before the key, without the end of the metadata.
func (it *Item) appendHead(dst []byte, a, b byte) []byte {
	var h [headLen]byte
	h[0], h[1], h[offPlace], h[offFlags] = Format, byte(it.Kind), byte(it.Tiers)|byte(it.Durability)<<4, byte(it.Flags)
	h[offHas], h[offHas+1] = a, b
	le.PutUint16(h[offKeyLen:], uint16(len(it.Key)))
	le.PutUint64(h[offVersion:], uint64(it.Version))
	le.PutUint32(h[offContentLen:], uint32(len(it.Content)))
	le.PutUint16(h[offResponse:], uint16(len(it.Response)))
	dst = append(dst, h[:]...)
	if a&hasHash != 0 {
		dst = append(dst, it.ContentHash[:]...)
	}
	if a&hasETag != 0 {
		dst = append(dst, it.ETag[:]...)
	}
	if a&hasExpiry != 0 {
		dst = le.AppendUint64(dst, uint64(it.ExpiresAt))
	}
	if a&hasWide != 0 {
		dst = le.AppendUint16(append(dst, 0, 0), uint16(len(it.Response)>>16))
	}
	return dst
}

func (it *Item) appendNumbers(dst []byte, a, b byte) []byte {
	if a&hasContentVersion != 0 {
		dst = le.AppendUint64(dst, uint64(it.ContentVersion))
	}
	if a&hasMetadataVersion != 0 {
		dst = le.AppendUint64(dst, uint64(it.MetadataVersion))
	}
	if a&hasUpdatedAt != 0 {
		dst = le.AppendUint64(dst, uint64(it.UpdatedAt))
	}
	if a&hasL1TTL != 0 {
		dst = le.AppendUint64(dst, uint64(it.L1TTL))
	}
	if b&hasL2TTL != 0 {
		dst = le.AppendUint64(dst, uint64(it.L2TTL))
	}
	if b&hasAccess != 0 {
		dst = le.AppendUint64(dst, it.AccessCount)
		dst = le.AppendUint64(dst, uint64(it.LastAccessed))
	}
	return dst
}

func (it *Item) appendTexts(dst []byte, b byte) []byte {
	if b&hasMIME != 0 {
		dst = appendMIME(dst, it.MIME)
	}
	if b&hasState != 0 {
		dst = appendShortText(dst, it.State)
	}
	if b&hasBatch != 0 {
		dst = appendShortText(dst, it.BatchID)
	}
	if b&hasTrace != 0 {
		dst = appendShortText(appendShortText(dst, it.TraceParent), it.TraceState)
	}
	if b&hasHome != 0 {
		dst = appendHome(dst, it.HomeInstance)
	}
	return dst
}

// Item decodes the record. The slices of the result share memory with v, the
// strings are copies.
func (v View) Item() Item {
	it := Item{
		Kind: v.Kind(), Tiers: v.Tiers(), Flags: v.Flags(), Durability: v.Durability(),
		Key: v.Key(), Version: v.Version(), ContentVersion: v.ContentVersion(), MetadataVersion: v.MetadataVersion(),
		UpdatedAt: v.UpdatedAt(), ExpiresAt: v.ExpiresAt(), L1TTL: v.L1TTL(), L2TTL: v.L2TTL(),
		ContentHash: v.ContentHash(), ETag: v.ETag(), AccessCount: v.AccessCount(), LastAccessed: v.LastAccessed(),
		Response: v.Response(), Content: v.Content(),
		MIME: strings.Clone(v.MIME()), State: strings.Clone(v.State()), BatchID: strings.Clone(v.BatchID()),
		TraceParent: strings.Clone(v.TraceParent()), TraceState: strings.Clone(v.TraceState()), HomeInstance: strings.Clone(v.HomeInstance()),
	}
	for head, tail := range v.TagParts {
		it.Tags = append(it.Tags, string(append(append(make([]byte, 0, len(head)+len(tail)), head...), tail...)))
	}
	return it
}
