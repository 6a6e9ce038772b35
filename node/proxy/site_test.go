package proxy

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/edgenode/edgenode/tiers/item"
)

func TestSiteIsFoundByHostAndPath(t *testing.T) {
	w := newWorld(t, func(o *Options) {
		add := func(name, prefix string, hosts ...string) {
			o.Sites = append(o.Sites, Site{Name: name, Hosts: hosts, PathPrefix: prefix, Pool: "main"})
		}
		o.Sites = nil
		add("root", "/", "a.example")
		add("app", "/app", "a.example")
		add("wild", "/", "*.example")
		add("wilder", "/", "*.b.example")
		add("only", "/only/", "c.example")
	})
	f := func(host, target, want string) {
		t.Helper()
		_, name := splitHost(nil, []byte(host), "http")
		got := ""
		if s := w.p.table.Load().find(name, []byte(target)); s != nil {
			got = s.Name
		}
		if got != want {
			t.Errorf("%s%s is of site %q, want %q", host, target, got, want)
		}
	}
	f("a.example", "/", "root")
	f("A.Example.:8080", "/x", "root")
	f("a.example", "/app", "app")
	f("a.example", "/app?x", "app")
	f("a.example", "/app/x", "app")
	f("a.example", "/apple", "root")
	f("z.example", "/", "wild")
	f("x.b.example", "/", "wilder")
	f("b.example", "/", "wild")
	f("example", "/", "")
	f(".example", "/", "")
	f("c.example", "/only", "only")
	f("c.example", "/", "")
	f("other", "/", "")
	f("", "/", "")
	x := w.request("GET", "/")
	x.host = "c.example"
	if w.serve(x); x.status != 421 {
		t.Errorf("status %d, want 421", x.status)
	}
}

func TestConfigurationFaultsAreAllNamed(t *testing.T) {
	_, err := New(Options{
		Engine: newFakeEngine(func() int64 { return 0 }),
		Pools:  []Pool{{Name: "p", Origins: []string{"ftp://x", "http://x/path"}, Balance: "odd"}, {Name: "ok", Origins: []string{"http://x"}}},
		Sites: []Site{
			{Name: "a", Hosts: []string{"h"}, Pool: "none", SetCookie: "maybe"},
			{Name: "b", Hosts: []string{"h"}, Pool: "none"},
			{Name: "c", Hosts: []string{"h"}, Pool: "ok"},
			{Name: "d", Hosts: []string{"H."}, Pool: "ok", PathPrefix: "/"},
		},
	})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{`"ftp://x"`, `"http://x/path"`, `balance "odd"`, `set_cookie "maybe"`, `no pool "none"`, `both claim`} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not name %s", err, want)
		}
	}
}

func TestConfigureKeepsTheOldOnError(t *testing.T) {
	w := newWorld(t)
	if err := w.p.Configure([]Site{{}}, nil); err == nil {
		t.Error("no error")
	}
	w.always(w.ok("", "x"))
	w.serveStatus(200, "GET", "/")
	if err := w.p.Configure(nil, nil); err != nil {
		t.Error(err)
	}
	w.serveStatus(421, "GET", "/")
}

func TestQueryRulesShareOneObject(t *testing.T) { eachWay(t, testQueryRulesShareOneObject) }

func testQueryRulesShareOneObject(t *testing.T) {
	w := newWorld(t, site1(func(s *Site) { s.IgnoreQuery, s.SortQuery = []string{"utm_*"}, true }))
	w.always(w.ok("Cache-Control: max-age=60", "x"))
	w.get("/a?b=1&a=2&utm_source=q")
	if got, want := w.lastRequest().RequestURI, "/a?b=1&a=2&utm_source=q"; got != want {
		t.Errorf("origin saw %q, want %q", got, want)
	}
	w.expect(w.get("/a?a=2&b=1"), 200, "x", "hit")
	p, v, err := w.p.PurgeURL("http://shop.example/a?utm_x=1&b=1&a=2")
	w.purge(p, v, err)
	w.expect(w.get("/a?a=2&b=1"), 200, "x", "fwd=")
}

func TestKeysKeepSitesAndPortsApart(t *testing.T) { eachWay(t, testKeysKeepSitesAndPortsApart) }

func testKeysKeepSitesAndPortsApart(t *testing.T) {
	w := newWorld(t)
	w.always(w.ok("Cache-Control: max-age=60", "x"))
	f := func(host, scheme, want string) {
		t.Helper()
		x := w.request("GET", "/a")
		x.host, x.scheme = host, scheme
		w.serve(x)
		if got := x.cache(); !strings.HasPrefix(got, want) {
			t.Errorf("%s://%s: %q, want %q", scheme, host, got, want)
		}
	}
	f("shop.example", "http", "fwd")
	f("SHOP.example.:80", "http", "hit")
	f("shop.example:8080", "http", "fwd")
	f("shop.example", "https", "fwd")
	f("shop.example:443", "https", "hit")
	f("x.shop.example", "http", "fwd")
	long := "/" + strings.Repeat("a", 8180)
	w.expect(w.get(long), 200, "x", "fwd=bypass")
}

// rules is a policy made of two functions.
type rules struct {
	route func(in *RouteInput, out *RouteDecision)
	ttl   func(in *TTLInput, out *TTLDecision)
}

func (r rules) Route(in *RouteInput, out *RouteDecision) {
	if r.route != nil {
		r.route(in, out)
	}
}

func (r rules) TTL(in *TTLInput, out *TTLDecision) {
	if r.ttl != nil {
		r.ttl(in, out)
	}
}

func policy(r rules) func(o *Options) { return func(o *Options) { o.Policy = r } }

func TestPolicyRoute(t *testing.T) {
	w := newWorld(t, policy(rules{route: func(in *RouteInput, out *RouteDecision) {
		switch q := string(in.Target); {
		case q == "/deny":
			out.Deny, out.Reason = 451, "not here"
		case q == "/answer":
			out.Answer = &Ready{Status: 302, Block: []byte("Location: /new\r\n"), Body: []byte("there\n")}
		case q == "/pass":
			out.Pass = true
		case q == "/other":
			out.Pool = "second"
		case strings.HasPrefix(q, "/old"):
			out.Target = []byte("/new")
		case q == "/bad":
			out.Target = []byte("http://evil/")
		default:
			out.Key = in.Request.Header("Group")
		}
		out.Tags = []string{"from-policy", "bad tag"}
	}}))
	w.always(w.ok("Cache-Control: max-age=60", "x"))
	w.expect(w.get("/deny"), 451, "451 Unavailable For Legal Reasons: not here\n", "detail=denied")
	moved := w.get("/answer")
	w.expect(moved, 302, "there\n", "detail=policy")
	if got := moved.line("Location"); got != "/new" || w.requests() != 0 {
		t.Errorf("Location %q after %d requests", got, w.requests())
	}
	w.expect(w.get("/pass"), 200, "x", "fwd=bypass")
	w.expect(w.get("/pass"), 200, "x", "fwd=bypass")
	w.expect(w.get("/bad"), 200, "x", "fwd=bypass")
	w.expect(w.get("/old1"), 200, "x", "fwd=uri-miss")
	if got := w.lastRequest().RequestURI; got != "/new" {
		t.Errorf("origin saw %q", got)
	}
	w.expect(w.get("/old2"), 200, "x", "hit") // the same object
	p, v, err := w.p.PurgeURL("http://shop.example/old1")
	w.purge(p, v, err)
	w.expect(w.get("/old2"), 200, "x", "fwd=uri-miss")
	w.expect(w.get("/k", "Group: a"), 200, "x", "fwd=uri-miss")
	w.expect(w.get("/k", "Group: b"), 200, "x", "fwd=uri-miss")
	w.expect(w.get("/k", "Group: a"), 200, "x", "hit")
	p, v, err = w.p.PurgeURL("http://shop.example/k") // all additions
	w.purge(p, v, err)
	w.expect(w.get("/k", "Group: a"), 200, "x", "fwd=uri-miss")
	w.expect(w.get("/k", "Group: b"), 200, "x", "fwd=uri-miss")
	w.purge(item.MatchTag, []string{"from-policy"}, nil)
	w.expect(w.get("/k", "Group: a"), 200, "x", "fwd=uri-miss")
}

// The order of authority.
func TestPolicyTTL(t *testing.T) {
	f := func(name, answer string, d TTLDecision, cache string, reused bool, override ...string) {
		t.Helper()
		w := newWorld(t, policy(rules{ttl: func(_ *TTLInput, out *TTLDecision) { *out = d }}), site1(func(s *Site) { s.AllowOverride = override }))
		w.says(func(*http1) string { return w.ok(answer, "x") })
		x := w.get("/a")
		if !strings.Contains(x.cache()+x.line("Cache-Status"), cache) {
			t.Errorf("%s: Cache-Status %q, want %q in it", name, x.line("Cache-Status"), cache)
		}
		w.pass(30 * time.Second)
		w.get("/a")
		if got := w.requests() == 1; got != reused {
			t.Errorf("%s: reused = %v, want %v", name, got, reused)
		}
	}
	long := TTLDecision{HasLifetime: true, Lifetime: time.Hour}
	short := TTLDecision{HasLifetime: true, Lifetime: time.Second}
	const refused = "override=refused"
	f("gives", "", long, "stored", true)
	f("lengthens", "Cache-Control: max-age=1", long, "stored", true)
	f("shortens", "Cache-Control: max-age=60", short, "stored", false)
	f("shortens s-maxage", "Cache-Control: s-maxage=60", short, "stored", false)
	f("forbids", "Cache-Control: max-age=60", TTLDecision{NoStore: true}, "detail=policy", false)
	for _, cc := range []string{"no-store", "no-cache", "max-age=1, must-revalidate", "max-age=1, proxy-revalidate", "s-maxage=1"} {
		_, name, _ := strings.Cut(cc, ", ")
		name, _, _ = strings.Cut(orDefault(name, cc), "=")
		f(cc, "Cache-Control: "+cc+"\nETag: \"e\"", long, refused, false)
		f(cc+" allowed", "Cache-Control: "+cc+"\nETag: \"e\"", long, "stored", true, name)
	}
	all := []string{"no-store", "no-cache", "must-revalidate", "proxy-revalidate", "s-maxage"}
	f("private", "Cache-Control: private, max-age=60", long, refused, false, all...)
	f("cookie", "Cache-Control: max-age=60\nSet-Cookie: a=b", long, refused, false, all...)
	f("vary", "Cache-Control: max-age=60\nVary: *", long, refused, false, all...)
}

// A model of RFC 9111 §4.2, written another way: in seconds, from the text.
func TestFreshnessAgainstModel(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 20_000 {
		pick := func(n int64) int64 { return r.Int64N(n) }
		date, ageField := startMilli/1000+pick(200)-100, pick(100)
		delay, lifetime, wait := pick(20), pick(200), pick(400)
		received := startMilli
		f := freshness{}
		a := answer{status: 200, sent: received - delay*1000, received: received, header: map[string][]string{
			"Date": {httpDate(date * 1000)}, "Age": {itoa(ageField)},
		}}
		f.computeAge(&a)
		f.lifetime = lifetime * 1000
		f.whileRevalidate = pick(100) * 1000
		apparent := max(0, received/1000-date)
		corrected := max(apparent, ageField+delay)
		age := corrected + wait
		if got := f.age(received+wait*1000) / 1000; got != age {
			t.Fatalf("date %d, age %d, delay %d, wait %d: age %d, want %d", date, ageField, delay, wait, got, age)
		}
		want := useNot
		switch {
		case age < lifetime:
			want = useFresh
		case age < lifetime+f.whileRevalidate/1000:
			want = useWhileStale
		}
		if got := f.usable(received+wait*1000, false); got != want {
			t.Fatalf("age %d, lifetime %d, window %d: %d, want %d", age, lifetime, f.whileRevalidate/1000, got, want)
		}
	}
}

// Every stored object ends: freshness, stale window and keep.
func TestExpiryOfTheItem(t *testing.T) {
	f := func(lines string, want time.Duration) {
		t.Helper()
		w := newWorld(t)
		w.always(w.ok(lines, "x"))
		w.get("/a")
		var got time.Duration
		for _, v := range w.engine.items {
			got = time.Duration(v.ExpiresAt()-w.now()) * time.Millisecond
		}
		if got != want {
			t.Errorf("%q: kept for %v, want %v", lines, got, want)
		}
	}
	f("Cache-Control: max-age=60", time.Minute+time.Hour)
	f("Cache-Control: max-age=60\nAge: 20", 40*time.Second+time.Hour)
	f("Cache-Control: max-age=60, stale-while-revalidate=7200", time.Minute+2*time.Hour)
	f("Cache-Control: max-age=60, stale-if-error=7200\nETag: \"e\"", time.Minute+2*time.Hour+24*time.Hour)
	f("Cache-Control: max-age=60, must-revalidate", time.Minute)
	f("Cache-Control: no-cache\nETag: \"e\"", 24*time.Hour)
	f("Cache-Control: max-age=99999999", DefaultMaxLifetime)
	f("Cache-Control: max-age=0, must-revalidate", 0)
}

func TestCacheStatusLevels(t *testing.T) {
	for level, want := range map[string]string{
		StatusFull: `edgenode;hit;ttl=60;detail=l1;key="http://shop.example/a?\"b"`, StatusShort: "edgenode;hit;ttl=60", StatusOff: "",
	} {
		w := newWorld(t, site1(func(s *Site) { s.CacheStatus = level }))
		w.always(w.ok("Cache-Control: max-age=60", "x"))
		w.get(`/a?"b`)
		if got := w.get(`/a?"b`).line("Cache-Status"); got != want {
			t.Errorf("%s: %q, want %q", level, got, want)
		}
	}
}

func TestStoreFailuresDoNotFailRequests(t *testing.T) {
	w := newWorld(t)
	w.always(w.ok("Cache-Control: max-age=60", "x"))
	w.engine.mu.Lock()
	w.engine.getErr = errBroken
	w.engine.mu.Unlock()
	w.expect(w.get("/a"), 200, "x", "fwd=uri-miss")
}

func TestBalance(t *testing.T) {
	p := &Proxy{o: Options{Now: func() int64 { return 0 }}}
	f := func(balance string) map[string]int {
		pl, err := newPool(Pool{Name: "p", Origins: []string{"http://a", "http://b", "http://c"}, Balance: balance}.withDefaults(), p, nil)
		if err != nil {
			t.Fatal(err)
		}
		out := map[string]int{}
		for range 9 {
			o := pl.pick([]byte("key"), nil)
			o.inFlight.Add(1)
			out[o.authority]++
		}
		return out
	}
	for _, balance := range []string{"round-robin", "least-connections"} {
		if got := f(balance); got["a"] != 3 || got["b"] != 3 || got["c"] != 3 {
			t.Errorf("%s: %v", balance, got)
		}
	}
	if got := f("hash"); len(got) != 1 {
		t.Errorf("hash: one key went to %v", got)
	}
}

// Behind a proxy that is trusted, its word on the scheme holds: a redirect from
// http to https must not be given to https.
func TestSchemeOfTrustedProxy(t *testing.T) { eachWay(t, testSchemeOfTrustedProxy) }

func testSchemeOfTrustedProxy(t *testing.T) {
	w := newWorld(t)
	w.says(func(r *http1) string {
		proto := r.Header.Get("X-Forwarded-Proto")
		return w.ok("Cache-Control: max-age=60\nVary: X-Forwarded-Proto, X-Forwarded-Host", proto)
	})
	w.expect(w.get("/a"), 200, "http", "fwd=uri-miss")
	w.expect(w.get("/a", "X-Forwarded-Proto: HTTPS"), 200, "https", "fwd=uri-miss")
	w.expect(w.get("/a", "X-Forwarded-Proto: https"), 200, "https", "hit")
	w.expect(w.get("/a", "X-Forwarded-Proto: odd"), 200, "http", "hit")
}

// A policy may give stale windows where nothing forbids stale answers.
func TestPolicyWindows(t *testing.T) {
	f := func(answer string, d TTLDecision, want string) {
		t.Helper()
		w := newWorld(t, policy(rules{ttl: func(_ *TTLInput, out *TTLDecision) { *out = d }}))
		w.says(func(*http1) string { return w.ok(answer, "x") })
		w.get("/a")
		w.pass(20 * time.Second)
		x := w.get("/a")
		w.p.tasks.Wait()
		if got := x.cache(); !strings.HasPrefix(got, want) {
			t.Errorf("%q, %+v: %q, want %q", answer, d, got, want)
		}
	}
	give := TTLDecision{HasStale: true, Revalidate: time.Minute, IfError: -1}
	f("Cache-Control: max-age=10", give, "hit;ttl=-10")
	f("Cache-Control: max-age=10, must-revalidate\nETag: \"e\"", give, "fwd=stale")
	f("Cache-Control: max-age=10, stale-while-revalidate=60", TTLDecision{HasStale: true, Revalidate: 0, IfError: -1}, "fwd=stale")
	f("Cache-Control: max-age=10, stale-while-revalidate=60", TTLDecision{HasStale: true, Revalidate: -1, IfError: 0}, "hit;ttl=-10")
}

// A policy that says it never adds to keys spares rules.
type quietPolicy struct{ rules }

func (quietPolicy) Routes() bool { return false }

func TestQuietPolicyNeedsNoRules(t *testing.T) {
	for want, p := range []Policy{quietPolicy{}, rules{}} {
		w := newWorld(t, func(o *Options) { o.Policy = p })
		w.always(w.ok("", "x"))
		w.serve(w.request("POST", "/never"))
		if got := w.engine.ruleCount(); got != want {
			t.Errorf("%T: %d rules, want %d", p, got, want)
		}
	}
}
