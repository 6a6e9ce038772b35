package proxy

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// RFC 9110 §9.3.3: what a POST is answered with may serve later GETs.
func TestRFC9110Section933Post(t *testing.T) { eachWay(t, testRFC9110Section933Post) }

func testRFC9110Section933Post(t *testing.T) {
	big := strings.Repeat("0123456789abcdef", 1<<16) + "!"
	f := func(name, answer, body string, chunked, served bool) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.says(func(r *http.Request) string {
				if r.Method != "POST" {
					return w.ok("", "got")
				}
				raw := w.ok(answer, body)
				if chunked {
					raw = strings.Replace(raw, fmt.Sprintf("Content-Length: %d\r\n", len(body)), "Transfer-Encoding: chunked\r\n", 1)
					raw = strings.TrimSuffix(raw, body) + fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(body), body)
				}
				return raw
			})
			x := w.request("POST", "/a", "Foo: 1")
			x.body, x.length = strings.NewReader("form"), 4
			if w.serve(x); x.out.String() != body {
				t.Errorf("POST: got %d bytes, want %d", x.out.Len(), len(body))
			}
			want := "got"
			if served {
				want = body
			}
			if x = w.get("/a", "Foo: 1"); x.out.String() != want {
				t.Errorf("GET: got %.20q (%s), served from the POST: want %v", x.out.String(), x.cache(), served)
			}
			if x = w.serve(w.request("POST", "/a")); x.out.String() != body {
				t.Error("the second POST did not reach the origin")
			}
		})
	}
	const fresh = "Cache-Control: max-age=60\n"
	f("explicit", fresh+"Content-Location: /a", "posted", false, true)
	f("absolute", fresh+"Content-Location: http://SHOP.example:80/a", "posted", false, true)
	f("chunked", fresh+"Content-Location: /a", "posted", true, true)
	f("chunked and large", fresh+"Content-Location: /a", big, true, false)
	f("vary", fresh+"Content-Location: /a\nVary: Foo", "posted", false, true)
	f("no location", fresh+"X: y", "posted", false, false)
	f("other location", fresh+"Content-Location: /b", "posted", false, false)
	f("other origin", fresh+"Content-Location: http://other.example/a", "posted", false, false)
	f("two locations", fresh+"Content-Location: /a\nContent-Location: /a", "posted", false, false)
	f("heuristic", "Last-Modified: Sun, 06 Nov 2022 08:49:37 GMT\nContent-Location: /a", "posted", false, false)
	f("stale", "Cache-Control: max-age=0\nContent-Location: /a", "posted", false, false)
	f("private", "Cache-Control: max-age=60, private\nContent-Location: /a", "posted", false, false)
	f("no-store", "Cache-Control: max-age=60, no-store\nContent-Location: /a", "posted", false, false)
}

// RFC 9111 §2, RFC 9110 §9.2.3: other methods are neither stored nor answered
// from the store.
func TestRFC9110Section923Methods(t *testing.T) { eachWay(t, testRFC9110Section923Methods) }

func testRFC9110Section923Methods(t *testing.T) {
	for _, method := range []string{"PUT", "DELETE", "PATCH", "OPTIONS", "PROPFIND", "M-SEARCH", "get", "QUERY", "FOO"} {
		w := newWorld(t)
		w.says(func(r *http.Request) string {
			return w.ok("Cache-Control: max-age=60\nETag: \"e\"", "by "+r.Method)
		})
		w.expect(w.serve(w.request(method, "/a")), 200, "by "+method, "fwd=method")
		w.expect(w.serve(w.request(method, "/a")), 200, "by "+method, "fwd=method")
		w.expect(w.get("/a"), 200, "by GET", "fwd=uri-miss")
		w.expect(w.serve(w.request(method, "/a", `If-None-Match: "e"`)), 200, "by "+method, "fwd=method")
		cache := "fwd=uri-miss"
		if method == "OPTIONS" { // safe
			cache = "hit"
		}
		w.expect(w.get("/a"), 200, "by GET", cache)
	}
}
