package proxy

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

// RFC 9111 §4.2.2, by the site's fraction and bound.
func TestHeuristicsOfSite(t *testing.T) {
	f := func(fraction float64, most time.Duration, wait time.Duration, want bool) {
		t.Helper()
		got := reusedAfter(t, 200, "Last-Modified: "+at(-1000), wait, site1(func(s *Site) { s.HeuristicFraction, s.HeuristicMax = fraction, most }))
		if got != want {
			t.Errorf("fraction %v, at most %v: reused after %v: %v, want %v", fraction, most, wait, got, want)
		}
	}
	f(0, 0, 99*time.Second, true)
	f(0, 0, 100*time.Second, false)
	f(0.5, 0, 499*time.Second, true)
	f(0.5, time.Minute, 59*time.Second, true)
	f(0.5, time.Minute, 60*time.Second, false)
	f(-1, 0, 0, false)
}

// The site's window holds for answers that do not name one.
func TestStaleWhileRevalidateOfSite(t *testing.T) {
	f := func(cc string, wait time.Duration, want string) {
		t.Helper()
		w := newWorld(t, site1(func(s *Site) { s.StaleWhileRevalidate = 20 * time.Second }))
		w.always(w.ok("Cache-Control: "+cc, "x"))
		w.get("/a")
		w.pass(wait)
		x := w.get("/a")
		w.p.tasks.Wait()
		if got := x.cache(); !strings.HasPrefix(got, want) {
			t.Errorf("%s after %v: %q, want %q", cc, wait, got, want)
		}
	}
	f("max-age=10", 29*time.Second, "hit;ttl=-19")
	f("max-age=10", 30*time.Second, "fwd=stale")
	f("max-age=10, stale-while-revalidate=5", 16*time.Second, "fwd=stale")
	f("max-age=10, must-revalidate\nETag: \"e\"", 11*time.Second, "fwd=stale")
}

// Parts of the request that the site puts into the key.
func TestKeyParts(t *testing.T) { eachWay(t, testKeyParts) }

func testKeyParts(t *testing.T) {
	w := newWorld(t, site1(func(s *Site) { s.KeyFields, s.KeyCookies = []string{"X-Country"}, []string{"currency"} }))
	w.says(func(r *http.Request) string {
		return w.ok("Cache-Control: max-age=60", r.Header.Get("X-Country")+"/"+r.Header.Get("Cookie"))
	})
	f := func(cache, body string, lines ...string) {
		t.Helper()
		w.expect(w.get("/a", lines...), 200, body, cache)
	}
	f("fwd=uri-miss", "/")
	f("fwd=uri-miss", "de/", "X-Country: de")
	f("fwd=uri-miss", "/", "X-Country:") // empty is not absent
	f("hit", "de/", "X-Country: de", "Cookie: id=1; xcurrency=usd")
	f("fwd=uri-miss", "de/id=1; currency=eur", "X-Country: de", "Cookie: id=1; currency=eur")
	f("hit", "de/id=1; currency=eur", "Cookie: currency=eur;id=2", "X-Country: de")
	f("fwd=uri-miss", "de/currency=usd", "X-Country: de", "Cookie: currency=usd")
	f("hit", "/")
	w.serve(w.request("POST", "/a")) // an unsafe request speaks of all of them
	f("fwd=uri-miss", "/")
	f("fwd=uri-miss", "de/", "X-Country: de")
	p, values, err := w.p.PurgeURL("http://shop.example/a")
	w.purge(p, values, err)
	f("fwd=uri-miss", "de/", "X-Country: de")
}

// RFC 9110 §15.5.6: 405 names what is allowed.
func TestMethodsOfSite(t *testing.T) {
	w := newWorld(t, site1(func(s *Site) { s.Methods = []string{"GET", "HEAD"} }))
	w.always(w.ok("", "x"))
	w.serveStatus(200, "GET", "/a")
	if got := w.serveStatus(405, "POST", "/a").line("Allow"); got != "GET, HEAD" {
		t.Errorf("Allow: %q", got)
	}
	if got := w.serveStatus(405, "TRACE", "/a").line("Allow"); got == "" {
		t.Error("405 without Allow")
	}
	if got := w.requests(); got != 1 {
		t.Errorf("origin saw %d requests, want 1", got)
	}
}

func TestRawAcceptLanguage(t *testing.T) {
	w := newWorld(t, site1(func(s *Site) { s.RawAcceptLanguage = true }))
	w.always(w.ok("Cache-Control: max-age=60\nVary: Accept-Language\nContent-Language: de", "x"))
	w.get("/a", "Accept-Language: de, en")
	w.expect(w.get("/a", "Accept-Language: de,en"), 200, "x", "hit")
	w.expect(w.get("/a", "Accept-Language: en, de"), 200, "x", "fwd=vary-miss")
	w.expect(w.get("/a", "Accept-Language: de"), 200, "x", "fwd=vary-miss")
}

func TestSiteValuesAreChecked(t *testing.T) {
	_, err := New(Options{
		Engine: newFakeEngine(func() int64 { return 0 }), Pools: []Pool{{Name: "p", Origins: []string{"http://x"}}},
		Sites: []Site{{Name: "a", Hosts: []string{"h"}, Pool: "p", HeuristicFraction: 2, StaleWhileRevalidate: -1, KeyFields: []string{"a b"},
			KeyCookies: []string{""}, Methods: []string{"GET,"}}},
	})
	for _, want := range []string{"heuristic_fraction is 2", "stale_while_revalidate", `"a b"`, `"" is not`, `"GET,"`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not name %s", err, want)
		}
	}
}
