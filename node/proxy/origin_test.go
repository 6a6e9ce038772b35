package proxy

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

// RFC 9110 §7.6.1, §7.6.3: what goes upstream.
func TestRFC9110Section76RequestFields(t *testing.T) {
	w := newWorld(t)
	w.always(w.ok("", "x"))
	x := w.request("GET", "/a", "Host: shop.example", "Connection: X-Hop, close", "X-Hop: 1", "Keep-Alive: 5", "TE: trailers", "Upgrade: h2c",
		"Proxy-Authorization: b", "X-End: 1", "X-End: 2", "Via: 1.0 front", "X-Forwarded-For: 203.0.113.9", "Forwarded: for=x", "Cookie: a=b")
	w.serve(x)
	r := w.lastRequest()
	for _, name := range []string{"X-Hop", "Keep-Alive", "Upgrade", "Proxy-Authorization", "Forwarded", "Accept-Encoding", "User-Agent"} {
		if got, ok := r.Header[name]; ok {
			t.Errorf("%s went upstream: %q", name, got)
		}
	}
	f := func(name, want string) {
		t.Helper()
		if got := strings.Join(r.Header[name], " | "); got != want {
			t.Errorf("%s = %q, want %q", name, got, want)
		}
	}
	f("X-End", "1 | 2")
	f("Te", "trailers") // the node passes trailers on
	f("Connection", "TE")
	f("Via", "1.0 front | 1.1 edgenode")
	f("X-Forwarded-For", "203.0.113.9, 192.0.2.7")
	f("X-Forwarded-Proto", "http")
	f("X-Forwarded-Host", "shop.example")
	f("Cookie", "a=b")
	if r.Host != "shop.example" {
		t.Errorf("Host = %q", r.Host)
	}
}

// A variant is chosen by the list that the origin saw, the peer at its end.
func TestForwardedForAsVariant(t *testing.T) { eachWay(t, testForwardedForAsVariant) }

func testForwardedForAsVariant(t *testing.T) {
	w := newWorld(t)
	w.says(func(r *http.Request) string {
		return w.ok("Cache-Control: max-age=60\nVary: X-Forwarded-For", r.Header.Get("X-Forwarded-For"))
	})
	from := func(peer string, lines ...string) *exchange {
		x := w.request("GET", "/a", lines...)
		x.peer = netip.MustParseAddr(peer)
		return w.serve(x)
	}
	for _, cache := range []string{"fwd=", "hit"} {
		w.expect(from("192.0.2.1"), 200, "192.0.2.1", cache)
		w.expect(from("192.0.2.2"), 200, "192.0.2.2", cache)
		w.expect(from("192.0.2.2", "X-Forwarded-For: 1.1.1.1,2.2.2.2", "X-Forwarded-For: 3.3.3.3"), 200, "1.1.1.1,2.2.2.2, 3.3.3.3, 192.0.2.2", cache)
	}
}

func TestHostOfPool(t *testing.T) {
	for policy, want := range map[string]string{"client": "shop.example", "literal.example": "literal.example", "origin": ""} {
		w := newWorld(t, func(o *Options) { o.Pools[0].Host = policy })
		w.always(w.ok("", "x"))
		w.get("/")
		if want == "" {
			want = w.ln.Addr().String()
		}
		if got := w.lastRequest().Host; got != want {
			t.Errorf("host %q: origin saw %q, want %q", policy, got, want)
		}
	}
}

// The raw target is the truth.
func TestTargetIsSentAsReceived(t *testing.T) {
	w := newWorld(t)
	w.always(w.ok("", "x"))
	for _, target := range []string{"/", "/a%2Fb/../c", "/a//b", "//evil.example/x", "//a%2fb?x", "/a?", "/a?b=c%20d&&", "/a;b=c", "/ü", `/"<>`, "/a|b"} {
		w.get(target)
		got := w.lastRequest().RequestURI
		if absolute := "http://" + w.ln.Addr().String() + target; got != target && got != absolute {
			t.Errorf("target %q was sent as %q", target, got)
		}
		if host := w.lastRequest().Host; host != "shop.example" && !strings.HasPrefix(got, "http://") {
			t.Errorf("target %q: Host %q", target, host)
		}
	}
}

func TestBadTargets(t *testing.T) {
	w := newWorld(t)
	w.always(w.ok("", "x"))
	for _, target := range []string{"/a b", "/a\x00", "/a\r\nX: y", "/\x7f"} {
		w.serveStatus(400, "GET", target)
	}
	w.serveStatus(400, "GET", "nopath")
	w.serveStatus(501, "CONNECT", "/")
	w.serveStatus(405, "TRACE", "/")
	if got := w.requests(); got != 0 {
		t.Errorf("origin saw %d requests", got)
	}
}

func TestBodiesStreamUpstream(t *testing.T) {
	w := newWorld(t)
	w.says(func(r *http.Request) string {
		body, _ := io.ReadAll(r.Body)
		return w.ok("", fmt.Sprint(r.ContentLength, " ", string(body)))
	})
	x := w.request("POST", "/a")
	x.body, x.length = strings.NewReader("hello"), 5
	w.expect(w.serve(x), 200, "5 hello", "fwd=method;fwd-status=200")
	x = w.request("PUT", "/a")
	x.body, x.length = strings.NewReader("hello"), -1
	w.expect(w.serve(x), 200, "-1 hello", "fwd=method")
	x = w.request("GET", "/a")
	x.body, x.length = strings.NewReader("hello"), 5
	w.expect(w.serve(x), 200, "5 hello", "fwd=bypass")
}

type tooLarge struct{}

func (tooLarge) Error() string            { return "too large" }
func (tooLarge) BodyTooLarge() bool       { return true }
func (tooLarge) Read([]byte) (int, error) { return 0, tooLarge{} }

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, errors.New("client gone") }

func TestBodyErrors(t *testing.T) {
	w := newWorld(t)
	w.always(w.ok("", "x"))
	for _, c := range []struct {
		body   io.Reader
		status int
	}{{tooLarge{}, 413}, {brokenReader{}, 400}} {
		x := w.request("POST", "/a")
		x.body, x.length = c.body, 5
		if w.serve(x); x.status != c.status {
			t.Errorf("status %d, want %d", x.status, c.status)
		}
	}
}

// RFC 8297: interim answers are passed on, on every path, and not stored.
func TestRFC8297EarlyHints(t *testing.T) {
	w := newWorld(t)
	hint := "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nLink: </b.css>\r\n\r\n"
	w.says(func(r *http.Request) string { return hint + w.ok("Cache-Control: max-age=60", "x") })
	want := []string{"103 Link: </a.css>; rel=preload\r\nLink: </b.css>\r\n"}
	x := w.get("/a")
	w.expect(x, 200, "x", "fwd=uri-miss;fwd-status=200;stored")
	if !slices.Equal(x.infos, want) {
		t.Errorf("interim answers of a miss: %q, want %q", x.infos, want)
	}
	if x = w.get("/a"); len(x.infos) != 0 {
		t.Errorf("interim answers of a hit: %q", x.infos)
	}
	if x = w.serve(w.request("POST", "/a")); !slices.Equal(x.infos, want) {
		t.Errorf("interim answers of a POST: %q, want %q", x.infos, want)
	}
	x = w.request("GET", "/old")
	x.http10 = true
	if w.serve(x); len(x.infos) != 0 {
		t.Errorf("interim answers to HTTP/1.0: %q", x.infos)
	}
}

// Broken answers are never stored and never passed off as whole.
func TestFramingOfAnswers(t *testing.T) {
	const fresh = "Cache-Control: max-age=60\r\n"
	long := strings.Repeat("x", 100_000)
	f := func(name, raw string, want string, served bool) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.does(func(c net.Conn, _ *http.Request) { io.WriteString(c, raw); c.Close() })
			x := w.get("/a")
			got := fmt.Sprint(x.status)
			if x.aborted {
				got = "aborted"
			}
			if !strings.Contains(want, got) {
				t.Errorf("got %s %q, want %s", got, x.out.String()[:min(x.out.Len(), 80)], want)
			}
			if stored := len(w.engine.items) > 0; stored != served {
				t.Errorf("stored = %v, want %v", stored, served)
			}
		})
	}
	f("whole", "HTTP/1.1 200 OK\r\n"+fresh+"Content-Length: 2\r\n\r\nab", "200", true)
	f("to the close", "HTTP/1.1 200 OK\r\n"+fresh+"\r\nab", "200", true)
	f("chunked", "HTTP/1.1 200 OK\r\n"+fresh+"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n", "200", true)
	f("truncated", "HTTP/1.1 200 OK\r\n"+fresh+"Content-Length: 3\r\n\r\nab", "502", false)
	f("truncated large", "HTTP/1.1 200 OK\r\n"+fresh+"Content-Length: 100001\r\n\r\n"+long, "aborted or 502", false)
	f("truncated chunked", "HTTP/1.1 200 OK\r\n"+fresh+"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n", "aborted or 502", false)
	f("truncated unshared", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab", "aborted or 502", false)
	f("over-long", "HTTP/1.1 200 OK\r\n"+fresh+"Content-Length: 2\r\n\r\nabcd", "502", false)
	f("over-long large", "HTTP/1.1 200 OK\r\n"+fresh+"Content-Length: 70001\r\n\r\n"+long, "aborted or 502", false)
	f("over-long chunked", "HTTP/1.1 200 OK\r\n"+fresh+"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", "aborted or 502", false)
	f("two lengths", "HTTP/1.1 200 OK\r\n"+fresh+"Content-Length: 2\r\nContent-Length: 3\r\n\r\nabc", "502", false)
	f("both framings", "HTTP/1.1 200 OK\r\n"+fresh+"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n", "aborted or 502", false)
	f("unknown coding", "HTTP/1.1 200 OK\r\n"+fresh+"Transfer-Encoding: frob\r\n\r\nab", "200", false)
	f("no HTTP", "hello\r\n\r\n", "502", false)
	f("nothing", "", "502", false)
	f("half a header", "HTTP/1.1 200 OK\r\nCache-Co", "502", false)
	f("upgrade unasked", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", "502", false)
}

// A connection with bytes beyond the announced length is not used again.
func TestOverlongConnectionIsClosed(t *testing.T) {
	w := newWorld(t)
	closed := make(chan struct{})
	w.does(func(c net.Conn, r *http.Request) {
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nabHTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 4\r\n\r\nevil")
		c.Read(make([]byte, 1))
		close(closed)
	})
	w.get("/a")
	<-closed
	w.always(w.ok("", "good"))
	w.expect(w.get("/a"), 200, "good", "fwd=")
}

// RFC 9112 §9.3.1: a request is sent again on another connection if an origin
// that is down was chosen, and only if it can be repeated.
func TestRetryOnAnotherOrigin(t *testing.T) {
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead.Close()
	w := newWorld(t, func(o *Options) {
		o.Pools[0].Origins = append([]string{"http://" + dead.Addr().String()}, o.Pools[0].Origins...)
	})
	w.says(func(r *http.Request) string { return w.ok("", r.Method) })
	for range 10 {
		w.expect(w.get("/a"), 200, "GET", "fwd=")
	}
	if got := w.p.m.retries.Get(); got != DefaultMaxFailures {
		t.Errorf("%d retries, want %d: the dead origin rests after that", got, DefaultMaxFailures)
	}
	w.pass(DefaultRestMax) // it is tried again
	w.get("/a")
	w.get("/a")
	if got := w.p.m.retries.Get(); got != DefaultMaxFailures+1 {
		t.Errorf("%d retries, want %d", got, DefaultMaxFailures+1)
	}
}

func TestUnsafeIsNotRepeated(t *testing.T) {
	w := newWorld(t)
	w.does(func(c net.Conn, r *http.Request) { c.Close() })
	w.serveStatus(502, "POST", "/a")
	if got, want := w.requests(), 1; got != want {
		t.Errorf("origin saw %d requests, want %d", got, want)
	}
}

func TestErrorsOfOrigins(t *testing.T) {
	dead, _ := net.Listen("tcp", "127.0.0.1:0")
	dead.Close()
	w := newWorld(t, func(o *Options) { o.Pools[0].Origins = []string{"http://" + dead.Addr().String()} })
	w.expect(w.get("/a"), 502, "502 Bad Gateway: the origin could not be reached\n", "fwd=uri-miss")
	x := w.get("/a", "Accept: application/problem+json")
	want := `{"type":"urn:edgenode:problem:origin-unreachable","title":"No origin could be reached.","status":502,"detail":"the origin could not be reached","remedy":"Look at the pool's health."}` + "\n"
	w.expect(x, 502, want, "fwd=uri-miss")
	if got := x.line("Content-Type"); got != "application/problem+json" {
		t.Errorf("Content-Type = %q", got)
	}
	w = newWorld(t, func(o *Options) { o.Pools[0].FirstByteTimeout = 20 * time.Millisecond })
	hold := make(chan struct{})
	w.does(func(c net.Conn, r *http.Request) { <-hold })
	w.serveStatus(504, "POST", "/a")
	close(hold)
}

// An origin that stops in the middle does not hold a client for ever.
func TestStalledBody(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.StallTimeout = 30 * time.Millisecond })
	hold := make(chan struct{})
	w.does(func(c net.Conn, r *http.Request) {
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nab")
		<-hold
	})
	x := w.get("/a")
	if !x.aborted || x.out.String() != "ab" {
		t.Errorf("got %q, aborted %v", x.out.String(), x.aborted)
	}
	close(hold)
}

func TestLoopIsDetected(t *testing.T) {
	w := newWorld(t)
	w.always(w.ok("", "x"))
	w.serveStatus(200, "POST", "/a", "Via: 1.1 edgenode, 1.1 other")
	w.serveStatus(508, "POST", "/a", "Via: "+strings.Repeat("1.1 edgenode, ", maxLoops)+"1.1 x")
	w.serveStatus(508, "GET", "/a", "Via: "+strings.Repeat("1.1 edgenode, ", maxLoops)+"1.1 x")
	w.serveStatus(508, "GET", "/a", "CDN-Loop: other, "+strings.Repeat("edgenode; n=1, ", maxLoops)+"x")
	w.expect(w.get("/a", "CDN-Loop: other; edgenode", "Connection: CDN-Loop"), 200, "x", "fwd=uri-miss")
	if got := w.lastRequest().Header["Cdn-Loop"]; len(got) != 2 || got[0] != "other; edgenode" || got[1] != "edgenode" {
		t.Errorf("CDN-Loop: %q", got)
	}
}

func TestTapReadsWhatPasses(t *testing.T) {
	f := func(wrong bool, parts ...string) {
		t.Helper()
		tp := newTap(nil)
		for _, p := range parts {
			tp.see([]byte(p))
		}
		if tp.wrong != wrong {
			t.Errorf("%q: wrong = %v, want %v", parts, tp.wrong, wrong)
		}
		one := newTap(nil)
		for _, b := range []byte(strings.Join(parts, "")) {
			one.see([]byte{b})
		}
		if one.wrong != wrong {
			t.Errorf("%q byte by byte: wrong = %v, want %v", parts, one.wrong, wrong)
		}
	}
	f(false, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", "ab")
	f(true, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", "abc")
	f(false, "HTTP/1.1 200 OK\nContent-Length: 2\n\nab")
	f(false, "HTTP/1.1 103 E\r\nA: b\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length:2\r\n\r\nab")
	f(true, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nab")
	f(false, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nab")
	f(true, "HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\n")
	f(false, "HTTP/1.1 200 OK\r\n\r\n", "to the close")
	const chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
	f(false, chunked, "2\r\nab\r\n0\r\n\r\n")
	f(false, chunked, "2;x=y\r\n\r\n\r\nA\r\n0123456789\r\n00\r\nTrailer: x\r\nB: c\r\n\r\n")
	f(true, chunked, "2\r\nab\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n\r\n")
	f(true, chunked, "0\r\nT: x\r\n\r\n\r\n")
	f(true, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n")
}

// A read that would end exactly with the announced body sees one byte more.
func TestTapSeesBeyondTheBody(t *testing.T) {
	here, there := net.Pipe()
	defer here.Close()
	go func() {
		there.Write([]byte("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n"))
		there.Write([]byte("abcdef"))
		there.Close()
	}()
	tp := newTap(here)
	buf := make([]byte, 100)
	tp.Read(buf)
	n, err := tp.Read(buf[:4])
	if string(buf[:n]) != "abcd" || err != nil || !tp.broken() {
		t.Errorf("got %q, %v, broken %v", buf[:n], err, tp.broken())
	}
	if n, _ = tp.Read(buf); string(buf[:n]) != "e" {
		t.Errorf("then %q", buf[:n])
	}
}

func FuzzTap(f *testing.F) {
	f.Add("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab", 5)
	f.Add("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\nx", 50)
	f.Fuzz(func(t *testing.T, s string, cut int) {
		cut = min(max(cut, 0), len(s))
		whole, parts := newTap(nil), newTap(nil)
		whole.see([]byte(s))
		parts.see([]byte(s[:cut]))
		parts.see([]byte(s[cut:]))
		if whole.wrong != parts.wrong {
			t.Errorf("%q cut at %d: %v and %v", s, cut, whole.wrong, parts.wrong)
		}
	})
}

// An answer that began is not asked for again, nor is a new connection that closes.
func TestRepeatedOnlyBeforeAnAnswer(t *testing.T) {
	f := func(raw string, want int) {
		t.Helper()
		w := newWorld(t)
		w.does(func(c net.Conn, _ *http.Request) { io.WriteString(c, raw); c.Close() })
		w.serveStatus(502, "GET", "/a")
		if got := w.requests(); got != want {
			t.Errorf("%q: origin saw %d requests, want %d", raw, got, want)
		}
	}
	f("", 1)
	f("HTTP/1.1 2", 1)
	f("HTTP/1.1 103 E\r\n\r\n", 1)
}

// Host decides about keys: nothing that is no host gets in.
func TestBadHosts(t *testing.T) {
	w := newWorld(t, site1(func(s *Site) { s.Hosts = []string{"*"} }))
	w.always(w.ok("", "x"))
	for _, host := range []string{"a/b", "a?b", "a#b", "a@b", "a b", "a\x00", "a\\b", "", "é"} {
		x := w.request("GET", "/")
		x.host = host
		if w.serve(x); x.status != 400 {
			t.Errorf("host %q: status %d, want 400", host, x.status)
		}
	}
	for _, host := range []string{"a", "[::1]:80", "a_b.c:1", "127.0.0.1"} {
		x := w.request("GET", "/")
		x.host = host
		if w.serve(x); x.status != 200 {
			t.Errorf("host %q: status %d, want 200", host, x.status)
		}
	}
}

// An origin that answers while the body is still coming: the exchange is used by
// one goroutine at a time, and both directions go on.
func TestAnswerDuringUpload(t *testing.T) {
	w := newWorld(t)
	const size = 1 << 20
	raw, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	if err := w.p.Configure([]Site{{Name: "shop", Hosts: []string{"shop.example"}, Pool: "echo"}},
		[]Pool{{Name: "echo", Origins: []string{"http://" + raw.Addr().String()}}}); err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		c, err := raw.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		in := bufio.NewReader(c)
		req, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		fmt.Fprintf(c, "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", size)
		io.Copy(c, req.Body) // echo
	}()
	body := strings.Repeat("0123456789abcdef", size/16)
	x := w.request("POST", "/a")
	x.body, x.length = strings.NewReader(body), size
	w.serve(x)
	if x.status != 200 || x.out.String() != body || x.aborted {
		t.Errorf("got %d, %d bytes, aborted %v", x.status, x.out.Len(), x.aborted)
	}
	<-served
}
