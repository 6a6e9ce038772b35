package guest_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"

	"github.com/edgenode/edgenode/hooks"
	"github.com/edgenode/edgenode/hooks/abi"
	"github.com/edgenode/edgenode/hooks/guest"
	"github.com/edgenode/edgenode/hooks/hooktest"
	"github.com/edgenode/edgenode/hooks/meter"
)

// eachGuest runs a test on the vector guest of each language; see
// testdata/vectors/README.md.
func eachGuest(t *testing.T, f func(t *testing.T, code []byte)) {
	for _, language := range []string{"assemblyscript", "c", "rust", "wat"} {
		t.Run(language, func(t *testing.T) {
			code, err := os.ReadFile("testdata/vectors/" + language + ".wasm")
			if err != nil {
				t.Fatal(err)
			}
			f(t, code)
		})
	}
	t.Run("go", func(t *testing.T) {
		if !raceDetector { // some MB to compile, by one goroutine
			f(t, goGuest(t))
		}
	})
}

// goGuest builds the vector guest in Go, which is too big to be committed.
func goGuest(t *testing.T) []byte {
	t.Helper()
	file := filepath.Join(t.TempDir(), "go.wasm")
	build := exec.Command("go", "build", "-buildmode=c-shared", "-trimpath", "-ldflags=-s -w", "-o", file, "./testdata/vectors/go")
	build.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	code, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := os.ReadFile("testdata/vectors/manifest.json")
	if err != nil {
		t.Fatal(err)
	}
	wasi := strings.Replace(string(manifest), "{", `{"wasi": true,`, 1)
	return meter.AppendCustom(code, abi.SectionName, []byte(wasi))
}

// raw is a vector guest without the host, to give it blocks to the byte.
type raw struct {
	t    *testing.T
	mod  api.Module
	area uint32
}

// openRaw instantiates a guest with host functions that do nothing.
func openRaw(t *testing.T, code []byte) *raw {
	t.Helper()
	rt := wazero.NewRuntime(t.Context())
	t.Cleanup(func() {
		if err := rt.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
	compiled, err := rt.CompileModule(t.Context(), code)
	if err != nil {
		t.Fatal(err)
	}
	nothing(t, rt, compiled)
	mod, err := rt.InstantiateModule(t.Context(), compiled, wazero.NewModuleConfig().WithStartFunctions())
	if err != nil {
		t.Fatal(err)
	}
	r := &raw{t: t, mod: mod}
	if mod.ExportedFunction(abi.ExportReactor) != nil {
		r.call(abi.ExportReactor)
	}
	if got := r.call(abi.ExportVersion); got != abi.Version {
		t.Fatalf("version %#x, want %#x", got, abi.Version)
	}
	r.area = uint32(r.call(abi.ExportAlloc, abi.InputBytes, abi.OutputBytes))
	if r.area == 0 || r.area%8 != 0 {
		t.Fatalf("area at %d", r.area)
	}
	r.write([]byte("{}"))
	if got := r.call(abi.ExportInit, 2); got != 0 {
		t.Fatalf("init returned %d", got)
	}
	return r
}

// nothing offers the imports of a module: the host's functions return 0.
func nothing(t *testing.T, rt wazero.Runtime, compiled wazero.CompiledModule) {
	t.Helper()
	edge, wasi := rt.NewHostModuleBuilder(abi.ImportModule), false
	for _, def := range compiled.ImportedFunctions() {
		module, name, _ := def.Import()
		if module != abi.ImportModule {
			wasi = true
			continue
		}
		f := api.GoFunc(func(_ context.Context, stack []uint64) { clear(stack[:min(1, len(stack))]) })
		edge.NewFunctionBuilder().WithGoFunction(f, def.ParamTypes(), def.ResultTypes()).Export(name)
	}
	if _, err := edge.Instantiate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if wasi {
		wasi_snapshot_preview1.MustInstantiate(t.Context(), rt)
	}
}

func (r *raw) call(name string, args ...uint64) uint64 {
	r.t.Helper()
	res, err := r.mod.ExportedFunction(name).Call(r.t.Context(), args...)
	if err != nil {
		r.t.Fatalf("%s: %v", name, err)
	}
	if len(res) == 0 {
		return 0
	}
	return res[0]
}

func (r *raw) write(b []byte) {
	r.t.Helper()
	if !r.mod.Memory().Write(r.area, b) {
		r.t.Fatal("the area is not in the memory")
	}
}

// ask gives the guest a block between bytes of an earlier call and returns its
// result and the output area.
func (r *raw) ask(hook abi.Hook, block []byte) (abi.Result, []byte) {
	r.t.Helper()
	all := bytes.Repeat([]byte{0xaa}, abi.InputBytes+abi.OutputBytes)
	copy(all, block)
	r.write(all)
	res := abi.Result(r.call(hook.Export(), uint64(len(block))))
	out, _ := r.mod.Memory().Read(r.area+abi.InputBytes, abi.OutputBytes)
	return res, out
}

func sum(b []byte) uint32 {
	h := fnv.New32a()
	_, _ = h.Write(b)
	return h.Sum32()
}

// dump is what a vector guest says of a block, by the node's own SDK.
func dump(block []byte) []byte {
	r := guest.NewRequest(block)
	d := []byte{byte(r.Operation()), byte(r.Method()), byte(r.Tiers()), 0}
	d = append(d, block[abi.OffFlags:abi.OffFlags+2]...)
	d = le.AppendUint16(d, uint16(r.Status()))
	d = le.AppendUint64(d, r.NowMillis())
	d = le.AppendUint64(d, r.ContentBytes())
	lifetime, known := r.Lifetime()
	if !known {
		lifetime = 0
	}
	d = le.AppendUint32(d, lifetime)
	d = le.AppendUint32(d, r.Hits())
	d = append(d, r.Client()...)
	d = le.AppendUint32(d, uint32(len(pathOf(r.Key(), r.Is(abi.FlagSite)))))
	d = le.AppendUint32(d, uint32(len(r.Key())))
	d = le.AppendUint32(d, sum(r.Key()))
	d = le.AppendUint32(d, uint32(r.Headers()))
	first := map[uint16][]byte{}
	for i := range r.Headers() {
		name, value := r.Line(i)
		d = le.AppendUint16(d, name)
		d = le.AppendUint16(d, uint16(len(value)))
		d = le.AppendUint32(d, sum(value))
		if _, ok := first[name]; !ok {
			first[name] = value
		}
	}
	for _, name := range []uint16{0, 1, abi.ResponseBit, abi.ResponseBit | 1} {
		v, ok := first[name]
		if !ok {
			d = le.AppendUint32(d, 1<<32-1)
			d = le.AppendUint32(d, 0)
			continue
		}
		d = le.AppendUint32(d, uint32(len(v)))
		d = le.AppendUint32(d, sum(v))
	}
	return d
}

// pathOf is the path and query of scheme://host/path?query; the whole of an id.
func pathOf(key []byte, site bool) []byte {
	if !site {
		return key
	}
	parts := bytes.SplitN(key, []byte("/"), 4)
	if len(parts) < 4 {
		return nil
	}
	return key[len(key)-len(parts[3])-1:]
}

// TestGuestsReadVectors holds that each SDK reads each block as it was written.
func TestGuestsReadVectors(t *testing.T) {
	eachGuest(t, func(t *testing.T, code []byte) {
		r := openRaw(t, code)
		v := read(t)
		for _, in := range slices.Concat(v.Inputs, v.Later) {
			block := unhex(t, in.Block)
			want := dump(block)
			res, out := r.ask(abi.Route, block)
			if got := answered(t, res, out); !bytes.Equal(got, want) {
				t.Errorf("%s:\n got %x\nwant %x", in.Name, got, want)
			}
			if got, _ := r.ask(abi.TTL, block); got != abi.MakeResult(abi.OK, 0, sum(want)) {
				t.Errorf("%s: ttl %x, want %x", in.Name, uint64(got), sum(want))
			}
		}
		for _, e := range slices.Concat(v.Evicts, v.LaterEvicts) {
			r.candidates(e.Name, unhex(t, e.Block))
		}
	})
}

// answered is the body of an answer made at once.
func answered(t *testing.T, res abi.Result, out []byte) []byte {
	t.Helper()
	records := abi.ReadRecords(out)
	typ, data, ok := records.Next()
	a, good := abi.ParseAnswer(data)
	if res != abi.MakeResult(abi.OK, abi.ResultRecords, 0) || !ok || !good || typ != abi.RecAnswer {
		t.Errorf("result %x with record %d %x", uint64(res), typ, data)
	}
	return a.Body
}

// candidates asks for scores of a block and compares them with its bytes.
func (r *raw) candidates(name string, block []byte) {
	r.t.Helper()
	first := int(le.Uint16(block)) + 8
	n := (len(block) - first) / abi.CandidateBytes
	res, out := r.ask(abi.Evict, block)
	if res != abi.MakeResult(abi.OK, 0, uint32(n)) {
		r.t.Errorf("%s: result %x", name, uint64(res))
	}
	odd := uint32(0)
	for i := range n {
		c := block[first+i*abi.CandidateBytes:][:abi.CandidateBytes]
		want := sum(slices.Concat(c, block[first-4:first]))
		odd ^= want
		if got := le.Uint32(out[i*4:]); got != want {
			r.t.Errorf("%s: candidate %d is %x, want %x", name, i, got, want)
		}
	}
	if res, _ := r.ask(abi.Admit, block); res != abi.MakeResult(abi.OK, 0, odd&1) {
		r.t.Errorf("%s: admit %x, want %d", name, uint64(res), odd&1)
	}
}

// TestGuestsWriteVectors holds that each SDK writes results and records to the
// byte, over what an earlier call left.
func TestGuestsWriteVectors(t *testing.T) {
	outputs := map[string]string{}
	for _, r := range read(t).Records {
		outputs[r.Name] = r.Output
	}
	eachGuest(t, func(t *testing.T, code []byte) {
		r := openRaw(t, code)
		f := func(hook abi.Hook, key string, want abi.Result, vector string) {
			t.Helper()
			block := abi.AppendInput(make([]byte, 0, abi.InputBytes), &abi.Input{Hook: hook, Operation: abi.Read}, []byte("vector:"+key), nil, nil)
			res, out := r.ask(hook, block)
			if res != want {
				t.Errorf("%s: result %x, want %x", key, uint64(res), uint64(want))
			}
			bytes := unhex(t, outputs[vector])
			if got := out[:len(bytes)]; string(got) != string(bytes) {
				t.Errorf("%s:\n got %x\nwant %x", key, got, bytes)
			}
		}
		res := abi.MakeResult
		f(abi.Route, "route", res(abi.Deny, 1, 0), "one of each for route")
		f(abi.Route, "deny", res(abi.Deny, 1, 0), "deny")
		f(abi.Route, "pass", res(abi.Pass, 0, 0), "")
		f(abi.Route, "pool", res(abi.OK, 0, 3), "")
		f(abi.Route, "default", res(abi.Default, 0, 0), "")
		f(abi.Route, "error", res(abi.GuestError, 0, 0), "")
		f(abi.Route, "full", res(abi.GuestError, 0, 0), "")
		f(abi.TTL, "ttl", res(abi.OK, 1, 60), "one of each for ttl")
		f(abi.TTL, "no-store", res(abi.OK, 2, abi.AsComputed), "")
	})
}

// TestGuestsInHost holds each SDK to the vectors that the real host can make, and
// to its functions.
func TestGuestsInHost(t *testing.T) {
	eachGuest(t, func(t *testing.T, code []byte) {
		h, err := hooks.Open(hooks.Options{Instances: 1, KV: one{}, Logger: slog.New(slog.NewTextHandler(t.Output(), nil))})
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := h.Close(); err != nil {
				t.Error(err)
			}
		}()
		spec := hooks.Spec{Name: "v", Bytes: code, Pools: []string{"a", "b", "c"}, Grant: []string{"header", "kv_get"},
			Config: map[string]any{"greeting": "hi, guest"}, Fuel: map[string]uint64{"route": 20_000_000}}
		if _, err := h.Load(t.Context(), []hooks.Spec{spec}); err != nil {
			t.Fatal(err)
		}
		askHost(t, h)
		spec.Config = map[string]any{"refuse": 1}
		if _, err := h.Load(t.Context(), []hooks.Spec{spec}); err == nil {
			t.Error("a configuration that the guest refuses was loaded")
		}
	})
}

// one answers kv_get.
type one struct{}

func (one) Get(dst, key []byte) ([]byte, bool) {
	if string(key) != "uk/1" {
		return dst, false
	}
	return append(dst, "value"...), true
}

func askHost(t *testing.T, h *hooks.Host) {
	t.Helper()
	names := map[uint16]string{0: "x-a", 1: "x-b", 2: "x-c", 3: "x-d", abi.ResponseBit: "content-type"}
	var d hooks.Decision
	for _, in := range read(t).Inputs {
		if in.Input.Flags&abi.FlagTruncated != 0 || in.AreaBytes < abi.InputBytes || in.Input.Hook != abi.Route {
			continue
		}
		var headers hooktest.Headers
		for _, line := range in.Headers {
			headers = append(headers, hooktest.Field{Name: names[line.Name&^abi.ResponseBit], Value: string(line.Value)})
		}
		if !h.Route(&hooks.Request{Input: in.Input, Key: []byte(in.Key), Headers: headers}, &d) || d.Faulted {
			t.Fatalf("%s: not asked or a fault", in.Name)
		}
		if want := dump(unhex(t, in.Block)); !bytes.Equal(d.AnswerBody, want) {
			t.Errorf("%s:\n got %x\nwant %x", in.Name, d.AnswerBody, want)
		}
	}
	h.Route(&hooks.Request{Input: abi.Input{Operation: abi.Read, NowMillis: 77}, Key: []byte("vector:host"),
		Headers: hooktest.Headers{{Name: "x-unlisted", Value: "yes"}}}, &d)
	var want []byte
	want = le.AppendUint64(want, 77)
	word := func(n int32, v string) {
		want = le.AppendUint32(want, uint32(n))
		if n >= 0 {
			want = le.AppendUint32(want, sum([]byte(v)))
		}
	}
	word(3, "yes")
	word(-1, "")
	word(9, "hi, guest")
	word(5, "va")
	want = le.AppendUint32(want, 1)
	want = le.AppendUint32(want, 0)
	if !bytes.Equal(d.AnswerBody, want) {
		t.Errorf("host functions:\n got %x\nwant %x", d.AnswerBody, want)
	}
	if got := fmt.Sprintf("%q", d.Tags); got != `["added"]` {
		t.Errorf("tags %s", got)
	}
}

var le = binary.LittleEndian
