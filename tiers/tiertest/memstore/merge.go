package memstore

import (
	"bytes"
	"cmp"

	"github.com/edgenode/edgenode/tiers/item"
)

// A row is three registers, and the newest write of each wins:
//
//	content   version, hash, entity tag; a delete beats a put of the same
//	metadata  version, then the content that was put at that version
//	stamp     the same, by the greater of both versions
//
// Two changes of one version with the same content do not occur here.

// merge returns what cur becomes by op, and whether op changed its content, its
// metadata, or its stamp. A metadata change needs a live item.
func merge(cur *item.Item, op item.Item) (next item.Item, content, metadata, stamp bool) {
	metadataOnly := op.Kind == item.KindMetadata
	if cur == nil || cur.Kind == item.KindTombstone {
		if metadataOnly {
			if cur == nil {
				return item.Item{}, false, false, false
			}
			return *cur, false, false, false
		}
	}
	if cur == nil {
		return op, true, true, true
	}
	next = *cur
	if !metadataOnly && newerContent(&op, cur) {
		content = true
		next.Kind, next.ContentVersion, next.ContentHash = op.Kind, op.ContentVersion, op.ContentHash
		next.ETag, next.MIME, next.Content = op.ETag, op.MIME, op.Content
		next.Flags = next.Flags&item.FlagStale | op.Flags&^item.FlagStale
	}
	if newerAt(&op, cur, metadataVersion(&op), metadataVersion(cur)) {
		metadata = true
		next.MetadataVersion, next.State, next.Tags, next.ExpiresAt = metadataVersion(&op), op.State, op.Tags, op.ExpiresAt
		next.L1TTL, next.L2TTL, next.Response = op.L1TTL, op.L2TTL, op.Response
		next.Flags = next.Flags&^item.FlagStale | op.Flags&item.FlagStale
	}
	if newerAt(&op, cur, op.Version, cur.Version) {
		stamp = true
		next.UpdatedAt, next.Tiers, next.Durability = op.UpdatedAt, op.Tiers, op.Durability
		next.BatchID, next.TraceParent, next.TraceState = op.BatchID, op.TraceParent, op.TraceState
		next.HomeInstance, next.AccessCount, next.LastAccessed = op.HomeInstance, op.AccessCount, op.LastAccessed
	}
	next.Version = max(next.ContentVersion, next.MetadataVersion)
	return next, content, metadata, stamp
}

// newerContent reports whether the content of a is above that of b.
func newerContent(a, b *item.Item) bool { return compareContent(a, b) > 0 }

func compareContent(a, b *item.Item) int {
	dead := func(it *item.Item) int {
		if it.Kind == item.KindTombstone {
			return 1
		}
		return 0
	}
	return cmp.Or(cmp.Compare(a.ContentVersion, b.ContentVersion), bytes.Compare(a.ContentHash[:], b.ContentHash[:]),
		bytes.Compare(a.ETag[:], b.ETag[:]), cmp.Compare(dead(a), dead(b)))
}

// newerAt compares two versions and, where they are equal, what was put at them.
func newerAt(a, b *item.Item, va, vb item.Version) bool {
	putAt := func(it *item.Item, v item.Version) (hash [32]byte) {
		if it.Kind != item.KindMetadata && it.ContentVersion == v {
			hash = it.ContentHash
		}
		return hash
	}
	if va != vb {
		return va > vb
	}
	ha, hb := putAt(a, va), putAt(b, vb)
	return bytes.Compare(ha[:], hb[:]) > 0
}

func metadataVersion(it *item.Item) item.Version {
	if it.Kind != item.KindMetadata && it.MetadataVersion == 0 {
		return it.ContentVersion
	}
	return it.MetadataVersion
}
