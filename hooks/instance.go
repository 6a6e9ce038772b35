package hooks

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"github.com/edgenode/edgenode/hooks/abi"
	"github.com/edgenode/edgenode/hooks/meter"
)

// instance is one sandbox. Its owner, and nobody else, uses it. It is the context
// of every call into the guest, which is how host functions find it.
type instance struct {
	m    *module
	mod  api.Module
	mem  api.Memory
	fuel api.MutableGlobal // nil if not metered
	call [abi.Hooks]api.Function

	stack     [1]uint64 // parameter and result
	buf       uint32    // guest address of the input area; output follows it
	slot      uint32
	recycling bool   // a replacement was asked for
	recycleAt uint32 // memory size, in bytes, above which it is recycled
	calls     uint64
	reported  uint64 // calls already added to the metric
	reportAt  uint64 // request time, ms, at which calls are reported again

	// The call under way.
	req      *Request
	now      uint64
	impure   bool // the guest asked for something not among its inputs
	tags     int
	tagBytes []byte // tags by tag_add, as records

	headers    []abi.Header
	candidates []abi.Candidate
	values     [][]byte
	scratch    []byte

	born   time.Time
	random *rand.ChaCha8
}

// Deadline, Done, Err and Value make an instance a context that never ends.
func (i *instance) Deadline() (time.Time, bool) { return time.Time{}, false }
func (i *instance) Done() <-chan struct{}       { return nil }
func (i *instance) Err() error                  { return nil }
func (i *instance) Value(any) any               { return nil }

var _ context.Context = (*instance)(nil)

// newInstance instantiates and initialises a module's instance for a slot. Fuel
// for init covers the start function, _initialize, edge_alloc_buf and
// edge_init together.
func (m *module) newInstance(slot uint32) (*instance, error) {
	i := &instance{m: m, slot: slot, born: m.host.o.Now(), random: rand.NewChaCha8(m.hash)}
	i.now = uint64(i.born.UnixMilli())
	mod, err := m.gen.runtime.InstantiateModule(i, m.compiled, wazero.NewModuleConfig().WithName("").WithStartFunctions())
	if err != nil {
		return nil, fmt.Errorf("instantiate: %w", i.explain(err))
	}
	i.bind(mod)
	if err := i.initialise(); err != nil {
		i.close()
		return nil, err
	}
	return i, nil
}

func (i *instance) bind(mod api.Module) {
	i.mod, i.mem = mod, mod.Memory()
	if g, ok := mod.ExportedGlobal(meter.FuelExport).(api.MutableGlobal); ok {
		i.fuel = g
	}
}

func (i *instance) close() { _ = i.mod.Close(context.Background()) } // reports nothing of use

// setup calls an export once, with its signature already checked.
func (i *instance) setup(name string, args ...uint64) (uint64, error) {
	res, err := i.mod.ExportedFunction(name).Call(i, args...)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", name, i.explain(err))
	}
	if len(res) == 0 {
		return 0, nil
	}
	return res[0], nil
}

// explain says of a trap whether it was for want of fuel.
func (i *instance) explain(err error) error {
	if i.fuel != nil && int64(i.fuel.Get()) < 0 {
		return fmt.Errorf("out of fuel, the limit is %d units (init in the hook's fuel table): %w", i.m.fuel[0], err)
	}
	return err
}

func (i *instance) initialise() error {
	if i.m.reactor {
		if _, err := i.setup(abi.ExportReactor); err != nil {
			return err
		}
	}
	v, err := i.setup(abi.ExportVersion)
	if err != nil {
		return err
	}
	if major := uint32(v) >> 16; major != abi.Version>>16 {
		return fmt.Errorf("the module speaks ABI %d, this node ABI %d", major, abi.Version>>16)
	}
	p, err := i.setup(abi.ExportAlloc, abi.InputBytes, abi.OutputBytes)
	if err != nil {
		return err
	}
	i.buf = uint32(p)
	if i.buf == 0 || i.buf%8 != 0 {
		return fmt.Errorf("%s returned %d, must be a multiple of 8 above 0", abi.ExportAlloc, i.buf)
	}
	area, ok := i.mem.Read(i.buf, abi.InputBytes+abi.OutputBytes)
	if !ok {
		return fmt.Errorf("%s returned %d: %d bytes from there do not fit in the memory of %d", abi.ExportAlloc,
			i.buf, abi.InputBytes+abi.OutputBytes, i.mem.Size())
	}
	copy(area, i.m.configJSON)
	code, err := i.setup(abi.ExportInit, uint64(len(i.m.configJSON)))
	if err != nil {
		return err
	}
	if uint32(code) != 0 {
		return fmt.Errorf("%s refused the configuration with code %d", abi.ExportInit, int32(code))
	}
	for h := range i.call {
		if i.m.uses[h] {
			i.call[h] = i.mod.ExportedFunction(abi.Hook(h).Export())
		}
	}
	size := i.mem.Size()
	i.recycleAt = size + (i.m.memoryBytes-min(size, i.m.memoryBytes))/2
	return nil
}

// reason is why a call has no verdict; zero means it has one.
type reason uint8

const (
	faultNone      reason = iota
	faultTrap             // the guest trapped
	faultFuel             // it ran out of fuel
	faultMemory           // it named memory it does not have
	faultResult           // its answer breaks the ABI
	faultGuest            // it returned status "guest error"
	faultPoolEmpty        // no instance was free
	faultBreaker          // switched off
	faultInput            // the node's input does not fit
	faults
)

func (r reason) String() string {
	return [faults]string{"none", "trap", "fuel", "memory", "result", "guest", "pool_empty", "breaker", "input"}[r]
}

// invoke calls a hook with a block of n bytes in place and returns its result.
func (i *instance) invoke(hook abi.Hook, n int) (abi.Result, reason, error) {
	if i.fuel != nil {
		i.fuel.Set(i.m.fuel[hook])
	}
	i.stack[0] = uint64(n)
	i.calls++
	if err := i.call[hook].CallWithStack(i, i.stack[:]); err != nil {
		return 0, i.classify(err), err
	}
	r := abi.Result(i.stack[0])
	if r.Status() == abi.GuestError {
		return r, faultGuest, nil
	}
	return r, faultNone, nil
}

func (i *instance) classify(err error) reason {
	switch {
	case errors.Is(err, errPointer):
		return faultMemory
	case errors.Is(err, errFuel), i.fuel != nil && int64(i.fuel.Get()) < 0:
		return faultFuel
	}
	return faultTrap
}

// area returns the input and output areas as they are now: a view goes stale when
// the guest's memory grows.
func (i *instance) area() ([]byte, bool) {
	return i.mem.Read(i.buf, abi.InputBytes+abi.OutputBytes)
}

// output returns the output area after a call.
func (i *instance) output() []byte {
	b, ok := i.mem.Read(i.buf+abi.InputBytes, abi.OutputBytes)
	if !ok { // memory never shrinks
		return nil
	}
	return b
}
