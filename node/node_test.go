package node_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// TestWithoutConfiguration starts the binary in an empty directory.
func TestWithoutConfiguration(t *testing.T) {
	dir := t.TempDir()
	free := []string{"EDGENODE_LISTEN_DATA_ADDRESS=127.0.0.1:0", "EDGENODE_LISTEN_ADMIN_ADDRESS=127.0.0.1:0"}
	r := asProcess(t, dir, free)
	r.learnAddresses()
	item := r.data + "/v1/items/greeting/1"

	put := r.put("greeting/1", `{"hello": 1}`, "Edge-Tags", "a,b")
	if got := put.header.Get("Edge-Persisted"); got != "sync" {
		t.Errorf("persisted %q, want sync", got)
	}
	get := ask(t, "GET", item, "").want(t, 200)
	if get.body != `{"hello": 1}` || get.header.Get("Content-Type") != "application/json" || get.header.Get("ETag") != put.header.Get("ETag") {
		t.Errorf("got %q, %v", get.body, get.header)
	}
	list := ask(t, "GET", r.data+"/v1/items?tag=b", "").want(t, 200)
	if !strings.Contains(list.body, `"id":"greeting/1"`) {
		t.Errorf("list: %s", list.body)
	}
	r.put("second", "two")
	ask(t, "DELETE", item, "").want(t, 204)
	ask(t, "GET", item, "").want(t, 404)
	ask(t, "GET", r.admin+"/readyz", "").want(t, 200)

	r.signal(stop)
	if code := r.end(); code != 0 {
		t.Fatalf("exit code %d:\n%s", code, r.log)
	}
	again := asProcess(t, dir, free)
	again.learnAddresses()
	if got := ask(t, "GET", again.data+"/v1/items/second", "").want(t, 200); got.body != "two" {
		t.Errorf("after the restart: %q", got.body)
	}
	ask(t, "GET", again.data+"/v1/items/greeting/1", "").want(t, 404)
}

// TestA2StopFlushes: an orderly stop leaves nothing in the journal.
func TestA2StopFlushes(t *testing.T) {
	dir := t.TempDir()
	file := writeConfig(t, dir, "batch_flush_ms = 60000\n"+addresses) // only the stop flushes
	r := asProcess(t, dir, nil, "serve", "--config", file)
	r.learnAddresses()
	const items = 200
	for i := range items {
		r.put(fmt.Sprint("i", i), fmt.Sprint("content ", i), "Edge-Durability", "journal")
	}
	if s := ask(t, "GET", r.data+"/v1/items/i0:status", ""); !strings.Contains(s.body, `"where":"journaled"`) {
		t.Fatalf("flushed too early: %s", s.body)
	}
	r.signal(stop)
	if code := r.end(); code != 0 {
		t.Fatalf("exit code %d:\n%s", code, r.log)
	}
	again := inProcess(t, file)
	opened := again.log.wait(t, 1, `msg="journal opened"`)
	if attribute(opened, "clean") != "true" || attribute(opened, "records") != "0" {
		t.Errorf("the journal was not left empty: %s", opened)
	}
	for i := range items {
		a := ask(t, "GET", fmt.Sprintf("%s/v1/items/i%d", again.data, i), "").want(t, 200)
		if a.body != fmt.Sprint("content ", i) || !strings.Contains(a.header.Get("Cache-Status"), "l3") {
			t.Fatalf("i%d: %q, %s", i, a.body, a.header.Get("Cache-Status"))
		}
	}
}

// TestKillLosesNothing kills the process and asks for all that it acknowledged.
func TestKillLosesNothing(t *testing.T) {
	dir := t.TempDir()
	file := writeConfig(t, dir, addresses)
	r := asProcess(t, dir, nil, "serve", "--config", file)
	r.learnAddresses()
	const items = 100
	for i := range items {
		r.put(fmt.Sprint("i", i), fmt.Sprint("content ", i))
	}
	if err := r.process.Kill(); err != nil {
		t.Fatal(err)
	}
	if code := r.end(); code != -1 {
		t.Fatalf("exit code %d", code)
	}
	again := inProcess(t, file)
	for i := range items {
		if a := ask(t, "GET", fmt.Sprintf("%s/v1/items/i%d", again.data, i), "").want(t, 200); a.body != fmt.Sprint("content ", i) {
			t.Fatalf("i%d: %q", i, a.body)
		}
	}
}

// testOrigin counts its requests and answers with what name and path say.
func testOrigin(t testing.TB, name string) (url string, requests *atomic.Int64) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	requests = new(atomic.Int64)
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		w.Header().Set("Cache-Control", "max-age=600")
		w.Header().Set("ETag", `"1"`)
		fmt.Fprintf(w, "%s %s", name, r.URL.Path)
	})}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(listener) }() // ends with Close
	t.Cleanup(func() { _ = server.Close(); <-done })              // nobody is served any more
	return "http://" + listener.Addr().String(), requests
}

func siteText(origin string) string {
	return fmt.Sprintf(`
[[pool]]
name = "main"
origins = [%q]
[[site]]
name = "shop"
hosts = ["shop.example"]
pool = "main"
`, origin)
}

func TestSite(t *testing.T) {
	origin, requests := testOrigin(t, "main")
	dir := t.TempDir()
	r := inProcess(t, writeConfig(t, dir, addresses+siteText(origin)))
	get := func() answer {
		t.Helper()
		return ask(t, "GET", r.data+"/v1/items/x?q=1", "", "Host", "shop.example").want(t, 200)
	}
	// A site owns every path of its hosts, /v1 included.
	if a := get(); a.body != "main /v1/items/x" || requests.Load() != 1 {
		t.Errorf("first: %q after %d requests", a.body, requests.Load())
	}
	if a := get(); a.body != "main /v1/items/x" || requests.Load() != 1 || !strings.Contains(a.header.Get("Cache-Status"), "hit") {
		t.Errorf("second: %q after %d requests, %s", a.body, requests.Load(), a.header.Get("Cache-Status"))
	}
	// The items API cannot see it, a purge by URL reaches it.
	ask(t, "GET", r.data+"/v1/items/x?q=1", "").want(t, 400)
	ask(t, "GET", r.data+"/v1/items/x", "").want(t, 404)
	ask(t, "POST", r.data+"/v1/purge", `{"url": "http://shop.example/v1/items/x?q=1"}`).want(t, 200)
	if get(); requests.Load() != 2 {
		t.Errorf("after the purge: %d requests", requests.Load())
	}
}

func TestHosts(t *testing.T) {
	origin, _ := testOrigin(t, "main")
	dir := t.TempDir()
	r := inProcess(t, writeConfig(t, dir, `api_hosts = ["localhost", "127.0.0.1"]`+addresses+siteText(origin)))
	f := func(host string, code int) {
		t.Helper()
		ask(t, "GET", r.data+"/v1/items", "", "Host", host).want(t, code)
	}
	f("localhost", 200)
	f("127.0.0.1", 200)
	f("shop.example", 200)
	f("SHOP.example.:80", 200)
	f("other.example", 421)
	f("[::1]", 421) // not among api_hosts
}

func TestHooks(t *testing.T) {
	examples, err := filepath.Abs("../wasm-examples")
	if err != nil {
		t.Fatal(err)
	}
	main, mainRequests := testOrigin(t, "main")
	eu, euRequests := testOrigin(t, "eu")
	dir := t.TempDir()
	r := inProcess(t, writeConfig(t, dir, addresses+siteText(main)+fmt.Sprintf(`
[[pool]]
name = "eu"
origins = [%q]
[[hook]]
name = "route"
module = %q
hooks = ["route"]
pools = ["eu"]
on_fault = "deny"
[[hook]]
name = "ttl"
module = %q
hooks = ["ttl"]
[[hook]]
name = "evict"
module = %q
hooks = ["evict"]
`, eu, filepath.Join(examples, "route-header/route-header.wasm"), filepath.Join(examples, "ttl-by-type/ttl-by-type.wasm"),
		filepath.Join(examples, "evict-gdsf/evict-gdsf.wasm"))))
	get := func(tenant string) answer {
		t.Helper()
		h := []string{"Host", "shop.example"}
		if tenant != "" {
			h = append(h, "X-Tenant", tenant)
		}
		return ask(t, "GET", r.data+"/a", "", h...)
	}
	// route on a site: pool, key addition, refusal.
	for range 2 {
		if a := get("").want(t, 200); a.body != "main /a" {
			t.Errorf("without tenant: %q", a.body)
		}
		if a := get("eu-1").want(t, 200); a.body != "eu /a" {
			t.Errorf("tenant eu-1: %q", a.body)
		}
	}
	if mainRequests.Load() != 1 || euRequests.Load() != 1 {
		t.Errorf("origins had %d and %d requests, want 1 and 1", mainRequests.Load(), euRequests.Load())
	}
	get("NOT A NAME").want(t, 400)

	// ttl on an item: images live for a day, users who are logged in leave nothing.
	item := r.data + "/v1/items/pic"
	r.put("pic", "png", "Content-Type", "image/png")
	if list := ask(t, "GET", r.data+"/v1/items", ""); !strings.Contains(list.body, `"expires_at_ms"`) {
		t.Errorf("no lifetime was given: %s", list.body)
	}
	ask(t, "PUT", item, "png", "Cookie", "session=1").want(t, 403)
	// route on an item
	ask(t, "PUT", item, "png", "X-Tenant", "NOT A NAME").want(t, 400)

	if page := ask(t, "GET", r.admin+"/hooks", "").want(t, 200); strings.Count(page.body, `"metering_bytes"`) != 3 {
		t.Errorf("/hooks: %s", page.body)
	}
	if page := ask(t, "GET", r.admin+"/metrics", "").want(t, 200); !strings.Contains(page.body, `edgenode_hooks_calls_total{hook="route"}`) {
		t.Errorf("/metrics has no hooks")
	}
}

func TestReload(t *testing.T) {
	first, _ := testOrigin(t, "first")
	second, _ := testOrigin(t, "second")
	dir := t.TempDir()
	file := writeConfig(t, dir, addresses)
	r := inProcess(t, file)
	const json = "application/json"
	reload := func() answer { return ask(t, "POST", r.admin+"/reload", "", "Content-Type", json) }
	site := func() answer { return ask(t, "GET", r.data+"/a", "", "Host", "shop.example") }

	site().want(t, 403) // the items API's: no site has the host, and it is not this machine's

	writeConfig(t, dir, addresses+siteText(first))
	if a := reload().want(t, 200); !strings.Contains(a.body, `site[\"shop\"]`) {
		t.Errorf("what changed: %s", a.body)
	}
	if a := site().want(t, 200); a.body != "first /a" {
		t.Errorf("after the first reload: %q", a.body)
	}

	// Broken: unknown pool. Nothing changes.
	writeConfig(t, dir, addresses+strings.Replace(siteText(second), `pool = "main"`, `pool = "none"`, 1))
	if a := reload().want(t, 422); !strings.Contains(a.body, "edgenode.toml:") {
		t.Errorf("the fault has no line: %s", a.body)
	}
	// Broken later: a hook that is no module. The pools of this file are taken back.
	writeConfig(t, dir, addresses+siteText(second)+fmt.Sprintf("[[hook]]\nname = \"h\"\nmodule = %q\nhooks = [\"route\"]\n", file))
	if a := reload().want(t, 422); !strings.Contains(a.body, "hook") {
		t.Errorf("the hook's fault: %s", a.body)
	}
	if a := ask(t, "GET", r.data+"/b", "", "Host", "shop.example").want(t, 200); a.body != "first /b" {
		t.Errorf("after the broken reloads: %q", a.body)
	}

	// By signal; what needs a restart is told, and only that.
	writeConfig(t, dir, "journal_max_bytes = \"512MiB\"\n"+addresses+siteText(second))
	r.signal(syscall.SIGHUP)
	if line := r.log.wait(t, 2, "msg=reloaded"); attribute(line, "need_restart") != "[journal_max_bytes]" {
		t.Errorf("log: %s", line)
	}
	if a := ask(t, "GET", r.data+"/c", "", "Host", "shop.example").want(t, 200); a.body != "second /c" {
		t.Errorf("after the signal: %q", a.body)
	}
	if a := ask(t, "GET", r.admin+"/config", "").want(t, 200); !strings.Contains(a.body, `"key": "journal_max_bytes"`) {
		t.Errorf("/config does not say what waits for a restart: %s", a.body)
	}
}

func TestTokensReload(t *testing.T) {
	dir := t.TempDir()
	file := writeConfig(t, dir, addresses)
	r := inProcess(t, file)
	list := func(bearer string) int {
		return ask(t, "GET", r.data+"/v1/items", "", "Authorization", "Bearer "+bearer).code
	}
	if got := list("x"); got != 200 {
		t.Errorf("local without tokens: %d", got)
	}
	// SHA-256 of "test".
	writeConfig(t, dir, addresses+`
[[token]]
name = "ci"
sha256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
scopes = ["read"]
`)
	r.signal(syscall.SIGHUP)
	r.log.wait(t, 1, "msg=reloaded")
	if got := list("x"); got != 401 {
		t.Errorf("wrong token: %d", got)
	}
	if got := list("test"); got != 200 {
		t.Errorf("right token: %d", got)
	}
	ask(t, "PUT", r.data+"/v1/items/a", "", "Authorization", "Bearer test").want(t, 403)
	if a := ask(t, "GET", r.admin+"/config", "").want(t, 200); strings.Contains(a.body, "9f86d081") {
		t.Error("/config shows the hash of a token")
	}
}

// TestDrain: a stopping node says so before it stops accepting.
func TestDrain(t *testing.T) {
	dir := t.TempDir()
	file := writeConfig(t, dir, strings.Replace(addresses, "[listen.admin]", "drain_delay = \"1s\"\n[listen.admin]", 1))
	r := inProcess(t, file)
	r.signal(stop)
	r.log.wait(t, 1, `msg="shutting down"`)
	// The log line stands before the change; the first answers may still be of
	// before it.
	deadline := time.Now().Add(patience)
	for ask(t, "GET", r.admin+"/readyz", "").code != 503 {
		if time.Now().After(deadline) {
			t.Fatal("/readyz stays 200")
		}
	}
	if a := ask(t, "GET", r.data+"/v1/items", "").want(t, 200); !a.last {
		t.Error("no Connection: close")
	}
	r.log.wait(t, 1, "msg=stopped")
}

// TestShutdownTimeout cuts a request that does not end.
func TestShutdownTimeout(t *testing.T) {
	asked := make(chan struct{})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(asked)
		<-r.Context().Done()
	})}
	served := make(chan struct{})
	go func() { defer close(served); _ = server.Serve(listener) }() // ends with Close
	t.Cleanup(func() { _ = server.Close(); <-served })
	dir := t.TempDir()
	text := strings.Replace(addresses, "[listen.admin]", "shutdown_timeout = \"100ms\"\n[listen.admin]", 1)
	r := inProcess(t, writeConfig(t, dir, text+siteText("http://"+listener.Addr().String())))
	failed := make(chan error)
	go func() {
		a, err := tryAsk("GET", r.data+"/slow", "", "Host", "shop.example")
		if err == nil && a.code < 500 {
			err = fmt.Errorf("status %d", a.code)
		} else {
			err = nil
		}
		failed <- err
	}()
	<-asked
	r.signal(stop)
	if err := <-failed; err != nil {
		t.Error(err)
	}
	r.log.wait(t, 1, "msg=stopped")
}

// TestSecondSignal ends a process whose shutdown would take long.
func TestSecondSignal(t *testing.T) {
	dir := t.TempDir()
	file := writeConfig(t, dir, strings.Replace(addresses, "[listen.admin]", "drain_delay = \"10m\"\n[listen.admin]", 1))
	r := asProcess(t, dir, nil, "--config", file)
	r.learnAddresses()
	r.put("a", "kept")
	r.signal(stop)
	r.log.wait(t, 1, `msg="shutting down"`)
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for ended := false; !ended; {
		select {
		case <-r.done:
			ended = true
		case <-again.C:
			r.signal(stop)
		}
	}
	if code := r.end(); code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	r.log.wait(t, 1, "second signal")
	writeConfig(t, dir, addresses)
	if a := ask(t, "GET", inProcess(t, file).data+"/v1/items/a", "").want(t, 200); a.body != "kept" {
		t.Errorf("after the restart: %q", a.body)
	}
}

// TestCannotStart: what stands in the way is named, soon and with the way out.
func TestCannotStart(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	holder := inProcess(t, writeConfig(t, t.TempDir(), addresses))
	holderDir := attribute(holder.log.wait(t, 1, "msg=starting"), "data_dir")
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	f := func(name string, code int, text string, says ...string) {
		t.Helper()
		dir := t.TempDir()
		begin := time.Now()
		r := asProcess(t, dir, nil, "--config", writeConfig(t, dir, text))
		if got := r.end(); got != code {
			t.Errorf("%s: exit code %d, want %d:\n%s", name, got, code, r.log)
		}
		if took := time.Since(begin); took > time.Minute { // 1 s on an idle machine
			t.Errorf("%s: it took %v", name, took)
		}
		if log := r.log.String(); !hasAll(log, says) {
			t.Errorf("%s: the message lacks one of %q:\n%s", name, says, log)
		}
	}
	inUse := strings.Replace(addresses, "127.0.0.1:0", taken.Addr().String(), 1)
	f("port in use", 1, inUse, taken.Addr().String(), "in use")
	f("unknown key", 3, "no_such_key = 1\n"+addresses, "edgenode.toml:2:", "no_such_key")
	f("two faults", 3, "durability = \"often\"\nl1_max_bytes = \"5MiB\"\n"+addresses, "edgenode.toml:2:", "edgenode.toml:3:")

	locked := func(name string, says ...string) {
		t.Helper()
		dir := t.TempDir()
		r := asProcess(t, dir, []string{"EDGENODE_DATA_DIR=" + name, "EDGENODE_LISTEN_DATA_ADDRESS=127.0.0.1:0", "EDGENODE_LISTEN_ADMIN_ADDRESS=127.0.0.1:0"})
		if got := r.end(); got != 1 {
			t.Errorf("%s: exit code %d, want 1", name, got)
		}
		if log := r.log.String(); !hasAll(log, says) {
			t.Errorf("%s: the message lacks one of %q:\n%s", name, says, log)
		}
	}
	locked(holderDir, holderDir, fmt.Sprint("pid ", os.Getpid()), "data_dir")
	locked(filepath.Join(file, "below"), "data_dir", "not a directory")
}

// TestInflight refuses a body that does not fit beside those under way.
func TestInflight(t *testing.T) {
	dir := t.TempDir()
	r := inProcess(t, writeConfig(t, dir, "max_payload_bytes = \"1MiB\"\ninflight_max_bytes = \"1MiB\"\n"+addresses))
	c, err := net.Dial("tcp", strings.TrimPrefix(r.data, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "PUT /v1/items/slow HTTP/1.1\r\nHost: localhost\r\nContent-Length: 700000\r\n\r\nbegin")
	deadline := time.Now().Add(patience)
	for !strings.Contains(ask(t, "GET", r.admin+"/metrics", "").body, "edgenode_inflight_bytes 700000\n") {
		if time.Now().After(deadline) {
			t.Fatal("the body is not counted")
		}
	}
	refused := ask(t, "PUT", r.data+"/v1/items/b", strings.Repeat("x", 500_000), "Expect", "100-continue").want(t, 503)
	if refused.header.Get("Retry-After") == "" || !strings.Contains(refused.body, "inflight_max_bytes") {
		t.Errorf("the refusal: %v %s", refused.header, refused.body)
	}
	r.put("b", strings.Repeat("x", 100_000))

	// A chunked body counts as it comes.
	chunked := func(size int) int {
		t.Helper()
		// Not a strings.Reader, whose length the client would announce.
		req, err := http.NewRequest("PUT", r.data+"/v1/items/c", io.MultiReader(strings.NewReader(strings.Repeat("x", size))))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	if got := chunked(100_000); got != 201 && got != 204 {
		t.Errorf("a small chunked body: %d", got)
	}
	if got := chunked(400_000); got != 503 {
		t.Errorf("a large chunked body: %d, want 503", got)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	for !strings.Contains(ask(t, "GET", r.admin+"/metrics", "").body, "edgenode_inflight_bytes 0\n") {
		if time.Now().After(deadline) {
			t.Fatal("the body is not given back")
		}
	}
}

// TestNotify tells a service manager.
func TestNotify(t *testing.T) {
	dir := t.TempDir()
	socket := filepath.Join(dir, "notify")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	r := asProcess(t, dir, []string{"NOTIFY_SOCKET=" + socket}, "--config", writeConfig(t, dir, addresses))
	buf := make([]byte, 256)
	next := func(want string) {
		t.Helper()
		n, err := c.Read(buf)
		if err != nil || string(buf[:n]) != want {
			t.Fatalf("notified %q, %v; want %q", buf[:n], err, want)
		}
	}
	next("READY=1")
	r.signal(syscall.SIGHUP)
	next("RELOADING=1")
	next("READY=1")
	r.signal(stop)
	next("STOPPING=1")
	if code := r.end(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}
