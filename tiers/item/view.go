package item

import (
	"fmt"
	"math/bits"
	"unsafe"
)

// A View is the record of an item in the newest format, returned by Parse or
// written by AppendTo. Its methods read single fields; slices and strings that
// they return share memory with the record and live as long as it does, except
// where a method says that it makes them. Key, versions, end, content and response
// metadata are found without a walk over other fields.
type View []byte

// text returns b as a string that shares its memory: the record is never
// changed while a View of it is in use.
func text(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// keyOffset returns where the key begins, by the first presence byte.
func keyOffset(a byte) int {
	return headLen + int(a&(hasETag|hasHash))<<4 + int(a&hasExpiry)<<1 + int(a&hasWide)>>1
}

// numbersLen returns the length of the numbers behind the key.
func numbersLen(a, b byte) int {
	return bits.OnesCount8(a>>4)<<3 + int(b&hasL2TTL)<<3 + int(b&hasAccess)<<3
}

func (v View) u64(off int) uint64 { return le.Uint64(v[off:]) }
func (v View) keyEnd() int        { return keyOffset(v[offHas]) + int(le.Uint16(v[offKeyLen:])) }
func (v View) contentStart() int  { return len(v) - int(le.Uint32(v[offContentLen:])) }

// metaEnd returns where the response metadata begins.
func (v View) metaEnd() int {
	n := int(le.Uint16(v[offMetaEnd:]))
	if a := v[offHas]; a&hasWide != 0 {
		n |= int(le.Uint16(v[keyOffset(a)-4:])) << 16
	}
	return n
}

func (v View) Kind() Kind             { return Kind(v[1]) }
func (v View) Tiers() Tiers           { return Tiers(v[offPlace] & 0xf) }
func (v View) Durability() Durability { return Durability(v[offPlace] >> 4) }
func (v View) Flags() Flags           { return Flags(v[offFlags]) }
func (v View) Version() Version       { return Version(v.u64(offVersion)) }

func (v View) Key() Key {
	at := keyOffset(v[offHas])
	return Key(v[at : at+int(le.Uint16(v[offKeyLen:]))])
}

func (v View) Response() []byte { return v[v.metaEnd():v.contentStart()] }
func (v View) Content() []byte  { return v[v.contentStart():] }

// ExpiresAt returns the end of the item in Unix ms, 0 if it has none.
func (v View) ExpiresAt() int64 {
	a := v[offHas]
	if a&hasExpiry == 0 {
		return 0
	}
	return int64(v.u64(headLen + int(a&(hasETag|hasHash))<<4))
}

// Expired reports whether the item is over at nowMilli (Unix ms).
func (v View) Expired(nowMilli int64) bool {
	at := v.ExpiresAt()
	return at != 0 && nowMilli >= at
}

// ContentHash returns the SHA-256 of the content, zeros if the record has none.
func (v View) ContentHash() (hash [32]byte) {
	if v[offHas]&hasHash != 0 {
		hash = [32]byte(v[headLen:])
	}
	return hash
}

// ETag returns the entity tag, zeros if the record has none.
func (v View) ETag() (tag ETag) {
	if a := v[offHas]; a&hasETag != 0 {
		tag = ETag(v[headLen+int(a&hasHash)<<4:])
	}
	return tag
}

func (v View) ContentVersion() Version {
	if v[offHas]&hasContentVersion == 0 {
		return v.Version()
	}
	return Version(v.u64(v.keyEnd()))
}

func (v View) MetadataVersion() Version {
	if v[offHas]&hasMetadataVersion == 0 {
		return v.Version()
	}
	return Version(v.number(hasMetadataVersion))
}

func (v View) UpdatedAt() int64 {
	if v[offHas]&hasUpdatedAt == 0 {
		return v.Version().UnixMilli()
	}
	return int64(v.number(hasUpdatedAt))
}

func (v View) L1TTL() int64 {
	if v[offHas]&hasL1TTL == 0 {
		return 0
	}
	return int64(v.number(hasL1TTL))
}

func (v View) L2TTL() int64 {
	if v[offHas+1]&hasL2TTL == 0 {
		return 0
	}
	return int64(v.u64(v.keyEnd() + numbersLen(v[offHas], 0)))
}

func (v View) AccessCount() uint64 {
	if v[offHas+1]&hasAccess == 0 {
		return 0
	}
	return v.u64(v.textsStart() - 16)
}

func (v View) LastAccessed() int64 {
	if v[offHas+1]&hasAccess == 0 {
		return 0
	}
	return int64(v.u64(v.textsStart() - 8))
}

// number returns the one of a bit of the first presence byte that is set.
func (v View) number(bit byte) uint64 {
	return v.u64(v.keyEnd() + numbersLen(v[offHas]&(bit-1), 0))
}

func (v View) textsStart() int { return v.keyEnd() + numbersLen(v[offHas], v[offHas+1]) }

// MIME returns the media type. That of a common one is a constant.
func (v View) MIME() string {
	if v[offHas+1]&hasMIME == 0 {
		return ""
	}
	mime, _, _ := cutMIME(v[v.textsStart():])
	return mime
}

// texts returns what begins with the text of bit, or with the tags.
func (v View) texts(bit byte) []byte {
	b, rest := v[offHas+1], []byte(v[v.textsStart():v.metaEnd()])
	if b&hasMIME != 0 {
		_, rest, _ = cutMIME(rest)
	}
	n := bits.OnesCount8(b & (bit - 1) & (hasState | hasBatch | hasTrace))
	if b&(bit-1)&hasTrace != 0 {
		n++ // there are two
	}
	for range n {
		_, rest, _ = cutShortText(rest)
	}
	if b&(bit-1)&hasHome != 0 {
		_, rest, _ = cutHome(rest)
	}
	return rest
}

func (v View) shortText(bit byte) string {
	if v[offHas+1]&bit == 0 {
		return ""
	}
	s, _, _ := cutShortText(v.texts(bit))
	return text(s)
}

func (v View) State() string       { return v.shortText(hasState) }
func (v View) BatchID() string     { return v.shortText(hasBatch) }
func (v View) TraceParent() string { return v.shortText(hasTrace) }

func (v View) TraceState() string {
	if v[offHas+1]&hasTrace == 0 {
		return ""
	}
	_, rest, _ := cutShortText(v.texts(hasTrace))
	s, _, _ := cutShortText(rest)
	return text(s)
}

// HomeInstance returns the id of the node that wrote the item. It makes the string
// of an id that is a UUID.
func (v View) HomeInstance() string {
	if v[offHas+1]&hasHome == 0 {
		return ""
	}
	id, _, _ := cutHome(v.texts(hasHome))
	return id.String()
}

// TagCount returns the number of tags.
func (v View) TagCount() int {
	if v[offHas+1]&hasTags == 0 {
		return 0
	}
	n, _ := short(v.texts(hasTags))
	return n
}

// Tags calls yield with each tag in order until it returns false. It can stand
// in a range clause. It makes the string of a tag that the record keeps as a part
// of its key; TagParts makes none.
func (v View) Tags(yield func(tag string) bool) {
	v.TagParts(func(head, tail string) bool { return yield(head + tail) })
}

// TagParts calls yield with two parts of each tag in order until it returns false:
// the tag is one behind the other. It can stand in a range clause.
func (v View) TagParts(yield func(head, tail string) bool) {
	if v[offHas+1]&hasTags == 0 {
		return
	}
	rest, key := v.texts(hasTags), v.Key()
	n, size := short(rest)
	rest = rest[size:]
	for range n {
		var head, tail []byte
		if head, tail, rest, _ = cutTag(rest, key); !yield(text(head), text(tail)) {
			return
		}
	}
}

// AppendHead appends v without its content to dst: a record that is as long as its
// metadata and has the hash of the content that it lacks.
func (v View) AppendHead(dst []byte) View {
	start := len(dst)
	dst = append(dst, v[:v.contentStart()]...)
	le.PutUint32(dst[start+offContentLen:], 0)
	return View(dst)
}

// AppendWith appends to dst the record that v, which has no content, is with
// content.
func (v View) AppendWith(dst, content []byte) View {
	start := len(dst)
	dst = append(dst, v...)
	le.PutUint32(dst[start+offContentLen:], uint32(len(content)))
	return append(dst, content...)
}

// HeadLen returns how many bytes of the record that begins with b, of any format
// that Parse reads, precede its content; 0 if b is no such beginning, or too little of
// it: 152 bytes always do. It checks no more than it needs.
func HeadLen(b []byte) int {
	switch {
	case len(b) == 0:
		return 0
	case b[0] == format1:
		return headLen1(b)
	case b[0] != Format || len(b) < headLen || len(b) < keyOffset(b[offHas]):
		return 0
	}
	n := View(b).metaEnd() + int(le.Uint16(b[offResponse:]))
	if a := b[offHas]; a&hasWide != 0 {
		n += int(le.Uint16(b[keyOffset(a)-2:])) << 16
	}
	return n
}

// CutContent turns the first HeadLen bytes of a record into the record without
// content, in place.
func CutContent(b []byte) {
	at := offContentLen
	if b[0] == format1 {
		at = format1ContentLen
	}
	le.PutUint32(b[at:], 0)
}

// Parse checks that b is exactly one record of an item and returns it as a
// View. That shares memory with b, and nothing is allocated, unless b is of
// format 1: then it is the record of the same item in the newest format. So
// callers keep the View, not b.
func Parse(b []byte) (View, error) {
	kind, err := RecordKind(b)
	if err != nil {
		return nil, err
	}
	if kind != KindPut && kind != KindTombstone && kind != KindMetadata {
		return nil, fmt.Errorf("%w: kind %d is not an item", ErrMalformed, kind)
	}
	if b[0] == format1 {
		return upgrade1(b)
	}
	return parse2(b)
}

func parse2(b []byte) (View, error) {
	if len(b) < headLen || len(b) < keyOffset(b[offHas]) {
		return nil, fmt.Errorf("%w: %d bytes are less than its head", ErrMalformed, len(b))
	}
	v := View(b)
	if got, want := uint64(len(b)), uint64(HeadLen(b))+uint64(le.Uint32(b[offContentLen:])); got != want {
		return nil, fmt.Errorf("%w: %d bytes, its lengths add up to %d", ErrMalformed, got, want)
	}
	end := v.metaEnd()
	if v.textsStart() > end {
		return nil, fmt.Errorf("%w: key and numbers do not fit its %d bytes of metadata", ErrMalformed, end)
	}
	if err := v.Key().Check(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	rest, ok := v.passTexts(b[v.textsStart():end])
	if !ok {
		return nil, fmt.Errorf("%w: texts or tags do not fit its metadata", ErrMalformed)
	}
	if len(rest) != 0 {
		return nil, fmt.Errorf("%w: %d bytes after the last tag", ErrMalformed, len(rest))
	}
	return v, nil
}

// passTexts returns what is left of rest behind all texts and tags.
func (v View) passTexts(rest []byte) (_ []byte, ok bool) {
	has := v[offHas+1]
	ok = true
	if has&hasMIME != 0 {
		_, rest, ok = cutMIME(rest)
	}
	n := bits.OnesCount8(has & (hasState | hasBatch | hasTrace))
	if has&hasTrace != 0 {
		n++
	}
	for ; ok && n > 0; n-- {
		_, rest, ok = cutShortText(rest)
	}
	if ok && has&hasHome != 0 {
		_, rest, ok = cutHome(rest)
	}
	if !ok || has&hasTags == 0 {
		return rest, ok
	}
	n, size := short(rest)
	if size == 0 {
		return nil, false
	}
	rest = rest[size:]
	for key := v.Key(); ok && n > 0; n-- {
		_, _, rest, ok = cutTag(rest, key)
	}
	return rest, ok
}

// RecordKind returns the kind of the record in b without checking the rest.
func RecordKind(b []byte) (Kind, error) {
	if len(b) < 2 {
		return 0, fmt.Errorf("%w: %d bytes", ErrMalformed, len(b))
	}
	if b[0] != Format && b[0] != format1 {
		return 0, fmt.Errorf("%w: format %d, this version reads up to %d", ErrMalformed, b[0], Format)
	}
	return Kind(b[1]), nil
}
