package crash_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestRefusalsOfTheListener: what the listener itself refuses says which limit
// was passed, or what cannot be read, as every other problem does.
func TestRefusalsOfTheListener(t *testing.T) {
	p := start(t, t.TempDir(), "EDGENODE_MAX_PAYLOAD_BYTES=64KiB")
	f := func(request string, status int, problem string, limit int) {
		t.Helper()
		conn, err := net.Dial("tcp", strings.TrimPrefix(p.data, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(conn, request); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatalf("%.40q: %v", request, err)
		}
		defer resp.Body.Close()
		var got struct {
			Type, Title, Remedy string
			Limit               int
		}
		err = json.NewDecoder(resp.Body).Decode(&got)
		if err != nil || resp.StatusCode != status || got.Type != "urn:edgenode:problem:"+problem || got.Limit != limit || got.Remedy == "" {
			t.Errorf("%.40q = %d %+v %v, want %d %s with limit %d", request, resp.StatusCode, got, err, status, problem, limit)
		}
	}
	const host = "Host: localhost\r\n"
	long := strings.Repeat("a", 40_000)
	f("GET /v1/items/a HTTP/1.1\r\n"+host+"X-Long: "+long+"\r\n\r\n", 431, "header-too-large", 32<<10)
	f("GET /v1/items/"+long[:9000]+" HTTP/1.1\r\n"+host+"\r\n", 414, "target-too-long", 8<<10)
	f(fmt.Sprintf("PUT /v1/items/a HTTP/1.1\r\n%sContent-Length: %d\r\n\r\n", host, 64<<10+1), 413, "content-too-large", 64<<10)
	f("PUT /v1/items/a HTTP/1.1\r\n"+host+"Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400, "bad-request", 0)
	f("GET /v1/items/a HTTP/1.1\r\n\r\n", 400, "bad-request", 0)
}

// TestReloadListsFaults: a reload that is refused lists why, be it a line of the
// file or a module, and the node goes on as it was.
func TestReloadListsFaults(t *testing.T) {
	dir := t.TempDir()
	config := writeFile(t, dir, "edgenode.toml", "")
	writeFile(t, dir, "broken.wasm", "no module")
	p := start(t, filepath.Join(dir, "data"), "EDGENODE_CONFIG="+config)
	f := func(text, want string) {
		t.Helper()
		writeFile(t, dir, "edgenode.toml", text)
		a := p.must("POST", p.admin+"/reload", "", []int{422}, "Content-Type", "application/json")
		var got struct{ Faults []string }
		if err := json.Unmarshal([]byte(a.body), &got); err != nil || len(got.Faults) != 1 || !strings.Contains(got.Faults[0], want) {
			t.Errorf("reload of %q: %v %s, want a fault with %q", text, err, a.body, want)
		}
	}
	f("data_dirr = \"x\"\n", `did you mean "data_dir"?`)
	f("[[hook]]\nname = \"guard\"\nmodule = \"broken.wasm\"\nhooks = [\"route\"]\n", `load hook "guard"`)
	p.must("PUT", "/v1/items/a", "1", written)
}
