package node_test

import (
	"fmt"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// A site in segments and items of a prefix are within what they may take, and a
// reload changes that for what is there.
func TestNamespaces_Node(t *testing.T) {
	body := wireBody(3 << 20)
	origin := rawOrigin(t, func(*http.Request) string {
		return fmt.Sprintf("HTTP/1.1 200 OK\r\nCache-Control: max-age=600\r\nETag: \"v1\"\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	})
	const bounds = "l1_max_bytes = \"2MiB\"\n"
	text := addresses + strings.Replace(siteText(origin), "[[site]]", "[[site]]\n"+bounds, 1) +
		"[[namespace]]\nprefix = \"uk/\"\n" + bounds + "[[namespace]]\nprefix = \"uk/news/\"\nweight = 3.0\n"
	file := writeConfig(t, t.TempDir(), text)
	r := inProcess(t, file)
	used := func(name string, least, most int) {
		t.Helper()
		page := ask(t, "GET", r.admin+"/metrics", "").want(t, 200).body
		m := regexp.MustCompile(`edgenode_l1_namespace_used_bytes\{namespace="` + name + `"\} (\d+)`).FindStringSubmatch(page)
		if m == nil {
			t.Fatalf("/metrics has no namespace %s", name)
		}
		if n, err := strconv.Atoi(m[1]); err != nil || n < least || n > most {
			t.Errorf("%s has %s bytes, want %d to %d", name, m[1], least, most)
		}
	}
	if got := ask(t, "GET", r.data+"/big", "", "Host", "shop.example").want(t, 200); got.body != body {
		t.Fatalf("%d bytes of %d", len(got.body), len(body))
	}
	content := strings.Repeat("x", 10_000)
	for i := range 300 {
		r.put(fmt.Sprintf("uk/%d", i), content).want(t, 201)
	}
	for i := range 10 {
		r.put(fmt.Sprintf("uk/news/%d", i), content).want(t, 201)
	}
	for i := range 310 { // from below memory
		ask(t, "GET", r.data+fmt.Sprintf("/v1/items/uk/%d", i), "")
		ask(t, "GET", r.data+fmt.Sprintf("/v1/items/uk/news/%d", i%10), "").want(t, 200)
	}
	used("site:shop", 1<<20, 2<<20)
	used("items:uk/", 1<<20, 2<<20)
	used("items:uk/news/", 100_000, 200_000)
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(text, "2MiB", "1MiB")), 0o600); err != nil {
		t.Fatal(err)
	}
	ask(t, "POST", r.admin+"/reload", "", "Content-Type", "application/json").want(t, 200)
	used("site:shop", 500_000, 1<<20)
	used("items:uk/", 900_000, 1<<20)
}
