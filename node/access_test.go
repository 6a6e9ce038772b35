package node_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestAccessLog: each request is a line with the reason of its hit or miss, and
// SIGUSR1 opens the file anew.
func TestAccessLog(t *testing.T) {
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		io.WriteString(w, "12345")
	}))
	defer origin.Close()
	dir := t.TempDir()
	name := filepath.Join(dir, "access.log")
	n := inProcess(t, writeConfig(t, dir, addresses+`
[access_log]
path = "access.log"
[[pool]]
name = "o"
origins = ["`+origin.URL+`"]
[[site]]
name = "shop"
hosts = ["shop.example"]
pool = "o"
cache_status = "off"
deny = ["192.0.2.1"]
`))
	for range 2 {
		ask(t, "GET", n.data+"/a?b", "", "Host", "shop.example", "User-Agent", `say "x"`).want(t, 200)
	}
	ask(t, "POST", n.data+"/a", "x", "Host", "shop.example").want(t, 200)
	put := n.put("i", "content").code // 201 once the filter is trusted
	n.signal(syscall.SIGUSR1)
	n.log.wait(t, 1, "access log reopened")
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	if len(lines) != 4 {
		t.Fatalf("got %d lines:\n%s", len(lines), text)
	}
	f := func(line int, want map[string]any) {
		t.Helper()
		var got map[string]any
		if err := json.Unmarshal([]byte(lines[line]), &got); err != nil {
			t.Fatal(err)
		}
		if got["client"] != "127.0.0.1" || got["time"] == nil || got["ms"] == nil {
			t.Errorf("%s", lines[line])
		}
		for _, name := range []string{"client", "time", "ms", "scheme", "host", "ttl"} {
			delete(got, name)
		}
		if a, b := asJSON(t, got), asJSON(t, want); a != b {
			t.Errorf("got  %s\nwant %s", a, b)
		}
	}
	f(0, map[string]any{"method": "GET", "target": "/a?b", "status": 200, "bytes": 5, "site": "shop", "cache": "uri-miss", "origin_status": 200, "stored": true, "agent": `say "x"`})
	f(1, map[string]any{"method": "GET", "target": "/a?b", "status": 200, "bytes": 5, "site": "shop", "cache": "hit", "detail": "l1", "agent": `say "x"`})
	f(2, map[string]any{"method": "POST", "target": "/a", "status": 200, "bytes": 5, "site": "shop", "cache": "method", "origin_status": 200, "agent": "Go-http-client/1.1"})
	f(3, map[string]any{"method": "PUT", "target": "/v1/items/i", "status": put, "bytes": 0, "agent": "Go-http-client/1.1"})
}

func asJSON(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
