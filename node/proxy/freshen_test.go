package proxy

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// headless cuts the body off an answer to HEAD.
func headless(r *http.Request, raw string) string {
	if r.Method == "HEAD" {
		return raw[:strings.Index(raw, "\r\n\r\n")+4]
	}
	return raw
}

// RFC 9111 §4.3.5: a HEAD renews what a GET stored, or shows that it is out of
// date. It goes to the origin as HEAD.
func TestRFC9111Section435Head(t *testing.T) { eachWay(t, testRFC9111Section435Head) }

func testRFC9111Section435Head(t *testing.T) {
	const old = "Cache-Control: max-age=1\nETag: \"a\"\nX-Old: kept\nX-New: no\nLast-Modified: Sun, 06 Nov 2022 08:49:37 GMT"
	f := func(name, head string, status, length int, want, next string) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.always(w.ok(old, "0123456789"))
			w.get("/a")
			w.pass(5 * time.Second)
			w.says(func(r *http.Request) string {
				if r.Method == "HEAD" {
					raw := headless(r, w.status(status, head, strings.Repeat("x", max(length, 0))))
					if length < 0 {
						raw = strings.Replace(raw, "Content-Length: 0\r\n", "Transfer-Encoding: chunked\r\n", 1)
					}
					return raw
				}
				return w.ok("Cache-Control: max-age=60", "new")
			})
			x := w.serve(w.request("HEAD", "/a"))
			if got := fmt.Sprint(x.status, " ", x.line("X-Old"), x.line("X-New"), " ", x.sized); got != want {
				t.Errorf("HEAD: got %q, want %q", got, want)
			}
			if got := w.lastRequest().Method; got != "HEAD" {
				t.Errorf("the origin saw %s", got)
			}
			x = w.get("/a")
			if got := fmt.Sprint(x.out.String(), " ", x.line("X-Old"), x.line("X-New")); got != next {
				t.Errorf("GET: got %q, want %q (%s)", got, next, x.cache())
			}
		})
	}
	const fresh = "Cache-Control: max-age=100\nX-New: yes\n"
	f("renews", fresh+"ETag: \"a\"", 200, 10, "200 yes 10", "0123456789 keptyes")
	f("no length", fresh+"ETag: \"a\"", 200, -1, "200 yes -1", "0123456789 keptyes")
	f("304", fresh+"ETag: \"a\"", 304, 0, "200 keptyes 10", "0123456789 keptyes")
	f("no validators", fresh+"X: y", 200, 10, "200 yes 10", "0123456789 keptyes")
	f("other tag", fresh+"ETag: \"b\"", 200, 10, "200 yes 10", "new ")
	f("other date", fresh+"ETag: \"a\"\nLast-Modified: Sun, 06 Nov 2022 08:49:38 GMT", 200, 10, "200 yes 10", "new ")
	f("other length", fresh+"ETag: \"a\"", 200, 11, "200 yes 11", "new ")
	f("gone", fresh+"X: y", 410, 10, "410 yes 10", "new ")
}

// What a request's own directive sent to the origin may show that a fresh answer
// is out of date.
func TestRFC9111Section435FreshBecomesStale(t *testing.T) {
	w := newWorld(t, site1(func(s *Site) { s.HonourRequestDirectives = []string{"no-cache"} }))
	w.says(func(r *http.Request) string {
		if r.Method == "HEAD" {
			return headless(r, w.ok("ETag: \"b\"", "1"))
		}
		return w.ok("Cache-Control: max-age=60\nETag: \"a\"", "old")
	})
	w.get("/a")
	w.expect(w.get("/a"), 200, "old", "hit")
	w.serve(w.request("HEAD", "/a", "Cache-Control: no-cache"))
	w.expect(w.get("/a"), 200, "old", "fwd=stale;fwd-status=200")
}

// RFC 9111 §3.2 and §4.3.4: what a 304 changes, for this client and the next.
func TestRFC9111Section32Update(t *testing.T) { eachWay(t, testRFC9111Section32Update) }

func testRFC9111Section32Update(t *testing.T) {
	w := newWorld(t)
	w.says(func(r *http.Request) string {
		if r.Header.Get("If-None-Match") == "" {
			return w.ok("Cache-Control: max-age=1\nETag: \"a\"\nVary: X-One\nContent-Type: text/a\nContent-Language: de\n"+
				"Content-Location: /old\nSet-Thing: 1\nSet-Thing: 2\nKept: k\nExpires: Sun, 06 Nov 2022 08:49:37 GMT", "hello")
		}
		return w.status(304, "Cache-Control: max-age=50\nETag: \"a\"\nVary: X-One, X-Two\nContent-Type: text/b\nContent-Language: fr\n"+
			"Content-Location: /new\nSet-Thing: 3\nContent-Length: 77\nContent-Range: bytes 0-0/77\nAge: 10\nConnection: X-Hop\nX-Hop: h\n"+
			"Keep-Alive: timeout=5\nProxy-Authenticate: Basic\nX-Empty:\nExpires: Sun, 06 Nov 2044 08:49:37 GMT", "")
	})
	w.get("/a", "X-One: 1")
	w.pass(2 * time.Second)
	check := func(x *exchange, cache, age string) {
		t.Helper()
		w.expect(x, 200, "hello", cache)
		want := map[string]string{
			"Cache-Control": "max-age=50", "Etag": `"a"`, "Vary": "X-One, X-Two", "Content-Type": "text/b", "Content-Language": "fr",
			"Content-Location": "/new", "Set-Thing": "3", "Kept": "k", "Content-Range": "", "X-Hop": "", "Keep-Alive": "",
			"Proxy-Authenticate": "", "Expires": "Sun, 06 Nov 2044 08:49:37 GMT", "Age": age,
		}
		for name, v := range want {
			if got := x.line(name); got != v {
				t.Errorf("%s = %q, want %q", name, got, v)
			}
		}
		if len(x.lines("X-Empty")) != 1 {
			t.Error("an empty field is missing")
		}
	}
	check(w.get("/a", "X-One: 1"), "fwd=stale;fwd-status=304", "10")
	check(w.get("/a", "X-One: 1"), "hit;ttl=40", "10")
	w.expect(w.get("/a", "X-One: 1", "X-Two: 2"), 200, "hello", "fwd=") // Vary is the new one
	if got := w.requests(); got != 3 {
		t.Errorf("origin saw %d requests, want 3", got)
	}
}

// RFC 9111 §4.3.4: which 304 is believed.
func TestRFC9111Section434Selects(t *testing.T) {
	const modified = "Last-Modified: Sun, 06 Nov 2022 08:49:37 GMT"
	f := func(name, stored, answer string, asked int) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.says(func(r *http.Request) string {
				if asksIfModified(r.Header) {
					return w.status(304, answer, "")
				}
				return w.ok("Cache-Control: max-age=1\n"+stored, "x")
			})
			w.get("/a")
			w.pass(2 * time.Second)
			w.expect(w.get("/a"), 200, "x", "fwd=stale")
			if got := w.requests(); got != asked {
				t.Errorf("origin saw %d requests, want %d", got, asked)
			}
		})
	}
	f("same tag", `ETag: "a"`, `ETag: "a"`, 2)
	f("weak tag", `ETag: "a"`, `ETag: W/"a"`, 2)
	f("unquoted tag", `ETag: a`, `ETag: a`, 2)
	f("no validator", `ETag: "a"`, "X: y", 2)
	f("other tag", `ETag: "a"`, `ETag: "b"`, 3)
	f("new tag, same date", modified, modified+"\nETag: \"b\"", 2)
	f("new tag, other date", modified, "Last-Modified: Sun, 06 Nov 2022 08:49:38 GMT\nETag: \"b\"", 3)
	f("new tag alone", modified, `ETag: "b"`, 3)
}

// RFC 9111 §5.2.2.2: no stale answer, and 504, when the origin cannot be asked.
func TestRFC9111Section5222MustRevalidate(t *testing.T) {
	for _, cc := range []string{"max-age=1, must-revalidate", "max-age=1, proxy-revalidate", "s-maxage=1"} {
		w := newWorld(t)
		w.always(w.ok("Cache-Control: "+cc+"\nETag: \"e\"", "old"))
		w.get("/a")
		w.pass(2 * time.Second)
		w.does(func(c net.Conn, _ *http.Request) { c.Close() })
		w.expect(w.get("/a"), 504, "504 Gateway Timeout: what is stored must be validated, and the origin could not be asked\n", "fwd=stale")
	}
}

// RFC 9110 §9.2.2 lets a request be repeated. Where a stored answer stands in for
// one that does not come, an origin that closes is not asked a second time, on no
// kind of connection.
func TestRFC9110Section922NotRepeatedWithStandIn(t *testing.T) {
	f := func(name, stored string, asked int, want string) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.always(w.ok("ETag: \"e\"\nCache-Control: "+stored, "old"))
			w.get("/a") // leaves an idle connection
			w.pass(2 * time.Second)
			w.does(func(c net.Conn, _ *http.Request) { c.Close() })
			if x := w.get("/a"); fmt.Sprint(x.status, x.out.String()) != want {
				t.Errorf("got %d %q, want %s", x.status, x.out.String(), want)
			}
			if got := w.requests(); got != asked {
				t.Errorf("origin saw %d requests, want %d", got, asked)
			}
		})
	}
	f("stands in", "max-age=1", 2, "200old")
	f("stale-if-error", "max-age=1, stale-if-error=60", 2, "200old")
}
