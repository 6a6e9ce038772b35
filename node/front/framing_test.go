package front_test

import (
	"strings"
	"testing"

	"github.com/edgenode/edgenode/node/front"
)

// TestFraming sends raw bytes and looks at what reached the handler: either
// nothing, or exactly the request that was meant, and never what is hidden
// behind it.
func TestFraming(t *testing.T) {
	var r recorder
	s := start(t, front.Options{MaxBodyBytes: 64 << 10}, r.serve)
	cases := 0
	// f sends raw. In it "|" stands for CRLF. codes are the answers' statuses;
	// seen the requests that the handler got, "method target host body" each.
	f := func(raw, codes string, seen ...string) {
		t.Helper()
		cases++
		raw = strings.ReplaceAll(raw, "|", "\r\n")
		got := exchange(t, s, raw)
		if statuses(got) != codes {
			t.Errorf("%q: answers %q, want %q; all: %q", raw, statuses(got), codes, got)
		}
		if got, want := strings.Join(r.take(), "\n"), strings.Join(seen, "\n"); got != want {
			t.Errorf("%q: handler saw %q, want %q", raw, got, want)
		}
	}
	const evil = "GET /evil HTTP/1.1|Host: h||"
	const ok = "GET / h"

	// What is well.
	f("GET / HTTP/1.1|Host: h||", "200", ok)
	f("|GET / HTTP/1.1|Host: h||", "200", ok) // one empty line before the request line
	f("GET / HTTP/1.1|Host:h||", "200", ok)
	f("GET / HTTP/1.1|Host: \t h \t ||", "200", ok)
	f("GET / HTTP/1.1|hOST: h||", "200", ok)
	f("GET / HTTP/1.0||", "200", "GET / ")
	f("GET / HTTP/1.0|Host: h||", "200", ok)
	f("GET / HTTP/1.2|Host: h||", "200", ok) // as 1.1
	f("GET / HTTP/1.9|Host: h||GET /2 HTTP/1.1|Host: h||", "200 200", ok, "GET /2 h")
	f("HEAD / HTTP/1.1|Host: h||", "200", "HEAD / h")
	f("BREW /pot HTTP/1.1|Host: h||", "200", "BREW /pot h")
	f("get / HTTP/1.1|Host: h||", "200", "get / h") // methods have case
	f("POST / HTTP/1.1|Host: h|Content-Length: 3||abc", "200", "POST / h abc")
	f("POST / HTTP/1.1|Host: h|Content-Length: 0||", "200", "POST / h")
	f("POST / HTTP/1.1|Host: h|Content-Length: 003||abc", "200", "POST / h abc")
	f("POST / HTTP/1.1|Host: h|CONTENT-LENGTH:\t3 ||abc", "200", "POST / h abc")
	f("POST / HTTP/1.1|Host: h|Content-Length: 3||abc"+evil, "200 200", "POST / h abc", "GET /evil h")
	f("GET / HTTP/1.1|Host: h|Content-Length: 3||abc"+evil, "200 200", "GET / h abc", "GET /evil h")
	f("DELETE / HTTP/1.1|Host: h|Content-Length: 3||abc", "200", "DELETE / h abc")
	f("POST / HTTP/1.1|Host: h|Transfer-Encoding: chunked||3|abc|0||", "200", "POST / h abc")
	f("POST / HTTP/1.1|Host: h|Transfer-Encoding: ChunKed||3|abc|0||"+evil, "200 200", "POST / h abc", "GET /evil h")
	f("POST / HTTP/1.1|Host: h|Transfer-Encoding: chunked||1|a|2|bc|0||", "200", "POST / h abc")
	f("POST / HTTP/1.1|Host: h|Transfer-Encoding: chunked||A|0123456789|0||", "200", "POST / h 0123456789")
	f("POST / HTTP/1.1|Host: h|Transfer-Encoding: chunked||000a|0123456789|000||", "200", "POST / h 0123456789")
	f("POST / HTTP/1.1|Host: h|Transfer-Encoding: chunked||3;x=y|abc|0;z||", "200", "POST / h abc")
	f("POST / HTTP/1.1|Host: h|Transfer-Encoding: chunked||3 ; x=\"y\"|abc|0||", "200", "POST / h abc")
	f("POST / HTTP/1.1|Host: h|Transfer-Encoding: chunked||3|abc|0|X-T: v||"+evil, "200 200", "POST / h abc", "GET /evil h")
	f("POST / HTTP/1.1|Host: h|Transfer-Encoding: chunked||0||"+evil, "200 200", "POST / h", "GET /evil h")

	// Targets: as they are, or refused.
	f("GET /a%2Fb/../c HTTP/1.1|Host: h||", "200", "GET /a%2Fb/../c h")
	f("GET //a/./b/?x=1&y HTTP/1.1|Host: h||", "200", "GET //a/./b/?x=1&y h")
	f("GET /%zz HTTP/1.1|Host: h||", "200", "GET /%zz h")
	f("GET /a\\b{}^`|\"<> HTTP/1.1|Host: h||", "400")
	f("GET /a\\b{}^`\"<> HTTP/1.1|Host: h||", "200", "GET /a\\b{}^`\"<> h")
	f("GET /\xc3\xa9 HTTP/1.1|Host: h||", "200", "GET /\xc3\xa9 h")
	f("GET /a#b HTTP/1.1|Host: h||", "400")
	f("GET /a\x00b HTTP/1.1|Host: h||", "400")
	f("GET /a\tb HTTP/1.1|Host: h||", "400")
	f("GET /a\x7fb HTTP/1.1|Host: h||", "400")
	f("GET /a b HTTP/1.1|Host: h||", "400")
	f("GET a HTTP/1.1|Host: h||", "400")
	f("GET ?a HTTP/1.1|Host: h||", "400")
	f("GET * HTTP/1.1|Host: h||", "400")
	f("GET http://e.x/p?q HTTP/1.1|Host: h||", "200", "GET /p?q e.x")
	f("GET HTTP://e.x:81/p HTTP/1.1|Host: h||", "200", "GET /p e.x:81")
	f("GET https://e.x/p HTTP/1.1|Host: h||", "200", "GET /p e.x")
	f("GET http://e.x HTTP/1.1|Host: h||", "200", "GET / e.x")
	f("GET http://e.x?q HTTP/1.1|Host: h||", "200", "GET /?q e.x")
	f("GET http://[::1]:80/p HTTP/1.1|Host: h||", "200", "GET /p [::1]:80")
	f("GET http://e.x/p HTTP/1.0||", "200", "GET /p e.x")
	f("GET http://e.x/p HTTP/1.1||", "400") // Host is still needed
	f("GET http:///p HTTP/1.1|Host: h||", "400")
	f("GET http://u@e.x/p HTTP/1.1|Host: h||", "400")
	f("GET http://u:p@e.x/ HTTP/1.1|Host: h||", "400")
	f("GET http:/e.x/ HTTP/1.1|Host: h||", "400")
	f("GET ftp://e.x/ HTTP/1.1|Host: h||", "400")
	f("GET http://e.x:8a/ HTTP/1.1|Host: h||", "400")
	f("GET http://e\\x/ HTTP/1.1|Host: h||", "400")

	// Methods and versions that are answered by the front.
	f("CONNECT e.x:443 HTTP/1.1|Host: e.x:443||", "501")
	f("CONNECT e.x:443 HTTP/1.1|Host: e.x:443||"+evil, "501")
	f("CONNECT / HTTP/1.1|Host: h||", "501")
	f("TRACE / HTTP/1.1|Host: h||", "405")
	f("OPTIONS * HTTP/1.1|Host: h||", "204")
	f("OPTIONS * HTTP/1.1|Host: h||"+evil, "204 200", "GET /evil h")
	f("OPTIONS *a HTTP/1.1|Host: h||", "400")
	f("OPTIONS / HTTP/1.1|Host: h||", "200", "OPTIONS / h")
	f("GET / HTTP/2.0|Host: h||", "505")
	f("PRI * HTTP/2.0||SM||", "505")
	f("GET / HTTP/0.9|Host: h||", "505")
	f("GET / HTTP/3.0|Host: h||", "505")
	f("GET / HTTP/1.|Host: h||", "400")
	f("GET / HTTP/11|Host: h||", "400")
	f("GET / HTTP/1.10|Host: h||", "400")
	f("GET / HTTP/1.1 |Host: h||", "400")
	f("GET / http/1.1|Host: h||", "400")
	f("GET / HTTP/1.x|Host: h||", "400")
	f("GET / HTTP/-1.1|Host: h||", "400")
	f("GET / HTTP 1.1|Host: h||", "400")
	f("GET / |Host: h||", "400")
	f("GET /|Host: h||", "400") // HTTP/0.9
	f("GET|Host: h||", "400")

	// Request lines.
	f("GET  / HTTP/1.1|Host: h||", "400")
	f("GET /  HTTP/1.1|Host: h||", "400")
	f("GET\t/ HTTP/1.1|Host: h||", "400")
	f(" GET / HTTP/1.1|Host: h||", "400")
	f("||GET / HTTP/1.1|Host: h||", "400") // two empty lines
	f("G@T / HTTP/1.1|Host: h||", "400")
	f("G\x00T / HTTP/1.1|Host: h||", "400")
	f("GET\x0b/ HTTP/1.1|Host: h||", "400")
	f(strings.Repeat("M", 33)+" / HTTP/1.1|Host: h||", "400")
	f("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "400") // TLS
	f("\x00\x00\x00", "400")
	f("SSH-2.0-OpenSSH_9|", "400")

	// Lines that do not end with CR LF.
	f("GET / HTTP/1.1\nHost: h\n\n", "400")
	f("GET / HTTP/1.1|Host: h\n|", "400")
	f("GET / HTTP/1.1\nHost: h||", "400")
	f("GET / HTTP/1.1|Host: h|\n", "400")
	f("\nGET / HTTP/1.1|Host: h||", "400")
	f("GET / HTTP/1.1|Host: h\r||", "400")
	f("GET / HTTP/1.1|Host: h|X: a\rb||", "400")
	f("GET / HTTP/1.1|Host: h|X: a\r\r\n|", "400")
	f("GET / HTTP/1.1|Host: h|X: a\nContent-Length: 5||", "400")
	f("GET / HTTP/1.1\r|Host: h||", "400")

	// Field names and folds.
	f("GET / HTTP/1.1|Host: h|X : a||", "400")
	f("GET / HTTP/1.1|Host : h||", "400")
	f("GET / HTTP/1.1|Host: h|X\t: a||", "400")
	f("GET / HTTP/1.1|Host: h|: a||", "400")
	f("GET / HTTP/1.1|Host: h|X||", "400")
	f("GET / HTTP/1.1|Host: h|X a: b||", "400")
	f("GET / HTTP/1.1|Host: h|X\x00: b||", "400")
	f("GET / HTTP/1.1|Host: h|X\xe9: b||", "400")
	f("GET / HTTP/1.1|Host: h|X(y): b||", "400")
	f("GET / HTTP/1.1|Host: h|X: a| b||", "400")
	f("GET / HTTP/1.1|Host: h|X: a|\tb||", "400")
	f("GET / HTTP/1.1| Host: h||", "400")
	f("GET / HTTP/1.1|Host: h| ||", "400")
	f("GET / HTTP/1.1|Host: h|Transfer-Encoding:| chunked||0||", "400")
	f("POST / HTTP/1.1|Host: h|Content-Length:| 5||hello", "400")

	// Field values.
	f("GET / HTTP/1.1|Host: h|X: a\x00b||", "400")
	f("GET / HTTP/1.1|Host: h|X: a\x01b||", "400")
	f("GET / HTTP/1.1|Host: h|X: a\x1fbcdefghij||", "400")
	f("GET / HTTP/1.1|Host: h|X: abcdefg\x7f||", "400")
	f("GET / HTTP/1.1|Host: h|X: a\tb \xff||", "200", ok)
	f("GET / HTTP/1.1|Host: h|X:||", "200", ok)
	f("GET / HTTP/1.1|Host: h|X: a:b: c||", "200", ok)

	// Host.
	f("GET / HTTP/1.1||", "400")
	f("GET / HTTP/1.2||", "400")
	f("GET / HTTP/1.1|Host:||", "400")
	f("GET / HTTP/1.1|Host: h|Host: h||", "400")
	f("GET / HTTP/1.1|Host: h|host: i||", "400")
	f("GET / HTTP/1.0|Host: h|Host: i||", "400")
	f("GET / HTTP/1.1|Host: h i||", "400")
	f("GET / HTTP/1.1|Host: h/x||", "400")
	f("GET / HTTP/1.1|Host: u@h||", "400")
	f("GET / HTTP/1.1|Host: h:8x||", "400")
	f("GET / HTTP/1.1|Host: h:80:81||", "400")
	f("GET / HTTP/1.1|Host: h:123456||", "400")
	f("GET / HTTP/1.1|Host: [::1||", "400")
	f("GET / HTTP/1.1|Host: [::1]x||", "400")
	f("GET / HTTP/1.1|Host: h[::1]||", "400")
	f("GET / HTTP/1.1|Host: :80||", "400")
	f("GET / HTTP/1.1|Host: h\xff||", "400")
	f("GET / HTTP/1.1|Host: h#x||", "400")
	f("GET / HTTP/1.1|Host: h:||", "200", "GET / h:")
	f("GET / HTTP/1.1|Host: H.Example:8080||", "200", "GET / H.Example:8080")
	f("GET / HTTP/1.1|Host: [2001:db8::1]:80||", "200", "GET / [2001:db8::1]:80")

	// Content-Length.
	for _, n := range []string{"", "-1", "+3", "3 3", "3,3", "3, 3", "0x3", "3.0", "3;", "three", "1e1", "３", "3\x0b", "9223372036854775808", "99999999999999999999999", "18446744073709551619"} {
		f("POST / HTTP/1.1|Host: h|Content-Length: "+n+"||abc"+evil, "400")
	}
	f("POST / HTTP/1.1|Host: h|Content-Length: 3|Content-Length: 3||abc"+evil, "400")
	f("POST / HTTP/1.1|Host: h|Content-Length: 3|Content-Length: 40||abc"+evil, "400")
	f("POST / HTTP/1.1|Host: h|Content-Length: 0|content-length: 3||abc"+evil, "400")
	f("POST / HTTP/1.1|Host: h|Content-Length: 3|X: y|Content-Length:||abc"+evil, "400")
	f("POST / HTTP/1.1|Host: h|Content-Length : 3||abc", "400")
	f("POST / HTTP/1.1|Host: h|Content_Length: 3||"+evil, "200 200", "POST / h", "GET /evil h") // another field
	f("POST / HTTP/1.1|Host: h|X-Content-Length: 3||"+evil, "200 200", "POST / h", "GET /evil h")
	f("POST / HTTP/1.1|Host: h|Content-Length: 65537||abc", "413")
	f("POST / HTTP/1.1|Host: h|Content-Length: 5||abc", "400", "POST / h abc !unexpected EOF")

	// Transfer-Encoding.
	f("POST / HTTP/1.1|Host: h|Content-Length: 5|Transfer-Encoding: chunked||0||"+evil, "400")
	f("POST / HTTP/1.1|Host: h|Transfer-Encoding: chunked|Content-Length: 5||0||"+evil, "400")
	f("POST / HTTP/1.1|Host: h|Transfer-Encoding: chunked|Content-Length: 0||0||"+evil, "400")
	f("POST / HTTP/1.1|Host: h|Transfer-Encoding: gzip|Content-Length: 5||hello"+evil, "501")
	f("POST / HTTP/1.1|Host: h|Transfer-Encoding: chunked|Transfer-Encoding: chunked||0||"+evil, "400")
	f("POST / HTTP/1.1|Host: h|Transfer-Encoding: chunked|Transfer-Encoding: identity||0||"+evil, "400")
	f("POST / HTTP/1.1|Host: h|Transfer-Encoding: identity||"+evil, "400")
	f("POST / HTTP/1.1|Host: h|Transfer-Encoding: identity, chunked||0||"+evil, "400")
	f("POST / HTTP/1.1|Host: h|Transfer-Encoding: chunked, identity||0||"+evil, "400")
	f("POST / HTTP/1.1|Host: h|Transfer-Encoding: chunked, chunked||0||"+evil, "400")
	f("POST / HTTP/1.1|Host: h|Transfer-Encoding: chunked, gzip||0||"+evil, "400")
	f("POST / HTTP/1.1|Host: h|Transfer-Encoding: gzip, chunked||0||"+evil, "501")
	f("POST / HTTP/1.1|Host: h|Transfer-Encoding: xchunked||0||"+evil, "501")
	f("POST / HTTP/1.1|Host: h|Transfer-Encoding: chunkedx||0||"+evil, "501")
	f("POST / HTTP/1.1|Host: h|Transfer-Encoding: chunked;q=1||0||"+evil, "501")
	f("POST / HTTP/1.1|Host: h|Transfer-Encoding: \"chunked\"||0||"+evil, "501")
	f("POST / HTTP/1.1|Host: h|Transfer-Encoding: ,chunked||0||"+evil, "501")
	f("POST / HTTP/1.1|Host: h|Transfer-Encoding:||0||"+evil, "400")
	f("POST / HTTP/1.1|Host: h|Transfer-Encoding: \x0bchunked||0||"+evil, "400")
	f("POST / HTTP/1.1|Host: h|Transfer-Encoding: chunked\x00||0||"+evil, "400")
	f("POST / HTTP/1.1|Host: h|Transfer-Encoding : chunked||0||"+evil, "400")
	f("POST / HTTP/1.1|Host: h|Transfer-Encoding\x00: chunked||0||"+evil, "400")
	f("POST / HTTP/1.0|Host: h|Transfer-Encoding: chunked||0||"+evil, "400")
	f("POST / HTTP/1.0|Host: h|Connection: keep-alive|Transfer-Encoding: chunked|Content-Length: 3||abc", "400")
	f("GET / HTTP/1.1|Host: h|TE: trailers||"+evil, "200 200", ok, "GET /evil h")

	// Chunks.
	const chunked = "POST / HTTP/1.1|Host: h|Transfer-Encoding: chunked||"
	const bad = "POST / h !malformed chunked body"
	for _, c := range []string{
		"|", "x|", "-1|a|0||", "+1|a|0||", "0x1|a|0||", " 1|a|0||", "1 |a|0||", "1\t|a|0||", "1 x|a|0||", "1,2|a|0||",
		"1\na\r\n0||", "1;\x00|a|0||", "1;a\rb|a|0||", "1;\n|a|0||", "fffffffffffffffff|a|0||", "8000000000000000|a|0||", "0000000000000001|a|0||",
		"0|X : y||", "0| x||", "0|X||", "0\n\n", "0|\n", "0|X: y\n|", "0|X: \x00||",
	} {
		f(chunked+c+evil, "400", bad)
	}
	f(chunked+"1|ab|0||"+evil, "400", "POST / h a !malformed chunked body")
	f(chunked+"1|a0||"+evil, "400", "POST / h a !malformed chunked body")
	f(chunked+"1|a\n0||"+evil, "400", "POST / h a !malformed chunked body")
	f(chunked+"2|a|0||"+evil, "400", "POST / h a\r !malformed chunked body")
	f(chunked+"5|abc", "400", "POST / h abc !unexpected EOF")
	f(chunked+"5|abcde|0|", "400", "POST / h abcde !unexpected EOF")
	f(chunked+"10001|a", "400", "POST / h !request body larger than max_payload_bytes")
	f(chunked+"1;"+strings.Repeat("x", 600)+"|a|0||", "400", bad)
	f(chunked+"0|"+strings.Repeat("X: y|", 4000)+"|", "400", bad)

	// Connection.
	f("GET / HTTP/1.1|Host: h|Connection: close||"+evil, "200", ok)
	f("GET / HTTP/1.1|Host: h|Connection: x , CLOSE||"+evil, "200", ok)
	f("GET / HTTP/1.1|Host: h|Connection: x|Connection: close||"+evil, "200", ok)
	f("GET / HTTP/1.1|Host: h|Connection: closed||"+evil, "200 200", ok, "GET /evil h")
	f("GET / HTTP/1.1|Host: h|Connection: upgrade|Upgrade: h2c||"+evil, "200 200", ok, "GET /evil h")
	f("GET / HTTP/1.0|Host: h||"+evil, "200", ok)
	f("GET / HTTP/1.0|Host: h|Connection: keep-alive||"+evil, "200 200", ok, "GET /evil h")

	// Expect.
	f("POST / HTTP/1.1|Host: h|Expect: 100-continue|Content-Length: 3||abc", "200", "POST / h abc")
	f("POST / HTTP/1.1|Host: h|Expect: 200-ok|Content-Length: 3||abc"+evil, "417")
	f("GET / HTTP/1.1|Host: h|Expect: 100-Continue||", "200", ok)

	// Nothing, or not enough.
	f("", "")
	f("|", "")
	f("GET / HTTP/1.1|Host: h|", "")
	f("GET", "")

	if cases < 120 {
		t.Errorf("%d cases, want 120 at least", cases)
	}
	t.Logf("%d cases", cases)
}
