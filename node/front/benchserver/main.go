// Command benchserver serves one small answer by the front, or by a bare
// fasthttp server, so that both can be measured beside each other from outside;
// compare.sh in this folder does so. As "origin" it adds the fields of an answer
// that a cache may keep for an hour; hit.sh puts a node in front of it, and beside
// it "fasthttp", which sends a type alone, and "fields", which is as bare and sends
// what the node sends. With -bodies the path ends in the number of one of so many.
package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"

	"github.com/valyala/fasthttp"

	"github.com/edgenode/edgenode/node/front"
)

func main() {
	server := flag.String("server", "front", "front, fasthttp, fields or origin")
	address := flag.String("address", "127.0.0.1:8090", "address to listen on")
	size := flag.Int("size", 1024, "bytes of a body")
	bodies := flag.Int("bodies", 1, "how many bodies there are")
	flag.Parse()
	all := make([][]byte, max(*bodies, 1))
	for i := range all {
		all[i] = bytes.Repeat([]byte{'b'}, *size) // memory that nobody has written to is one page of zeros
	}
	if err := run(*server, *address, all); err != nil {
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

// nodeFields are what the node adds to them. Via makes twelve that are stored;
// Content-Length is made anew for each answer.
var nodeFields = [][2]string{
	{"Via", "1.1 edgenode"},
	{"Age", "17"},
	{"Cache-Status", `edgenode;hit;ttl=3582;detail=l1;key="http://shop.example/style.css"`},
}

// bodyOf returns the body that the path names by the digits in it.
func bodyOf(all [][]byte, path []byte) []byte {
	if len(all) == 1 {
		return all[0]
	}
	n := 0
	for _, c := range path {
		if '0' <= c && c <= '9' {
			n = n*10 + int(c-'0')
		}
	}
	return all[n%len(all)]
}

func run(server, address string, all [][]byte) error {
	switch server {
	case "origin":
		return bare(address, all, storedFields)
	case "fields":
		return bare(address, all, append(storedFields, nodeFields...))
	case "fasthttp":
		return bare(address, all, nil)
	}
	s, err := front.Listen(front.Options{Address: address, MaxRequestsPerConnection: front.None, MaxConnectionsPerAddress: 10_000})
	if err != nil {
		return err
	}
	s.Start(func(x *front.Exchange) {
		x.Status(200)
		x.Add("Content-Type", "text/plain")
		x.Send(all[0])
	})
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	<-ctx.Done()
	return s.Shutdown(context.Background())
}

// bare serves with fasthttp alone: a type, or these fields.
func bare(address string, all [][]byte, fields [][2]string) error {
	return fasthttp.ListenAndServe(address, func(ctx *fasthttp.RequestCtx) {
		if fields == nil {
			ctx.SetContentType("text/plain")
		}
		for _, f := range fields {
			ctx.Response.Header.Set(f[0], f[1])
		}
		ctx.Write(bodyOf(all, ctx.RequestURI()))
	})
}
