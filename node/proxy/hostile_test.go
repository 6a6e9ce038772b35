package proxy

import (
	"testing"
	"time"
)

// A bug met on a flight's goroutine costs its request, not the process; nobody
// waits for ever, and the next request is served.
func TestPanicOfAFetch(t *testing.T) {
	bad := true
	w := newWorld(t, policy(rules{ttl: func(*TTLInput, *TTLDecision) {
		if bad {
			panic("bug")
		}
	}}))
	w.always(w.ok("Cache-Control: max-age=60\nETag: \"e\"", "x"))
	w.serveStatus(500, "GET", "/a")
	w.p.tasks.Wait()
	bad = false
	w.expect(w.get("/a"), 200, "x", "fwd=uri-miss")
	w.pass(2 * time.Minute)
	bad = true
	w.always(w.status(304, "", ""))
	if got := w.get("/a").status; got != 500 && got != 200 {
		t.Errorf("a 304: got %d, want 500, or 200 if the old answer stands in", got)
	}
	w.p.tasks.Wait()
	if bytes, open := w.p.fillBytes.Load(), w.p.table.Load().pools["main"].origins[0].inFlight.Load(); bytes != 0 || open != 0 {
		t.Errorf("%d fill bytes and %d answers left", bytes, open)
	}
}

// A bug met while the client's body is read for the origin costs that request.
func TestPanicOfABody(t *testing.T) {
	w := newWorld(t)
	w.always(w.ok("", "x"))
	x := w.request("POST", "/a")
	x.body, x.length = panicking{}, 10
	w.serve(x)
	if x.status < 400 {
		t.Errorf("got %d, want an error", x.status)
	}
}

type panicking struct{}

func (panicking) Read([]byte) (int, error) { panic("bug") }
