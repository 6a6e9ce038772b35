package proxy

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edgenode/edgenode/tiers"
	"github.com/edgenode/edgenode/tiers/item"
)

// TestRememberedEncodings: what is remembered of Accept-Encoding is what is
// computed, whatever came before on the same state: absent and empty, several
// lines, more values than are remembered, long ones, sites that pass it on as it is.
func TestRememberedEncodings(t *testing.T) {
	st := newState()
	long := strings.Repeat("gzip;q=0.5, ", 10)
	requests := [][]string{
		nil, {""}, {"gzip"}, {"gzip, br"}, {"br,gzip"}, {"GZIP"}, {"identity;q=0"}, {"*"}, {"x"}, {long}, {long + "br"},
		{"gzip", "br"}, {"", "br"}, {"gzip", ""},
	}
	sites := []*site{{}, {Site: Site{RawAcceptEncoding: true}}}
	for i := range 40 * len(requests) {
		lines := requests[i*i*5%len(requests)]
		x := &exchange{t: t}
		for _, line := range lines {
			x.fields = append(x.fields, [2]string{"ACCEPT-Encoding", line})
		}
		st.begin(x)
		st.site = sites[i/3%2]
		want, _ := variantHash(acceptEncoding, st, nil)
		if got, _ := st.variant(acceptEncoding, nil); got != want {
			t.Fatalf("after %d requests, %q: another hash than is computed", i, lines)
		}
		st.end()
	}
}

// TestRememberedAfterAnEdit: the value that counts is the one after the edits.
func TestRememberedAfterAnEdit(t *testing.T) {
	w := newWorld(t, policy(rules{route: func(_ *RouteInput, out *RouteDecision) { out.Edits = edits("request Accept-Encoding br") }}))
	w.always(w.ok("Cache-Control: max-age=60\nVary: Accept-Encoding", "a"))
	w.get("/a", "Accept-Encoding: gzip")
	if x := w.get("/a", "Accept-Encoding: zstd"); !strings.Contains(x.head.String(), ";hit") {
		t.Errorf("two requests that an edit made alike are told apart: %s", x.head.String())
	}
}

// TestHitLooksAtTheClockOnce: and all that a hit says is of that time.
func TestHitLooksAtTheClockOnce(t *testing.T) {
	var looks atomic.Int64
	w := newWorld(t, func(o *Options) {
		now := o.Now
		o.Now = func() int64 { looks.Add(1); return now() }
	}, policy(rules{}))
	w.always(w.ok("Cache-Control: max-age=60\nVary: Accept-Encoding", "a"))
	w.get("/a")
	w.pass(7 * time.Second)
	e := &timedEngine{Engine: w.p.o.Engine}
	w.p.o.Engine = e
	looks.Store(0)
	x := w.get("/a")
	if !strings.Contains(x.head.String(), "Age: 7\r\n") || !strings.Contains(x.head.String(), ";ttl=53") {
		t.Errorf("not as of the request's time: %s", x.head.String())
	}
	if looks := looks.Load(); looks != 1 || e.untimed != 0 {
		t.Errorf("%d looks at the clock, and %d of the engine's own; want 1 and none", looks, e.untimed)
	}
}

// A timedEngine counts lookups that leave the time to the engine.
type timedEngine struct {
	Engine
	untimed int
}

func (e *timedEngine) Get(ctx context.Context, key item.Key, o tiers.ReadOptions) (tiers.Hit, bool, error) {
	if o.Now == 0 {
		e.untimed++
	}
	return e.Engine.Get(ctx, key, o)
}

// TestGateDecides: a detail of a rule that is not there is no rule; anything else is.
func TestGateDecides(t *testing.T) {
	f := func(g Gate, want bool) {
		t.Helper()
		if got := g.decides(); got != want {
			t.Errorf("%+v: %v", g, got)
		}
	}
	f(Gate{}, false)
	f(Gate{Burst: 9, HTTPSPort: 443, RedirectHosts: map[string]string{}}, false)
	f(Gate{Allow: nets("192.0.2.0/24")}, true)
	f(Gate{Deny: nets("192.0.2.0/24")}, true)
	f(Gate{Rate: 1}, true)
	f(Gate{RedirectHTTPS: true}, true)
	f(Gate{RedirectHosts: map[string]string{"a": "b"}}, true)
	f(Gate{Maintenance: true}, true)
	f(Gate{PurgeACL: nets("192.0.2.0/24")}, true)
}
