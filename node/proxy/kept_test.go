package proxy

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"
)

// RFC 9110 §9.2.2, RFC 9112 §9.3.1: what happens when the origin closes without a
// byte of the answer, on a new connection and on one that answered before.
func TestRFC9112Section931Closed(t *testing.T) {
	closes := func(c net.Conn, _ *http.Request) { c.Close() }
	f := func(name, stored, method string, then func(c net.Conn, r *http.Request), asked int, want string) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.always(w.ok("ETag: \"e\"\nCache-Control: "+stored, "old"))
			w.get("/a") // leaves an idle connection
			w.pass(2 * time.Second)
			w.does(then)
			x := w.serve(w.request(method, "/a"))
			if got := fmt.Sprint(x.status, x.out.String()); got != want && !(len(want) == 3 && fmt.Sprint(x.status) == want) {
				t.Errorf("got %s, want %s", got, want)
			}
			if got := w.requests(); got != asked {
				t.Errorf("origin saw %d requests, want %d", got, asked)
			}
		})
	}
	f("kept", "no-store", "GET", closes, 3, "502")
	f("kept, OPTIONS", "no-store", "OPTIONS", closes, 3, "502")
	f("kept, DELETE", "no-store", "DELETE", closes, 3, "502")
	f("kept, POST", "no-store", "POST", closes, 2, "502")
	f("kept, to be validated", "max-age=1, must-revalidate", "GET", closes, 3, "504")
	f("kept, stale", "max-age=1", "GET", closes, 2, "200old") // see took

	w := newWorld(t)
	w.does(closes)
	w.serveStatus(502, "GET", "/a")
	if got := w.requests(); got != 1 {
		t.Errorf("a new connection that closes: %d requests, want 1", got)
	}
}

// An origin that closes an idle connection while a request is on its way has not
// failed: no stale answer stands in for one that the repeat brings, and the origin
// is none the worse for it.
func TestIdleCloseIsNoFailure(t *testing.T) {
	for _, stored := range []string{"max-age=1", "max-age=1, must-revalidate", "no-store"} {
		w := newWorld(t, func(o *Options) { o.Pools[0].RetryPercent, o.Pools[0].RetryBurst = -1, -1 })
		for range DefaultMaxFailures + 1 {
			w.does(func(c net.Conn, _ *http.Request) {
				io.WriteString(c, w.ok("Cache-Control: "+stored, "old"))
				w.always(w.ok("Cache-Control: no-store", "new"))
				c.Read(make([]byte, 1)) // the rest is not read: the system resets
				c.Close()
			})
			w.expect(w.get("/a"), 200, "old", "fwd=")
			w.pass(2 * time.Second)
			w.expect(w.get("/a"), 200, "new", "fwd=")
		}
		if state := w.p.Pools()[0].Origins[0]; state.State != "up" || w.p.m.originErrors.Get() != 0 {
			t.Errorf("%s: origin is %+v after %d errors", stored, state, w.p.m.originErrors.Get())
		}
	}
}
