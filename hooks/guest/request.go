package guest

import (
	"bytes"
	"encoding/binary"

	"github.com/edgenode/edgenode/hooks/abi"
)

var le = binary.LittleEndian

// Request is the input of a hook: a view of the input block.
type Request struct{ b []byte }

// NewRequest reads a block as the node writes it; for tests of hooks.
func NewRequest(block []byte) *Request { return &Request{block} }

// Operation says what is done.
func (r *Request) Operation() abi.Operation { return abi.Operation(r.b[abi.OffOperation]) }

// Method is the request's method.
func (r *Request) Method() abi.Method { return abi.Method(r.b[abi.OffMethod]) }

// Tiers are the tiers as now decided.
func (r *Request) Tiers() abi.Tiers { return abi.Tiers(r.b[abi.OffTiers]) }

// Is reports whether all of the flags are set.
func (r *Request) Is(f abi.Flags) bool { return abi.Flags(le.Uint16(r.b[abi.OffFlags:]))&f == f }

// NowMillis is the time of the request, Unix milliseconds.
func (r *Request) NowMillis() uint64 { return le.Uint64(r.b[abi.OffNow:]) }

// ContentBytes is the size of the content, abi.UnknownBytes if not known.
func (r *Request) ContentBytes() uint64 { return le.Uint64(r.b[abi.OffContent:]) }

// Status is the status of the response, 0 if there is none yet.
func (r *Request) Status() int { return int(le.Uint16(r.b[abi.OffStatus:])) }

// Lifetime is the lifetime in seconds as computed so far; it reports false if
// there is none.
func (r *Request) Lifetime() (uint32, bool) {
	return le.Uint32(r.b[abi.OffLifetime:]), r.Is(abi.FlagLifetimeKnown)
}

// Hits is how often the item was asked for, 0 if not known.
func (r *Request) Hits() uint32 { return le.Uint32(r.b[abi.OffHits:]) }

// Client is the client's address, 16 bytes, IPv4 as ::ffff:a.b.c.d.
func (r *Request) Client() []byte { return r.b[abi.OffClient:abi.HeadBytes] }

// Key is scheme://host/path?query, or the id.
func (r *Request) Key() []byte {
	off, n := le.Uint32(r.b[abi.OffKey:]), le.Uint32(r.b[abi.OffKeyLen:])
	return r.b[off : off+n]
}

// Path is the path and query of a site's request; of the items API, the id.
//
// In a guest each turn of a loop is a dispatch over the whole function, and is
// metered as such: the search is left to the library, which has a loop of its own.
func (r *Request) Path() []byte {
	k := r.Key()
	if !r.Is(abi.FlagSite) {
		return k
	}
	host := len("https://")
	if len(k) < host || k[host-3] != ':' {
		if host = bytes.IndexByte(k, ':') + len("://"); host > len(k) {
			return nil
		}
	}
	path := bytes.IndexByte(k[host:], '/')
	if path < 0 {
		return nil
	}
	return k[host+path:]
}

// Header is the first line of request header number name in the manifest's list.
func (r *Request) Header(name int) ([]byte, bool) { return r.find(uint16(name)) }

// ResponseHeader is the same for the manifest's response headers.
func (r *Request) ResponseHeader(name int) ([]byte, bool) {
	return r.find(uint16(name) | abi.ResponseBit)
}

func (r *Request) find(name uint16) ([]byte, bool) {
	at := le.Uint32(r.b[abi.OffHeaders:])
	for end := at + abi.HeaderBytes*uint32(le.Uint16(r.b[abi.OffCount:])); at < end; at += abi.HeaderBytes {
		if e := le.Uint64(r.b[at:]); uint16(e) == name {
			off := uint32(e >> 32)
			return r.b[off : off+uint32(uint16(e>>16))], true
		}
	}
	return nil, false
}

// Headers is the number of header lines.
func (r *Request) Headers() int { return int(le.Uint16(r.b[abi.OffCount:])) }

// Line is header line i: its number, with abi.ResponseBit for the response's, and
// its value.
func (r *Request) Line(i int) (name uint16, value []byte) {
	e := r.b[le.Uint32(r.b[abi.OffHeaders:])+uint32(i)*abi.HeaderBytes:]
	off, n := le.Uint32(e[4:]), uint32(le.Uint16(e[2:]))
	return le.Uint16(e), r.b[off : off+n]
}

// Candidates is the input of evict and admit.
type Candidates struct {
	list     []abi.Candidate
	pressure uint32
}

// NewCandidates reads a block as the node writes it; for tests of hooks.
func NewCandidates(block []byte) *Candidates {
	first := int(le.Uint16(block)) + 8
	c := &Candidates{pressure: le.Uint32(block[first-4:])}
	for n := range int(le.Uint32(block[first-8:])) {
		b := block[first+n*abi.CandidateBytes:][:abi.CandidateBytes]
		c.list = append(c.list, abi.Candidate{ID: le.Uint64(b), Size: le.Uint32(b[8:]), AgeSeconds: le.Uint32(b[12:]),
			IdleMillis: le.Uint32(b[16:]), Hits: le.Uint32(b[20:]), LeftSeconds: le.Uint32(b[24:]),
			Flags: le.Uint16(b[28:]), TagClass: le.Uint16(b[30:])})
	}
	return c
}

// All are the candidates; for admit the newcomer is the first. It is a view.
func (c *Candidates) All() []abi.Candidate { return c.list }

// Len is their number.
func (c *Candidates) Len() int { return len(c.list) }

// Pressure is in 1/65536.
func (c *Candidates) Pressure() uint32 { return c.pressure }

// At returns candidate i.
func (c *Candidates) At(i int) abi.Candidate { return c.list[i] }
