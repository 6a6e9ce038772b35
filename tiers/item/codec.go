package item

import (
	"encoding/binary"
	"errors"
	"fmt"
	"unsafe"
)

// Format is the number of the record form that this version writes.
const Format = 1

const (
	headLen = 152
	maxPart = 1<<31 - 1
)

// ErrMalformed is returned by Parse for bytes that are not a record of a known
// format.
var ErrMalformed = errors.New("item: malformed record")

var le = binary.LittleEndian

// EncodedLen returns the length of the record of it in bytes.
func (it *Item) EncodedLen() int {
	return headLen + len(it.Key) + len(it.State) + len(it.MIME) + len(it.BatchID) + len(it.TraceParent) +
		len(it.TraceState) + len(it.HomeInstance) + it.tagsLen() + len(it.Response) + len(it.Content)
}

func (it *Item) tagsLen() int {
	n := 2 * len(it.Tags)
	for _, t := range it.Tags {
		n += len(t)
	}
	return n
}

// AppendTo appends the record of it to dst and returns the extended slice. The
// item must satisfy Check. It allocates only when dst is too short.
func (it *Item) AppendTo(dst []byte) []byte {
	var h [headLen]byte
	h[0], h[1], h[2], h[3] = Format, byte(it.Kind), byte(it.Tiers), byte(it.Flags)
	h[4], h[5] = byte(it.Durability), byte(len(it.State))
	le.PutUint16(h[6:], uint16(len(it.Tags)))
	le.PutUint64(h[8:], uint64(it.Version))
	le.PutUint64(h[16:], uint64(it.ContentVersion))
	le.PutUint64(h[24:], uint64(it.MetadataVersion))
	le.PutUint64(h[32:], uint64(it.UpdatedAt))
	le.PutUint64(h[40:], uint64(it.ExpiresAt))
	le.PutUint64(h[48:], uint64(it.L1TTL))
	le.PutUint64(h[56:], uint64(it.L2TTL))
	copy(h[64:], it.ContentHash[:])
	copy(h[96:], it.ETag[:])
	le.PutUint64(h[112:], it.AccessCount)
	le.PutUint64(h[120:], uint64(it.LastAccessed))
	le.PutUint16(h[128:], uint16(len(it.Key)))
	le.PutUint16(h[130:], uint16(len(it.MIME)))
	le.PutUint16(h[132:], uint16(len(it.BatchID)))
	le.PutUint16(h[134:], uint16(len(it.TraceParent)))
	le.PutUint16(h[136:], uint16(len(it.TraceState)))
	le.PutUint16(h[138:], uint16(len(it.HomeInstance)))
	le.PutUint32(h[140:], uint32(len(it.Response)))
	le.PutUint32(h[144:], uint32(it.tagsLen()))
	le.PutUint32(h[148:], uint32(len(it.Content)))

	dst = append(dst, h[:]...)
	dst = append(dst, it.Key...)
	dst = append(dst, it.State...)
	dst = append(dst, it.MIME...)
	dst = append(dst, it.BatchID...)
	dst = append(dst, it.TraceParent...)
	dst = append(dst, it.TraceState...)
	dst = append(dst, it.HomeInstance...)
	for _, t := range it.Tags {
		dst = le.AppendUint16(dst, uint16(len(t)))
		dst = append(dst, t...)
	}
	dst = append(dst, it.Response...)
	return append(dst, it.Content...)
}

// A View is the record of an item, checked by Parse or written by AppendTo.
// Its methods read single fields; slices and strings that they return share
// memory with the record and live as long as it does.
type View []byte

// RecordKind returns the kind of the record in b without checking the rest.
func RecordKind(b []byte) (Kind, error) {
	if len(b) < 2 {
		return 0, fmt.Errorf("%w: %d bytes", ErrMalformed, len(b))
	}
	if b[0] != Format {
		return 0, fmt.Errorf("%w: format %d, this version reads %d", ErrMalformed, b[0], Format)
	}
	return Kind(b[1]), nil
}

// Parse checks that b is exactly one record of an item and returns it as a
// View, which shares memory with b. It allocates nothing unless it fails.
func Parse(b []byte) (View, error) {
	kind, err := RecordKind(b)
	if err != nil {
		return nil, err
	}
	if kind != KindPut && kind != KindTombstone && kind != KindMetadata {
		return nil, fmt.Errorf("%w: kind %d is not an item", ErrMalformed, kind)
	}
	if len(b) < headLen {
		return nil, fmt.Errorf("%w: %d bytes, the head alone has %d", ErrMalformed, len(b), headLen)
	}
	v := View(b)
	if got, want := uint64(len(b)), v.wantLen(); got != want {
		return nil, fmt.Errorf("%w: %d bytes, its lengths add up to %d", ErrMalformed, got, want)
	}
	if err := v.Key().Check(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	rest, n := v.rawTags(), int(le.Uint16(b[6:]))
	for range n {
		if len(rest) < 2 || len(rest)-2 < int(le.Uint16(rest)) {
			return nil, fmt.Errorf("%w: tags do not fit their length", ErrMalformed)
		}
		rest = rest[2+int(le.Uint16(rest)):]
	}
	if len(rest) != 0 {
		return nil, fmt.Errorf("%w: %d bytes after the last tag", ErrMalformed, len(rest))
	}
	return v, nil
}

func (v View) wantLen() uint64 {
	n := uint64(headLen) + uint64(v[5])
	for off := 128; off < 140; off += 2 {
		n += uint64(le.Uint16(v[off:]))
	}
	return n + uint64(le.Uint32(v[140:])) + uint64(le.Uint32(v[144:])) + uint64(le.Uint32(v[148:]))
}

// Offsets of the variable parts, each after the one before.
func (v View) u16(off int) int    { return int(le.Uint16(v[off:])) }
func (v View) keyEnd() int        { return headLen + v.u16(128) }
func (v View) stateEnd() int      { return v.keyEnd() + int(v[5]) }
func (v View) mimeEnd() int       { return v.stateEnd() + v.u16(130) }
func (v View) batchEnd() int      { return v.mimeEnd() + v.u16(132) }
func (v View) parentEnd() int     { return v.batchEnd() + v.u16(134) }
func (v View) traceStateEnd() int { return v.parentEnd() + v.u16(136) }
func (v View) homeEnd() int       { return v.traceStateEnd() + v.u16(138) }
func (v View) tagsEnd() int       { return v.homeEnd() + int(le.Uint32(v[144:])) }
func (v View) contentStart() int  { return len(v) - int(le.Uint32(v[148:])) }

// AppendHead appends v without its content to dst: a record that is as long as its
// metadata and has the hash of the content that it lacks.
func (v View) AppendHead(dst []byte) View {
	start := len(dst)
	dst = append(dst, v[:v.contentStart()]...)
	le.PutUint32(dst[start+148:], 0)
	return View(dst)
}

// text returns b as a string that shares its memory: the record is never
// changed while a View of it is in use.
func text(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

func (v View) Kind() Kind               { return Kind(v[1]) }
func (v View) Tiers() Tiers             { return Tiers(v[2]) }
func (v View) Flags() Flags             { return Flags(v[3]) }
func (v View) Durability() Durability   { return Durability(v[4]) }
func (v View) Version() Version         { return Version(le.Uint64(v[8:])) }
func (v View) ContentVersion() Version  { return Version(le.Uint64(v[16:])) }
func (v View) MetadataVersion() Version { return Version(le.Uint64(v[24:])) }
func (v View) UpdatedAt() int64         { return int64(le.Uint64(v[32:])) }
func (v View) ExpiresAt() int64         { return int64(le.Uint64(v[40:])) }
func (v View) L1TTL() int64             { return int64(le.Uint64(v[48:])) }
func (v View) L2TTL() int64             { return int64(le.Uint64(v[56:])) }
func (v View) ContentHash() [32]byte    { return [32]byte(v[64:96]) }
func (v View) ETag() ETag               { return ETag(v[96:112]) }
func (v View) AccessCount() uint64      { return le.Uint64(v[112:]) }
func (v View) LastAccessed() int64      { return int64(le.Uint64(v[120:])) }
func (v View) Key() Key                 { return Key(v[headLen:v.keyEnd()]) }
func (v View) State() string            { return text(v[v.keyEnd():v.stateEnd()]) }
func (v View) MIME() string             { return text(v[v.stateEnd():v.mimeEnd()]) }
func (v View) BatchID() string          { return text(v[v.mimeEnd():v.batchEnd()]) }
func (v View) TraceParent() string      { return text(v[v.batchEnd():v.parentEnd()]) }
func (v View) TraceState() string       { return text(v[v.parentEnd():v.traceStateEnd()]) }
func (v View) HomeInstance() string     { return text(v[v.traceStateEnd():v.homeEnd()]) }
func (v View) rawTags() []byte          { return v[v.homeEnd():v.tagsEnd()] }
func (v View) Response() []byte         { return v[v.tagsEnd():v.contentStart()] }
func (v View) Content() []byte          { return v[v.contentStart():] }
func (v View) TagCount() int            { return v.u16(6) }
func (v View) Expired(nowMilli int64) bool {
	at := v.ExpiresAt()
	return at != 0 && nowMilli >= at
}

// Tags calls yield with each tag in order until it returns false. It can stand
// in a range clause.
func (v View) Tags(yield func(tag string) bool) {
	rest := v.rawTags()
	for len(rest) >= 2 {
		n := int(le.Uint16(rest))
		if !yield(text(rest[2 : 2+n])) {
			return
		}
		rest = rest[2+n:]
	}
}

// Item decodes the record. The slices of the result share memory with v, the
// strings are copies.
func (v View) Item() Item {
	it := v.shallow()
	it.MIME, it.State, it.BatchID = string([]byte(v.MIME())), string([]byte(v.State())), string([]byte(v.BatchID()))
	it.TraceParent, it.TraceState = string([]byte(v.TraceParent())), string([]byte(v.TraceState()))
	it.HomeInstance = string([]byte(v.HomeInstance()))
	for t := range v.Tags {
		it.Tags = append(it.Tags, string([]byte(t)))
	}
	return it
}

// shallow decodes the fixed fields and the byte slices.
func (v View) shallow() Item {
	return Item{
		Kind: v.Kind(), Tiers: v.Tiers(), Flags: v.Flags(), Durability: v.Durability(),
		Key: v.Key(), Version: v.Version(), ContentVersion: v.ContentVersion(), MetadataVersion: v.MetadataVersion(),
		UpdatedAt: v.UpdatedAt(), ExpiresAt: v.ExpiresAt(), L1TTL: v.L1TTL(), L2TTL: v.L2TTL(),
		ContentHash: v.ContentHash(), ETag: v.ETag(), AccessCount: v.AccessCount(), LastAccessed: v.LastAccessed(),
		Response: v.Response(), Content: v.Content(),
	}
}
