package proxy

import (
	"context"

	"github.com/edgenode/edgenode/tiers"
	"github.com/edgenode/edgenode/tiers/item"
)

// A seeker finds what is stored for a request. Its buffers are reused.
type seeker struct {
	key     []byte // of the base object
	variant []byte // of the variant, if there is one
	scratch []byte
	note    []byte // see state.noteOf
	class   []byte // hashes of the request for every spec of the index, or for that of the sole variant
}

// found is what is stored. If ok, hit is to be released.
type found struct {
	ok       bool
	hit      tiers.Hit
	meta     meta
	reason   string // fwdURIMiss or fwdVary, if not ok
	indexed  bool   // the base key holds a variants index
	failed   bool   // the store could not be asked
	partial  bool   // what is stored of an object in parts is not enough
	whole    bool   // if partial: it is small and better asked for whole
	reserved int64  // bytes of Proxy.fillBytes, see hold
	hole     int64  // if partial: from here on it is gone; -1 if that is not known
}

// why is the reason for which the origin is asked.
func (f *found) why(st *state) string {
	switch {
	case st.refetch:
		return fwdRequest
	case f.ok:
		return fwdStale
	}
	return f.reason
}

// seek looks the request up. It allocates nothing for a hit in memory.
func (p *Proxy) seek(ctx context.Context, s *seeker, from fieldSource, o tiers.ReadOptions) (f found) {
	s.class = s.class[:0]
	var err error
	if f.hit, f.ok, err = p.o.Engine.Get(ctx, item.Key(s.key), o); err != nil || !f.ok {
		return found{reason: fwdURIMiss, failed: err != nil}
	}
	if f.meta, f.ok = p.metaOf(f.hit.View.Response()); f.ok {
		if f.meta.sole() && !s.suits(f.meta, from) {
			f.hit.Release()
			return found{reason: fwdVary}
		}
		return f
	}
	x, ok := parseIndex(f.hit.View.Response())
	if !ok {
		f.hit.Release()
		return found{reason: fwdURIMiss}
	}
	selected := p.choose(s, x, from)
	many := x.count() > maxQuietVariants
	f.hit.Release()
	if !selected {
		return found{reason: fwdVary, indexed: true}
	}
	f.indexed = true
	if f.hit, f.ok, err = p.o.Engine.Get(ctx, item.Key(s.variant), o); err != nil || !f.ok {
		return found{reason: fwdVary, indexed: true, failed: err != nil}
	}
	if f.meta, f.ok = p.metaOf(f.hit.View.Response()); !f.ok {
		f.hit.Release()
		return found{reason: fwdVary, indexed: true}
	}
	if many {
		p.recent.touch(s.variant[len(s.variant)-hashLen:])
	}
	return f
}

// maxQuietVariants is up to how many variants of a key their uses are not noted.
const maxQuietVariants = 8

// suits reports whether the request selects the sole variant of its URL.
func (s *seeker) suits(m meta, from fieldSource) bool {
	var want [hashLen]byte
	want, s.scratch = from.variant(m.vary(), s.scratch[:0])
	s.class = append(s.class, want[:]...)
	return string(want[:]) == string(m.soleHash())
}

// choose puts the key of the variant that the request selects into s.variant.
func (p *Proxy) choose(s *seeker, x indexView, from fieldSource) bool {
	newest, at := int64(-1), 0
	for n := range x.specs() {
		var want [hashLen]byte
		want, s.scratch = from.variant(x.spec(n), s.scratch[:0])
		start := len(s.class)
		s.class = append(s.class, want[:]...)
		if stored, ok := x.find(n, s.class[start:]); ok && stored >= newest {
			newest, at = stored, start
		}
	}
	if newest < 0 {
		return s.chooseLanguage(x, from)
	}
	s.variant = variantKey(s.variant[:0], s.key, s.class[at:at+hashLen])
	return true
}

// chooseLanguage selects among the answers to requests of other languages: one
// whose own language (Content-Language) is among those that this request wants
// most (RFC 9111 §4.1, RFC 9110 §12.5.4). It is the newest of them.
func (s *seeker) chooseLanguage(x indexView, from fieldSource) bool {
	if from.rawLanguages() {
		return false
	}
	newest := int64(-1)
	var chosen []byte
	for n := range x.specs() {
		spec := x.spec(n)
		if !nominates(spec, acceptLanguage) {
			continue
		}
		value, _ := from.appendField(nil, acceptLanguage)
		for _, l := range best(languageList(string(value))) {
			var want [hashLen]byte
			want, s.scratch = languageHash(spec, l.tag, from, s.scratch[:0])
			if hash, stored := x.findLang(n, want[:]); stored > newest {
				chosen, newest = hash, stored
			}
		}
	}
	if newest < 0 {
		return false
	}
	s.variant = variantKey(s.variant[:0], s.key, chosen)
	return true
}

func variantKey(dst, base, hash []byte) []byte {
	dst = append(append(dst, base...), keyVariant...)
	return append(dst, hash...)
}
