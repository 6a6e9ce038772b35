package front_test

import (
	"io"
	"net"
	"runtime"
	"strings"
	"testing"

	"github.com/valyala/fasthttp"

	"github.com/edgenode/edgenode/node/front"
)

// browser is a request as browsers send it.
const browser = "GET /v1/items/some%2Fid?verify=1 HTTP/1.1\r\nHost: shop.example:8080\r\n" +
	"User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:141.0) Gecko/20100101 Firefox/141.0\r\n" +
	"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\nAccept-Language: en-GB,en;q=0.5\r\n" +
	"Accept-Encoding: gzip, deflate, br, zstd\r\nConnection: keep-alive\r\nCookie: a=b; session=0123456789abcdef\r\n" +
	"If-None-Match: \"0123456789abcdef0123456789abcdef\"\r\nPriority: u=0, i\r\n\r\n"

// short is a request as load generators send it.
const short = "GET / HTTP/1.1\r\nHost: 127.0.0.1:8090\r\n\r\n"

var kilobyte = []byte(strings.Repeat("x", 1024)) // never written to

// block are prepared header lines, as a store keeps them.
var block = []byte("Content-Type: text/plain\r\nETag: \"0123456789abcdef0123456789abcdef\"\r\nLast-Modified: Mon, 23 Nov 2026 05:36:11 GMT\r\n")

// hit is what a handler does for a hit.
func hit(x *front.Exchange) {
	if x.Method() != "GET" || len(x.Target()) == 0 || len(x.Host()) == 0 || x.Header("Range") != nil || x.Context().Err() != nil {
		x.Status(400)
		x.Send(nil)
		return
	}
	x.Header("If-None-Match")
	x.Status(200)
	x.AddBlock(block)
	x.Add("Age", "17")
	x.Send(kilobyte)
}

// TestNoAllocations holds that a request on a kept connection allocates
// nothing, from the first byte read to the last written.
func TestNoAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	f := func(name, request string) {
		t.Helper()
		ln := newMemoryListener()
		start(t, front.Options{Listener: ln, MaxRequestsPerConnection: front.None}, hit)
		const warm, measured = 100, 5000
		c := newScriptedConn(request, warm+measured)
		var before, after runtime.MemStats
		n := 0
		c.step = func() {
			switch n++; n {
			case warm:
				runtime.ReadMemStats(&before)
			case warm + measured:
				runtime.ReadMemStats(&after)
			}
		}
		ln.conns <- c
		<-c.closed
		// The clock makes a new Date line each second.
		if got := after.Mallocs - before.Mallocs; got > 50 {
			t.Errorf("%s: %d allocations in %d requests, want none", name, got, measured)
		}
	}
	f("browser", browser)
	f("pipeline", strings.Repeat(short, 16))
}

// TestNoAllocationsTCP is the same over a real connection, with answers that
// are copied and answers that are not.
func TestNoAllocationsTCP(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	large := make([]byte, 100<<10)
	s := start(t, front.Options{}, func(x *front.Exchange) {
		x.Status(200)
		x.AddBlock(block)
		if string(x.Target()) == "/large" {
			x.Send(large)
			return
		}
		x.Send(kilobyte)
	})
	f := func(target string, size int) {
		t.Helper()
		nc := dial(t, s)
		request := []byte("GET " + target + " HTTP/1.1\r\nHost: h\r\n\r\n")
		answer := make([]byte, size+len("HTTP/1.1 200 OK\r\nDate: Mon, 23 Nov 2026 05:36:11 GMT\r\nContent-Length: \r\n\r\n")+len(block)+len(decimal(size)))
		got := testing.AllocsPerRun(500, func() {
			nc.Write(request)
			if _, err := io.ReadFull(nc, answer); err != nil {
				t.Fatal(err)
			}
		})
		if got >= 1 {
			t.Errorf("%s: %v allocations each, want none", target, got)
		}
	}
	f("/small", len(kilobyte))
	f("/large", len(large))
}

// BenchmarkInProcess compares the work per request without a kernel: the front
// with a handler like that for a hit, and bare fasthttp with the same answer.
func BenchmarkInProcess(b *testing.B) {
	for _, r := range []struct{ name, bytes string }{{"short", short}, {"browser", browser}} {
		b.Run(r.name+"/front", func(b *testing.B) {
			ln := newMemoryListener()
			start(b, front.Options{Listener: ln, MaxRequestsPerConnection: front.None}, hit)
			b.ReportAllocs()
			c := newScriptedConn(r.bytes, b.N)
			ln.conns <- c
			<-c.closed
		})
		b.Run(r.name+"/fasthttp", func(b *testing.B) {
			s := &fasthttp.Server{Handler: func(ctx *fasthttp.RequestCtx) {
				ctx.Response.Header.SetContentType("text/plain")
				ctx.Response.Header.Set("ETag", "\"0123456789abcdef0123456789abcdef\"")
				ctx.Response.Header.Set("Last-Modified", "Mon, 23 Nov 2026 05:36:11 GMT")
				ctx.Response.Header.Set("Age", "17")
				ctx.Write(kilobyte)
			}}
			b.ReportAllocs()
			s.ServeConn(newScriptedConn(r.bytes, b.N))
		})
		b.Run(r.name+"/fasthttp-trivial", func(b *testing.B) {
			s := &fasthttp.Server{Handler: func(ctx *fasthttp.RequestCtx) {
				ctx.Response.Header.SetContentType("text/plain")
				ctx.Write(kilobyte)
			}}
			b.ReportAllocs()
			s.ServeConn(newScriptedConn(r.bytes, b.N))
		})
	}
}

// BenchmarkLoopback serves over the loopback, in the same process as the
// client.
func BenchmarkLoopback(b *testing.B) {
	ask := func(b *testing.B, address string) {
		nc, err := net.Dial("tcp", address)
		if err != nil {
			b.Fatal(err)
		}
		defer nc.Close()
		in := make([]byte, 4096)
		for b.Loop() {
			nc.Write([]byte(short))
			for got := 0; got < 1024; {
				n, err := nc.Read(in)
				if err != nil {
					b.Fatal(err)
				}
				got += n
			}
		}
	}
	b.Run("front", func(b *testing.B) {
		s := start(b, front.Options{MaxRequestsPerConnection: front.None}, func(x *front.Exchange) {
			x.Status(200)
			x.Add("Content-Type", "text/plain")
			x.Send(kilobyte)
		})
		ask(b, s.Addr().String())
	})
	b.Run("front-watched", func(b *testing.B) { // with a context that is asked for its end
		s := start(b, front.Options{MaxRequestsPerConnection: front.None}, func(x *front.Exchange) {
			x.Context().Done()
			x.Status(200)
			x.Add("Content-Type", "text/plain")
			x.Send(kilobyte)
		})
		ask(b, s.Addr().String())
	})
	b.Run("fasthttp", func(b *testing.B) {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		s := &fasthttp.Server{Handler: func(ctx *fasthttp.RequestCtx) {
			ctx.SetContentType("text/plain")
			ctx.Write(kilobyte)
		}}
		done := make(chan error)
		go func() { done <- s.Serve(ln) }()
		ask(b, ln.Addr().String())
		s.Shutdown()
		<-done
	})
}
