package api_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/edgenode/edgenode/node/api"
	"github.com/edgenode/edgenode/node/edit"
	"github.com/edgenode/edgenode/tiers/item"
)

// policy is two functions; nil decides nothing.
type policy struct {
	route func(op api.Op, id string, size int64, d *api.Decision)
	ttl   func(id string, size int64, d *api.Decision)
}

func (p *policy) Route(_ api.Exchange, op api.Op, id []byte, size int64, d *api.Decision) {
	if p.route != nil {
		p.route(op, string(id), size, d)
	}
}

func (p *policy) TTL(_ api.Exchange, id []byte, size int64, d *api.Decision) {
	if p.ttl != nil {
		p.ttl(string(id), size, d)
	}
}

func TestPolicyDenies(t *testing.T) {
	var asked []string
	p := &policy{}
	h := newHarness(t, func(o *api.Options) { o.Policy, o.Sites = p, sites{} })
	h.want(201, "", "PUT /v1/items/a", "xy")
	p.route = func(op api.Op, id string, size int64, d *api.Decision) {
		asked = append(asked, fmt.Sprint(op, " ", id, " ", size))
		d.Deny, d.Reason = 451, "not here"
	}
	for _, f := range [][2]string{
		{"GET /v1/items/a", "1 a 0"}, {"PUT /v1/items/a", "2 a 2"}, {"DELETE /v1/items/a", "3 a 0"}, {"GET /v1/items?prefix=p", "1 p 0"},
		{"GET /v1/items:count?prefix=p", "1 p 0"}, {"DELETE /v1/items?prefix=p", "3 p 0"}, {"GET /v1/items/a:status", "1 a 0"},
	} {
		asked = nil
		x := h.want(451, "denied", f[0], "xy")
		if strings.Join(asked, ",") != f[1] || !strings.Contains(x.out.String(), "not here") {
			t.Errorf("%s asked %q: %s", f[0], asked, x.out.String())
		}
	}
	h.want(451, "denied", "POST /v1/items/a:state", `{"state":"s"}`)
	h.want(451, "denied", "POST /v1/purge", `{"id":"a"}`)
	for _, line := range []string{"POST /v1/items:get", "POST /v1/items:delete"} {
		if got := lines(t, h.do(line, `{"id":"a"}`)); kind(got[0]) != "denied" || got[0]["status"] != 451.0 {
			t.Errorf("%s: %v", line, got)
		}
	}
	if got := lines(t, h.do("POST /v1/items:put", `{"id":"a","content":1}`)); kind(got[0]) != "denied" {
		t.Errorf("%v", got)
	}
	p.route = func(_ api.Op, _ string, _ int64, d *api.Decision) { d.Deny = 200 } // not a denial's status
	h.want(403, "denied", "GET /v1/items/a", "")
}

func TestPolicyDecides(t *testing.T) {
	p := &policy{}
	h := newHarness(t, func(o *api.Options) { o.Policy = p })
	p.route = func(_ api.Op, _ string, _ int64, d *api.Decision) {
		d.Tiers, d.State, d.Tags = item.L1|item.L3, "routed", append(d.Tags, "more", "own")
	}
	p.ttl = func(_ string, _ int64, d *api.Decision) { d.TTL = min(d.TTL, time.Minute) }
	f := func(line, body string) {
		t.Helper()
		h.writes = nil
		h.do(line, body, "Edge-Tags: own", "Edge-TTL: 1h")
		w := h.writes[0]
		if w.Tiers != item.L1|item.L3 || w.State != "routed" || w.TTL != time.Minute {
			t.Errorf("%s: %+v", line, w)
		}
	}
	f("PUT /v1/items/a", "x")
	if got := strings.Join(h.writes[0].Tags, ","); got != "more,own" {
		t.Errorf("tags %q", got)
	}
	f("POST /v1/items:put", `{"id":"b","content":1}`)

	p.route = func(_ api.Op, _ string, _ int64, d *api.Decision) { d.State, d.Tags = "BAD", []string{"b d"} }
	h.writes = nil
	h.want(204, "", "PUT /v1/items/a", "x", "Edge-State: good", "Edge-Tags: good", "Edge-TTL: 5")
	if w := h.writes[0]; w.State != "good" || strings.Join(w.Tags, ",") != "good" {
		t.Errorf("a malformed decision was taken over: %+v", w)
	}
	p.route = func(_ api.Op, _ string, _ int64, d *api.Decision) { d.Tiers = item.L1 }
	h.want(400, "bad-durability", "PUT /v1/items/a", "x", "Edge-Durability: sync")
	p.route, p.ttl = nil, func(_ string, _ int64, d *api.Decision) { d.NoStore = true }
	h.want(403, "denied", "PUT /v1/items/a", "x")
}

func TestPolicyAnswers(t *testing.T) {
	p := &policy{route: func(_ api.Op, _ string, _ int64, d *api.Decision) {
		d.Answer = &api.Ready{Status: 302, Block: []byte("Location: /x\r\n"), Body: []byte("there")}
	}}
	h := newHarness(t, func(o *api.Options) { o.Policy = p })
	x := h.want(302, "", "GET /v1/items/a", "")
	h.has(x, "Location", "/x")
	if x.out.String() != "there" {
		t.Errorf("body %q", x.out.String())
	}
	if got := lines(t, h.do("POST /v1/items:get", `{"id":"a"}`)); kind(got[0]) != "denied" {
		t.Errorf("%v", got)
	}
	odd := newHarness(t, func(o *api.Options) {
		o.Policy = &policy{route: func(_ api.Op, _ string, _ int64, d *api.Decision) { d.Answer = &api.Ready{Status: 100} }}
	})
	odd.want(404, "not-found", "GET /v1/items/a", "") // no final status: not an answer
}

func TestPolicyEdits(t *testing.T) {
	p := &policy{}
	set := metrics.NewSet()
	h := newHarness(t, func(o *api.Options) { o.Policy, o.Metrics = p, set })
	h.want(201, "", "PUT /v1/items/a", "xy", "Content-Type: text/plain")
	p.route = func(_ api.Op, _ string, _ int64, d *api.Decision) {
		for _, f := range []string{"X-New: 1", "Cache-Control: max-age=9"} {
			name, value, _ := strings.Cut(f, ": ")
			d.Edits = append(d.Edits, edit.Edit{Response: true, Name: []byte(name), Value: []byte(value)})
		}
	}
	f := func(code int, problem, control, line, body string, fields ...string) {
		t.Helper()
		x := h.want(code, problem, line, body, fields...)
		h.has(x, "X-New", "1")
		h.has(x, "Cache-Control", control)
	}
	f(200, "", "max-age=9", "GET /v1/items/a", "")
	f(200, "", "max-age=9", "HEAD /v1/items/a", "")
	f(206, "", "max-age=9", "GET /v1/items/a", "", "Range: bytes=0-0")
	f(404, "not-found", "no-store", "GET /v1/items/none", "") // what the API says by itself stays
	f(204, "", "max-age=9", "PUT /v1/items/a", "z")
	f(400, "bad-condition", "no-store", "PUT /v1/items/a", "z", "If-Match: x")
	f(200, "", "no-store", "GET /v1/items", "")
	f(204, "", "max-age=9", "DELETE /v1/items/a", "")

	// Nothing else has an effect, and it is counted.
	h.want(201, "", "PUT /v1/items/a", "xy", "Content-Type: text/plain")
	refused := set.GetOrCreateCounter("edgenode_api_refused_edits_total")
	if got := refused.Get(); got != 0 {
		t.Errorf("%d edits refused before there were any", got)
	}
	p.route = func(_ api.Op, _ string, _ int64, d *api.Decision) {
		for _, name := range []string{"Content-Type", "ETag", "Last-Modified", "Accept-Ranges", "Edge-State", "edge-x", "Cache-Status", "Age", "Content-Length", "a b"} {
			d.Edits = append(d.Edits, edit.Edit{Response: true, Name: []byte(name), Value: []byte("no")})
		}
		d.Edits = append(d.Edits, edit.Edit{Name: []byte("If-Match"), Value: []byte("no")})
	}
	x := h.want(200, "", "GET /v1/items/a", "")
	if got := strings.Join(x.head, "|"); strings.Contains(got, ": no|") || !strings.Contains(got, "Content-Type: text/plain") {
		t.Errorf("answer %q", got)
	}
	if got := refused.Get(); got != 11 {
		t.Errorf("%d edits refused, want 11", got)
	}
	h.do("POST /v1/items:get", `{"id":"a"}`)
	h.do("POST /v1/items:put", `{"id":"b","content":1}`)
	if got := refused.Get(); got != 33 {
		t.Errorf("%d edits refused, want 33", got)
	}
}
