package proxy

import (
	"net/http"
	"testing"
	"time"
)

func TestStoreReuseExpire(t *testing.T) { eachWay(t, testStoreReuseExpire) }

func testStoreReuseExpire(t *testing.T) {
	w := newWorld(t)
	w.says(func(*http.Request) string { return w.ok("Cache-Control: max-age=60\nX-Two: a\nX-Two: b", "hello") })
	w.expect(w.get("/a"), 200, "hello", "fwd=uri-miss;fwd-status=200;stored")
	w.pass(10 * time.Second)
	x := w.get("/a")
	w.expect(x, 200, "hello", "hit;ttl=50;detail=l")
	if got, want := x.line("Age"), "10"; got != want {
		t.Errorf("Age = %q, want %q", got, want)
	}
	if got, want := x.line("X-Two"), "a | b"; got != want {
		t.Errorf("X-Two = %q, want %q", got, want)
	}
	w.pass(50 * time.Second)
	w.expect(w.get("/a"), 200, "hello", "fwd=stale;fwd-status=200;stored")
	if got, want := w.requests(), 2; got != want {
		t.Errorf("origin saw %d requests, want %d", got, want)
	}
}
