package proxy

import (
	"bytes"
	"strings"

	"github.com/edgenode/edgenode/node/edit"
)

// A request's Connection names fields that are not for the origin (RFC 9110
// §7.6.1). They are out of sight from the beginning: a key, a variant or a hook
// that went by a field that the origin does not see would let a client choose
// what others are given. And what hooks and the operator set afterwards goes to
// the origin whatever Connection names.

// isOption reports whether a member of Connection is no name of a field that
// could be end-to-end.
func isOption(member string) bool {
	switch len(member) {
	case 0:
		return true
	case 2:
		return strings.EqualFold(member, "te")
	case 5:
		return strings.EqualFold(member, "close")
	case 7:
		return strings.EqualFold(member, "upgrade")
	case 10:
		return strings.EqualFold(member, "keep-alive")
	}
	return false
}

// namesFields reports whether a line of Connection names more than options.
func namesFields(line []byte) bool {
	for part := range strings.SplitSeq(text(line), ",") {
		if !isOption(strings.Trim(part, " \t")) {
			return true
		}
	}
	return false
}

// hide takes the fields that Connection names out of the request. Of Connection
// itself only Upgrade is left.
func (st *state) hide() {
	named, upgrade := map[string]bool{}, false
	st.x.Fields(func(name, value []byte) bool {
		if equalFold(name, "connection") {
			for part := range strings.SplitSeq(string(value), ",") {
				part = strings.ToLower(strings.Trim(part, " \t"))
				upgrade = upgrade || part == "upgrade"
				named[part] = !isOption(part) && !mustStay(part)
			}
		}
		return true
	})
	x := &edited{Exchange: st.x, answer: edit.Answer{To: st.x}, fields: make([]edit.Field, 0, 16)}
	st.x.Fields(func(name, value []byte) bool {
		if lower := string(bytes.ToLower(name)); lower != "connection" && !named[lower] {
			x.fields = append(x.fields, edit.Field{Name: name, Value: value})
		}
		return true
	})
	if upgrade {
		x.fields = append(x.fields, edit.Field{Name: []byte("Connection"), Value: []byte("Upgrade")})
	}
	st.x = x
	st.rescan()
}

// mustStay reports fields, in lower case, that a message must not lose.
func mustStay(name string) bool {
	switch name {
	case "cache-control", "host", "content-length", "date", "vary", "set-cookie", "via", "cdn-loop":
		return true
	}
	return false
}

// rescan notes the fields again, after a change. Authorization that the client
// sent still counts: what it tells may have gone into another field.
func (st *state) rescan() {
	st.cond, st.ranged, st.cacheControl, st.pragma, st.trailers, st.named = conditions{}, false, false, false, false, false
	st.encoding, st.encodings = nil, 0
	st.x.Fields(st.scanFn)
}
