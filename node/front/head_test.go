package front

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

func newTestHead() *head { return &head{maxURL: 1 << 10, maxHeader: 4 << 10} }

// feedAll gives raw to a head in steps of n bytes and returns the result of the
// call that decided.
func feedAll(h *head, raw []byte, n int) (bool, refusal) {
	for end := 0; end < len(raw); {
		end = min(end+n, len(raw))
		if done, why := h.feed(raw[:end]); done || why != refusedNot {
			return done, why
		}
	}
	return false, refusedNot
}

var seeds = []string{
	"GET / HTTP/1.1\r\nHost: h\r\n\r\n",
	"\r\nGET /a?b HTTP/1.1\r\nHost: h\r\nAccept: */*\r\n\r\nGET /",
	"GET http://e.x/p?q HTTP/1.1\r\nHost: h\r\n\r\n",
	"GET https://[::1]:8?q HTTP/1.0\r\n\r\n",
	"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc",
	"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n0\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n",
	"POST / HTTP/1.0\r\nHost: h\r\nConnection: keep-alive, close\r\nContent-Length: 003\r\n\r\n",
	"PUT /x HTTP/1.7\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 1\r\nForwarded: for=1.2.3.4\r\n\r\n",
	"GET / HTTP/2.0\r\n\r\n", "CONNECT h:1 HTTP/1.1\r\nHost: h:1\r\n\r\n", "GET / HTTP/1.1\nHost: h\n\n",
	"GET / HTTP/1.1\r\nHost: h\r\nX: a\r\n b\r\n\r\n", "GET / HTTP/1.1\r\nHost : h\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: h\r\nX: \x00\r\n\r\n", "\x16\x03\x01", "GET /" + strings.Repeat("a", 2000),
	"GET / HTTP/1.1\r\nHost: h\r\nCookie: a=b\r\nUser-Agent: x\r\nContent-Type: y\r\nConnection: Upgrade\r\n\r\n",
	"GET /#x HTTP/1.1\r\nHost: h\r\n\r\n", "GET /\xff HTTP/1.1\r\nHost: h:\r\nX-Forwarded-For: \xff\r\n\r\n",
}

// FuzzHead holds that the check of a head never panics, decides the same
// however the bytes are cut, keeps its spans within the head, and accepts only
// what fasthttp's parser reads in the same way.
func FuzzHead(f *testing.F) {
	for _, s := range seeds {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		h, slow := newTestHead(), newTestHead()
		done, why := feedAll(h, raw, max(1, len(raw)))
		slowDone, slowWhy := feedAll(slow, raw, 1)
		if done != slowDone || !sameVerdict(why, slowWhy) {
			t.Fatalf("%q: whole: %v %v; byte by byte: %v %v", raw, done, why.verdict(), slowDone, slowWhy.verdict())
		}
		if !done || why != refusedNot {
			return
		}
		block := raw[:h.next]
		if fmt.Sprint(h.fields, h.whole, h.target, h.authority, h.length) != fmt.Sprint(slow.fields, slow.whole, slow.target, slow.authority, slow.length) {
			t.Fatalf("%q is read in two ways", raw)
		}
		if !bytes.HasSuffix(block, []byte("\r\n\r\n")) || bytes.Contains(block[2:len(block)-1], []byte("\r\n\r\n")) {
			t.Fatalf("%q: the head ends at %d", raw, h.next)
		}
		for _, p := range h.fields {
			if name := p.name.of(block); !isToken(name) || block[p.name.to] != ':' || bytes.ContainsAny(p.value.of(block), "\r\n\x00") {
				t.Fatalf("%q: field %q: %q", raw, name, p.value.of(block))
			}
		}
		var o opinion
		if !o.agrees(block, h) && !bytes.Contains(bytes.ToLower(block), []byte("trailer")) { // fasthttp forbids some names in Trailer
			t.Fatalf("%q: fasthttp does not agree: %s %q %q %d", raw, o.header.Method(), o.header.RequestURI(), o.header.Host(), o.header.ContentLength())
		}
	})
}

// sameVerdict allows for what is decided earlier when bytes come one by one: a
// line that is too long and also malformed.
func sameVerdict(a, b refusal) bool {
	early := func(r refusal) bool {
		return r == refusedURL || r == refusedHeader || r == refusedSyntax || r == refusedPlainTLS
	}
	return a == b || a != refusedNot && b != refusedNot && (early(a) || early(b))
}

// FuzzChunkSize holds that a size is read as what it says, or refused.
func FuzzChunkSize(f *testing.F) {
	for _, s := range []string{"0", "a;x", "1 ;y=\"z\"", "fffffffffffffff", "1 2", "+1", ""} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		size, ok := chunkSize(line)
		if !ok {
			return
		}
		digits := strings.ToLower(string(line[:len(line)-len(bytes.TrimLeft(line, "0123456789abcdefABCDEF"))]))
		if got := strings.TrimLeft(fmt.Sprintf("%x", size), "0"); got != strings.TrimLeft(digits, "0") || size < 0 {
			t.Fatalf("%q: size %d", line, size)
		}
	})
}

// TestIsValue compares the check of eight bytes at once with that of single
// ones.
func TestIsValue(t *testing.T) {
	for at := range 20 {
		for c := range 256 {
			b := bytes.Repeat([]byte{'a'}, 20)
			b[at] = byte(c)
			if got, want := isValue(b), isValueSlow(b); got != want {
				t.Errorf("byte %#x at %d: %v, want %v", c, at, got, want)
			}
			b[(at+1)%20] = '\t'
			if got, want := isValue(b), isValueSlow(b); got != want {
				t.Errorf("byte %#x at %d behind a tab: %v, want %v", c, at, got, want)
			}
		}
	}
}

// TestVerdicts holds that every refusal has a row, and that reasons are unique.
func TestVerdicts(t *testing.T) {
	seen := map[string]bool{}
	for r := refusedNot + 1; r < refusals; r++ {
		v := r.verdict()
		if seen[v.reason] || v.code < 400 || v.name == "" || v.detail == "" {
			t.Errorf("refusal %d: %+v", r, v)
		}
		seen[v.reason] = true
	}
}

func BenchmarkHead(b *testing.B) {
	raw := []byte("GET /v1/items/some%2Fid?verify=1 HTTP/1.1\r\nHost: shop.example:8080\r\n" +
		"User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:141.0) Gecko/20100101 Firefox/141.0\r\n" +
		"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\nAccept-Language: en-GB,en;q=0.5\r\n" +
		"Accept-Encoding: gzip, deflate, br, zstd\r\nConnection: keep-alive\r\nCookie: a=b; session=0123456789abcdef\r\n\r\n")
	h := newTestHead()
	b.Run("ours", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			h.reset()
			h.feed(raw)
		}
	})
	b.Run("opinion", func(b *testing.B) {
		var o opinion
		b.ReportAllocs()
		for b.Loop() {
			o.agrees(raw, h)
		}
	})
}
