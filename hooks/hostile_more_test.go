package hooks_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/edgenode/edgenode/hooks"
	"github.com/edgenode/edgenode/hooks/abi"
	"github.com/edgenode/edgenode/hooks/hooktest"
)

// hostile is a module and what must become of it: refused with a message, or
// stopped when called, for a reason. With neither it must do no harm.
type hostile struct {
	what, refused, reason string
	m                     *hooktest.Module
}

// hostileModules are modules that mean harm, beside those of TestRefusedAtLoad and
// TestFaults.
func hostileModules() (list []hostile) {
	i32, i64 := hooktest.I32, hooktest.I64
	add := func(what, refused, reason string, m *hooktest.Module) {
		list = append(list, hostile{what, refused, reason, m})
	}
	route := func(code []byte, more ...hooktest.Func) *hooktest.Module {
		return hooktest.Guest(abi.Route, code, more...)
	}
	initially := func(code []byte) *hooktest.Module {
		m := route(pass)
		m.Funcs[2].Code = hooktest.Code(code, hooktest.ConstI32(0))
		return m
	}
	call := func(name string, params int, result bool, code []byte) *hooktest.Module {
		m := route(hooktest.Code(code, pass))
		im := hooktest.Import{Module: "edge", Name: name, Params: bytes.Repeat([]byte{i32}, params)}
		if result {
			im.Results = []byte{i32}
		}
		m.Imports, m.Manifest = []hooktest.Import{im}, `{"capabilities":["header","kv_get"],"headers":["a"]}`
		return m
	}
	n := hooktest.ConstI32

	// Time.
	add("mutual recursion", "", "fuel", route([]byte{0x20, 0, 0x10, 4}, hooktest.Func{Params: []byte{i32}, Results: []byte{i64}, Code: []byte{0x20, 0, 0x10, 3}}))
	add("deep recursion with wide frames", "", "fuel", route([]byte{0x20, 0, 0x10, 4}, hooktest.Func{Params: []byte{i32}, Results: []byte{i64}, Locals: bytes.Repeat([]byte{i64}, 1900), Code: []byte{0x20, 0, 0x10, 4}}))
	add("loops within loops", "", "fuel", route(hooktest.Code(bytes.Repeat([]byte{0x03, 0x40}, 50), []byte{0x0c, 49}, bytes.Repeat([]byte{0x0b}, 50), pass)))
	add("a loop by a table", "", "fuel", route(hooktest.Code([]byte{0x03, 0x40}, n(1), []byte{0x0e, 3, 0, 0, 0, 0, 0x0b}, pass)))
	add("endless fills", "", "fuel", route(hooktest.Code([]byte{0x03, 0x40}, n(0), n(1), n(65536), []byte{0xfc, 11, 0, 0x0c, 0, 0x0b}, pass)))
	add("one fill beyond memory", "", "trap", route(hooktest.Code(n(8), n(1), n(65530), []byte{0xfc, 11, 0}, pass)))
	add("one copy of all the address space", "", "fuel", route(hooktest.Code(n(0), n(0), n(-1), []byte{0xfc, 10, 0, 0}, pass)))
	add("init that copies for ever", "out of fuel", "", initially(hooktest.Code([]byte{0x03, 0x40}, n(0), n(1), n(60000), []byte{0xfc, 10, 0, 0, 0x0c, 0, 0x0b})))
	add("init that grows for ever", "out of fuel", "", initially(hooktest.Code([]byte{0x03, 0x40}, n(1), []byte{0x40, 0, 0x1a, 0x0c, 0, 0x0b})))
	add("alloc that never ends", "out of fuel", "", func() *hooktest.Module {
		m := route(pass)
		m.Funcs[1].Code = hooktest.Code(forever, n(hooktest.Buffer))
		return m
	}())
	add("version that never ends", "out of fuel", "", func() *hooktest.Module {
		m := route(pass)
		m.Funcs[0].Code = hooktest.Code(forever, n(abi.Version))
		return m
	}())

	// Memory and tables.
	add("init that takes all memory", "", "", initially(hooktest.Code(n(63), []byte{0x40, 0, 0x1a})))
	add("a table of 2^32-1", "table", "", func() *hooktest.Module { m := route(pass); m.Tables = []uint32{1<<32 - 1}; return m }())
	add("a table of 2^27", "table", "", func() *hooktest.Module { m := route(pass); m.Tables = []uint32{1 << 27}; return m }())
	add("tables in number", "table", "", func() *hooktest.Module {
		m := route(pass)
		for range 200 {
			m.Tables = append(m.Tables, 10_000)
		}
		return m
	}())
	add("a call beyond the table", "", "trap", func() *hooktest.Module {
		m := route(hooktest.Code([]byte{0x20, 0}, n(99), []byte{0x11, 3, 0}))
		m.Tables, m.Elements = []uint32{4}, []uint32{3}
		return m
	}())
	add("a call of another type by the table", "", "trap", func() *hooktest.Module {
		m := route(hooktest.Code([]byte{0x20, 0}, n(0), []byte{0x11, 3, 0}))
		m.Tables, m.Elements = []uint32{4}, []uint32{0}
		return m
	}())
	add("itself by the table", "", "fuel", func() *hooktest.Module {
		m := route(hooktest.Code([]byte{0x20, 0}, n(0), []byte{0x11, 3, 0}))
		m.Tables, m.Elements = []uint32{4}, []uint32{3}
		return m
	}())
	add("an empty place of the table", "", "trap", func() *hooktest.Module {
		m := route(hooktest.Code([]byte{0x20, 0}, n(3), []byte{0x11, 3, 0}))
		m.Tables, m.Elements = []uint32{4}, []uint32{3}
		return m
	}())
	add("locals in number", "locals", "", route(pass, hooktest.Func{Locals: bytes.Repeat([]byte{i64}, 60_000)}))
	add("a start function that is the hook", "invalid module", "", func() *hooktest.Module { m := route(pass); m.Start = 4; return m }())
	add("a start function that calls the host", "", "", func() *hooktest.Module {
		m := route(pass, hooktest.Func{Code: hooktest.Code(n(1), n(0), n(4), []byte{0x10, 0})})
		m.Imports = []hooktest.Import{{Module: "edge", Name: "log", Params: []byte{i32, i32, i32}}}
		m.Start = 6
		return m
	}())
	add("a memory that is imported too", "", "", func() *hooktest.Module { m := route(pass); m.MemoryMax = 1; return m }())

	// Pointers and lengths, from every function of the host and from the hook.
	bad := func(name string, params int, result bool, args ...int32) {
		var code []byte
		for _, a := range args {
			code = append(code, n(a)...)
		}
		code = append(code, 0x10, 0)
		if result {
			code = append(code, 0x1a)
		}
		add(fmt.Sprintf("%s%v", name, args), "", "memory", call(name, params, result, code))
	}
	bad("log", 3, false, 1, 65530, 100)
	bad("log", 3, false, 1, -1, 1)
	bad("header", 5, true, 0, -8, 16, 0, 8)
	bad("config", 4, true, 65535, 2, 0, 8)
	bad("config", 4, true, -2, 8, 0, 8)
	add("config of 2^32-2 bytes", "", "fuel", call("config", 4, true, hooktest.Code(n(-2), n(-2), n(0), n(8), []byte{0x10, 0, 0x1a})))
	bad("kv_get", 4, true, 65536, 1, 0, 8)
	bad("tag_add", 2, true, 65500, 256)
	add("log of 2^32-1 bytes", "", "fuel", call("log", 3, false, hooktest.Code(n(1), n(0), n(-1), []byte{0x10, 0})))
	add("header of no name", "", "", call("header", 5, true, hooktest.Code(n(0), n(0), n(0), n(0), n(8), []byte{0x10, 0, 0x1a})))
	add("tags without end", "", "fuel", call("tag_add", 2, true, hooktest.Code([]byte{0x03, 0x40}, n(1), n(2), []byte{0x10, 0, 0x1a, 0x0c, 0, 0x0b})))

	add("kv_get into nowhere", "", "", call("kv_get", 4, true, hooktest.Code(n(0), n(2), n(-1), n(-1), []byte{0x10, 0, 0x1a})))

	// Arithmetic and loads.
	add("a quotient that does not fit", "", "trap", route(hooktest.Code(hooktest.ConstI64(-1<<63), hooktest.ConstI64(-1), []byte{0x7f})))
	add("a remainder by zero", "", "trap", route(hooktest.Code(hooktest.ConstI64(7), hooktest.ConstI64(0), []byte{0x81})))
	add("a float that fits nowhere", "", "trap", route(hooktest.Code([]byte{0x44, 0, 0, 0, 0, 0, 0, 0xf0, 0x7f, 0xb0})))
	add("a load that wraps around", "", "trap", route(hooktest.Code(n(-1), []byte{0x29, 0, 0xff, 0xff, 0xff, 0xff, 0x0f})))
	add("a store that wraps around", "", "trap", route(hooktest.Code(n(-1), hooktest.ConstI64(1), []byte{0x37, 0, 0xff, 0xff, 0xff, 0xff, 0x0f}, pass)))
	add("growth by 2^32-1", "", "fuel", route(hooktest.Code(n(-1), []byte{0x40, 0, 0x1a}, pass)))
	add("data of a segment that is gone", "", "trap", func() *hooktest.Module {
		m := route(hooktest.Code([]byte{0xfc, 9, 0}, n(0), n(0), n(4), []byte{0xfc, 8, 0, 0}, pass))
		m.Passive = []byte("data")
		return m
	}())
	add("more data than a segment has", "", "trap", func() *hooktest.Module {
		m := route(hooktest.Code(n(0), n(2), n(4), []byte{0xfc, 8, 0, 0}, pass))
		m.Passive = []byte("data")
		return m
	}())
	add("a table that grows for ever", "", "fuel", func() *hooktest.Module {
		m := route(hooktest.Code([]byte{0x03, 0x40, 0xd0, 0x70}, n(100), []byte{0xfc, 15, 0, 0x1a, 0x0c, 0, 0x0b}, pass))
		m.Tables = []uint32{1}
		return m
	}())
	add("SIMD", "SIMD", "", route(hooktest.Code([]byte{0xfd, 12}, make([]byte, 16), []byte{0x1a}, pass)))
	add("atomics", "thread", "", route(hooktest.Code([]byte{0xfe, 3, 0}, pass)))
	add("an instruction that is none", "opcode", "", route(hooktest.Code([]byte{0xff}, pass)))

	// Answers.
	out := func(res abi.Result, b []byte) *hooktest.Module { return hooktest.WithOutput(abi.Route, res, b) }
	records := abi.MakeResult(abi.OK, abi.ResultRecords, 0)
	record := func(typ uint16, text string) []byte { return abi.AppendEnd(abi.AppendRecord(nil, typ, []byte(text))) }
	named := func(name, value string) string { return string([]byte{byte(len(name)), 0}) + name + value }
	add("a target without slash", "", "result", out(records, record(abi.RecTarget, "http://evil.example/")))
	add("a target with a line end", "", "result", out(records, record(abi.RecTarget, "/a\r\nHost: evil.example")))
	add("the field Host", "", "result", out(records, record(abi.RecSetRequest, named("host", "evil.example"))))
	add("the field Content-Length", "", "result", out(records, record(abi.RecSetResponse, named("Content-Length", "0"))))
	add("the field Transfer-Encoding, taken away", "", "result", out(records, record(abi.RecRemove, "\x00\x00transfer-encoding")))
	add("a value with a line end", "", "result", out(records, record(abi.RecSetResponse, named("x-a", "b\r\nset-cookie: c"))))
	add("a name longer than its record", "", "result", out(records, record(abi.RecSetRequest, "\xff\x00x")))
	add("a status below 400", "", "result", out(abi.MakeResult(abi.Deny, 1, 0), record(abi.RecStatus, "\xc8\x00")))
	add("a tag with a comma", "", "result", out(records, record(abi.RecTag, "a,b")))
	add("an answer with a body it has not", "", "result", out(records, record(abi.RecAnswer, "\xc8\x00\x00\x00\xff\xff\x00\x00")))
	add("an answer with fields it has not", "", "result", out(records, record(abi.RecAnswer, "\xc8\x00\xff\xff\x00\x00\x00\x00")))
	add("tiers there are not", "", "result", out(records, record(abi.RecTiers, "\xff\xff")))
	add("a record of 65,535 bytes", "", "result", out(records, []byte{byte(abi.RecTag), 0, 0xff, 0xff}))
	add("a type there is not", "", "result", out(records, record(200, "x")))

	// Names and sections.
	add("an export twice", "invalid module", "", route(pass, hooktest.Func{Export: abi.ExportInit, Params: []byte{i32}, Results: []byte{i32}, Code: n(0)}))
	add("the meter's name for a function", "reserved for metering", "", route(pass, hooktest.Func{Export: "__edge_fuel"}))
	add("the meter's counter by its number", "invalid module", "", func() *hooktest.Module {
		m := route(hooktest.Code(hooktest.ConstI64(1<<62), []byte{0x24, 1}, pass)) // global 1 is there only after rewriting
		m.Globals = []int64{0}
		return m
	}())
	add("a manifest of 70,000 bytes", "the limit is 65536", "", func() *hooktest.Module {
		m := route(pass)
		m.Manifest = `{"name":"` + strings.Repeat("n", 70_000) + `"}`
		return m
	}())
	add("tests of which one fails", "self-test", "", func() *hooktest.Module {
		m := route(pass)
		m.Manifest = `{"tests":{"cases":[{"name":"x","hook":"route","want":{"verdict":"deny"}}]}}`
		return m
	}())
	return list
}

// TestHostileModules: each is refused with a message that names its fault, or is
// stopped when it is called, and the node serves on with the memory it had.
func TestHostileModules(t *testing.T) {
	list := hostileModules()
	if len(list) < 60 {
		t.Errorf("%d modules, want 60 at least", len(list))
	}
	set := metrics.NewSet()
	h := open(t, hooks.Options{Instances: 1, Metrics: set, FaultLimit: 64})
	live := open(t, hooks.Options{Instances: 1})
	load(t, live, hooks.Spec{Name: "live", Bytes: hooktest.Guest(abi.Route, pass).Bytes()})
	before := heapBytes()
	var d hooks.Decision
	for k, one := range list {
		name := fmt.Sprint("h", k)
		start := time.Now()
		_, err := h.Load(t.Context(), []hooks.Spec{{Name: name, Bytes: one.m.Bytes(), OnFault: hooks.OnFaultDeny, Grant: []string{"header", "kv_get"},
			Fuel: map[string]uint64{"init": 10_000_000}}})
		if (err != nil) != (one.refused != "") || err != nil && !strings.Contains(err.Error(), one.refused) {
			t.Errorf("%s: got %v, want %q", one.what, err, one.refused)
		}
		if err == nil {
			h.Route(request("http://h/x", nil), &d)
			if d.Faulted != (one.reason != "") {
				t.Errorf("%s: faulted %v, want %q", one.what, d.Faulted, one.reason)
			}
			if d.Faulted && (d.Status != 503 || len(d.Tags) > 0 || d.Target != nil || len(d.Edits) > 0) {
				t.Errorf("%s: half an answer %+v", one.what, d)
			}
			if one.reason != "" {
				if got := counter(t, set, fmt.Sprintf(`edgenode_hooks_faults_total{hook=%q,reason=%q}`, name, one.reason)); got != 1 {
					t.Errorf("%s: %d faults by %s, want 1", one.what, got, one.reason)
				}
			}
		}
		if took := time.Since(start); took > time.Minute {
			t.Errorf("%s: took %v", one.what, took)
		}
		if live.Route(request("k", nil), &d); d.Verdict != hooks.Pass {
			t.Fatalf("%s: the other hooks say %v", one.what, d.Verdict)
		}
	}
	load(t, h)
	load(t, h)
	if grown := heapBytes() - before; grown > 4<<20 {
		t.Errorf("the heap grew by %d KiB", grown>>10)
	}
	t.Logf("%d modules", len(list))
}

// TestNaNScores: a ranking made of numbers that are none decides nothing by chance.
// Turned into integers as WebAssembly defines it they are all alike, or trap, and
// then the node's own ranking stands.
func TestNaNScores(t *testing.T) {
	nan := []byte{0x44, 0, 0, 0, 0, 0, 0, 0, 0, 0x44, 0, 0, 0, 0, 0, 0, 0, 0, 0xa3} // f64: 0/0
	store := func(convert ...byte) *hooktest.Module {
		var code []byte
		for k := range 3 {
			code = hooktest.Code(code, hooktest.ConstI32(int32(hooktest.Buffer+abi.InputBytes+4*k)), nan, convert, []byte{0x36, 2, 0})
		}
		return hooktest.Guest(abi.Evict, hooktest.Code(code, hooktest.Result(abi.OK, 0, 3)))
	}
	c := make([]abi.Candidate, 3)
	h := loaded(t, store(0xfc, 2)) // i32.trunc_sat_f64_s
	if got, ok := h.Score(nil, c, 0, 1); !ok || len(got) != 3 || got[0] != 0 || got[1] != 0 || got[2] != 0 {
		t.Errorf("saturating: %v, %v", got, ok)
	}
	h = loaded(t, store(0xaa)) // i32.trunc_f64_s
	if got, ok := h.Score([]int32{7}, c, 0, 1); ok || len(got) != 1 {
		t.Errorf("trapping: %v, %v", got, ok)
	}
	// The bits of the numbers themselves are integers like others: any order they
	// give is one.
	bits := hooktest.Guest(abi.Evict, hooktest.Code(hooktest.ConstI32(int32(hooktest.Buffer+abi.InputBytes)), nan, []byte{0x39, 3, 0}, hooktest.Result(abi.OK, 0, 3)))
	if got, ok := loaded(t, bits).Score(nil, c, 0, 1); !ok || len(got) != 3 {
		t.Errorf("bits: %v, %v", got, ok)
	}
}
