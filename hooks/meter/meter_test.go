package meter_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/edgenode/edgenode/hooks/hooktest"
	"github.com/edgenode/edgenode/hooks/meter"
)

var (
	i32 = hooktest.ConstI32
	i64 = hooktest.ConstI64
)

// programs are small functions with known cost per call.
func programs() map[string]struct {
	m    *hooktest.Module
	arg  uint64
	cost int64 // of one run, -1 if not stated
} {
	type p = struct {
		m    *hooktest.Module
		arg  uint64
		cost int64
	}
	get, set := func(n byte) []byte { return []byte{0x20, n} }, func(n byte) []byte { return []byte{0x21, n} }
	countdown := hooktest.Code([]byte{0x03, 0x40}, get(0), i32(1), []byte{0x6b, 0x22, 0, 0x0d, 0, 0x0b})
	recursive := run1()
	recursive.Funcs[0].Code = hooktest.Code(get(0), []byte{0x45, 0x04, hooktest.I64}, i64(0), []byte{0x05},
		get(0), i32(1), []byte{0x6b, 0x10, 0}, i64(1), []byte{0x7c, 0x0b})
	table := run1(get(0), i32(0), []byte{0x11}, []byte{1, 0})
	table.Funcs = append(table.Funcs, hooktest.Func{Params: []byte{hooktest.I32}, Results: []byte{hooktest.I64}, Code: i64(9)})
	table.Tables, table.Elements = []uint32{1}, []uint32{1}
	passive := run1(i32(8), i32(0), get(0), []byte{0xfc, 8, 0, 0, 0xfc, 9, 0}, i64(1))
	passive.Passive = []byte("0123456789abcdef0123456789abcdef")
	multi := run1(get(0), []byte{0x10, 1, 0x1a})
	multi.Funcs = append(multi.Funcs, hooktest.Func{Params: []byte{hooktest.I32}, Results: []byte{hooktest.I64, hooktest.I32},
		Code: hooktest.Code(countdownOf(), i64(5), i32(6))})
	return map[string]p{
		"straight line":        {run1(i64(7)), 0, 2},
		"loop of n turns":      {run1(countdown, i64(0)), 100, 3 + 1 + 100*6 - 1 + 0},
		"if without else":      {run1(get(0), []byte{0x04, 0x40, 0x01, 0x01, 0x0b}, i64(1)), 0, 7},
		"the longer arm":       {run1(get(0), []byte{0x04, 0x40, 0x01, 0x05, 0x01, 0x01, 0x01, 0x0b}, i64(1)), 1, -1},
		"early return":         {run1(get(0), []byte{0x04, 0x40}, i64(3), []byte{0x0f, 0x0b}, i64(1)), 1, -1},
		"recursion":            {recursive, 50, -1},
		"indirect call":        {table, 0, -1},
		"memory.fill by size":  {run1(i32(0), i32(7), get(0), []byte{0xfc, 11, 0}, i64(1)), 4096, 6 + 4096/16},
		"memory.copy by size":  {run1(i32(1), i32(0), get(0), []byte{0xfc, 10, 0, 0}, i64(1)), 320, 6 + 20},
		"memory.init by size":  {passive, 32, 7 + 2},
		"memory.grow by pages": {run1(get(0), []byte{0x40, 0, 0xac}), 2, 4 + 2048},
		"grow over the limit":  {run1(get(0), []byte{0x40, 0, 0xac}), 100, 4 + 102400},
		"fill out of bounds":   {run1(i32(0), i32(7), i32(-1), []byte{0xfc, 11, 0}, i64(1)), 0, -1},
		"division by zero":     {run1(get(0), get(0), []byte{0x6e, 0xac}), 0, -1},
		"unreachable":          {run1([]byte{0x00}), 0, -1},
		"dead code":            {run1(i64(1), []byte{0x0f}, i32(0), i32(7), get(0), []byte{0xfc, 11, 0}, i64(1)), 0, -1},
		"two results":          {multi, 10, -1},
		"branch out of a loop": {run1([]byte{0x02, 0x40, 0x03, 0x40}, get(0), []byte{0x45, 0x0d, 1}, get(0), i32(1), []byte{0x6b}, set(0), []byte{0x0c, 0, 0x0b, 0x0b}, i64(2)), 20, -1},
	}
}

func countdownOf() []byte {
	return []byte{0x03, 0x40, 0x20, 0, 0x41, 1, 0x6b, 0x22, 0, 0x0d, 0, 0x0b}
}

// TestEqualResults holds that metering changes nothing a module computes, and that
// fuel is the same for both engines.
func TestEqualResults(t *testing.T) {
	compiler, interpreter := engines(t)
	for name, p := range programs() {
		t.Run(name, func(t *testing.T) {
			code := p.m.Bytes()
			metered := rewrite(t, code)
			plain := interpreter.run(t, code, p.arg)
			a, b := compiler.run(t, metered, p.arg), interpreter.run(t, metered, p.arg)
			if a != b {
				t.Errorf("compiler and interpreter differ: %+v and %+v", head(a), head(b))
			}
			if p.cost >= 0 {
				if got := options.InitialFuel - a.fuel; got != p.cost {
					t.Errorf("cost %d, want %d", got, p.cost)
				}
			}
			if a.fuel < 0 {
				return // stopped: what it did until then may differ
			}
			a.fuel = 0
			if a != plain {
				t.Errorf("metered %+v, plain %+v", head(a), head(plain))
			}
		})
	}
}

func head(o outcome) outcome {
	o.memory = o.memory[:min(len(o.memory), 16)]
	return o
}

// TestRandomPrograms does the same for random programs. Their loops end by
// themselves.
func TestRandomPrograms(t *testing.T) {
	compiler, interpreter := engines(t)
	for seed := range uint64(150) {
		g := generator{r: rand.New(rand.NewPCG(seed, 1))}
		code := run1(g.block(5), []byte{0x20, 1, 0xad}).Bytes()
		metered := rewrite(t, code)
		plain := interpreter.run(t, code, seed)
		a, b := compiler.run(t, metered, seed), interpreter.run(t, metered, seed)
		if a != b {
			t.Fatalf("seed %d: compiler and interpreter differ: %+v and %+v", seed, head(a), head(b))
		}
		if a.fuel < 0 {
			continue
		}
		a.fuel = 0
		if a != plain {
			t.Fatalf("seed %d: metered %+v, plain %+v", seed, head(a), head(plain))
		}
	}
}

// generator makes statements that leave the stack as it was, over i32 locals 0 to
// 3. Local 4 counts the turns of all loops together.
type generator struct {
	r     *rand.Rand
	depth int // open labels
}

func (g *generator) local() byte { return byte(g.r.IntN(4)) }

func (g *generator) block(budget int) (code []byte) {
	for range 1 + g.r.IntN(4) {
		code = append(code, g.statement(budget)...)
	}
	return code
}

func (g *generator) expression() []byte {
	ops := []byte{0x6a, 0x6b, 0x6c, 0x71, 0x72, 0x73, 0x74, 0x76, 0x46, 0x48, 0x4d, 0x6e, 0x70}
	return hooktest.Code([]byte{0x20, g.local()}, i32(int32(g.r.IntN(64)-8)), []byte{ops[g.r.IntN(len(ops))]})
}

func (g *generator) nested(budget int) []byte {
	g.depth++
	defer func() { g.depth-- }()
	return g.block(budget - 1)
}

func (g *generator) statement(budget int) []byte {
	kind := g.r.IntN(10)
	if budget == 0 {
		kind %= 4
	}
	switch kind {
	case 0, 1:
		return hooktest.Code(g.expression(), []byte{0x21, g.local()})
	case 2: // store and load within the first page
		return hooktest.Code(g.expression(), i32(0xffc), []byte{0x71, 0x20, g.local(), 0x36, 2, 0},
			g.expression(), i32(0xffc), []byte{0x71, 0x28, 2, 0, 0x21, g.local()})
	case 3: // bulk memory
		return hooktest.Code(g.expression(), i32(0x3ff), []byte{0x71}, g.expression(), []byte{0x20, g.local()}, i32(0x7f), []byte{0x71, 0xfc, 11, 0})
	case 4:
		return hooktest.Code(g.expression(), []byte{0x04, 0x40}, g.nested(budget), []byte{0x05}, g.nested(budget), []byte{0x0b})
	case 5:
		return hooktest.Code(g.expression(), []byte{0x04, 0x40}, g.nested(budget), []byte{0x0b})
	case 6:
		return hooktest.Code([]byte{0x02, 0x40}, g.nested(budget), []byte{0x0b})
	case 7: // loop while local 4 is below 40
		return hooktest.Code([]byte{0x03, 0x40}, g.nested(budget), []byte{0x20, 4}, i32(1), []byte{0x6a, 0x22, 4},
			i32(40), []byte{0x49, 0x0d, 0, 0x0b})
	case 8: // conditional branch out, to a label that is no loop if luck has it
		if g.depth == 0 {
			return []byte{0x01}
		}
		return hooktest.Code([]byte{0x20, 4}, i32(1), []byte{0x6a, 0x22, 4}, i32(200), []byte{0x49}, g.expression(), []byte{0x71, 0x0d, byte(g.r.IntN(g.depth))})
	default:
		if g.depth < 2 {
			return []byte{0x01}
		}
		return hooktest.Code([]byte{0x02, 0x40}, []byte{0x20, 4}, i32(1), []byte{0x6a, 0x22, 4}, i32(100), []byte{0x4b, 0x04, 0x40, 0x0c, 1, 0x0b},
			g.expression(), []byte{0x0e, 2, 0, 1, 2, 0x0b})
	}
}

// TestRunawayStops holds that nothing runs on: loops, recursion, bulk operations.
func TestRunawayStops(t *testing.T) {
	compiler, interpreter := engines(t)
	f := func(name string, m *hooktest.Module) {
		t.Helper()
		metered := rewrite(t, m.Bytes())
		for _, e := range []engine{compiler, interpreter} {
			// the interpreter's own stack ends before the fuel does
			if o := e.run(t, metered, 1); o.trap == "" || o.fuel >= 0 && !strings.Contains(o.trap, "stack overflow") {
				t.Errorf("%s: not stopped: %+v", name, head(o))
			}
		}
	}
	f("empty loop", run1([]byte{0x03, 0x40, 0x0c, 0, 0x0b}, i64(0)))
	f("loop by table", run1([]byte{0x03, 0x40, 0x20, 0, 0x0e, 1, 0, 0, 0x0b}, i64(0)))
	f("nested loops", run1([]byte{0x03, 0x40, 0x03, 0x40, 0x0c, 1, 0x0b, 0x0b}, i64(0)))
	f("recursion", run1([]byte{0x20, 0, 0x10, 0}))
	f("copies", run1([]byte{0x03, 0x40}, i32(0), i32(1), i32(60000), []byte{0xfc, 10, 0, 0, 0x0c, 0, 0x0b}, i64(0)))
	f("growing", run1([]byte{0x03, 0x40}, i32(1), []byte{0x40, 0, 0x1a, 0x0c, 0, 0x0b}, i64(0)))
	f("table growth", func() *hooktest.Module {
		m := run1([]byte{0x03, 0x40, 0xd0, 0x70}, i32(1000), []byte{0xfc, 15, 0, 0x1a, 0x0c, 0, 0x0b}, i64(0))
		m.Tables = []uint32{1}
		return m
	}())
}

// TestLongWayIsPaid holds that code behind branches is paid for at the head: a
// body of a million instructions cannot hide in an arm.
func TestLongWayIsPaid(t *testing.T) {
	_, interpreter := engines(t)
	arm := bytes.Repeat([]byte{0x01}, 5000)
	code := run1([]byte{0x20, 0, 0x04, 0x40}, arm, []byte{0x0b, 0x02, 0x40, 0x20, 0, 0x0d, 0}, arm, []byte{0x0b}, i64(0)).Bytes()
	o := interpreter.run(t, rewrite(t, code), 0)
	if cost := options.InitialFuel - o.fuel; cost < 10_000 || cost > 10_060 { // 39 are for its size
		t.Errorf("cost %d, want some 10,050", cost)
	}
}

// TestWidthIsPaid holds that a short way does not cost the engine much: it copies
// locals and values where ways join, and frames hold what is never run.
func TestWidthIsPaid(t *testing.T) {
	const rounds, width = 20, 1000
	compiler, _ := engines(t)
	f := func(what string, m *hooktest.Module, perRound int64) {
		t.Helper()
		o := compiler.run(t, rewrite(t, m.Bytes()), rounds)
		if cost := (options.InitialFuel - o.fuel) / rounds; o.trap != "" || cost < perRound {
			t.Errorf("%s: a round costs %d, want %d or more (%s)", what, cost, perRound, o.trap)
		}
	}
	again := []byte{0x20, 0, 0x41, 1, 0x6b, 0x22, 0} // leaves the number of rounds to go
	many := bytes.Repeat([]byte{hooktest.I32}, width)
	var rotate []byte // changes each local
	for k := range uint32(width) {
		rotate = append(hooktest.U32(append(rotate, 0x20), 1+(k+1)%width), 0x41, 1, 0x6a, 0x21)
		rotate = hooktest.U32(rotate, 1+k)
	}
	never := hooktest.Code([]byte{0x02, 0x40, 0x20, 0, 0x0d, 0, 0x03, 0x40}, rotate, []byte{0x20, 1, 0x0d, 0, 0x0b, 0x0b})

	locals := run1([]byte{0x03, 0x40}, never, again, []byte{0x0d, 0, 0x0b}, i64(0))
	locals.Funcs[0].Locals = many
	f("locals that a loop never entered would change", locals, 2*(width-40)/8)

	// Each round pushes one value and takes the topmost ones along: all move.
	shift := run1(bytes.Repeat(i32(7), width), []byte{0x03, 1}, i32(8), again, []byte{0x0d, 0, 0x1a, 0x0b}, bytes.Repeat([]byte{0x1a}, width), i64(0))
	shift.Funcs = append(shift.Funcs, hooktest.Func{Params: many, Results: many, Code: []byte{0}})
	f("values that a branch shifts", shift, width/8)

	recurse := run1(never, again, []byte{0x04, hooktest.I64, 0x20, 0, 0x10, 0, 0x05}, i64(0), []byte{0x0b})
	recurse.Funcs[0].Locals = many
	f("frames of locals", recurse, 2*(width-40)/8)

	wide := run1(again, []byte{0x04, 0x40, 0x20, 0, 0x10, 1, 0x05}, bytes.Repeat(i32(7), width), []byte{0x10, 2, 0x0b}, i64(0))
	wide.Funcs = append(wide.Funcs, hooktest.Func{Params: []byte{hooktest.I32}, Code: hooktest.Code(
		[]byte{0x20, 0, 0x04, 0x40}, again, []byte{0x10, 1, 0x05, 0x03, 0x40}, bytes.Repeat([]byte{0x20, 0, 0x1a}, 256*20/3), []byte{0x0b, 0x0b})},
		hooktest.Func{Params: many})
	f("frames of code", wide, 20)
}

func TestManyValuesOfATypeAreRefused(t *testing.T) {
	m := &hooktest.Module{Funcs: []hooktest.Func{{Params: bytes.Repeat([]byte{hooktest.I32}, 1001)}}}
	if _, err := meter.Parse(m.Bytes()); err == nil || !strings.Contains(err.Error(), "1001 parameters or results, the limit is 1000") {
		t.Errorf("got %v", err)
	}
}

// TestFuelCoversInstructions counts what programs really execute and holds that
// they paid for it: fuel is never less than the number of instructions, and for
// these programs never more than a few times as much.
func TestFuelCoversInstructions(t *testing.T) {
	compiler, _ := engines(t)
	f := func(what string, code []byte, arg uint64) {
		t.Helper()
		m, err := meter.Parse(code)
		if err != nil {
			t.Fatal(err)
		}
		m.CountEach()
		exact, _, err := m.Rewrite(options)
		if err != nil {
			t.Fatal(err)
		}
		counted, paid := compiler.run(t, exact, arg), compiler.run(t, rewrite(t, code), arg)
		if counted.fuel < 0 || paid.fuel < 0 || counted.trap != "" {
			return // it did not come to its end
		}
		executed, cost := options.InitialFuel-counted.fuel, options.InitialFuel-paid.fuel
		if cost < executed {
			t.Errorf("%s: executed %d instructions, paid %d", what, executed, cost)
		}
		if strings.HasPrefix(what, "seed") && cost > 20*executed+20_000 { // others pay by size
			t.Errorf("%s: executed %d instructions, paid %d: far too much", what, executed, cost)
		}
	}
	for name, p := range programs() {
		f(name, p.m.Bytes(), p.arg)
	}
	for seed := range uint64(120) {
		g := generator{r: rand.New(rand.NewPCG(seed, 2))}
		f(fmt.Sprint("seed ", seed), run1(g.block(5), []byte{0x20, 1, 0xad}).Bytes(), seed)
	}
}

func TestRefusals(t *testing.T) {
	f := func(what string, code []byte, want string) {
		t.Helper()
		m, err := meter.Parse(code)
		if err == nil {
			_, _, err = m.Rewrite(options)
		}
		if err == nil || !strings.Contains(err.Error(), want) || !errors.Is(err, meter.ErrModule) {
			t.Errorf("%s: got %v, want an error with %q", what, err, want)
		}
	}
	body := func(code ...byte) []byte { return run1(code).Bytes() }
	f("empty", nil, "not a WebAssembly 1 binary")
	f("component", []byte{0, 'a', 's', 'm', 13, 0, 1, 0}, "not a WebAssembly 1 binary")
	f("simd", body(0xfd, 12), "SIMD")
	f("threads", body(0xfe, 0), "threads")
	f("tail call", body(0x12, 0), "tail calls")
	f("try", body(0x06, 0x40), "exception handling")
	f("gc", body(0xfb, 0), "garbage collection")
	f("typed reference call", body(0x14, 0), "typed function references")
	f("unknown", body(0xff), "unknown")
	f("unknown misc", body(0xfc, 18), "0xfc 18 is unknown")
	f("v128 local", (&hooktest.Module{Funcs: []hooktest.Func{{Locals: []byte{0x7b}}}}).Bytes(), "SIMD")
	f("v128 parameter", (&hooktest.Module{Funcs: []hooktest.Func{{Params: []byte{0x7b}}}}).Bytes(), "SIMD")
	f("reserved name", (&hooktest.Module{Globals: []int64{1}, GlobalAs: map[string]uint32{meter.FuelExport: 0}}).Bytes(), "reserved for metering")
	f("reserved name for a function", (&hooktest.Module{Funcs: []hooktest.Func{{Export: meter.FuelExport}}}).Bytes(), "reserved for metering")
	f("too much memory", (&hooktest.Module{MemoryMin: 17}).Bytes(), "memory starts with 17, the limit is 16 pages")
	f("too large a table", (&hooktest.Module{Tables: []uint32{1 << 20}}).Bytes(), "table 0 starts with 1048576, the limit is 65536 entries")
	f("too many tables", (&hooktest.Module{Tables: make([]uint32, 17)}).Bytes(), "17 tables, the limit is 16")
	f("memory import", append(header(), 2, 8, 1, 1, 'e', 1, 'm', 2, 0, 1), "only functions may be imported")
	f("shared memory", append(header(), 5, 4, 1, 3, 1, 1), "threads")
	f("memory64", append(header(), 5, 3, 1, 4, 1), "outside the pinned feature set")
	f("tag section", append(header(), 13, 0), "outside the pinned feature set")
	f("order", append(header(), 5, 3, 1, 0, 1, 1, 1, 0), "out of order")
	f("cut", body(0x01)[:15], "unexpected end")
	f("label", body(0x0c, 9), "label 9 does not exist")
	f("else", body(0x05), "else without if")
	f("after the end", body(0x0b, 0x01), "left over")
	f("no end", append(header(), 1, 4, 1, 0x60, 0, 0, 3, 2, 1, 0, 10, 5, 1, 3, 0, 0x02, 0x40), "unexpected end")
	f("locals", append(header(), 1, 4, 1, 0x60, 0, 0, 3, 2, 1, 0, 10, 10, 1, 8, 1, 0xff, 0xff, 0xff, 0xff, 0x0f, 0x7f, 0x0b), "more than 2000 locals")
	f("huge element vector", append(header(), 9, 9, 1, 3, 0, 0xff, 0xff, 0xff, 0xff, 0x0f, 0), "unexpected end")
	f("huge data vector", append(header(), 11, 5, 0xff, 0xff, 0xff, 0xff, 0x0f), "unexpected end")
	f("huge global vector", append(header(), 6, 5, 0xff, 0xff, 0xff, 0xff, 0x0f), "unexpected end")
	f("locals of all functions", manyLocals(2200), "locals in all functions")
	f("huge count", append(header(), 10, 5, 0xff, 0xff, 0xff, 0xff, 0x0f), "unexpected end")
	f("number above 32 bits", append(header(), 10, 5, 0xff, 0xff, 0xff, 0xff, 0x7f), "above 32 bits")
	f("bodies missing", append(header(), 1, 4, 1, 0x60, 0, 0, 3, 2, 1, 0), "1 functions declared, 0 bodies")
}

// manyLocals has n functions of 2,000 locals.
func manyLocals(n int) []byte {
	m := &hooktest.Module{}
	for range n {
		m.Funcs = append(m.Funcs, hooktest.Func{Locals: bytes.Repeat([]byte{hooktest.I32}, 2000)})
	}
	return m.Bytes()
}

func header() []byte { return []byte{0, 'a', 's', 'm', 1, 0, 0, 0} }

func TestPinnedOpcodes(t *testing.T) {
	refused := 0
	for op := range 256 {
		if err := meter.Refused(byte(op)); err != nil {
			refused++
		}
	}
	if got, want := 256-refused, 172+5+6+1; got != want { // WebAssembly 1.0, sign extension, references, prefix 0xfc
		t.Errorf("%d opcodes accepted, want %d", got, want)
	}
}

// TestDeterministic holds that equal bytes give equal bytes.
func TestDeterministic(t *testing.T) {
	for _, code := range corpus(t) {
		if a, b := rewrite(t, code), rewrite(t, bytes.Clone(code)); !bytes.Equal(a, b) {
			t.Error("two runs differ")
		}
	}
}

// TestDebugSectionsGo holds what becomes of custom sections.
func TestDebugSectionsGo(t *testing.T) {
	code := run1(i64(1)).Bytes()
	code = meter.AppendCustom(code, ".debug_line", []byte("x"))
	code = meter.AppendCustom(code, "name", []byte{0, 2, 1, 'm', 1, 4, 1, 0, 1, 'f', 2, 1, 0})
	code = meter.AppendCustom(code, "edge.manifest", []byte("{}"))
	out := rewrite(t, code)
	if bytes.Contains(out, []byte("debug")) || bytes.Contains(out, []byte("manifest")) || !bytes.Contains(out, []byte("name")) {
		t.Errorf("sections kept: %q", out)
	}
}

// corpus is real modules and those above.
func corpus(t testing.TB) (list [][]byte) {
	t.Helper()
	files, err := filepath.Glob("../../wasm-examples/*/*.wasm")
	if err != nil || len(files) < 3 {
		t.Fatalf("%d modules, %v", len(files), err)
	}
	for _, f := range files {
		if strings.Contains(f, "-go") {
			continue // large
		}
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, b)
	}
	for _, p := range programs() {
		list = append(list, p.m.Bytes())
	}
	return list
}

// FuzzRewrite holds that no bytes make the package panic, and that what it makes
// of a valid module is valid.
func FuzzRewrite(f *testing.F) {
	for _, code := range corpus(f) {
		f.Add(code)
	}
	f.Add(append(header(), 3, 2, 1, 0))
	_, interpreter := engines(f)
	f.Fuzz(func(t *testing.T, code []byte) {
		m, err := meter.Parse(code)
		if err != nil {
			return
		}
		out, _, err := m.Rewrite(options)
		if err != nil {
			return
		}
		c, err := interpreter.rt.CompileModule(t.Context(), m.Plain())
		if err != nil {
			return
		}
		_ = c.Close(t.Context())
		c, err = interpreter.rt.CompileModule(t.Context(), out)
		if err != nil {
			t.Fatalf("valid before, not after: %v", err)
		}
		_ = c.Close(t.Context())
	})
}

func ExampleModule_Rewrite() {
	code := hooktest.Guest(1, hooktest.Result(0, 0, 0)).Bytes()
	m, err := meter.Parse(code)
	if err != nil {
		fmt.Println(err)
		return
	}
	_, report, err := m.Rewrite(meter.Options{InitialFuel: 1000, MemoryPages: 16})
	fmt.Println(report.Entries, report.Loops, err)
	// Output: 4 0 <nil>
}
