package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/goleak"
)

// TestMain lets the test binary be the program, for tests that need a process of
// its own.
func TestMain(m *testing.M) {
	if os.Getenv("TEST_MAIN_IS_EDGENODE") != "" {
		main()
	}
	goleak.VerifyTestMain(m)
}

// A result is what a command left behind.
type result struct {
	code     int
	out, err string
}

// command runs one command line with in as its standard input.
func command(in string, args ...string) result {
	var out, errs bytes.Buffer
	code := run(args, &process{in: strings.NewReader(in), out: &out, err: &errs, signals: make(chan os.Signal)})
	return result{code, out.String(), errs.String()}
}

// exits fails the test unless the command ended with code.
func (r result) exits(t testing.TB, code int) result {
	t.Helper()
	if r.code != code {
		t.Fatalf("exit code %d, want %d\n%s%s", r.code, code, r.out, r.err)
	}
	return r
}

// says fails the test unless every part stands in the output or the errors.
func (r result) says(t testing.TB, parts ...string) result {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(r.out+r.err, p) {
			t.Errorf("%q is missing in:\n%s%s", p, r.out, r.err)
		}
	}
	return r
}

// serve runs a node in this process, as main does, and returns its URL.
func serve(t testing.TB, config string) string {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "edgenode.toml")
	text := fmt.Sprintf("data_dir = %q\n%s\n[listen.data]\naddress = \"127.0.0.1:0\"\n[listen.admin]\naddress = \"127.0.0.1:0\"\n", filepath.Join(dir, "data"), config)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	signals := make(chan os.Signal, 1)
	log, stderr := io.Pipe()
	done := make(chan int, 1)
	go func() {
		done <- run([]string{"serve", "-c", file}, &process{in: strings.NewReader(""), out: io.Discard, err: stderr, signals: signals})
		stderr.Close()
	}()
	t.Cleanup(func() {
		signals <- syscall.SIGTERM
		if code := <-done; code != exitDone {
			t.Errorf("serve ended with exit code %d", code)
		}
	})
	address := make(chan string, 1)
	go func() { // ends with the pipe
		defer close(address)
		var text []byte
		buf := make([]byte, 4096)
		for told := false; ; {
			n, err := log.Read(buf)
			text = append(text, buf[:n]...)
			if _, rest, ok := strings.Cut(string(text), "msg=listening listener=data address="); ok && !told {
				if name, _, ok := strings.Cut(rest, "\n"); ok {
					address <- name
					told = true
				}
			}
			if err != nil {
				if !told {
					t.Errorf("the node did not start:\n%s", text)
				}
				return
			}
		}
	}()
	return "http://" + <-address
}

func TestItems(t *testing.T) {
	url := serve(t, "")
	cli := func(in string, args ...string) result {
		t.Helper()
		return command(in, append(args, "--url", url)...)
	}
	cli("hello\n", "put", "a/b", "--mime", "text/plain", "--ttl", "1h", "--tags", "x,y", "--state", "new").exits(t, exitDone).
		says(t, "stored a/b: version ", "persisted sync")
	if got := cli("", "get", "a/b").exits(t, exitDone); got.out != "hello\n" {
		t.Errorf("get: %q", got.out)
	}

	// Ids that look like paths and verbs come back as they went.
	for _, id := range []string{"..", "a//b/", "x:status", "50% & more?", "ü/✓"} {
		cli(id, "put", id).exits(t, exitDone)
		if got := cli("", "get", id).exits(t, exitDone); got.out != id {
			t.Errorf("get %q: %q", id, got.out)
		}
		cli("", "delete", id).exits(t, exitDone)
	}

	var info itemInfo
	decode(t, cli("", "get", "a/b", "--json").exits(t, exitDone).out, &info)
	if info.Text == nil || *info.Text != "hello\n" || info.MIME != "text/plain" || info.State != "new" || info.Version == "" {
		t.Errorf("get --json: %+v", info)
	}
	cli("", "get", "a/b", "--verify").exits(t, exitDone)
	cli("", "get", "a/b", "--min-version", "18446744073709551615").exits(t, exitUnavailable).says(t, "version-not-here")

	name := filepath.Join(t.TempDir(), "content")
	cli("", "get", "a/b", "-o", name).exits(t, exitDone)
	if b, err := os.ReadFile(name); err != nil || string(b) != "hello\n" {
		t.Errorf("get -o: %q, %v", b, err)
	}
	cli("", "put", "a/c", name).exits(t, exitDone)

	cli("", "put", "a/c", name, "--if-absent").exits(t, exitRefused).says(t, "412", "precondition-failed")
	decode(t, cli("", "get", "a/c", "--json").exits(t, exitDone).out, &info)
	cli("", "put", "a/c", name, "--if-match", info.ETag).exits(t, exitDone)
	cli("", "put", "a/c", name, "--if-match", strings.Repeat("0", 32)).exits(t, exitRefused)
	cli("", "put", "a/c", filepath.Join(t.TempDir(), "none")).exits(t, exitFailed)
	cli("x", "put", "a/d", "--ttl", "soon").exits(t, exitRefused).says(t, "bad-ttl", "15m")
	cli("x", "put", "a/d", "--tiers", "l2").exits(t, exitRefused).says(t, "invalid-write", "add l1 or l3")
	cli("x", "put", "a/d", "--durability", "often").exits(t, exitUsage)

	cli("", "status", "a/b").exits(t, exitDone).says(t, "in l1")
	cli("", "status", "none").exits(t, exitMissing)
	cli("", "get", "none").exits(t, exitMissing).says(t, "404 not-found")
	cli("", "delete", "a/c").exits(t, exitDone).says(t, "existed true")
	cli("", "get", "a/c").exits(t, exitMissing)
	cli("", "status", "a/c").exits(t, exitMissing)

	other := httptest.NewServer(http.NotFoundHandler()) // no edgenode: nothing is known of the item
	defer other.Close()
	command("", "get", "a/b", "--url", other.URL).exits(t, exitRefused)
}

func decode(t testing.TB, text string, into any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), into); err != nil {
		t.Fatalf("%v in %q", err, text)
	}
}

func TestListPages(t *testing.T) {
	url := serve(t, "")
	const items = 2*pageItems + 1
	var lines strings.Builder
	var want []string
	for i := range items {
		id := fmt.Sprintf("p/%05d", i)
		want = append(want, id)
		fmt.Fprintf(&lines, `{"id": %q, "text": "x", "tags": ["all"]}`+"\n", id)
	}
	resp, err := http.Post(url+"/v1/items:put", "application/x-ndjson", strings.NewReader(lines.String()))
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	http.DefaultClient.CloseIdleConnections()
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatal(resp.Status, err)
	}
	command("y", "put", "q/other", "--url", url).exits(t, exitDone)

	f := func(want []string, args ...string) {
		t.Helper()
		out := command("", append([]string{"list", "--url", url}, args...)...).exits(t, exitDone).out
		var got []string
		for line := range strings.Lines(out) {
			id, _, _ := strings.Cut(line, "\t")
			got = append(got, id)
		}
		if !slices.Equal(got, want) {
			t.Errorf("list %v: %d ids, want %d", args, len(got), len(want))
		}
	}
	f(want, "--prefix", "p/")
	f(want, "--tag", "all")
	f(want[:pageItems+5], "--limit", fmt.Sprint(pageItems+5))
	f(nil, "--state", "none")

	var one listed
	decode(t, command("", "list", "--url", url, "--prefix", "q/", "--json").exits(t, exitDone).out, &one)
	if one.ID != "q/other" || one.Size != 1 {
		t.Errorf("list --json: %+v", one)
	}
}

func TestPurge(t *testing.T) {
	url := serve(t, "")
	command("x", "put", "a", "--tags", "t", "--url", url).exits(t, exitDone)
	f := func(code int, args ...string) result {
		t.Helper()
		return command("", append([]string{"purge", "--url", url}, args...)...).exits(t, code)
	}
	f(exitDone, "--id", "a").says(t, "purged: version ", "nodes: edgenode")
	f(exitDone, "--tag", "t", "--tag", "u", "--soft")
	f(exitDone, "--prefix", "a", "--wait")
	f(exitDone, "--host", "shop.example")
	f(exitDone, "--for-url", "http://shop.example/x")
	f(exitDone, "--all")
	f(exitUsage)
	f(exitUsage, "--id", "a", "--all")
	f(exitUsage, "--id", "")
	f(exitRefused, "--for-url", "ftp://shop.example/x").says(t, "bad-selector")
	var done struct {
		Version string `json:"version"`
	}
	decode(t, f(exitDone, "--all", "--json").out, &done)
	if done.Version == "" {
		t.Error("purge --json has no version")
	}
	// What a purge removes is a copy: the item itself stays.
	command("", "get", "a", "--url", url).exits(t, exitDone)
}

func TestToken(t *testing.T) {
	url := serve(t, `
[[token]]
name = "ci"
sha256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
scopes = ["read"]
`)
	command("", "list", "--url", url).exits(t, exitRefused).says(t, "401 unauthorized")
	command("", "list", "--url", url, "--token", "test").exits(t, exitDone)
	t.Setenv("EDGENODE_URL", url)
	t.Setenv("EDGENODE_TOKEN", "test")
	command("", "list").exits(t, exitDone)
	command("x", "put", "a").exits(t, exitRefused).says(t, "403 scope-missing")
}

func TestUnreachable(t *testing.T) {
	command("", "get", "a", "--url", "http://127.0.0.1:1").exits(t, exitUnavailable).says(t, "http://127.0.0.1:1 does not answer", "--url")
	command("", "get", "a", "--url", "127.0.0.1:8080").exits(t, exitUsage).says(t, "scheme")
	command("", "hook", "list", "--admin", "http://127.0.0.1:1").exits(t, exitUnavailable).says(t, "--admin or EDGENODE_ADMIN")
	command("", "explain", "http://a/", "--admin", "http://127.0.0.1:1").exits(t, exitUnavailable).says(t, "--admin or EDGENODE_ADMIN")
}

func TestCheck(t *testing.T) {
	dir := t.TempDir()
	write := func(text string) string {
		name := filepath.Join(dir, "edgenode.toml")
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	command("", "check").exits(t, exitDone).says(t, `durability = "sync"`, "memory at most:", "sum", "the defaults: no faults")
	command("", "check", "-c", write(`durability = "journal"`)).exits(t, exitDone).says(t, `durability = "journal"  # default "sync"`)
	command("", "check", "-c", write("durability = \"often\"\n\nno_key = 1\n")).exits(t, exitConfig).
		says(t, "edgenode.toml:1: durability", "edgenode.toml:3: no_key")
	command("", "check", "-c", filepath.Join(dir, "none.toml")).exits(t, exitConfig).says(t, "none.toml")

	var r struct {
		OK        bool
		Faults    []struct{ Line int }
		Effective map[string]any
		Budget    struct {
			Total int64 `json:"total_bytes"`
		}
	}
	decode(t, command("", "check", "-c", write(`no_key = 1`), "--json").exits(t, exitConfig).out, &r)
	if r.OK || len(r.Faults) != 1 || r.Faults[0].Line != 1 {
		t.Errorf("check --json: %+v", r)
	}
	decode(t, command("", "check", "--json").exits(t, exitDone).out, &r)
	if !r.OK || r.Budget.Total == 0 || r.Effective["durability"] != "sync" {
		t.Errorf("check --json: %+v", r)
	}

	module, err := filepath.Abs("../../wasm-examples/route-header/route-header.wasm")
	if err != nil {
		t.Fatal(err)
	}
	hook := fmt.Sprintf("[[hook]]\nname = \"h\"\nmodule = %q\nhooks = [\"route\"]\n", module)
	command("", "check", "-c", write(hook+"on_fault = \"deny\"\n")).exits(t, exitDone).says(t, "h: route, sha256 ")
	command("", "check", "-c", write(hook)).exits(t, exitConfig).says(t, "hook[0].module", "on_fault")
}

func TestInspect(t *testing.T) {
	const module = "../../wasm-examples/ttl-by-type/ttl-by-type.wasm"
	command("", "hook", "inspect", module).exits(t, exitDone).says(t, "hooks          ttl", "content-type", "sha256")
	var info struct {
		Manifest struct {
			Hooks []string `json:"hooks"`
		} `json:"manifest"`
	}
	decode(t, command("", "hook", "inspect", module, "--json").exits(t, exitDone).out, &info)
	if !slices.Equal(info.Manifest.Hooks, []string{"ttl"}) {
		t.Errorf("hook inspect --json: %+v", info)
	}
	command("", "hook", "inspect", "run_test.go").exits(t, exitFailed).says(t, "run_test.go")
	command("", "hook", "inspect", "none.wasm").exits(t, exitUsage)
}

func TestUsage(t *testing.T) {
	command("", "--help").exits(t, exitDone).says(t, "Exit codes:", "purge")
	command("", "get", "--help").exits(t, exitDone).says(t, "--min-version")
	command("", "fly").exits(t, exitUsage).says(t, "fly")
	command("", "get").exits(t, exitUsage)
	command("", "version").exits(t, exitDone).says(t, "hook abi 1.0")
	var b build
	decode(t, command("", "version", "--json").exits(t, exitDone).out, &b)
	if b.Go == "" || b.HookABI == "" {
		t.Errorf("version --json: %+v", b)
	}
}

// TestCutList: a page without its end is an error, never the whole.
func TestCutList(t *testing.T) {
	listener := fakeNode(t, `{"id": "a", "size": 1}`+"\n")
	command("", "list", "--url", listener).exits(t, exitUnavailable).says(t, "cut off")
	listener = fakeNode(t, "<html>\n")
	command("", "list", "--url", listener).exits(t, exitUnavailable).says(t, "is it an edgenode?")
	command("", "status", "a", "--url", listener).exits(t, exitUnavailable).says(t, "is it an edgenode?")
}
