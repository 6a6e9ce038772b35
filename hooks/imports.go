package hooks

import (
	"context"
	"errors"
	"log/slog"
	"math"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"github.com/edgenode/edgenode/hooks/abi"
)

// What a host function panics with; wazero turns it into the error of the call.
var (
	errFuel     = errors.New("hooks: out of fuel")
	errPointer  = errors.New("hooks: pointer or length outside the module's memory")
	errArgument = errors.New("hooks: bad argument to a host function")
	errExit     = errors.New("hooks: the module called proc_exit")
)

// A hostFunction is offered to modules. call gets the arguments in s and leaves
// its result in s[0].
type hostFunction struct {
	params, results []api.ValueType
	call            func(i *instance, s []uint64)
}

const (
	tI32 = api.ValueTypeI32
	tI64 = api.ValueTypeI64
	tF64 = api.ValueTypeF64
)

// Fuel that host functions cost, beside one unit per byte moved for every
// bytesPerFuel.
const (
	fuelHostCall = 50
	fuelLog      = 500
	fuelLookup   = 200
	bytesPerFuel = 16
	maxLogBytes  = 1024
	maxTags      = 64
	maxKVBytes   = 64 << 10
)

// absent is the result of a look-up that found nothing.
const absent = math.MaxUint32 // -1 as i32

// edgeFunctions is the import module "edge". Each function charges fuel before it
// works, never blocks, and traps on a bad pointer.
var edgeFunctions = map[string]hostFunction{
	"log":            {[]api.ValueType{tI32, tI32, tI32}, nil, hostLog},
	"metric_add":     {[]api.ValueType{tI32, tI64}, nil, hostMetricAdd},
	"metric_observe": {[]api.ValueType{tI32, tF64}, nil, hostMetricObserve},
	"now_ms":         {nil, []api.ValueType{tI64}, hostNow},
	"header":         {[]api.ValueType{tI32, tI32, tI32, tI32, tI32}, []api.ValueType{tI32}, hostHeader},
	"config":         {[]api.ValueType{tI32, tI32, tI32, tI32}, []api.ValueType{tI32}, hostConfig},
	"kv_get":         {[]api.ValueType{tI32, tI32, tI32, tI32}, []api.ValueType{tI32}, hostKV},
	"tag_add":        {[]api.ValueType{tI32, tI32}, []api.ValueType{tI32}, hostTag},
}

// instantiateImports gives a runtime the host modules.
func instantiateImports(ctx context.Context, rt wazero.Runtime) error {
	for name, functions := range map[string]map[string]hostFunction{abi.ImportModule: edgeFunctions, wasiModule: wasiFunctions} {
		b := rt.NewHostModuleBuilder(name)
		for export, f := range functions {
			b.NewFunctionBuilder().WithGoModuleFunction(f, f.params, f.results).Export(export)
		}
		if _, err := b.Instantiate(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Call implements api.GoModuleFunction. The context of every call into a guest is
// its instance.
func (f hostFunction) Call(ctx context.Context, mod api.Module, s []uint64) {
	i := ctx.(*instance)
	if i.mod == nil { // called from a start function
		i.bind(mod)
	}
	f.call(i, s)
}

// charge takes n units of fuel and traps if they are not there.
func (i *instance) charge(n uint64) {
	if i.fuel == nil {
		return
	}
	left := int64(i.fuel.Get()) - int64(n)
	i.fuel.Set(uint64(left))
	if left < 0 {
		panic(errFuel)
	}
}

// read returns a view of guest memory, charged for its length.
func (i *instance) read(ptr, n uint64, cost uint64) []byte {
	i.charge(cost + uint64(uint32(n))/bytesPerFuel)
	if i.mem == nil {
		panic(errPointer)
	}
	b, ok := i.mem.Read(uint32(ptr), uint32(n))
	if !ok {
		panic(errPointer)
	}
	return b
}

// give copies as much of v as fits to the guest's buffer and returns the whole
// length of v.
func (i *instance) give(v []byte, ptr, n uint64) uint64 {
	dst := i.read(ptr, n, 0)
	copy(dst, v)
	return uint64(uint32(len(v)))
}

func hostLog(i *instance, s []uint64) {
	text := i.read(s[1], s[2], fuelLog)
	level := slog.LevelInfo
	switch uint32(s[0]) {
	case 0:
		level = slog.LevelDebug
	case 2:
		level = slog.LevelWarn
	case 3:
		level = slog.LevelError
	}
	i.m.guestLog(level, text)
}

// guestLog hands on what a guest says, cut and at a bounded rate.
func (m *module) guestLog(level slog.Level, text []byte) {
	if !m.logs.allow() {
		m.counters.Load().logsDropped.Inc()
		return
	}
	m.log.Log(context.Background(), level, "hook says", "hook", m.spec.Name, "text", string(text[:min(len(text), maxLogBytes)]))
}

func hostMetricAdd(i *instance, s []uint64) {
	i.charge(fuelHostCall)
	n := int64(s[1])
	guest := i.m.counters.Load().guest
	if id := uint32(s[0]); uint64(id) < uint64(len(guest)) && guest[id].counter != nil && n >= 0 {
		guest[id].counter.AddInt64(n)
		return
	}
	panic(errArgument)
}

func hostMetricObserve(i *instance, s []uint64) {
	i.charge(fuelHostCall)
	v := api.DecodeF64(s[1])
	guest := i.m.counters.Load().guest
	if id := uint32(s[0]); uint64(id) < uint64(len(guest)) && guest[id].histogram != nil && v >= 0 {
		guest[id].histogram.Update(v)
		return
	}
	panic(errArgument)
}

func hostNow(i *instance, s []uint64) {
	i.charge(fuelHostCall)
	i.impure = true
	s[0] = i.now
}

// hostHeader(response, name, name length, buffer, buffer length): the first line
// of that name. The length is that of the whole value; -1 if there is none.
func hostHeader(i *instance, s []uint64) {
	name := i.read(s[1], s[2], fuelLookup)
	i.impure = true
	if i.req == nil || i.req.Headers == nil || len(name) == 0 || len(name) > 128 {
		s[0] = absent
		return
	}
	i.values = i.req.Headers.AppendHeader(i.values[:0], string(name), uint32(s[0]) != 0)
	if len(i.values) == 0 {
		s[0] = absent
		return
	}
	s[0] = i.give(i.values[0], s[3], s[4])
}

// hostConfig(key, key length, buffer, buffer length): a value of the config
// table, strings as they are, all else as JSON.
func hostConfig(i *instance, s []uint64) {
	key := i.read(s[0], s[1], fuelHostCall)
	v, ok := i.m.config[string(key)]
	if !ok {
		s[0] = absent
		return
	}
	s[0] = i.give(v, s[2], s[3])
}

// hostKV(key, key length, buffer, buffer length): a value of the memory tier.
func hostKV(i *instance, s []uint64) {
	key := i.read(s[0], s[1], fuelLookup)
	i.impure = true
	if i.m.kv == nil {
		s[0] = absent
		return
	}
	v, ok := i.m.kv.Get(i.scratch[:0], key)
	if cap(v) <= maxKVBytes {
		i.scratch = v[:0]
	}
	if !ok {
		s[0] = absent
		return
	}
	i.charge(uint64(len(v)) / bytesPerFuel) // all of it was copied
	s[0] = i.give(v, s[2], s[3])
}

// hostTag(tag, length) adds a tag to the verdict: 1, or 0 if the tag is not one or
// there are too many. Tags count only if the call succeeds.
func hostTag(i *instance, s []uint64) {
	tag := i.read(s[0], s[1], fuelHostCall)
	if i.tags >= maxTags || !abi.ValidTag(tag) {
		s[0] = 0
		return
	}
	i.tags++
	i.tagBytes = abi.AppendRecord(i.tagBytes, abi.RecTag, tag)
	s[0] = 1
}
