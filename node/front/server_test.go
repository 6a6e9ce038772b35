package front_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/edgenode/edgenode/node/front"
)

// TestListenErrors holds that what an operator sees names the way out.
func TestListenErrors(t *testing.T) {
	s := start(t, front.Options{}, func(x *front.Exchange) {})
	f := func(o front.Options, words ...string) {
		t.Helper()
		other, err := front.Listen(o)
		if err == nil {
			other.Shutdown(context.Background())
			t.Fatalf("listening succeeded")
		}
		for _, w := range words {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("error %q does not say %q", err, w)
			}
		}
	}
	f(front.Options{Name: "admin", Address: s.Addr().String()}, "admin", s.Addr().String(), "in use", "set another address")
	f(front.Options{Address: "203.0.113.1:80"}, "203.0.113.1:80", "no such address")
	f(front.Options{Address: "nonsense"}, "nonsense", "host:port")
	f(front.Options{}, "Address")
	f(front.Options{Address: ":0", MaxURLBytes: 1, MaxHeaderBytes: 1, MaxConnections: -1}, "MaxURLBytes = 1", "MaxHeaderBytes = 1", "MaxConnections = -1")
	f(front.Options{Address: ":0", TLS: front.TLS{Cert: "/nonexistent", Key: "/nonexistent"}}, "/nonexistent", "PEM")
	f(front.Options{Address: ":0", TLS: front.TLS{Cert: "x"}}, "Key")
}

// TestView looks at the request side of an exchange.
func TestView(t *testing.T) {
	type view struct {
		method, target, host, scheme, first, missing, fields string
		length                                               int64
		client, peer                                         string
		local, http10                                        bool
	}
	var got view
	s := start(t, front.Options{}, func(x *front.Exchange) {
		var fields strings.Builder
		for name, value := range x.Fields {
			fields.WriteString(string(name) + "=" + string(value) + ";")
		}
		got = view{x.Method(), string(x.Target()), string(x.Host()), x.Scheme(), string(x.Header("accept")), string(x.Header("none")),
			fields.String(), x.ContentLength(), x.Client().String(), x.Peer().String(), x.Local(), x.HTTP10()}
		if x.Header("none") != nil || x.Header("Empty") == nil {
			t.Error("an absent field is nil and an empty one is not")
		}
		io.Copy(io.Discard, x.Body())
		x.Status(204)
		x.Send(nil)
	})
	f := func(raw string, want view) {
		t.Helper()
		want.client, want.peer, want.scheme = "127.0.0.1", "127.0.0.1", "http"
		if answer := exchange(t, s, strings.ReplaceAll(raw, "|", "\r\n")); statuses(answer) != "204" || got != want {
			t.Errorf("%q:\n got %+v\nwant %+v", raw, got, want)
		}
	}
	f("GET /a?b HTTP/1.1|Host: h|aCCept: 1|Accept:2|Empty:||", view{method: "GET", target: "/a?b", host: "h", first: "1", fields: "Host=h;aCCept=1;Accept=2;Empty=;", local: true})
	f("PUT /a HTTP/1.0|Content-Length: 1|Empty:||x", view{method: "PUT", target: "/a", fields: "Content-Length=1;Empty=;", length: 1, local: true, http10: true})
	f("PUT http://other/a HTTP/1.1|Host: h|Transfer-Encoding: chunked|Empty:||0||", view{method: "PUT", target: "/a", host: "other", fields: "Host=other;Transfer-Encoding=chunked;Empty=;", length: -1, local: true})
	f("GET / HTTP/1.1|Host: h|Via: x|Empty:||", view{method: "GET", target: "/", host: "h", fields: "Host=h;Via=x;Empty=;"})
	f("GET / HTTP/1.1|Host: h|Forwarded: for=1.2.3.4|X-Forwarded-For: 1.2.3.4|X-FORWARDED-proto: https|x-real-ip: 1.2.3.4|Empty:||", view{method: "GET", target: "/", host: "h", fields: "Host=h;Empty=;"})
}

// TestClient holds the rule of the rightmost address that is not trusted.
func TestClient(t *testing.T) {
	var client string
	s := start(t, front.Options{}, func(x *front.Exchange) {
		client = x.Client().String()
		if x.Local() {
			t.Error("local through a proxy")
		}
		x.Status(204)
		x.Send(nil)
	})
	f := func(fields, want string) {
		t.Helper()
		exchange(t, s, strings.ReplaceAll("GET / HTTP/1.1|Host: h|Via: p|"+fields+"||", "|", "\r\n"))
		if client != want {
			t.Errorf("%q: client %s, want %s", fields, client, want)
		}
	}
	const peer = "127.0.0.1"
	f("X-Forwarded-For: 192.0.2.1|", peer) // nobody is trusted
	s.SetTrustedProxies([]netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("10.1.2.3/8"), netip.MustParsePrefix("2001:db8:1::/48")})
	f("", peer)
	f("X-Forwarded-For: 192.0.2.1|", "192.0.2.1")
	f("X-Forwarded-For: 198.51.100.7, 192.0.2.1|", "192.0.2.1") // what stands to the left was sent by the client
	f("X-Forwarded-For: 198.51.100.7, 192.0.2.1 , 10.9.9.9|", "192.0.2.1")
	f("X-Forwarded-For: 198.51.100.7|X-Forwarded-For: 192.0.2.1|x-forwarded-for: 10.9.9.9|", "192.0.2.1")
	f("X-Forwarded-For: 10.0.0.1, 10.0.0.2|", "10.0.0.1") // all are trusted
	f("X-Forwarded-For: 192.0.2.1:8080|", "192.0.2.1")
	f("X-Forwarded-For: 2001:db8::7|", "2001:db8::7")
	f("X-Forwarded-For: [2001:db8::7]:80, 2001:db8:1::1|", "2001:db8::7")
	f("X-Forwarded-For: ::ffff:192.0.2.1|", "192.0.2.1")
	f("X-Forwarded-For: 192.0.2.1, unknown, 10.0.0.1|", "10.0.0.1") // the search ends at what cannot be read
	f("X-Forwarded-For: 192.0.2.1, 10.0.0.256|", peer)
	f("X-Forwarded-For: 192.0.2.1,, ,|", "192.0.2.1")
	f("X-Forwarded-For:|", peer)
	f("Forwarded: for=192.0.2.1|", "192.0.2.1")
	f("Forwarded: proto=http; For=\"[2001:db8::7]:4711\";by=x|", "2001:db8::7")
	f("Forwarded: for=192.0.2.1, for=10.0.0.1;proto=https|", "192.0.2.1")
	f("Forwarded: for=192.0.2.1, for=_hidden|", peer)
	f("Forwarded: for=192.0.2.1, proto=https|", peer)
	f("Forwarded: for=192.0.2.1|X-Forwarded-For: 192.0.2.1|", "192.0.2.1")
	f("Forwarded: for=198.51.100.7|X-Forwarded-For: 192.0.2.1|", peer) // one of both may be forged
	f("X-Real-IP: 192.0.2.1|", peer)
}

// TestClientLeaves holds that a handler that waits hears of the client's
// leaving, with bytes of a further request unread and not lost.
func TestClientLeaves(t *testing.T) {
	waiting, cause := make(chan struct{}), make(chan error, 1)
	s := start(t, front.Options{}, func(x *front.Exchange) {
		io.Copy(io.Discard, x.Body())
		ctx, cancel := context.WithTimeout(x.Context(), patience)
		defer cancel()
		done := ctx.Done()
		waiting <- struct{}{}
		<-done
		cause <- context.Cause(ctx)
		x.Abort()
	})
	f := func(request string, leave func(nc *net.TCPConn)) {
		t.Helper()
		nc := dial(t, s)
		io.WriteString(nc, request)
		<-waiting
		leave(nc)
		if err := <-cause; !errors.Is(err, front.ErrClientGone) {
			t.Errorf("%q: cause %v, want %v", request, err, front.ErrClientGone)
		}
	}
	const get = "GET / HTTP/1.1\r\nHost: h\r\n\r\n"
	closes := func(nc *net.TCPConn) { nc.Close() }
	f(get, closes)
	f(get+get, closes)
	f("PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc", closes)
	f(get, func(nc *net.TCPConn) { nc.SetLinger(0); nc.Close() })
	f(get, func(nc *net.TCPConn) { io.WriteString(nc, get); nc.CloseWrite() })
}

// TestBodyBreaksOff holds that a client that leaves within a body is known to
// be gone, whether the context was in use before or is only after.
func TestBodyBreaksOff(t *testing.T) {
	s := start(t, front.Options{}, func(x *front.Exchange) {
		ctx := x.Context()
		if x.Method() == "PUT" {
			ctx.Done()
		}
		if _, err := io.Copy(io.Discard, x.Body()); err != io.ErrUnexpectedEOF {
			t.Errorf("%s: body ends with %v", x.Method(), err)
		}
		if ctx.Err() != context.Canceled {
			t.Errorf("%s: the context goes on", x.Method())
		}
		<-ctx.Done()
		if err := context.Cause(ctx); err != front.ErrClientGone {
			t.Errorf("%s: cause %v, want %v", x.Method(), err, front.ErrClientGone)
		}
		x.Abort()
	})
	for _, method := range []string{"PUT", "POST"} {
		nc := dial(t, s)
		io.WriteString(nc, method+" / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nab")
		nc.CloseWrite()
		io.ReadAll(nc)
	}
}

// TestContextEnds holds that a context ends with its exchange and the
// connection goes on.
func TestContextEnds(t *testing.T) {
	var kept []context.Context
	s := start(t, front.Options{}, func(x *front.Exchange) {
		ctx := x.Context()
		if ctx.Err() != nil || ctx.Value("k") != nil {
			t.Error("the context has ended at the start")
		}
		if string(x.Target()) == "/done" {
			child, cancel := context.WithCancel(ctx)
			defer cancel()
			select {
			case <-child.Done():
				t.Error("done at the start")
			default:
			}
			kept = append(kept, ctx, child)
		}
		x.Status(200)
		x.Add("Date", "D")
		x.Send(nil)
	})
	const n = 50
	nc := dial(t, s)
	for range n {
		for _, target := range []string{"/done", "/plain"} {
			io.WriteString(nc, "GET "+target+" HTTP/1.1\r\nHost: h\r\n\r\n")
			expect(t, nc, "HTTP/1.1 200 OK\r\nDate: D\r\nContent-Length: 0\r\n\r\n")
		}
	}
	nc.CloseWrite()
	ended(t, nc)
	if len(kept) != 2*n {
		t.Fatalf("%d contexts, want %d", len(kept), 2*n)
	}
	for i, ctx := range kept {
		select {
		case <-ctx.Done():
		default:
			t.Errorf("context %d has not ended", i)
		}
	}
	if err := context.Cause(kept[0]); err != front.ErrAnswered {
		t.Errorf("cause %v, want %v", err, front.ErrAnswered)
	}
}

// TestShutdown holds that idle connections end at once, those at work with
// their answer.
func TestShutdown(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	s := start(t, front.Options{}, func(x *front.Exchange) {
		if string(x.Target()) == "/slow" {
			entered <- struct{}{}
			<-leave
		}
		x.Status(200)
		x.Add("Date", "D")
		x.Send(nil)
	})
	const ok = "HTTP/1.1 200 OK\r\nDate: D\r\nContent-Length: 0\r\n"
	idle, busy, silent := dial(t, s), dial(t, s), dial(t, s)
	io.WriteString(idle, "GET / HTTP/1.1\r\nHost: h\r\n\r\n")
	expect(t, idle, ok+"\r\n")
	s.Drain()
	io.WriteString(busy, "GET /slow HTTP/1.1\r\nHost: h\r\n\r\n")
	<-entered
	if got := exchange(t, s, "GET / HTTP/1.1\r\nHost: h\r\n\r\n"); got != ok+"Connection: close\r\n\r\n" {
		t.Errorf("draining: got %q", got)
	}
	done := make(chan error)
	go func() { done <- s.Shutdown(context.Background()) }()
	ended(t, idle)
	ended(t, silent)
	if _, err := net.Dial("tcp", s.Addr().String()); err == nil {
		t.Error("still accepting")
	}
	select {
	case <-done:
		t.Error("shutdown did not wait")
	default:
	}
	close(leave)
	expect(t, busy, ok+"Connection: close\r\n\r\n")
	ended(t, busy)
	if err := <-done; err != nil {
		t.Errorf("shutdown: %v", err)
	}
}

// TestForcedShutdown holds that handlers hear of it and connections are cut.
func TestForcedShutdown(t *testing.T) {
	entered, cause := make(chan struct{}), make(chan error, 1)
	s, err := front.Listen(front.Options{Address: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	s.Start(func(x *front.Exchange) {
		ctx := x.Context()
		close(entered)
		<-ctx.Done()
		cause <- context.Cause(ctx)
	})
	nc := dial(t, s)
	io.WriteString(nc, "GET / HTTP/1.1\r\nHost: h\r\n\r\n")
	<-entered
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := s.Shutdown(ctx); !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "1 connections cut") {
		t.Errorf("shutdown: %v", err)
	}
	if err := <-cause; err != front.ErrShutdown {
		t.Errorf("cause %v, want %v", err, front.ErrShutdown)
	}
}

// TestChurn opens and closes many connections, some of them rudely.
func TestChurn(t *testing.T) {
	n := 2000
	if testing.Short() || raceEnabled {
		n = 300
	}
	set := metrics.NewSet()
	s := start(t, front.Options{Metrics: set}, func(x *front.Exchange) {
		x.Status(200)
		x.Send(nil)
	})
	var clients sync.WaitGroup
	for range 8 {
		clients.Go(func() {
			for i := range n / 8 {
				nc, err := net.Dial("tcp", s.Addr().String())
				if err != nil {
					t.Error(err)
					return
				}
				nc.SetDeadline(time.Now().Add(patience))
				io.WriteString(nc, "GET / HTTP/1.1\r\nHost: h\r\n\r\n"[:5+i%23])
				if i%23 == 22 {
					io.ReadFull(nc, make([]byte, 12))
				}
				if i%3 == 0 {
					nc.(*net.TCPConn).SetLinger(0)
				}
				nc.Close()
			}
		})
	}
	clients.Wait()
	var page bytes.Buffer
	set.WritePrometheus(&page)
	if want := `edgenode_front_connections_total{listener="data"}`; !strings.Contains(page.String(), want) {
		t.Errorf("metrics lack %s", want)
	}
}

// TestMetrics holds what is counted, and that it is gone after Shutdown.
func TestMetrics(t *testing.T) {
	set := metrics.NewSet()
	s, err := front.Listen(front.Options{Address: "127.0.0.1:0", Name: "admin", Metrics: set})
	if err != nil {
		t.Fatal(err)
	}
	s.Start(func(x *front.Exchange) {
		x.Status(404)
		x.Add("X", "\r")
		x.Send(nil)
	})
	sent := len(exchange(t, s, "GET / HTTP/1.1\r\nHost: h\r\n\r\n"))
	sent += len(exchange(t, s, "GET / HTTP/1.1\r\n\r\n"))
	var page bytes.Buffer
	set.WritePrometheus(&page)
	for _, want := range []string{
		`edgenode_front_requests_total{listener="admin",class="4xx"} 2`,
		`edgenode_front_refused_total{listener="admin",reason="host"} 1`,
		`edgenode_front_dropped_fields_total{listener="admin"} 1`,
		`edgenode_front_received_bytes_total{listener="admin"} 45`,
		`edgenode_front_sent_bytes_total{listener="admin"} ` + decimal(sent),
		`edgenode_front_connections_total{listener="admin"} 2`,
		`edgenode_front_connections_max{listener="admin"} 10000`,
	} {
		if !strings.Contains(page.String(), want+"\n") {
			t.Errorf("metrics lack %s", want)
		}
	}
	if err := s.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
	page.Reset()
	if set.WritePrometheus(&page); page.Len() != 0 {
		t.Errorf("left after shutdown: %s", page.String())
	}
}
