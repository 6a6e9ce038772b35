package proxy

import (
	"bytes"
	"crypto/sha256"
	"strings"
)

// keyed reports whether keys of the site have parts of the request besides its
// URL.
func (s *Site) keyed() bool { return len(s.KeyFields)+len(s.KeyCookies) > 0 }

// partsLen is the length of what addParts adds to a key.
const partsLen = 16

// addParts adds to the key what the site names of the request: the hash of the
// values of KeyFields and KeyCookies, absent and empty told apart.
func (st *state) addParts() {
	if !st.site.keyed() {
		return
	}
	var b []byte
	part := func(value []byte, present bool) {
		mark := byte(0)
		if present {
			mark = 1
		}
		b = append(le.AppendUint32(append(b, mark), uint32(len(value))), value...)
	}
	for _, name := range st.site.KeyFields {
		lower := strings.ToLower(name)
		value, ok := st.appendField(nil, lower)
		part(normaliseValue(value, 0, lower), ok)
	}
	for _, name := range st.site.KeyCookies {
		part(st.cookie(name))
	}
	sum := sha256.Sum256(b)
	st.out.Key = append(st.out.Key[:len(st.out.Key):len(st.out.Key)], sum[:partsLen]...)
}

// cookie returns the value of the first cookie of a name (RFC 6265 §4.2), as it
// stands there.
func (st *state) cookie(name string) (value []byte, ok bool) {
	st.x.Fields(func(field, line []byte) bool {
		if !equalFold(field, "cookie") {
			return true
		}
		for pair := range bytes.SplitSeq(line, []byte(";")) {
			n, v, found := bytes.Cut(bytes.Trim(pair, " \t"), []byte("="))
			if found && string(n) == name {
				value, ok = bytes.Clone(v), true
				return false
			}
		}
		return true
	})
	return value, ok
}

// allowed is the value of Allow (RFC 9110 §10.2.1).
func (s *site) allowed() string {
	if s == nil || len(s.Methods) == 0 {
		return "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
	}
	return strings.Join(s.Methods, ", ")
}
