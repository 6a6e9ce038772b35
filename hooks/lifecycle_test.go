package hooks_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/edgenode/edgenode/hooks"
	"github.com/edgenode/edgenode/hooks/abi"
	"github.com/edgenode/edgenode/hooks/hooktest"
)

// TestSelfTest: vectors in the manifest are run before a module goes live, with
// their own settings, and one that does not hold leaves the old set running.
func TestSelfTest(t *testing.T) {
	set := metrics.NewSet()
	h := open(t, hooks.Options{Instances: 1, Metrics: set})
	load(t, h, hooks.Spec{Name: "old", Bytes: hooktest.Guest(abi.Route, pass).Bytes()})
	f := func(cases, want string) {
		t.Helper()
		m := hooktest.WithOutput(abi.Route, abi.MakeResult(abi.OK, abi.ResultRecords, 1), abi.AppendEnd(abi.AppendRecord(nil, abi.RecTag, []byte("one"))))
		m.Manifest = `{"tests":{"pools":["eu"],"config":{"a":1},"cases":[` + cases + `]}}`
		_, err := h.Load(context.Background(), []hooks.Spec{{Name: "x", Bytes: m.Bytes(), Pools: []string{"prod"}}})
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: got %v, want %q", cases, err, want)
		}
		if name := h.Report().Modules[0].Name; (name == "old") != (want != "") {
			t.Errorf("%s: live is %s", cases, name)
		}
	}
	f(`{"name":"a","hook":"route","want":{"verdict":"deny"}}`, `self-test "a": verdict is "continue", want deny`)
	f(`{"name":"a","hook":"route","want":{"pool":"eu","tags":[]}}`, `tags is ["one"]`)
	f(`{"name":"a","hook":"ttl","want":{"pool":"eu"}}`, `hook "ttl" is none of the module's`)
	f(`{"name":"a","hook":"route","want":{"colour":1}}`, `no field "colour"`)
	f(`{"name":"a","hook":"route","want":{}}`, "want is missing")
	f(`{"name":"a","hook":"route","method":"BREW","want":{"pool":"eu"}}`, `method "BREW"`)
	f(`{"name":"a","hook":"route","wants":{}}`, `unknown field "wants"`)
	f(`{"name":"a","hook":"route","key":"http://h/","headers":[["a","b"]],"client":"10.0.0.1","want":{"pool":"eu","tags":["one"],"status":0}}`, "")
	if got := counter(t, set, `edgenode_hooks_calls_total{hook="x"}`); got != 0 {
		t.Errorf("self-tests counted %d calls", got)
	}

	ranks := hooktest.WithOutput(abi.Evict, abi.MakeResult(abi.OK, 0, 2), []byte{9, 0, 0, 0, 3, 0, 0, 0})
	ranks.Manifest = `{"tests":{"cases":[{"name":"r","hook":"evict","candidates":[{"id":1,"hits":3},{"id":2,"left_s":7}],"want":{"order":[0,1]}}]}}`
	if _, err := h.Load(context.Background(), []hooks.Spec{{Name: "x", Bytes: ranks.Bytes()}}); err == nil || !strings.Contains(err.Error(), "order is [1,0]") {
		t.Errorf("evict: got %v", err)
	}
	trap := hooktest.Guest(abi.Route, []byte{0})
	trap.Manifest = `{"tests":{"cases":[{"name":"t","hook":"route","want":{"pool":""}}]}}`
	if _, err := h.Load(context.Background(), []hooks.Spec{{Name: "x", Bytes: trap.Bytes()}}); err == nil || !strings.Contains(err.Error(), `self-test "t": fault: trap`) {
		t.Errorf("trap: got %v", err)
	}
}

func TestHistory(t *testing.T) {
	c := &clock{now: time.Unix(1_700_000_000, 0)}
	h := open(t, hooks.Options{Instances: 1, Now: c.Now})
	one, two := hooks.Spec{Name: "one", Bytes: hooktest.Guest(abi.Route, pass).Bytes()}, hooks.Spec{Name: "two", Bytes: failing().Bytes()}
	load(t, h, one)
	c.add(time.Minute)
	load(t, h, two)
	if _, err := h.Load(context.Background(), []hooks.Spec{{Name: "bad", Bytes: []byte("x")}}); err == nil {
		t.Fatal("loaded garbage")
	}
	if _, err := h.Rollback(); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Try(context.Background(), []hooks.Spec{two}, hooks.TrialOptions{Mode: hooks.ModeShadow, Share: 1}); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Promote(); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range h.History() {
		line := fmt.Sprint(e.What, e.Generation)
		for _, m := range e.Modules {
			line += " " + m.Name
		}
		got = append(got, line)
	}
	if want := []string{"load1 one", "load2 two", "refused0", "rollback1 one", "trial3 two", "promote3 two"}; !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	if e := h.History()[2]; e.Error == "" || !e.At.Equal(c.Now()) {
		t.Errorf("refused: %+v", e)
	}
	for range 100 {
		if _, err := h.Rollback(); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(h.History()); n != 64 {
		t.Errorf("%d events remembered, want 64", n)
	}
}

// TestShadow: the set on trial is asked and compared, and nobody gets its word.
func TestShadow(t *testing.T) {
	set := metrics.NewSet()
	h := open(t, hooks.Options{Instances: 2, Metrics: set})
	load(t, h, hooks.Spec{Name: "x", Bytes: hooktest.Guest(abi.Route, pass).Bytes()})
	deny := hooktest.Guest(abi.Route, hooktest.Code([]byte{0x41, 0, 0x28, 2}, hooktest.U32(nil, hooktest.Buffer+abi.OffKeyLen),
		[]byte{0x04, hooktest.I64}, hooktest.Result(abi.Deny, 0, 0), []byte{0x05}, pass, []byte{0x0b}))
	tried := []hooks.Spec{{Name: "x", Bytes: deny.Bytes()}}
	if _, err := h.Try(context.Background(), tried, hooks.TrialOptions{Mode: "dark", Share: 1}); err == nil {
		t.Error("unknown mode accepted")
	}
	if _, err := h.Try(context.Background(), tried, hooks.TrialOptions{Mode: hooks.ModeShadow}); err == nil {
		t.Error("share of 0 accepted")
	}
	if _, err := h.Promote(); !errors.Is(err, hooks.ErrNoTrial) {
		t.Errorf("promote without a trial: %v", err)
	}
	if _, err := h.Try(context.Background(), tried, hooks.TrialOptions{Mode: hooks.ModeShadow, Share: 1}); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Try(context.Background(), tried, hooks.TrialOptions{Mode: hooks.ModeShadow, Share: 1}); !errors.Is(err, hooks.ErrTrialRuns) {
		t.Errorf("a second trial: %v", err)
	}
	var d hooks.Decision
	for n := range 40 {
		key := ""
		if n%2 == 0 {
			key = "http://h/secret"
		}
		if h.Route(request(key, nil), &d); d.Verdict != hooks.Pass {
			t.Fatalf("the live verdict is %v, want pass", d.Verdict)
		}
	}
	r, ok := h.Trial()
	if !ok || len(r.Hooks) != 1 || r.Hooks[0] != (hooks.TrialFigures{Hook: "route", Calls: 40, Different: 20}) || len(r.Samples) != 16 {
		t.Fatalf("got %+v", r)
	}
	if s := r.Samples[0]; s.Live != "pass" || s.Trial != `deny 403 ""` || s.Key != "http://h/secret" {
		t.Errorf("sample %+v", s)
	}
	if got := counter(t, set, `edgenode_hooks_calls_total{hook="x"}`); got > 40 {
		t.Errorf("%d calls counted, want those of the live set", got)
	}
	if err := h.Abort(); err != nil {
		t.Fatal(err)
	}
	if _, ok := h.Trial(); ok || !errors.Is(h.Abort(), hooks.ErrNoTrial) {
		t.Error("the trial goes on")
	}
	// Promoted, it decides, and its calls count.
	if _, err := h.Try(context.Background(), tried, hooks.TrialOptions{Mode: hooks.ModeShadow, Share: 1}); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Promote(); err != nil {
		t.Fatal(err)
	}
	if h.Route(request("http://h/secret", nil), &d); d.Verdict != hooks.Deny {
		t.Errorf("after promotion: %v, want deny", d.Verdict)
	}
	if _, err := h.Rollback(); err != nil {
		t.Fatal(err)
	}
	if h.Route(request("http://h/secret", nil), &d); d.Verdict != hooks.Pass {
		t.Errorf("after rollback: %v, want pass", d.Verdict)
	}
}

// TestCanary: the set on trial decides for its share of the keys, always the same
// ones.
func TestCanary(t *testing.T) {
	h := open(t, hooks.Options{Instances: 2})
	load(t, h, hooks.Spec{Name: "x", Bytes: hooktest.Guest(abi.Route, pass).Bytes()})
	other := []hooks.Spec{{Name: "x", Bytes: hooktest.Guest(abi.Route, hooktest.Result(abi.Deny, 0, 0)).Bytes()}}
	if _, err := h.Try(context.Background(), other, hooks.TrialOptions{Mode: hooks.ModeCanary, Share: 0.2}); err != nil {
		t.Fatal(err)
	}
	var d hooks.Decision
	denied := 0
	side := map[string]hooks.Verdict{}
	for round := range 2 {
		for n := range 2000 {
			key := fmt.Sprint("http://h/", n)
			h.Route(request(key, nil), &d)
			if round == 0 {
				side[key] = d.Verdict
			} else if side[key] != d.Verdict {
				t.Fatalf("%s changed sides", key)
			}
			if d.Verdict == hooks.Deny {
				denied++
			}
		}
	}
	if denied < 640 || denied > 960 { // 800 expected, 9 standard deviations
		t.Errorf("%d of 4000 decided by the canary, want about 800", denied)
	}
	if r, _ := h.Trial(); r.Hooks[0].Calls != uint64(denied) {
		t.Errorf("report %+v, want %d calls", r.Hooks[0], denied)
	}
	load(t, h, hooks.Spec{Name: "y", Bytes: hooktest.Guest(abi.Route, pass).Bytes()})
	if _, ok := h.Trial(); ok {
		t.Error("a load left the trial running")
	}
}

// TestShadowOfEviction: of two rankings the one that sends away what is used
// again regrets more.
func TestShadowOfEviction(t *testing.T) {
	h := open(t, hooks.Options{Instances: 1})
	// Score is from less the hits of each candidate.
	ranking := func(from []byte) []byte {
		const out = hooktest.Buffer + abi.InputBytes
		in := uint32(hooktest.Buffer + abi.EvictHead)
		n := uint32(hooktest.Buffer + abi.HeadBytes)
		code := hooktest.Code( // local 1 counts down from n
			[]byte{0x41, 0, 0x28, 2}, hooktest.U32(nil, n), []byte{0x21, 1, 0x03, 0x40, 0x20, 1, 0x41, 1, 0x6b, 0x22, 1},
			[]byte{0x41, 4, 0x6c}, from, []byte{0x20, 1, 0x41, 32, 0x6c, 0x28, 2}, hooktest.U32(nil, in+20), // hits
			[]byte{0x6b}, []byte{0x36, 2}, hooktest.U32(nil, out), []byte{0x20, 1, 0x0d, 0, 0x0b},
			[]byte{0x41, 0, 0x35, 2}, hooktest.U32(nil, n))
		return hooktest.Guest(abi.Evict, code).Bytes()
	}
	keepsRare := ranking([]byte{0x41, 0})
	keepsOften := hooktest.WithOutput(abi.Evict, abi.MakeResult(abi.OK, 0, 64), ramp(64)).Bytes()
	load(t, h, hooks.Spec{Name: "e", Bytes: keepsRare})
	if _, err := h.Try(context.Background(), []hooks.Spec{{Name: "e", Bytes: keepsOften}}, hooks.TrialOptions{Mode: hooks.ModeShadow, Share: 1}); err != nil {
		t.Fatal(err)
	}
	// Of the 64 the upper half is used all the time, the lower half never.
	now := uint64(1_700_000_000_000)
	for range 50 {
		c := make([]abi.Candidate, 64)
		for k := range c {
			c[k] = abi.Candidate{ID: uint64(k), Size: 1, Hits: uint32(k), IdleMillis: 1}
			if k < 32 {
				c[k].IdleMillis = 1 << 31
			}
		}
		if scores, ok := h.Score(nil, c, 0.9, now); !ok || len(scores) != 64 {
			t.Fatalf("%d scores, %v", len(scores), ok)
		}
		now += 1000
	}
	r, _ := h.Trial()
	if e := r.Eviction; e.Chosen != 400 || e.LiveRegretted != 8*49 || e.TrialRegretted != 0 {
		t.Errorf("got %+v, want 392 regrets of the live set's 400, none of the other's", e)
	}
	if r.Hooks[0].Different != 50 {
		t.Errorf("got %+v", r.Hooks)
	}
}

// ramp is n scores, ascending.
func ramp(n int) (out []byte) {
	for k := range n {
		out = append(out, byte(k), 0, 0, 0)
	}
	return out
}

// TestTrialHammer: trials begin, are promoted and aborted under load; each call
// has the verdict of one of the two.
func TestTrialHammer(t *testing.T) {
	h := open(t, hooks.Options{Instances: 3})
	a := []hooks.Spec{{Name: "a", Bytes: answer(abi.MakeResult(abi.OK, 1, 0), abi.RecTag, "a", abi.RecReuse, "\x01\x00\x00\x00")}}
	b := []hooks.Spec{{Name: "a", Bytes: answer(abi.MakeResult(abi.OK, 1, 0), abi.RecTag, "b")}}
	load(t, h, a...)
	stop := make(chan struct{})
	var callers sync.WaitGroup
	for range 3 {
		callers.Go(func() {
			var d hooks.Decision
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				if !h.Route(request(fmt.Sprint(n%100), nil), &d) || d.Faulted || len(d.Tags) != 1 || !strings.Contains("ab", string(d.Tags[0])) {
					t.Errorf("got %+v", d)
					return
				}
			}
		})
	}
	for n := range 30 {
		mode := hooks.ModeShadow
		if n%2 == 0 {
			mode = hooks.ModeCanary
		}
		if _, err := h.Try(context.Background(), [][]hooks.Spec{a, b}[n%2], hooks.TrialOptions{Mode: mode, Share: 0.5}); err != nil {
			t.Error(err)
		}
		var err error
		if n%3 == 0 {
			err = h.Abort()
		} else {
			_, err = h.Promote()
		}
		if err != nil {
			t.Error(err)
		}
	}
	close(stop)
	callers.Wait()
}

// TestSlowInitDelaysNoOther: while one module's instance is being started, and
// does not come to an end, those of another are replaced.
func TestSlowInitDelaysNoOther(t *testing.T) {
	slow := failingTrap()
	slow.Imports, slow.Manifest = []hooktest.Import{kvGet}, `{"headers":["ok"],"capabilities":["kv_get"]}`
	slow.Funcs[2].Code = hooktest.Code(hooktest.ConstI32(8192), hooktest.ConstI32(1), hooktest.ConstI32(8192), hooktest.ConstI32(1),
		[]byte{0x10, 0, 0x1a}, hooktest.ConstI32(0))
	gate := &stuck{entered: make(chan struct{}, 1), open: make(chan struct{})}
	h := open(t, hooks.Options{Instances: 1, FaultLimit: 64, KV: gate})
	load(t, h, hooks.Spec{Name: "slow", Bytes: slow.Bytes(), Match: hooks.Match{PathPrefix: "/slow"}, Grant: []string{"kv_get"}},
		hooks.Spec{Name: "quick", Bytes: failingTrap().Bytes(), Match: hooks.Match{PathPrefix: "/quick"}, OnFault: hooks.OnFaultDeny})
	t.Cleanup(func() { close(gate.open) })
	gate.shut.Store(true)
	var d hooks.Decision
	h.Route(request("http://h/slow", nil), &d) // its only instance is lost
	<-gate.entered                             // and the next one is stuck in its start
	for range 5 {
		h.Route(request("http://h/quick", nil), &d) // traps
		eventually(t, "the other module answers", func() bool {
			h.Route(request("http://h/quick", lines{{"ok", []byte("1"), false}}), &d)
			return d.Verdict == hooks.Pass
		})
	}
}

// stuck is a store whose readers wait once it is shut.
type stuck struct {
	shut          atomic.Bool
	entered, open chan struct{}
}

func (s *stuck) Get(dst, _ []byte) ([]byte, bool) {
	if s.shut.Load() {
		select {
		case s.entered <- struct{}{}:
		default:
		}
		<-s.open
	}
	return dst, false
}

// failingTrap is a route guest that lists the header "ok" and traps without it.
func failingTrap() *hooktest.Module {
	m := hooktest.Guest(abi.Route, hooktest.Code([]byte{0x41, 0, 0x2f, 1}, hooktest.U32(nil, hooktest.Buffer+abi.OffCount),
		[]byte{0x04, hooktest.I64}, pass, []byte{0x05, 0x00, 0x0b}))
	m.Manifest = `{"headers":["ok"]}`
	return m
}

// TestLoadTimeout: what takes too long to start leaves the old set in use.
func TestLoadTimeout(t *testing.T) {
	h := open(t, hooks.Options{Instances: 64, LoadTimeout: 50 * time.Millisecond})
	slow := hooktest.Guest(abi.Route, pass)
	slow.Funcs[2].Code = hooktest.Code(hooktest.ConstI32(3_000_000), []byte{0x21, 0, 0x03, 0x40, 0x20, 0, 0x41, 1, 0x6b, 0x22, 0, 0x0d, 0, 0x0b}, hooktest.ConstI32(0))
	_, err := h.Load(context.Background(), []hooks.Spec{{Name: "x", Bytes: slow.Bytes()}})
	if err == nil || !strings.Contains(err.Error(), "loading took longer than 50ms") {
		t.Errorf("got %v", err)
	}
}
