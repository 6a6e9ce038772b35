package hooks_test

import (
	"context"
	"math/rand/v2"
	"runtime"
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

// heapBytes is what is in use after collections.
func heapBytes() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestHotReloads replaces the hooks 300 times while they are called, and loses no
// call.
func TestHotReloads(t *testing.T) {
	set := metrics.NewSet()
	h := open(t, hooks.Options{Instances: 4, Metrics: set})
	spec := func(tag string) hooks.Spec {
		return hooks.Spec{Name: "x", OnFault: hooks.OnFaultDeny, Bytes: answer(abi.MakeResult(abi.OK, 1, 0), abi.RecTag, tag)}
	}
	load(t, h, spec("a"))
	var calls atomic.Int64
	stop := make(chan struct{})
	var callers sync.WaitGroup
	for range 2 {
		callers.Go(func() {
			var d hooks.Decision
			req := request("http://h/", nil)
			for n := 1; ; n++ {
				if !h.Route(req, &d) || d.Faulted || len(d.Tags) != 1 || !strings.Contains("ab", string(d.Tags[0])) {
					t.Errorf("call %d: %+v", n, d)
					return
				}
				if n%1000 == 0 {
					calls.Add(1000)
					select {
					case <-stop:
						return
					default:
					}
				}
			}
		})
	}
	total := int64(hotReloadCalls / raceShare)
	for n := range 300 {
		load(t, h, spec([]string{"a", "b"}[n%2]))
		for calls.Load() < total*int64(n)/300 && !t.Failed() {
			runtime.Gosched()
		}
	}
	for calls.Load() < total && !t.Failed() {
		runtime.Gosched()
	}
	close(stop)
	callers.Wait()
	t.Logf("300 reloads, %d calls", calls.Load())
	if r := h.Report(); r.Generation != 301 {
		t.Errorf("generation %d, want 301", r.Generation)
	}
	for _, reason := range []string{"trap", "fuel", "memory", "result", "pool_empty", "breaker"} {
		if got := counter(t, set, `edgenode_hooks_faults_total{hook="x",reason="`+reason+`"}`); got != 0 {
			t.Errorf("%d faults by %s", got, reason)
		}
	}
}

// TestReloadsLeaveNothing: a thousand loads, trials among them, and the memory and
// goroutines are as after a hundred.
func TestReloadsLeaveNothing(t *testing.T) {
	h := open(t, hooks.Options{Instances: 2})
	spec := hooks.Spec{Name: "x", Bytes: counting("", 60, abi.OK, nil).Bytes()}
	var d hooks.Decision
	cycle := func(n int) {
		for k := range n {
			load(t, h, spec)
			for range 3 {
				h.Route(request("http://h/", nil), &d)
			}
			if k%10 == 0 {
				if _, err := h.Try(context.Background(), []hooks.Spec{spec}, hooks.TrialOptions{Mode: hooks.ModeShadow, Share: 1}); err != nil {
					t.Fatal(err)
				}
				h.Route(request("http://h/", nil), &d)
			}
		}
	}
	cycle(100 / raceShare)
	before, goroutines := heapBytes(), runtime.NumGoroutine()
	cycle(1000 / raceShare)
	if grown := heapBytes() - before; grown > 4<<20 {
		t.Errorf("the heap grew by %d KiB in 1,000 loads", grown>>10)
	}
	eventually(t, "its goroutines have ended", func() bool { return runtime.NumGoroutine() <= goroutines })
}

// TestOnePercentTraps: of every hundred calls one traps; the others have their
// verdict, and the memory is flat.
func TestOnePercentTraps(t *testing.T) {
	set := metrics.NewSet()
	h := open(t, hooks.Options{Instances: 4, Metrics: set, FaultLimit: 64, FaultWindow: time.Nanosecond})
	load(t, h, hooks.Spec{Name: "x", Bytes: failingTrap().Bytes(), OnFault: hooks.OnFaultDeny})
	good := request("http://h/", lines{{"ok", []byte("1"), false}})
	run := func(calls int) (trapped int64) {
		var callers sync.WaitGroup
		var bad atomic.Int64
		for range 2 {
			callers.Go(func() {
				var d hooks.Decision
				trap := request("http://h/", nil)
				for n := range calls / 2 {
					if n%100 == 99 {
						if h.Route(trap, &d); d.Verdict != hooks.Deny {
							t.Errorf("trap: %v", d.Verdict)
							return
						}
						bad.Add(1)
						continue
					}
					if h.Route(good, &d); d.Verdict != hooks.Pass {
						t.Errorf("call %d: %v %s", n, d.Verdict, d.Reason)
						return
					}
				}
			})
		}
		callers.Wait()
		return bad.Load()
	}
	calls := trappingCalls / raceShare
	first := run(calls / 10)
	before := heapBytes()
	trapped := first + run(calls)
	if grown := heapBytes() - before; grown > 4<<20 {
		t.Errorf("the heap grew by %d KiB", grown>>10)
	}
	if got := counter(t, set, `edgenode_hooks_faults_total{hook="x",reason="trap"}`); int64(got) != trapped {
		t.Errorf("%d traps counted, want %d", got, trapped)
	}
}

// TestMutants changes good modules at random and loads what comes of them: it is
// refused or bounded, and the live set goes on.
func TestMutants(t *testing.T) {
	corpus := [][]byte{
		hooktest.Guest(abi.Route, pass).Bytes(), busy().Bytes(), failing().Bytes(), failingTrap().Bytes(),
		counting(`{"headers":["a"]}`, 5, abi.OK, nil).Bytes(), hooktest.Guest(abi.Evict, hooktest.Result(abi.OK, 0, 3)).Bytes(),
		example(t, "route-header"), example(t, "ttl-by-type"), example(t, "evict-gdsf"),
	}
	live := open(t, hooks.Options{Instances: 1})
	load(t, live, hooks.Spec{Name: "live", Bytes: corpus[0]})
	h := open(t, hooks.Options{Instances: 1, FaultLimit: 64})
	fuel := map[string]uint64{"init": 200_000}
	seed := uint64(1)
	if mutants > 100_000 {
		seed = rand.Uint64()
	}
	r := rand.New(rand.NewPCG(seed, 7))
	loaded := 0
	var d hooks.Decision
	var scores []int32
	candidates := make([]abi.Candidate, 3)
	before := int64(0)
	for n := range mutants / raceShare {
		code := mutate(r, slices.Clone(corpus[n%len(corpus)]))
		if n == 500 {
			before = heapBytes()
		}
		spec := hooks.Spec{Name: "x", Bytes: code, Fuel: fuel, Pools: []string{"p"}, Grant: []string{"header", "kv_get"}, MemoryBytes: 1 << 20}
		if _, err := h.Load(context.Background(), []hooks.Spec{spec}); err != nil {
			if strings.Contains(err.Error(), "on_fault") {
				continue
			}
			if strings.Contains(err.Error(), "upsets the compiler") {
				t.Errorf("seed %d, mutant %d: %v", seed, n, err)
			}
			continue
		}
		loaded++
		for k := range 3 {
			h.Route(request([]string{"", "http://h/a", "http://h/static/x.css?a=b"}[k], lines{{"a", []byte("1"), false}}), &d)
			h.TTL(request("http://h/a.css", nil), &d)
			scores, _ = h.Score(scores[:0], candidates, 0.5, 1)
			h.Admit(candidates[0], candidates[1:], 0.5, 1)
		}
		if live.Route(request("k", nil), &d); d.Verdict != hooks.Pass {
			t.Fatalf("seed %d, mutant %d: the live set says %v", seed, n, d.Verdict)
		}
	}
	load(t, h, hooks.Spec{Name: "live", Bytes: corpus[0]})
	if grown := heapBytes() - before; before > 0 && grown > 8<<20 {
		t.Errorf("the heap grew by %d KiB", grown>>10)
	}
	if loaded == 0 {
		t.Error("no mutant was loaded")
	}
	t.Logf("%d of %d mutants were loaded", loaded, mutants/raceShare)
}

// mutate changes one to four places: a byte, a bit, a piece that goes or is doubled.
func mutate(r *rand.Rand, b []byte) []byte {
	for range 1 + r.IntN(4) {
		if len(b) < 16 {
			return b
		}
		at := 8 + r.IntN(len(b)-8)
		switch r.IntN(6) {
		case 0:
			b[at] = byte(r.Uint32())
		case 1:
			b[at] ^= 1 << r.IntN(8)
		case 2:
			b[at] = []byte{0, 0xff, 0x7f, 0x80, 0x0b, 0x10}[r.IntN(6)]
		case 3:
			b = slices.Delete(b, at, min(len(b), at+1+r.IntN(8)))
		case 4:
			b = slices.Insert(b, at, b[at:min(len(b), at+1+r.IntN(8))]...)
		default:
			b[at]++
		}
	}
	return b
}
