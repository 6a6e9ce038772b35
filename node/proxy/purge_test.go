package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/edgenode/edgenode/tiers"
	"github.com/edgenode/edgenode/tiers/item"
)

func (w *world) purge(p item.Predicate, values []string, err error) {
	w.Helper()
	if err == nil {
		_, err = w.store.Purge(context.Background(), tiers.Purge{Namespaces: item.InSites, Match: p, Values: values})
	}
	if err != nil {
		w.Fatal(err)
	}
}

// purges are the ways to purge http://shop.example/a/b?c=d tagged k1.
var purges = map[string]func(w *world){
	"url":    func(w *world) { p, v, err := w.p.PurgeURL("http://SHOP.example.:80/a/b?c=d"); w.purge(p, v, err) },
	"anyurl": func(w *world) { p, v, err := w.p.PurgeURL("shop.example/a/b?c=d"); w.purge(p, v, err) },
	"prefix": func(w *world) { p, v, err := w.p.PurgePrefix("http://shop.example/a/"); w.purge(p, v, err) },
	"host":   func(w *world) { p, v, err := PurgeHost("shop.example"); w.purge(p, v, err) },
	"tag":    func(w *world) { w.purge(item.MatchTag, []string{"k1"}, nil) },
	"all":    func(w *world) { w.purge(item.MatchAll, nil, nil) },
}

func TestPurgeHostRefuses(t *testing.T) {
	for _, host := range []string{"", "http://shop.example/", "http://shop.example", "shop.example/a", "shop example", "shop.example?", "*/", "a\nb"} {
		if p, v, err := PurgeHost(host); !errors.Is(err, ErrBadURL) {
			t.Errorf("PurgeHost(%q) = %v %q %v, want ErrBadURL", host, p, v, err)
		}
	}
}

func TestPurgeOfWhatIsStored(t *testing.T) { eachEngine(t, testPurgeOfWhatIsStored) }

func testPurgeOfWhatIsStored(t *testing.T, on opener) {
	for name, purge := range purges {
		for _, vary := range []string{"", "\nVary: Foo"} {
			w := newWorld(t, on(t))
			w.always(w.ok("Cache-Control: max-age=60\nSurrogate-Key: k1 k2"+vary, "x"))
			w.get("/a/b?c=d")
			w.get("/z")
			w.expect(w.get("/a/b?c=d"), 200, "x", "hit")
			purge(w)
			w.pass(time.Second)
			x := w.get("/a/b?c=d")
			if !strings.HasPrefix(x.cache(), "fwd=") {
				t.Errorf("%s: %q after the purge", name, x.cache())
			}
			if name != "host" && name != "all" && name != "tag" {
				w.expect(w.get("/z"), 200, "x", "hit")
			}
		}
	}
}

// C23: an origin's answer is held back, a purge comes, the answer arrives; the
// next request goes to the origin.
func TestC23_PurgeDuringFetch(t *testing.T) { eachEngine(t, testC23_PurgeDuringFetch) }

func testC23_PurgeDuringFetch(t *testing.T, on opener) {
	const target = "/a/b?c=d"
	for name, purge := range purges {
		for _, through := range []string{"answer", "304", "background", "variant", "stream"} {
			t.Run(name+"/"+through, func(t *testing.T) {
				w := newWorld(t, on(t))
				lines := "Cache-Control: max-age=10, stale-while-revalidate=1000\nSurrogate-Key: k1\nETag: \"e\""
				if through == "variant" {
					lines += "\nVary: Foo"
				}
				if through == "304" {
					lines = strings.Replace(lines, ", stale-while-revalidate=1000", "", 1)
				}
				w.always(w.ok(lines, "old"))
				if through == "304" || through == "background" {
					w.get(target)
					w.pass(20 * time.Second)
				}
				began, release := make(chan struct{}), make(chan struct{})
				w.does(func(c net.Conn, r *http.Request) {
					close(began)
					<-release
					switch {
					case through == "304":
						io.WriteString(c, w.status(304, lines, ""))
					case through == "stream":
						io.WriteString(c, w.ok(lines, strings.Repeat("x", 100_000)))
					default:
						io.WriteString(c, w.ok(lines, "held"))
					}
				})
				done := make(chan *exchange)
				go func() { done <- w.get(target) }()
				if through == "background" {
					<-done
				}
				<-began
				purge(w)
				w.always(w.ok(lines, "fresh"))
				// A request after the purge does not get the older fetch. Whether a tag
				// covers that is known only when its header arrives.
				after := make(chan *exchange)
				go func() { after <- w.get(target) }()
				if name == "tag" {
					w.untilWaiters(1)
					close(release)
				}
				w.expect(<-after, 200, "fresh", "fwd=")
				if name != "tag" {
					close(release)
				}
				if through != "background" {
					<-done
				}
				w.p.tasks.Wait()
				w.expect(w.get(target), 200, "fresh", "hit")
				purge(w)
				w.always(w.ok(lines, "fresher"))
				w.expect(w.get(target), 200, "fresher", "fwd=")
			})
		}
	}
}

// A waiter that joined after a purge by a tag that only the answer names.
func TestC23_WaiterAfterTagPurge(t *testing.T) { eachEngine(t, testC23_WaiterAfterTagPurge) }

func testC23_WaiterAfterTagPurge(t *testing.T, on opener) {
	w := newWorld(t, on(t))
	lines := "Cache-Control: max-age=10\nCache-Tag: k9"
	began, release := make(chan struct{}), make(chan struct{})
	w.does(func(c net.Conn, r *http.Request) {
		close(began)
		<-release
		io.WriteString(c, w.ok(lines, "held"))
	})
	first, second := make(chan *exchange), make(chan *exchange)
	go func() { first <- w.get("/a") }()
	<-began
	w.purge(item.MatchTag, []string{"k9"}, nil)
	go func() { second <- w.get("/a") }()
	w.untilWaiters(1)
	w.does(func(c net.Conn, r *http.Request) { io.WriteString(c, w.ok(lines, "fresh")) })
	close(release)
	w.expect(<-first, 200, "held", "fwd=uri-miss;fwd-status=200")
	w.expect(<-second, 200, "fresh", "fwd=")
	w.expect(w.get("/a"), 200, "fresh", "hit")
}

func TestSoftPurge(t *testing.T) { eachWay(t, testSoftPurge) }

func testSoftPurge(t *testing.T) {
	w := newWorld(t)
	w.says(func(r *http.Request) string {
		if r.Header.Get("If-None-Match") != "" {
			return w.status(304, "Cache-Control: max-age=60", "")
		}
		return w.ok("Cache-Control: max-age=60\nETag: \"e\"", "x")
	})
	w.get("/a")
	_, v, _ := w.p.PurgeURL("http://shop.example/a")
	if _, err := w.store.Purge(context.Background(), tiers.Purge{Soft: true, Namespaces: item.InSites, Match: item.MatchTag, Values: v}); err != nil {
		t.Fatal(err)
	}
	w.expect(w.get("/a"), 200, "x", "fwd=stale;fwd-status=304")
	w.expect(w.get("/a"), 200, "x", "hit")
	w.does(func(c net.Conn, _ *http.Request) { c.Close() })
	if _, err := w.store.Purge(context.Background(), tiers.Purge{Soft: true, Namespaces: item.InSites, Match: item.MatchTag, Values: v}); err != nil {
		t.Fatal(err)
	}
	w.expect(w.get("/a"), 200, "x", "fwd=stale") // stands in while the origin is away
}

// RFC 9111 §4.4.
func TestRFC9111Section44Invalidation(t *testing.T) { eachEngine(t, testRFC9111Section44Invalidation) }

func testRFC9111Section44Invalidation(t *testing.T, on opener) {
	f := func(method string, status int, lines string, gone ...string) {
		t.Helper()
		w := newWorld(t, on(t))
		w.says(func(r *http.Request) string {
			if r.Method == "GET" {
				return w.ok("Cache-Control: max-age=60\nVary: Foo", "x")
			}
			return w.status(status, lines, "")
		})
		for _, target := range []string{"/a", "/b", "/c"} {
			w.get(target)
			w.get(target, "Foo: 1")
		}
		w.serve(w.request(method, "/a"))
		for _, target := range []string{"/a", "/b", "/c"} {
			want := "hit"
			for _, g := range gone {
				if g == target {
					want = "fwd="
				}
			}
			for _, line := range []string{"Foo: 1", "X: y"} {
				if got := w.get(target, line).cache(); !strings.HasPrefix(got, want) {
					t.Errorf("%s %d %q: then GET %s is %q, want %q", method, status, lines, target, got, want)
				}
			}
		}
	}
	f("POST", 200, "", "/a")
	f("PUT", 204, "", "/a")
	f("DELETE", 200, "", "/a")
	f("PATCH", 302, "Location: /b", "/a", "/b")
	f("FROB", 201, "Location: http://shop.example/b\nContent-Location: c", "/a", "/b", "/c")
	f("POST", 200, "Location: http://other.example/b", "/a")
	f("POST", 404, "")
	f("POST", 500, "Location: /b")
	f("OPTIONS", 200, "")
}

// Unsafe requests for what was never fetched write no rule.
func TestInvalidationWithoutNeed(t *testing.T) {
	w := newWorld(t)
	w.always(w.ok("", "x"))
	for range 10 {
		w.serve(w.request("POST", "/never"))
	}
	if got := w.engine.ruleCount(); got != 0 {
		t.Errorf("%d rules, want 0", got)
	}
}

// RFC 9110 §9.3.3: the answer to a POST serves later GETs.
func TestPostAnswerServesGet(t *testing.T) { eachEngine(t, testPostAnswerServesGet) }

func testPostAnswerServesGet(t *testing.T, on opener) {
	w := newWorld(t, on(t))
	n := 0
	w.says(func(r *http.Request) string {
		n++
		if r.Method == "POST" {
			return w.ok("Cache-Control: max-age=60\nContent-Location: /a", fmt.Sprint("posted", n))
		}
		return w.ok("Cache-Control: max-age=60", fmt.Sprint("got", n))
	})
	w.get("/a")
	w.expect(w.serve(w.request("POST", "/a")), 200, "posted2", "fwd=method;fwd-status=200;stored")
	w.expect(w.get("/a"), 200, "posted2", "hit")
	w.expect(w.serve(w.request("POST", "/a")), 200, "posted3", "fwd=method;fwd-status=200;stored")
	w.expect(w.get("/a"), 200, "posted3", "hit")
	p, v, err := w.p.PurgeURL("http://shop.example/a")
	w.purge(p, v, err)
	w.expect(w.get("/a"), 200, "got4", "fwd=")
	w.serve(w.request("POST", "/b")) // Content-Location is another URL
	w.expect(w.get("/b"), 200, "got6", "fwd=")
}

// RFC 9875: groups of one origin are invalidated together.
func TestRFC9875CacheGroups(t *testing.T) { eachEngine(t, testRFC9875CacheGroups) }

func testRFC9875CacheGroups(t *testing.T, on opener) {
	w := newWorld(t, on(t))
	w.says(func(r *http.Request) string {
		if r.Method == "POST" {
			return w.ok(`Cache-Group-Invalidation: "g 1", "other";x=1`, "")
		}
		if r.URL.Path == "/free" {
			return w.ok("Cache-Control: max-age=60", "x")
		}
		return w.ok("Cache-Control: max-age=60\nCache-Groups: \"g 1\"", "x")
	})
	other := func() *exchange {
		x := w.request("GET", "/a")
		x.host = "x.shop.example"
		return w.serve(x)
	}
	for _, target := range []string{"/a", "/b", "/free"} {
		w.get(target)
	}
	other()
	w.serve(w.request("POST", "/elsewhere"))
	w.expect(w.get("/a"), 200, "x", "fwd=uri-miss")
	w.expect(w.get("/b"), 200, "x", "fwd=uri-miss")
	w.expect(w.get("/free"), 200, "x", "hit")
	w.expect(other(), 200, "x", "hit") // another origin
}

// Invalidation does not depend on the client being there.
func TestInvalidationWithoutClient(t *testing.T) {
	w := newWorld(t)
	w.always(w.ok("Cache-Control: max-age=60", "x"))
	w.get("/a")
	began := make(chan struct{})
	ctx, cancel := context.WithCancel(context.Background())
	w.does(func(c net.Conn, _ *http.Request) { close(began) })
	x := w.request("POST", "/a")
	x.ctx = ctx
	go func() { <-began; cancel() }()
	w.serve(x)
	w.always(w.ok("Cache-Control: max-age=60", "new"))
	w.expect(w.get("/a"), 200, "new", "fwd=")
}

// A 304 that brings other tags does not save an answer whose own were purged.
func TestC23_OldTagsCoverA304(t *testing.T) { eachEngine(t, testC23_OldTagsCoverA304) }

func testC23_OldTagsCoverA304(t *testing.T, on opener) {
	w := newWorld(t, on(t))
	w.always(w.ok("Cache-Control: max-age=10\nETag: \"e\"\nSurrogate-Key: k1", "old"))
	w.get("/a")
	w.pass(20 * time.Second)
	began, release := make(chan struct{}), make(chan struct{})
	w.does(func(c net.Conn, _ *http.Request) {
		close(began)
		<-release
		io.WriteString(c, w.status(304, "Cache-Control: max-age=10\nETag: \"e\"\nSurrogate-Key: k2", ""))
	})
	done := make(chan *exchange)
	go func() { done <- w.get("/a") }()
	<-began
	w.purge(item.MatchTag, []string{"k1"}, nil)
	close(release)
	w.expect(<-done, 200, "old", "fwd=stale;fwd-status=304")
	w.always(w.ok("Cache-Control: max-age=10", "new"))
	w.expect(w.get("/a"), 200, "new", "fwd=")
}
