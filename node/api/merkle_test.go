package api_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/edgenode/edgenode/node/api"
	"github.com/edgenode/edgenode/tiers"
	"github.com/edgenode/edgenode/tiers/item"
)

// treeHarness is the API over a real engine with some items in its tree.
func treeHarness(t *testing.T, tokens ...api.Token) *harness {
	t.Helper()
	e, err := tiers.Open(t.Context(), tiers.Options{
		DataDir: t.TempDir(), Logger: slog.New(slog.DiscardHandler), MerkleCalc: true, FollowInterval: 5 * time.Millisecond, MerkleJitter: time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close(t.Context()) })
	h := newHarness(t, func(o *api.Options) { o.Engine, o.Merkle, o.Now, o.Tokens = e, e, nil, tokens })
	for _, id := range []string{"uk/1", "uk/2", "de/1", "top"} {
		if _, err := e.Submit(t.Context(), &tiers.Write{Key: item.AppendKey(nil, item.NamespaceItem, id), Content: []byte(id)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := e.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for n, exact := 1, false; n > 0 || !exact; {
		<-tick.C
		if n, exact, err = e.MerkleDirty(t.Context(), "", 100); err != nil {
			n = 1
		}
	}
	return h
}

func TestMerkle(t *testing.T) {
	h := treeHarness(t)
	object := func(line, body string) (m map[string]any) {
		t.Helper()
		if err := json.Unmarshal(h.want(200, "", line, body).out.Bytes(), &m); err != nil {
			t.Fatal(err)
		}
		return m
	}
	root := object("GET /v1/merkle/root", "")
	l3 := root["l3"].(map[string]any)
	if l3["state"] != "hash" || len(l3["hash"].(string)) != 64 || l3["items"] != 4.0 || l3["children"] != 3.0 || root["tombstone_retention_ms"] != 86400000.0 {
		t.Errorf("root %v", root)
	}
	if n := object("GET /v1/merkle/nodes", ""); n["hash"] != l3["hash"] || len(n["list"].([]any)) != 3 {
		t.Errorf("nodes %v", n)
	}
	if n := object("GET /v1/merkle/nodes?path=uk/", ""); n["items"] != 2.0 || len(n["list"].([]any)) != 2 || n["next"] != nil {
		t.Errorf("nodes of a branch %v", n)
	}
	if n := object("GET /v1/merkle/nodes?path=fr/", ""); n["state"] != "absent" {
		t.Errorf("a branch without items %v", n)
	}
	seen := map[string]bool{}
	for query := "?limit=1"; query != ""; {
		n := object("GET /v1/merkle/nodes"+query, "")
		for _, c := range n["list"].([]any) {
			seen[c.(map[string]any)["segment"].(string)] = true
		}
		query = ""
		if next, ok := n["next"].(string); ok {
			query = "?limit=1&after=" + next
		}
	}
	if fmt.Sprint(seen) != "map[de/:true top:true uk/:true]" {
		t.Errorf("pages show %v", seen)
	}
	if d := object("GET /v1/merkle/dirty?path=uk/", ""); d["items"] != 0.0 || d["exact"] != true {
		t.Errorf("dirty %v", d)
	}
	if d := object("GET /v1/merkle/dirty?branches=1", ""); len(d["branches"].([]any)) != 0 || d["exact"] != true {
		t.Errorf("dirty branches %v", d)
	}
	h.want(400, "bad-parameter", "GET /v1/merkle/dirty?branches=1&path=uk/", "")
	key := func(keys ...string) string {
		list := make([][]byte, len(keys))
		for i, k := range keys {
			list[i] = []byte(k)
		}
		b, _ := json.Marshal(map[string]any{"keys": list}) // cannot fail
		return string(b)
	}
	rows := object("POST /v1/merkle/diff", key("\x00", "none/\x00"))["rows"].([]any)
	if raw, err := base64.StdEncoding.DecodeString(rows[0].(string)); err != nil || raw[0] != 1 || rows[1] != nil {
		t.Errorf("rows %v, %v", rows, err)
	}
	h.want(400, "invalid-write", "POST /v1/merkle/diff", key(""))
	h.want(400, "invalid-write", "POST /v1/merkle/diff", key("uk\x00"))
	h.want(400, "bad-body", "POST /v1/merkle/diff", key())
	h.want(400, "bad-body", "POST /v1/merkle/diff", `{"keys":["?"]}`)
	h.want(400, "bad-body", "POST /v1/merkle/diff", key(strings.Split(strings.Repeat("a/\x00,", 256)+"a/\x00", ",")...))
	h.want(400, "bad-parameter", "GET /v1/merkle/nodes?path=uk", "")
	h.want(400, "bad-cursor", "GET /v1/merkle/nodes?after=*", "")
	h.want(405, "method-not-allowed", "POST /v1/merkle/root", "")
	got := lines(t, h.want(200, "", "POST /v1/merkle/audit", ""))
	if last := got[len(got)-1]; last["end"] != true || last["good"] != true || last["items"] != 4.0 {
		t.Errorf("audit %v", got)
	}

	record := h.want(200, "", "GET /v1/merkle/record?id=uk/1", "").out.String()
	h.want(409, "superseded", "PUT /v1/merkle/record?id=uk/1", record)
	h.want(400, "bad-body", "PUT /v1/merkle/record?id=uk/2", record)
	h.want(400, "bad-body", "PUT /v1/merkle/record?id=uk/1", record[:len(record)-1])
	h.want(404, "not-found", "GET /v1/merkle/record?id=uk/9", "")
	got = lines(t, h.want(200, "", "POST /v1/merkle/records", `{"ids":["uk/1","none","de/1"]}`))
	records := map[string]any{}
	for _, l := range got[:len(got)-1] {
		records[l["id"].(string)] = l["record"]
	}
	if len(got) != 4 || got[3]["end"] != true || records["none"] != nil || records["uk/1"] != base64.StdEncoding.EncodeToString([]byte(record)) || records["de/1"] == nil {
		t.Errorf("records %v", got)
	}
	h.want(400, "bad-body", "POST /v1/merkle/records", `{"ids":[]}`)
	h.want(400, "bad-id", "POST /v1/merkle/records", `{"ids":[""]}`)
	other := treeHarness(t)
	other.want(409, "superseded", "PUT /v1/merkle/record?id=uk/1", record) // its own is newer
	h.want(200, "", "POST /v1/merkle/rebuild", "")
	h.want(405, "method-not-allowed", "GET /v1/merkle/rebuild", "")
}

// TestMerkleOfANamespace: a token sees its namespace as if there were nothing else.
func TestMerkleOfANamespace(t *testing.T) {
	uk := token("uk", api.ScopeRead)
	uk.Namespace = "uk/"
	h := treeHarness(t, uk, token("writer", api.ScopeWrite))
	auth := "Authorization: Bearer uk"
	x := h.want(200, "", "GET /v1/merkle/root", "", auth)
	if got := x.out.String(); !strings.Contains(got, `"path":"uk/"`) || !strings.Contains(got, `"items":2`) {
		t.Errorf("root %s", got)
	}
	h.want(200, "", "GET /v1/merkle/nodes?path=uk/", "", auth)
	h.want(400, "bad-parameter", "GET /v1/merkle/dirty?branches=1", "", auth)
	h.want(403, "outside-namespace", "GET /v1/merkle/nodes?path=de/", "", auth)
	h.want(403, "outside-namespace", "GET /v1/merkle/nodes?path=", "", auth)
	h.want(403, "outside-namespace", "GET /v1/merkle/record?id=de/1", "", auth)
	h.want(403, "scope-missing", "PUT /v1/merkle/record?id=uk/1", "x", auth)
	h.want(200, "", "POST /v1/merkle/records", `{"ids":["uk/1"]}`, auth)
	h.want(403, "outside-namespace", "POST /v1/merkle/records", `{"ids":["uk/1","de/1"]}`, auth)
	h.want(403, "scope-missing", "POST /v1/merkle/records", `{"ids":["uk/1"]}`, "Authorization: Bearer writer")
	h.want(403, "scope-missing", "POST /v1/merkle/audit", "", auth)
	h.want(403, "scope-missing", "POST /v1/merkle/rebuild", "", auth)
	h.want(403, "scope-missing", "GET /v1/merkle/root", "", "Authorization: Bearer writer")
	body := func(key string) string { return `{"keys":["` + base64.StdEncoding.EncodeToString([]byte(key)) + `"]}` }
	h.want(200, "", "POST /v1/merkle/diff", body("uk/\x00"), auth)
	h.want(400, "invalid-write", "POST /v1/merkle/diff", body("de/\x00"), auth)
	h.want(400, "invalid-write", "POST /v1/merkle/diff", body("\x00"), auth)
}

// TestChangesAsRecords: a replica is given whole records, deletes too, of the
// prefixes that it names, and as of when it has everything.
func TestChangesAsRecords(t *testing.T) {
	uk := token("uk", api.ScopeRead)
	uk.Namespace = "uk/"
	all := token("all", api.ScopeRead|api.ScopeWrite|api.ScopePurge)
	h := treeHarness(t, uk, all)
	auth := "Authorization: Bearer all"
	h.want(204, "", "DELETE /v1/items/uk/2", "", auth, "Edge-Durability: l3")
	h.want(200, "", "POST /v1/purge", `{"tag":"t"}`, auth)
	records := func(query, auth string) (ids []string, last map[string]any) {
		t.Helper()
		got := lines(t, h.want(200, "", "GET /v1/changes?form=record&since=0"+query, "", auth))
		for _, l := range got[:len(got)-1] {
			what := fmt.Sprint(l["op"], " ", l["id"])
			if text, ok := l["record"].(string); ok {
				raw, err := base64.StdEncoding.DecodeString(text)
				v, err2 := item.Parse(raw)
				if err != nil || err2 != nil || v.Key().ID() != l["id"] || v.Version().String() != l["version"] {
					t.Errorf("record of %v: %v, %v", l, err, err2)
				}
				what += fmt.Sprint(" ", v.Kind(), " ", string(v.Content()))
			}
			if text, ok := l["rule"].(string); ok {
				raw, _ := base64.StdEncoding.DecodeString(text) // parsed next
				r, err := item.ParseRule(raw)
				what = fmt.Sprint(l["op"], " ", r.Values, " ", err)
			}
			ids = append(ids, what)
		}
		return ids, got[len(got)-1]
	}
	name := func(s ...string) string { return fmt.Sprintf("%q", s) }
	got, end := records("", auth)
	put, grave := fmt.Sprint(item.KindPut), fmt.Sprint(item.KindTombstone)
	want := name("put uk/1 "+put+" uk/1", "put uk/2", "put de/1 "+put+" de/1", "put top "+put+" top", "delete uk/2 "+grave+" ", "purge [t] <nil>")
	if fmt.Sprintf("%q", got) != want {
		t.Errorf("%q, want %s", got, want)
	}
	if end["seq"] != end["last"] || len(end["store"].(string)) != 36 || end["at_ms"] == nil {
		t.Errorf("end %v", end)
	}
	if got, _ = records("&prefix=de/&prefix=to", auth); fmt.Sprintf("%q", got) != name("put de/1 "+put+" de/1", "put top "+put+" top", "purge [t] <nil>") {
		t.Errorf("two prefixes: %q", got)
	}
	if got, _ = records("&prefix=de/&prefix=uk/1", "Authorization: Bearer uk"); fmt.Sprintf("%q", got) != name("put uk/1 "+put+" uk/1", "purge [t] <nil>") {
		t.Errorf("a token of a namespace: %q", got)
	}
	h.want(400, "bad-parameter", "GET /v1/changes?form=other", "", auth)
	h.want(400, "bad-parameter", "GET /v1/changes?form=record", "", auth, "Accept: text/event-stream")
	h.want(400, "repeated-parameter", "GET /v1/changes?since=1&since=2", "", auth)
	h.want(400, "bad-parameter", "GET /v1/changes?since=1"+strings.Repeat("&prefix=a", 65), "", auth)
}

// A dirtyTree has changes in it that are not in the tree yet.
type dirtyTree struct{ *tiers.Engine }

func (dirtyTree) MerkleDirtyBranches(context.Context, int) (map[string]int, bool, error) {
	return map[string]int{"uk/": 3, "de.": 1, "top": 2}, false, nil
}

// What is not in the tree yet is counted by first segment, in their order.
func TestMerkleDirtyBranches(t *testing.T) {
	e, err := tiers.Open(t.Context(), tiers.Options{DataDir: t.TempDir(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close(t.Context()) })
	h := newHarness(t, func(o *api.Options) { o.Engine, o.Merkle, o.Now = e, dirtyTree{e}, nil })
	want := `{"branches":[{"segment":"de.","items":1},{"segment":"top","items":2},{"segment":"uk/","items":3}],"exact":false}`
	if got := strings.TrimSpace(h.want(200, "", "GET /v1/merkle/dirty?branches=1", "").out.String()); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
