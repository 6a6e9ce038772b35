package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// lineOf returns the line to the origin of a world.
func lineOf(w *world) *line {
	w.Helper()
	if !wires {
		w.Skip("connections of our own are not used here")
	}
	return w.p.table.Load().pools["main"].origins[0].line
}

func (l *line) idleWires() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.idle)
}

// ports notes from which connections requests come.
type ports struct {
	mu   sync.Mutex
	seen map[string]int
}

func (p *ports) note(c net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.seen == nil {
		p.seen = map[string]int{}
	}
	p.seen[c.RemoteAddr().String()]++
}

func (p *ports) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.seen)
}

// A connection is used again after an answer that was read whole, however it is
// framed, and not after others.
func TestWireIsUsedAgain(t *testing.T) {
	const fresh = "Cache-Control: max-age=60\r\n"
	f := func(name, raw string, again bool) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			lineOf(w)
			var from ports
			w.does(func(c net.Conn, _ *http.Request) {
				from.note(c)
				io.WriteString(c, raw)
				if !again {
					c.(*net.TCPConn).CloseWrite()
				}
			})
			for i := range 3 {
				w.get(fmt.Sprint("/", i))
				w.p.tasks.Wait()
			}
			want := 1
			if !again {
				want = 3
			}
			if got := from.count(); got != want {
				t.Errorf("%d connections, want %d", got, want)
			}
		})
	}
	f("length", "HTTP/1.1 200 OK\r\n"+fresh+"Content-Length: 2\r\n\r\nab", true)
	f("large", "HTTP/1.1 200 OK\r\n"+fresh+"Content-Length: 100000\r\n\r\n"+strings.Repeat("x", 100_000), true)
	f("empty", "HTTP/1.1 200 OK\r\n"+fresh+"Content-Length: 0\r\n\r\n", true)
	f("none", "HTTP/1.1 204 X\r\n"+fresh+"\r\n", true)
	f("none, with a length", "HTTP/1.1 204 X\r\nContent-Length: 5\r\n"+fresh+"\r\n", true)
	f("chunked", "HTTP/1.1 200 OK\r\n"+fresh+"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n", true)
	f("trailer", "HTTP/1.1 200 OK\r\n"+fresh+"Transfer-Encoding: chunked\r\nTrailer: X\r\n\r\n2\r\nab\r\n0\r\nX: y\r\n\r\n", true)
	f("interim", "HTTP/1.1 103 E\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\n"+fresh+"Content-Length: 2\r\n\r\nab", true)
	f("long header", "HTTP/1.1 200 OK\r\nX: "+strings.Repeat("x", 2*wireBytes)+"\r\n"+fresh+"Content-Length: 2\r\n\r\nab", true)
	f("kept 1.0", "HTTP/1.0 200 OK\r\n"+fresh+"Connection: keep-alive\r\nContent-Length: 2\r\n\r\nab", true)
	f("1.0", "HTTP/1.0 200 OK\r\n"+fresh+"Content-Length: 2\r\n\r\nab", false)
	f("close", "HTTP/1.1 200 OK\r\n"+fresh+"Connection: close\r\nContent-Length: 2\r\n\r\nab", false)
	f("to the close", "HTTP/1.1 200 OK\r\n"+fresh+"\r\nab", false)
	f("private", "HTTP/1.1 200 OK\r\nCache-Control: private\r\nContent-Length: 2\r\n\r\nab", true)
}

// Bytes behind an answer are nobody's: neither the next request on that connection
// gets them, nor a later one.
func TestWireLeftovers(t *testing.T) {
	const evil = "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 4\r\n\r\nevil"
	for _, first := range []string{
		"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 2\r\n\r\nab",
		"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 204 X\r\nCache-Control: max-age=60\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 20000\r\n\r\n" + strings.Repeat("x", 20_000),
	} {
		w := newWorld(t)
		w.says(func(r *http.Request) string {
			if r.URL.Path == "/first" {
				return first + evil
			}
			return w.ok("", "good")
		})
		w.get("/first")
		w.p.tasks.Wait()
		for _, path := range []string{"/next", "/other"} {
			w.expect(w.get(path), 200, "good", "fwd=uri-miss")
		}
	}
}

// What comes on an idle connection is no answer to the next request.
func TestWireHearsWhatNobodyAsked(t *testing.T) {
	for _, unasked := range []string{"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", "x", ""} {
		w := newWorld(t)
		l := lineOf(w)
		say := make(chan struct{})
		w.does(func(c net.Conn, r *http.Request) {
			io.WriteString(c, w.ok("", "good"))
			if r.URL.Path != "/first" {
				return
			}
			<-say
			if unasked == "" {
				c.Close()
			}
			io.WriteString(c, unasked)
		})
		w.expect(w.get("/first"), 200, "good", "fwd=uri-miss")
		w.p.tasks.Wait()
		l.mu.Lock()
		kept := l.idle[0]
		l.mu.Unlock()
		close(say)
		for limit := time.Now().Add(time.Minute); kept.silent(); runtime.Gosched() {
			if time.Now().After(limit) {
				t.Fatal("it is not heard")
			}
		}
		before := w.p.m.retries.Get()
		w.expect(w.get("/next"), 200, "good", "fwd=uri-miss")
		if got := w.p.m.retries.Get() - before; got != 0 {
			t.Errorf("%q: %d repeats", unasked, got)
		}
	}
}

// Each request gets its own answer, whatever the origin does to its connections.
func TestWireAnswersBelong(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.Pools[0].MaxConnections, o.Pools[0].MaxFailures = 3, 1<<20 })
	w.does(func(c net.Conn, r *http.Request) {
		body := strings.Repeat(r.URL.Path+" ", 1+rand.IntN(3000))
		var raw string
		switch rand.IntN(6) {
		case 0:
			raw = fmt.Sprintf("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(body), body)
		case 1:
			raw = w.ok("Connection: close", body)
		case 2:
			raw = w.ok("", body) + w.ok("", "of nobody")
		case 3:
			raw = w.ok("", body)
			raw = raw[:rand.IntN(len(raw))]
		default:
			raw = w.ok("", body)
		}
		if io.WriteString(c, raw); rand.IntN(4) == 0 || strings.Contains(raw, "close") || !strings.HasSuffix(raw, body) {
			c.Close()
		}
	})
	var all sync.WaitGroup
	for g := range 8 {
		all.Go(func() {
			for i := range 20 {
				path := fmt.Sprintf("/%d-%d", g, i)
				x := w.request("GET", path)
				w.p.Serve(x)
				if left := strings.ReplaceAll(x.out.String(), path+" ", ""); x.status == 200 && !strings.HasPrefix(path+" ", left) {
					t.Errorf("%s got %.100q", path, left)
				}
			}
		})
	}
	all.Wait()
}

// Connections of net/http and wires share the limit, and each makes room for the
// other.
func TestLineIsShared(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.Pools[0].MaxConnections, o.Pools[0].FirstByteTimeout = 1, time.Hour })
	lineOf(w)
	w.always(w.ok("Cache-Control: no-store", "x"))
	for range 3 {
		w.expect(w.get("/a"), 200, "x", "fwd=uri-miss")
		x := w.request("POST", "/a")
		x.body, x.length = strings.NewReader("hello"), 5
		w.expect(w.serve(x), 200, "x", "fwd=method")
	}
	var all sync.WaitGroup
	for i := range 16 {
		all.Go(func() {
			x := w.request("GET", fmt.Sprint("/", i))
			if i%2 == 0 {
				x = w.request("POST", "/a")
				x.body, x.length = strings.NewReader("hello"), 5
			}
			if w.p.Serve(x); x.status != 200 {
				t.Errorf("%s: %d", x.method, x.status)
			}
		})
	}
	all.Wait()
}

// stubLine is a line whose connections are one end of a pipe.
func stubLine(t *testing.T, room int) *line {
	if !wires {
		t.Skip("connections of our own are not used here")
	}
	u, _ := url.Parse("http://origin.example")
	l := newLine(u, &Pool{IdleTimeout: time.Hour, MaxConnections: room}, nil, func() {})
	l.dial = func(context.Context, string) (net.Conn, error) {
		a, b := net.Pipe()
		t.Cleanup(func() { a.Close(); b.Close() })
		return a, nil
	}
	t.Cleanup(func() { l.closeIdle(true) })
	return l
}

func TestLineWaits(t *testing.T) {
	l := stubLine(t, 1)
	if l.address != "origin.example:80" {
		t.Errorf("address %q", l.address)
	}
	first, err := l.wire(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	ctx, leave := context.WithCancelCause(context.Background())
	got := make(chan error)
	go func() { _, err := l.wire(ctx); got <- err }()
	for !l.crowded() {
		runtime.Gosched()
	}
	leave(errAbandoned)
	if err := <-got; !errors.Is(err, errAbandoned) || l.crowded() {
		t.Errorf("who left got %v, and still waits: %v", err, l.crowded())
	}
	entered := make(chan error)
	go func() { entered <- l.enter(context.Background()) }()
	for !l.crowded() {
		runtime.Gosched()
	}
	l.release(first, true) // closed: there is a wish for room
	if err := <-entered; err != nil || l.idleWires() != 0 {
		t.Errorf("%v, %d idle", err, l.idleWires())
	}
	if _, err := first.Write([]byte("x")); err == nil {
		t.Error("the wire that made room is open")
	}
	l.leave()
	if l.room != 1 {
		t.Errorf("room for %d, want 1", l.room)
	}
	l.dial = func(context.Context, string) (net.Conn, error) { return nil, errBroken }
	if _, err := l.wire(context.Background()); !errors.Is(err, errBroken) || l.room != 1 {
		t.Errorf("%v, room for %d, want 1", err, l.room)
	}
}

func TestLineCloses(t *testing.T) {
	l := stubLine(t, 3)
	var all []*wire
	for range 3 {
		w, err := l.wire(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, w)
	}
	for _, w := range all {
		l.release(w, true)
	}
	all[0].since = time.Now().Add(-2 * time.Hour)
	if l.sweep(); l.idleWires() != 2 || l.room != 1 {
		t.Errorf("%d idle, room for %d", l.idleWires(), l.room)
	}
	if err := l.enter(context.Background()); err != nil || l.room != 0 {
		t.Errorf("%v, room for %d", err, l.room)
	}
	if err := l.enter(context.Background()); err != nil || l.idleWires() != 1 {
		t.Errorf("%v, %d idle: the oldest makes room", err, l.idleWires())
	}
	l.closeIdle(true)
	l.leave()
	w, err := l.wire(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if l.release(w, true); l.idleWires() != 0 || l.room != 2 {
		t.Errorf("retired: %d idle, room for %d", l.idleWires(), l.room)
	}
}

// Nobody waits for the origin of a request that nobody wants.
func TestWireIsClosedWhenNobodyWaits(t *testing.T) {
	w := newWorld(t)
	lineOf(w)
	came, closed := make(chan struct{}), make(chan struct{})
	w.does(func(c net.Conn, _ *http.Request) {
		close(came)
		c.Read(make([]byte, 1))
		close(closed)
	})
	ctx, leave := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		x := w.request("GET", "/a")
		x.ctx = ctx
		w.p.Serve(x)
	}()
	<-came
	leave()
	<-closed
	<-done
}
