package api_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/edgenode/edgenode/node/api"
	"github.com/edgenode/edgenode/tiers"
	"github.com/edgenode/edgenode/tiers/item"
)

type pageOf struct {
	Items []map[string]any
	Next  string
}

func (h *harness) page(target string) pageOf {
	h.Helper()
	x := h.want(200, "", "GET "+target, "")
	var p pageOf
	if err := json.Unmarshal(x.out.Bytes(), &p); err != nil {
		h.Fatalf("%v in %s", err, x.out.String())
	}
	return p
}

func (p pageOf) ids() string {
	var ids []string
	for _, it := range p.Items {
		ids = append(ids, it["id"].(string))
	}
	return strings.Join(ids, " ")
}

func fill(h *harness) {
	h.Helper()
	for i, id := range []string{"de/1", "uk/1", "uk/2", "uk/3"} {
		h.want(201, "", "PUT /v1/items/"+id, fmt.Sprintf(`{"n":%d}`, i), "Edge-Tags: t"+id[3:], "Edge-State: "+id[:2], "Edge-TTL: 60")
	}
}

func TestList(t *testing.T) {
	h := newHarness(t)
	fill(h)
	f := func(query, ids string) {
		t.Helper()
		if got := h.page("/v1/items" + query).ids(); got != ids {
			t.Errorf("%s: %q, want %q", query, got, ids)
		}
	}
	f("", "de/1 uk/1 uk/2 uk/3")
	f("?prefix=uk/", "uk/1 uk/2 uk/3")
	f("?prefix=uk%2F", "uk/1 uk/2 uk/3")
	f("?state=de", "de/1")
	f("?tag=t1", "de/1 uk/1")
	f("?tag=t1&prefix=uk", "uk/1")
	f("?prefix=none", "")
	f("?prefix=a+b", "")

	p := h.page("/v1/items?prefix=uk/&limit=2&content=1")
	if p.ids() != "uk/1 uk/2" || p.Next == "" {
		t.Errorf("first page %q, next %q", p.ids(), p.Next)
	}
	it := p.Items[0]
	for name, want := range map[string]any{
		"state": "uk", "size": 7.0, "type": "json", "mime": "application/octet-stream", "expires_at_ms": testTime + 60_000.0, "updated_at_ms": float64(testTime),
		"version": h.versionOf("uk/1"),
	} {
		if it[name] != want {
			t.Errorf("%s is %v, want %v", name, it[name], want)
		}
	}
	if fmt.Sprint(it["content"]) != "map[n:1]" || fmt.Sprint(it["tags"]) != "[t1]" {
		t.Errorf("content %v, tags %v", it["content"], it["tags"])
	}
	f("?prefix=uk/&limit=2&cursor="+strings.ReplaceAll(p.Next, " ", "%20"), "uk/3")

	h.want(400, "bad-cursor", "GET /v1/items?cursor=x", "")
	h.want(400, "bad-parameter", "GET /v1/items?limit=0", "")
	h.want(400, "bad-parameter", "GET /v1/items?limit=1001", "")
	h.want(400, "bad-parameter", "GET /v1/items?content=maybe", "")
	h.want(400, "bad-state", "GET /v1/items?state=", "")
	h.want(400, "bad-tag", "GET /v1/items?tag=a%20b", "")
	h.want(400, "bad-parameter", "GET /v1/items?prefix=%00", "")
	h.want(400, "bad-parameter", "GET /v1/items?prefix=%FF", "")
	h.want(400, "bad-id", "GET /v1/items?prefix="+strings.Repeat("x", 1025), "")
	h.want(400, "unknown-parameter", "GET /v1/items?perfix=a", "")
	h.want(400, "repeated-parameter", "GET /v1/items?tag=a&%74ag=b", "")
}

func TestListAsLines(t *testing.T) {
	h := newHarness(t)
	fill(h)
	f := func(accept string, asLines bool) {
		t.Helper()
		x := h.want(200, "", "GET /v1/items?limit=2", "", "Accept: "+accept)
		want := "application/json"
		if asLines {
			want = "application/x-ndjson"
		}
		h.has(x, "Content-Type", want)
		if got := lines(t, x); asLines && (len(got) != 3 || got[2]["end"] != true || got[2]["count"] != 2.0 || got[2]["next"] != "after uk/1") {
			t.Errorf("%v", got)
		}
	}
	f("application/x-ndjson", true)
	f("*/*", false)
	f("application/json, application/x-ndjson", false)
	f("application/json;q=0.5, application/x-ndjson;q=0.6", true)
	f("application/x-ndjson;q=0", false)
	f("Application/X-NDJSON; charset=utf-8", true)
}

// TestLongList goes over what is gathered before it streams.
func TestLongList(t *testing.T) {
	h := newHarness(t)
	for i := range 300 {
		h.want(201, "", fmt.Sprintf("PUT /v1/items/%03d", i), strings.Repeat("x", 500))
	}
	x := h.want(200, "", "GET /v1/items?limit=300&content=1", "")
	if x.sized != -1 {
		t.Error("a long list was gathered whole")
	}
	var p pageOf
	if err := json.Unmarshal(x.out.Bytes(), &p); err != nil || len(p.Items) != 300 || p.Next != "" {
		t.Fatalf("%v, %d items, next %q", err, len(p.Items), p.Next)
	}
	if head := h.want(200, "", "HEAD /v1/items?limit=300&content=1", ""); head.out.Len() != 0 || head.sized != int64(x.out.Len()) {
		t.Errorf("HEAD: %d bytes, announces %d, want %d", head.out.Len(), head.sized, x.out.Len())
	}

	h.perList = 2 // L3 goes away before anything was sent
	h.want(503, "unavailable", "GET /v1/items?content=1", "")
	h.perList = 250 // and after
	if x := h.do("GET /v1/items?limit=300&content=1", ""); !x.aborted {
		t.Error("a part passed for the whole")
	}
}

func TestCount(t *testing.T) {
	h := newHarness(t)
	fill(h)
	if got := h.want(200, "", "GET /v1/items:count?prefix=uk/", "").out.String(); got != `{"count":3,"exact":true}`+"\n" {
		t.Errorf("got %s", got)
	}
	h.want(400, "unknown-parameter", "GET /v1/items:count?limit=1", "")
}

func TestDeleteMatching(t *testing.T) {
	var log strings.Builder
	h := newHarness(t, func(o *api.Options) { o.Log = slog.New(slog.NewTextHandler(&log, nil)) })
	fill(h)
	h.want(400, "bad-selector", "DELETE /v1/items", "")
	h.want(400, "bad-selector", "DELETE /v1/items?prefix=", "")
	h.want(400, "bad-selector", "DELETE /v1/items?prefix=uk&all=true", "")
	h.want(400, "unknown-parameter", "DELETE /v1/items?prefix=uk&limit=1", "")
	if log.Len() != 0 || len(h.page("/v1/items").Items) != 4 {
		t.Fatal("a refused delete did something")
	}
	x := h.want(200, "", "DELETE /v1/items?prefix=uk/&tag=t1", "", "Edge-Durability: sync")
	if got := x.out.String(); !strings.Contains(got, `"l3":1,"complete":true,"persisted":"sync"`) {
		t.Errorf("got %s", got)
	}
	if got := h.page("/v1/items").ids(); got != "de/1 uk/2 uk/3" {
		t.Errorf("left %q", got)
	}
	if !strings.Contains(log.String(), "audit: bulk delete") {
		t.Error("no audit record")
	}
	h.want(200, "", "DELETE /v1/items?all=true", "")
	if got := h.page("/v1/items").ids(); got != "" {
		t.Errorf("left %q", got)
	}
}

func TestChange(t *testing.T) {
	h := newHarness(t)
	etag := h.want(201, "", "PUT /v1/items/a", "x", "Edge-Tags: old", "Edge-State: old", "Edge-TTL: 60").field("ETag")
	x := h.want(204, "", "POST /v1/items/a:state", `{"state":"new"}`)
	h.has(x, "Edge-Version", h.versionOf("a"))
	it := h.page("/v1/items").Items[0]
	if it["state"] != "new" || fmt.Sprint(it["tags"]) != "[old]" || it["expires_at_ms"] == nil {
		t.Errorf("a change of state changed more: %v", it)
	}
	h.want(204, "", "POST /v1/items/a:state", `{"tags":["b","a"],"ttl":"never"}`, "If-Match: "+etag, "Edge-Durability: journal")
	it = h.page("/v1/items").Items[0]
	if it["state"] != "new" || fmt.Sprint(it["tags"]) != "[a b]" || it["expires_at_ms"] != nil {
		t.Errorf("got %v", it)
	}
	if !slices.Contains(h.changes, item.DurabilityJournal) {
		t.Error("the durability was not asked")
	}
	h.want(204, "", "POST /v1/items/a:state", `{"tags":[],"state":"","ttl":60}`)
	h.want(404, "not-found", "POST /v1/items/b:state", `{"state":"new"}`)
	h.want(412, "precondition-failed", "POST /v1/items/a:state", `{"state":"new"}`, "Edge-If-Version: 1")
	h.want(400, "bad-body", "POST /v1/items/a:state", `{}`)
	h.want(400, "bad-body", "POST /v1/items/a:state", ``)
	h.want(400, "bad-body", "POST /v1/items/a:state", `{"stat":"x"}`)
	h.want(400, "bad-body", "POST /v1/items/a:state", `{"state":null}`)
	h.want(400, "bad-state", "POST /v1/items/a:state", `{"state":"NEW"}`)
	h.want(400, "bad-tag", "POST /v1/items/a:state", `{"tags":["a b"]}`)
	h.want(400, "bad-ttl", "POST /v1/items/a:state", `{"ttl":"l1=60"}`)
	h.want(400, "bad-ttl", "POST /v1/items/a:state", `{"ttl":0}`)
	h.want(413, "content-too-large", "POST /v1/items/a:state", strings.Repeat(" ", 600<<10))
}

func TestStatus(t *testing.T) {
	h := newHarness(t)
	h.want(201, "", "PUT /v1/items/a", "x")
	want := fmt.Sprintf(`{"id":"a","where":"synced","version":"%s","l1":true,"l2":false,"l3":true,"tombstone":false}`+"\n", h.versionOf("a"))
	if got := h.want(200, "", "GET /v1/items/a:status", "").out.String(); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got := h.want(200, "", "GET /v1/items/b:status", "").out.String(); !strings.Contains(got, `"where":"missing"`) {
		t.Errorf("got %s", got)
	}
	h.fail = tiers.ErrUnavailable
	h.want(503, "unavailable", "GET /v1/items/a:status", "")
}

// sites names predicates after what was asked.
type sites struct{}

func (sites) URL(u string) (item.Predicate, []string, error) {
	if !strings.HasPrefix(u, "http") {
		return 0, nil, errStrange
	}
	return item.MatchTag, []string{"u:" + u}, nil
}
func (sites) Host(h string) (item.Predicate, []string, error) {
	return item.MatchTag, []string{"h:" + h}, nil
}
func (sites) Prefix(p string) (item.Predicate, []string, error) {
	return item.MatchTagPrefix, []string{"u:" + p}, nil
}

func TestPurge(t *testing.T) {
	h := newHarness(t, func(o *api.Options) { o.Sites = sites{} })
	f := func(body string, want ...tiers.Purge) {
		t.Helper()
		h.purges = nil
		x := h.want(200, "", "POST /v1/purge", body)
		if fmt.Sprint(h.purges) != fmt.Sprint(want) {
			t.Errorf("%s: %+v, want %+v", body, h.purges, want)
		}
		if got := x.out.String(); !strings.Contains(got, `"complete":true,"persisted":"sync","nodes":{"applied":["edgenode"],"pending":[]}}`) {
			t.Errorf("got %s", got)
		}
	}
	both := item.InItems | item.InSites
	f(`{"id":"a"}`, tiers.Purge{Namespaces: item.InItems, Match: item.MatchKey, Values: []string{"a"}})
	f(`{"prefix":"uk/","soft":true}`, tiers.Purge{Soft: true, Namespaces: item.InItems, Match: item.MatchKeyPrefix, Values: []string{"uk/"}})
	f(`{"prefix":"http://a/"}`,
		tiers.Purge{Namespaces: item.InItems, Match: item.MatchKeyPrefix, Values: []string{"http://a/"}},
		tiers.Purge{Namespaces: item.InSites, Match: item.MatchTagPrefix, Values: []string{"u:http://a/"}})
	f(`{"url":"http://a/"}`, tiers.Purge{Namespaces: item.InSites, Match: item.MatchTag, Values: []string{"u:http://a/"}})
	f(`{"host":"a"}`, tiers.Purge{Namespaces: item.InSites, Match: item.MatchTag, Values: []string{"h:a"}})
	f(`{"tag":"t"}`, tiers.Purge{Namespaces: both, Match: item.MatchTag, Values: []string{"t"}})
	f(`{"tags":["t","u"],"soft":false}`, tiers.Purge{Namespaces: both, Match: item.MatchTag, Values: []string{"t", "u"}})
	f(`{"state":"s"}`, tiers.Purge{Namespaces: item.InItems, State: "s"})
	f(`{"all":true}`, tiers.Purge{Namespaces: both, Match: item.MatchAll})

	bad := func(problem, body string) {
		t.Helper()
		h.want(400, problem, "POST /v1/purge", body)
	}
	h.purges = nil
	bad("bad-selector", `{}`)
	bad("bad-selector", `{"soft":true}`)
	bad("bad-selector", `{"id":"a","tag":"t"}`)
	bad("bad-selector", `{"all":false}`)
	bad("bad-selector", `{"id":""}`)
	bad("bad-selector", `{"tags":[]}`)
	bad("bad-selector", `{"url":"/relative"}`)
	bad("bad-body", `{"all":"true"}`)
	bad("bad-body", `{"everything":true}`)
	bad("bad-body", `{"soft":1,"id":"a"}`)
	bad("bad-tag", `{"tag":"a b"}`)
	bad("bad-state", `{"state":"A"}`)
	bad("bad-id", `{"id":"\u0000"}`)
	h.want(400, "bad-parameter", "POST /v1/purge?wait=some", `{"id":"a"}`)
	if h.purges != nil {
		t.Errorf("a refused purge was done: %v", h.purges)
	}
	h.want(200, "", "POST /v1/purge?wait=all", `{"id":"a"}`)
}

func TestPurgeWithoutSites(t *testing.T) {
	h := newHarness(t)
	h.want(501, "not-configured", "POST /v1/purge", `{"url":"http://a/"}`)
	h.want(200, "", "POST /v1/purge", `{"prefix":"http://a/"}`) // ids may begin so
}
