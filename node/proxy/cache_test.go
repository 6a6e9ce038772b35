package proxy

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// RFC 9111 §3 and §1 of the contract: what is stored, and never stored.
func TestRFC9111Section3Storing(t *testing.T) { eachWay(t, testRFC9111Section3Storing) }

func testRFC9111Section3Storing(t *testing.T) {
	f := func(name, request, answer string, status int, reused bool, change ...func(o *Options)) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, change...)
			w.says(func(*http.Request) string { return w.status(status, answer, "body") })
			var lines []string
			if request != "" {
				lines = []string{request}
			}
			w.get("/a", lines...)
			w.pass(time.Second)
			w.get("/a")
			if got := w.requests() == 1; got != reused {
				t.Errorf("reused = %v, want %v", got, reused)
			}
		})
	}
	f("max-age", "", "Cache-Control: max-age=60", 200, true)
	f("unknown status with freshness", "", "Cache-Control: max-age=60", 299, true)
	f("500 with freshness", "", "Cache-Control: max-age=60", 500, true)
	f("nothing", "", "X-A: b", 200, false)
	f("private", "", "Cache-Control: max-age=60, private", 200, false)
	f("PRIVATE", "", "Cache-Control: max-age=60\nCache-Control: PRIVATE", 200, false)
	f("no-store", "", "Cache-Control: No-Store, max-age=60", 200, false)
	f("no-store in quotes is opaque", "", `Cache-Control: max-age=60, x="no-store"`, 200, true)
	f("unclosed quote", "", `Cache-Control: max-age=60, x="private`, 200, false)
	f("authorization", "Authorization: Basic x", "Cache-Control: max-age=60", 200, false)
	f("authorization public", "Authorization: Basic x", "Cache-Control: max-age=60, public", 200, true)
	f("authorization must-revalidate", "Authorization: Basic x", "Cache-Control: max-age=60, must-revalidate", 200, true)
	f("authorization s-maxage", "Authorization: Basic x", "Cache-Control: s-maxage=60", 200, true)
	f("vary star", "", "Cache-Control: max-age=60\nVary: a, *", 200, false)
	f("vary star line", "", "Cache-Control: max-age=60\nVary: a\nVary: *", 200, false)
	f("cookie strict", "", "Cache-Control: max-age=60\nSet-Cookie: a=b", 200, false)
	f("cookie strict public", "", "Cache-Control: max-age=60, public\nSet-Cookie: a=b", 200, true)
	f("cookie strict targeted", "", "CDN-Cache-Control: max-age=60\nSet-Cookie: a=b", 200, true)
	f("cookie rfc", "", "Cache-Control: max-age=60\nSet-Cookie: a=b", 200, true, site1(func(s *Site) { s.SetCookie = CookieRFC }))
	f("cookie never", "", "Cache-Control: max-age=60, public\nSet-Cookie: a=b", 200, false, site1(func(s *Site) { s.SetCookie = CookieNever }))
	f("request cookie does not bypass", "Cookie: a=b", "Cache-Control: max-age=60", 200, true)
	f("must-understand known", "", "Cache-Control: max-age=60, no-store, must-understand", 200, true)
	f("must-understand unknown", "", "Cache-Control: max-age=60, must-understand", 299, false)
	f("default lifetime", "", "X-A: b", 404, true, site1(func(s *Site) {
		s.DefaultLifetime = func(status int) (time.Duration, bool) { return time.Minute, status == 404 }
	}))
	f("s-maxage wins", "", "Cache-Control: max-age=60, s-maxage=0", 200, false)
	f("max-age beats expires", "", "Cache-Control: max-age=60\nExpires: 0", 200, true)
	f("expires", "", "Expires: Sun, 06 Nov 2044 09:49:37 GMT", 200, true)
	f("expires bad", "", "Expires: Sun, 06 Nov 2044 09:49:37 UTC", 200, false)
	f("expires equal to date", "", "Expires: Sun, 06 Nov 2044 08:49:37 GMT", 200, false)
	f("heuristic", "", "Last-Modified: Sun, 06 Nov 2022 08:49:37 GMT", 200, true)
	f("heuristic not for 201", "", "Last-Modified: Sun, 06 Nov 2022 08:49:37 GMT", 201, false)
	f("heuristic 201 public", "", "Cache-Control: public\nLast-Modified: Sun, 06 Nov 2022 08:49:37 GMT", 201, true)
	f("age takes lifetime", "", "Cache-Control: max-age=60\nAge: 60", 200, false)
	f("age garbage", "", "Cache-Control: max-age=60\nAge: abc", 200, true)
	f("age first member", "", "Cache-Control: max-age=60\nAge: 0, 70", 200, true)
	f("negative", "", "Cache-Control: max-age=-60", 200, false)
	f("fraction", "", "Cache-Control: max-age=60.5", 200, false)
	f("single quotes", "", "Cache-Control: max-age='60'", 200, false)
	f("quoted", "", `Cache-Control: max-age="60"`, 200, true)
	f("leading zeros", "", "Cache-Control: max-age=0060", 200, true)
	f("huge", "", "Cache-Control: max-age=99999999999999999999", 200, true)
	f("targeted replaces", "", "Cache-Control: no-store\nCDN-Cache-Control: max-age=60", 200, true)
	f("targeted shortens", "", "Cache-Control: max-age=60\nCDN-Cache-Control: max-age=0", 200, false)
	f("targeted invalid is ignored", "", "Cache-Control: max-age=60\nCDN-Cache-Control: max-age=0, {", 200, true)
	f("targeted order", "", "Edgenode-Cache-Control: max-age=60\nCDN-Cache-Control: no-store", 200, true)
	f("204", "", "Cache-Control: max-age=60", 204, true)
}

// RFC 9111 §3.1: fields of the connection, and withheld ones, are not stored.
func TestRFC9111Section31Fields(t *testing.T) { eachWay(t, testRFC9111Section31Fields) }

func testRFC9111Section31Fields(t *testing.T) {
	w := newWorld(t)
	w.always(w.ok("Cache-Control: max-age=60, no-cache=\"X-Once\", private=\"x-mine\"\nConnection: X-Hop, keep-alive\nX-Hop: 1\nKeep-Alive: timeout=5\nX-Once: o\nX-Mine: m\nX-Keep:   spaced  value \nSurrogate-Key: k1 k2\nCache-Status: up;hit", "b"))
	first := w.get("/a")
	if got, want := first.line("X-Mine"), "m"; got != want {
		t.Errorf("first X-Mine = %q, want %q", got, want)
	}
	second := w.get("/a")
	w.expect(second, 200, "b", "hit")
	for _, x := range []*exchange{first, second} {
		for _, name := range []string{"X-Hop", "Connection", "Keep-Alive", "Surrogate-Key"} {
			if got := x.line(name); got != "" {
				t.Errorf("%s = %q, want none", name, got)
			}
		}
		if got, want := x.line("X-Keep"), "spaced  value"; got != want {
			t.Errorf("X-Keep = %q, want %q", got, want)
		}
		if got, want := x.line("Via"), "1.1 edgenode"; got != want {
			t.Errorf("Via = %q, want %q", got, want)
		}
		if got := x.lines("Cache-Status"); len(got) != 2 || got[0] != "up;hit" {
			t.Errorf("Cache-Status = %q", got)
		}
	}
	if got := second.line("X-Mine") + second.line("X-Once"); got != "" {
		t.Errorf("withheld fields were stored: %q", got)
	}
}

// RFC 9110 §7.6.1, RFC 9111 §5.4: what net/http does to a header is undone.
func TestRFC9110Section761Connection(t *testing.T) { eachWay(t, testRFC9110Section761Connection) }

func testRFC9110Section761Connection(t *testing.T) {
	w := newWorld(t)
	w.always(w.ok("Cache-Control: max-age=60\nConnection: X-Hop, close\nconnection: x-other\nX-Hop: 1\nX-Other: 2\nX-End: 3", "x"))
	for range 2 {
		x := w.get("/a")
		if got := x.line("X-Hop") + x.line("X-Other") + x.line("X-End"); got != "3" {
			t.Errorf("fields %q, want that of X-End only", got)
		}
	}
	w.always(w.ok("Pragma: no-cache\nExpires: "+at(60), "x"))
	for _, cache := range []string{"fwd=uri-miss", "hit"} {
		x := w.get("/b")
		if w.expect(x, 200, "x", cache); len(x.lines("Cache-Control")) != 0 || x.line("Pragma") != "no-cache" {
			t.Errorf("Cache-Control %q, Pragma %q", x.lines("Cache-Control"), x.line("Pragma"))
		}
	}
	w.always(w.ok("Pragma: no-cache\nCache-Control: no-cache\nExpires: "+at(60), "x"))
	w.get("/c")
	w.expect(w.get("/c"), 200, "x", "fwd=")
}

// RFC 9111 §4.1.
func TestRFC9111Section41Vary(t *testing.T) { eachWay(t, testRFC9111Section41Vary) }

func testRFC9111Section41Vary(t *testing.T) {
	w := newWorld(t)
	w.says(func(r *http.Request) string {
		return w.ok("Cache-Control: max-age=60\nVary: Foo\nVary: accept-language", r.Header.Get("Foo")+"/"+r.Header.Get("Accept-Language"))
	})
	f := func(cache, body string, lines ...string) {
		t.Helper()
		w.expect(w.get("/a", lines...), 200, body, cache)
	}
	f("fwd=uri-miss", "1/", "Foo: 1")
	f("hit", "1/", "Foo:   1  ")
	f("fwd=vary-miss", "2/", "Foo: 2")
	f("fwd=vary-miss", "/")
	f("hit", "/")
	f("fwd=vary-miss", "/", "Foo:") // empty is not absent
	f("hit", "1/", "Foo: 1")
	f("fwd=vary-miss", "1,2/", "Foo: 1,2")
	f("hit", "1,2/", "Foo: 1", "Foo: 2")
	f("fwd=vary-miss", "1/de, en;q=0.5", "Foo: 1", "Accept-Language: de, en;q=0.5")
	f("hit", "1/de, en;q=0.5", "Foo: 1", "Accept-Language: en;q=0.50,DE")
	p, values, err := w.p.PurgeURL("http://shop.example/a")
	w.purge(p, values, err)
	f("fwd=uri-miss", "1/", "Foo: 1")
	f("fwd=vary-miss", "2/", "Foo: 2")
}

func TestAcceptEncodingIsNormalised(t *testing.T) { eachWay(t, testAcceptEncodingIsNormalised) }

func testAcceptEncodingIsNormalised(t *testing.T) {
	w := newWorld(t)
	w.says(func(r *http.Request) string {
		return w.ok("Cache-Control: max-age=60\nVary: Accept-Encoding", r.Header.Get("Accept-Encoding"))
	})
	w.expect(w.get("/a", "Accept-Encoding: gzip, deflate, br"), 200, "br, gzip", "fwd=uri-miss")
	w.expect(w.get("/a", "Accept-Encoding: BR;q=0.5,x-gzip"), 200, "br, gzip", "hit")
	w.expect(w.get("/a", "Accept-Encoding: gzip;q=0, identity"), 200, "identity", "fwd=vary-miss")
	w.expect(w.get("/a", "Accept-Encoding: *"), 200, "zstd, br, gzip", "fwd=vary-miss")
	w.expect(w.get("/a", "Accept-Encoding: gzip, identity;q=0"), 200, "gzip, identity;q=0", "fwd=vary-miss")
}

// The least recently used variant leaves.
func TestVariantsAreCapped(t *testing.T) {
	w := newWorld(t, site1(func(s *Site) { s.VariantsMax = 20 }))
	w.says(func(r *http.Request) string {
		return w.ok("Cache-Control: max-age=600\nVary: Foo", r.Header.Get("Foo"))
	})
	for i := range 20 {
		w.get("/a", fmt.Sprintf("Foo: %d", i))
		w.pass(time.Second)
	}
	w.expect(w.get("/a", "Foo: 0"), 200, "0", "hit")
	w.get("/a", "Foo: new")
	w.expect(w.get("/a", "Foo: 0"), 200, "0", "hit")
	w.expect(w.get("/a", "Foo: new"), 200, "new", "hit")
	w.expect(w.get("/a", "Foo: 19"), 200, "19", "hit")
	w.expect(w.get("/a", "Foo: 1"), 200, "1", "fwd=vary-miss")
}

// RFC 9111 §4.3: validation of what is stale.
func TestRFC9111Section43Validation(t *testing.T) { eachWay(t, testRFC9111Section43Validation) }

func testRFC9111Section43Validation(t *testing.T) {
	w := newWorld(t)
	w.says(func(r *http.Request) string {
		if r.Header.Get("If-None-Match") == `"v1"` && r.Header.Get("If-Modified-Since") != "" {
			return w.status(304, "Cache-Control: max-age=100\nETag: \"v1\"\nX-New: yes\nContent-Length: 999", "")
		}
		return w.ok("Cache-Control: max-age=60\nETag: \"v1\"\nLast-Modified: Sun, 06 Nov 2022 08:49:37 GMT\nX-Old: kept\nX-New: no", "hello")
	})
	w.get("/a")
	w.pass(61 * time.Second)
	x := w.get("/a")
	w.expect(x, 200, "hello", "fwd=stale;fwd-status=304;ttl=100;stored")
	if got, want := x.line("X-New")+x.line("X-Old")+x.line("Age"), "yeskept0"; got != want {
		t.Errorf("fields after 304 = %q, want %q", got, want)
	}
	w.pass(99 * time.Second)
	x = w.get("/a")
	w.expect(x, 200, "hello", "hit;ttl=1")
	if got, want := x.line("X-New"), "yes"; got != want {
		t.Errorf("X-New of the next client = %q, want %q", got, want)
	}
	if got, want := w.requests(), 2; got != want {
		t.Errorf("origin saw %d requests, want %d", got, want)
	}
}

// A 304 about something else is not believed.
func TestRFC9111Section433OtherValidator(t *testing.T) {
	eachWay(t, testRFC9111Section433OtherValidator)
}

func testRFC9111Section433OtherValidator(t *testing.T) {
	w := newWorld(t)
	n := 0
	w.says(func(r *http.Request) string {
		n++
		if r.Header.Get("If-None-Match") != "" {
			return w.status(304, `ETag: "other"`, "")
		}
		return w.ok(fmt.Sprintf("Cache-Control: max-age=60\nETag: \"v%d\"", n), fmt.Sprint("body", n))
	})
	w.get("/a")
	w.pass(61 * time.Second)
	w.expect(w.get("/a"), 200, "body3", "fwd=stale;fwd-status=200")
}

func TestNoCacheIsAlwaysValidated(t *testing.T) { eachWay(t, testNoCacheIsAlwaysValidated) }

func testNoCacheIsAlwaysValidated(t *testing.T) {
	w := newWorld(t)
	w.says(func(r *http.Request) string {
		if r.Header.Get("If-None-Match") != "" {
			return w.status(304, "Cache-Control: no-cache", "")
		}
		return w.ok("Cache-Control: no-cache, max-age=60\nETag: \"a\"", "x")
	})
	w.get("/a")
	w.expect(w.get("/a"), 200, "x", "fwd=stale;fwd-status=304")
	w.expect(w.get("/a"), 200, "x", "fwd=stale;fwd-status=304")
}

// RFC 9110 §13 and §14 from the store, cold and warm.
func TestRFC9110ConditionalsAndRanges(t *testing.T) { eachWay(t, testRFC9110ConditionalsAndRanges) }

func testRFC9110ConditionalsAndRanges(t *testing.T) {
	w := newWorld(t)
	const modified = "Sun, 06 Nov 2022 08:49:37 GMT"
	w.always(w.ok("Cache-Control: max-age=600\nETag: \"e\"\nLast-Modified: "+modified+"\nContent-Type: text/plain", "0123456789"))
	f := func(status int, body string, lines ...string) *exchange {
		t.Helper()
		x := w.get("/a", lines...)
		if x.status != status || x.out.String() != body {
			t.Errorf("%v: got %d %q, want %d %q", lines, x.status, x.out.String(), status, body)
		}
		return x
	}
	f(304, "", `If-None-Match: "e"`) // cold: fetched whole, answered 304
	if got := w.lastRequest().Header.Get("If-None-Match"); got != "" {
		t.Errorf("the client's If-None-Match went upstream: %q", got)
	}
	x := f(304, "", `If-None-Match: "x", W/"e"`)
	if x.line("ETag") != `"e"` || x.line("Date") == "" || x.line("Cache-Control") == "" || x.line("Content-Type") != "" {
		t.Errorf("fields of the 304: %q", x.head.String())
	}
	f(304, "", "If-None-Match: *")
	f(200, "0123456789", `If-None-Match: "x"`, "If-Modified-Since: "+modified) // beats the date
	f(304, "", "If-Modified-Since: "+modified)
	f(304, "", "If-Modified-Since: Monday, 07-Nov-22 08:49:37 GMT")
	f(200, "0123456789", "If-Modified-Since: Sat, 05 Nov 2022 08:49:37 GMT")
	f(200, "0123456789", "If-Modified-Since: rubbish")
	f(412, "", `If-Match: "x"`)
	f(412, "", `If-Match: W/"e"`)
	f(200, "0123456789", `If-Match: "x", "e"`)
	f(412, "", "If-Unmodified-Since: Sat, 05 Nov 2022 08:49:37 GMT")
	f(206, "234", "Range: bytes=2-4")
	f(206, "789", "Range: bytes=7-")
	f(206, "89", "Range: bytes=-2")
	f(206, "0123456789", "Range: bytes=-200")
	x = f(206, "9", "Range: bytes=9-100", `If-Range: "e"`)
	if got, want := x.line("Content-Range"), "bytes 9-9/10"; got != want {
		t.Errorf("Content-Range = %q, want %q", got, want)
	}
	f(200, "0123456789", "Range: bytes=2-4", `If-Range: "x"`)
	f(200, "0123456789", "Range: bytes=2-4", `If-Range: W/"e"`)
	f(206, "234", "Range: bytes=2-4", "If-Range: "+modified)
	f(200, "0123456789", "Range: bytes=4-2")
	f(200, "0123456789", "Range: lines=1-2")
	if got, want := f(416, "", "Range: bytes=10-").line("Content-Range"), "bytes */10"; got != want {
		t.Errorf("Content-Range = %q, want %q", got, want)
	}
	x = w.get("/a", "Range: bytes=0-1,-1")
	kind, boundary, _ := strings.Cut(x.line("Content-Type"), "; boundary=")
	want := strings.ReplaceAll("\r\n--B\r\nContent-Type: text/plain\r\nContent-Range: bytes 0-1/10\r\n\r\n01"+
		"\r\n--B\r\nContent-Type: text/plain\r\nContent-Range: bytes 9-9/10\r\n\r\n9\r\n--B--\r\n", "--B", "--"+boundary)
	w.expect(x, 206, want, "hit")
	if kind != "multipart/byteranges" || boundary == "" {
		t.Errorf("Content-Type = %q, want multipart/byteranges with a boundary", x.line("Content-Type"))
	}
	f(200, "0123456789", "Range: bytes="+strings.Repeat("0-0,", 16)+"1-1")
	if got, want := w.requests(), 1; got != want {
		t.Errorf("origin saw %d requests, want %d", got, want)
	}
}

// RFC 9111 §3.3: a part is never stored as the whole.
func TestRFC9111Section33Partial(t *testing.T) { eachWay(t, testRFC9111Section33Partial) }

func testRFC9111Section33Partial(t *testing.T) {
	w := newWorld(t)
	w.says(func(r *http.Request) string {
		if r.Header.Get("Range") != "" {
			return w.status(206, "Cache-Control: max-age=60\nContent-Range: bytes 0-1/10", "01")
		}
		return w.ok("Cache-Control: max-age=60", "0123456789")
	})
	w.expect(w.get("/a", "Range: bytes=0-1"), 206, "01", "fwd=uri-miss;fwd-status=206")
	w.expect(w.get("/a", "Range: bytes=0-1"), 206, "01", "hit")
	w.expect(w.get("/a"), 200, "0123456789", "fwd=partial;fwd-status=200")
	w.expect(w.get("/a", "Range: bytes=0-2"), 206, "012", "hit")
}

func TestHeadFromStoredGet(t *testing.T) { eachWay(t, testHeadFromStoredGet) }

func testHeadFromStoredGet(t *testing.T) {
	w := newWorld(t)
	w.says(func(r *http.Request) string {
		raw := w.ok("Cache-Control: max-age=60", "0123456789")
		if r.Method == "HEAD" {
			return strings.TrimSuffix(raw, "0123456789")
		}
		return raw
	})
	x := w.serve(w.request("HEAD", "/a"))
	w.expect(x, 200, "", "fwd=uri-miss;fwd-status=200")
	if x.sized != 10 || w.lastRequest().Method != "HEAD" {
		t.Errorf("HEAD miss: length %d, origin saw %s", x.sized, w.lastRequest().Method)
	}
	w.get("/a")
	x = w.serve(w.request("HEAD", "/a"))
	w.expect(x, 200, "", "hit")
	if x.sized != 10 {
		t.Errorf("HEAD hit announces %d, want 10", x.sized)
	}
}

// RFC 5861 and RFC 9111 §4.2.4.
func TestStaleOnError(t *testing.T) { eachWay(t, testStaleOnError) }

func testStaleOnError(t *testing.T) {
	down := func(c net.Conn, _ *http.Request) { c.Close() }
	f := func(name, answer string, after time.Duration, fail func(w *world), want string, change ...func(o *Options)) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, change...)
			w.always(w.ok(answer, "old"))
			w.get("/a")
			w.pass(after)
			fail(w)
			x := w.get("/a")
			if got := fmt.Sprint(x.status, x.out.String()); !strings.HasPrefix(got, want) {
				t.Errorf("got %q, want %q (%s)", got, want, x.cache())
			}
		})
	}
	closed := func(w *world) { w.does(down) }
	truncated := func(w *world) {
		w.does(func(c net.Conn, _ *http.Request) {
			io.WriteString(c, "HTTP/1.1 200 OK\r\nCache-Control: max-age=1\r\nContent-Length: 10\r\n\r\nnew")
			c.Close()
		})
	}
	five := func(w *world) { w.always(w.status(503, "", "sorry")) }
	minute := time.Minute
	f("closed", "Cache-Control: max-age=1", minute, closed, "200old")
	f("truncated", "Cache-Control: max-age=1", minute, truncated, "200old")
	f("5xx needs leave", "Cache-Control: max-age=1", minute, five, "503sorry")
	f("5xx stale-if-error", "Cache-Control: max-age=1, stale-if-error=100", minute, five, "200old")
	f("5xx past stale-if-error", "Cache-Control: max-age=1, stale-if-error=10", minute, five, "503sorry")
	f("5xx by site", "Cache-Control: max-age=1", minute, five, "200old", site1(func(s *Site) { s.StaleOn5xx = true }))
	f("past an hour", "Cache-Control: max-age=1\nETag: \"e\"", time.Hour+2*time.Second, closed, "502")
	f("must-revalidate", "Cache-Control: max-age=1, must-revalidate\nETag: \"e\"", minute, closed, "504")
	f("proxy-revalidate", "Cache-Control: max-age=1, proxy-revalidate\nETag: \"e\"", minute, closed, "504")
	f("s-maxage", "Cache-Control: s-maxage=1\nETag: \"e\"", minute, closed, "504")
	f("no-cache", "Cache-Control: no-cache, max-age=1\nETag: \"e\"", minute, closed, "502")
}

// RFC 5861 §3: served at once, one refresh, never past the window.
func TestStaleWhileRevalidate(t *testing.T) { eachWay(t, testStaleWhileRevalidate) }

func testStaleWhileRevalidate(t *testing.T) {
	w := newWorld(t)
	release := make(chan struct{})
	w.always(w.ok("Cache-Control: max-age=10, stale-while-revalidate=20", "old"))
	w.get("/a")
	w.pass(15 * time.Second)
	w.does(func(c net.Conn, _ *http.Request) {
		<-release
		io.WriteString(c, w.ok("Cache-Control: max-age=10, stale-while-revalidate=20", "new"))
	})
	w.expect(w.get("/a"), 200, "old", "hit;ttl=-5")
	w.expect(w.get("/a"), 200, "old", "hit;ttl=-5")
	close(release)
	w.p.tasks.Wait()
	w.expect(w.get("/a"), 200, "new", "hit;ttl=10")
	if got, want := w.requests(), 2; got != want {
		t.Errorf("origin saw %d requests, want %d", got, want)
	}
	w.pass(31 * time.Second)
	w.expect(w.get("/a"), 200, "new", "fwd=stale")
}

func TestOnlyIfCached(t *testing.T) { eachWay(t, testOnlyIfCached) }

func testOnlyIfCached(t *testing.T) {
	w := newWorld(t)
	w.always(w.ok("Cache-Control: max-age=10", "x"))
	w.serveStatus(504, "GET", "/a", "Cache-Control: only-if-cached")
	w.get("/a")
	w.serveStatus(200, "GET", "/a", "Cache-Control: only-if-cached")
	if got, want := w.requests(), 1; got != want {
		t.Errorf("origin saw %d requests, want %d", got, want)
	}
}

func TestRequestDirectives(t *testing.T) { eachWay(t, testRequestDirectives) }

func testRequestDirectives(t *testing.T) {
	w := newWorld(t)
	w.always(w.ok("Cache-Control: max-age=10", "x"))
	w.get("/a")
	w.expect(w.get("/a", "Cache-Control: no-cache"), 200, "x", "hit")
	w = newWorld(t, site1(func(s *Site) { s.HonourRequestDirectives = []string{"no-cache", "max-age", "max-stale", "min-fresh"} }))
	w.says(func(*http.Request) string { return w.ok("Cache-Control: max-age=10", "x") })
	w.get("/a")
	w.pass(5 * time.Second)
	w.expect(w.get("/a", "Cache-Control: max-age=6"), 200, "x", "hit")
	w.expect(w.get("/a", "Cache-Control: max-age=4"), 200, "x", "fwd=request")
	w.expect(w.get("/a", "Cache-Control: no-cache"), 200, "x", "fwd=request")
	w.expect(w.get("/a", "Cache-Control: min-fresh=11"), 200, "x", "fwd=request")
	w.expect(w.get("/a", "Pragma: no-cache"), 200, "x", "fwd=request")
	w.expect(w.get("/a", "Pragma: no-cache", "Cache-Control: x"), 200, "x", "hit") // RFC 9111 §5.4
	w.pass(15 * time.Second)
	w.expect(w.get("/a", "Cache-Control: max-stale=10"), 200, "x", "hit;ttl=-5")
}

func (w *world) serveStatus(status int, method, target string, lines ...string) *exchange {
	w.Helper()
	x := w.serve(w.request(method, target, lines...))
	if x.status != status {
		w.Errorf("%s %s: status %d, want %d", method, target, x.status, status)
	}
	return x
}
