// Command benchserver serves one small answer by the front, or by a bare
// fasthttp server, so that both can be measured beside each other from outside;
// compare.sh in this folder does so.
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
	server := flag.String("server", "front", "front or fasthttp")
	address := flag.String("address", "127.0.0.1:8090", "address to listen on")
	size := flag.Int("size", 1024, "bytes of the body")
	flag.Parse()
	if err := run(*server, *address, make([]byte, *size)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(server, address string, body []byte) error {
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
