package pressure_test

import (
	"testing"

	"github.com/edgenode/edgenode/tiers/pressure"
)

func TestLevel(t *testing.T) {
	th := pressure.Default()
	f := func(p float64, want pressure.Level) {
		t.Helper()
		if got := th.Level(p); got != want {
			t.Errorf("Level(%v) = %v, want %v", p, got, want)
		}
	}
	f(0, pressure.Normal)
	f(0.699, pressure.Normal)
	f(0.70, pressure.Warn)
	f(0.80, pressure.Throttle)
	f(0.90, pressure.Critical)
	f(0.95, pressure.Emergency)
	f(0.98, pressure.Shutdown)
	f(2, pressure.Shutdown) // a quota may be overdrawn by the reserve
}

func TestAdmit(t *testing.T) {
	th := pressure.Default()
	f := func(op pressure.Operation, p, chance float64, want pressure.Verdict) {
		t.Helper()
		if got := th.Admit(op, p, chance); got != want {
			t.Errorf("Admit(%v, %v, %v) = %v, want %v", op, p, chance, got, want)
		}
	}
	f(pressure.Put, 0.79, 0, pressure.Allow)
	f(pressure.Put, 0.80, 0, pressure.Allow) // the probability begins at 0
	f(pressure.Put, 0.85, 0.49, pressure.Delay)
	f(pressure.Put, 0.85, 0.51, pressure.Allow)
	f(pressure.Put, 0.90, 0.99, pressure.Refuse)
	f(pressure.Change, 0.97, 0, pressure.Allow)
	f(pressure.Change, 0.98, 0, pressure.Refuse)
	f(pressure.Conditional, 0.95, 0, pressure.Allow)
	f(pressure.Promote, 0.94, 0, pressure.Allow)
	f(pressure.Promote, 0.95, 0, pressure.Suspend)
	for _, p := range []float64{0, 0.7, 0.8, 0.9, 0.95, 0.98, 1.2} {
		f(pressure.Read, p, 0, pressure.Allow)
		f(pressure.Delete, p, 0, pressure.Allow)
	}
}

func TestValidate(t *testing.T) {
	if err := pressure.Default().Validate(); err != nil {
		t.Errorf("default thresholds: %v", err)
	}
	bad := pressure.Thresholds{Warn: 0.9, Throttle: 0.8, Critical: 0.9, Emergency: 0.95, Shutdown: 1.5}
	if err := bad.Validate(); err == nil {
		t.Error("disordered thresholds were accepted")
	}
}
