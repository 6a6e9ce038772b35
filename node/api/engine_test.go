package api_test

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/edgenode/edgenode/node/api"
	"github.com/edgenode/edgenode/tiers"
)

// TestOnTheEngine takes the way of the documentation through the real engine:
// what the other tests hold of the store in a map holds of it too.
func TestOnTheEngine(t *testing.T) {
	e, err := tiers.Open(t.Context(), tiers.Options{DataDir: t.TempDir(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := e.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}()
	h := newHarness(t, func(o *api.Options) { o.Engine, o.Now = e, nil })
	x := h.do("PUT /v1/items/uk/shop:1", `{"a":1}`, "Content-Type: application/json", "Edge-TTL: 15m", "Edge-State: fresh",
		"Edge-Tags: shop, uk", "Content-Encoding: br")
	if x.code != 201 && x.code != 204 { // 201 only if it is known to be new
		t.Fatalf("PUT: %d %s", x.code, x.out.String())
	}
	etag, version := x.field("ETag"), x.field("Edge-Version")
	h.has(x, "Edge-Persisted", "sync")

	x = h.want(200, "", "GET /v1/items/uk/shop:1", "")
	h.has(x, "ETag", etag)
	h.has(x, "Edge-Version", version)
	h.has(x, "Edge-State", "fresh")
	h.has(x, "Content-Encoding", "br")
	if x.out.String() != `{"a":1}` || !strings.HasPrefix(x.field("Cache-Status"), "edgenode; hit; detail=") {
		t.Errorf("%q %q", x.out.String(), x.field("Cache-Status"))
	}
	h.want(200, "", "GET /v1/items/uk/shop:1?verify=1&min_version="+version, "")
	h.want(304, "", "GET /v1/items/uk/shop:1", "", "If-None-Match: "+etag)
	h.want(206, "", "GET /v1/items/uk/shop:1", "", "Range: bytes=0-1,3-4")
	h.want(503, "version-not-here", "GET /v1/items/uk/shop:1?min_version=18446744073709551615", "")

	h.want(412, "precondition-failed", "PUT /v1/items/uk/shop:1", "x", "If-None-Match: *")
	h.want(412, "precondition-failed", "PUT /v1/items/uk/absent", "x", "If-Match: *")
	h.want(412, "precondition-failed", "PUT /v1/items/uk/shop:1", "x", "If-Match: \"other\"")
	h.want(204, "", "PUT /v1/items/uk/shop:1", `{"a":2}`, "If-Match: "+etag, "Edge-If-Version: "+version, "Edge-Tags: shop")
	h.want(404, "not-found", "POST /v1/items/absent:state", `{"state":"sold"}`)
	h.want(204, "", "POST /v1/items/uk/shop:1:state", `{"state":"sold","tags":["uk"],"ttl":"1d"}`)
	if got := h.page("/v1/items?prefix=uk/&state=sold&tag=uk").ids(); got != "uk/shop:1" {
		t.Errorf("list shows %q", got)
	}
	if got := h.want(200, "", "GET /v1/items/uk/shop:1:status", "").out.String(); !strings.Contains(got, `"where":"`) {
		t.Errorf("status %s", got)
	}

	got := lines(t, h.do("POST /v1/items:put", `{"id":"uk/2","text":"b"}`+"\n"+`{"id":"de/1","content":1,"tags":["t"]}`+"\n"+`{"id":"uk/shop:1","content":1,"if_version":"1"}`))
	if len(got) != 4 || got[0]["problem"] != nil || got[1]["problem"] != nil || kind(got[2]) != "precondition-failed" {
		t.Errorf("%v", got)
	}
	got = lines(t, h.do("POST /v1/items:get", `{"id":"uk/2"}`+"\n"+`{"id":"absent"}`+"\n"+`{"id":"de/1"}`))
	if len(got) != 4 || got[0]["text"] != "b" || got[1]["status"] != 404.0 || got[2]["content"] != 1.0 {
		t.Errorf("%v", got)
	}
	p := h.page("/v1/items?limit=2")
	if p.ids() != "de/1 uk/2" || p.Next == "" {
		t.Fatalf("page %q, next %q", p.ids(), p.Next)
	}
	if rest := h.page("/v1/items?limit=2&cursor=" + p.Next); rest.ids() != "uk/shop:1" || rest.Next != "" {
		t.Errorf("page %q, next %q", rest.ids(), rest.Next)
	}
	h.want(400, "bad-cursor", "GET /v1/items?prefix=uk&cursor="+p.Next, "")
	h.want(400, "bad-cursor", "GET /v1/items?cursor=nonsense", "")

	h.want(200, "", "POST /v1/purge", `{"prefix":"uk/"}`)
	h.want(200, "", "GET /v1/items/uk/2", "") // a purge deletes nothing
	h.has(h.want(204, "", "DELETE /v1/items/uk/2", ""), "Edge-Existed", "true")
	h.want(404, "not-found", "GET /v1/items/uk/2", "")
	h.want(200, "", "DELETE /v1/items?tag=t", "")
	if got := h.want(200, "", "GET /v1/items:count", "").out.String(); !strings.HasPrefix(got, `{"count":1,`) {
		t.Errorf("count %s", got)
	}
	if got := lines(t, h.do("POST /v1/items:delete", `{"id":"uk/shop:1"}`)); got[0]["status"] != 204.0 {
		t.Errorf("%v", got)
	}
	h.want(404, "not-found", "GET /v1/items/de/1", "")
}
