package node_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os/exec"
	"strings"
	"testing"
)

// TestExplain asks a running node over its admin listener, and by the command.
func TestExplain(t *testing.T) {
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		io.WriteString(w, "the secret content")
	}))
	defer origin.Close()
	n := inProcess(t, writeConfig(t, t.TempDir(), addresses+`
[[pool]]
name = "o"
origins = ["`+origin.URL+`"]
[[site]]
name = "shop"
hosts = ["shop.example"]
pool = "o"
`))
	ask(t, "GET", n.data+"/a?b", "", "Host", "shop.example").want(t, 200)
	n.put("x", "content", "Edge-Tags", "red")

	at := n.admin + "/explain?url=" + url.QueryEscape("http://shop.example/a?b")
	a := ask(t, "GET", at, "").want(t, 200)
	var e struct {
		Would   struct{ Do string }
		Objects []struct {
			Tier      string
			Freshness struct{ Lifetime float64 }
		}
	}
	if err := json.Unmarshal([]byte(a.body), &e); err != nil {
		t.Fatal(err)
	}
	if e.Would.Do != "serve" || len(e.Objects) != 1 || e.Objects[0].Tier != "l1" || e.Objects[0].Freshness.Lifetime != 60 || strings.Contains(a.body, "secret") {
		t.Errorf("%s", a.body)
	}
	if a := ask(t, "GET", at, "", "Accept", "text/plain").want(t, 200); !strings.Contains(a.body, "would:\n  do: serve\n") || !strings.Contains(a.body, "    lifetime source: Cache-Control max-age\n") {
		t.Errorf("%s", a.body)
	}
	if a := ask(t, "GET", n.admin+"/explain?id=x", "").want(t, 200); !strings.Contains(a.body, `"tags": [`) || strings.Contains(a.body, "content") {
		t.Errorf("%s", a.body)
	}
	post := func(body string, code int, part string) {
		t.Helper()
		if a := ask(t, "POST", n.admin+"/explain", body, "Content-Type", "application/json"); a.code != code || !strings.Contains(a.body, part) {
			t.Errorf("%s: %d %s", body, a.code, a.body)
		}
	}
	post(`{"url":"http://shop.example/a?b","method":"HEAD","headers":{"Accept":["a","b"],"X":"y"},"client":"192.0.2.1"}`, 200, `"do": "serve"`)
	post(`{"url":"http://shop.example/new"}`, 200, `"fwd": "uri-miss"`)
	post(`{"url":"nowhere.example"}`, 200, `"status": 421`)
	post(`{"url":""}`, 400, "bad-parameter")
	post(`{"url":"a","client":"b"}`, 400, "bad-body")
	post(`{"url":"a","headers":{"x":3}}`, 400, "bad-body")
	post(`[`, 400, "bad-body")
	ask(t, "GET", n.admin+"/explain", "").want(t, 400)
	ask(t, "GET", n.admin+"/explain?uri=x", "").want(t, 400)
	ask(t, "GET", n.admin+"/explain?id=x&url=y", "").want(t, 400)

	ask(t, "POST", n.data+"/v1/purge", `{"url":"http://shop.example/a?b","soft":true}`, "Content-Type", "application/json").want(t, 200)
	post(`{"url":"http://shop.example/a?b"}`, 200, `"soft purge `)
	ask(t, "GET", n.data+"/a?b", "", "Host", "shop.example").want(t, 200)

	out, err := exec.Command(binary, "explain", "--admin", n.admin, "-H", "Accept: a, b", "http://shop.example/a?b").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "do: serve") {
		t.Errorf("%v\n%s", err, out)
	}
	out, err = exec.Command(binary, "explain", "--admin", n.admin, "--json", "--id", "x").CombinedOutput()
	if err != nil || !json.Valid(out) {
		t.Errorf("%v\n%s", err, out)
	}
}
