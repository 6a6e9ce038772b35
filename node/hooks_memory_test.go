package node_test

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/edgenode/edgenode/hooks/abi"
	"github.com/edgenode/edgenode/hooks/hooktest"
)

// A memoryHookNode is a node in front of an origin of large objects, whose memory
// is full.
type memoryHookNode struct {
	*testing.T
	r        *running
	dir      string
	base     string
	requests atomic.Int64 // at the origin
	next     int          // object that nobody asked for
}

func newMemoryHookNode(t *testing.T) *memoryHookNode {
	t.Helper()
	n := &memoryHookNode{T: t, dir: t.TempDir()}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	body := strings.Repeat("x", 128<<10)
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n.requests.Add(1)
		w.Header().Set("Cache-Control", "max-age=600")
		fmt.Fprint(w, r.URL.Path, body)
	})}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(listener) }() // ends with Close
	t.Cleanup(func() { _ = server.Close(); <-done })              // nobody is served any more
	n.base = "l1_max_bytes = \"16MiB\"\n" + addresses + siteText("http://"+listener.Addr().String())
	n.r = inProcess(t, writeConfig(t, n.dir, n.base))
	for n.metric("edgenode_l1_evictions_total") < 20 {
		n.fetch(20)
	}
	return n
}

// fetch asks for so many objects twice, and returns how often the origin was asked
// the second time.
func (n *memoryHookNode) fetch(count int) (again int64) {
	n.Helper()
	for i := range count {
		path := fmt.Sprintf("/%d", n.next+i)
		for range 2 {
			before := n.requests.Load()
			if a := ask(n.T, "GET", n.r.data+path, "", "Host", "shop.example").want(n.T, 200); !strings.HasPrefix(a.body, path+"x") {
				n.Fatalf("%s: %.20q", path, a.body)
			}
			again += n.requests.Load() - before
		}
	}
	n.next += count
	return again - int64(count)
}

func (n *memoryHookNode) metric(name string) int {
	n.Helper()
	m := regexp.MustCompile(`(?m)^` + name + ` (\d+)$`).FindStringSubmatch(ask(n.T, "GET", n.r.admin+"/metrics", "").want(n.T, 200).body)
	if m == nil {
		n.Fatalf("/metrics has no %s", name)
	}
	v, err := strconv.Atoi(m[1])
	if err != nil {
		n.Fatal(err)
	}
	return v
}

// reload puts hooks, TOML tables, in force.
func (n *memoryHookNode) reload(hooks string) {
	n.Helper()
	writeConfig(n.T, n.dir, n.base+hooks)
	a := ask(n.T, "POST", n.r.admin+"/reload", "", "Content-Type", "application/json").want(n.T, 200)
	if !strings.Contains(a.body, `"warnings": []`) {
		n.Errorf("the reload warns: %s", a.body)
	}
}

// asked fetches and returns how often the memory tier asked hooks.
func (n *memoryHookNode) asked() (calls, faults int, again int64) {
	n.Helper()
	calls, faults = n.metric("edgenode_l1_hook_calls_total"), n.metric("edgenode_l1_hook_faults_total")
	again = n.fetch(40)
	return n.metric("edgenode_l1_hook_calls_total") - calls, n.metric("edgenode_l1_hook_faults_total") - faults, again
}

// TestMemoryHooksComeAndGo: hooks about memory are asked from the reload on that brings
// the first of them, and no longer after the one that takes them away; a request
// never fails for what they say, and a module that fails changes nothing.
func TestMemoryHooksComeAndGo(t *testing.T) {
	n := newMemoryHookNode(t)
	f := func(what, hooks string, calls, faults func(int) bool, again func(int64) bool) {
		t.Helper()
		n.reload(hooks)
		c, fa, ag := n.asked()
		if !calls(c) || !faults(fa) || !again(ag) {
			t.Errorf("%s: asked %d times, %d without an answer; of 40 objects %d were not kept", what, c, fa, ag)
		}
	}
	none, some := func(v int) bool { return v == 0 }, func(v int) bool { return v > 0 }
	kept, refused := func(v int64) bool { return v <= 4 }, func(v int64) bool { return v >= 30 }
	gdsf, err := os.ReadFile(filepath.Join("..", "wasm-examples", "evict-gdsf", "evict-gdsf.wasm"))
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "gdsf.wasm")
	if err := os.WriteFile(name, gdsf, 0o600); err != nil {
		t.Fatal(err)
	}
	admit := func(m *hooktest.Module) string { return writeModule(t, n.dir, m, "admit", "") }
	says := func(value uint32) *hooktest.Module {
		return hooktest.WithOutput(abi.Admit, abi.MakeResult(abi.OK, 0, value), nil)
	}
	f("no hook", "", none, none, kept)
	f("no", admit(says(0)), some, none, refused)
	if v := n.metric("edgenode_l1_hook_refused_total"); v < 30 {
		t.Errorf("%d refused", v)
	}
	f("yes", admit(says(1)), some, none, kept)
	f("a trap", admit(hooktest.Guest(abi.Admit, hooktest.Code([]byte{0x00}))), some, some, kept)
	f("gone", "", none, none, kept)
	f("ranked", fmt.Sprintf("[[hook]]\nname = \"rank\"\nmodule = %q\nhooks = [\"evict\"]\n", name), some, none, func(int64) bool { return true })
	f("gone again", "", none, none, kept)
	// A rollback brings back what was asked before.
	ask(t, "POST", n.r.admin+"/hooks/rollback", "", "Content-Type", "application/json").want(t, 200)
	if calls, _, _ := n.asked(); calls == 0 {
		t.Error("not asked after the rollback")
	}
}

// TestPendingIsNotRefused: what was written and is nowhere else is in memory
// whatever an admit hook says.
func TestPendingIsNotRefused(t *testing.T) {
	n := newMemoryHookNode(t)
	n.reload(writeModule(t, n.dir, hooktest.WithOutput(abi.Admit, abi.MakeResult(abi.OK, 0, 0), nil), "admit", ""))
	for i := range 100 {
		url := fmt.Sprintf("%s/v1/items/%d", n.r.data, i)
		ask(t, "PUT", url, strings.Repeat("y", 20_000), "Edge-Durability", "journal").want(t, 201)
		if a := ask(t, "GET", url, "").want(t, 200); len(a.body) != 20_000 {
			t.Fatalf("%d: %d bytes", i, len(a.body))
		}
	}
}
