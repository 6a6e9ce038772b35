package front_test

import (
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/edgenode/edgenode/node/front"
)

// TestHeadLimits holds the borders of URL and header block, however the bytes
// are cut.
func TestHeadLimits(t *testing.T) {
	var r recorder
	s := start(t, front.Options{MaxURLBytes: 1 << 10, MaxHeaderBytes: 2 << 10}, r.serve)
	f := func(name, raw, codes string) {
		t.Helper()
		if got := statuses(exchange(t, s, raw)); got != codes {
			t.Errorf("%s: got %q, want %q", name, got, codes)
		}
	}
	const tail = " HTTP/1.1\r\nHost: h\r\n\r\n"
	f("longest URL", "GET /"+strings.Repeat("a", 1023)+tail, "200")
	f("URL one too long", "GET /"+strings.Repeat("a", 1024)+tail, "414")
	f("URL without end", "GET /"+strings.Repeat("a", 100<<10), "414")
	f("method without end", strings.Repeat("A", 100<<10), "414")
	fixed := len("Host: h\r\nX: \r\n\r\n")
	f("largest header", "GET / HTTP/1.1\r\nHost: h\r\nX: "+strings.Repeat("a", 2048-fixed)+"\r\n\r\n", "200")
	f("header one too large", "GET / HTTP/1.1\r\nHost: h\r\nX: "+strings.Repeat("a", 2049-fixed)+"\r\n\r\n", "431")
	f("line without end", "GET / HTTP/1.1\r\nHost: h\r\nX: "+strings.Repeat("a", 100<<10), "431")
	f("lines without end", "GET / HTTP/1.1\r\nHost: h\r\n"+strings.Repeat("X: a\r\n", 20<<10), "431")
	f("both at their limit, twice", strings.Repeat("GET /"+strings.Repeat("a", 1023)+" HTTP/1.1\r\nHost: h\r\nX: "+strings.Repeat("a", 2048-fixed)+"\r\n\r\n", 2), "200 200")

	// Byte by byte, as a slow sender does.
	nc := dial(t, s)
	nc.SetNoDelay(true)
	for _, c := range []byte("POST /slow HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3;x\r\nabc\r\n0\r\nX: y\r\n\r\n") {
		nc.Write([]byte{c})
	}
	expect(t, nc, "HTTP/1.1 200 OK\r\nDate: now\r\nContent-Length: 0\r\n\r\n")
	if seen := r.take(); seen[len(seen)-1] != "POST /slow h abc" {
		t.Errorf("handler saw %q", seen)
	}
}

// TestHeadOverBuffers sends heads and bodies around the size of the first
// buffer, so that it moves and grows; what handlers saw must not change.
func TestHeadOverBuffers(t *testing.T) {
	s := start(t, front.Options{}, func(x *front.Exchange) {
		target, host, value := string(x.Target()), string(x.Host()), string(x.Header("x"))
		body, err := io.ReadAll(x.Body())
		if string(x.Target()) != target || string(x.Host()) != host || string(x.Header("x")) != value {
			t.Errorf("head changed while the body was read")
		}
		if want := strings.Repeat("b", len(body)); string(body) != want || err != nil || int64(len(body)) != x.ContentLength() && x.ContentLength() != -1 {
			t.Errorf("body of %d bytes, %v", len(body), err)
		}
		x.Status(200)
		x.Send(nil)
	})
	for _, head := range []int{10, 2000, 3000, 4000, 4100, 9000} {
		var raw strings.Builder
		for _, size := range []int{1, 1000, 4096, 9000, 100_000} {
			start := "PUT / HTTP/1.1\r\nHost: h\r\nX: " + strings.Repeat("a", head)
			body := strings.Repeat("b", size)
			raw.WriteString(start + "\r\nContent-Length: " + decimal(size) + "\r\n\r\n" + body)
			raw.WriteString(start + "\r\nTransfer-Encoding: chunked\r\n\r\n" + hex(size) + "\r\n" + body + "\r\n1;e\r\nb\r\n0\r\n\r\n")
		}
		if got, want := statuses(exchange(t, s, raw.String())), strings.TrimSpace(strings.Repeat("200 ", 10)); got != want {
			t.Errorf("head of %d: got %q, want %q", head, got, want)
		}
	}
}

// inBubble runs f with a server over memory, in a bubble whose clock is fake.
func inBubble(t *testing.T, o front.Options, h front.Handler, f func(ln *memoryListener)) {
	synctest.Test(t, func(t *testing.T) {
		ln := newMemoryListener()
		o.Listener, o.Logger = ln, quiet()
		s, err := front.Listen(o)
		if err != nil {
			t.Fatal(err)
		}
		s.Start(h)
		f(ln)
		if err := s.Shutdown(t.Context()); err != nil {
			t.Errorf("shutdown: %v", err)
		}
	})
}

func took(t *testing.T, began time.Time, want time.Duration) {
	t.Helper()
	if got := time.Since(began); got < want || got > want+2*time.Second {
		t.Errorf("took %v, want %v", got, want)
	}
}

func TestHeaderTimeout(t *testing.T) {
	var r recorder
	inBubble(t, front.Options{}, r.serve, func(ln *memoryListener) {
		nc := ln.dial()
		began := time.Now()
		var sender sync.WaitGroup
		sender.Go(func() { // one byte each second is not fast enough
			for _, c := range []byte("GET / HTTP/1.1\r\nHost: h\r\n\r\n") {
				if _, err := nc.Write([]byte{c}); err != nil {
					return
				}
				<-time.After(time.Second) // of the bubble's clock
			}
		})
		b, err := io.ReadAll(nc)
		if statuses(string(b)) != "408" || err != nil {
			t.Errorf("got %q, %v; want 408", b, err)
		}
		took(t, began, front.DefaultHeaderTimeout)
		nc.Close()
		sender.Wait()
	})
}

func TestIdleTimeout(t *testing.T) {
	var r recorder
	inBubble(t, front.Options{}, r.serve, func(ln *memoryListener) {
		for _, first := range []string{"", "GET / HTTP/1.1\r\nHost: h\r\n\r\n"} {
			nc := ln.dial()
			began := time.Now()
			go io.WriteString(nc, first)
			b, err := io.ReadAll(nc)
			if err != nil || first == "" && len(b) != 0 || first != "" && statuses(string(b)) != "200" {
				t.Errorf("got %q, %v", b, err)
			}
			took(t, began, front.DefaultIdleTimeout)
			nc.Close()
		}
	})
}

func TestBodyRate(t *testing.T) {
	var failed error
	h := func(x *front.Exchange) {
		_, failed = io.Copy(io.Discard, x.Body())
		code := 200
		if errors.Is(failed, front.ErrBodySlow) {
			code = 408
		}
		x.Status(code)
		x.Send(nil)
	}
	send := func(nc net.Conn, size, piece int, every time.Duration) {
		io.WriteString(nc, "PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: "+decimal(size)+"\r\n\r\n")
		for ; size > 0; size -= piece {
			if _, err := nc.Write(make([]byte, min(piece, size))); err != nil {
				return
			}
			<-time.After(every) // of the bubble's clock
		}
	}
	f := func(name string, size, piece int, every time.Duration, code string, after time.Duration) {
		t.Helper()
		inBubble(t, front.Options{}, h, func(ln *memoryListener) {
			nc := ln.dial()
			began := time.Now()
			var sender sync.WaitGroup
			sender.Go(func() { send(nc, size, piece, every) })
			answer := make([]byte, 12)
			if _, err := io.ReadFull(nc, answer); err != nil || statuses(string(answer)) != code {
				t.Errorf("%s: got %q, %v; want %s", name, answer, err, code)
			}
			took(t, began, after)
			nc.Close()
			sender.Wait()
		})
	}
	f("just fast enough", 20<<10, 1024, time.Second, "200", 19*time.Second)
	f("too slow", 20<<10, 100, time.Second, "408", 11*time.Second)
	f("stalls", 12<<20, 6<<20, 5*time.Minute, "408", front.DefaultIdleTimeout)
}

// TestSlowReader holds that a client that takes no answer is cut.
func TestSlowReader(t *testing.T) {
	inBubble(t, front.Options{}, func(x *front.Exchange) {
		x.Status(200)
		if err := x.Send(make([]byte, 1<<20)); err == nil {
			t.Error("Send to a client that reads nothing succeeded")
		}
	}, func(ln *memoryListener) {
		nc := ln.dial()
		began := time.Now()
		io.WriteString(nc, "GET / HTTP/1.1\r\nHost: h\r\n\r\n")
		io.ReadFull(nc, make([]byte, 100))
		<-time.After(front.DefaultIdleTimeout + 300*time.Second) // of the bubble's clock
		if _, err := nc.Write([]byte("x")); err == nil {
			t.Error("the connection is still open")
		}
		took(t, began, front.DefaultIdleTimeout+300*time.Second)
		nc.Close()
	})
}

// TestConnectionLimits holds that one client too many is told so.
func TestConnectionLimits(t *testing.T) {
	f := func(o front.Options, code, word string) {
		t.Helper()
		s := start(t, o, func(x *front.Exchange) {
			x.Status(200)
			x.Send(nil)
		})
		first := dial(t, s)
		ok := "HTTP/1.1 200 OK\r\n"
		io.WriteString(first, "GET / HTTP/1.1\r\nHost: h\r\n\r\n")
		expect(t, first, ok)
		got := exchange(t, s, "GET / HTTP/1.1\r\nHost: h\r\n\r\n")
		if statuses(got) != code || !strings.Contains(got, word) || !strings.Contains(got, "Retry-After: 1\r\n") {
			t.Errorf("second connection: %q", got)
		}
		first.CloseWrite()
		io.ReadAll(first)
		for { // until the server has noticed
			if statuses(exchange(t, s, "GET / HTTP/1.1\r\nHost: h\r\n\r\n")) == "200" {
				return
			}
		}
	}
	f(front.Options{MaxConnections: 1}, "503", "max_connections ")
	f(front.Options{MaxConnectionsPerAddress: 1}, "429", "max_connections_per_address ")
}

func TestMaxRequestsPerConnection(t *testing.T) {
	var r recorder
	s := start(t, front.Options{MaxRequestsPerConnection: 3}, r.serve)
	got := exchange(t, s, strings.Repeat("GET / HTTP/1.1\r\nHost: h\r\n\r\n", 5))
	if statuses(got) != "200 200 200" || !strings.HasSuffix(got, "Connection: close\r\n\r\n") {
		t.Errorf("got %q", got)
	}
}
