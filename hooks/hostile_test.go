package hooks_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/edgenode/edgenode/hooks"
	"github.com/edgenode/edgenode/hooks/abi"
	"github.com/edgenode/edgenode/hooks/hooktest"
	"github.com/edgenode/edgenode/hooks/meter"
)

// counter reads one metric.
func counter(t testing.TB, set *metrics.Set, name string) (v int) {
	t.Helper()
	var b bytes.Buffer
	set.WritePrometheus(&b)
	for line := range strings.SplitSeq(b.String(), "\n") {
		if rest, ok := strings.CutPrefix(line, name+" "); ok {
			if _, err := fmt.Sscan(rest, &v); err != nil {
				t.Fatal(err)
			}
		}
	}
	return v
}

// eventually waits, without sleeping, for what the worker will do.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatalf("still not: %s", what)
		}
	}
}

var pass = hooktest.Result(abi.Pass, 0, 0)

// fn returns a module like a good guest, changed by f.
func guest(f func(m *hooktest.Module)) *hooktest.Module {
	m := hooktest.Guest(abi.Route, pass)
	f(m)
	return m
}

var forever = []byte{0x03, 0x40, 0x0c, 0, 0x0b}

// TestRefusedAtLoad has modules that must not be loaded, and what is said of them.
func TestRefusedAtLoad(t *testing.T) {
	h := open(t, hooks.Options{Instances: 1, MaxModuleBytes: 1 << 16})
	load(t, h, hooks.Spec{Name: "good", Bytes: guest(func(*hooktest.Module) {}).Bytes()})
	try := func(what string, spec hooks.Spec, want string) {
		t.Helper()
		spec.Name = "x"
		start := time.Now()
		_, err := h.Load(context.Background(), []hooks.Spec{spec})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want an error with %q", what, err, want)
		}
		if took := time.Since(start); took > time.Minute {
			t.Errorf("%s: took %v", what, took)
		}
		var d hooks.Decision
		if !h.Route(request("k", nil), &d) || d.Verdict != hooks.Pass {
			t.Fatalf("%s: the hook before it is gone", what)
		}
	}
	f := func(what, want string, change func(m *hooktest.Module)) {
		t.Helper()
		try(what, hooks.Spec{Bytes: guest(change).Bytes()}, want)
	}
	code := func(i int, c []byte) func(*hooktest.Module) {
		return func(m *hooktest.Module) { m.Funcs[i].Code = c }
	}
	const alloc, initialise, start = 1, 2, 4
	add := func(m *hooktest.Module, fn hooktest.Func) { m.Funcs = append(m.Funcs, fn) }

	f("no version", "export edge_abi_version is missing", func(m *hooktest.Module) { m.Funcs[0].Export = "" })
	f("no alloc", "export edge_alloc_buf is missing", func(m *hooktest.Module) { m.Funcs[1].Export = "" })
	f("no init", "export edge_init is missing", func(m *hooktest.Module) { m.Funcs[2].Export = "" })
	f("no hook", "exports no hook", func(m *hooktest.Module) { m.Funcs[3].Export = "" })
	f("no memory", "the memory, is missing", func(m *hooktest.Module) { m.NoMemory = true })
	f("wrong type", "export edge_on_route is (i32, i64) -> (i64), must be (i32) -> (i64)", func(m *hooktest.Module) { m.Funcs[3].Params = []byte{hooktest.I32, hooktest.I64} })
	f("other major version", "speaks ABI 2", code(0, hooktest.ConstI32(2<<16)))
	f("null buffer", "returned 0, must be a multiple of 8", code(alloc, hooktest.ConstI32(0)))
	f("crooked buffer", "returned 1025, must be a multiple of 8", code(alloc, hooktest.ConstI32(1025)))
	f("buffer beyond memory", "do not fit in the memory of 65536", code(alloc, hooktest.ConstI32(65528)))
	f("negative buffer", "do not fit", code(alloc, hooktest.ConstI32(-8)))
	f("init refuses", "refused the configuration with code -7", code(initialise, hooktest.ConstI32(-7)))
	f("init traps", "edge_init: wasm error: unreachable", code(initialise, []byte{0}))
	f("init never ends", "out of fuel, the limit is 100000000", code(initialise, hooktest.Code(forever, hooktest.ConstI32(0))))
	f("init recurses", "edge_init", code(initialise, []byte{0x20, 0, 0x10, initialise}))
	f("start traps", "unreachable", func(m *hooktest.Module) {
		add(m, hooktest.Func{Code: []byte{0}})
		m.Start = start + 1
	})
	f("start never ends", "unreachable", func(m *hooktest.Module) {
		add(m, hooktest.Func{Code: forever})
		m.Start = start + 1
	})
	f("_initialize traps", "_initialize: wasm error: integer divide by zero", func(m *hooktest.Module) {
		add(m, hooktest.Func{Export: abi.ExportReactor, Code: []byte{0x41, 1, 0x41, 0, 0x6d, 0x1a}})
	})
	f("unknown import", "import env.system is not offered to hooks", func(m *hooktest.Module) {
		m.Imports = []hooktest.Import{{Module: "env", Name: "system"}}
	})
	f("unknown host function", "import edge.exec is not offered", func(m *hooktest.Module) {
		m.Imports = []hooktest.Import{{Module: "edge", Name: "exec"}}
	})
	f("wrong import type", "log", func(m *hooktest.Module) {
		m.Imports = []hooktest.Import{{Module: "edge", Name: "log", Params: []byte{hooktest.F64}}}
	})
	f("capability not listed", `the manifest does not list the capability "kv_get"`, func(m *hooktest.Module) { m.Imports = []hooktest.Import{kvGet} })
	f("capability not granted", `add grant = ["kv_get"]`, func(m *hooktest.Module) {
		m.Imports, m.Manifest = []hooktest.Import{kvGet}, `{"capabilities":["kv_get"]}`
	})
	f("WASI not asked for", `set "wasi": true`, func(m *hooktest.Module) {
		m.Imports = []hooktest.Import{{Module: "wasi_snapshot_preview1", Name: "proc_exit", Params: []byte{hooktest.I32}}}
	})
	f("reserved name", "reserved for metering", func(m *hooktest.Module) {
		m.Globals, m.GlobalAs = []int64{1 << 60}, map[string]uint32{meter.FuelExport: 0}
	})
	f("names the counter", "invalid module", func(m *hooktest.Module) { // global 0 is there only after rewriting
		m.Funcs[3].Code = hooktest.Code(hooktest.ConstI64(1<<60), []byte{0x24, 0}, pass)
	})
	f("memory at start", "memory starts with 65, the limit is 64 pages", func(m *hooktest.Module) { m.MemoryMin = 65 })
	f("data outside", "", func(m *hooktest.Module) { m.Data, m.DataAt = []byte("x"), 65536 })
	f("module too large", "the limit is 65536: raise max_module_bytes", func(m *hooktest.Module) { m.Data, m.DataAt = make([]byte, 1<<16), 0 })
	f("manifest not JSON", "manifest: invalid character", func(m *hooktest.Module) { m.Manifest = "{nope" })
	f("manifest with unknown key", `unknown field "root"`, func(m *hooktest.Module) { m.Manifest = `{"root":true}` })
	f("manifest followed by more", "bytes after the JSON object", func(m *hooktest.Module) { m.Manifest = `{} {}` })
	f("manifest lists a hook it lacks", "edge_on_ttl is not exported", func(m *hooktest.Module) { m.Manifest = `{"hooks":["ttl"]}` })
	f("header in upper case", "must be a field name in lower case", func(m *hooktest.Module) { m.Manifest = `{"headers":["X-A"]}` })
	f("unknown capability", `capability "net" is unknown`, func(m *hooktest.Module) { m.Manifest = `{"capabilities":["log","net"]}` })
	f("bad metric", `metric "a b"`, func(m *hooktest.Module) { m.Manifest = `{"metrics":[{"name":"a b","kind":"counter"}]}` })
	f("asks for fuel", "add fuel = { route = 30000 }", func(m *hooktest.Module) { m.Manifest = `{"fuel":{"route":30000}}` })
	f("asks for memory", `add memory = "8790KiB"`, func(m *hooktest.Module) { m.Manifest = `{"memory":9000000}` })
	f("guards something", `say what a fault does`, func(m *hooktest.Module) { m.Manifest = `{"guards":true}` })

	good := guest(func(*hooktest.Module) {}).Bytes()
	try("hook it does not offer", hooks.Spec{Bytes: good, Hooks: []string{"evict"}}, `hook "evict" is configured, the module offers [route]`)
	try("unknown hook", hooks.Spec{Bytes: good, Hooks: []string{"root"}}, `hook "root" is unknown`)
	try("bad on_fault", hooks.Spec{Bytes: good, OnFault: "panic"}, `on_fault "panic"`)
	try("bad grant", hooks.Spec{Bytes: good, Grant: []string{"net"}}, `grant "net" is unknown`)
	try("fuel of 0", hooks.Spec{Bytes: good, Fuel: map[string]uint64{"route": 0}}, "fuel for route is 0")
	try("no module", hooks.Spec{}, "no module is given")
	try("no such file", hooks.Spec{Path: t.TempDir() + "/x.wasm"}, "no such file")
	try("config too large", hooks.Spec{Bytes: good, Config: map[string]any{"x": strings.Repeat("y", 1<<14)}}, "config is 16392 bytes of JSON, the limit is 16384")
	try("too little memory", hooks.Spec{Bytes: good, MemoryBytes: 1000}, "less than a page")
	evict := hooktest.Guest(abi.Evict, pass).Bytes()
	try("on_fault for evict", hooks.Spec{Bytes: evict, OnFault: "deny"}, "has no meaning for evict and admit")
}

var kvGet = hooktest.Import{Module: "edge", Name: "kv_get", Params: []byte{hooktest.I32, hooktest.I32, hooktest.I32, hooktest.I32}, Results: []byte{hooktest.I32}}

// TestFaults has guests that go wrong when called: the call ends soon with the
// verdict the operator chose, it is counted by reason, and the next call works.
func TestFaults(t *testing.T) {
	f := func(what, reason string, m *hooktest.Module) {
		t.Helper()
		set := metrics.NewSet()
		h := open(t, hooks.Options{Instances: 2, Metrics: set, FaultLimit: 60})
		// The guest behaves when the key is empty.
		load(t, h, hooks.Spec{Name: "x", Bytes: m.Bytes(), OnFault: hooks.OnFaultDeny, Pools: []string{"p"}})
		var d hooks.Decision
		for range 3 {
			start := time.Now()
			h.Route(request("bad", nil), &d)
			if took := time.Since(start); took > time.Minute {
				t.Errorf("%s: took %v", what, took)
			}
			if d.Verdict != hooks.Deny || d.Status != 503 || string(d.Reason) != "hook-fault" || !d.Faulted {
				t.Errorf("%s: got %v %d %q, want deny 503 hook-fault", what, d.Verdict, d.Status, d.Reason)
			}
			eventually(t, what+": the next call works", func() bool {
				h.Route(request("", nil), &d)
				return d.Verdict == hooks.Continue && !d.Faulted
			})
		}
		if got := counter(t, set, fmt.Sprintf(`edgenode_hooks_faults_total{hook="x",reason=%q}`, reason)); got != 3 {
			t.Errorf("%s: %d faults counted as %s, want 3", what, got, reason)
		}
	}
	// bad runs code when the key is not empty, else returns ok.
	bad := func(c []byte) *hooktest.Module {
		return hooktest.Guest(abi.Route, hooktest.Code([]byte{0x41, 0}, []byte{0x28, 2}, hooktest.U32(nil, hooktest.Buffer+abi.OffKeyLen),
			[]byte{0x04, hooktest.I64}, c, []byte{0x05}, hooktest.Result(abi.OK, 0, 0), []byte{0x0b}))
	}
	output := func(res []byte, out []byte) *hooktest.Module {
		m := bad(res)
		m.Data, m.DataAt = out, hooktest.Buffer+abi.InputBytes
		return m
	}
	f("unreachable", "trap", bad([]byte{0}))
	f("divide by zero", "trap", bad([]byte{0x42, 1, 0x42, 0, 0x7f}))
	f("load beyond memory", "trap", bad(hooktest.Code(hooktest.ConstI32(-4), []byte{0x29, 3, 0})))
	f("endless loop", "fuel", bad(hooktest.Code(forever, pass)))
	f("endless recursion", "fuel", bad([]byte{0x20, 0, 0x10, 3}))
	f("endless copies", "fuel", bad(hooktest.Code([]byte{0x03, 0x40}, hooktest.ConstI32(0), hooktest.ConstI32(1), hooktest.ConstI32(60000), []byte{0xfc, 10, 0, 0, 0x0c, 0, 0x0b}, pass)))
	f("endless growth", "fuel", bad(hooktest.Code([]byte{0x03, 0x40}, hooktest.ConstI32(1), []byte{0x40, 0, 0x1a, 0x0c, 0, 0x0b}, pass)))
	f("status 5", "result", bad(hooktest.Result(5, 0, 0)))
	f("status 255", "result", bad(hooktest.Result(255, 0, 0)))
	f("unknown flag", "result", bad(hooktest.Result(abi.OK, 1<<23, 0)))
	f("do not store on route", "result", bad(hooktest.Result(abi.OK, abi.ResultNoStore, 0)))
	f("pool that does not exist", "result", bad(hooktest.Result(abi.OK, 0, 2)))
	f("pool 2^32-1", "result", bad(hooktest.Result(abi.OK, 0, 1<<32-1)))
	f("guest error", "guest", bad(hooktest.Result(abi.GuestError, 0, 0)))
	f("unclosed records", "result", output(hooktest.Result(abi.OK, 1, 0), bytes.Repeat([]byte{1, 0, 4, 0, 'a', 'b', 'c', 'd'}, abi.OutputBytes/8)))
	f("record beyond the output", "result", output(hooktest.Result(abi.OK, 1, 0), []byte{1, 0, 0xff, 0xff}))
	f("record of another hook", "result", output(hooktest.Result(abi.OK, 1, 0), abi.AppendEnd(abi.AppendRecord(nil, abi.RecLifetimes, make([]byte, 12)))))
	f("good record, then a bad one", "result", output(hooktest.Result(abi.Pass, 1, 0), abi.AppendEnd(abi.AppendRecord(abi.AppendRecord(nil, 1, []byte("k")), 99, nil))))

	logs := bad(hooktest.Code(hooktest.ConstI32(1), hooktest.ConstI32(-1), hooktest.ConstI32(100), []byte{0x10, 0}, pass))
	logs.Imports = []hooktest.Import{{Module: "edge", Name: "log", Params: []byte{hooktest.I32, hooktest.I32, hooktest.I32}}}
	f("host call with a bad pointer", "memory", logs)
	spam := bad(hooktest.Code([]byte{0x03, 0x40}, hooktest.ConstI32(1), hooktest.ConstI32(0), hooktest.ConstI32(8), []byte{0x10, 0, 0x0c, 0, 0x0b}, pass))
	spam.Imports = logs.Imports
	f("endless logging", "fuel", spam)
	metric := bad(hooktest.Code(hooktest.ConstI32(0), hooktest.ConstI64(1), []byte{0x10, 0}, pass))
	metric.Imports = []hooktest.Import{{Module: "edge", Name: "metric_add", Params: []byte{hooktest.I32, hooktest.I64}}}
	f("metric that was not declared", "trap", metric)
	exit := bad(hooktest.Code(hooktest.ConstI32(0), []byte{0x10, 0}, pass))
	exit.Imports = []hooktest.Import{{Module: "wasi_snapshot_preview1", Name: "proc_exit", Params: []byte{hooktest.I32}}}
	exit.Manifest = `{"wasi":true}`
	f("proc_exit", "trap", exit)
}

// TestGrowthIsBounded holds that a guest gets -1 at its limit, not memory.
func TestGrowthIsBounded(t *testing.T) {
	m := hooktest.Guest(abi.Route, hooktest.Code(hooktest.ConstI32(64), []byte{0x40, 0}, hooktest.ConstI32(-1), []byte{0x46, 0x04, hooktest.I64},
		pass, []byte{0x05}, hooktest.Result(abi.Deny, 0, 0), []byte{0x0b}))
	h := open(t, hooks.Options{Instances: 1})
	load(t, h, hooks.Spec{Name: "x", Bytes: m.Bytes(), Fuel: map[string]uint64{"route": 1_000_000}})
	var d hooks.Decision
	if h.Route(request("k", nil), &d); d.Verdict != hooks.Pass {
		t.Errorf("got %v, want pass: growth above 4 MiB was not refused", d.Verdict)
	}
}

// TestRunawayIsQuick holds that a runaway ends within some ms on a busy machine;
// BenchmarkRunaway tells the figure.
func TestRunawayIsQuick(t *testing.T) {
	h := loaded(t, hooktest.Guest(abi.Route, hooktest.Code(forever, pass)))
	var d hooks.Decision
	best := time.Hour
	for range 4 {
		start := time.Now()
		h.Route(request("k", nil), &d)
		best = min(best, time.Since(start))
	}
	if best > 5*time.Second { // some ms; without fuel it would be for ever
		t.Errorf("a runaway took %v", best)
	}
}

// TestTrapsAreLoggedBriefly holds that a module cannot fill the log by the names
// of its functions.
func TestTrapsAreLoggedBriefly(t *testing.T) {
	m := hooktest.Guest(abi.Route, []byte{0x20, 0, 0x10, 4, 0x42, 0},
		hooktest.Func{Params: []byte{hooktest.I32}, Code: hooktest.Code([]byte{0x20, 1, 0x41, 1, 0x6a, 0x22, 1, 0x41, 40, 0x46, 0x04, 0x40, 0x00, 0x0b, 0x20, 0, 0x10, 4}), Locals: []byte{hooktest.I32}})
	m.Funcs[4].Code = []byte{0x20, 0, 0x10, 4} // recursion until fuel ends
	names := append(hooktest.U32([]byte{1, 4}, 1<<20), bytes.Repeat([]byte("n"), 1<<20)...)
	section := append(hooktest.U32([]byte{1}, uint32(len(names))), names...)
	var log bytes.Buffer
	h := open(t, hooks.Options{Instances: 1, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	load(t, h, hooks.Spec{Name: "x", Bytes: meter.AppendCustom(m.Bytes(), "name", section)})
	log.Reset()
	var d hooks.Decision
	h.Route(request("k", nil), &d)
	if n := log.Len(); n == 0 || n > 32<<10 {
		t.Errorf("a trap logs %d bytes, want some KiB at most", n)
	}
}

func BenchmarkRunaway(b *testing.B) {
	h := open(b, hooks.Options{FaultLimit: 64, FaultWindow: time.Nanosecond, Instances: 64})
	load(b, h, hooks.Spec{Name: "x", Bytes: hooktest.Guest(abi.Route, hooktest.Code(forever, pass)).Bytes()})
	var d hooks.Decision
	for b.Loop() {
		h.Route(request("k", nil), &d)
	}
}
