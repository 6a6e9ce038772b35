package api_test

import (
	"fmt"

	"github.com/edgenode/edgenode/node/api"
)

// An item is written and read back. The exchange stands for a connection.
func Example() {
	a, err := api.New(api.Options{Engine: newStore(), Now: func() int64 { return testTime }})
	if err != nil {
		fmt.Println(err)
		return
	}
	put := request("PUT /v1/items/uk/shop:1", "hello", "Content-Type: text/plain", "Edge-TTL: 15m")
	a.Serve(put)
	get := request("GET /v1/items/uk/shop:1", "")
	a.Serve(get)
	fmt.Println(put.code, put.field("Edge-Persisted"))
	fmt.Println(get.code, get.field("Content-Type"), get.field("Cache-Status"), get.out.String())
	// Output:
	// 201 sync
	// 200 text/plain edgenode; hit; detail=l1; ttl=900 hello
}
