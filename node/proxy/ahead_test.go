package proxy

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// isHot makes the engine say that a path of the site was asked for much.
func (w *world) isHot(paths ...string) {
	w.engine.mu.Lock()
	defer w.engine.mu.Unlock()
	w.engine.hot = map[string]uint64{}
	for _, path := range paths {
		w.engine.hot["sshop\x00http://shop.example"+path] = 100
	}
}

// askedFor fails unless the origin saw n requests.
func (w *world) askedFor(n int) {
	w.Helper()
	w.p.tasks.Wait()
	if got := w.requests(); got != n {
		w.Errorf("the origin saw %d requests, want %d", got, n)
	}
}

func refreshing(d time.Duration) func(o *Options) { return site1(func(s *Site) { s.RefreshAhead = d }) }

// What is hot does not end: shortly before it would, one hit fetches it anew. What
// is not hot ends.
func TestAhead_HotStaysFresh(t *testing.T) {
	w := newWorld(t, refreshing(10*time.Second))
	w.says(func(r *http.Request) string {
		if r.Header.Get("If-None-Match") != "" {
			return w.status(304, "Cache-Control: max-age=60\nETag: \"e\"", "")
		}
		return w.ok("Cache-Control: max-age=60\nETag: \"e\"", "x")
	})
	w.isHot("/a")
	w.get("/a")
	w.get("/cold")
	w.pass(49 * time.Second)
	w.expect(w.get("/a"), 200, "x", "hit;ttl=11")
	w.askedFor(2)
	for range 5 {
		w.pass(2 * time.Second)
		w.expect(w.get("/a"), 200, "x", "hit;ttl=9")
		w.get("/cold")
		w.p.tasks.Wait()
		w.expect(w.get("/a"), 200, "x", "hit;ttl=60")
		w.pass(49 * time.Second)
	}
	w.expect(w.get("/cold"), 200, "x", "fwd=stale")
	w.expect(w.get("/a"), 200, "x", "hit")
	if n := w.p.m.aheadBegun.Get(); n != 5 {
		t.Errorf("%d refreshes ahead, want 5", n)
	}
}

// However many hit it, it is fetched once, and once only if that brings nothing.
func TestAhead_Once(t *testing.T) {
	w := newWorld(t, refreshing(time.Minute))
	w.always(w.ok("Cache-Control: max-age=100", "old"))
	w.isHot("/a")
	w.get("/a")
	w.pass(80 * time.Second)
	release := make(chan struct{})
	w.does(func(c net.Conn, _ *http.Request) {
		<-release
		io.WriteString(c, w.ok("Cache-Control: max-age=100", "new"))
	})
	var clients sync.WaitGroup
	for range 50 {
		clients.Go(func() { w.expect(w.get("/a"), 200, "old", "hit;ttl=20") })
	}
	clients.Wait()
	close(release)
	w.askedFor(2)
	w.expect(w.get("/a"), 200, "new", "hit;ttl=100")

}

// What brings nothing that is fresh for all leaves what is stored, which ends when
// it would have, and is asked for once.
func TestAhead_LeavesWhatIsStored(t *testing.T) {
	made := newWorld(t)
	for _, bad := range []string{
		made.status(500, "Cache-Control: max-age=1000", "bad"), made.status(404, "Cache-Control: max-age=1000", "bad"),
		made.status(401, "Cache-Control: max-age=1000, public", "bad"), made.status(410, "Cache-Control: no-store", "bad"),
		made.ok("Cache-Control: no-store", "bad"), made.ok("Cache-Control: private", "bad"), made.ok("Cache-Control: max-age=0\nETag: \"f\"", "bad"),
		made.ok("Cache-Control: no-cache\nETag: \"f\"", "bad"), made.status(302, "Location: /login", ""), made.ok("Cache-Control: max-age=9\nVary: *", "bad"),
		made.status(304, "Cache-Control: no-store\nETag: \"e\"", ""), made.status(304, "Cache-Control: private\nETag: \"e\"", ""),
		made.status(304, "Cache-Control: max-age=0\nETag: \"e\"", ""),
		made.status(206, "Cache-Control: max-age=1000\nETag: \"f\"\nContent-Range: bytes 0-2/9", "bad"),
		"HTTP/1.1 200 OK\r\nContent-Length: 99\r\nETag: \"f\"\r\nCache-Control: max-age=1000\r\n\r\nhalf", "garbage\r\n\r\n",
		made.ok("Cache-Control: max-age=1000", strings.Repeat("x", 2000)),
	} {
		w := newWorld(t, refreshing(time.Minute), site1(func(s *Site) { s.MaxObjectBytes = 1000 }))
		w.always(w.ok("Cache-Control: max-age=100\nETag: \"e\"", "old"))
		w.isHot("/a")
		w.get("/a")
		w.pass(80 * time.Second)
		w.does(func(c net.Conn, _ *http.Request) {
			io.WriteString(c, bad)
			c.Close()
		})
		w.expect(w.get("/a"), 200, "old", "hit;ttl=20")
		w.p.tasks.Wait()
		asked := w.requests()
		if asked < 2 {
			t.Errorf("%q: it was not asked for", bad)
		}
		for range 19 {
			w.expect(w.get("/a"), 200, "old", "hit")
			w.pass(time.Second)
		}
		w.askedFor(asked)
		w.always(w.ok("Cache-Control: max-age=100", "new"))
		w.pass(time.Second)
		w.expect(w.get("/a"), 200, "new", "fwd=stale")
	}
}

// Requests that say who asks, or ask for less or something else, begin nothing, nor
// does a hit too early, on what has a short life, or where it is off.
func TestAhead_OnlyPlain(t *testing.T) {
	f := func(what string, window, passed time.Duration, begins bool, method string, lines ...string) {
		t.Helper()
		w := newWorld(t, refreshing(window), site1(func(s *Site) { s.HonourRequestDirectives = []string{"no-store"} }))
		w.always(w.ok("Cache-Control: public, max-age=100\nETag: \"e\"", "x"))
		w.isHot("/a")
		w.get("/a")
		w.pass(passed)
		w.serve(w.request(method, "/a", lines...))
		w.p.tasks.Wait()
		if got := w.requests() == 2; got != begins {
			t.Errorf("%s: refreshed %v, want %v", what, got, begins)
		}
	}
	f("plain", 20*time.Second, 85*time.Second, true, "GET")
	f("conditional", 20*time.Second, 85*time.Second, true, "GET", "If-None-Match: \"e\"")
	f("off", 0, 85*time.Second, false, "GET")
	f("early", 20*time.Second, 75*time.Second, false, "GET")
	f("before the last quarter", time.Minute, 70*time.Second, false, "GET")
	f("in the last quarter", time.Minute, 76*time.Second, true, "GET")
	f("HEAD", 20*time.Second, 85*time.Second, false, "HEAD")
	f("range", 20*time.Second, 85*time.Second, false, "GET", "Range: bytes=0-0")
	f("cookie", 20*time.Second, 85*time.Second, false, "GET", "Cookie: a=b")
	f("no-store", 20*time.Second, 85*time.Second, false, "GET", "Cache-Control: no-store")
	f("loop", 20*time.Second, 85*time.Second, false, "GET", "CDN-Loop: edgenode"+strings.Repeat(", edgenode", maxLoops-1))
	f("authorization", 20*time.Second, 85*time.Second, false, "GET", "Authorization: Basic x")
}

// Nothing is begun while the node is crowded, when the pool rests, or beyond what a
// pool gets at once; a later hit may.
func TestAhead_Bounds(t *testing.T) {
	w := newWorld(t, refreshing(time.Minute), func(o *Options) { o.Pools[0].MaxFailures, o.Pools[0].Rest = 1, 5*time.Second })
	w.always(w.ok("Cache-Control: max-age=100", "x"))
	var paths []string
	for i := range 12 {
		paths = append(paths, fmt.Sprint("/", i))
		w.get(paths[i])
	}
	w.isHot(paths...)
	w.pass(76 * time.Second)
	w.engine.crowded.Store(true)
	w.get("/0")
	w.askedFor(12)
	w.engine.crowded.Store(false)
	o := w.p.table.Load().pools["main"].origins[0]
	o.failed(w.now())
	w.get("/0")
	w.askedFor(12)
	o.worked()
	release := make(chan struct{})
	w.does(func(c net.Conn, _ *http.Request) {
		<-release
		io.WriteString(c, w.ok("Cache-Control: max-age=100", "new"))
	})
	for _, path := range paths {
		w.expect(w.get(path), 200, "x", "hit")
	}
	if got := w.p.fills.Load(); got != aheadAtOnce {
		t.Errorf("%d fetches at once, want %d", got, aheadAtOnce)
	}
	close(release)
	w.askedFor(12 + aheadAtOnce)
	for range 3 {
		for _, path := range paths[aheadAtOnce:] { // ten a second
			w.get(path)
			w.p.tasks.Wait()
		}
	}
	w.askedFor(12 + aheadRate)
	if w.p.m.aheadSkipped.Get() == 0 {
		t.Error("nothing was counted as skipped")
	}
}

// The answer to one variant is renewed, not another's.
func TestAhead_Variants(t *testing.T) {
	w := newWorld(t, refreshing(time.Minute))
	w.says(func(r *http.Request) string {
		return w.ok("Cache-Control: max-age=100\nVary: Foo", r.Header.Get("Foo"))
	})
	w.get("/a", "Foo: 1")
	w.pass(10 * time.Second)
	w.get("/a", "Foo: 2")
	w.engine.mu.Lock()
	w.engine.hot = map[string]uint64{}
	for key := range w.engine.items {
		if strings.Contains(key, "/a"+keyVariant) {
			w.engine.hot[key] = 100
		}
	}
	w.engine.mu.Unlock()
	w.pass(70 * time.Second)
	w.expect(w.get("/a", "Foo: 1"), 200, "1", "hit;ttl=20")
	w.expect(w.get("/a", "Foo: 2"), 200, "2", "hit;ttl=30")
	w.askedFor(3)
	w.expect(w.get("/a", "Foo: 1"), 200, "1", "hit;ttl=100")
	w.expect(w.get("/a", "Foo: 2"), 200, "2", "hit;ttl=30")
}

// Each stored answer is asked for once: one with a shorter life than its forerunner
// had left is refreshed as well.
func TestAhead_EachAnswer(t *testing.T) {
	w := newWorld(t, refreshing(time.Minute))
	w.always(w.ok("Cache-Control: max-age=400", "1"))
	w.isHot("/a")
	w.get("/a")
	w.pass(340 * time.Second)
	w.says(func(*http.Request) string { return w.ok("Cache-Control: max-age=40", "2") })
	w.expect(w.get("/a"), 200, "1", "hit;ttl=60")
	w.askedFor(2)
	w.pass(31 * time.Second)
	w.expect(w.get("/a"), 200, "2", "hit;ttl=9")
	w.askedFor(3)
	w.expect(w.get("/a"), 200, "2", "hit;ttl=40")
}

// Who must wait, since what was stored ended meanwhile, waits for the refresh; if
// that brings an error, he asks for himself.
func TestAhead_WaitedFor(t *testing.T) {
	for _, bad := range []bool{false, true} {
		w := newWorld(t, refreshing(time.Minute))
		w.always(w.ok("Cache-Control: max-age=100", "old"))
		w.isHot("/a")
		w.get("/a")
		w.pass(90 * time.Second)
		release := make(chan struct{})
		w.does(func(c net.Conn, _ *http.Request) {
			<-release
			if bad {
				io.WriteString(c, w.status(404, "Cache-Control: max-age=100", "bad"))
				return
			}
			io.WriteString(c, w.ok("Cache-Control: max-age=100", "new"))
		})
		w.expect(w.get("/a"), 200, "old", "hit;ttl=10")
		w.pass(11 * time.Second)
		var clients sync.WaitGroup
		for range 5 {
			clients.Go(func() {
				want := 200
				if bad {
					want = 404
				}
				if x := w.get("/a"); x.status != want {
					t.Errorf("status %d, want %d", x.status, want)
				}
			})
		}
		close(release)
		clients.Wait()
		w.p.tasks.Wait()
		if got := w.requests(); !bad && got != 2 || bad && got < 3 {
			t.Errorf("the origin saw %d requests", got)
		}
	}
}

// What a pool may have under way is counted on the pool that was asked, though a
// reload puts another in its place meanwhile.
func TestAhead_Reload(t *testing.T) {
	var o Options
	w := newWorld(t, refreshing(time.Minute), func(given *Options) { o = *given })
	w.always(w.ok("Cache-Control: max-age=100", "old"))
	w.isHot("/a")
	w.get("/a")
	w.pass(90 * time.Second)
	release := make(chan struct{})
	w.does(func(c net.Conn, _ *http.Request) {
		<-release
		io.WriteString(c, w.ok("Cache-Control: max-age=100", "new"))
		c.Close() // else it is kept for the old pool
	})
	w.get("/a")
	before := w.p.table.Load().pools["main"]
	if n := before.ahead.under.Load(); n != 1 {
		t.Errorf("%d under way, want 1", n)
	}
	if err := w.p.Configure(o.Sites, o.Pools); err != nil {
		t.Fatal(err)
	}
	close(release)
	w.askedFor(2)
	if a, b := before.ahead.under.Load(), w.p.table.Load().pools["main"].ahead.under.Load(); a != 0 || b != 0 {
		t.Errorf("%d and %d are counted as under way", a, b)
	}
}
