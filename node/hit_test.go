//go:build unix && !race

package node

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/edgenode/edgenode/node/config"
	"github.com/edgenode/edgenode/node/front"
)

// storedFields are what a usual answer of an origin has; with Date, Via and
// Content-Length, of which the last is made anew, twelve of them are stored.
var storedFields = [][2]string{
	{"Content-Type", "text/css; charset=utf-8"},
	{"Cache-Control", "public, max-age=3600, stale-while-revalidate=60"},
	{"Etag", `"5d8c72a5edda8d6a-400"`},
	{"Last-Modified", "Mon, 02 Mar 2026 10:00:00 GMT"},
	{"Vary", "Accept-Encoding"},
	{"Strict-Transport-Security", "max-age=63072000; includeSubDomains"},
	{"X-Content-Type-Options", "nosniff"},
	{"X-Frame-Options", "DENY"},
	{"Access-Control-Allow-Origin", "*"},
	{"Server", "origin"},
}

// A hitFixture is a node before an origin, and a listener whose connections are
// in memory, so that what is measured is this process's work alone.
type hitFixture struct {
	n    *Node
	data *front.Server
	ln   *quietListener
}

func newHitFixture(t testing.TB) *hitFixture {
	t.Helper()
	body := make([]byte, 1024)
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for _, f := range storedFields {
			w.Header().Set(f[0], f[1])
		}
		w.Write(body)
	}))
	t.Cleanup(origin.Close)
	dir := t.TempDir()
	file := filepath.Join(dir, "edgenode.toml")
	text := fmt.Sprintf(`data_dir = %q
l1_max_bytes = "512MiB"
listen.data.address = "127.0.0.1:0"
listen.admin.address = "127.0.0.1:0"
[[pool]]
name = "origin"
origins = [%q]
[[site]]
name = "shop"
hosts = ["shop.example"]
pool = "origin"
`, filepath.Join(dir, "data"), origin.URL)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Load(config.Source{Path: file})
	if err != nil {
		t.Fatal(err)
	}
	n, err := Open(t.Context(), Options{Config: cfg, Out: io.Discard, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	f := &hitFixture{n: n, ln: &quietListener{conns: make(chan net.Conn), done: make(chan struct{})}}
	if f.data, err = front.Listen(front.Options{Listener: f.ln, MaxRequestsPerConnection: front.None}); err != nil {
		t.Fatal(err)
	}
	f.data.Start(n.serveData)
	t.Cleanup(func() {
		if err := f.data.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		if err := n.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return f
}

// serve lets the node answer the requests, reads times in all.
func (f *hitFixture) serve(requests [][]byte, reads int) *quietConn {
	c := newQuietConn(requests, reads)
	f.ln.conns <- c
	<-c.closed
	return c
}

// put stores items as large as the answers of the origin, in memory alone.
func (f *hitFixture) put(ids ...string) {
	requests := make([][]byte, len(ids))
	for i, id := range ids {
		head := "PUT /v1/items/" + id + " HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\nEdge-Tiers: l1\r\nContent-Length: 1024\r\n\r\n"
		requests[i] = append([]byte(head), make([]byte, 1024)...)
	}
	f.serve(requests, len(requests))
}

// TestSiteHitDoesNotAllocate: from the first byte that is read of a request to the
// last that is written of its answer a hit allocates nothing.
func TestSiteHitDoesNotAllocate(t *testing.T) {
	f := newHitFixture(t)
	request := [][]byte{[]byte("GET /style.css HTTP/1.1\r\nHost: shop.example\r\nAccept-Encoding: gzip, br\r\n\r\n")}
	f.serve(request, 100)
	const reads = 1000
	// The engine and the clocks of two listeners allocate now and then.
	if got := testing.AllocsPerRun(3, func() { f.serve(request, reads) }); got > reads/10 {
		t.Errorf("%d hits allocate %v times", reads, got)
	}
}

// BenchmarkHitInProcess is a hit without the kernel: the whole node beside bare
// fasthttp, that writes a type alone, or the twelve fields that the site stores.
// The difference is what the node adds.
func BenchmarkHitInProcess(b *testing.B) {
	f := newHitFixture(b)
	get := func(host, path string) []byte {
		return []byte("GET " + path + " HTTP/1.1\r\nHost: " + host + "\r\n\r\n")
	}
	many := func(host, path string) [][]byte {
		list := make([][]byte, 100_000)
		for i := range list {
			list[i] = get(host, path+strconv.Itoa(i))
		}
		return list
	}
	run := func(name string, warm, requests [][]byte) {
		b.Run(name, func(b *testing.B) {
			f.serve(warm, 2*len(warm))
			b.ReportAllocs()
			b.ResetTimer()
			begin := cpuTime()
			c := f.serve(requests, b.N)
			b.ReportMetric(float64(cpuTime()-begin)/float64(b.N), "cpu-ns/op")
			if c.written < int64(b.N)*1024 {
				b.Fatalf("%d bytes for %d answers", c.written, b.N)
			}
		})
	}
	bare := func(name string, bodies int, fields [][2]string, requests [][]byte) {
		b.Run(name, func(b *testing.B) {
			s := bareServer(bodies, fields)
			b.ReportAllocs()
			begin := cpuTime()
			s.ServeConn(newQuietConn(requests, b.N))
			b.ReportMetric(float64(cpuTime()-begin)/float64(b.N), "cpu-ns/op")
		})
	}
	f.put("hot")
	one := [][]byte{get("shop.example", "/style.css")}
	item := [][]byte{get("localhost", "/v1/items/hot")}
	bare("hot/bare", 1, storedFields[:1], one)
	bare("hot/bare-12-fields", 1, storedFields, one)
	run("hot/item", item, item)
	run("hot/site", one, one)
	all := many("shop.example", "/")
	random := shuffled(all)
	bare("100k/bare", len(all), storedFields[:1], random)
	bare("100k/bare-12-fields", len(all), storedFields, random)
	run("100k/site", all, random)
	ids := make([]string, len(all))
	for i := range ids {
		ids[i] = strconv.Itoa(i)
	}
	f.put(ids...)
	items := many("localhost", "/v1/items/")
	run("100k/item", items, shuffled(items))
}

// cpuTime returns the time that this process was computing, in nanoseconds. Unlike
// the clock it does not count what others compute meanwhile.
func cpuTime() int64 {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return u.Utime.Nano() + u.Stime.Nano()
}

// shuffled returns list in an order of chance, always the same.
func shuffled(list [][]byte) [][]byte {
	out := append([][]byte(nil), list...)
	rand.New(rand.NewPCG(1, 2)).Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out
}

// bareServer answers the path /n with body n of so many.
func bareServer(n int, fields [][2]string) *fasthttp.Server {
	bodies := make([][]byte, n)
	for i := range bodies {
		bodies[i] = bytes.Repeat([]byte{'b'}, 1024) // memory that nobody has written to is one page of zeros
	}
	return &fasthttp.Server{Handler: func(ctx *fasthttp.RequestCtx) {
		i, _ := strconv.Atoi(string(ctx.Path()[1:]))
		for _, f := range fields {
			ctx.Response.Header.Set(f[0], f[1])
		}
		ctx.Write(bodies[i%n])
	}}
}

// A quietListener hands out the connections that it is given.
type quietListener struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func (l *quietListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *quietListener) Close() error   { l.once.Do(func() { close(l.done) }); return nil }
func (l *quietListener) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 80} }

// A quietConn reads requests in turn, so many in all, and counts the bytes of
// their answers.
type quietConn struct {
	requests [][]byte
	at       int
	reads    int
	written  int64
	peer     net.TCPAddr
	closed   chan struct{}
	once     sync.Once
}

func newQuietConn(requests [][]byte, reads int) *quietConn {
	return &quietConn{requests: requests, reads: reads, peer: net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9}, closed: make(chan struct{})}
}

func (c *quietConn) Read(p []byte) (int, error) {
	if c.reads == 0 {
		return 0, net.ErrClosed
	}
	c.reads--
	r := c.requests[c.at]
	if c.at++; c.at == len(c.requests) {
		c.at = 0
	}
	return copy(p, r), nil
}

func (c *quietConn) Write(p []byte) (int, error) {
	c.written += int64(len(p))
	return len(p), nil
}

func (c *quietConn) Close() error                     { c.once.Do(func() { close(c.closed) }); return nil }
func (c *quietConn) LocalAddr() net.Addr              { return nil }
func (c *quietConn) RemoteAddr() net.Addr             { return &c.peer }
func (c *quietConn) SetDeadline(time.Time) error      { return nil }
func (c *quietConn) SetReadDeadline(time.Time) error  { return nil }
func (c *quietConn) SetWriteDeadline(time.Time) error { return nil }
