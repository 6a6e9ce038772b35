package node_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// TestRefreshAhead asks a running node for one answer again and again: what it
// counts of hits makes it fetch that answer before it ends, behind a hit, and the
// new one is what clients get then.
func TestRefreshAhead(t *testing.T) {
	var fetched atomic.Int64
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cache-Control", "max-age=2") // of which the last half second is near the end
		fmt.Fprint(w, fetched.Add(1))
	})}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(listener) }() // ends with Close
	t.Cleanup(func() { _ = server.Close(); <-done })

	n := inProcess(t, writeConfig(t, t.TempDir(), addresses+siteText("http://"+listener.Addr().String())+"refresh_ahead = \"10s\"\n"))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	begun := func() bool {
		page := ask(t, "GET", n.admin+"/metrics", "").want(t, 200).body
		_, after, _ := strings.Cut(page, `edgenode_proxy_ahead_refreshes_total{outcome="begun"} `)
		return after != "" && after[0] != '0'
	}
	get := func() answer {
		return ask(t, "GET", n.data+"/", "", "Host", "shop.example").want(t, 200)
	}
	for last := get().body; ctx.Err() == nil; {
		a := get()
		if a.body == last {
			continue
		}
		last = a.body
		// It came by a fetch ahead or, if nobody asked in that half second, by a miss.
		if !strings.Contains(a.header.Get("Cache-Status"), "fwd=") && begun() {
			return
		}
	}
	t.Errorf("fetched %d times, never before it had ended", fetched.Load())
}
