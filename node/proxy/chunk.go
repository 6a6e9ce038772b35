package proxy

import (
	"crypto/sha256"
	"slices"

	"github.com/cespare/xxhash/v2"

	"github.com/edgenode/edgenode/tiers"
	"github.com/edgenode/edgenode/tiers/item"
)

// Big answers, and parts of answers, are stored in segments: the record under
// the answer's key has metaParted and holds a manifest instead of the body, and
// each segment is an item of its own. A segment is only reachable through the
// manifest that names its generation: what covers the manifest, a purge or an
// expiry, covers what it names. Segments carry the answer's tags all the same,
// so that a purge frees their room.

// Kinds of stored records that belong to an answer in parts.
const (
	kindManifest = 5
	kindSegment  = 6
)

const (
	manifestHead = 32
	segmentHead  = 24
	maxRuns      = 64
)

// A run is the bytes of an object from first to before end. It is stored in
// segments, which end at multiples of the chunk size: a run may lose its end and
// hold, but not its beginning.
type run struct{ first, end int64 }

// A manifest says what is stored of an object. That a segment is named does not
// mean that it is still there.
type manifest struct {
	size  int64        // of the whole; -1 unknown
	chunk int64        // segments end at its multiples
	gen   item.Version // part of the keys of the segments
	runs  []run        // ascending, disjoint
}

// append appends the stored form; see the package comment for its layout.
func (m *manifest) append(dst []byte) []byte {
	dst = append(dst, Format, kindManifest, 0, 0)
	dst = le.AppendUint32(dst, uint32(len(m.runs)))
	for _, v := range [...]int64{m.size, m.chunk, int64(m.gen)} {
		dst = le.AppendUint64(dst, uint64(v))
	}
	for _, r := range m.runs {
		dst = le.AppendUint64(le.AppendUint64(dst, uint64(r.first)), uint64(r.end))
	}
	return dst
}

// parseManifest checks that b is a manifest of a known form and decodes it.
func parseManifest(b []byte) (m manifest, ok bool) {
	if len(b) < manifestHead || b[0] != Format || b[1] != kindManifest {
		return m, false
	}
	n := int(le.Uint32(b[4:]))
	i64 := func(at int) int64 { return int64(le.Uint64(b[at:])) }
	m = manifest{size: i64(8), chunk: i64(16), gen: item.Version(i64(24))}
	if n > maxRuns || len(b) != manifestHead+16*n || m.chunk <= 0 || m.size < -1 {
		return m, false
	}
	last := int64(0)
	for i := range n {
		r := run{i64(manifestHead + 16*i), i64(manifestHead + 16*i + 8)}
		if r.first < last || r.end <= r.first || m.size >= 0 && r.end > m.size {
			return m, false
		}
		m.runs, last = append(m.runs, r), r.end
	}
	return m, true
}

// segment returns where the segment that holds pos begins and ends.
func (m *manifest) segment(pos int64) (first, end int64, ok bool) {
	for _, r := range m.runs {
		if r.first <= pos && pos < r.end {
			first = max(r.first, pos-pos%m.chunk)
			return first, min(r.end, first-first%m.chunk+m.chunk), true
		}
	}
	return 0, 0, false
}

// reach returns up to where everything from pos on is named; pos if nothing is.
func (m *manifest) reach(pos int64) int64 {
	for _, r := range m.runs {
		if r.first <= pos && pos < r.end {
			pos = r.end
		}
	}
	return pos
}

// complete reports whether every byte is named.
func (m *manifest) complete() bool { return m.size >= 0 && m.reach(0) == m.size }

// holds reports whether every byte of s is named.
func (m *manifest) holds(s span) bool { return m.reach(s.first) > s.last }

// gaps returns what of a known size is not named.
func (m *manifest) gaps() (gaps []run) {
	at := int64(0)
	for _, r := range m.runs {
		if r.first > at {
			gaps = append(gaps, run{at, r.first})
		}
		at = r.end
	}
	if at < m.size {
		gaps = append(gaps, run{at, m.size})
	}
	return gaps
}

// add names a run that has been stored. What it shares with another is named
// once, and at most maxRuns are.
func (m *manifest) add(n run) {
	var out []run
	for _, r := range m.runs {
		switch {
		case r.first <= n.first && n.end <= r.end:
			return // it was all there
		case r.end <= n.first || n.end <= r.first:
		case n.first <= r.first && r.end <= n.end:
			continue
		case r.first < n.first:
			r.end = n.first
		default:
			n.end = r.first
		}
		out = append(out, r)
	}
	if n.end <= n.first {
		return
	}
	at, _ := slices.BinarySearchFunc(out, n, func(a, b run) int { return cmpInt(a.first, b.first) })
	out = slices.Insert(out, at, n)
	joined := out[:1]
	for _, r := range out[1:] {
		if last := &joined[len(joined)-1]; last.end == r.first && r.first%m.chunk == 0 {
			last.end = r.end
			continue
		}
		joined = append(joined, r)
	}
	if len(joined) <= maxRuns {
		m.runs = joined
	}
}

func cmpInt(a, b int64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

func (m *manifest) clone() manifest {
	out := *m
	out.runs = slices.Clone(m.runs)
	return out
}

// segmentKey appends the key of the segment that begins at first, of the object
// whose record lies under main: the first half of the SHA-256 of main after its
// namespace, generation, first; both big endian.
func segmentKey(dst []byte, main item.Key, gen item.Version, first int64) item.Key {
	sum := sha256.Sum256(main.Own())
	dst = append(append(dst, item.NamespaceChunk), sum[:hashLen]...)
	for _, v := range [...]uint64{uint64(gen), uint64(first)} {
		dst = append(dst, byte(v>>56), byte(v>>48), byte(v>>40), byte(v>>32), byte(v>>24), byte(v>>16), byte(v>>8), byte(v))
	}
	return dst
}

// appendSegmentMeta appends the response metadata of a segment.
func appendSegmentMeta(dst []byte, site string, gen item.Version, first int64) []byte {
	dst = append(dst, Format, kindSegment, 0, 0)
	dst = le.AppendUint32(dst, SiteMark(site))
	return le.AppendUint64(le.AppendUint64(dst, uint64(gen)), uint64(first))
}

// SiteMark returns what names a site in the metadata of a segment: the low half of
// a hash of its name, never 0.
func SiteMark(site string) uint32 { return max(1, uint32(xxhash.Sum64String(site))) }

// SegmentMark returns the mark of the site of a segment, 0 if v is none or does not
// tell.
func SegmentMark(v item.View) uint32 {
	b := v.Response()
	if len(b) != segmentHead || b[0] != Format || b[1] != kindSegment {
		return 0
	}
	return le.Uint32(b[4:])
}

// isSegment reports whether a hit is the segment asked for.
func isSegment(h *tiers.Hit, gen item.Version, first int64) bool {
	b := h.View.Response()
	return len(b) == segmentHead && b[0] == Format && b[1] == kindSegment &&
		item.Version(le.Uint64(b[8:])) == gen && int64(le.Uint64(b[16:])) == first
}

// manifestOf returns the manifest of a stored answer in parts; ok is false for
// a whole one.
func manifestOf(m meta, content []byte) (manifest, bool) {
	if m.flags()&metaParted == 0 {
		return manifest{}, false
	}
	return parseManifest(content)
}

// sizeOf returns the length of the content of a stored answer; -1 if that is
// not known.
func sizeOf(m meta, content []byte) int64 {
	if man, ok := manifestOf(m, content); ok {
		return man.size
	}
	return int64(len(content))
}
