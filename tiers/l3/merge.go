package l3

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"slices"

	"github.com/edgenode/edgenode/tiers/item"
)

// A row is three registers, each of which the newest write wins on its own:
//
//	content   kind, content version, hash, entity tag, MIME, JSON flag, bytes
//	metadata  metadata version, state, tags, expiry, lifetimes of copies,
//	          response metadata, the stale flag
//	stamp     time, tiers, durability, batch, trace, home instance, access
//	          figures: of the write with the greatest version of all
//
// So any order of the same writes ends in the same row, provided that metadata
// changes find a live row: a metadata change needs the item.

// parts is a set of registers.
type parts byte

const (
	partContent parts = 1 << iota
	partMetadata
	partStamp

	allParts = partContent | partMetadata | partStamp
)

// merge returns the head of a row after op, and which registers op won. cur is
// the head before, nil if there is neither a row nor a tombstone. The result
// shares memory with cur or op, or with neither. It costs some ten ns unless op
// wins a part only; then the heads are decoded and joined.
func merge(cur, op item.View) (item.View, parts) {
	won := contest(cur, op)
	return take(cur, op, won), won
}

// take returns the head that has the registers won from op, the rest from cur.
func take(cur, op item.View, won parts) item.View {
	switch won {
	case 0:
		return cur
	case allParts:
		return op
	}
	return join(cur, op, won)
}

// contest returns the registers of cur that op is to replace.
func contest(cur, op item.View) parts {
	if op.Kind() == item.KindMetadata && (cur == nil || cur.Kind() == item.KindTombstone) {
		return 0
	}
	if cur == nil {
		return allParts
	}
	var won parts
	if op.Kind() != item.KindMetadata && compareContent(op, cur) > 0 {
		won |= partContent
	}
	if compareMetadata(op, cur) > 0 {
		won |= partMetadata
	}
	if compareStamp(op, cur) > 0 {
		won |= partStamp
	}
	return won
}

// compareContent orders two contents by version, hash, entity tag (which covers
// the MIME type) and, last, deletion over existence.
func compareContent(a, b item.View) int {
	if c := cmp.Compare(a.ContentVersion(), b.ContentVersion()); c != 0 {
		return c
	}
	ha, hb := a.ContentHash(), b.ContentHash()
	ea, eb := a.ETag(), b.ETag()
	return cmp.Or(bytes.Compare(ha[:], hb[:]), bytes.Compare(ea[:], eb[:]), cmp.Compare(deadRank(a), deadRank(b)))
}

func deadRank(v item.View) int {
	if v.Kind() == item.KindTombstone {
		return 1
	}
	return 0
}

// compareMetadata orders two sets of metadata by version. Among equal versions
// the metadata of the greater content goes with it, so that two puts of one
// version are never mixed; then the bytes decide.
func compareMetadata(a, b item.View) int {
	if c := cmp.Compare(metadataVersion(a), metadataVersion(b)); c != 0 {
		return c
	}
	if c := compareTied(a, b, metadataVersion(a)); c != 0 {
		return c
	}
	return bytes.Compare(metadataBytes(a), metadataBytes(b))
}

func compareStamp(a, b item.View) int {
	if c := cmp.Compare(a.Version(), b.Version()); c != 0 {
		return c
	}
	if c := compareTied(a, b, a.Version()); c != 0 {
		return c
	}
	return bytes.Compare(stampBytes(a), stampBytes(b))
}

// compareTied compares what a and b put at version: content hashes, where a
// record whose content is of another version counts as none.
func compareTied(a, b item.View, version item.Version) int {
	ha, hb := hashAt(a, version), hashAt(b, version)
	return bytes.Compare(ha[:], hb[:])
}

func hashAt(v item.View, version item.Version) [32]byte {
	if v.Kind() == item.KindMetadata || v.ContentVersion() != version {
		return [32]byte{}
	}
	return v.ContentHash()
}

// metadataVersion is that of the record; a put that names none set its own.
func metadataVersion(v item.View) item.Version {
	if v.Kind() != item.KindMetadata && v.MetadataVersion() == 0 {
		return v.ContentVersion()
	}
	return v.MetadataVersion()
}

const metadataFlags = item.FlagStale

// metadataBytes encodes the metadata register; equal bytes, equal metadata.
func metadataBytes(v item.View) []byte {
	b := binary.BigEndian.AppendUint64(nil, uint64(v.ExpiresAt()))
	b = binary.BigEndian.AppendUint64(b, uint64(v.L1TTL()))
	b = binary.BigEndian.AppendUint64(b, uint64(v.L2TTL()))
	b = append(b, byte(v.Flags()&metadataFlags))
	b = appendPart(b, v.State())
	for t := range v.Tags {
		b = appendPart(append(b, 1), t)
	}
	return append(append(b, 0), v.Response()...)
}

func stampBytes(v item.View) []byte {
	b := binary.BigEndian.AppendUint64(nil, uint64(v.UpdatedAt()))
	b = append(b, byte(v.Tiers()), byte(v.Durability()))
	b = appendPart(appendPart(b, v.BatchID()), v.TraceParent())
	b = appendPart(appendPart(b, v.TraceState()), v.HomeInstance())
	b = binary.BigEndian.AppendUint64(b, v.AccessCount())
	return binary.BigEndian.AppendUint64(b, uint64(v.LastAccessed()))
}

func appendPart(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint32(b, uint32(len(s))), s...)
}

// join is take for a part of the registers. It decodes both.
func join(cur, op item.View, won parts) item.View {
	it, from := cur.Item(), op.Item()
	flags := it.Flags
	if won&partContent != 0 {
		it.Kind, it.ContentVersion, it.ContentHash = from.Kind, from.ContentVersion, from.ContentHash
		it.ETag, it.MIME = from.ETag, from.MIME
		flags = flags&metadataFlags | from.Flags&^metadataFlags
	}
	if won&partMetadata != 0 {
		it.MetadataVersion, it.State, it.Tags = metadataVersion(op), from.State, from.Tags
		it.ExpiresAt, it.L1TTL, it.L2TTL, it.Response = from.ExpiresAt, from.L1TTL, from.L2TTL, from.Response
		flags = flags&^metadataFlags | from.Flags&metadataFlags
	}
	if won&partStamp != 0 {
		it.UpdatedAt, it.Tiers, it.Durability = from.UpdatedAt, from.Tiers, from.Durability
		it.BatchID, it.HomeInstance = from.BatchID, from.HomeInstance
		it.TraceParent, it.TraceState = from.TraceParent, from.TraceState
		it.AccessCount, it.LastAccessed = from.AccessCount, from.LastAccessed
	}
	it.Flags, it.Content = flags, nil
	it.Version = max(it.ContentVersion, it.MetadataVersion)
	return it.AppendTo(make([]byte, 0, it.EncodedLen()))
}

// holds reports whether the row with this head has what op wrote.
func holds(head, op item.View) bool {
	if head == nil {
		return false
	}
	if op.Kind() == item.KindMetadata {
		return head.Kind() == item.KindPut && compareMetadata(head, op) == 0
	}
	return compareContent(head, op) == 0
}

// tombstoneOf returns the tombstone that a rule makes of the item of head.
func tombstoneOf(head item.View, rule *item.Rule) item.View {
	it := item.Item{
		Kind: item.KindTombstone, Tiers: item.AllTiers, Key: head.Key(),
		Version: rule.Version, ContentVersion: rule.Version, MetadataVersion: rule.Version,
		UpdatedAt: rule.CreatedAt,
	}
	return it.AppendTo(make([]byte, 0, it.EncodedLen()))
}

// tagsOf returns the sorted, distinct tags of head, nil for none. They share
// memory with head.
func tagsOf(head item.View) []string {
	if head == nil || head.Kind() == item.KindTombstone || head.TagCount() == 0 {
		return nil
	}
	tags := make([]string, 0, head.TagCount())
	for t := range head.Tags {
		tags = append(tags, t)
	}
	slices.Sort(tags)
	return slices.Compact(tags)
}
