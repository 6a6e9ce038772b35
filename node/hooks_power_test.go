package node_test

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/edgenode/edgenode/hooks/abi"
	"github.com/edgenode/edgenode/hooks/hooktest"
)

// scripted starts an origin that answers with one Cache-Control, and says what it
// was asked for.
func scripted(t testing.TB, cacheControl string) (url string, requests *atomic.Int64) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	requests = new(atomic.Int64)
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		w.Header().Set("Cache-Control", cacheControl)
		fmt.Fprintf(w, "%s %s", r.Host, r.RequestURI)
	})}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(listener) }() // ends with Close
	t.Cleanup(func() { _ = server.Close(); <-done })              // nobody is served any more
	return "http://" + listener.Addr().String(), requests
}

// TestHookLengthensPrivate: a ttl hook that gives a day to everything makes the
// node store nothing that the rules for shared caches forbid.
func TestHookLengthensPrivate(t *testing.T) {
	m := hooktest.WithOutput(abi.TTL, abi.MakeResult(abi.OK, 0, 86_400), nil)
	f := func(cacheControl string, request []string, want int64) {
		t.Helper()
		origin, requests := scripted(t, cacheControl)
		dir := t.TempDir()
		r := inProcess(t, writeConfig(t, dir, addresses+siteText(origin)+writeModule(t, dir, m, "ttl", "")))
		for range 2 {
			ask(t, "GET", r.data+"/a", "", append([]string{"Host", "shop.example"}, request...)...).want(t, 200)
		}
		if got := requests.Load(); got != want {
			t.Errorf("%q, %v: the origin had %d requests, want %d", cacheControl, request, got, want)
		}
		r.signal(stop)
		r.end()
	}
	f("private, max-age=60", nil, 2)
	f("private", nil, 2)
	f("no-store", nil, 2)
	f("max-age=60", []string{"Authorization", "Basic eA=="}, 2)
	f("max-age=60", nil, 1)
}

// TestHookRewritesToAnotherHost: whatever a route hook writes, the request goes to
// the pool of the site, under the host of the client.
func TestHookRewritesToAnotherHost(t *testing.T) {
	evil, evilRequests := scripted(t, "no-store")
	evilHost := strings.TrimPrefix(evil, "http://")
	f := func(what string, typ uint16, data, onFault string, code int, want string) {
		t.Helper()
		origin, _ := scripted(t, "no-store")
		m := hooktest.WithOutput(abi.Route, abi.MakeResult(abi.OK, abi.ResultRecords, 0), abi.AppendEnd(abi.AppendRecord(nil, typ, []byte(data))))
		dir := t.TempDir()
		r := inProcess(t, writeConfig(t, dir, addresses+siteText(origin)+writeModule(t, dir, m, "route", fmt.Sprintf("on_fault = %q", onFault))))
		if a := ask(t, "GET", r.data+"/a?b", "", "Host", "shop.example"); a.code != code || code == 200 && a.body != want {
			t.Errorf("%s: %d %q, want %d %q", what, a.code, a.body, code, want)
		}
		r.signal(stop)
		r.end()
	}
	field := func(name string) string { return string([]byte{byte(len(name)), 0}) + name + evilHost }
	f("a URL for a target", abi.RecTarget, evil+"/x", "deny", 503, "")
	f("a URL for a target", abi.RecTarget, evil+"/x", "default", 200, "shop.example /a?b")
	f("two slashes", abi.RecTarget, "//"+evilHost+"/x", "deny", 200, "shop.example //"+evilHost+"/x")
	f("another path", abi.RecTarget, "/new?c=d", "deny", 200, "shop.example /new?c=d")
	f("the field Host", abi.RecSetRequest, field("host"), "deny", 503, "")
	f("the field X-Forwarded-Host", abi.RecSetRequest, field("x-forwarded-host"), "deny", 200, "shop.example /a?b")
	if got := evilRequests.Load(); got != 0 {
		t.Errorf("the other host had %d requests", got)
	}
}

// TestHookVerdicts: what a route hook decides about the key and its neighbours,
// from the client's side: pools, rewritten keys, tags, statuses.
func TestHookVerdicts(t *testing.T) {
	main, mainRequests := scripted(t, "max-age=60")
	other, otherRequests := scripted(t, "max-age=60")
	pool := fmt.Sprintf("[[pool]]\nname = \"other\"\norigins = [%q]\n", other)
	node := func(res abi.Result, typ uint16, data string) *running {
		t.Helper()
		m := hooktest.WithOutput(abi.Route, res, abi.AppendEnd(abi.AppendRecord(nil, typ, []byte(data))))
		dir := t.TempDir()
		return inProcess(t, writeConfig(t, dir, addresses+siteText(main)+pool+writeModule(t, dir, m, "route", `pools = ["main", "other"]`)))
	}
	ended := func(r *running) { r.signal(stop); r.end() }
	get := func(r *running, path string) answer {
		t.Helper()
		return ask(t, "GET", r.data+path, "", "Host", "shop.example")
	}
	// The second pool, and a key that is the same for all paths.
	r := node(abi.MakeResult(abi.OK, abi.ResultRecords, 2), abi.RecTarget, "/one")
	for _, path := range []string{"/a", "/b?c"} {
		if a := get(r, path).want(t, 200); a.body != "shop.example /one" {
			t.Errorf("%s: %q", path, a.body)
		}
	}
	if mainRequests.Load() != 0 || otherRequests.Load() != 1 {
		t.Errorf("the pools had %d and %d requests, want 0 and 1", mainRequests.Load(), otherRequests.Load())
	}
	ended(r)
	// A status with a reason.
	r = node(abi.MakeResult(abi.Deny, abi.ResultRecords, 0), abi.RecStatus, "\xad\x01slow down")
	if a := get(r, "/a").want(t, 429); !strings.Contains(a.body, "slow down") {
		t.Errorf("deny: %q", a.body)
	}
	ended(r)
	// Passed: the origin is asked each time.
	r = node(abi.MakeResult(abi.Pass, abi.ResultRecords, 0), abi.RecTag, "x")
	get(r, "/p").want(t, 200)
	get(r, "/p").want(t, 200)
	if got := mainRequests.Load(); got != 2 {
		t.Errorf("pass: the origin had %d requests, want 2", got)
	}
	ended(r)
}
