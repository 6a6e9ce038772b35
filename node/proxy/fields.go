package proxy

import (
	"bytes"
	"net/http"
	"net/textproto"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/edgenode/edgenode/tiers/item"
)

// hopByHop are the fields that belong to one connection (RFC 9110 §7.6.1).
// Trailer is among them because the node says itself which it passes on.
var hopByHop = []string{
	"Connection", "Keep-Alive", "Proxy-Connection", "Proxy-Authorization", "Proxy-Authenticate", "Proxy-Authentication-Info",
	"Te", "Trailer", "Transfer-Encoding", "Upgrade", "Http2-Settings",
}

// imitates reports whether a field's name is, with - for _, one that only the
// node sends or that speaks of the connection. Origins behind CGI and its heirs
// take the two for one.
func imitates(name []byte) bool {
	if bytes.IndexByte(name, '_') < 0 {
		return false
	}
	dashed := textproto.CanonicalMIMEHeaderKey(strings.ReplaceAll(string(name), "_", "-"))
	return strings.HasPrefix(dashed, "X-Forwarded-") || slices.Contains(hopByHop, dashed) ||
		slices.Contains([]string{"X-Real-Ip", "Content-Length", "Host", "Via"}, dashed)
}

// cleanNames removes the space before a colon, which net/http leaves in names and
// a gateway must not pass on (RFC 9112 §5.1), and drops what is no name then.
func cleanNames(h http.Header) {
	for name, lines := range h {
		if tokenLen(name) == len(name) && name != "" {
			continue
		}
		delete(h, name)
		if name = strings.TrimRight(name, " \t"); name != "" && tokenLen(name) == len(name) {
			name = textproto.CanonicalMIMEHeaderKey(name)
			h[name] = append(h[name], lines...)
		}
	}
}

// removeHopByHop deletes the fields of the connection and those that Connection
// names. What a message must not lose stays, whatever Connection says.
func removeHopByHop(h http.Header) {
	for _, line := range h["Connection"] {
		for name := range strings.SplitSeq(line, ",") {
			if name = strings.Trim(name, " \t"); !mustStay(strings.ToLower(name)) {
				delete(h, textproto.CanonicalMIMEHeaderKey(name))
			}
		}
	}
	for _, name := range hopByHop {
		delete(h, name)
	}
}

// upstreamFields copies the request's fields as the origin gets them, without
// conditions and ranges, which are for us unless the request passes.
func (p *Proxy) upstreamFields(st *state, r *request) http.Header {
	h := make(http.Header, 16)
	st.x.Fields(func(name, value []byte) bool {
		if imitates(name) {
			return true
		}
		key := textproto.CanonicalMIMEHeaderKey(string(name))
		h[key] = append(h[key], string(value))
		return true
	})
	removeHopByHop(h)
	// The exchange shows what came before only if a trusted proxy sent it.
	forwarded := append(h["X-Forwarded-For"], st.x.Peer().String())
	for _, name := range []string{"Host", "Content-Length", "Forwarded", "X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Forwarded-Port", "X-Real-Ip"} {
		delete(h, name)
	}
	if r.length == 0 {
		delete(h, "Expect") // there is no body to wait with
	}
	own := []string{strings.Join(forwarded, ", "), r.scheme, r.host} // one list for three
	h["X-Forwarded-For"], h["X-Forwarded-Proto"], h["X-Forwarded-Host"] = own[:1:1], own[1:2:2], own[2:3:3]
	if r.method == http.MethodOptions {
		countDown(h)
	}
	if st.trailers {
		h["Te"], h["Connection"] = []string{"trailers"}, []string{"TE"}
	}
	version := "1.1 "
	if st.x.HTTP10() {
		version = "1.0 "
	}
	h["Via"] = append(h["Via"], version+p.o.Name)
	h["Cdn-Loop"] = append(h["Cdn-Loop"], p.o.Name) // RFC 8586
	if lines := h["Accept-Encoding"]; len(lines) > 0 && !r.site.RawAcceptEncoding {
		h["Accept-Encoding"] = []string{string(codings(nil, strings.Join(lines, ",")))}
	}
	return h
}

// countDown lowers Max-Forwards, which counts for OPTIONS only (RFC 9110 §7.6.2);
// TRACE is never forwarded.
func countDown(h http.Header) {
	lines := h["Max-Forwards"]
	if len(lines) != 1 {
		return
	}
	if n, ok := deltaSeconds(lines[0]); ok && n > 0 {
		h["Max-Forwards"] = []string{strconv.FormatInt(n-1, 10)}
	}
}

// lastHop reports an OPTIONS that must not go further.
func (st *state) lastHop() bool {
	if st.x.Method() != http.MethodOptions {
		return false
	}
	n, ok := deltaSeconds(string(st.x.Header("Max-Forwards")))
	return ok && n == 0
}

// conditionalFields are those that speak of what the client has.
var conditionalFields = []string{"If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since", "If-Range", "Range"}

func withoutConditions(h http.Header) http.Header {
	h = h.Clone()
	for _, name := range conditionalFields {
		delete(h, name)
	}
	return h
}

// loops reports a request that came through this node too often.
func (p *Proxy) loops(st *state) bool {
	if st.x.Header("Via") == nil && st.x.Header("Cdn-Loop") == nil {
		return false
	}
	via, loop := 0, 0
	st.x.Fields(func(name, value []byte) bool {
		switch {
		case equalFold(name, "via"):
			for member := range strings.SplitSeq(string(value), ",") {
				_, by, _ := strings.Cut(strings.Trim(member, " \t"), " ")
				if by, _, _ = strings.Cut(by, " "); strings.EqualFold(by, p.o.Name) {
					via++
				}
			}
		case equalFold(name, "cdn-loop"):
			for member := range strings.SplitSeq(string(value), ",") {
				id, _, _ := strings.Cut(member, ";")
				if strings.EqualFold(strings.Trim(id, " \t"), p.o.Name) {
					loop++
				}
			}
		}
		return true
	})
	return max(via, loop) >= maxLoops
}

// maxLoops is how often a request may carry our name, in Via or in CDN-Loop:
// sometimes it does, because nodes stand in front of each other.
const maxLoops = 8

// notSent are fields of an answer that we make ourselves or keep to us.
var notSent = []string{"Content-Length", "Surrogate-Key", "Cache-Tag"}

// surrogateTags returns the tags that an answer carries. Those that are no
// tags are left out.
func surrogateTags(h http.Header) []string {
	var tags []string
	add := func(tag string) {
		if tag = strings.Trim(tag, " \t"); validTag(tag) && len(tags) < item.MaxTags {
			tags = append(tags, tag)
		}
	}
	for _, line := range h["Surrogate-Key"] {
		for tag := range strings.FieldsSeq(line) {
			add(tag)
		}
	}
	for _, line := range h["Cache-Tag"] {
		for tag := range strings.SplitSeq(line, ",") {
			add(tag)
		}
	}
	for _, group := range groupsOf(h["Cache-Groups"]) {
		add(group)
	}
	slices.Sort(tags)
	return slices.Compact(tags)
}

// groupsOf returns the members of a list of structured strings (RFC 9875 §2);
// none if it breaks the syntax.
func groupsOf(lines []string) []string {
	p := sfParser{strings.Trim(strings.Join(lines, ","), " ")}
	var groups []string
	for p.s != "" {
		v, ok := p.itemOrList()
		if !ok || v.kind != sfString || !p.parameters() || len(groups) >= maxGroups {
			return nil
		}
		groups = append(groups, v.text)
		if p.trim(" \t"); p.s == "" {
			return groups
		}
		if !p.take(",") {
			return nil
		}
		p.trim(" \t")
	}
	return groups
}

// maxGroups bounds the groups of one message; RFC 9875 asks for 32 at least.
const maxGroups = 128

// groupTag is the implicit tag of a group: groups belong to one origin.
func groupTag(r *request, group string) string {
	_, rest, _ := strings.Cut(r.url, "://")
	n := strings.IndexAny(rest, "/?")
	return tagGroup + r.scheme + "://" + rest[:max(n, 0)] + "/" + group
}

func validTag(tag string) bool { return item.CheckTags([]string{tag}) == nil }

// finishFields makes the fields of an answer ready for the client: no fields of
// the connection, our Via, a Date. It changes h.
func (p *Proxy) finishFields(h http.Header, major, minor int, received int64) {
	cleanNames(h)
	removeHopByHop(h)
	version := "1.1 "
	if major == 1 && minor == 0 {
		version = "1.0 "
	}
	h["Via"] = append(h["Via"], version+p.o.Name)
	if len(h["Date"]) == 0 {
		h["Date"] = []string{time.UnixMilli(received).UTC().Format(http.TimeFormat)}
	}
}

// appendBlock appends the lines of h but those of without, Date first, then
// by name, the lines of one name in order, and returns where the value of ETag lies.
func appendBlock(dst []byte, h http.Header, without ...string) (block []byte, etagAt, etagLen int) {
	names, size := namesOf(h, without), 0
	for _, name := range names {
		for _, value := range h[name] {
			size += len(name) + len(": \r\n") + len(value)
		}
	}
	dst = slices.Grow(dst, size)
	for _, name := range names {
		var at, n int
		if dst, at, n = appendField(dst, name, h[name]); n > 0 && etagLen == 0 {
			etagAt, etagLen = at, n
		}
	}
	return dst, etagAt, etagLen
}

// namesOf returns the names in h but those of without, Date first.
func namesOf(h http.Header, without []string) []string {
	names := make([]string, 0, len(h))
	for name := range h {
		if !slices.Contains(without, name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	if at := slices.Index(names, "Date"); at > 0 { // every hit looks for it
		names = slices.Insert(slices.Delete(names, at, at+1), 0, "Date")
	}
	return names
}

// appendField appends the lines of one name, and returns where the value of the
// first lies if they are of ETag.
func appendField(dst []byte, name string, values []string) (block []byte, etagAt, etagLen int) {
	for _, value := range values {
		if strings.ContainsAny(value, "\r\n\x00") {
			continue
		}
		dst = append(dst, wireName(name)...)
		dst = append(dst, ": "...)
		if name == "Etag" && etagLen == 0 {
			etagAt, etagLen = len(dst), len(value)
		}
		dst = append(dst, value...)
		dst = append(dst, "\r\n"...)
	}
	return dst, etagAt, etagLen
}

func wireName(canonical string) string {
	switch canonical {
	case "Etag":
		return "ETag"
	case "Www-Authenticate":
		return "WWW-Authenticate"
	}
	return canonical
}

// headerOf is the inverse of appendBlock.
func headerOf(block []byte) http.Header {
	h := make(http.Header, 16)
	eachLine(block, func(name, value, _ []byte) bool {
		key := textproto.CanonicalMIMEHeaderKey(string(name))
		h[key] = append(h[key], string(value))
		return true
	})
	return h
}
