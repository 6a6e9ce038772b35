package proxy

import (
	"bytes"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"
)

// rawOrigin answers each request of each connection with the same bytes, without
// allocation, and returns its URL.
func rawOrigin(b *testing.B, answer string) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				buf, raw := make([]byte, 4096), []byte(answer)
				for {
					n, err := c.Read(buf)
					if err != nil {
						return
					}
					if bytes.HasSuffix(buf[:n], []byte("\r\n\r\n")) {
						c.Write(raw)
					}
				}
			}()
		}
	}()
	return "http://" + ln.Addr().String()
}

// BenchmarkMiss is a miss of 1 KiB with the usual fields, filled from a local origin
// and stored. It has the origin's time in it, but none of its allocations.
func BenchmarkMiss(b *testing.B) {
	answer := "HTTP/1.1 200 OK\r\nDate: " + httpDate(time.Now().UnixMilli()) + "\r\nContent-Length: 1024\r\n" + strings.ReplaceAll(`Content-Type: text/css; charset=utf-8
Cache-Control: public, max-age=3600, stale-while-revalidate=60
ETag: "5d8c72a5edda8d6a-400"
Last-Modified: Mon, 02 Mar 2026 10:00:00 GMT
Vary: Accept-Encoding
Strict-Transport-Security: max-age=63072000; includeSubDomains
X-Content-Type-Options: nosniff
X-Frame-Options: DENY
Access-Control-Allow-Origin: *
Server: origin
`, "\n", "\r\n") + "\r\n" + strings.Repeat("x", 1024)
	origin := rawOrigin(b, answer)
	now := func() int64 { return time.Now().UnixMilli() }
	p, err := New(Options{
		Engine: realEngine(b, b.TempDir(), now), Now: now, Pools: []Pool{{Name: "main", Origins: []string{origin}}},
		Sites: []Site{{Name: "shop", Hosts: []string{"shop.example"}, Pool: "main"}},
	})
	if err != nil {
		b.Fatal(err)
	}
	defer p.Close()
	x := &exchange{method: "GET", host: "shop.example", scheme: "http", ctx: b.Context(), t: b}
	b.ReportAllocs()
	for i := range b.N {
		x.target, x.status, x.ended = fmt.Sprint("/", i), 0, false
		x.head.Reset()
		x.out.Reset()
		if p.Serve(x); x.status != 200 || x.out.Len() != 1024 {
			b.Fatalf("%d, %d bytes", x.status, x.out.Len())
		}
	}
}
