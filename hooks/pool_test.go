package hooks_test

import (
	"sync"
	"testing"

	"github.com/VictoriaMetrics/metrics"

	"github.com/edgenode/edgenode/hooks"
	"github.com/edgenode/edgenode/hooks/abi"
	"github.com/edgenode/edgenode/hooks/hooktest"
)

// busy spends some 10 us of the fuel it has, then says pass.
func busy() *hooktest.Module {
	return hooktest.Guest(abi.Route, hooktest.Code(
		hooktest.ConstI32(10_000), []byte{0x21, 1, 0x03, 0x40, 0x20, 1, 0x41, 1, 0x6b, 0x22, 1, 0x0d, 0, 0x0b}, pass))
}

// TestMoreCallersThanInstances holds that a healthy hook answers everybody, also
// while it is swapped under callers that wait.
func TestMoreCallersThanInstances(t *testing.T) {
	set := metrics.NewSet()
	h := open(t, hooks.Options{Metrics: set, Instances: 1})
	spec := hooks.Spec{Name: "x", Bytes: busy().Bytes(), OnFault: hooks.OnFaultDeny, Fuel: map[string]uint64{"route": 200_000}}
	load(t, h, spec)
	var callers sync.WaitGroup
	for range 64 {
		callers.Go(func() {
			var d hooks.Decision
			for range 50 {
				if h.Route(request("k", nil), &d); d.Faulted || d.Verdict != hooks.Pass {
					t.Errorf("got %v, faulted %v, want pass", d.Verdict, d.Faulted)
					return
				}
			}
		})
	}
	for range 6 {
		load(t, h, spec)
	}
	callers.Wait()
	if got := counter(t, set, `edgenode_hooks_faults_total{hook="x",reason="pool_empty"}`); got != 0 {
		t.Errorf("%d calls found no instance", got)
	}
}

// TestNextCallAfterAllTrapped holds that calls wait for the worker when it has
// all instances, so that a request that makes a module trap costs no other its
// verdict.
func TestNextCallAfterAllTrapped(t *testing.T) {
	trapping := hooktest.Guest(abi.Route, hooktest.Code([]byte{0x41, 0, 0x28, 2}, hooktest.U32(nil, hooktest.Buffer+abi.OffKeyLen),
		[]byte{0x04, hooktest.I64, 0x00, 0x05}, pass, []byte{0x0b}))
	// Starting an instance takes 2 million instructions.
	trapping.Funcs[2].Code = hooktest.Code(hooktest.ConstI32(400_000), []byte{0x21, 0, 0x03, 0x40, 0x20, 0, 0x41, 1, 0x6b, 0x22, 0, 0x0d, 0, 0x0b}, hooktest.ConstI32(0))
	set := metrics.NewSet()
	h := open(t, hooks.Options{Metrics: set, Instances: 1, FaultLimit: 64})
	load(t, h, hooks.Spec{Name: "x", Bytes: trapping.Bytes(), OnFault: hooks.OnFaultDeny})
	var d hooks.Decision
	for range 20 {
		if h.Route(request("bad", nil), &d); d.Verdict != hooks.Deny {
			t.Fatalf("bad: got %v", d.Verdict)
		}
		if h.Route(request("", nil), &d); d.Verdict != hooks.Pass {
			t.Fatalf("next: got %v, want pass", d.Verdict)
		}
	}
	if got := counter(t, set, `edgenode_hooks_faults_total{hook="x",reason="pool_empty"}`); got != 0 {
		t.Errorf("%d calls found no instance", got)
	}
}
