package item

import (
	"fmt"
)

// format1 is the form that the first versions wrote; the package comment draws it.
const (
	format1           = 1
	format1Head       = 152
	format1ContentLen = 148
)

// A view1 is a record of format 1.
type view1 []byte

func (v view1) u16(off int) int   { return int(le.Uint16(v[off:])) }
func (v view1) u32(off int) int   { return int(le.Uint32(v[off:])) }
func (v view1) i64(off int) int64 { return int64(le.Uint64(v[off:])) }

// headLen1 is HeadLen of a record of format 1.
func headLen1(b []byte) int {
	if len(b) < format1Head {
		return 0
	}
	v := view1(b)
	n := format1Head + int(v[5])
	for off := 128; off < 140; off += 2 {
		n += v.u16(off)
	}
	return n + v.u32(140) + v.u32(144)
}

// upgrade1 returns the item of a record of format 1 in the newest format.
func upgrade1(b []byte) (View, error) {
	if len(b) < format1Head {
		return nil, fmt.Errorf("%w: %d bytes, the head alone has %d", ErrMalformed, len(b), format1Head)
	}
	v := view1(b)
	if got, want := uint64(len(b)), uint64(headLen1(b))+uint64(v.u32(format1ContentLen)); got != want {
		return nil, fmt.Errorf("%w: %d bytes, its lengths add up to %d", ErrMalformed, got, want)
	}
	it, err := v.item()
	if err != nil {
		return nil, err
	}
	if err := it.Check(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return it.AppendTo(make([]byte, 0, it.EncodedLen())), nil
}

// item decodes v, whose length is right. All of the result shares memory with v,
// but the list of tags.
func (v view1) item() (Item, error) {
	it := Item{
		Kind: Kind(v[1]), Tiers: Tiers(v[2]), Flags: Flags(v[3]), Durability: Durability(v[4]),
		Version: Version(v.i64(8)), ContentVersion: Version(v.i64(16)), MetadataVersion: Version(v.i64(24)),
		UpdatedAt: v.i64(32), ExpiresAt: v.i64(40), L1TTL: v.i64(48), L2TTL: v.i64(56),
		ContentHash: [32]byte(v[64:]), ETag: ETag(v[96:]), AccessCount: uint64(v.i64(112)), LastAccessed: v.i64(120),
	}
	rest := v[format1Head:]
	cut := func(n int) []byte {
		part := rest[:n]
		rest = rest[n:]
		return part
	}
	it.Key, it.State, it.MIME = Key(cut(v.u16(128))), text(cut(int(v[5]))), text(cut(v.u16(130)))
	it.BatchID, it.TraceParent, it.TraceState = text(cut(v.u16(132))), text(cut(v.u16(134))), text(cut(v.u16(136)))
	it.HomeInstance = text(cut(v.u16(138)))
	tags := cut(v.u32(144))
	it.Response, it.Content = cut(v.u32(140)), rest
	for range v.u16(6) {
		if len(tags) < 2 || len(tags)-2 < int(le.Uint16(tags)) {
			return it, fmt.Errorf("%w: tags do not fit their length", ErrMalformed)
		}
		n := 2 + int(le.Uint16(tags))
		it.Tags = append(it.Tags, text(tags[2:n]))
		tags = tags[n:]
	}
	if len(tags) != 0 {
		return it, fmt.Errorf("%w: %d bytes after the last tag", ErrMalformed, len(tags))
	}
	return it, nil
}
