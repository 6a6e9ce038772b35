package proxy

import (
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// A range of another variant than the one that is being filled goes to the origin
// by itself; it does not look at the fill again and again.
func TestRangeOfAnotherVariantDuringAFill(t *testing.T) {
	w := newWorld(t, chunked(1000))
	body := pattern(9000)
	h := hold(w, 2500, w.ranged(cacheable+"\nVary: Foo", `"e"`, body))
	whole := make(chan *exchange, 1)
	go func() { whole <- w.get("/a", "Foo: 1") }()
	<-h.began
	w.untilFilled("/a", 2500)
	other := make(chan *exchange, 1)
	go func() { other <- w.get("/a", "Foo: 2", "Range: bytes=100-199") }()
	select {
	case <-h.began:
	case <-time.After(time.Minute):
		t.Error("the range of the other variant does not go to the origin")
	}
	close(h.release)
	w.expect(<-other, 206, body[100:200], "fwd=uri-miss;fwd-status=206")
	w.expect(<-whole, 200, body, "fwd=uri-miss")
}

// A far range that goes by itself while the whole comes in does not take its
// place in the store.
func TestFarRangeDoesNotReplaceTheWhole(t *testing.T) {
	w := newWorld(t, chunked(1000))
	body := pattern(9000)
	h := hold(w, 2500, w.ranged(cacheable, `"e"`, body))
	whole := make(chan *exchange, 1)
	go func() { whole <- w.get("/a") }()
	<-h.began
	w.untilFilled("/a", 2500)
	w.mu.Lock()
	h2 := *h
	w.mu.Unlock()
	w.says(h2.whole)
	w.expect(w.get("/a", "Range: bytes=8000-8009"), 206, body[8000:8010], "fwd=uri-miss;fwd-status=206")
	close(h.release)
	w.expect(<-whole, 200, body, "fwd=uri-miss")
	w.p.tasks.Wait()
	w.expect(w.get("/a"), 200, body, "hit")
	if got, want := w.requests(), 2; got != want {
		t.Errorf("origin saw %d requests, want %d", got, want)
	}
}

// An unsafe request ends also a part that is still on its way to a slow client.
func TestInvalidationOfAPartUnderWay(t *testing.T) {
	w := newWorld(t)
	body := pattern(300_000)
	w.says(w.ranged(cacheable, `"e"`, body))
	x := w.request("GET", "/a", "Range: bytes=0-199999")
	posted := false
	x.onWrite = func(int) {
		if !posted {
			posted = true
			w.serve(w.request("POST", "/a"))
		}
	}
	w.expect(w.serve(x), 206, body[:200_000], "fwd=uri-miss")
	w.says(w.ranged(cacheable, `"f"`, strings.Repeat("y", 300_000)))
	w.expect(w.get("/a", "Range: bytes=0-4"), 206, "yyyyy", "fwd=uri-miss")
	if n := len(w.p.filling); n != 0 {
		t.Errorf("%d fetches are left in the list", n)
	}
}

// What is no part, or came in a coding that nobody knows, or was longer than its
// range, is passed on and not stored.
func TestPartsThatAreNotStored(t *testing.T) {
	const head = "HTTP/1.1 206 X\r\nCache-Control: max-age=60\r\nETag: \"e\"\r\nContent-Range: bytes 0-4/10\r\n"
	f := func(raw string) {
		t.Helper()
		w := newWorld(t)
		w.does(func(c net.Conn, _ *http.Request) {
			io.WriteString(c, raw)
			c.Close()
		})
		w.get("/a", "Range: bytes=0-4")
		if _, stored := w.engine.items["sshop\x00http://shop.example/a"]; stored {
			t.Errorf("%q was stored", raw)
		}
	}
	f(head + "Transfer-Encoding: frob\r\n\r\n01234")
	f(head + "Content-Type: multipart/byteranges; boundary=x\r\nContent-Length: 5\r\n\r\n--x--")
	f(head + "Transfer-Encoding: chunked\r\n\r\n6\r\n012345\r\n0\r\n\r\n")
	f(head + "Transfer-Encoding: chunked\r\n\r\n4\r\n0123\r\n0\r\n\r\n")
}

// What a range brought says nothing of whether the whole can be shared: the next
// ones still wait for one fetch.
func TestRangesDoNotEndCoalescing(t *testing.T) {
	for _, lines := range [][]string{{"Range: bytes=999999-"}, {"Range: bytes=0-4", `If-Match: "x"`}} {
		w := newWorld(t)
		w.says(func(r *http.Request) string {
			if r.Header.Get("Range") != "" {
				return w.status(416, "Content-Range: bytes */10", "")
			}
			return w.ok(cacheable, "0123456789")
		})
		w.get("/a", lines...)
		if n := w.p.lonely.has(w.p.hashOf(w.classOf("/a")), w.now()); n {
			t.Errorf("%q: the next ones do not wait for each other", lines)
		}
	}
}

// classOf returns the class of a plain GET.
func (w *world) classOf(target string) string {
	st := newState()
	st.begin(w.request("GET", target))
	if !w.p.arrive(st) {
		w.Fatal("refused")
	}
	return st.classOf()
}

// RFC 9110 §14.1.2: a suffix of empty content is all of it; nothing else is in it.
func TestRangesOfEmptyContent(t *testing.T) { eachWay(t, testRangesOfEmptyContent) }

func testRangesOfEmptyContent(t *testing.T) {
	w := newWorld(t)
	w.says(w.ranged(cacheable, `"e"`, ""))
	w.get("/a")
	w.expect(w.get("/a", "Range: bytes=-5"), 200, "", "hit")
	w.expect(w.get("/a", "Range: bytes=0-"), 416, "", "hit")
	w.expect(w.get("/a", "Range: bytes=-0"), 416, "", "hit")
}
