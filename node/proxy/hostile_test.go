package proxy

import (
	"context"
	"fmt"
	"github.com/edgenode/edgenode/tiers/item"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
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

// The memory of an answer counts as long as somebody is being sent it.
func TestSlowReadersCount(t *testing.T) {
	w := newWorld(t)
	body := strings.Repeat("z", 300_000)
	reached, release := make(chan struct{}), make(chan struct{})
	w.does(func(c net.Conn, _ *http.Request) {
		whole := w.ok("Cache-Control: max-age=60", body)
		io.WriteString(c, whole[:1000])
		<-reached
		io.WriteString(c, whole[1000:])
	})
	x := w.request("GET", "/a")
	first := true
	x.onWrite = func(int) {
		if first {
			first = false
			close(reached)
			<-release
		}
	}
	done := make(chan struct{})
	go func() { w.serve(x); close(done) }()
	<-reached
	w.p.tasks.Wait() // it is stored
	if got, want := w.p.fillBytes.Load(), int64(len(body)); got != want {
		t.Errorf("%d bytes counted while a client reads, want %d", got, want)
	}
	close(release)
	<-done
	if got := w.p.fillBytes.Load(); got != 0 {
		t.Errorf("%d bytes counted after the last client", got)
	}
}

// The answer to a POST that would be stored counts too; beyond the limit it is
// passed on.
func TestPostAnswersCount(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.MaxFillBytes = 10 })
	w.always(w.ok("Cache-Control: max-age=60\nContent-Location: /a", strings.Repeat("x", 11)))
	x := w.serve(w.request("POST", "/a"))
	w.expect(x, 200, strings.Repeat("x", 11), "fwd=method;fwd-status=200")
	if w.engine.submits != 0 || w.p.fillBytes.Load() != 0 {
		t.Errorf("%d stored, %d bytes counted, want none", w.engine.submits, w.p.fillBytes.Load())
	}
}

// RFC 9112 §5.1: a space before the colon is removed from an answer, so that
// nobody reads the field another way than we do.
func TestSpaceBeforeColonInAnswers(t *testing.T) {
	for _, line := range []string{"Cache-Control : private", "Cache-Control\t: private", "Set-Cookie : id=1", "Vary : *"} {
		w := newWorld(t)
		w.always(w.ok("Expires: "+httpDate(startMilli+1e6)+"\n"+line, "mine"))
		x := w.get("/a")
		for _, l := range strings.Split(x.head.String(), "\r\n") {
			if name, _, ok := strings.Cut(l, ":"); ok && tokenLen(name) != len(name) {
				t.Errorf("%q went to the client", l)
			}
		}
		w.always(w.ok("", "other"))
		if got := w.get("/a").out.String(); got == "mine" {
			t.Errorf("%q: the answer was shared", line)
		}
	}
	for _, line := range []string{"Content-Length : 5", "Transfer-Encoding : chunked"} {
		w := newWorld(t)
		w.does(func(c net.Conn, _ *http.Request) {
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\n%s\r\nConnection: close\r\n\r\n5\r\nhello\r\n0\r\n\r\n", line)
			c.Close()
		})
		w.get("/a")
		if w.engine.submits != 0 {
			t.Errorf("%q: an answer that can be framed in two ways was stored", line)
		}
	}
}

// An interim answer announces no length.
func TestInterimAnswersHaveNoFraming(t *testing.T) {
	w := newWorld(t)
	w.does(func(c net.Conn, _ *http.Request) {
		io.WriteString(c, "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nContent-Length: 7\r\n\r\n"+w.ok("Cache-Control: no-store", "x"))
	})
	x := w.get("/a")
	if got, want := fmt.Sprint(x.infos), "[103 Link: </a>\r\n]"; got != want {
		t.Errorf("interim answers %q, want %q", got, want)
	}
}

// The time that a client takes is not the origin's.
func TestStallTimerStandsStillBetweenReads(t *testing.T) {
	w := newWorld(t)
	w.always(w.ok("Cache-Control: no-store", strings.Repeat("x", 100)))
	st := newState()
	x := w.request("GET", "/a")
	st.begin(x)
	st.target, st.site = []byte("/a"), w.p.table.Load().names["shop"]
	f := fetch{p: w.p, r: w.p.snapshot(st), header: http.Header{}, upgrade: true} // by net/http
	oa, err := f.do(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	defer oa.Close()
	if oa.stall.Stop() {
		t.Error("the timer runs before the first read")
	}
	if _, err := oa.Read(make([]byte, 10)); err != nil || oa.stall.Stop() {
		t.Errorf("the timer runs after a read (error %v)", err)
	}
}

// An origin that takes a connection but not the body of a request does not hold
// the client for ever.
func TestOriginThatTakesNoBody(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close() // nothing is accepted or read
	w := newWorld(t, func(o *Options) {
		o.Pools[0].Origins = []string{"http://" + ln.Addr().String()}
		o.Pools[0].ConnectTimeout, o.Pools[0].FirstByteTimeout = 50*time.Millisecond, 50*time.Millisecond
	})
	x := w.request("POST", "/a")
	x.length = 64 << 20
	x.body = io.LimitReader(endless{}, x.length)
	w.serve(x)
	if x.status != 504 {
		t.Errorf("got %d, want 504", x.status)
	}
}

type endless struct{}

func (endless) Read(b []byte) (int, error) { return len(b), nil }

// Content cannot be made to hold the boundaries that will be tried.
func TestBoundaryIsNotGuessed(t *testing.T) {
	w := newWorld(t)
	w.always(w.ok("Cache-Control: max-age=60", "0123456789"))
	w.get("/a")
	kind := func() string { return w.get("/a", "Range: bytes=0-1,4-5").line("Content-Type") }
	if a, b := kind(), kind(); a == b {
		t.Errorf("two answers have the boundary of %q", a)
	}
}

// What an origin answers to the conditions of one client is not for others.
func TestConditionsUpstreamAreNotStored(t *testing.T) {
	w := newWorld(t)
	w.says(func(r *http.Request) string {
		if r.Header.Get("If-Match") != "" {
			return w.status(412, "Cache-Control: max-age=60", "")
		}
		return w.ok("Cache-Control: private", "p")
	})
	w.get("/a") // remembered as not to be shared
	w.serveStatus(412, "GET", "/a", `If-Match: "other"`)
	w.expect(w.get("/a"), 200, "p", "fwd=uri-miss")
}

// allow_override of no-store speaks of no-store alone.
func TestOverrideDoesNotHideTheStatus(t *testing.T) {
	w := newWorld(t, policy(rules{ttl: func(_ *TTLInput, out *TTLDecision) { *out = TTLDecision{HasLifetime: true, Lifetime: time.Hour} }}),
		site1(func(s *Site) { s.AllowOverride = []string{"no-store", "no-cache"} }))
	w.always("HTTP/1.1 206 X\r\nCache-Control: no-store\r\nContent-Range: bytes 0-0/10\r\nContent-Length: 1\r\n\r\nx")
	w.get("/a") // nobody asked for a part
	if w.engine.submits != 0 {
		t.Error("a part was stored")
	}
}

// Conditions are evaluated only against what would have been a 2xx.
func TestConditionsOnAStreamedError(t *testing.T) {
	w := newWorld(t, site1(func(s *Site) { s.MaxObjectBytes = 1000 }))
	w.does(func(c net.Conn, _ *http.Request) {
		io.WriteString(c, "HTTP/1.1 404 X\r\nCache-Control: max-age=60\r\nETag: \"e\"\r\nConnection: close\r\n\r\n"+strings.Repeat("x", 5000))
		c.Close()
	})
	w.serveStatus(404, "GET", "/a", "If-None-Match: *")
}

// What is in the key is what the origin sees: else a client could have an answer
// stored that was made for another spelling of the host.
func TestHostGoesUpstreamAsKeyed(t *testing.T) {
	w := newWorld(t)
	w.says(func(r *http.Request) string {
		return w.ok("Cache-Control: max-age=60\nX-Host: "+r.Host+" "+r.Header.Get("X-Forwarded-Host"), "x")
	})
	x := w.request("GET", "/a")
	x.host = "SHOP.example.:80"
	w.serve(x)
	if got, want := x.line("X-Host"), "shop.example shop.example"; got != want {
		t.Errorf("the origin saw %q, want %q", got, want)
	}
}

// CGI knows no difference between _ and -: a field that only the node may send
// cannot come in that way.
func TestUnderscoresDoNotSpoof(t *testing.T) {
	w := newWorld(t)
	w.always(w.ok("", "x"))
	w.get("/a", "X_Forwarded_For: 6.6.6.6", "x_real-ip: 6.6.6.6", "X-Forwarded_Proto: https", "Forwarded_: x", "My_Field: kept")
	for name := range w.lastRequest().Header {
		if name != "My_field" && strings.Contains(name, "_") && name != "Forwarded_" {
			t.Errorf("%s went upstream", name)
		}
	}
	if !slices.Contains(w.lastRequest().Header["My_field"], "kept") {
		t.Errorf("My_Field is lost: %v", w.lastRequest().Header)
	}
}

// Cookies are compared byte for byte.
func TestVaryCookieIsExact(t *testing.T) { eachWay(t, testVaryCookieIsExact) }

func testVaryCookieIsExact(t *testing.T) {
	w := newWorld(t)
	w.says(func(r *http.Request) string {
		return w.ok("Cache-Control: max-age=60\nVary: Cookie", r.Header.Get("Cookie"))
	})
	for _, cookie := range []string{"a=b  c", "a=b c", "a=b c,", "a=b ,c", "a=b,c"} {
		w.expect(w.get("/a", "Cookie: "+cookie), 200, cookie, "fwd=")
	}
}

// An unsafe request ends also what is being fetched by a request that goes alone.
func TestInvalidationOfAFetchApart(t *testing.T) {
	w := newWorld(t)
	w.always(w.ok("Cache-Control: private", "p"))
	w.get("/a") // remembered: the next one goes alone
	began, release := make(chan struct{}), make(chan struct{})
	w.does(func(c net.Conn, r *http.Request) {
		if r.Method == "POST" {
			io.WriteString(c, w.ok("", "done"))
			return
		}
		close(began)
		<-release
		io.WriteString(c, w.ok("Cache-Control: max-age=60", "old"))
	})
	done := make(chan *exchange)
	go func() { done <- w.get("/a") }()
	<-began
	w.serve(w.request("POST", "/a"))
	close(release)
	w.expect(<-done, 200, "old", "fwd=uri-miss;fwd-status=200")
	w.p.tasks.Wait()
	w.always(w.ok("Cache-Control: max-age=60", "new"))
	w.expect(w.get("/a"), 200, "new", "fwd=")
	w.p.tasks.Wait()
	if n := len(w.p.filling); n != 0 {
		t.Errorf("%d fetches are left in the list", n)
	}
}

// A 304 that nobody asked for is no answer.
func TestUnaskedNotModified(t *testing.T) {
	w := newWorld(t)
	w.always(w.status(304, "Cache-Control: max-age=60", ""))
	w.serveStatus(502, "GET", "/a")
	w.serveStatus(502, "GET", "/a", `If-None-Match: "x"`) // the condition did not go upstream
	w.serveStatus(502, "GET", "/a", "Range: bytes=0-1")
	w.always(w.ok("Cache-Control: private", "p"))
	w.get("/a")
	w.always(w.status(304, "", ""))
	w.serveStatus(304, "GET", "/a", `If-None-Match: "x"`) // now it does
}

// RFC 9111 §5.2.1.5: where the site honours no-store of requests, their answers
// are not stored.
func TestRequestNoStore(t *testing.T) { eachWay(t, testRequestNoStore) }

func testRequestNoStore(t *testing.T) {
	w := newWorld(t, site1(func(s *Site) { s.HonourRequestDirectives = []string{"no-store"} }))
	w.always(w.ok("Cache-Control: max-age=60", "x"))
	w.get("/a", "Cache-Control: no-store")
	w.p.tasks.Wait()
	if w.engine.submits != 0 {
		t.Error("the answer was stored")
	}
	w.expect(w.get("/a"), 200, "x", "fwd=uri-miss;fwd-status=200;stored")
	w.expect(w.get("/a", "Cache-Control: no-store"), 200, "x", "hit") // it speaks of storing only
	w.pass(61 * time.Second)
	w.expect(w.get("/a", "Cache-Control: no-store"), 200, "x", "fwd=stale;fwd-status=200")
	w.expect(w.get("/a"), 200, "x", "fwd=stale;fwd-status=200;stored")
}

// What L3 holds after a restart is what was stored: fields, conditions, ranges,
// variants, and the purges since.
func TestAfterRestart(t *testing.T) {
	dir := t.TempDir()
	urls := map[string]string{
		"/plain": "Cache-Control: max-age=600\nETag: \"e\"\nX-Two: 1\nX-Two: 2\nContent-Type: text/css",
		"/vary":  "Cache-Control: max-age=600\nVary: Foo",
		"/gone":  "Cache-Control: max-age=600\nSurrogate-Key: k1",
		"/stale": "Cache-Control: max-age=1\nETag: \"s\"",
	}
	durable := func(t *testing.T) func(o *Options) {
		return func(o *Options) {
			o.Engine = realEngine(t, dir, o.Now)
			o.Sites[0].Tiers = item.L1 | item.L3
		}
	}
	before := map[string]string{}
	t.Run("store", func(t *testing.T) {
		w := newWorld(t, durable(t))
		for target, lines := range urls {
			w.always(w.ok(lines, "body of "+target))
			w.get(target)
			x := w.get(target)
			w.expect(x, 200, "body of "+target, "hit")
			before[target], _, _ = strings.Cut(x.head.String(), "Cache-Status")
		}
		w.purge(item.MatchTag, []string{"k1"}, nil)
	})
	w := newWorld(t, durable(t))
	w.does(func(c net.Conn, r *http.Request) {
		if r.Header.Get("If-None-Match") == `"s"` {
			io.WriteString(c, w.status(304, "", ""))
			return
		}
		io.WriteString(c, w.ok("", "from the origin"))
	})
	for _, target := range []string{"/plain", "/vary"} {
		x := w.get(target)
		w.expect(x, 200, "body of "+target, "hit;ttl=600;detail=l3")
		if got, _, _ := strings.Cut(x.head.String(), "Cache-Status"); got != before[target] {
			t.Errorf("%s: fields %q, want %q", target, got, before[target])
		}
	}
	w.expect(w.get("/vary", "Foo: 1"), 200, "from the origin", "fwd=vary-miss")
	w.expect(w.get("/gone"), 200, "from the origin", "fwd=uri-miss")
	w.expect(w.get("/plain", `If-None-Match: "e"`), 304, "", "hit")
	w.expect(w.get("/plain", "Range: bytes=0-3"), 206, "body", "hit")
	w.pass(2 * time.Second)
	w.expect(w.get("/stale"), 200, "body of /stale", "fwd=stale;fwd-status=304")
}
