package api

import (
	"bytes"
	"math/bits"
	"slices"
	"strings"

	"github.com/edgenode/edgenode/node/problem"
)

// A field is a request header field that the API reads.
type field uint8

const (
	fieldAccept field = iota
	fieldAuthorization
	fieldContentEncoding
	fieldContentRange
	fieldContentType
	fieldDurability
	fieldIfVersion
	fieldState
	fieldTags
	fieldTiers
	fieldTTL
	fieldIfMatch
	fieldIfModifiedSince
	fieldIfNoneMatch
	fieldIfRange
	fieldIfUnmodifiedSince
	fieldLastEventID
	fieldOrigin
	fieldRange
	fieldTraceParent
	fieldTraceState
	fieldForwarded
	fields  // their number
	noField = fields
)

// name returns the field's name as it is told to people.
func (f field) name() string { return fieldNames[f] }

var fieldNames = [fields]string{
	"Accept", "Authorization", "Content-Encoding", "Content-Range", "Content-Type",
	"Edge-Durability", "Edge-If-Version", "Edge-State", "Edge-Tags", "Edge-Tiers", "Edge-TTL",
	"If-Match", "If-Modified-Since", "If-None-Match", "If-Range", "If-Unmodified-Since", "Last-Event-ID",
	"Origin", "Range", "traceparent", "tracestate", "Edge-Forwarded",
}

// isList reports whether several lines of f are one list (RFC 9110 section 5.3).
func (f field) isList() bool {
	switch f {
	case fieldAccept, fieldContentEncoding, fieldTags, fieldTiers, fieldIfMatch, fieldIfNoneMatch, fieldTraceState:
		return true
	}
	return false
}

// fieldOf returns the field called name in any case, or noField. Names are told
// apart by their length first.
func fieldOf(name []byte) field {
	switch len(name) {
	case 5:
		return among(name, fieldRange)
	case 6:
		return among(name, fieldAccept, fieldOrigin)
	case 8:
		return among(name, fieldIfMatch, fieldIfRange, fieldTTL)
	case 9:
		return among(name, fieldTags)
	case 10:
		return among(name, fieldState, fieldTiers, fieldTraceState)
	case 11:
		return among(name, fieldTraceParent)
	case 12:
		return among(name, fieldContentType)
	case 13:
		return among(name, fieldAuthorization, fieldIfNoneMatch, fieldContentRange, fieldLastEventID)
	case 14:
		return among(name, fieldForwarded)
	case 15:
		return among(name, fieldDurability, fieldIfVersion)
	case 16:
		return among(name, fieldContentEncoding)
	case 17:
		return among(name, fieldIfModifiedSince)
	case 19:
		return among(name, fieldIfUnmodifiedSince)
	}
	return noField
}

// among returns which of the candidates is called name, or noField.
func among(name []byte, candidates ...field) field {
	for _, f := range candidates {
		if equalFold(name, f.name()) {
			return f
		}
	}
	return noField
}

// equalFold compares ASCII without regard to case.
func equalFold(a []byte, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i, c := range a {
		if c != b[i] && (c|0x20 != b[i]|0x20 || c|0x20 < 'a' || c|0x20 > 'z') {
			return false
		}
	}
	return true
}

// A header is what the API reads of a request's header. Values share memory
// with the request.
type header struct {
	values   [fields][]byte
	set      uint32 // bits by field: values has it
	repeated field  // the first field that stands twice and must not; noField if none
	unknown  []byte // the name of the first field that begins like ours and is none; nil if none
}

// reset forgets the request. A usual one has few of the fields, or none.
func (h *header) reset() {
	for ; h.set != 0; h.set &= h.set - 1 {
		h.values[bits.TrailingZeros32(h.set)] = nil
	}
	h.repeated, h.unknown = noField, nil
}

// ours begins the names of the fields that are the API's own.
const ours = "Edge-"

// add takes one line. It always returns true, to go on.
func (h *header) add(name, value []byte) bool {
	f := fieldOf(name)
	if f == noField {
		if h.unknown == nil && len(name) > len(ours) && equalFold(name[:len(ours)], ours) {
			h.unknown = name
		}
		return true
	}
	switch old := h.values[f]; {
	case old == nil:
		if value == nil {
			value = []byte{}
		}
		h.values[f] = value
		h.set |= 1 << f
	case f.isList():
		h.values[f] = slices.Concat(old, []byte(", "), value)
	case h.repeated == noField:
		h.repeated = f
	}
	return true
}

// check refuses repeated fields, and unknown ones of our own: with a misspelt
// Edge-TTL an item would live for ever.
func (h *header) check() *problem.Problem {
	if h.unknown != nil {
		return problem.Newf(problem.BadHeader, "%q is not known in a request; there are %s", h.unknown,
			strings.Join(fieldNames[fieldDurability:fieldIfMatch], ", "))
	}
	if h.repeated == noField {
		return nil
	}
	return problem.Newf(problem.RepeatedHeader, "%s stands more than once", h.repeated.name())
}

// elements calls yield with each element of a comma-separated list, trimmed;
// empty elements are skipped.
func elements(list []byte, yield func(element []byte) bool) {
	for len(list) > 0 {
		var e []byte
		e, list, _ = bytes.Cut(list, []byte(","))
		if e = trim(e); len(e) > 0 && !yield(e) {
			return
		}
	}
}

// trim removes spaces and tabs at both ends.
func trim(b []byte) []byte { return bytes.Trim(b, " \t") }
