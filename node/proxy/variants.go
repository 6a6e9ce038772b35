package proxy

import (
	"bytes"
	"crypto/sha256"
	"net/http"
	"slices"
	"sort"
	"strconv"
	"strings"
)

// A variants index lies under the base key when the answers of a URL have Vary.
// It lists the sets of nominated fields ("specs") and the variants: which spec,
// and the hash of the values that the request had. Each variant is stored under
// the base key, keyVariant and its hash.
type index struct {
	expires int64 // Unix ms, the latest of the variants
	specs   []string
	entries []entry
}

type entry struct {
	hash    [hashLen]byte
	lang    [hashLen]byte // as hash, by the answer's Content-Language; zero if it has none
	spec    int
	stored  int64 // Unix ms
	expires int64 // Unix ms
}

const (
	hashLen     = 16
	indexHead   = 16
	entryLen    = 56
	maxVariants = 10_000

	entrySpec   = 2 * hashLen // where parts of an entry begin
	entryStored = entrySpec + 8
)

// appendIndex appends the stored form of x.
func appendIndex(dst []byte, x *index) []byte {
	dst = append(dst, Format, kindIndex)
	dst = le.AppendUint16(dst, uint16(len(x.specs)))
	dst = le.AppendUint32(dst, uint32(len(x.entries)))
	dst = le.AppendUint64(dst, uint64(x.expires))
	for _, spec := range x.specs {
		dst = le.AppendUint16(dst, uint16(len(spec)))
		dst = append(dst, spec...)
	}
	for i := range x.entries {
		e := &x.entries[i]
		dst = append(dst, e.hash[:]...)
		dst = append(dst, e.lang[:]...)
		dst = le.AppendUint64(dst, uint64(e.spec))
		dst = le.AppendUint64(dst, uint64(e.stored))
		dst = le.AppendUint64(dst, uint64(e.expires))
	}
	return dst
}

// indexView reads an index without decoding it.
type indexView []byte

// parseIndex checks that b is an index of a known form.
func parseIndex(b []byte) (indexView, bool) {
	if len(b) < indexHead || b[0] != Format || b[1] != kindIndex {
		return nil, false
	}
	rest := b[indexHead:]
	specs := int(le.Uint16(b[2:]))
	for range specs {
		if len(rest) < 2 || len(rest)-2 < int(le.Uint16(rest)) {
			return nil, false
		}
		rest = rest[2+int(le.Uint16(rest)):]
	}
	if uint64(len(rest)) != uint64(le.Uint32(b[4:]))*entryLen {
		return nil, false
	}
	for ; len(rest) > 0; rest = rest[entryLen:] {
		if le.Uint64(rest[entrySpec:]) >= uint64(specs) {
			return nil, false
		}
	}
	return indexView(b), true
}

func (v indexView) count() int      { return int(le.Uint32(v[4:])) }
func (v indexView) entries() []byte { return v[len(v)-v.count()*entryLen:] }

// spec returns the nth spec; it shares memory with v.
func (v indexView) spec(n int) string {
	rest := v[indexHead:]
	for ; n > 0; n-- {
		rest = rest[2+int(le.Uint16(rest)):]
	}
	return text(rest[2 : 2+int(le.Uint16(rest))])
}

func (v indexView) specs() int { return int(le.Uint16(v[2:])) }

func (v indexView) decode() *index {
	x := &index{expires: int64(le.Uint64(v[8:]))}
	for i := range v.specs() {
		x.specs = append(x.specs, strings.Clone(v.spec(i)))
	}
	for rest := v.entries(); len(rest) > 0; rest = rest[entryLen:] {
		x.entries = append(x.entries, entry{
			hash: [hashLen]byte(rest[:hashLen]), lang: [hashLen]byte(rest[hashLen:]), spec: int(le.Uint64(rest[entrySpec:])),
			stored: int64(le.Uint64(rest[entryStored:])), expires: int64(le.Uint64(rest[entryStored+8:])),
		})
	}
	return x
}

// find returns when the variant of spec number n with this hash was stored.
func (v indexView) find(n int, hash []byte) (stored int64, ok bool) {
	for rest := v.entries(); len(rest) > 0; rest = rest[entryLen:] {
		if int(le.Uint64(rest[entrySpec:])) == n && bytes.Equal(rest[:hashLen], hash) {
			return int64(le.Uint64(rest[entryStored:])), true
		}
	}
	return 0, false
}

// findLang returns the newest variant of spec number n whose language hash is
// lang.
func (v indexView) findLang(n int, lang []byte) (hash []byte, stored int64) {
	stored = -1
	for rest := v.entries(); len(rest) > 0; rest = rest[entryLen:] {
		if int(le.Uint64(rest[entrySpec:])) != n || !bytes.Equal(rest[hashLen:entrySpec], lang) {
			continue
		}
		if at := int64(le.Uint64(rest[entryStored:])); at > stored {
			hash, stored = rest[:hashLen], at
		}
	}
	return hash, stored
}

// add puts a variant in, in place of an older one of the same hash. When there
// are more than limit, the least recently used leaves; used tells when that was.
func (x *index) add(spec string, e entry, limit int, now int64, used func(hash [hashLen]byte) uint64) {
	x.entries = slices.DeleteFunc(x.entries, func(old entry) bool { return old.hash == e.hash || old.expires <= now })
	for len(x.entries) >= limit {
		least := 0
		for i := range x.entries {
			a, b := &x.entries[i], &x.entries[least]
			ua, ub := used(a.hash), used(b.hash)
			if ua < ub || ua == ub && a.stored < b.stored {
				least = i
			}
		}
		x.entries = slices.Delete(x.entries, least, least+1)
	}
	if e.spec = slices.Index(x.specs, spec); e.spec < 0 {
		e.spec = len(x.specs)
		x.specs = append(x.specs, spec)
	}
	x.entries = append(x.entries, e)
	x.dropSpecs()
	x.expires = 0
	for i := range x.entries {
		x.expires = max(x.expires, x.entries[i].expires)
	}
}

// dropSpecs removes specs that no entry uses.
func (x *index) dropSpecs() {
	var kept []string
	place := make([]int, len(x.specs))
	for i, spec := range x.specs {
		place[i] = len(kept)
		if slices.ContainsFunc(x.entries, func(e entry) bool { return e.spec == i }) {
			kept = append(kept, spec)
		}
	}
	for i := range x.entries {
		x.entries[i].spec = place[x.entries[i].spec]
	}
	x.specs = kept
}

// varySpec returns the names that Vary nominates, lower case, sorted, once
// each, joined by commas. star reports a member "*", or one that is no name:
// nothing matches then (RFC 9111 §4.1).
func varySpec(lines []string) (spec string, star bool) {
	var names []string
	for _, line := range lines {
		for part := range strings.SplitSeq(line, ",") {
			part = strings.ToLower(strings.Trim(part, " \t"))
			if part == "" {
				continue
			}
			if part == "*" || tokenLen(part) != len(part) {
				return "", true
			}
			names = append(names, part)
		}
	}
	sort.Strings(names)
	spec = strings.Join(slices.Compact(names), ",")
	return spec, len(spec) > 1<<16-1
}

// A fieldSource gives the value of a request field as the origin sees it.
type fieldSource interface {
	// appendField appends the lines of a field, joined by ",", to dst. It
	// reports false if the request has none. name is lower case.
	appendField(dst []byte, name string) ([]byte, bool)
	// rawLanguages says that Accept-Language is compared as it is.
	rawLanguages() bool
	// variant is variantHash, maybe from memory.
	variant(spec string, scratch []byte) (hash [hashLen]byte, out []byte)
}

// variantHash returns the hash of the request's values for the names of spec.
// Absent and empty differ.
func variantHash(spec string, from fieldSource, scratch []byte) (hash [hashLen]byte, out []byte) {
	return languageHash(spec, "", from, scratch)
}

// languageHash is variantHash with one language, in lower case, in place of what
// the request says in Accept-Language. No request has that hash.
func languageHash(spec, lang string, from fieldSource, scratch []byte) (hash [hashLen]byte, out []byte) {
	start := len(scratch)
	scratch = append(scratch, spec...)
	for rest := spec; rest != ""; {
		var name string
		name, rest, _ = strings.Cut(rest, ",")
		at := len(scratch)
		scratch = append(scratch, 0, 0, 0, 0, 0)
		if lang != "" && name == acceptLanguage {
			scratch[at] = 2
			le.PutUint32(scratch[at+1:], uint32(len(lang)))
			scratch = append(scratch, lang...)
			continue
		}
		var ok bool
		if scratch, ok = from.appendField(scratch, name); !ok {
			continue
		}
		if name == acceptLanguage && from.rawLanguages() {
			name = ""
		}
		scratch = normaliseValue(scratch, at+5, name)
		scratch[at] = 1
		le.PutUint32(scratch[at+1:], uint32(len(scratch)-at-5))
	}
	sum := sha256.Sum256(scratch[start:])
	return [hashLen]byte(sum[:hashLen]), scratch[:start]
}

// normaliseValue rewrites the value at b[at:] so that values of one meaning are
// equal (RFC 9111 §4.1): no spaces around commas and none repeated outside
// quotes, no empty members, languages by meaning.
func normaliseValue(b []byte, at int, name string) []byte {
	switch name {
	case acceptLanguage:
		return append(b[:at], languages(string(b[at:]))...)
	case "cookie", "authorization": // no lists: every byte may be part of a secret
		return b
	}
	w, quoted := at, false
	for r := at; r < len(b); r++ {
		c := b[r]
		if c == '"' {
			quoted = !quoted
		}
		if !quoted {
			if c == '\t' {
				c = ' '
			}
			if c == ' ' && (w == at || b[w-1] == ',' || b[w-1] == ' ') || c == ',' && (w == at || b[w-1] == ',') {
				continue
			}
			if c == ',' && b[w-1] == ' ' {
				w--
			}
		}
		b[w] = c
		w++
	}
	for w > at && (b[w-1] == ',' || b[w-1] == ' ') {
		w--
	}
	return b[:w]
}

const acceptLanguage = "accept-language"

// A lang is a member of Accept-Language.
type lang struct {
	tag    string // lower case
	weight int    // in thousandths
}

// languageList reads an Accept-Language list, by falling weight.
func languageList(list string) []lang {
	var all []lang
	for part := range strings.SplitSeq(list, ",") {
		tag, params, _ := strings.Cut(part, ";")
		if tag = strings.ToLower(strings.Trim(tag, " \t")); tag != "" {
			all = append(all, lang{tag, qvalue(params)})
		}
	}
	sort.SliceStable(all, func(i, j int) bool {
		return all[i].weight > all[j].weight || all[i].weight == all[j].weight && all[i].tag < all[j].tag
	})
	return all
}

// best returns those members of a list that have its highest weight, but "*".
func best(all []lang) []lang {
	n := 0
	for n < len(all) && all[n].weight == all[0].weight && all[n].weight > 0 {
		n++
	}
	return slices.DeleteFunc(all[:n], func(l lang) bool { return l.tag == "*" })
}

// contentLanguage returns the one language of an answer in lower case, "" if it
// has none or several.
func contentLanguage(h http.Header) string {
	lines := h["Content-Language"]
	if len(lines) != 1 || strings.ContainsAny(lines[0], ", \t") {
		return ""
	}
	return strings.ToLower(lines[0])
}

// nominates reports whether a spec has a name.
func nominates(spec, name string) bool {
	at := strings.Index(spec, name)
	return at >= 0 && (at == 0 || spec[at-1] == ',') && (len(spec) == at+len(name) || spec[at+len(name)] == ',')
}

// languages returns an Accept-Language list by meaning: lower case, by falling
// weight, weights written one way.
func languages(list string) string {
	var b strings.Builder
	for i, l := range languageList(list) {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(l.tag + ";" + strconv.Itoa(l.weight))
	}
	return b.String()
}

// qvalue returns the weight in parameters like " q=0.5", in thousandths; 1000
// if there is none that can be read.
func qvalue(params string) int {
	for rest := params; rest != ""; {
		var part string
		part, rest, _ = strings.Cut(rest, ";")
		name, value, ok := strings.Cut(strings.Trim(part, " \t"), "=")
		if !ok || !strings.EqualFold(strings.Trim(name, " \t"), "q") {
			continue
		}
		if f, err := strconv.ParseFloat(strings.Trim(value, " \t"), 64); err == nil && f >= 0 && f <= 1 {
			return int(f*1000 + 0.5)
		}
	}
	return 1000
}

// offered are the codings that are told apart, in the order of our preference,
// and identity.
var offered = [...]string{"zstd", "br", "gzip", "identity"}

// codings reduces an Accept-Encoding value to what of zstd, br and gzip it
// accepts, in that order, and keeps a refusal of identity (RFC 9110 §12.5.3).
// If nothing of that is left, it is "identity".
func codings(dst []byte, value string) []byte {
	weight, star := [len(offered)]int{-1, -1, -1, -1}, -1
	for rest := value; rest != ""; {
		var part string
		part, rest, _ = strings.Cut(rest, ",")
		name, params, _ := strings.Cut(part, ";")
		name = strings.Trim(name, " \t")
		if name == "*" {
			star = qvalue(params)
		}
		for i, known := range offered {
			if strings.EqualFold(name, known) || known == "gzip" && strings.EqualFold(name, "x-gzip") {
				weight[i] = qvalue(params)
			}
		}
	}
	start := len(dst)
	for i, name := range offered {
		w := weight[i]
		if w < 0 {
			w = star
		}
		if name == "identity" {
			if w != 0 {
				continue
			}
			name = "identity;q=0"
		} else if w <= 0 {
			continue
		}
		if len(dst) > start {
			dst = append(dst, ", "...)
		}
		dst = append(dst, name...)
	}
	if len(dst) == start {
		return append(dst, "identity"...)
	}
	return dst
}

// appendLines appends the lines of h under a canonical name, joined by commas.
func appendLines(dst []byte, h http.Header, name string) ([]byte, bool) {
	lines := h[name]
	for i, line := range lines {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, line...)
	}
	return dst, len(lines) > 0
}
