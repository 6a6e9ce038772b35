package proxy

import (
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/edgenode/edgenode/node/edit"
	"github.com/edgenode/edgenode/node/problem"
)

func nets(list ...string) (out []netip.Prefix) {
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

// from makes a request of another client.
func (w *world) from(client, method, target string, lines ...string) *exchange {
	x := w.request(method, target, lines...)
	x.client = netip.MustParseAddr(client)
	return w.serve(x)
}

func TestGateOfAddresses(t *testing.T) {
	w := newWorld(t, site1(func(s *Site) {
		s.Allow = nets("192.0.2.0/24", "2001:db8::/32")
		s.Deny = nets("192.0.2.128/25", "203.0.113.0/24")
	}))
	w.always(w.ok("Cache-Control: max-age=60", "in"))
	f := func(client string, status int) {
		t.Helper()
		if x := w.from(client, "GET", "/a"); x.status != status {
			t.Errorf("%s: %d, want %d", client, x.status, status)
		}
	}
	f("192.0.2.1", 200)
	f("192.0.2.129", 403) // stored by now, and still not for everybody
	f("198.51.100.1", 403)
	f("203.0.113.5", 403)
	f("2001:db8::7", 200)
	if x := w.from("203.0.113.5", "GET", "/a", "Accept: application/problem+json"); !strings.Contains(x.out.String(), "urn:edgenode:problem:address-denied") || x.line("Cache-Control") != "no-store" {
		t.Errorf("%s\n%s", &x.head, &x.out)
	}
	if got := w.requests(); got != 1 {
		t.Errorf("the origin was asked %d times", got)
	}
}

func TestGateOfRates(t *testing.T) {
	w := newWorld(t, site1(func(s *Site) { s.Rate, s.Burst = 2, 3 }))
	w.always(w.ok("Cache-Control: max-age=60", "in"))
	f := func(client string, status int, retry string) {
		t.Helper()
		if x := w.from(client, "GET", "/a"); x.status != status || x.line("Retry-After") != retry {
			t.Errorf("%s: %d, Retry-After %q, want %d, %q", client, x.status, x.line("Retry-After"), status, retry)
		}
	}
	for range 3 {
		f("192.0.2.1", 200, "")
	}
	f("192.0.2.1", 429, "1")
	f("192.0.2.2", 200, "") // another client
	f("2001:db8::1", 200, "")
	f("2001:db8::2", 200, "")
	f("2001:db8::3", 200, "")
	f("2001:db8::ffff:4", 429, "1") // one /64 is one client
	f("2001:db8:0:1::4", 200, "")
	w.pass(500 * time.Millisecond)
	f("192.0.2.1", 200, "")
	f("192.0.2.1", 429, "1")
	if err := w.p.Configure(w.options.Sites, w.options.Pools); err != nil { // a reload gives nothing back
		t.Fatal(err)
	}
	f("192.0.2.1", 429, "1")
	w.pass(time.Hour)
	for range 3 {
		f("192.0.2.1", 200, "")
	}
	f("192.0.2.1", 429, "1")
}

// TestLimitsAreBounded: any number of clients costs no more than the table, and
// one that is over its share is not the one that is forgotten.
func TestLimitsAreBounded(t *testing.T) {
	l := newLimits(&Gate{Rate: 1, Burst: 10}, nil)
	greedy := netip.MustParseAddr("192.0.2.1")
	for l.take(greedy, startMilli) == 0 {
	}
	for i := range 2 * maxLimited * len(l.shards) {
		l.take(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), startMilli)
	}
	n := 0
	for i := range l.shards {
		n += len(l.shards[i].clients)
	}
	if n > maxLimited*len(l.shards) || n < maxLimited {
		t.Errorf("%d clients are remembered", n)
	}
	if l.take(greedy, startMilli) == 0 {
		t.Error("many other clients have washed it clean")
	}
	for rate, want := range map[float64]int{0.00001: 1, 0.5: 1, 1: 1, 1.0001: 2, 7: 7} {
		if got := newLimits(&Gate{Rate: rate}, nil).burst; got != want {
			t.Errorf("rate %v: burst %d, want %d", rate, got, want)
		}
	}
}

func TestRedirects(t *testing.T) {
	w := newWorld(t, site1(func(s *Site) {
		s.RedirectHTTPS = true
		s.RedirectHosts = map[string]string{"www.shop.example": "shop.example"}
		s.Edits = []edit.Edit{{Response: true, Name: []byte("Strict-Transport-Security"), Value: []byte("max-age=9")}}
	}))
	w.always(w.ok("", "in"))
	f := func(method, scheme, host, target string, status int, location string) {
		t.Helper()
		x := w.request(method, target)
		x.scheme, x.host = scheme, host
		w.serve(x)
		if x.status != status || x.line("Location") != location || x.line("Strict-Transport-Security") != "max-age=9" {
			t.Errorf("%s %s://%s%s: %d %q %q, want %d %q", method, scheme, host, target, x.status, x.line("Location"), x.line("Strict-Transport-Security"), status, location)
		}
	}
	f("GET", "http", "shop.example", "/a?b=%20//c", 301, "https://shop.example/a?b=%20//c")
	f("HEAD", "http", "Shop.example.:80", "/", 301, "https://shop.example/")
	f("POST", "http", "shop.example:8080", "/a", 308, "https://shop.example/a")
	f("GET", "https", "shop.example", "/a", 200, "")
	f("GET", "https", "www.shop.example", "/a", 301, "https://shop.example/a")
	f("GET", "http", "www.shop.example", "/a", 301, "https://shop.example/a")
	f("GET", "https", "other.shop.example", "/a", 200, "")
	f("GET", "https", "shop.example", "//evil.example/a", 200, "")
	f("GET", "http", "shop.example", "//evil.example/a", 301, "https://shop.example//evil.example/a")
	w.options.Sites[0].HTTPSPort = 8443
	if err := w.p.Configure(w.options.Sites, w.options.Pools); err != nil {
		t.Fatal(err)
	}
	f("GET", "http", "shop.example:8080", "/a", 301, "https://shop.example:8443/a")
	f("GET", "https", "shop.example:8443", "/a", 200, "")
	f("GET", "http", "www.shop.example", "/a", 301, "https://shop.example/a") // it says its port itself
}

// TestErrorPages: the site's page stands for short text, by status before class;
// who prefers problem+json gets that.
func TestErrorPages(t *testing.T) {
	w := newWorld(t, site1(func(s *Site) {
		s.Maintenance = true
		s.Deny = nets("203.0.113.0/24")
		s.ErrorPages = map[string]Page{"503": {"text/html; charset=utf-8", []byte("<p>soon")}, "4xx": {"text/plain", []byte("no")}}
	}))
	f := func(x *exchange, status int, kind, body string) {
		t.Helper()
		if x.status != status || x.line("Content-Type") != kind || !strings.HasPrefix(x.out.String(), body) {
			t.Errorf("%d %q %q, want %d %q %q", x.status, x.line("Content-Type"), &x.out, status, kind, body)
		}
	}
	x := w.get("/a")
	f(x, 503, "text/html; charset=utf-8", "<p>soon")
	if x.line("Retry-After") != "60" || x.cache() != "detail=denied" {
		t.Errorf("%s", &x.head)
	}
	f(w.get("/a", "Accept: application/problem+json"), 503, problem.ContentType, `{"type":"urn:edgenode:problem:maintenance"`)
	f(w.from("203.0.113.1", "GET", "/a"), 403, "text/plain", "no")
	if x := w.serve(w.request("HEAD", "/a")); x.sized != int64(len("<p>soon")) {
		t.Errorf("HEAD announces %d", x.sized)
	}
	w.options.Sites[0].Maintenance = false
	if err := w.p.Configure(w.options.Sites, w.options.Pools); err != nil {
		t.Fatal(err)
	}
	w.always("HTTP/1.1 503 Mine\r\nContent-Length: 4\r\n\r\nmine")
	f(w.get("/b"), 503, "", "mine") // the origin's own answers stay
	w.always("broken\r\n\r\n")
	f(w.get("/c"), 502, "text/plain; charset=utf-8", "502 Bad Gateway")
}

// TestHeaderEdits: the operator's changes hold on both sides, for what is stored
// too, and the store keeps what the origin sent.
func TestHeaderEdits(t *testing.T) {
	h := Header{Set: map[string]string{"X-Set": "s", "Server": "edge"}, Add: map[string]string{"Link": "</a>"}, Remove: []string{"X-Powered-By"}}
	q := Header{Set: map[string]string{"X-In": "1"}, Add: map[string]string{"X-More": "2"}, Remove: []string{"Cookie"}}
	w := newWorld(t, site1(func(s *Site) { s.Edits = append(h.Edits(true), q.Edits(false)...) }))
	w.always(w.ok("Cache-Control: max-age=60\nServer: origin\nX-Powered-By: y\nLink: </b>\nVary: Cookie", "in"))
	for _, from := range []string{"fwd=uri-miss", "hit"} {
		x := w.get("/a", "Cookie: a=1", "X-More: 0", "X-In: 0")
		if !strings.Contains(x.cache(), from) || x.line("Server") != "edge" || x.line("X-Set") != "s" || x.line("X-Powered-By") != "" || x.line("Link") != "</b> | </a>" {
			t.Errorf("%s:\n%s", from, &x.head)
		}
		if got := w.lastRequest().Header; got.Get("Cookie") != "" || got.Get("X-In") != "1" || fmt.Sprint(got["X-More"]) != "[0 2]" {
			t.Errorf("the origin got %v", got)
		}
	}
	w.options.Sites[0].Edits = nil
	if err := w.p.Configure(w.options.Sites, w.options.Pools); err != nil {
		t.Fatal(err)
	}
	if x := w.get("/a"); x.line("Server") != "origin" || x.line("Link") != "</b>" || x.line("X-Powered-By") != "y" {
		t.Errorf("stored:\n%s", &x.head)
	}
	w.options.Sites[0].Edits = []edit.Edit{{Name: []byte("Via"), Value: []byte("x")}}
	if err := w.p.Configure(w.options.Sites, w.options.Pools); err == nil {
		t.Error("an edit of Via is taken")
	}
}

// TestPurgeMethod: those of purge_acl purge a URL with all its variants; others
// are refused; without the list the origin is asked.
func TestPurgeMethod(t *testing.T) {
	w := newWorld(t, site1(func(s *Site) { s.PurgeACL = nets("192.0.2.7/32"); s.IgnoreQuery = []string{"utm_*"} }))
	n := 0
	w.says(func(r *http.Request) string {
		n++
		return w.ok("Cache-Control: max-age=60\nETag: \"1\"\nVary: X-V", fmt.Sprint(n))
	})
	w.expect(w.get("/a", "X-V: 1"), 200, "1", "fwd=uri-miss")
	w.expect(w.get("/a", "X-V: 2"), 200, "2", "fwd=vary-miss")
	w.expect(w.get("/b", "X-V: 1"), 200, "3", "fwd=uri-miss")
	if x := w.from("203.0.113.1", "PURGE", "/a"); x.status != 403 {
		t.Errorf("a stranger purges: %d", x.status)
	}
	w.expect(w.get("/a", "X-V: 1"), 200, "1", "hit")
	if x := w.from("192.0.2.7", "PURGE", "/a?utm_x=1"); x.status != 200 || !strings.HasPrefix(x.out.String(), `{"version":"`) {
		t.Errorf("%d %s", x.status, &x.out)
	}
	w.expect(w.get("/a", "X-V: 1"), 200, "4", "fwd=")
	w.expect(w.get("/a", "X-V: 2"), 200, "5", "fwd=")
	w.expect(w.get("/b", "X-V: 1"), 200, "3", "hit")
	if x := w.from("192.0.2.7", "PURGE", "/b", "Edge-Purge: soft"); x.status != 200 {
		t.Errorf("soft: %d", x.status)
	}
	w.says(func(r *http.Request) string {
		if r.Header.Get("If-None-Match") == "" {
			t.Error("a soft purge lost the answer")
		}
		return w.status(304, "Cache-Control: max-age=60", "")
	})
	w.expect(w.get("/b", "X-V: 1"), 200, "3", "fwd=stale")

	open := newWorld(t)
	open.always(open.ok("", "the origin's"))
	open.expect(open.serve(open.request("PURGE", "/a")), 200, "the origin's", "fwd=method")
}

// TestOutcome: what is told of an answer is what Cache-Status tells.
func TestOutcome(t *testing.T) {
	w := newWorld(t, site1(func(s *Site) { s.CacheStatus = StatusOff; s.Deny = nets("203.0.113.0/24") }))
	w.always(w.ok("Cache-Control: max-age=60", "in"))
	f := func(x *exchange, want Outcome) {
		t.Helper()
		var got Outcome
		w.p.ServeTold(x, &got)
		if got != want {
			t.Errorf("%s %s: %+v, want %+v", x.method, x.target, got, want)
		}
	}
	f(w.request("GET", "/a"), Outcome{Site: "shop", Cache: "uri-miss", FwdStatus: 200, Stored: true})
	w.pass(2 * time.Second)
	f(w.request("GET", "/a"), Outcome{Site: "shop", Cache: "hit", Detail: "l1", HasTTL: true, TTL: 58})
	f(w.request("POST", "/a"), Outcome{Site: "shop", Cache: "method", FwdStatus: 200})
	x := w.request("GET", "/a")
	x.client = netip.MustParseAddr("203.0.113.1")
	f(x, Outcome{Site: "shop", Detail: "denied"})
	x = w.request("GET", "/a")
	x.host = "nowhere.example"
	f(x, Outcome{})
}
