package front_test

import (
	"context"
	"fmt"
	"io"
	"net/http"

	"github.com/edgenode/edgenode/node/front"
)

// A listener with a handler that answers every request with its own target.
func Example() {
	s, err := front.Listen(front.Options{Name: "data", Address: "127.0.0.1:0"})
	if err != nil {
		fmt.Println(err)
		return
	}
	s.Start(func(x *front.Exchange) {
		x.Status(200)
		x.Add("Content-Type", "text/plain")
		x.Send(x.Target())
	})

	r, err := http.Get("http://" + s.Addr().String() + "/a%2Fb/../c")
	if err != nil {
		fmt.Println(err)
		return
	}
	body, _ := io.ReadAll(r.Body)
	r.Body.Close()
	http.DefaultClient.CloseIdleConnections()
	fmt.Printf("%s %s\n", r.Status, body)

	fmt.Println(s.Shutdown(context.Background()))
	// Output:
	// 200 OK /a%2Fb/../c
	// <nil>
}
