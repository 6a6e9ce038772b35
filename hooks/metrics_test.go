package hooks_test

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/VictoriaMetrics/metrics"

	"github.com/edgenode/edgenode/hooks"
	"github.com/edgenode/edgenode/hooks/abi"
	"github.com/edgenode/edgenode/hooks/hooktest"
)

// TestMetricsGoWithTheirGeneration holds that modules that come and go, or do not
// load, with metrics of other names each time, leave none behind.
func TestMetricsGoWithTheirGeneration(t *testing.T) {
	set := metrics.NewSet()
	h := open(t, hooks.Options{Metrics: set, Instances: 1})
	named := func(n int) hooks.Spec {
		m := hooktest.Guest(abi.Route, pass)
		m.Manifest = fmt.Sprintf(`{"metrics":[{"name":"a%d","kind":"counter"},{"name":"b%d","kind":"histogram"},{"name":"same","kind":"counter"}]}`, n, n)
		return hooks.Spec{Name: fmt.Sprint("hook", n), Bytes: m.Bytes()}
	}
	for n := range 20 {
		load(t, h, named(n))
		broken := named(1000 + n)
		broken.Bytes = bytes.Clone(broken.Bytes)
		bad := hooktest.Guest(abi.Route, pass)
		bad.Funcs[2].Code = []byte{0}
		if _, err := h.Load(context.Background(), []hooks.Spec{broken, {Name: "bad", Bytes: bad.Bytes()}}); err == nil {
			t.Fatal("loaded what traps in init")
		}
	}
	eventually(t, "the metrics of former modules are gone", func() bool {
		for _, name := range set.ListMetricNames() {
			if strings.Contains(name, `"hook`) && !strings.Contains(name, `"hook19"`) && !strings.Contains(name, `"hook18"`) || strings.Contains(name, `"bad"`) {
				return false
			}
		}
		return true
	})
	for _, name := range []string{`edgenode_hooks_guest_total{hook="hook19",name="a19"}`, `edgenode_hooks_calls_total{hook="hook18"}`} {
		if !slices.Contains(set.ListMetricNames(), name) {
			t.Errorf("%s is gone, its hook is not", name)
		}
	}
	if _, err := h.Rollback(); err != nil {
		t.Fatal(err)
	}
	load(t, h, named(18)) // as the live one: the counters go on
	if !slices.Contains(set.ListMetricNames(), `edgenode_hooks_calls_total{hook="hook18"}`) {
		t.Error("the metrics of the live hook went with its former generation")
	}
}
