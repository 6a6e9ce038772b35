package node

import (
	"context"
	"io"
	"net/http"
	"net/netip"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/edgenode/edgenode/hooks"
	"github.com/edgenode/edgenode/hooks/abi"
	"github.com/edgenode/edgenode/node/api"
	"github.com/edgenode/edgenode/node/config"
	"github.com/edgenode/edgenode/node/front"
	"github.com/edgenode/edgenode/node/problem"
	"github.com/edgenode/edgenode/node/proxy"
	"github.com/edgenode/edgenode/tiers"
	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/l3"
)

func TestPublicName(t *testing.T) {
	f := func(name, want string) {
		t.Helper()
		if got := publicName(&config.Config{NodeName: name}); got != want {
			t.Errorf("publicName(%q) = %q, want %q", name, got, want)
		}
	}
	f("", "edgenode") // never the machine's host name
	f("edge-1.fra", "edge-1.fra")
	f("1st", "n1st")
	f("edge 1; hit", "edge-1--hit")
	f("-x", "n-x")
}

func TestShares(t *testing.T) {
	f := func(all, largest, bodies, fills int64) {
		t.Helper()
		if b, fi := shares(all, largest); b != bodies || fi != fills {
			t.Errorf("shares(%d, %d) = %d, %d, want %d, %d", all, largest, b, fi, bodies, fills)
		}
	}
	f(128, 16, 64, 64)
	f(128, 100, 100, 28) // the largest body must pass
	f(128, 128, 128, 1)  // 0 would be the default
}

// TestSiteLists: the lists of a site reach the proxy.
func TestSiteLists(t *testing.T) {
	s := config.Site{
		HonourRequestDirectives: []string{"max-age"}, AllowOverride: []string{"no-cache"}, IgnoreQuery: []string{"utm_*"},
		TargetedFields: []string{"X-CC"},
	}
	got := proxySites(&config.Config{Sites: []config.Site{s}})[0]
	if !slices.Equal(got.HonourRequestDirectives, s.HonourRequestDirectives) || !slices.Equal(got.AllowOverride, s.AllowOverride) ||
		!slices.Equal(got.IgnoreQuery, s.IgnoreQuery) || !slices.Equal(got.TargetedFields, s.TargetedFields) {
		t.Errorf("got %+v, want the lists of %+v", got, s)
	}
}

func TestInflightLimit(t *testing.T) {
	f := inflight{limit: 10}
	if !f.take(6) || f.take(5) || !f.take(4) {
		t.Error("6 and 4 fit into 10, 6 and 5 do not")
	}
	f.give(6)
	if !f.take(6) {
		t.Error("what was given back is not there")
	}
}

// TestFrontProblems: what the listener refuses is in the table of problems.
func TestFrontProblems(t *testing.T) {
	f := func(name string, want problem.Kind) {
		t.Helper()
		if got := frontKind(name); got != want {
			t.Errorf("frontKind(%q) = %v, want %v", name, got.Entry().Name, want.Entry().Name)
		}
	}
	f("malformed-request", problem.BadRequest)
	f("not-implemented", problem.NotImplemented)
	f("expectation-failed", problem.ExpectationFailed)
	f("version-not-supported", problem.HTTPVersion)
	f("method-not-allowed", problem.MethodNotAllowed)
	f("url-too-long", problem.TargetTooLong)
	f("header-too-large", problem.HeaderTooLarge)
	f("body-too-large", problem.ContentTooLarge)
	f("request-timeout", problem.RequestTimeout)
	f("too-many-connections", problem.TooManyConnections)
	f("internal", problem.Internal)
}

// TestDefaults: where two packages have a default for one thing, a node without
// configuration has that of the configuration.
func TestDefaults(t *testing.T) {
	cfg := config.Default()
	o := (&Node{}).engineOptions(cfg)
	f := func(name string, got, want any) {
		t.Helper()
		if got != want {
			t.Errorf("%s: the engine has %v, the configuration %v", name, got, want)
		}
	}
	f("durability", o.Durability, item.DurabilitySync)
	f("batch_flush_ms", o.BatchFlush, tiers.DefaultBatchFlush)
	f("batch_flush_count", o.BatchFlushCount, tiers.DefaultBatchFlushCount)
	f("batch_flush_bytes", o.BatchFlushBytes, int64(tiers.DefaultBatchFlushBytes))
	f("l1_max_bytes", o.L1MaxBytes, int64(tiers.DefaultL1MaxBytes))
	f("max_payload_bytes", o.MaxPayloadBytes, int64(tiers.DefaultMaxPayloadBytes))
	f("journal_max_bytes", o.JournalMaxBytes, int64(tiers.DefaultJournalMaxBytes))
	f("sqlite_wal_max", o.SQLiteWALMax, int64(tiers.DefaultSQLiteWALMax))
	f("tombstone_retention", o.TombstoneRetention, tiers.DefaultTombstoneRetention)
	f("max_lifetime", o.MaxLifetime, tiers.DefaultMaxLifetime)
	f("clock_skew_max", o.ClockSkewMax, tiers.DefaultClockSkewMax)
	f("sql_write_concurrency", o.SQLWriteConcurrency, l3.DefaultWriteConns)
	f("sql_timeout", o.L3Timeout, tiers.DefaultL3Timeout)
	f("sql_batch_timeout", o.L3ApplyTimeout, tiers.DefaultL3ApplyTimeout)
	f("sql_wait_max", o.L3WaitMax, tiers.DefaultL3WaitMax)
	f("follow_interval", o.FollowInterval, tiers.DefaultFollowInterval)
	f("merkle_calc_enabled", o.MerkleCalc, true)
	f("merkle_calc_jitter", o.MerkleJitter, tiers.DefaultMerkleJitter)
	f("redis_prefix", o.RedisPrefix, tiers.DefaultRedisPrefix)
	f("redis_timeout", o.RedisTimeout, tiers.DefaultRedisTimeout)
	f("l2_max_ttl", o.L2MaxTTL, tiers.DefaultL2MaxTTL)
	f("redis_eviction_start", o.RedisEvictionStart, tiers.DefaultRedisEvictionStart)
	f("redis_eviction_target", o.RedisEvictionTarget, tiers.DefaultRedisEvictionTo)
	f("the queue in the budget", o.L2QueueBytes, int64(tiers.DefaultL2QueueBytes))
	f("no limit on requests", orNone(0), front.None)
}

// A request is a small Exchange for the adapters.
type request struct {
	method, target string
	fields         [][2]string
	length         int64
}

func (r *request) Method() string { return r.method }
func (r *request) Target() []byte { return []byte(r.target) }
func (r *request) Host() []byte   { return []byte("shop.example") }
func (r *request) Scheme() string { return "https" }
func (r *request) Header(name string) []byte {
	for _, f := range r.fields {
		if http.CanonicalHeaderKey(f[0]) == http.CanonicalHeaderKey(name) {
			return []byte(f[1])
		}
	}
	return nil
}
func (r *request) Fields(yield func(name, value []byte) bool) {
	for _, f := range r.fields {
		if !yield([]byte(f[0]), []byte(f[1])) {
			return
		}
	}
}
func (r *request) ContentLength() int64            { return r.length }
func (r *request) Body() io.Reader                 { return nil }
func (r *request) Client() netip.Addr              { return netip.AddrFrom4([4]byte{192, 0, 2, 1}) }
func (r *request) Peer() netip.Addr                { return r.Client() }
func (r *request) Local() bool                     { return false }
func (r *request) HTTP10() bool                    { return false }
func (r *request) Context() context.Context        { return context.Background() }
func (r *request) Informational(int, []byte) error { return nil }
func (r *request) Status(int)                      {}
func (r *request) Add(string, string)              {}
func (r *request) AddBlock([]byte)                 {}
func (r *request) AddUndated([]byte)               {}
func (r *request) Send([]byte) error               { return nil }
func (r *request) SendSized(int64) error           { return nil }
func (r *request) Stream(int64) (io.Writer, error) { return io.Discard, nil }
func (r *request) Abort()                          {}
func (r *request) CloseAfter()                     {}

var (
	_ api.Exchange   = (*request)(nil)
	_ proxy.Exchange = (*request)(nil)
)

// examples opens a host with the example hooks.
func examples(t testing.TB, names ...string) *hookSet {
	t.Helper()
	h := &hookSet{now: func() int64 { return 1_700_000_000_000 }}
	var err error
	if h.host, err = hooks.Open(hooks.Options{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.close(); err != nil {
			t.Error(err)
		}
	})
	cfg := config.Default()
	for _, name := range names {
		onFault := "deny"
		if name == "evict-gdsf" {
			onFault = ""
		}
		cfg.Hooks = append(cfg.Hooks, config.Hook{
			Name: name, Module: "../wasm-examples/" + name + "/" + name + ".wasm", Pools: []string{"eu"}, OnFault: onFault,
			Fuel: config.Fuel{Route: 20_000, TTL: 20_000, Evict: 200_000, Admit: 20_000, Init: 1_000_000}, Instances: 2,
		})
	}
	if err := h.load(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	return h
}

func TestSitePolicy(t *testing.T) {
	p := sitePolicy{newPolicy(examples(t, "route-header", "ttl-by-type"))}
	route := func(target string, fields ...[2]string) (out proxy.RouteDecision) {
		in := proxy.RouteInput{
			Site: "shop", Request: &request{method: "GET", target: target, fields: fields}, Scheme: "https",
			Host: []byte("shop.example"), Target: []byte(target), Tiers: item.L1,
		}
		p.Route(&in, &out)
		return out
	}
	if out := route("/a"); out.Deny != 0 || out.Pass || out.Pool != "" || out.Key != nil {
		t.Errorf("no tenant: %+v", out)
	}
	if out := route("/a", [2]string{"X-TENANT", "eu-1"}); out.Pool != "eu" || string(out.Key) != "eu-1" {
		t.Errorf("tenant eu-1: %+v", out)
	}
	if out := route("/internal/a"); out.Deny != 403 || out.Reason != "internal" {
		t.Errorf("/internal/: %+v", out)
	}
	if out := route("/live/a"); !out.Pass {
		t.Errorf("/live/: %+v", out)
	}

	ttl := func(path, kind string, cookie string) (out proxy.TTLDecision) {
		in := proxy.TTLInput{
			Site: "shop", Method: "GET", URL: "https://shop.example" + path, Request: http.Header{}, Status: 200,
			Header: http.Header{"Content-Type": {kind}}, Lifetime: time.Hour, Known: true, Length: 5,
		}
		if cookie != "" {
			in.Request.Set("Cookie", cookie)
		}
		p.TTL(&in, &out)
		return out
	}
	if out := ttl("/a.png", "image/png", ""); !out.HasLifetime || out.Lifetime != 24*time.Hour || out.HasStale || out.NoStore {
		t.Errorf("an image: %+v", out)
	}
	if out := ttl("/a", "application/octet-stream", ""); out.HasLifetime || out.NoStore {
		t.Errorf("as computed: %+v", out)
	}
	if out := ttl("/a.png", "image/png", "sid=1"); !out.NoStore {
		t.Errorf("logged in: %+v", out)
	}
	if out := ttl("/static/a", "text/css", ""); !out.HasStale || out.Revalidate != time.Minute || out.IfError >= 0 {
		t.Errorf("/static/: %+v", out)
	}
}

func TestItemPolicy(t *testing.T) {
	p := itemPolicy{newPolicy(examples(t, "route-header", "ttl-by-type"))}
	x := &request{method: "PUT", fields: [][2]string{{"Content-Type", "image/png"}}}
	d := api.Decision{Tags: []string{"kept"}, State: "kept", TTL: time.Minute}
	p.Route(x, api.OpWrite, []byte("a"), 5, &d)
	p.TTL(x, []byte("a"), 5, &d)
	if d.Deny != 0 || d.NoStore || d.TTL != 24*time.Hour || d.State != "kept" || !slices.Equal(d.Tags, []string{"kept"}) {
		t.Errorf("an image: %+v", d)
	}
	d = api.Decision{}
	p.Route(&request{method: "GET", fields: [][2]string{{"x-tenant", "A B"}}}, api.OpRead, []byte("a"), 0, &d)
	if d.Deny != 400 || d.Reason != "bad tenant" {
		t.Errorf("a malformed tenant: %+v", d)
	}
}

// TestItemLifetimes: no lifetime of a hook turns into the engine's "for ever".
func TestItemLifetimes(t *testing.T) {
	none := hooks.Decision{TierLifetimes: [3]uint32{abi.AsComputed, abi.AsComputed, abi.AsComputed}}
	f := func(change func(*hooks.Decision), ttl, l1 time.Duration) {
		t.Helper()
		out, d := none, api.Decision{TTL: time.Minute}
		change(&out)
		lifetimes(&out, &d)
		if d.TTL != ttl || d.L1TTL != l1 {
			t.Errorf("lifetimes %v and %v, want %v and %v", d.TTL, d.L1TTL, ttl, l1)
		}
	}
	f(func(*hooks.Decision) {}, time.Minute, 0)
	f(func(o *hooks.Decision) { o.LifetimeSet, o.Lifetime = true, 5 }, 5*time.Second, 0)
	f(func(o *hooks.Decision) { o.LifetimeSet, o.Lifetime = true, 0 }, time.Millisecond, 0)
	f(func(o *hooks.Decision) { o.TierLifetimes[0], o.TierLifetimes[2] = 0, 7 }, 7*time.Second, time.Millisecond)
}

func TestMemoryHooks(t *testing.T) {
	h := examples(t, "evict-gdsf")
	s := newMemoryHooks(h)
	list := []item.Candidate{
		{Size: 1 << 20, Hits: 1, Idle: 60_000, Lifetime: item.NoLifetime},
		{Size: 1 << 10, Hits: 100, Idle: 1_000, Lifetime: item.NoLifetime},
		{Size: 1 << 10, Hits: 100, Idle: 1_000, Lifetime: 0}, // expired
	}
	got := s.Score([]int32{7}, list, 0.5)
	if len(got) != 4 || got[0] != 7 || got[3] >= got[1] || got[1] >= got[2] {
		t.Errorf("scores %v", got)
	}
	if got := newMemoryHooks(examples(t, "ttl-by-type")).Score([]int32{7}, list, 0.5); len(got) != 1 {
		t.Errorf("scores without an evict hook: %v", got)
	}
	admits := func(h *hookSet, newcomer int) (admit, ok bool) {
		return newMemoryHooks(h).Admit(list[newcomer], list[1-newcomer:2-newcomer], 0.5)
	}
	if admit, ok := admits(h, 1); !admit || !ok {
		t.Errorf("small and often used: admitted %v, %v", admit, ok)
	}
	if admit, ok := admits(h, 0); admit || !ok {
		t.Errorf("large and seldom used: admitted %v, %v", admit, ok)
	}
	if _, ok := admits(examples(t, "ttl-by-type"), 0); ok {
		t.Error("an answer without an admit hook")
	}
}

// TestNoHooksCostNothing: without hooks a request pays one atomic load.
func TestNoHooksCostNothing(t *testing.T) {
	h := &hookSet{}
	p := newPolicy(h)
	x := &request{method: "GET", target: "/"}
	in, out, d := proxy.RouteInput{Request: x}, proxy.RouteDecision{}, api.Decision{}
	id := []byte("a")
	if n := testing.AllocsPerRun(100, func() {
		sitePolicy{p}.Route(&in, &out)
		itemPolicy{p}.Route(x, api.OpRead, id, 0, &d)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkRoute(b *testing.B) {
	run := func(name string, h *hookSet) {
		b.Run(name, func(b *testing.B) {
			p := sitePolicy{newPolicy(h)}
			in := proxy.RouteInput{
				Site: "shop", Request: &request{method: "GET", target: "/a"}, Scheme: "https", Host: []byte("shop.example"), Target: []byte("/a"),
			}
			b.ReportAllocs()
			for b.Loop() {
				var out proxy.RouteDecision
				p.Route(&in, &out)
			}
		})
	}
	run("no hook", &hookSet{})
	run("route-header", examples(b, "route-header"))
}

// TestTablesOfPrefixes: [[l3_table]] reaches the engine, which makes the table
// in the background.
func TestTablesOfPrefixes(t *testing.T) {
	f := newReloadFixture(t, "[[l3_table]]\nprefix = \"shop/\"\ntable = \"shop\"\n")
	for {
		list, err := f.n.engine.Mappings(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if len(list) == 1 && list[0].Prefix == "shop/" && list[0].Table == "shop" && !list[0].Moving {
			return
		}
		if t.Context().Err() != nil {
			t.Fatal(list)
		}
		runtime.Gosched()
	}
}
