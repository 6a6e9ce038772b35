package proxy

import (
	"net/http"
	"net/netip"
	"strings"

	"github.com/edgenode/edgenode/tiers/item"
)

// state is the scratch memory of one Serve, reused by later ones. Byte slices
// from the exchange that it holds are cleared before reuse.
type state struct {
	x    Exchange
	site *site

	host, name []byte // normalised; name is host without its port
	scheme     string // as the client meant it, see scan
	target     []byte // path and query for key and origin
	url        []byte // a part of seeker.key
	seeker

	cond conditions
	in   RouteInput
	out  RouteDecision

	// Found by one pass over the request's fields.
	ranged, authorization, cacheControl bool

	body *guardedBody // the request's, while an origin reads it; nil if there is none

	named    bool // Connection names fields
	trailers bool // the request has TE: trailers
	pragma   bool // the request has Pragma: no-cache (RFC 9111 §5.4)

	asked *probe // the request is only a question; nil for a real one

	told *Outcome // filled in with the answer; nil if nobody asks

	refetch  bool // the request's directives refuse what is stored
	storeNot bool // the request's no-store is honoured
	alone    bool // do not wait for another's fetch again

	encoding   []byte // of the first line of Accept-Encoding
	encodings  int    // how many there are
	remembered *encodingHashes
	shown      *[2]shownDate // Date and Last-Modified

	want    string // what takeField looks for
	got     []byte
	present bool
	scanFn  func(name, value []byte) bool
	fieldFn func(name, value []byte) bool
}

func newState() *state {
	st := &state{remembered: new(encodingHashes), shown: new([2]shownDate)}
	st.scanFn, st.fieldFn = st.scan, st.takeField
	return st
}

func (st *state) begin(x Exchange) {
	st.x, st.scheme = x, x.Scheme()
	if x.Fields(st.scanFn); st.named {
		st.hide()
	}
}

// end forgets the request; buffers that grew large are left to the collector.
func (st *state) end() {
	const keepBytes = 16 << 10
	host, buffers := st.host[:0], st.seeker
	if cap(buffers.scratch) > keepBytes {
		buffers = seeker{}
	}
	remembered, shown, scan, field := st.remembered, st.shown, st.scanFn, st.fieldFn
	*st = state{}
	st.host, st.seeker, st.remembered, st.shown, st.scanFn, st.fieldFn = host, buffers, remembered, shown, scan, field
}

// take makes the exchange this goroutine's alone while an origin may be reading
// the request's body through it; give ends that.
func (st *state) take() {
	if st.body != nil {
		st.body.mu.Lock()
	}
}

func (st *state) give() {
	if st.body != nil {
		st.body.mu.Unlock()
	}
}

// scan notes the fields that decide how a request is handled. The exchange shows
// X-Forwarded-Proto only if a trusted proxy sent it: then that is the scheme.
func (st *state) scan(name, value []byte) bool {
	c := &st.cond
	switch len(name) {
	case 2:
		if equalFold(name, "te") {
			st.trailers = st.trailers || wantsTrailers(value)
		}
	case 5:
		if equalFold(name, "range") {
			st.ranged = true
			c.ranges = joined(c.ranges, value)
		}
	case 6:
		if equalFold(name, "pragma") && equalFold(value, "no-cache") {
			st.pragma = true
		}
	case 8:
		if equalFold(name, "if-match") {
			c.match, c.any = joined(c.match, value), true
		} else if equalFold(name, "if-range") {
			c.ifRange = joined(c.ifRange, value)
		}
	case 10:
		if equalFold(name, "connection") && namesFields(value) {
			st.named = true
		}
	case 13:
		if equalFold(name, "if-none-match") {
			c.noneMatch, c.any = joined(c.noneMatch, value), true
		} else if equalFold(name, "authorization") {
			st.authorization = true
		} else if equalFold(name, "cache-control") {
			st.cacheControl = true
		}
	case 15:
		if equalFold(name, acceptEncoding) {
			if st.encodings++; st.encodings == 1 {
				st.encoding = value
			}
		}
	case 17:
		if equalFold(name, "if-modified-since") {
			c.modifiedSince, c.any = joined(c.modifiedSince, value), true
		} else if equalFold(name, "x-forwarded-proto") {
			st.believe(value)
		}
	case 19:
		if equalFold(name, "if-unmodified-since") {
			c.unmodifiedSince, c.any = joined(c.unmodifiedSince, value), true
		}
	}
	return true
}

func (st *state) believe(proto []byte) {
	switch {
	case equalFold(proto, "https"):
		st.scheme = "https"
	case equalFold(proto, "http"):
		st.scheme = "http"
	}
}

// joined returns value, or both joined by a comma if the field came before.
func joined(before, value []byte) []byte {
	if before == nil {
		if value == nil {
			value = []byte{}
		}
		return value
	}
	out := append(append([]byte(nil), before...), ", "...)
	return append(out, value...)
}

func (st *state) takeField(name, value []byte) bool {
	if equalFold(name, st.want) {
		if st.present {
			st.got = append(st.got, ',')
		}
		st.got = append(st.got, value...)
		st.present = true
	}
	return true
}

// appendField implements fieldSource for the request of the exchange.
func (st *state) appendField(dst []byte, name string) ([]byte, bool) {
	if out, ok, known := st.site.generated(dst, name, st.scheme, st.host); known {
		return out, ok
	}
	if name == "te" { // see upstreamFields
		if st.trailers {
			dst = append(dst, "trailers"...)
		}
		return dst, st.trailers
	}
	at := len(dst)
	st.want, st.got, st.present = name, dst, false
	st.x.Fields(st.fieldFn)
	dst = st.got
	st.got = nil
	if name == forwardedFor {
		if st.present {
			dst = append(dst, ',')
		}
		return st.x.Peer().AppendTo(dst), true
	}
	return st.site.reduce(dst, at, name), st.present
}

// variant implements fieldSource. Most answers that vary do so by Accept-Encoding,
// of which clients send few values: their hashes are remembered.
func (st *state) variant(spec string, scratch []byte) (hash [hashLen]byte, out []byte) {
	if spec != acceptEncoding || st.encodings > 1 || len(st.encoding) > maxRemembered {
		return variantHash(spec, st, scratch)
	}
	m := st.remembered.find(st.encoding, st.encodings == 0, st.site.RawAcceptEncoding)
	if m == nil {
		hash, scratch = variantHash(spec, st, scratch)
		m = st.remembered.add(st.encoding, st.encodings == 0, st.site.RawAcceptEncoding)
		m.hash = hash
	}
	return m.hash, scratch
}

func (r *request) variant(spec string, scratch []byte) (hash [hashLen]byte, out []byte) {
	return variantHash(spec, r, scratch)
}

const (
	acceptEncoding = "accept-encoding"
	maxRemembered  = 64 // bytes of a value; browsers send 23
)

// encodingHashes remember what variantHash makes of a request whose only nominated
// field is Accept-Encoding. The zero value remembers nothing.
type encodingHashes struct {
	used, next int
	all        [4]encodingHash
}

// An encodingHash is the hash for one value of the field, or none, on sites that
// pass it on as it is (raw) or reduced.
type encodingHash struct {
	length      int
	absent, raw bool
	value       [maxRemembered]byte
	hash        [hashLen]byte
}

// find returns what is remembered of a value, or nil.
func (h *encodingHashes) find(value []byte, absent, raw bool) *encodingHash {
	for i := range h.all[:h.used] {
		m := &h.all[i]
		if m.absent == absent && m.raw == raw && string(m.value[:m.length]) == string(value) {
			return m
		}
	}
	return nil
}

// add makes room for a value of at most maxRemembered bytes; the oldest leaves.
func (h *encodingHashes) add(value []byte, absent, raw bool) *encodingHash {
	m := &h.all[h.next]
	h.next = (h.next + 1) % len(h.all)
	h.used = min(h.used+1, len(h.all))
	m.length, m.absent, m.raw = copy(m.value[:], value), absent, raw
	return m
}

func (st *state) rawLanguages() bool  { return st.site.RawAcceptLanguage }
func (r *request) rawLanguages() bool { return r.site.RawAcceptLanguage }

// forwardedFor is the field to which the node appends its peer.
const forwardedFor = "x-forwarded-for"

// generated gives the value of fields that the node makes itself, and of those
// that never reach an origin.
func (s *Site) generated(dst []byte, name string, scheme string, host []byte) (out []byte, present, known bool) {
	switch name {
	case "x-forwarded-proto":
		return append(dst, scheme...), true, true
	case "x-forwarded-host", "host":
		return append(dst, host...), true, true
	case "forwarded", "x-real-ip", "connection", "keep-alive", "proxy-connection", "upgrade", "transfer-encoding", "proxy-authorization":
		return dst, false, true
	}
	return dst, false, false
}

// reduce rewrites the value at dst[at:] to what goes upstream.
func (s *Site) reduce(dst []byte, at int, name string) []byte {
	if name != "accept-encoding" || s.RawAcceptEncoding || len(dst) == at {
		return dst
	}
	end := len(dst)
	dst = codings(dst, text(dst[at:end]))
	return dst[:at+copy(dst[at:], dst[end:])]
}

// request is what is left of a request when its exchange may be gone: a copy.
type request struct {
	site       *site
	pool       *pool
	method     string
	scheme     string
	host       string // as in the key, and as the origin gets it
	target     string // what goes upstream
	url        string // after the site's rules
	key        item.Key
	header     http.Header // end-to-end fields as the origin gets them
	client     netip.Addr
	ranged     bool // its ranges or conditions go upstream: only a 200 is for others
	authorized bool // carries Authorization
	tags       []string
	writeTiers item.Tiers
	length     int64 // of the body; 0 none, -1 unknown
}

// appendField implements fieldSource.
func (r *request) appendField(dst []byte, name string) ([]byte, bool) {
	if out, ok, known := r.site.generated(dst, name, r.scheme, []byte(r.host)); known {
		return out, ok
	}
	at := len(dst)
	dst, ok := appendLines(dst, r.header, http.CanonicalHeaderKey(name))
	return r.site.reduce(dst, at, name), ok
}

// snapshot copies the request out of the exchange.
func (p *Proxy) snapshot(st *state) *request {
	x := st.x
	r := &request{
		site: st.site, pool: st.site.pool, method: strings.Clone(x.Method()), scheme: st.scheme, host: string(st.host),
		target: string(st.target), url: string(st.url), key: append(item.Key(nil), st.key...),
		client: x.Client(), ranged: st.ranged, authorized: st.authorization, length: x.ContentLength(),
		writeTiers: orDefault(st.out.WriteTiers, st.site.Tiers),
	}
	if pool := p.table.Load().pools[st.out.Pool]; pool != nil {
		r.pool = pool
	}
	r.header = p.upstreamFields(st, r)
	r.tags = append(r.tags, tagURL+r.url, tagHost+string(st.name))
	if len(st.out.Target) > 0 {
		original := r.site.appendTarget([]byte(tagURL+r.scheme+"://"+string(st.host)), x.Target())
		r.tags = append(r.tags, string(original))
	}
	for _, tag := range st.out.Tags {
		if validTag(tag) {
			r.tags = append(r.tags, tag)
		}
	}
	return r
}
