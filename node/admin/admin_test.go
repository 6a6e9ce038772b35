package admin_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"go.uber.org/goleak"

	"github.com/edgenode/edgenode/node/admin"
	"github.com/edgenode/edgenode/node/problem"
	"github.com/edgenode/edgenode/tiers"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// exchange is a request and what was answered.
type exchange struct {
	method, target, host string
	fields               map[string]string
	remote               bool

	code int
	head []string
	out  bytes.Buffer
	done int
}

func request(line string, fields ...string) *exchange {
	method, target, _ := strings.Cut(line, " ")
	x := &exchange{method: method, target: target, host: "localhost:8081", fields: map[string]string{}}
	for _, f := range fields {
		name, value, _ := strings.Cut(f, ": ")
		x.fields[name] = value
	}
	return x
}

func (x *exchange) Method() string           { return x.method }
func (x *exchange) Target() []byte           { return []byte(x.target) }
func (x *exchange) Host() []byte             { return []byte(x.host) }
func (x *exchange) Scheme() string           { return "http" }
func (x *exchange) Body() io.Reader          { return strings.NewReader("") }
func (x *exchange) Local() bool              { return !x.remote }
func (x *exchange) Context() context.Context { return context.Background() }
func (x *exchange) Header(name string) []byte {
	if v, ok := x.fields[name]; ok {
		return []byte(v)
	}
	return nil
}
func (x *exchange) Status(code int)        { x.code = code }
func (x *exchange) Add(name, value string) { x.head = append(x.head, name+": "+value) }
func (x *exchange) Send(body []byte) error {
	x.done++
	if x.method != "HEAD" {
		x.out.Write(body)
	}
	return nil
}
func (x *exchange) Stream(int64) (io.Writer, error) { x.done++; return &x.out, nil }

func (x *exchange) has(line string) bool {
	for _, h := range x.head {
		if strings.HasPrefix(h, line) {
			return true
		}
	}
	return false
}

// engine is as healthy as it is told to be.
type engine struct {
	health tiers.Health
	ready  bool
}

func (e *engine) Health(context.Context) tiers.Health { return e.health }
func (e *engine) Ready() bool                         { return e.ready }
func (e *engine) PendingItems() int64                 { return 2 }

// gate knows one token.
type gate struct{}

func (gate) Admin(authorization []byte) *problem.Problem {
	switch string(authorization) {
	case "Bearer admin":
		return nil
	case "":
		return &problem.Problem{Kind: problem.Unauthorized, Challenge: "Bearer"}
	}
	return &problem.Problem{Kind: problem.ScopeMissing}
}

type harness struct {
	testing.TB
	*engine
	admin *admin.Admin
}

func newHarness(t testing.TB, change ...func(*admin.Options)) *harness {
	t.Helper()
	e := &engine{health: tiers.Health{Verdict: "ok", State: "running"}, ready: true}
	o := admin.Options{Engine: e, Loopback: true}
	for _, f := range change {
		f(&o)
	}
	a, err := admin.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return &harness{TB: t, engine: e, admin: a}
}

// want serves a request and compares its status and, for errors, its problem.
func (h *harness) want(x *exchange, code int, kind string) *exchange {
	h.Helper()
	h.admin.Serve(x)
	_, rest, _ := strings.Cut(x.out.String(), "urn:edgenode:problem:")
	if got, _, _ := strings.Cut(rest, `"`); x.done != 1 || x.code != code || got != kind {
		h.Errorf("%s %s: answered %d times, %d %s, want %d %s\n%s", x.method, x.target, x.done, x.code, got, code, kind, x.out.String())
	}
	return x
}

func TestProbes(t *testing.T) {
	h := newHarness(t)
	h.want(request("GET /livez"), 200, "")
	h.want(request("GET /readyz"), 200, "")
	h.ready = false
	h.want(request("GET /readyz"), 503, "")
	h.want(request("HEAD /readyz"), 503, "")
	h.want(request("GET /livez?verbose"), 200, "")
	h.want(request("GET /nowhere"), 404, "unknown-path")
	h.want(request("GET /livez/"), 404, "unknown-path")
	if x := h.want(request("DELETE /livez", "Content-Type: application/json"), 405, "method-not-allowed"); !x.has("Allow: GET, HEAD") {
		t.Errorf("405 with %q", x.head)
	}
	stopping := newHarness(t, func(o *admin.Options) { o.Ready = func() bool { return false } })
	stopping.want(request("GET /readyz"), 503, "")
}

func TestHealth(t *testing.T) {
	h := newHarness(t)
	f := func(verdict string, code int) {
		t.Helper()
		h.health.Verdict = verdict
		h.want(request("GET /healthz"), code, "")
	}
	f("ok", 200)
	f("degraded", 200)
	f("down", 503)
	f("", 503)

	h.health = tiers.Health{
		Verdict: "degraded", Reasons: []string{"l3: no answer"}, L3: &tiers.BackendHealth{Error: "no answer", LatencyMS: 1.5, Since: 7},
		L2: &tiers.BackendHealth{OK: true, Circuit: "closed", LatencyMS: 0.5}, L2Trusted: true,
		Merkle:         &tiers.TreeHealth{State: "following", LagChanges: 4},
		JournalRecords: 3, JournalQuota: 100, Pressure: 0.5, PressureLevel: "normal", L1Max: 9,
	}
	var got struct {
		Verdict string
		Ready   bool
		Reasons []string
		L2, L3  *struct {
			OK      bool
			Error   string
			Latency float64 `json:"latency_ms"`
			Since   int64   `json:"since_ms"`
			Circuit string
			Trusted *bool
		}
		Merkle *struct {
			State string
			Lag   uint64 `json:"lag_changes"`
		}
		Journal struct {
			Records int64
			Pending int64 `json:"pending_items"`
		}
		L1 struct {
			Max int64 `json:"max_bytes"`
		}
	}
	if err := json.Unmarshal(h.want(request("GET /healthz"), 200, "").out.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if got.Merkle == nil || got.Merkle.State != "following" || got.Merkle.Lag != 4 {
		t.Errorf("the tree: %+v", got.Merkle)
	}
	if got.Verdict != "degraded" || !got.Ready || got.L3.Error != "no answer" || got.L3.Since != 7 || got.Journal.Records != 3 || got.L1.Max != 9 {
		t.Errorf("got %+v", got)
	}
	if got.Journal.Pending != 2 || got.L2 == nil || got.L2.Trusted == nil || !*got.L2.Trusted || got.L2.Circuit != "closed" || got.L2.Latency != 0.5 || got.L3.Trusted != nil {
		t.Errorf("got %+v, L2 %+v, L3 %+v", got, got.L2, got.L3)
	}
	h.health.L2 = nil
	if x := h.want(request("GET /healthz"), 200, ""); !strings.Contains(x.out.String(), `"l2": null`) {
		t.Errorf("without Redis: %s", x.out.String())
	}
}

func TestMetrics(t *testing.T) {
	set := metrics.NewSet()
	set.NewCounter("edgenode_test_total").Set(7)
	h := newHarness(t, func(o *admin.Options) { o.Metrics = set })
	x := h.want(request("GET /metrics"), 200, "")
	for _, want := range []string{"edgenode_test_total 7\n", "go_goroutines "} {
		if !strings.Contains(x.out.String(), want) {
			t.Errorf("metrics lack %q", want)
		}
	}
	if !x.has("Content-Type: text/plain; version=0.0.4") {
		t.Errorf("fields %q", x.head)
	}
}

func TestJSONPages(t *testing.T) {
	h := newHarness(t, func(o *admin.Options) {
		o.Config = func() any { return map[string]string{"data_dir": "x<y"} }
		o.Hooks = func() any { return []string{} }
	})
	if got := h.want(request("GET /config"), 200, "").out.String(); got != "{\n  \"data_dir\": \"x<y\"\n}\n" {
		t.Errorf("got %s", got)
	}
	if got := h.want(request("GET /hooks"), 200, "").out.String(); got != "[]\n" {
		t.Errorf("got %s", got)
	}
	odd := newHarness(t, func(o *admin.Options) { o.Hooks = func() any { return func() {} } })
	odd.want(request("GET /hooks"), 500, "internal")
	odd.want(request("GET /config"), 404, "unknown-path") // not given, not there
}

func TestReload(t *testing.T) {
	const as = "Content-Type: application/json"
	var out admin.Outcome
	h := newHarness(t, func(o *admin.Options) {
		o.Reload = func(context.Context) admin.Outcome { return out }
	})
	out = admin.Outcome{Result: map[string][]string{"applied": {"durability"}, "needs_restart": {"data_dir"}}}
	if got := h.want(request("POST /reload", as), 200, "").out.String(); !strings.Contains(got, "needs_restart") {
		t.Errorf("got %s", got)
	}
	out = admin.Outcome{Err: errors.New("2 faults"), Faults: []string{"line 3: unknown key", "line 9: bad unit"}}
	if got := h.want(request("POST /reload", as), 422, "bad-configuration").out.String(); !strings.Contains(got, `"faults":["line 3: unknown key","line 9: bad unit"]`) {
		t.Errorf("got %s", got)
	}
	out = admin.Outcome{Err: errors.New("busy"), Running: true}
	h.want(request("POST /reload", as), 409, "reload-running")
	h.want(request("GET /reload"), 405, "method-not-allowed")
}

func TestOneReloadAtATime(t *testing.T) {
	begun, end := make(chan struct{}), make(chan struct{})
	h := newHarness(t, func(o *admin.Options) {
		o.Reload = func(context.Context) admin.Outcome {
			close(begun)
			<-end
			return admin.Outcome{}
		}
	})
	first, done := request("POST /reload", "Content-Type: application/json"), make(chan struct{})
	go func() {
		defer close(done)
		h.admin.Serve(first)
	}()
	<-begun
	h.want(request("POST /reload", "Content-Type: application/json"), 409, "reload-running")
	close(end)
	<-done
	if first.code != 200 {
		t.Errorf("the first reload got %d", first.code)
	}
}

func TestGuardOnLoopback(t *testing.T) {
	h := newHarness(t, func(o *admin.Options) { o.Reload = func(context.Context) admin.Outcome { return admin.Outcome{} } })
	f := func(line, host string, remote bool, code int, kind string, fields ...string) {
		t.Helper()
		x := request(line, fields...)
		x.host, x.remote = host, remote
		h.want(x, code, kind)
	}
	f("GET /healthz", "127.0.0.1:8081", false, 200, "")
	f("GET /healthz", "evil.example", false, 403, "not-local")
	f("GET /healthz", "localhost", true, 403, "not-local") // forwarded by a proxy on this machine
	f("GET /livez", "evil.example", false, 403, "not-local")
	f("GET /healthz", "localhost:8081", false, 200, "", "Origin: http://localhost:8081")
	f("GET /healthz", "localhost:8081", false, 403, "foreign-origin", "Origin: http://localhost:3000")
	f("GET /healthz", "localhost:8081", false, 403, "foreign-origin", "Origin: null")
	f("POST /reload", "localhost:8081", false, 200, "", "Content-Type: application/json; charset=utf-8")
	f("POST /reload", "localhost:8081", false, 200, "", "Content-Type: Application/TOML")
	f("POST /reload", "localhost:8081", false, 200, "", "Content-Type: application/wasm")
	f("POST /reload", "localhost:8081", false, 415, "unsupported-media-type")
	f("POST /reload", "localhost:8081", false, 415, "unsupported-media-type", "Content-Type: text/plain")
	f("POST /reload", "localhost:8081", false, 415, "unsupported-media-type", "Content-Type: application/x-www-form-urlencoded")
	f("POST /reload", "localhost:8081", false, 403, "foreign-origin", "Content-Type: application/json", "Origin: https://evil.example")
}

func TestGuardElsewhere(t *testing.T) {
	h := newHarness(t, func(o *admin.Options) { o.Loopback, o.Gate = false, gate{} })
	f := func(h *harness, line string, code int, kind string, fields ...string) {
		t.Helper()
		x := request(line, fields...)
		x.host, x.remote = "edge.example:8081", true
		h.want(x, code, kind)
	}
	f(h, "GET /livez", 200, "")
	f(h, "GET /readyz", 200, "")
	f(h, "GET /healthz", 401, "unauthorized")
	f(h, "GET /nowhere", 401, "unauthorized") // who is not let in learns nothing
	f(h, "GET /healthz", 403, "scope-missing", "Authorization: Bearer reader")
	f(h, "GET /healthz", 200, "", "Authorization: Bearer admin")
	f(h, "GET /healthz", 403, "foreign-origin", "Authorization: Bearer admin", "Origin: https://evil.example")

	certs := newHarness(t, func(o *admin.Options) { o.Loopback, o.ClientCertificates = false, true })
	f(certs, "GET /healthz", 200, "")
	f(certs, "GET /healthz", 403, "foreign-origin", "Origin: https://evil.example")
}

func TestOptions(t *testing.T) {
	f := func(o admin.Options, want string) {
		t.Helper()
		if _, err := admin.New(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	f(admin.Options{Loopback: true}, "no engine")
	f(admin.Options{Engine: &engine{}}, "needs tokens or client certificates")
	f(admin.Options{Engine: &engine{}, Loopback: true, ProfileMax: -1}, "longest profile")
	f(admin.Options{Engine: &engine{}, Loopback: true, Pages: []admin.Page{{Path: "/livez", Methods: "GET", Serve: func(admin.Exchange) {}}}}, `"/livez" is there twice`)
	f(admin.Options{Engine: &engine{}, Loopback: true, Pages: []admin.Page{{Path: "/x"}}}, `"/x" is there twice or not complete`)
}

func TestIndexAndFurtherPages(t *testing.T) {
	h := newHarness(t, func(o *admin.Options) {
		o.Pages = []admin.Page{{Path: "/top", Methods: "GET", About: "hot <keys>", Serve: func(x admin.Exchange) {
			x.Status(200)
			if err := x.Send([]byte("top")); err != nil {
				panic(err)
			}
		}}}
	})
	x := h.want(request("GET /"), 200, "")
	for _, want := range []string{`<a href="/healthz">`, `<a href="/debug/pprof/">`, "hot &lt;keys&gt;"} {
		if !strings.Contains(x.out.String(), want) {
			t.Errorf("the index lacks %s", want)
		}
	}
	if !x.has("Content-Security-Policy: default-src 'none'") {
		t.Errorf("fields %q", x.head)
	}
	if got := h.want(request("GET /top"), 200, "").out.String(); got != "top" {
		t.Errorf("got %q", got)
	}
}

func TestProfiles(t *testing.T) {
	h := newHarness(t, func(o *admin.Options) { o.ProfileMax = 10 * time.Second })
	if x := h.want(request("GET /debug/pprof/"), 200, ""); !strings.Contains(x.out.String(), "goroutine") {
		t.Errorf("index of profiles: %s", x.out.String())
	}
	if x := h.want(request("GET /debug/pprof/goroutine?debug=1"), 200, ""); !strings.Contains(x.out.String(), "goroutine profile:") {
		t.Errorf("goroutines: %s", x.out.String())
	}
	if x := h.want(request("GET /debug/pprof/heap"), 200, ""); x.out.Len() == 0 || !x.has("Content-Type: application/octet-stream") {
		t.Errorf("heap: %q", x.head)
	}
	h.want(request("GET /debug/pprof/cmdline"), 200, "")
	h.want(request("GET /debug/pprof/nothing"), 404, "unknown-path")
	for _, seconds := range []string{"11", "-1", "x", "NaN", "1e9"} {
		for _, page := range []string{"profile", "trace", "heap"} {
			h.want(request(fmt.Sprintf("GET /debug/pprof/%s?seconds=%s", page, seconds)), 400, "bad-parameter")
		}
	}
	if x := h.want(request("GET /debug/pprof/trace?seconds=0.01"), 200, ""); x.out.Len() == 0 {
		t.Error("an empty trace")
	}
	h.want(request("POST /debug/pprof/symbol", "Content-Type: application/json"), 405, "method-not-allowed")
	h.want(request("GET /debug/pprof/%zz"), 400, "bad-path")
}
