package main

import (
	"flag"
	"fmt"
	"slices"
	"strconv"

	"github.com/valyala/fasthttp"
)

// Fields of an answer that a usual origin sends; with Date and Content-Length
// they are twelve.
var storedFields = [][2]string{ // names as they are written
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

// nodeFields are what a node adds to them.
var nodeFields = [][2]string{
	{"Via", "1.1 edgenode"},
	{"Age", "17"},
	{"Cache-Status", `edgenode;hit;ttl=3582;detail=l1;key="http://shop.example/1024/0"`},
}

const (
	manyKeys = 100_000 // bodies of 1 KiB
	kibibyte = 1024
)

// serveCommand answers /SIZE/KEY as a bare fasthttp handler does: with the body
// of that key, which lies at a place of its own if it has 1 KiB, and no more
// thought. With -fields origin the answer has what an origin says, that a cache may
// keep it for an hour; with -fields site what a site's hit has.
func serveCommand(args []string) error {
	flags := flag.NewFlagSet("bench serve", flag.ContinueOnError)
	address := flags.String("address", "", "address to listen on")
	fields := flags.String("fields", "", "origin: send the twelve fields of an origin; site: and those that a node adds")
	many := flags.Bool("many", false, "keep a body for each key")
	if err := flags.Parse(args); err != nil {
		return err
	}
	bodies := make([][]byte, 1)
	if *many {
		bodies = make([][]byte, manyKeys)
	}
	for i := range bodies {
		bodies[i] = make([]byte, kibibyte)
	}
	largest := make([]byte, 1<<20)
	var names, values [][]byte // so that a field is set as cheaply as it can be
	sent := map[string][][2]string{"origin": storedFields, "site": append(slices.Clone(storedFields), nodeFields...)}[*fields]
	for _, f := range sent {
		names, values = append(names, []byte(f[0])), append(values, []byte(f[1]))
	}
	return fasthttp.ListenAndServe(*address, func(ctx *fasthttp.RequestCtx) {
		size, key, ok := sizeAndKey(ctx.Path())
		if !ok || size > len(largest) {
			ctx.SetStatusCode(fasthttp.StatusNotFound)
			return
		}
		if len(sent) > 0 {
			for i, name := range names {
				ctx.Response.Header.SetCanonical(name, values[i])
			}
		} else {
			ctx.SetContentType("text/plain")
		}
		if size == kibibyte {
			_, _ = ctx.Write(bodies[key%len(bodies)]) // into memory
		} else {
			_, _ = ctx.Write(largest[:size])
		}
	})
}

// sizeAndKey reads /SIZE/KEY.
func sizeAndKey(path []byte) (size, key int, ok bool) {
	var numbers [2]int
	at := 0
	for i := range numbers {
		if at >= len(path) || path[at] != '/' {
			return 0, 0, false
		}
		at++
		for ; at < len(path) && path[at] != '/'; at++ {
			d := int(path[at] - '0')
			if d < 0 || d > 9 || numbers[i] > 1<<40 {
				return 0, 0, false
			}
			numbers[i] = numbers[i]*10 + d
		}
	}
	return numbers[0], numbers[1], at == len(path)
}

// path is what sizeAndKey reads.
func path(size, key int) string { return fmt.Sprintf("/%d/%s", size, strconv.Itoa(key)) }
