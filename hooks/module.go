package hooks

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"github.com/edgenode/edgenode/hooks/abi"
	"github.com/edgenode/edgenode/hooks/meter"
)

const pageBytes = 64 << 10

// features is the pinned WebAssembly feature set: that of version 2 without SIMD.
const features = api.CoreFeaturesV2 &^ api.CoreFeatureSIMD

// module is one configured hook in one generation: its code, settings and pool.
type module struct {
	host     *Host
	gen      *generation
	spec     Spec
	manifest Manifest
	hash     [sha256.Size]byte
	compiled wazero.CompiledModule
	reactor  bool

	uses        [abi.Hooks]bool   // hooks it is asked for
	fuel        [abi.Hooks]uint64 // by hook; 0 is init
	memoryBytes uint32
	configJSON  []byte
	config      map[string][]byte
	kv          KV

	pool     pool
	breaker  breaker
	logs     limiter
	log      *slog.Logger
	counters atomic.Pointer[hookMetrics] // those of a trial are shown once it is promoted
	worker   worker
	report   ModuleReport
}

// newModule checks, meters and compiles a module and fills its pool. On error it
// leaves nothing behind but what the generation's runtime holds.
func (g *generation) newModule(ctx context.Context, spec Spec) (*module, error) {
	if err := spec.validate(); err != nil {
		return nil, err
	}
	m := &module{host: g.host, gen: g, spec: spec, kv: g.host.o.KV, log: g.host.o.Logger}
	code, warnings, err := g.host.read(&spec)
	if err != nil {
		return nil, err
	}
	m.report.Warnings = warnings
	m.spec.Bytes, m.spec.Signature = nil, nil
	parsed, err := check(ctx, code)
	if err != nil {
		return nil, err
	}
	if err := m.settle(parsed); err != nil {
		return nil, err
	}
	m.hash = sha256.Sum256(code)
	start := time.Now()
	if err := m.compile(ctx, code, parsed); err != nil {
		return nil, err
	}
	m.report.CompileTime = time.Since(start)
	m.breaker = breaker{limit: g.host.o.FaultLimit, window: g.host.o.FaultWindow,
		open: g.host.o.BreakerOpen, maxOpen: g.host.o.BreakerMaxOpen, now: g.host.o.Now}
	m.logs = limiter{now: g.host.o.Now}
	m.worker.kick = make(chan struct{}, 1)
	m.measure(g.metrics)
	if err := m.fill(ctx); err != nil {
		return nil, err
	}
	m.describe(code)
	return m, m.selfTest(ctx)
}

// check parses and validates a module as it came, but for its custom sections. The validator is wazero's
// decoder; compiling for the interpreter is the cheapest way to run it.
func check(ctx context.Context, code []byte) (m *meter.Module, err error) {
	if m, err = meter.Parse(code); err != nil {
		return nil, err
	}
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("the module upsets the validator: %v", r)
		}
	}()
	config := wazero.NewRuntimeConfigInterpreter().WithCoreFeatures(features).WithDebugInfoEnabled(false)
	rt := wazero.NewRuntimeWithConfig(ctx, config)
	defer func() { _ = rt.Close(ctx) }()
	c, err := rt.CompileModule(ctx, m.Plain())
	if err != nil {
		return nil, fmt.Errorf("invalid module: %w", err)
	}
	return m, signatures(c)
}

// signatures checks the functions that the host will call.
func signatures(c wazero.CompiledModule) error {
	i32, i64 := []api.ValueType{tI32}, []api.ValueType{tI64}
	want := map[string][2][]api.ValueType{
		abi.ExportVersion: {nil, i32},
		abi.ExportAlloc:   {{tI32, tI32}, i32},
		abi.ExportInit:    {i32, i32},
		abi.ExportReactor: {nil, nil},
	}
	for h := abi.Route; int(h) < abi.Hooks; h++ {
		want[h.Export()] = [2][]api.ValueType{i32, i64}
	}
	var faults []error
	exports := c.ExportedFunctions()
	for _, name := range []string{abi.ExportVersion, abi.ExportAlloc, abi.ExportInit} {
		if exports[name] == nil {
			faults = append(faults, fmt.Errorf("export %s is missing", name))
		}
	}
	if c.ExportedMemories()[abi.ExportMemory] == nil {
		faults = append(faults, fmt.Errorf("export %q, the memory, is missing", abi.ExportMemory))
	}
	for name, def := range exports {
		w, ok := want[name]
		if ok && (!slices.Equal(def.ParamTypes(), w[0]) || !slices.Equal(def.ResultTypes(), w[1])) {
			faults = append(faults, fmt.Errorf("export %s is %s, must be %s", name,
				signature(def.ParamTypes(), def.ResultTypes()), signature(w[0], w[1])))
		}
	}
	slices.SortFunc(faults, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(faults...)
}

func signature(params, results []api.ValueType) string {
	names := func(types []api.ValueType) string {
		var s []string
		for _, t := range types {
			s = append(s, api.ValueTypeName(t))
		}
		return "(" + strings.Join(s, ", ") + ")"
	}
	return names(params) + " -> " + names(results)
}

// settle brings together what the module asks and what the configuration grants.
func (m *module) settle(parsed *meter.Module) (err error) {
	if m.manifest, err = parseManifest(parsed); err != nil {
		return err
	}
	m.reactor = parsed.HasExport(abi.ExportReactor, meter.Func)
	return errors.Join(m.manifest.imports(parsed, m.spec.Grant), m.settleHooks(), m.settleFuel(),
		m.settleMemory(), m.settleConfig())
}

func (m *module) settleHooks() error {
	names := m.spec.Hooks
	if len(names) == 0 {
		names = m.manifest.Hooks
	}
	for _, name := range names {
		h, _ := abi.ParseHook(name)
		if !slices.Contains(m.manifest.Hooks, name) {
			return fmt.Errorf("hook %q is configured, the module offers %v", name, m.manifest.Hooks)
		}
		m.uses[h] = true
		m.report.Hooks = append(m.report.Hooks, name)
	}
	requests := m.uses[abi.Route] || m.uses[abi.TTL]
	if m.manifest.Guards && m.spec.OnFault == "" && requests {
		return errors.New(`the module guards something: say what a fault does, on_fault = "deny" (or "bypass", "default")`)
	}
	if !requests && m.spec.OnFault != "" && m.spec.OnFault != OnFaultDefault {
		return fmt.Errorf("on_fault = %q has no meaning for evict and admit: leave it out", m.spec.OnFault)
	}
	return nil
}

func (m *module) settleFuel() error {
	m.fuel = [abi.Hooks]uint64{DefaultInitFuel, abi.Route: DefaultRouteFuel, abi.TTL: DefaultTTLFuel,
		abi.Evict: DefaultEvictFuel, abi.Admit: DefaultAdmitFuel}
	var faults []error
	for h := range m.fuel {
		name := "init"
		if h > 0 {
			name = abi.Hook(h).String()
		}
		if granted := m.spec.Fuel[name]; granted > 0 {
			m.fuel[h] = granted
		}
		if asked := m.manifest.Fuel[name]; asked > m.fuel[h] {
			faults = append(faults, fmt.Errorf("the module asks for %d fuel for %s, %d are granted: add fuel = { %s = %d }",
				asked, name, m.fuel[h], name, asked))
		}
	}
	return errors.Join(faults...)
}

func (m *module) settleMemory() error {
	limit := uint64(DefaultMemoryBytes)
	if m.manifest.WASI {
		limit = DefaultWASIMemory
	}
	if m.spec.MemoryBytes > 0 {
		limit = m.spec.MemoryBytes
	}
	if asked := m.manifest.MemoryBytes; asked > limit {
		return fmt.Errorf("the module asks for %d bytes of memory, %d are granted: add memory = \"%dKiB\"", asked, limit, (asked+1023)/1024)
	}
	m.memoryBytes = uint32(limit / pageBytes * pageBytes)
	if m.memoryBytes == 0 {
		return fmt.Errorf("memory of %d bytes is less than a page of %d", limit, pageBytes)
	}
	return nil
}

func (m *module) settleConfig() (err error) {
	m.configJSON = []byte("{}")
	if len(m.spec.Config) > 0 {
		if m.configJSON, err = json.Marshal(m.spec.Config); err != nil {
			return fmt.Errorf("config: %w", err)
		}
	}
	if len(m.configJSON) > abi.InputBytes {
		return fmt.Errorf("config is %d bytes of JSON, the limit is %d", len(m.configJSON), abi.InputBytes)
	}
	m.config = map[string][]byte{}
	for k, v := range m.spec.Config {
		if s, ok := v.(string); ok {
			m.config[k] = []byte(s)
		} else if m.config[k], err = json.Marshal(v); err != nil {
			return fmt.Errorf("config: %w", err)
		}
	}
	return nil
}

func (m *module) compile(ctx context.Context, code []byte, parsed *meter.Module) (err error) {
	metered, rep, err := parsed.Rewrite(meter.Options{InitialFuel: int64(m.fuel[0]), MemoryPages: m.memoryBytes / pageBytes})
	if err != nil {
		return err
	}
	m.report.MeteringBytes = rep.BytesAfter - rep.BytesBefore
	if m.host.o.unmetered {
		metered = bytes.Clone(code)
	}
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("the module upsets the compiler: %v", r)
		}
	}()
	if m.compiled, err = m.gen.runtime.CompileModule(ctx, metered); err != nil {
		return fmt.Errorf("compile: %w", err)
	}
	m.gen.compiled = append(m.gen.compiled, m.compiled)
	return nil
}

// measure makes the module count on a set of metrics.
func (m *module) measure(on *hostMetrics) {
	c := on.hook(&m.gen.metricNames, m.spec.Name)
	c.guest = on.guest(&m.gen.metricNames, m.spec.Name, m.manifest.Metrics)
	m.counters.Store(c)
}

func (m *module) fill(ctx context.Context) error {
	n := m.spec.Instances
	if n == 0 {
		n = m.host.o.Instances
	}
	m.pool.slots = make([]slot, n)
	m.pool.live.Store(int32(len(m.pool.slots)))
	for k := range m.pool.slots {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("instance %d of %d: %w", k+1, n, context.Cause(ctx))
		}
		i, err := m.newInstance(uint32(k))
		if err != nil {
			return err
		}
		m.pool.slots[k].idle.Store(i)
		m.report.MemoryBytes = int64(i.mem.Size())
	}
	return nil
}

func (m *module) describe(code []byte) {
	m.report.Name = m.spec.Name
	m.report.SHA256 = fmt.Sprintf("%x", m.hash)
	m.report.Bytes = len(code)
	m.report.Instances = len(m.pool.slots)
}

// matches reports whether a request is the module's business.
func (m *module) matches(req *Request) bool {
	if len(m.spec.Match.Sites) > 0 && !slices.Contains(m.spec.Match.Sites, req.Site) {
		return false
	}
	p := m.spec.Match.PathPrefix
	if p == "" || p == "/" {
		return true
	}
	path := req.Key
	if req.Flags&abi.FlagSite != 0 {
		path = path[pathStart(path):]
	}
	if len(path) < len(p) || string(path[:len(p)]) != p {
		return false
	}
	return len(path) == len(p) || p[len(p)-1] == '/' || path[len(p)] == '/' || path[len(p)] == '?'
}

// pathStart returns the offset of the path in scheme://host/path?query, or the
// length of key if it has none.
func pathStart(key []byte) int {
	k := bytes.Index(key, []byte("://"))
	if k < 0 {
		return 0
	}
	k += len("://")
	if slash := bytes.IndexByte(key[k:], '/'); slash >= 0 {
		return k + slash
	}
	return len(key)
}
