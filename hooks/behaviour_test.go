package hooks_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/edgenode/edgenode/hooks"
	"github.com/edgenode/edgenode/hooks/abi"
	"github.com/edgenode/edgenode/hooks/hooktest"
)

// clock is a clock that stands until it is moved.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	c.now = c.now.Add(d)
	c.mu.Unlock()
}

// failing traps when the key is not empty; its instances survive by saying so.
func failing() *hooktest.Module {
	return hooktest.Guest(abi.Route, hooktest.Code([]byte{0x41, 0, 0x28, 2}, hooktest.U32(nil, hooktest.Buffer+abi.OffKeyLen),
		[]byte{0x04, hooktest.I64}, hooktest.Result(abi.GuestError, 0, 0), []byte{0x05}, hooktest.Result(abi.Pass, 0, 0), []byte{0x0b}))
}

func TestBreaker(t *testing.T) {
	c := &clock{now: time.Unix(1_700_000_000, 0)}
	set := metrics.NewSet()
	h := open(t, hooks.Options{Now: c.Now, Metrics: set, FaultLimit: 3, FaultWindow: 10 * time.Second, BreakerOpen: time.Second, BreakerMaxOpen: 3 * time.Second})
	load(t, h, hooks.Spec{Name: "x", Bytes: failing().Bytes(), OnFault: hooks.OnFaultBypass})
	var d hooks.Decision
	fault := func() { t.Helper(); h.Route(request("bad", nil), &d) }
	works := func(want bool) {
		t.Helper()
		h.Route(request("", nil), &d)
		if got := !d.Faulted; got != want || d.Verdict != hooks.Pass {
			t.Fatalf("hook in use: %v, want %v (verdict %v)", got, want, d.Verdict)
		}
		if got := h.Report().Modules[0].Open; got == want {
			t.Fatalf("report says open: %v", got)
		}
	}
	fault()
	fault()
	c.add(11 * time.Second) // these two are forgotten
	fault()
	fault()
	works(true)
	fault()
	works(false) // the third within the window
	c.add(999 * time.Millisecond)
	works(false)
	c.add(time.Millisecond)
	works(true) // on trial
	fault()
	works(false) // one fault on trial is enough, and twice as long
	c.add(1999 * time.Millisecond)
	works(false)
	c.add(time.Millisecond)
	works(true)
	fault()
	c.add(2999 * time.Millisecond) // not 4 s: at most 3
	works(false)
	c.add(time.Millisecond)
	works(true)
	c.add(11 * time.Second) // trial passed: back to three faults and one second
	fault()
	works(true)
	if got := counter(t, set, `edgenode_hooks_breaker_opened_total{hook="x"}`); got != 3 {
		t.Errorf("opened %d times, want 3", got)
	}
}

// TestRecycling holds that an instance is replaced, without a fault, when its
// memory has grown or its calls are up.
func TestRecycling(t *testing.T) {
	grow := hooktest.Guest(abi.Route, hooktest.Code(hooktest.ConstI32(8), []byte{0x40, 0, 0x1a}, pass))
	f := func(what string, spec hooks.Spec) {
		t.Helper()
		set := metrics.NewSet()
		h := open(t, hooks.Options{Metrics: set, Instances: 1})
		spec.Name = "x"
		load(t, h, spec)
		var d hooks.Decision
		eventually(t, what, func() bool {
			h.Route(request("k", nil), &d)
			if d.Verdict != hooks.Pass {
				t.Fatalf("%s: got %v, want pass", what, d.Verdict)
			}
			return counter(t, set, `edgenode_hooks_recycled_total{hook="x"}`) >= 3
		})
		if got := counter(t, set, `edgenode_hooks_faults_total{hook="x",reason="trap"}`); got != 0 {
			t.Errorf("%s: %d faults", what, got)
		}
	}
	f("memory", hooks.Spec{Bytes: grow.Bytes()})
	f("calls", hooks.Spec{Bytes: hooktest.Guest(abi.Route, pass).Bytes(), RecycleCalls: 10})
}

func TestMatch(t *testing.T) {
	module := hooktest.Guest(abi.Route, pass).Bytes()
	f := func(m hooks.Match, site, key string, want bool) {
		t.Helper()
		h := open(t, hooks.Options{Instances: 1})
		load(t, h, hooks.Spec{Name: "x", Bytes: module, Match: m})
		req := request(key, nil)
		req.Site = site
		if site == "" {
			req.Flags = 0
		}
		var d hooks.Decision
		if got := h.Route(req, &d); got != want {
			t.Errorf("%+v on %q %q: %v, want %v", m, site, key, got, want)
		}
	}
	f(hooks.Match{}, "", "id", true)
	f(hooks.Match{PathPrefix: "/"}, "", "id", true)
	f(hooks.Match{Sites: []string{"a", "b"}}, "b", "http://h/", true)
	f(hooks.Match{Sites: []string{"a"}}, "b", "http://h/", false)
	f(hooks.Match{Sites: []string{"a"}}, "", "id", false)
	f(hooks.Match{PathPrefix: "/img"}, "a", "http://h/img/x", true)
	f(hooks.Match{PathPrefix: "/img"}, "a", "http://h/img", true)
	f(hooks.Match{PathPrefix: "/img"}, "a", "http://h/img?x", true)
	f(hooks.Match{PathPrefix: "/img"}, "a", "http://h/images", false)
	f(hooks.Match{PathPrefix: "/img/"}, "a", "http://h/img/x", true)
	f(hooks.Match{PathPrefix: "/img"}, "a", "http://h", false)
	f(hooks.Match{PathPrefix: "uk/"}, "", "uk/1", true)
}

// answer is a route guest that answers with records.
func answer(res abi.Result, records ...any) []byte {
	var out []byte
	for i := 0; i < len(records); i += 2 {
		out = abi.AppendRecord(out, uint16(records[i].(int)), []byte(records[i+1].(string)))
	}
	return hooktest.WithOutput(abi.Route, res, abi.AppendEnd(out)).Bytes()
}

// TestChain holds that later modules replace, tags add up, and deny ends it.
func TestChain(t *testing.T) {
	with := func(pool uint32) abi.Result { return abi.MakeResult(abi.OK, abi.ResultRecords, pool) }
	h := open(t, hooks.Options{})
	first := hooks.Spec{Name: "a", Pools: []string{"p", "q"}, Bytes: answer(with(1), abi.RecTag, "one", abi.RecKeyAddition, "x", abi.RecTiers, "\x01\x03", abi.RecReuse, "\x3c\x00\x00\x00")}
	second := hooks.Spec{Name: "b", Pools: []string{"r"}, Bytes: answer(with(0), abi.RecTag, "two", abi.RecKeyAddition, "y", abi.RecReuse, "\x0a\x00\x00\x00")}
	load(t, h, first, second)
	var d hooks.Decision
	h.Route(request("http://h/", nil), &d)
	if d.Pool != "p" || string(d.KeyAddition) != "y" || len(d.Tags) != 2 || string(d.Tags[0]) != "one" || string(d.Tags[1]) != "two" ||
		!d.TiersSet || d.ReadTiers != abi.L1 || d.WriteTiers != abi.L1|abi.L2 || d.ReuseSeconds != 10 {
		t.Errorf("got %+v", d)
	}
	deny := hooks.Spec{Name: "d", Bytes: answer(abi.MakeResult(abi.Deny, 1, 0), abi.RecStatus, "\xad\x01slow")}
	load(t, h, first, deny, second)
	h.Route(request("http://h/", nil), &d)
	if d.Verdict != hooks.Deny || d.Status != 429 || string(d.Reason) != "slow" || len(d.Tags) != 1 || d.ReuseSeconds != 0 {
		t.Errorf("deny: got %+v", d)
	}
	now := hooks.Spec{Name: "n", Bytes: answer(abi.MakeResult(abi.OK, 1, 0), abi.RecAnswer, "\xc8\x00\x01\x00\x02\x00\x00\x00\x01\x00\x01\x00abhi")}
	load(t, h, now, deny)
	h.Route(request("http://h/", nil), &d)
	if d.Verdict != hooks.Answer || d.AnswerStatus != 200 || string(d.AnswerBody) != "hi" || len(d.AnswerFields) != 1 || string(d.AnswerFields[0].Value) != "b" {
		t.Errorf("answer: got %+v", d)
	}
	load(t, h, first, hooks.Spec{Name: "e", Bytes: hooktest.Guest(abi.Route, hooktest.Result(abi.Default, 0, 0)).Bytes()})
	if h.Route(request("http://h/", nil), &d); d.Pool != "p" || d.ReuseSeconds != 0 {
		t.Errorf("default: got %+v", d)
	}
}

// echo is a route guest that answers with n bytes of its input, from off on, as
// key addition.
func echo(manifest string, off, n int) []byte {
	out := hooktest.Buffer + abi.InputBytes
	m := hooktest.Guest(abi.Route, hooktest.Code(
		hooktest.ConstI32(int32(out)), hooktest.ConstI32(int32(n<<16|abi.RecKeyAddition)), []byte{0x36, 2, 0},
		hooktest.ConstI32(int32(out+4)), hooktest.ConstI32(int32(hooktest.Buffer+off)), hooktest.ConstI32(int32(n)), []byte{0xfc, 10, 0, 0},
		hooktest.ConstI32(int32(out+(4+n+7)&^7)), hooktest.ConstI32(0), []byte{0x36, 2, 0},
		hooktest.Result(abi.OK, abi.ResultRecords, 0)))
	m.Manifest = manifest
	return m.Bytes()
}

// TestLaterModulesSeeChanges holds that a module sees what earlier ones decided.
func TestLaterModulesSeeChanges(t *testing.T) {
	h := open(t, hooks.Options{})
	change := answer(abi.MakeResult(abi.OK, 1, 0), abi.RecTarget, "/new?x", abi.RecTiers, "\x04\x04",
		abi.RecSetRequest, "\x03\x00x-aset", abi.RecRemove, "\x00\x00X-B")
	load(t, h, hooks.Spec{Name: "a", Bytes: change}, hooks.Spec{Name: "b", Bytes: echo(`{"headers":["x-a","x-b"]}`, 0, 64+8+24)})
	var d hooks.Decision
	h.Route(request("http://host.ex/old", lines{{"x-a", []byte("was"), false}, {"x-b", []byte("gone"), false}}), &d)
	in := d.KeyAddition
	if len(in) != 96 {
		t.Fatalf("got %d bytes", len(in))
	}
	if in[abi.OffTiers] != byte(abi.L3) {
		t.Errorf("tiers %d, want %d", in[abi.OffTiers], abi.L3)
	}
	if in[abi.OffCount] != 1 || string(in[72:]) != "http://host.ex/new?xset"+"\x00" {
		t.Errorf("%d headers, key and values %q", in[abi.OffCount], in[72:])
	}
}

type store map[string]string

func (s store) Get(dst, key []byte) ([]byte, bool) {
	v, ok := s[string(key)]
	return append(dst, v...), ok
}

// TestHostFunctions calls each from one guest and looks at what came of it.
func TestHostFunctions(t *testing.T) {
	in, out := []byte{hooktest.I32}, []byte{hooktest.I32}
	in4, in5 := slices.Repeat(in, 4), slices.Repeat(in, 5)
	const text = 8192 // names, and where results go
	at := func(off, n int32) []byte {
		return hooktest.Code(hooktest.ConstI32(text+off), hooktest.ConstI32(n))
	}
	to := at(100, 16)
	m := hooktest.Guest(abi.Route, hooktest.Code(
		hooktest.ConstI32(2), at(0, 5), []byte{0x10, 0}, // log
		hooktest.ConstI32(0), hooktest.ConstI64(3), []byte{0x10, 1}, // metric_add
		hooktest.ConstI32(1), []byte{0x44, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f}, []byte{0x10, 2}, // metric_observe
		at(5, 4), []byte{0x10, 7, 0x1a}, // tag_add
		at(9, 3), []byte{0x10, 7, 0x1a}, // refused: a comma
		hooktest.ConstI32(text+99), hooktest.ConstI32(0), at(12, 3), to, []byte{0x10, 4, 0x3a, 0, 0}, // header, its length at 99
		at(15, 2), hooktest.ConstI32(text+116), hooktest.ConstI32(8), []byte{0x10, 5, 0x1a}, // config
		at(17, 2), hooktest.ConstI32(text+124), hooktest.ConstI32(2), []byte{0x10, 6, 0x1a}, // kv_get, cut to 2
		hooktest.ConstI32(text+126), at(9, 3), to, []byte{0x10, 5, 0x3a, 0, 0}, // config that is absent: -1 at 126
		hooktest.ConstI32(text+128), []byte{0x10, 3, 0x37, 3, 0}, // now_ms
		hooktest.ConstI32(hooktest.Buffer+abi.InputBytes), hooktest.ConstI32(40<<16|abi.RecKeyAddition), []byte{0x36, 2, 0},
		hooktest.ConstI32(hooktest.Buffer+abi.InputBytes+4), hooktest.ConstI32(text+99), hooktest.ConstI32(40), []byte{0xfc, 10, 0, 0},
		hooktest.Result(abi.OK, abi.ResultRecords, 0)))
	// the buffers of the guest and this text overlap: the block is read before
	m.Imports = []hooktest.Import{
		{Module: "edge", Name: "log", Params: slices.Repeat(in, 3)},
		{Module: "edge", Name: "metric_add", Params: []byte{hooktest.I32, hooktest.I64}},
		{Module: "edge", Name: "metric_observe", Params: []byte{hooktest.I32, hooktest.F64}},
		{Module: "edge", Name: "now_ms", Results: []byte{hooktest.I64}},
		{Module: "edge", Name: "header", Params: in5, Results: out},
		{Module: "edge", Name: "config", Params: in4, Results: out},
		{Module: "edge", Name: "kv_get", Params: in4, Results: out},
		{Module: "edge", Name: "tag_add", Params: slices.Repeat(in, 2), Results: out},
	}
	m.Data, m.DataAt = []byte("hellotag1a,bx-acfkk"), text
	m.Manifest = `{"capabilities":["header","kv_get"],"metrics":[{"name":"seen","kind":"counter"},{"name":"took","kind":"histogram"}]}`
	var log bytes.Buffer
	set := metrics.NewSet()
	h := open(t, hooks.Options{Instances: 1, KV: store{"kk": "value"}, Metrics: set, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	load(t, h, hooks.Spec{Name: "x", Bytes: m.Bytes(), Config: map[string]any{"cf": map[string]int{"n": 1}}, Grant: []string{"header", "kv_get"}})
	var d hooks.Decision
	req := request("k", lines{{"x-a", []byte("first"), false}, {"x-a", []byte("second"), false}})
	if h.Route(req, &d); d.Faulted || d.Verdict != hooks.Continue || len(d.KeyAddition) != 40 {
		t.Fatalf("got %+v\n%s", d, log.String())
	}
	got := d.KeyAddition
	want := "\x05first" + strings.Repeat("\x00", 11) + `{"n":1}` + "\x00" + "va" + "\xff" + "\x00" + "\x00\x68\xe5\xcf\x8b\x01\x00\x00"
	if string(got[:37]) != want {
		t.Errorf("got  %q\nwant %q", got[:37], want)
	}
	if len(d.Tags) != 1 || string(d.Tags[0]) != "tag1" {
		t.Errorf("tags %q, want tag1", d.Tags)
	}
	if !strings.Contains(log.String(), "level=WARN") || !strings.Contains(log.String(), "text=hello") {
		t.Errorf("log: %s", log.String())
	}
	if got := counter(t, set, `edgenode_hooks_guest_total{hook="x",name="seen"}`); got != 3 {
		t.Errorf("counter %d, want 3", got)
	}
	if got := counter(t, set, `edgenode_hooks_guest_value_count{hook="x",name="took"}`); got != 1 {
		t.Errorf("histogram count %d, want 1", got)
	}
}

// TestWholeValueIsPaid holds that kv_get of a large value is paid for by its size,
// not by what fits in the guest's buffer.
func TestWholeValueIsPaid(t *testing.T) {
	set := metrics.NewSet()
	m := hooktest.Guest(abi.Route, hooktest.Code(hooktest.ConstI32(8192), hooktest.ConstI32(2), hooktest.ConstI32(8200), hooktest.ConstI32(8), []byte{0x10, 0, 0x1a}, pass))
	m.Imports, m.Manifest = []hooktest.Import{kvGet}, `{"capabilities":["kv_get"]}`
	m.Data, m.DataAt = []byte("kk"), 8192
	h := open(t, hooks.Options{Instances: 2, Metrics: set, KV: store{"kk": strings.Repeat("v", 1<<20)}})
	load(t, h, hooks.Spec{Name: "x", Bytes: m.Bytes(), Grant: []string{"kv_get"}})
	var d hooks.Decision
	h.Route(request("k", nil), &d)
	if got := counter(t, set, `edgenode_hooks_faults_total{hook="x",reason="fuel"}`); got != 1 {
		t.Errorf("a value of 1 MiB for 20,000 units: %d faults, want 1", got)
	}
}

func TestEvictAndAdmit(t *testing.T) {
	h := open(t, hooks.Options{Instances: 1})
	load(t, h, hooks.Spec{Name: "g", Bytes: example(t, "evict-gdsf")})
	c := make([]abi.Candidate, 200) // more than fit in one call
	for i := range c {
		c[i] = abi.Candidate{Size: 1000, Hits: uint32(i), LeftSeconds: abi.NoLifetime}
	}
	scores, ok := h.Score([]int32{7}, c, 0.9, 1)
	if !ok || len(scores) != 201 || scores[0] != 7 || !slices.IsSorted(scores[1:]) {
		t.Errorf("ok %v, %d scores, sorted %v", ok, len(scores), slices.IsSorted(scores[1:]))
	}
	if admit, ok := h.Admit(c[9], c[:3], 0.5, 1); !ok || !admit {
		t.Errorf("admit %v, ok %v, want true", admit, ok)
	}
	// A bad answer leaves the decision to the node, or to an earlier hook.
	for what, code := range map[string][]byte{
		"too few":     hooktest.Result(abi.OK, 0, 1),
		"flags":       hooktest.Result(abi.OK, 1, 3),
		"pass":        hooktest.Result(abi.Pass, 0, 3),
		"trap":        {0},
		"default":     hooktest.Result(abi.Default, 0, 0),
		"guest error": hooktest.Result(abi.GuestError, 0, 0),
	} {
		bad := hooks.Spec{Name: "bad", Bytes: hooktest.Guest(abi.Evict, code).Bytes()}
		load(t, h, bad)
		if got, ok := h.Score([]int32{7}, c[:3], 0, 1); ok || len(got) != 1 {
			t.Errorf("%s: scored %v", what, got)
		}
		load(t, h, hooks.Spec{Name: "g", Bytes: example(t, "evict-gdsf")}, bad)
		if got, ok := h.Score(nil, c[:3], 0, 1); !ok || len(got) != 3 {
			t.Errorf("%s: the earlier hook did not score: %v", what, got)
		}
	}
}

func TestSignature(t *testing.T) {
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	code := hooktest.Guest(abi.Route, pass).Bytes()
	path := filepath.Join(t.TempDir(), "x.wasm")
	write := func(name string, b []byte) {
		t.Helper()
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	h := open(t, hooks.Options{Instances: 1, TrustedKeys: map[string]ed25519.PublicKey{"ops": public}})
	f := func(what string, signature []byte, want string) {
		t.Helper()
		write(path, code)
		if signature != nil {
			write(path+".sig", signature)
		}
		_, err := h.Load(context.Background(), []hooks.Spec{{Name: "x", Path: path}})
		if want == "" && err != nil || want != "" && (!errors.Is(err, hooks.ErrSignature) || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: got %v, want %q", what, err, want)
		}
	}
	f("none", nil, "missing, signatures are required")
	f("good", hooks.Sign(code, "ops", private), "")
	f("other key", hooks.Sign(code, "eve", private), `key "eve" is not trusted`)
	f("other module", hooks.Sign([]byte("x"), "ops", private), "does not fit the module")
	f("garbage", []byte("ops ????"), "illegal base64")
	f("three words", []byte("a b c"), "must be one line")
	if _, err := hooks.Open(hooks.Options{RequireSigned: true}); err == nil {
		t.Error("signatures required without a key: accepted")
	}
}

func TestOptionsAreChecked(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	_, err := hooks.Open(hooks.Options{Instances: 9999, FaultLimit: 1000, CacheDir: dir})
	for _, want := range []string{"instances is 9999", "fault limit is 1000", "chmod 700"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want all faults, %q too", err, want)
		}
	}
}

func TestCacheDir(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "cache")
	for range 2 {
		h := open(t, hooks.Options{CacheDir: dir, Instances: 1})
		load(t, h, hooks.Spec{Name: "x", Bytes: example(t, "ttl-by-type")})
		if err := h.Close(); err != nil {
			t.Fatal(err)
		}
	}
	st, err := os.Stat(dir)
	if err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("mode %v, %v, want 0700", st.Mode().Perm(), err)
	}
}

func TestMetricsGoWithTheHost(t *testing.T) {
	set := metrics.NewSet()
	h := open(t, hooks.Options{Metrics: set})
	load(t, h, hooks.Spec{Name: "x", Bytes: hooktest.Guest(abi.Route, pass).Bytes()})
	var d hooks.Decision
	h.Route(request("k", nil), &d)
	if got := counter(t, set, `edgenode_hooks_calls_total{hook="x"}`); got != 1 {
		t.Errorf("%d calls, want 1", got)
	}
	if got := counter(t, set, "edgenode_hooks_generation"); got != 1 {
		t.Errorf("generation %d, want 1", got)
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	if names := set.ListMetricNames(); len(names) != 0 {
		t.Errorf("left behind: %v", names)
	}
	if h.Route(request("k", nil), &d) {
		t.Error("a closed host decided")
	}
	if _, err := h.Load(context.Background(), nil); !errors.Is(err, hooks.ErrClosed) {
		t.Errorf("load after close: %v", err)
	}
}

func TestInspect(t *testing.T) {
	info, err := hooks.Inspect(example(t, "route-header"))
	if err != nil {
		t.Fatal(err)
	}
	if info.Manifest.Name != "route-header" || !info.Manifest.Guards || info.FuelEntries != info.Functions || info.FuelLoops == 0 ||
		info.MeteredBytes <= 0 || len(info.Exports) != 5 || len(info.Problems) != 0 || info.MemoryBytes != 65536 {
		t.Errorf("got %+v", info)
	}
	m := hooktest.Guest(abi.Route, pass)
	m.Imports, m.Manifest = []hooktest.Import{kvGet}, `{"capabilities":["kv_get"]}`
	if info, err = hooks.Inspect(m.Bytes()); err != nil || len(info.Problems) != 1 {
		t.Errorf("got %+v, %v, want one problem", info, err)
	}
	if _, err := hooks.Inspect([]byte("x")); err == nil {
		t.Error("inspected garbage")
	}
}

// TestNoAllocations holds the promise of Route, TTL and Score.
func TestNoAllocations(t *testing.T) {
	h := open(t, hooks.Options{Instances: 1})
	load(t, h, hooks.Spec{Name: "r", Bytes: example(t, "route-header"), Pools: []string{"eu", "us"}, OnFault: "deny"},
		hooks.Spec{Name: "t", Bytes: example(t, "ttl-by-type")}, hooks.Spec{Name: "e", Bytes: example(t, "evict-gdsf")})
	req := request("https://shop.example/static/app.js?v=12", lines{{"x-tenant", []byte("eu-1"), false}, {"content-type", []byte("text/css"), true}})
	c := make([]abi.Candidate, 64)
	scores := make([]int32, 0, 64)
	var d hooks.Decision
	f := func(what string, call func()) {
		t.Helper()
		call()
		if n := testing.AllocsPerRun(300, call); n != 0 {
			t.Errorf("%s: %v allocations, want 0", what, n)
		}
	}
	f("route", func() { h.Route(req, &d) })
	f("ttl", func() { h.TTL(req, &d) })
	f("evict", func() { scores, _ = h.Score(scores[:0], c, 0.5, 1) })
	f("admit", func() { h.Admit(c[0], c[1:3], 0.5, 1) })
}

// TestHammer calls from many goroutines while hooks are swapped, rolled back,
// recycled and faulting. Each call must get the verdict of some generation.
func TestHammer(t *testing.T) {
	good := func(tag string) []byte {
		return answer(abi.MakeResult(abi.OK, 1, 0), abi.RecTag, tag)
	}
	h := open(t, hooks.Options{Instances: 4, FaultLimit: 64, FaultWindow: time.Nanosecond})
	specs := [][]hooks.Spec{
		{{Name: "a", Bytes: good("a"), RecycleCalls: 50}},
		{{Name: "b", Bytes: good("b")}, {Name: "f", Bytes: failing().Bytes()}},
		{{Name: "c", Bytes: good("c")}, {Name: "t", Bytes: hooktest.Guest(abi.Route, []byte{0}).Bytes()}},
	}
	load(t, h, specs[0]...)
	stop := make(chan struct{})
	var callers sync.WaitGroup
	for range 4 {
		callers.Go(func() {
			var d hooks.Decision
			req := request("k", nil)
			for n := 0; ; n++ {
				if n%64 == 0 {
					select {
					case <-stop:
						return
					default:
					}
				}
				if !h.Route(req, &d) || len(d.Tags) > 1 || d.Verdict != hooks.Continue {
					t.Errorf("got %+v", d)
					return
				}
				if len(d.Tags) == 1 && !strings.Contains("abc", string(d.Tags[0])) {
					t.Errorf("tag %q", d.Tags[0])
					return
				}
			}
		})
	}
	for n := range 40 {
		load(t, h, specs[n%len(specs)]...)
		if n%5 == 4 {
			if _, err := h.Rollback(); err != nil {
				t.Error(err)
			}
		}
	}
	close(stop)
	callers.Wait()
}

// TestCloseUnderLoad holds that Close waits for calls under way and that later
// ones find nothing.
func TestCloseUnderLoad(t *testing.T) {
	h := open(t, hooks.Options{Instances: 2})
	load(t, h, hooks.Spec{Name: "x", Bytes: hooktest.Guest(abi.Route, pass).Bytes()})
	var callers sync.WaitGroup
	started := make(chan struct{}, 3)
	for range 3 {
		callers.Go(func() {
			var d hooks.Decision
			req := request("k", nil)
			started <- struct{}{}
			for h.Route(req, &d) {
			}
		})
	}
	for range 3 {
		<-started
	}
	if err := h.Close(); err != nil {
		t.Error(err)
	}
	callers.Wait()
}

// FuzzOutput holds that no result and no output area makes the host panic or take
// half an answer.
func FuzzOutput(f *testing.F) {
	f.Add(uint64(abi.MakeResult(abi.OK, 1, 0)), abi.AppendEnd(abi.AppendRecord(nil, abi.RecTag, []byte("t"))))
	f.Add(uint64(abi.MakeResult(abi.Deny, 1, 2)), []byte{})
	f.Fuzz(func(t *testing.T, res uint64, out []byte) {
		h := open(t, hooks.Options{Instances: 1, FaultLimit: 64})
		if len(out) > abi.OutputBytes {
			out = out[:abi.OutputBytes]
		}
		load(t, h, hooks.Spec{Name: "x", Bytes: hooktest.WithOutput(abi.Route, abi.Result(res), out).Bytes(), OnFault: hooks.OnFaultDeny, Pools: []string{"p"}})
		var d hooks.Decision
		h.Route(request("http://h/", nil), &d)
		if d.Faulted && (d.Verdict != hooks.Deny || len(d.Tags) > 0 || d.KeyAddition != nil || d.Pool != "") {
			t.Fatalf("half an answer: %+v", d)
		}
	})
}

func ExampleHost_Route() {
	h, err := hooks.Open(hooks.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = h.Close() }()
	spec := hooks.Spec{Name: "tenants", Path: "../wasm-examples/route-header/route-header.wasm", Pools: []string{"eu", "us"}, OnFault: "deny"}
	if _, err := h.Load(context.Background(), []hooks.Spec{spec}); err != nil {
		fmt.Println(err)
		return
	}
	var d hooks.Decision
	h.Route(&hooks.Request{Input: abi.Input{Operation: abi.Read, Flags: abi.FlagSite}, Key: []byte("https://shop.example/"),
		Headers: hooktest.Headers{{Name: "X-Tenant", Value: "eu-7"}}}, &d)
	fmt.Println(d.Pool, string(d.KeyAddition))
	// Output: eu eu-7
}
