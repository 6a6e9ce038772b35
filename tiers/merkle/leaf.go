package merkle

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"slices"

	"github.com/edgenode/edgenode/tiers/item"
)

// A Hash is a SHA-256.
type Hash [sha256.Size]byte

// String returns the 64 hex digits.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// First bytes of what is hashed: so no leaf is an inner node, nor metadata.
const (
	domainLeaf  = 0x00
	domainInner = 0x01
	domainMeta  = 0x02

	innerList = 0x00
	innerFan  = 0x01
)

var be = binary.BigEndian

// LeafOf returns the leaf of a live item: what two nodes must agree on. Access
// figures, tracing, the home instance and lifetimes of copies are not in it.
func LeafOf(v item.View) Hash {
	own := v.Key().Own()
	content, meta := v.ContentHash(), metaHash(v)
	b := make([]byte, 0, 1+4+len(own)+8+2*sha256.Size)
	b = append(b, domainLeaf)
	b = appendPart(b, own)
	b = be.AppendUint64(b, uint64(v.Version()))
	b = append(b, content[:]...)
	b = append(b, meta[:]...)
	return sha256.Sum256(b)
}

// metaHash is the hash of state, tags in order, MIME, expiry and response
// metadata.
func metaHash(v item.View) Hash {
	tags := make([]string, 0, v.TagCount())
	for t := range v.Tags {
		tags = append(tags, t)
	}
	slices.Sort(tags)
	b := appendPart([]byte{domainMeta}, v.State())
	b = be.AppendUint32(b, uint32(len(tags)))
	for _, t := range tags {
		b = appendPart(b, t)
	}
	b = appendPart(b, v.MIME())
	b = be.AppendUint64(b, uint64(v.ExpiresAt()))
	b = appendPart(b, v.Response())
	return sha256.Sum256(b)
}

// appendPart appends the length of part and part.
func appendPart[S ~string | ~[]byte](b []byte, part S) []byte {
	return append(be.AppendUint32(b, uint32(len(part))), part...)
}
