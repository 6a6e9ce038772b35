package proxy

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// untilWaiters returns when n requests wait for a fetch. It gives up when none
// came for ten seconds.
func (w *world) untilWaiters(n int64) {
	w.Helper()
	last, deadline := int64(-1), time.Time{}
	for got := w.p.waiters.Load(); got != n; got = w.p.waiters.Load() {
		if got != last {
			last, deadline = got, time.Now().Add(10*time.Second)
		}
		if time.Now().After(deadline) {
			w.Fatalf("%d waiters, want %d", got, n)
		}
		runtime.Gosched()
	}
}

func TestG10_OneFetchForMany(t *testing.T) { eachEngine(t, testG10_OneFetchForMany) }

func testG10_OneFetchForMany(t *testing.T, on opener) {
	for _, size := range []int{10, 300_000} {
		w := newWorld(t, on(t))
		release := make(chan struct{})
		body := strings.Repeat("z", size)
		w.does(func(c net.Conn, _ *http.Request) {
			<-release
			io.WriteString(c, w.ok("Cache-Control: max-age=60\nVary: Foo", body))
		})
		const n = 100
		out := make(chan *exchange, n)
		for range n {
			go func() { out <- w.get("/a") }()
		}
		w.untilWaiters(n - 1)
		close(release)
		collapsed := 0
		for range n {
			x := <-out
			if x.status != 200 || x.out.String() != body {
				t.Fatalf("got %d with %d bytes", x.status, x.out.Len())
			}
			if strings.Contains(x.cache(), "collapsed") {
				collapsed++
			}
		}
		if got, want := w.requests(), 1; got != want || collapsed != n-1 {
			t.Errorf("size %d: origin saw %d requests, want %d; %d collapsed", size, got, want, collapsed)
		}
	}
}

// A leader that leaves does not take the fetch with it.
func TestLeaderLeaves(t *testing.T) { eachEngine(t, testLeaderLeaves) }

func testLeaderLeaves(t *testing.T, on opener) {
	w := newWorld(t, on(t))
	began, release := make(chan struct{}), make(chan struct{})
	w.does(func(c net.Conn, _ *http.Request) {
		close(began)
		<-release
		io.WriteString(c, w.ok("Cache-Control: max-age=60", "x"))
	})
	ctx, cancel := context.WithCancel(context.Background())
	lead := w.request("GET", "/a")
	lead.ctx = ctx
	gone := make(chan struct{})
	go func() { w.p.Serve(lead); close(gone) }()
	<-began
	second := make(chan *exchange)
	go func() { second <- w.get("/a") }()
	w.untilWaiters(1)
	cancel()
	<-gone
	close(release)
	w.expect(<-second, 200, "x", "fwd=uri-miss;fwd-status=200;stored;collapsed")
}

// When nobody waits any more, the request to the origin is cancelled.
func TestAbandonedFetchIsCancelled(t *testing.T) {
	w := newWorld(t)
	began, closed := make(chan struct{}), make(chan struct{})
	w.does(func(c net.Conn, _ *http.Request) {
		close(began)
		c.Read(make([]byte, 1))
		close(closed)
	})
	ctx, cancel := context.WithCancel(context.Background())
	x := w.request("GET", "/a")
	x.ctx = ctx
	go func() { <-began; cancel() }()
	w.p.Serve(x)
	<-closed
}

// What may not be shared is fetched by each for itself, and the next such
// requests do not wait for each other.
func TestPrivateIsNotCoalesced(t *testing.T) { eachEngine(t, testPrivateIsNotCoalesced) }

func testPrivateIsNotCoalesced(t *testing.T, on opener) {
	w := newWorld(t, on(t))
	var mu sync.Mutex
	n := 0
	release := make(chan struct{})
	w.does(func(c net.Conn, r *http.Request) {
		mu.Lock()
		n++
		mine := n
		mu.Unlock()
		if mine == 1 {
			<-release
		}
		io.WriteString(c, w.ok("Cache-Control: private, max-age=60", r.Header.Get("Cookie")))
	})
	out := make(chan *exchange, 20)
	for i := range 20 {
		go func() {
			x := w.get("/a", fmt.Sprintf("Cookie: id=%d", i))
			x.fields = append(x.fields, [2]string{"want", fmt.Sprintf("id=%d", i)})
			out <- x
		}()
	}
	w.untilWaiters(19)
	close(release)
	for range 20 {
		x := <-out
		if got, want := x.out.String(), string(x.Header("want")); got != want {
			t.Errorf("got the answer %q, want %q", got, want)
		}
	}
	// Remembered: two at once both reach the origin without waiting.
	both := make(chan struct{}, 2)
	var wait sync.WaitGroup
	wait.Add(2)
	w.does(func(c net.Conn, r *http.Request) {
		wait.Done()
		wait.Wait()
		io.WriteString(c, w.ok("Cache-Control: private", "p"))
	})
	for range 2 {
		go func() { w.get("/a"); both <- struct{}{} }()
	}
	<-both
	<-both
}

// Never leak: many clients, public and private answers of one URL mixed, under
// purge and invalidation. Nobody gets a private answer of another.
func TestHammerNeverLeaks(t *testing.T) { eachEngine(t, testHammerNeverLeaks) }

func testHammerNeverLeaks(t *testing.T, on opener) {
	w := newWorld(t, on(t))
	w.says(func(r *http.Request) string {
		who := r.Header.Get("Cookie")
		switch {
		case strings.HasSuffix(who, "3"):
			return w.ok("Cache-Control: max-age=1\nVary: Foo\nETag: \"p\"", "public")
		case strings.HasSuffix(who, "5"): // Authorization is sent with these
			return w.ok("Cache-Control: max-age=60", who)
		case strings.HasSuffix(who, "7"):
			return w.ok("Cache-Control: no-store", who)
		case strings.HasSuffix(who, "9"):
			return w.ok("Cache-Control: max-age=60\nSet-Cookie: "+who, who)
		}
		return w.ok("Cache-Control: private, max-age=60\nETag: \"p\"", who)
	})
	const clients, rounds = 16, 60
	var wg sync.WaitGroup
	for i := range clients {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for j := range rounds {
				who := fmt.Sprintf("id=%d-%d", i, (i+j)%10)
				lines := []string{"Cookie: " + who, fmt.Sprintf("Foo: %d", j%2)}
				if strings.HasSuffix(who, "5") {
					lines = append(lines, "Authorization: Basic "+who)
				}
				x := w.get(fmt.Sprintf("/%d", j%3), lines...)
				if got := x.out.String(); got != who && got != "public" {
					t.Errorf("%s got %d %q", who, x.status, got)
				}
				switch j % 20 {
				case 5:
					p, v, err := w.p.PurgeURL("http://shop.example/1")
					w.purge(p, v, err)
				case 11:
					w.pass(time.Second)
				case 15:
					w.serve(w.request("POST", "/2", "Cookie: "+who))
				}
			}
		}()
	}
	wg.Wait()
}

func TestWaitersAreCapped(t *testing.T) {
	w := newWorld(t, site1(func(s *Site) { s.WaitersMax = 2 }))
	began, release := make(chan struct{}), make(chan struct{})
	w.does(func(c net.Conn, _ *http.Request) {
		close(began)
		<-release
		io.WriteString(c, w.ok("Cache-Control: max-age=60", "x"))
	})
	out := make(chan *exchange, 2)
	go func() { out <- w.get("/a") }()
	<-began
	go func() { out <- w.get("/a") }()
	w.untilWaiters(1)
	w.serveStatus(503, "GET", "/a")
	close(release)
	<-out
	<-out
}

func TestWaiterDeadline(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.Pools[0].FirstByteTimeout = 30 * time.Millisecond })
	release := make(chan struct{})
	w.does(func(c net.Conn, _ *http.Request) { <-release })
	x := w.get("/a")
	w.expect(x, 504, "504 Gateway Timeout: the origin did not answer in time\n", "fwd=uri-miss")
	close(release)
}

// What is too large to be stored streams to one client; waiters go themselves.
func TestTooLargeStreams(t *testing.T) {
	for _, chunked := range []bool{false, true} {
		w := newWorld(t, site1(func(s *Site) { s.MaxObjectBytes = 100_000 }))
		body := strings.Repeat("0123456789", 50_000)
		began, release := make(chan struct{}, 9), make(chan struct{})
		w.does(func(c net.Conn, _ *http.Request) {
			began <- struct{}{}
			<-release
			if !chunked {
				io.WriteString(c, w.ok("Cache-Control: max-age=60", body))
				return
			}
			io.WriteString(c, "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nTransfer-Encoding: chunked\r\n\r\n")
			for rest := body; rest != ""; rest = rest[50_000:] {
				fmt.Fprintf(c, "%x\r\n%s\r\n", 50_000, rest[:50_000])
			}
			io.WriteString(c, "0\r\n\r\n")
		})
		out := make(chan *exchange, 2)
		go func() { out <- w.get("/a") }()
		<-began
		go func() { out <- w.get("/a") }()
		w.untilWaiters(1)
		close(release)
		for range 2 {
			if x := <-out; x.status != 200 || x.out.String() != body || x.aborted {
				t.Errorf("chunked %v: got %d with %d bytes, aborted %v", chunked, x.status, x.out.Len(), x.aborted)
			}
		}
		if got := w.engine.submits; got != 0 {
			t.Errorf("%d answers stored, want none", got)
		}
	}
}

// A spilled answer runs no more than a window ahead of its client.
func TestSpillKeepsToTheWindow(t *testing.T) {
	w := newWorld(t, site1(func(s *Site) { s.MaxObjectBytes = 10_000 }))
	w.does(func(c net.Conn, _ *http.Request) {
		io.WriteString(c, "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nConnection: close\r\n\r\n")
		c.Write(make([]byte, 4<<20))
		c.Close()
	})
	x := w.request("GET", "/a")
	most := 0
	x.onWrite = func(int) {
		w.p.mu.Lock()
		for _, fl := range w.p.flights {
			fl.mu.Lock()
			most = max(most, len(fl.body))
			fl.mu.Unlock()
		}
		w.p.mu.Unlock()
	}
	w.serve(x)
	if x.out.Len() != 4<<20 || most > window+64<<10 {
		t.Errorf("got %d bytes, read ahead %d", x.out.Len(), most)
	}
	w.p.tasks.Wait()
	if got := w.p.fillBytes.Load(); got != 0 {
		t.Errorf("%d fill bytes left", got)
	}
}

// Waiters whose fields select another variant do not get the leader's.
func TestWaitersOfOtherVariants(t *testing.T) { eachEngine(t, testWaitersOfOtherVariants) }

func testWaitersOfOtherVariants(t *testing.T, on opener) {
	w := newWorld(t, on(t))
	began, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	w.does(func(c net.Conn, r *http.Request) {
		once.Do(func() { close(began); <-release })
		io.WriteString(c, w.ok("Cache-Control: max-age=60\nVary: Foo", "for "+r.Header.Get("Foo")))
	})
	out := make(chan *exchange, 7)
	go func() { out <- w.get("/a", "Foo: 0") }()
	<-began
	for i := range 6 {
		go func() { out <- w.get("/a", fmt.Sprintf("Foo: %d", i%3)) }()
	}
	w.untilWaiters(6)
	close(release)
	for range 7 {
		x := <-out
		if got, want := x.out.String(), "for "+string(x.Header("Foo")); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if got, want := w.requests(), 3; got != want {
		t.Errorf("origin saw %d requests, want %d", got, want)
	}
}
