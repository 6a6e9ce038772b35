// Command benchserver serves one small answer by the front, or by a bare
// fasthttp server, so that both can be measured beside each other from outside;
// compare.sh in this folder does so. As "origin" it adds the fields of an answer
// that a cache may keep for an hour; hit.sh puts a node in front of it.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"

	"github.com/valyala/fasthttp"

	"github.com/edgenode/edgenode/node/front"
)

func main() {
	server := flag.String("server", "front", "front, fasthttp or origin")
	address := flag.String("address", "127.0.0.1:8090", "address to listen on")
	size := flag.Int("size", 1024, "bytes of the body")
	flag.Parse()
	if err := run(*server, *address, make([]byte, *size)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// storedFields are what a usual answer of an origin has; with Date and
// Content-Length they are twelve.
var storedFields = [][2]string{
	{"Content-Type", "text/css; charset=utf-8"},
	{"Cache-Control", "public, max-age=3600, stale-while-revalidate=60"},
	{"ETag", `"5d8c72a5edda8d6a-400"`},
	{"Last-Modified", "Mon, 02 Mar 2026 10:00:00 GMT"},
	{"Vary", "Accept-Encoding"},
	{"Strict-Transport-Security", "max-age=63072000; includeSubDomains"},
	{"X-Content-Type-Options", "nosniff"},
	{"X-Frame-Options", "DENY"},
	{"Access-Control-Allow-Origin", "*"},
	{"Server", "origin"},
}

func run(server, address string, body []byte) error {
	if server == "origin" {
		return fasthttp.ListenAndServe(address, func(ctx *fasthttp.RequestCtx) {
			for _, f := range storedFields {
				ctx.Response.Header.Set(f[0], f[1])
			}
			ctx.Write(body)
		})
	}
	if server == "fasthttp" {
		return fasthttp.ListenAndServe(address, func(ctx *fasthttp.RequestCtx) {
			ctx.SetContentType("text/plain")
			ctx.Write(body)
		})
	}
	s, err := front.Listen(front.Options{Address: address, MaxRequestsPerConnection: front.None, MaxConnectionsPerAddress: 10_000})
	if err != nil {
		return err
	}
	s.Start(func(x *front.Exchange) {
		x.Status(200)
		x.Add("Content-Type", "text/plain")
		x.Send(body)
	})
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	<-ctx.Done()
	return s.Shutdown(context.Background())
}
