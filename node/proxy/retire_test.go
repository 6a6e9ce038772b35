package proxy

import (
	"fmt"
	"net"
	"net/http"
	"testing"
	"time"
)

// RFC 9111 §4.3.3: a whole answer says that what is stored is not suitable. If it
// is not stored itself, the old one is not used any more, nor stands in.
func TestRFC9111Section433Retired(t *testing.T) { eachWay(t, testRFC9111Section433Retired) }

func testRFC9111Section433Retired(t *testing.T) {
	const tag = "ETag: \"a\"\n"
	f := func(name, stored string, status int, lines, then string) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.says(func(r *http.Request) string { return w.ok("Cache-Control: max-age=1\nVary: X-V\n"+tag+stored, "old") })
			w.get("/a")
			w.get("/a", "X-V: other")
			w.pass(2 * time.Second)
			w.says(func(*http.Request) string { return w.status(status, lines, "new") })
			w.get("/a")
			w.does(func(c net.Conn, _ *http.Request) { c.Close() })
			x := w.get("/a")
			if got := fmt.Sprint(x.status, " ", x.out.String()); got != then && !(then == "gone" && x.status == 502) {
				t.Errorf("got %q, want %q (%s)", got, then, x.cache())
			}
			w.expect(w.get("/a", "X-V: other"), 200, "old", "fwd=stale") // another variant is not concerned
		})
	}
	f("no-store", "X: y", 200, "Cache-Control: no-store", "gone")
	f("private", "X: y", 200, "Cache-Control: private", "gone")
	f("without freshness", "X: y", 200, "X: y", "gone")
	f("never of use", "X: y", 200, "Cache-Control: max-age=0, must-revalidate", "gone")
	f("vary star", "X: y", 200, "Cache-Control: max-age=60\nVary: *", "gone")
	f("redirect", "X: y", 302, "Location: /b", "gone")
	f("404", "X: y", 404, "X: y", "gone")
	f("410", "X: y", 410, "Cache-Control: no-store", "gone")
	f("304 private", "X: y", 304, tag+"Cache-Control: private", "gone")
	f("304 no-store", "X: y", 304, tag+"Cache-Control: no-store", "gone")
	f("304 of another visitor", "X: y", 304, tag+"Set-Cookie: a=b", "200 old")
	f("304 for browsers", "CDN-Cache-Control: max-age=1", 304, tag+"Cache-Control: private", "200 old")
	f("for this visitor", "X: y", 200, "Cache-Control: max-age=60\nSet-Cookie: a=b", "200 old")
	f("refused", "X: y", 403, "X: y", "200 old")
	f("500", "X: y", 500, "X: y", "200 old")
}

// What a background refresh brings retires too; what came later stays.
func TestRetiredBehind(t *testing.T) {
	w := newWorld(t)
	w.always(w.ok("Cache-Control: max-age=1, stale-while-revalidate=60", "old"))
	w.get("/a")
	w.pass(2 * time.Second)
	w.always(w.ok("Cache-Control: no-store", "new"))
	w.expect(w.get("/a"), 200, "old", "hit")
	w.p.tasks.Wait()
	w.expect(w.get("/a"), 200, "new", "fwd=uri-miss;fwd-status=200;detail=no-store")
	w.always(w.ok("Cache-Control: max-age=60", "newer"))
	w.expect(w.get("/a"), 200, "newer", "fwd=uri-miss;fwd-status=200;stored")
	w.expect(w.get("/a"), 200, "newer", "hit")
}
