package proxy

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/edgenode/edgenode/tiers"
	"github.com/edgenode/edgenode/tiers/item"
)

func (w *world) explain(q Question) *Explanation {
	w.Helper()
	e, err := w.p.Explain(context.Background(), q)
	if err != nil {
		w.Fatal(err)
	}
	return e
}

// TestExplainArithmetic: every term of the freshness is there, and they add up.
func TestExplainArithmetic(t *testing.T) {
	w := newWorld(t)
	w.says(func(r *http.Request) string {
		return w.ok("Date: "+httpDate(startMilli-5000)+"\nAge: 7\nCache-Control: max-age=60, stale-while-revalidate=30, stale-if-error=90\nETag: \"v\"\nLast-Modified: "+
			httpDate(startMilli-3_600_000)+"\nCache-Tag: red, blue\nContent-Type: text/css", "12345")
	})
	w.get("/a?x=1")
	asked := w.requests()
	w.pass(10 * time.Second)
	e := w.explain(Question{URL: "http://shop.example/a?x=1"})
	if e.Site != "shop" || e.Pool != "main" || e.URL != "http://shop.example/a?x=1" || e.Would.Do != "serve" || e.Would.Object != 1 || len(e.Objects) != 1 {
		t.Fatalf("%+v", e)
	}
	o := e.Objects[0]
	if o.Status != 200 || o.Bytes != 5 || o.Type != "text/css" || o.Tier != "l1" || !o.Selected || !reflect.DeepEqual(o.Tags, []string{"blue", "red"}) ||
		o.Validators.ETag != `"v"` || o.Validators.LastModified == "" || o.Purged != "" {
		t.Errorf("%+v", o)
	}
	want := Freshness{
		Fresh: true, Date: stamp(startMilli - 5000), Received: stamp(startMilli), ApparentAge: 5, CorrectedAge: 7, InitialAge: 7, ResidentTime: 10, CurrentAge: 17,
		Lifetime: 60, LifetimeSource: "Cache-Control max-age", TTL: 43, StaleWhileRevalidate: 30, StaleIfError: 90,
	}
	if !reflect.DeepEqual(o.Freshness, want) {
		t.Errorf("got  %+v\nwant %+v", o.Freshness, want)
	}
	f := func(do, why string) {
		t.Helper()
		if e := w.explain(Question{URL: "http://shop.example/a?x=1"}); e.Would.Do != do || !strings.Contains(e.Would.Why, why) {
			t.Errorf("%+v, want %s: %s", e.Would, do, why)
		}
	}
	w.pass(50 * time.Second)
	f("serve-stale", "it is stale since 7s")
	w.pass(60 * time.Second)
	f("validate", "it is stale since 1m7s")
	if got := w.requests(); got != asked {
		t.Errorf("explaining asked the origin %d times", got-asked)
	}
}

// TestExplainSources: where a lifetime comes from.
func TestExplainSources(t *testing.T) {
	w := newWorld(t, site1(func(s *Site) {
		s.DefaultLifetime = func(status int) (time.Duration, bool) { return 5 * time.Second, status == 404 }
	}))
	n := 0
	f := func(status int, lines, want string) {
		t.Helper()
		n++
		w.always(w.status(status, lines, "x"))
		target := fmt.Sprint("/", n)
		w.get(target)
		e := w.explain(Question{URL: "http://shop.example" + target})
		if len(e.Objects) != 1 {
			t.Errorf("%s: not stored", lines)
			return
		}
		if got := e.Objects[0].Freshness.LifetimeSource; got != want {
			t.Errorf("%s: %q, want %q", lines, got, want)
		}
	}
	f(200, "Cache-Control: s-maxage=9, max-age=3", "Cache-Control s-maxage")
	f(200, "Cache-Control: max-age=3\nExpires: "+httpDate(startMilli+9000), "Cache-Control max-age")
	f(200, "Expires: "+httpDate(startMilli+9000), "Expires less Date")
	f(200, "CDN-Cache-Control: max-age=9\nCache-Control: no-store", "Cdn-Cache-Control max-age")
	f(200, "Last-Modified: "+httpDate(startMilli-100_000), "a tenth of Date less Last-Modified")
	f(404, "", "default_lifetimes of the site")
}

// TestExplainVariants: all variants are listed, and which of them a request
// would get.
func TestExplainVariants(t *testing.T) {
	w := newWorld(t)
	w.says(func(r *http.Request) string {
		return w.ok("Cache-Control: max-age=60\nVary: Accept-Language\nContent-Language: "+r.Header.Get("Accept-Language"), "x")
	})
	for _, l := range []string{"de", "fr", "en"} {
		w.get("/a", "Accept-Language: "+l)
	}
	f := func(header [][2]string, do, fwd, language string) {
		t.Helper()
		e := w.explain(Question{URL: "shop.example/a", Header: header})
		if len(e.Objects) != 3 || e.Would.Do != do || e.Would.Fwd != fwd {
			t.Fatalf("%d objects, %+v", len(e.Objects), e.Would)
		}
		got := ""
		for _, o := range e.Objects {
			if !reflect.DeepEqual(o.Vary, []string{"accept-language"}) {
				t.Errorf("vary %q", o.Vary)
			}
			if o.Selected {
				got = o.Language
			}
		}
		if got != language {
			t.Errorf("%v selects %q, want %q", header, got, language)
		}
	}
	f([][2]string{{"Accept-Language", "fr"}}, "serve", "", "fr")
	f([][2]string{{"accept-language", "it"}}, "fetch", "vary-miss", "")
	f(nil, "fetch", "vary-miss", "")
}

// rulesEngine lists rules.
type rulesEngine struct {
	*fakeEngine
}

func (e rulesEngine) RulesCovering(v item.View) (list []item.Rule) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, r := range e.rules {
		if r.Covers(v) {
			list = append(list, r)
		}
	}
	return list
}

// TestExplainPurges: a soft purge is told with the rule, a hard one leaves nothing.
func TestExplainPurges(t *testing.T) {
	var e *fakeEngine
	w := newWorld(t, func(o *Options) {
		e = newFakeEngine(o.Now)
		o.Engine = rulesEngine{e}
	})
	w.always(w.ok("Cache-Control: max-age=60\nETag: \"1\"", "x"))
	w.get("/a")
	match, values, err := w.p.PurgeURL("http://shop.example/a")
	if err != nil {
		t.Fatal(err)
	}
	purge := tiers.Purge{Namespaces: item.InSites, Match: match, Values: values, Soft: true}
	if _, err := e.Purge(t.Context(), purge); err != nil {
		t.Fatal(err)
	}
	x := w.explain(Question{URL: "http://shop.example/a"})
	if x.Would.Do != "validate" || x.Would.Why != "it was purged softly" || x.Objects[0].Purged != "soft" || len(x.Objects[0].Rules) != 1 ||
		!strings.HasPrefix(x.Objects[0].Rules[0], "soft purge ") || !strings.Contains(x.Objects[0].Rules[0], `"http://shop.example/a"`) {
		t.Errorf("%+v", x)
	}
	purge.Soft = false
	if _, err := e.Purge(t.Context(), purge); err != nil {
		t.Fatal(err)
	}
	if x := w.explain(Question{URL: "http://shop.example/a"}); x.Would.Do != "fetch" || x.Would.Fwd != "uri-miss" || len(x.Objects) != 0 {
		t.Errorf("%+v", x)
	}
}

// askedPolicy routes and tells its steps.
type askedPolicy struct {
	routes func(in *RouteInput, out *RouteDecision)
}

func (p askedPolicy) Route(in *RouteInput, out *RouteDecision) { p.routes(in, out) }
func (askedPolicy) TTL(*TTLInput, *TTLDecision)                {}
func (askedPolicy) Trace(in *RouteInput) []Step {
	return []Step{{Module: "geo", Verdict: "continue"}, {Module: "deny", Verdict: "not asked"}}
}

// TestExplainRequest: the gate and the policy decide as for a real request, and
// nothing of it counts.
func TestExplainRequest(t *testing.T) {
	w := newWorld(t, func(o *Options) {
		s := &o.Sites[0]
		s.Deny, s.PurgeACL, s.Rate = nets("203.0.113.0/24"), nets("192.0.2.0/24"), 0.001
		s.RedirectHosts = map[string]string{"www.shop.example": "shop.example"}
		o.Policy = askedPolicy{func(in *RouteInput, out *RouteDecision) {
			switch string(in.Request.Header("X-Do")) {
			case "deny":
				out.Deny, out.Reason = 451, "not there"
			case "pass":
				out.Pass = true
			case "key":
				out.Key, out.Tags = []byte("de"), []string{"t"}
			}
		}}
	})
	w.always(w.ok("Cache-Control: max-age=60", "x"))
	w.get("/a", "X-Do: key")
	f := func(q Question, do, why string) *Explanation {
		t.Helper()
		e := w.explain(q)
		if e.Would.Do != do || !strings.Contains(e.Would.Why, why) {
			t.Errorf("%+v: %+v, want %s %q", q, e.Would, do, why)
		}
		return e
	}
	with := func(do string) Question {
		return Question{URL: "shop.example/a", Header: [][2]string{{"X-Do", do}}, Client: netip.MustParseAddr("192.0.2.7")}
	}
	if e := f(with("key"), "serve", "fresh"); e.Routed == nil || e.Routed.KeyAddition != `"de"` || len(e.Routed.Steps) != 2 || len(e.Objects) != 1 {
		t.Errorf("%+v", e)
	}
	f(with(""), "fetch", "nothing is stored")
	f(with("pass"), "pass", "a hook said so")
	if e := f(with("deny"), "answer", "not there"); e.Would.Status != 451 || e.Routed.Verdict != "deny" {
		t.Errorf("%+v", e)
	}
	f(Question{URL: "shop.example/a", Client: netip.MustParseAddr("203.0.113.1")}, "answer", "403")
	f(Question{URL: "https://www.shop.example/a?b"}, "answer", "https://shop.example/a?b")
	f(Question{URL: "elsewhere.example/"}, "answer", "421")
	f(Question{URL: "shop.example/a", Method: "POST"}, "pass", "never answered from the store")
	q := with("key")
	q.Method = "PURGE"
	f(q, "answer", "may purge")
	f(with("key"), "serve", "fresh") // nothing was purged, nothing counted
	if got := w.requests(); got != 1 {
		t.Errorf("the origin was asked %d times", got)
	}
	for _, bad := range []Question{{URL: ""}, {URL: "ftp://a/"}, {URL: "a b"}, {URL: "http://"}, {URL: "a", Method: "G T"}, {URL: "a", Header: [][2]string{{"X", "a\nb"}}}} {
		if _, err := w.p.Explain(context.Background(), bad); err == nil || !errors.Is(err, ErrBadURL) && !errors.Is(err, errQuestion) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}

// TestExplainSpecialRequests: what never comes to the cache is told as such.
func TestExplainSpecialRequests(t *testing.T) {
	w := newWorld(t, func(o *Options) {
		o.Sites[0].Upgrades.Protocols = []string{"websocket"}
		other := o.Sites[0]
		other.Name, other.PathPrefix = "admin", "/admin"
		o.Sites = append(o.Sites, other)
	})
	f := func(q Question, do string, status int, why string) {
		t.Helper()
		if x := w.explain(q); x.Would.Do != do || x.Would.Status != status || !strings.Contains(x.Would.Why, why) {
			t.Errorf("%+v: %+v", q, x.Would)
		}
	}
	f(Question{URL: "http://shop.example/a", Header: [][2]string{{"Connection", "x, Upgrade"}, {"Upgrade", "WebSocket"}}}, "pass", 0, "agrees to websocket")
	f(Question{URL: "http://shop.example/a", Header: [][2]string{{"Upgrade", "websocket"}}}, "fetch", 0, "nothing is stored")
	f(Question{URL: "http://shop.example/a", Method: "OPTIONS", Header: [][2]string{{"Max-Forwards", "0"}}}, "answer", 204, "Max-Forwards")
	f(Question{URL: "http://shop.example/%61dmin"}, "answer", 400, "another site of this host")
}
