package node_test

import (
	"fmt"
	"os"
	"path/filepath"
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
			if a := ask(t, "PUT", r.data+"/v1/items/a", "x"); a.code != put {
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
