package node_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
)

// TestM1_WarmBlocks: answers that share header lines are hits again after an orderly
// restart, with all their fields. Where the file of the lines is damaged they are
// fetched again.
func TestM1_WarmBlocks(t *testing.T) {
	var asked atomic.Int64
	origin := rawOrigin(t, func(r *http.Request) string {
		asked.Add(1)
		return fmt.Sprintf("HTTP/1.1 200 OK\r\nCache-Control: max-age=3600\r\nServer: a server with a long name\r\n"+
			"ETag: \"%s\"\r\nX-Content-Type-Options: nosniff\r\nContent-Length: 4\r\n\r\nbody", r.URL.Path)
	})
	dir := t.TempDir()
	file := writeConfig(t, dir, "l1_snapshot = true\n"+addresses+siteText(origin))
	kept := filepath.Join(dir, "data", "l1.blocks")
	const n = 60 // the last of them share lines
	run := func(restored, wantHits bool) {
		t.Helper()
		r := inProcess(t, file)
		if restored {
			r.log.wait(t, 1, "memory read from its snapshot")
		}
		for i := range n {
			a := ask(t, "GET", fmt.Sprint(r.data, "/", i), "", "Host", "shop.example")
			if a.code != 200 || a.header.Get("Server") != "a server with a long name" || a.header.Get("X-Content-Type-Options") != "nosniff" ||
				a.header.Get("ETag") != fmt.Sprintf(`"/%d"`, i) || a.body != "body" {
				t.Errorf("%d: %d %v %q", i, a.code, a.header, a.body)
			}
			if hit := strings.Contains(a.header.Get("Cache-Status"), ";hit"); wantHits && !hit {
				t.Errorf("%d: %s", i, a.header.Get("Cache-Status"))
			}
		}
		r.signal(stop)
		if code := r.end(); code != 0 {
			t.Fatalf("the node ended with %d", code)
		}
	}
	run(false, false)
	if b, err := os.ReadFile(kept); err != nil || !strings.Contains(string(b), "Server: a server with a long name") {
		t.Fatalf("the kept lines are %q, %v", b, err)
	}
	run(true, true)
	b, err := os.ReadFile(kept)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	if err := os.WriteFile(kept, b, 0o600); err != nil {
		t.Fatal(err)
	}
	before := asked.Load()
	run(true, false)
	if got := asked.Load() - before; got == 0 || got == n {
		t.Errorf("%d of %d were fetched again, want those that share lines", got, n)
	}
}
