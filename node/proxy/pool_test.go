package proxy

import "testing"

// TestOriginRestsAndReturns: what is told of an origin is told once.
func TestOriginRestsAndReturns(t *testing.T) {
	cfg := Pool{}.withDefaults()
	o := origin{breaker: &cfg}
	f := func(what string, got, want bool) {
		t.Helper()
		if got != want {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	f("an answer at the start", o.worked(), false)
	f("first failure", o.failed(0), false)
	f("an answer between", o.worked(), false)
	for range DefaultMaxFailures - 1 {
		f("failure", o.failed(0), false)
	}
	f("the one too many", o.failed(1000), true)
	if got, want := o.restUntil.Load(), 1000+DefaultRest.Milliseconds(); got != want {
		t.Errorf("rests until %d, want %d", got, want)
	}
	f("one more", o.failed(5000), false)
	f("an answer", o.worked(), true)
	f("the next answer", o.worked(), false)
	if o.restUntil.Load() != 0 {
		t.Error("it works and rests")
	}
}
