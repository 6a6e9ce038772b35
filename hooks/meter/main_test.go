package meter_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"go.uber.org/goleak"

	"github.com/edgenode/edgenode/hooks/hooktest"
	"github.com/edgenode/edgenode/hooks/meter"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const features = api.CoreFeaturesV2 &^ api.CoreFeatureSIMD

var options = meter.Options{InitialFuel: 1_000_000, MemoryPages: 16}

func rewrite(t testing.TB, code []byte) []byte {
	t.Helper()
	m, err := meter.Parse(code)
	if err != nil {
		t.Fatal(err)
	}
	out, _, err := m.Rewrite(options)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// outcome is all that can be seen of a run.
type outcome struct {
	value  uint64
	trap   string
	memory string
	fuel   int64 // left; 0 if not metered
}

// engine runs modules with one of wazero's two engines.
type engine struct{ rt wazero.Runtime }

func engines(t testing.TB) (compiler, interpreter engine) {
	t.Helper()
	ctx := context.Background()
	compiler = engine{wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigCompiler().WithCoreFeatures(features).WithMemoryLimitPages(16))}
	interpreter = engine{wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigInterpreter().WithCoreFeatures(features).WithMemoryLimitPages(16))}
	t.Cleanup(func() {
		if err := errors.Join(compiler.rt.Close(ctx), interpreter.rt.Close(ctx)); err != nil {
			t.Error(err)
		}
	})
	return compiler, interpreter
}

// run calls the export "run" of a module with arg.
func (e engine) run(t testing.TB, code []byte, arg uint64) outcome {
	t.Helper()
	ctx := context.Background()
	c, err := e.rt.CompileModule(ctx, code)
	if err != nil {
		t.Fatalf("compile: %v", err)
	}
	defer func() { _ = c.Close(ctx) }()
	mod, err := e.rt.InstantiateModule(ctx, c, wazero.NewModuleConfig().WithName("").WithStartFunctions())
	if err != nil {
		return outcome{trap: reason(err)}
	}
	defer func() { _ = mod.Close(ctx) }()
	var o outcome
	res, err := mod.ExportedFunction("run").Call(ctx, arg)
	if err != nil {
		o.trap = reason(err)
	} else {
		o.value = res[0]
	}
	b, _ := mod.Memory().Read(0, 4096)
	o.memory = string(b)
	if g := mod.ExportedGlobal(meter.FuelExport); g != nil {
		o.fuel = int64(g.Get())
	}
	return o
}

// reason cuts the stack off a trap.
func reason(err error) string {
	text, _, _ := strings.Cut(err.Error(), "\n")
	return text
}

// run1 is a module with one function "run": one i32, one i64, i32 locals 1 to 4.
func run1(code ...[]byte) *hooktest.Module {
	return &hooktest.Module{MemoryMin: 1, Funcs: []hooktest.Func{{
		Export: "run", Params: []byte{hooktest.I32}, Results: []byte{hooktest.I64},
		Locals: []byte{hooktest.I32, hooktest.I32, hooktest.I32, hooktest.I32}, Code: hooktest.Code(code...)}}}
}
