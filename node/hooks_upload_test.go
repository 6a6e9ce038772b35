package node_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/edgenode/edgenode/hooks"
	"github.com/edgenode/edgenode/hooks/abi"
	"github.com/edgenode/edgenode/hooks/hooktest"
	"github.com/edgenode/edgenode/node"
	"github.com/edgenode/edgenode/node/config"
)

// denies is a route guest that denies with a status.
func denies(status uint16) []byte {
	record := abi.AppendRecord(nil, abi.RecStatus, []byte{byte(status), byte(status >> 8), 'n', 'o'})
	return hooktest.WithOutput(abi.Route, abi.MakeResult(abi.Deny, abi.ResultRecords, 0), abi.AppendEnd(record)).Bytes()
}

// send uploads a module.
func send(t *testing.T, url string, module, signature []byte) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "PUT", url, bytes.NewReader(module))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/wasm")
	if signature != nil {
		req.Header.Set("Edge-Hook-Signature", strings.TrimSpace(string(signature)))
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }() // read to its end
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{code: resp.StatusCode, header: resp.Header, body: string(body)}
}

// TestHookUpload: who may upload what, and that it stays until it is deleted.
func TestHookUpload(t *testing.T) {
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	_, stranger, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "guard.wasm")
	write := func(name string, data []byte) {
		t.Helper()
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(file, denies(451))
	write(file+".sig", hooks.Sign(denies(451), "ops", private))
	config := writeConfig(t, dir, fmt.Sprintf("max_payload_bytes = \"16KiB\"\nhooks_max_module_bytes = \"64KiB\"\nhooks_trusted_keys = [\"ops %s\"]\nhooks_unsigned_upload = true\n", base64.StdEncoding.EncodeToString(public))+
		addresses+fmt.Sprintf("[[hook]]\nname = \"guard\"\nmodule = %q\nhooks = [\"route\"]\n", file))
	r := inProcess(t, config)
	status := func(want int) {
		t.Helper()
		if got := ask(t, "GET", r.data+"/v1/items/a", "").code; got != want {
			t.Errorf("status %d, want %d", got, want)
		}
	}
	f := func(what string, module, signature []byte, code int, kind string) {
		t.Helper()
		if a := send(t, r.admin+"/hooks/guard", module, signature); a.code != code || !strings.Contains(a.body, kind) {
			t.Errorf("%s: %d %s, want %d %s", what, a.code, a.body, code, kind)
		}
	}
	status(451)
	next := denies(410)
	f("unsigned", next, nil, 403, "signature-refused") // though unsigned uploads are let in: signatures are required
	f("by a stranger", next, hooks.Sign(next, "eve", stranger), 403, "signature-refused")
	f("by a stranger under our name", next, hooks.Sign(next, "ops", stranger), 403, "signature-refused")
	f("of another module", next, hooks.Sign(denies(411), "ops", private), 403, "signature-refused")
	big := make([]byte, 40<<10) // above max_payload_bytes, which does not count here
	f("large, no module", big, hooks.Sign(big, "ops", private), 422, "module-refused")
	big = make([]byte, 64<<10+1)
	f("too large", big, hooks.Sign(big, "ops", private), 413, "raise hooks_max_module_bytes")
	f("no module", []byte("text"), hooks.Sign([]byte("text"), "ops", private), 422, "module-refused")
	status(451)
	if a := send(t, r.admin+"/hooks/other", next, hooks.Sign(next, "ops", private)); a.code != 404 || !strings.Contains(a.body, "unknown-hook") {
		t.Errorf("another hook: %d %s", a.code, a.body)
	}
	f("good", next, hooks.Sign(next, "ops", private), 200, `"uploaded": [
    "guard"
  ]`)
	status(410)
	ask(t, "POST", r.admin+"/reload", "", "Content-Type", "application/json").want(t, 200)
	status(410)
	ask(t, "POST", r.admin+"/hooks/rollback", "", "Content-Type", "application/json").want(t, 200)
	status(410) // the reload loaded it again
	ask(t, "DELETE", r.admin+"/hooks/guard", "", "Content-Type", "application/json").want(t, 200)
	status(451)
	ask(t, "DELETE", r.admin+"/hooks/guard", "", "Content-Type", "application/json").want(t, 200) // nothing to do
	ask(t, "DELETE", r.admin+"/hooks/nobody", "", "Content-Type", "application/json").want(t, 404)
	ask(t, "PUT", r.admin+"/hooks/guard", "x").want(t, 415)
	ask(t, "PUT", r.admin+"/hooks/guard?x=1", "x", "Content-Type", "application/wasm").want(t, 400)
	ask(t, "PUT", r.admin+"/hooks/guard?share=0.1", "x", "Content-Type", "application/wasm").want(t, 400)
	ask(t, "PUT", r.admin+"/hooks/guard?trial=canary&share=2", "x", "Content-Type", "application/wasm").want(t, 400)
	ask(t, "GET", r.admin+"/hooks/guard", "").want(t, 405)
}

// TestHookUploadSurvivesRestart: an uploaded module is loaded at the next start.
func TestHookUploadSurvivesRestart(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "guard.wasm")
	if err := os.WriteFile(file, denies(451), 0o600); err != nil {
		t.Fatal(err)
	}
	table := fmt.Sprintf("[[hook]]\nname = \"guard\"\nmodule = %q\nhooks = [\"route\"]\n", file)
	closed := inProcess(t, writeConfig(t, dir, addresses+table))
	if a := send(t, closed.admin+"/hooks/guard", denies(410), nil); a.code != 403 || !strings.Contains(a.body, "no key is trusted") {
		t.Errorf("without trusted keys: %d %s", a.code, a.body)
	}
	closed.signal(syscall.SIGTERM)
	closed.end()
	config := writeConfig(t, dir, "hooks_unsigned_upload = true\n"+addresses+table)
	r := inProcess(t, config)
	if a := send(t, r.admin+"/hooks/guard", denies(410), nil); a.code != 200 {
		t.Fatalf("%d %s", a.code, a.body)
	}
	r.signal(syscall.SIGTERM)
	r.end()
	r = inProcess(t, config)
	if got := ask(t, "GET", r.data+"/v1/items/a", "").code; got != 410 {
		t.Errorf("after the restart: %d, want 410", got)
	}
}

// TestHookTrial: a module runs beside the live one, is looked at, and is promoted
// or aborted, all over HTTP.
func TestHookTrial(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "guard.wasm")
	if err := os.WriteFile(file, denies(451), 0o600); err != nil {
		t.Fatal(err)
	}
	r := inProcess(t, writeConfig(t, dir, "hooks_unsigned_upload = true\n"+addresses+
		fmt.Sprintf("[[hook]]\nname = \"guard\"\nmodule = %q\nhooks = [\"route\"]\n", file)))
	post := func(path string) answer {
		t.Helper()
		return ask(t, "POST", r.admin+path, "", "Content-Type", "application/json")
	}
	get := func(id string) int { return ask(t, "GET", r.data+"/v1/items/"+id, "").code }
	post("/hooks/promote").want(t, 409)
	post("/hooks/abort").want(t, 409)

	if a := send(t, r.admin+"/hooks/guard?trial=shadow", denies(410), nil); a.code != 200 {
		t.Fatalf("%d %s", a.code, a.body)
	}
	if a := send(t, r.admin+"/hooks/guard?trial=shadow", denies(410), nil); a.code != 409 || !strings.Contains(a.body, "trial-runs") {
		t.Errorf("a second trial: %d %s", a.code, a.body)
	}
	for range 3 {
		if got := get("a"); got != 451 {
			t.Errorf("in the shadow: %d, want 451", got)
		}
	}
	var page struct {
		Trial struct {
			Hooks       []hooks.TrialFigures
			Differences []hooks.TrialSample
		}
		History []hooks.Event
	}
	if err := json.Unmarshal([]byte(ask(t, "GET", r.admin+"/hooks", "").want(t, 200).body), &page); err != nil {
		t.Fatal(err)
	}
	if len(page.Trial.Hooks) != 1 || page.Trial.Hooks[0].Calls != 3 || page.Trial.Hooks[0].Different != 3 || len(page.Trial.Differences) != 3 || len(page.History) != 2 {
		t.Errorf("got %+v", page)
	}
	post("/hooks/abort").want(t, 200)
	if got := get("a"); got != 451 {
		t.Errorf("aborted: %d, want 451", got)
	}

	if a := send(t, r.admin+"/hooks/guard?trial=canary&share=0.5", denies(410), nil); a.code != 200 {
		t.Fatalf("%d %s", a.code, a.body)
	}
	seen := map[int]int{}
	for n := range 100 {
		seen[get(fmt.Sprint("k", n))]++
	}
	if seen[410] < 20 || seen[451] < 20 || seen[410]+seen[451] != 100 {
		t.Errorf("canary for half of the keys: %v", seen)
	}
	kept := filepath.Join(dir, "data", "hooks") // cannot be made: nothing can be kept
	if err := os.WriteFile(kept, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if a := post("/hooks/promote"); a.code != 500 || !strings.Contains(a.body, "kept on disk") {
		t.Errorf("promoted to a broken disk: %d %s", a.code, a.body)
	}
	if err := os.Remove(kept); err != nil {
		t.Fatal(err)
	}
	post("/hooks/promote").want(t, 200) // the trial went on
	if got := get("a"); got != 410 {
		t.Errorf("promoted: %d, want 410", got)
	}
	post("/reload").want(t, 200)
	if got := get("a"); got != 410 {
		t.Errorf("after a reload: %d, want 410", got)
	}
}

// TestHookUploadIsOneFile: module and signature are one file, so that no crash and
// no full disk leaves one with that of another; what a crash leaves goes; and a
// kept module that does not load is named, at a start and by a check.
func TestHookUploadIsOneFile(t *testing.T) {
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file, kept := filepath.Join(dir, "guard.wasm"), filepath.Join(dir, "data", "hooks")
	write := func(name string, data []byte) {
		t.Helper()
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(file, denies(451))
	write(file+".sig", hooks.Sign(denies(451), "ops", private))
	name := writeConfig(t, dir, fmt.Sprintf("hooks_trusted_keys = [\"ops %s\"]\n", base64.StdEncoding.EncodeToString(public))+
		addresses+fmt.Sprintf("[[hook]]\nname = \"guard\"\nmodule = %q\nhooks = [\"route\"]\n", file))
	only := func() string {
		t.Helper()
		files, err := os.ReadDir(kept)
		if err != nil || len(files) != 1 {
			t.Fatalf("kept: %v, %v, want one file", files, err)
		}
		return filepath.Join(kept, files[0].Name())
	}
	r := inProcess(t, name)
	for _, status := range []uint16{409, 410} {
		if a := send(t, r.admin+"/hooks/guard", denies(status), hooks.Sign(denies(status), "ops", private)); a.code != 200 {
			t.Fatalf("%d %s", a.code, a.body)
		}
		only()
	}
	r.signal(syscall.SIGTERM)
	r.end()

	write(filepath.Join(kept, ".upload-123"), []byte("half of it"))
	r = inProcess(t, name)
	if got := ask(t, "GET", r.data+"/v1/items/a", "").code; got != 410 {
		t.Errorf("after the restart: %d, want 410", got)
	}
	upload := only()
	write(upload, denies(410)) // its signature is lost
	a := ask(t, "POST", r.admin+"/reload", "", "Content-Type", "application/json")
	if a.code < 400 || !strings.Contains(a.body, "delete "+upload) {
		t.Errorf("reload: %d %s, want the file that is in the way", a.code, a.body)
	}
	cfg, err := config.Load(config.Source{Path: name})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := node.CheckHooks(cfg, name); err == nil || !strings.Contains(err.Error(), upload) || !strings.Contains(err.Error(), "uploaded module") {
		t.Errorf("check: %v", err)
	}
}
