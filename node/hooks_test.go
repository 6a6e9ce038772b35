package node_test

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/edgenode/edgenode/hooks/abi"
	"github.com/edgenode/edgenode/hooks/hooktest"
)

// writeModule writes a module to dir and returns the table that loads it.
func writeModule(t testing.TB, dir string, m *hooktest.Module, hook, rest string) string {
	t.Helper()
	name := filepath.Join(dir, hook+".wasm")
	if err := os.WriteFile(name, m.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("[[hook]]\nname = %q\nmodule = %q\nhooks = [%q]\n%s\n", hook, name, hook, rest)
}

// TestHookAnswers: "answer now" is the answer, on sites and for items.
func TestHookAnswers(t *testing.T) {
	origin, requests := testOrigin(t, "main")
	dir := t.TempDir()
	// Status 200, one field "a: b", body "hi" (ABI.md, record 13).
	record := abi.AppendEnd(abi.AppendRecord(nil, abi.RecAnswer, []byte("\xc8\x00\x01\x00\x02\x00\x00\x00\x01\x00\x01\x00abhi")))
	m := hooktest.WithOutput(abi.Route, abi.MakeResult(abi.OK, abi.ResultRecords, 0), record)
	r := inProcess(t, writeConfig(t, dir, addresses+siteText(origin)+writeModule(t, dir, m, "route", "")))
	f := func(host, path string) {
		t.Helper()
		if a := ask(t, "GET", r.data+path, "", "Host", host).want(t, 200); a.body != "hi" || a.header.Get("A") != "b" {
			t.Errorf("%s%s: %q, %v", host, path, a.body, a.header)
		}
	}
	f("shop.example", "/a")
	f("localhost", "/v1/items/a")
	if requests.Load() != 0 {
		t.Errorf("the origin had %d requests", requests.Load())
	}
}

// TestHookFaults: a module that traps costs what on_fault says and nothing else.
func TestHookFaults(t *testing.T) {
	unreachable := hooktest.Code([]byte{0x00})
	f := func(hook abi.Hook, onFault string, site, put int) {
		t.Helper()
		origin, _ := testOrigin(t, "main")
		dir := t.TempDir()
		r := inProcess(t, writeConfig(t, dir, addresses+siteText(origin)+
			writeModule(t, dir, hooktest.Guest(hook, unreachable), hook.String(), fmt.Sprintf("on_fault = %q", onFault))))
		for range 2 {
			if a := ask(t, "GET", r.data+"/a", "", "Host", "shop.example"); a.code != site {
				t.Errorf("%v, %s: the site answers %d, want %d: %s", hook, onFault, a.code, site, a.body)
			}
			if a := ask(t, "PUT", r.data+"/v1/items/a", "x"); a.code != put && (a.code != 201 || put != 204) { // 201: the filter is trusted already
				t.Errorf("%v, %s: a put answers %d, want %d: %s", hook, onFault, a.code, put, a.body)
			}
		}
	}
	f(abi.Route, "default", 200, 204)
	f(abi.Route, "bypass", 200, 204)
	f(abi.Route, "deny", 503, 503)
	f(abi.TTL, "default", 200, 204)
	f(abi.TTL, "bypass", 200, 204)
	f(abi.TTL, "deny", 200, 503) // a site's answer is there already: it is not stored
}

// TestHookReloadKeepsOld: a module that cannot be loaded leaves the old in use.
func TestHookReloadKeepsOld(t *testing.T) {
	dir := t.TempDir()
	deny := hooktest.WithOutput(abi.Route, abi.MakeResult(abi.Deny, abi.ResultRecords, 0), abi.AppendEnd(abi.AppendRecord(nil, abi.RecStatus, []byte("\x93\x01no"))))
	file := writeConfig(t, dir, addresses+writeModule(t, dir, deny, "route", ""))
	r := inProcess(t, file)
	get := func() int { return ask(t, "GET", r.data+"/v1/items/a", "").code }
	if got := get(); got != 403 {
		t.Fatalf("status %d, want 403", got)
	}
	// The file changes, the configuration does not.
	module := filepath.Join(dir, "route.wasm")
	if err := os.WriteFile(module, []byte("not wasm"), 0o600); err != nil {
		t.Fatal(err)
	}
	ask(t, "POST", r.admin+"/reload", "", "Content-Type", "application/json").want(t, 422)
	if got := get(); got != 403 {
		t.Errorf("after the broken reload: %d, want 403", got)
	}
	pass := hooktest.WithOutput(abi.Route, abi.MakeResult(abi.OK, 0, 0), nil)
	writeModule(t, dir, pass, "route", "")
	ask(t, "POST", r.admin+"/reload", "", "Content-Type", "application/json").want(t, 200)
	if got := get(); got != 404 {
		t.Errorf("after the reload: %d, want 404", got)
	}
}

// TestHookEdits: changes of header fields reach origin, cache and client, and
// leave what is stored as it came.
func TestHookEdits(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var requests atomic.Int64
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		w.Header().Set("Cache-Control", "max-age=600")
		w.Header().Set("Vary", "X-Class")
		w.Header().Set("X-Powered-By", "origin")
		fmt.Fprintf(w, "class %s, gone %q", r.Header.Get("X-Class"), r.Header.Get("X-Gone"))
	})}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(listener) }() // ends with Close
	t.Cleanup(func() { _ = server.Close(); <-done })              // nobody is served any more

	header := func(name, value string) []byte {
		return append(append([]byte{byte(len(name)), 0}, name...), value...)
	}
	records := abi.AppendRecord(nil, abi.RecSetRequest, header("x-class", "a"))
	records = abi.AppendRecord(records, abi.RecRemove, append([]byte{0, 0}, "x-gone"...))
	records = abi.AppendRecord(records, abi.RecSetResponse, header("x-edge", "b"))
	records = abi.AppendRecord(records, abi.RecSetResponse, header("via", "nobody")) // refused
	records = abi.AppendEnd(abi.AppendRecord(records, abi.RecRemove, append([]byte{1, 0}, "x-powered-by"...)))
	m := hooktest.WithOutput(abi.Route, abi.MakeResult(abi.OK, abi.ResultRecords, 0), records)
	dir := t.TempDir()
	site := addresses + siteText("http://"+listener.Addr().String())
	file := writeConfig(t, dir, site+writeModule(t, dir, m, "route", ""))
	r := inProcess(t, file)
	for i, want := range []string{"fwd=uri-miss", "hit"} {
		a := ask(t, "GET", r.data+"/a", "", "Host", "shop.example", "X-Class", fmt.Sprint("own", i), "X-Gone", "here").want(t, 200)
		if a.body != `class a, gone ""` || a.header.Get("X-Edge") != "b" || a.header.Get("X-Powered-By") != "" || strings.Contains(a.header.Get("Via"), "nobody") {
			t.Errorf("%s: %q, %v", want, a.body, a.header)
		}
		if got := a.header.Get("Cache-Status"); !strings.Contains(got, want) {
			t.Errorf("Cache-Status %q, want %s", got, want)
		}
	}
	if got := requests.Load(); got != 1 {
		t.Errorf("the origin had %d requests, want 1", got)
	}
	// An item: its answer is changed, and what is stored is not.
	r.put("a", "content", "Content-Type", "text/plain")
	if a := ask(t, "GET", r.data+"/v1/items/a", "").want(t, 200); a.body != "content" || a.header.Get("X-Edge") != "b" {
		t.Errorf("item: %q, %v", a.body, a.header)
	}
	page := ask(t, "GET", r.admin+"/metrics", "").want(t, 200).body
	for _, line := range []string{"edgenode_proxy_refused_edits_total 2\n", "edgenode_api_refused_edits_total 6\n"} {
		if !strings.Contains(page, line) {
			t.Errorf("metrics lack %q", line)
		}
	}

	// Without the hook the stored answer is the origin's.
	if err := os.WriteFile(file, []byte(site), 0o600); err != nil {
		t.Fatal(err)
	}
	ask(t, "POST", r.admin+"/reload", "", "Content-Type", "application/json").want(t, 200)
	a := ask(t, "GET", r.data+"/a", "", "Host", "shop.example", "X-Class", "a").want(t, 200)
	if a.header.Get("X-Edge") != "" || a.header.Get("X-Powered-By") != "origin" || !strings.Contains(a.header.Get("Cache-Status"), "hit") {
		t.Errorf("without the hook: %v", a.header)
	}
}

// TestHookRollback: the hooks before a reload come back by one request, and go
// by another one.
func TestHookRollback(t *testing.T) {
	dir := t.TempDir()
	deny := hooktest.WithOutput(abi.Route, abi.MakeResult(abi.Deny, 0, 0), nil)
	file := writeConfig(t, dir, addresses+writeModule(t, dir, deny, "route", ""))
	r := inProcess(t, file)
	post := func(path string) answer {
		t.Helper()
		return ask(t, "POST", r.admin+path, "", "Content-Type", "application/json")
	}
	get := func(want int) {
		t.Helper()
		if got := ask(t, "GET", r.data+"/v1/items/a", "").code; got != want {
			t.Errorf("status %d, want %d", got, want)
		}
	}
	if a := post("/hooks/rollback").want(t, 501); !strings.Contains(a.body, "not-configured") {
		t.Errorf("before any reload: %s", a.body)
	}
	get(403)
	writeModule(t, dir, hooktest.WithOutput(abi.Route, abi.MakeResult(abi.OK, 0, 0), nil), "route", "")
	post("/reload").want(t, 200)
	get(404)
	if a := post("/hooks/rollback").want(t, 200); !strings.Contains(a.body, `"sha256"`) {
		t.Errorf("rollback: %s", a.body)
	}
	get(403)
	post("/hooks/rollback").want(t, 200)
	get(404)
	ask(t, "GET", r.admin+"/hooks/rollback", "").want(t, 405)
	ask(t, "POST", r.admin+"/hooks/rollback", "").want(t, 415) // what a form of a web page can send
	get(404)
}
