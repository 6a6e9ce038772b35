package hooks

import (
	"fmt"
	"sync"
	"time"

	"github.com/VictoriaMetrics/metrics"
)

// hookMetrics are the metrics of one hook. Generations that have a hook of that
// name share them; they go with the last.
type hookMetrics struct {
	calls       *metrics.Counter // added to in steps of up to sampleEvery calls or reportEvery ms
	faults      [faults]*metrics.Counter
	waits       *metrics.Counter
	opened      *metrics.Counter
	replaced    *metrics.Counter
	recycled    *metrics.Counter
	logsDropped *metrics.Counter
	seconds     *metrics.Histogram // of one call in sampleEvery
	fuel        *metrics.Histogram // of one call in sampleEvery
	guest       []guestMetric      // what the module declares
}

// guestMetric is one metric that a module declares.
type guestMetric struct {
	counter   *metrics.Counter
	histogram *metrics.Histogram
}

// hostMetrics registers on a set and takes everything off it again.
type hostMetrics struct {
	set          *metrics.Set
	loadFailures *metrics.Counter

	// mu guards the fields below. It is held while a name is counted and while
	// a metric goes, so that none goes that somebody is about to use.
	mu    sync.Mutex
	names map[string]int // how many generations have it; the host is one
	info  []string       // of the live generation
}

func newHostMetrics(set *metrics.Set, h *Host) *hostMetrics {
	hm := &hostMetrics{set: set, names: map[string]int{}}
	var own metricNames // until unregister
	hm.loadFailures = hm.counter(&own, "edgenode_hooks_load_failures_total")
	for name, f := range map[string]func() float64{
		"edgenode_hooks_generation":   func() float64 { return float64(h.Report().Generation) },
		"edgenode_hooks_instances":    func() float64 { return h.sum(func(r ModuleReport) float64 { return float64(r.Instances) }) },
		"edgenode_hooks_open":         func() float64 { return h.sum(func(r ModuleReport) float64 { return number(r.Open) }) },
		"edgenode_hooks_reused_total": func() float64 { return float64(h.reused()) },
		"edgenode_hooks_memory_bytes": func() float64 {
			return h.sum(func(r ModuleReport) float64 { return float64(r.MemoryBytes) * float64(r.Instances) })
		},
	} {
		hm.note(&own, name)
		set.GetOrCreateGauge(name, f)
	}
	return hm
}

func number(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func (h *Host) sum(f func(ModuleReport) float64) (total float64) {
	for _, r := range h.Report().Modules {
		total += f(r)
	}
	return total
}

// metricNames are those that one generation uses.
type metricNames []string

func (hm *hostMetrics) note(own *metricNames, name string) {
	hm.mu.Lock()
	hm.names[name]++
	hm.mu.Unlock()
	*own = append(*own, name)
}

// release takes off the set what no other generation uses.
func (hm *hostMetrics) release(own metricNames) {
	hm.mu.Lock()
	defer hm.mu.Unlock()
	for _, name := range own {
		if hm.names[name]--; hm.names[name] == 0 {
			delete(hm.names, name)
			hm.set.UnregisterMetric(name)
		}
	}
}

func (hm *hostMetrics) counter(own *metricNames, format string, args ...any) *metrics.Counter {
	name := fmt.Sprintf(format, args...)
	hm.note(own, name)
	return hm.set.GetOrCreateCounter(name)
}

func (hm *hostMetrics) histogram(own *metricNames, format string, args ...any) *metrics.Histogram {
	name := fmt.Sprintf(format, args...)
	hm.note(own, name)
	return hm.set.GetOrCreateHistogram(name)
}

func (hm *hostMetrics) hook(own *metricNames, name string) *hookMetrics {
	m := &hookMetrics{
		calls:       hm.counter(own, `edgenode_hooks_calls_total{hook=%q}`, name),
		waits:       hm.counter(own, `edgenode_hooks_pool_waits_total{hook=%q}`, name),
		opened:      hm.counter(own, `edgenode_hooks_breaker_opened_total{hook=%q}`, name),
		replaced:    hm.counter(own, `edgenode_hooks_replaced_total{hook=%q}`, name),
		recycled:    hm.counter(own, `edgenode_hooks_recycled_total{hook=%q}`, name),
		logsDropped: hm.counter(own, `edgenode_hooks_logs_dropped_total{hook=%q}`, name),
		seconds:     hm.histogram(own, `edgenode_hooks_call_seconds{hook=%q}`, name),
		fuel:        hm.histogram(own, `edgenode_hooks_call_fuel{hook=%q}`, name),
	}
	for r := range faults {
		m.faults[r] = hm.counter(own, `edgenode_hooks_faults_total{hook=%q,reason=%q}`, name, r.String())
	}
	return m
}

func (hm *hostMetrics) guest(own *metricNames, hook string, declared []Metric) (list []guestMetric) {
	for _, d := range declared {
		var g guestMetric
		if d.Kind == "counter" {
			g.counter = hm.counter(own, `edgenode_hooks_guest_total{hook=%q,name=%q}`, hook, d.Name)
		} else {
			g.histogram = hm.histogram(own, `edgenode_hooks_guest_value{hook=%q,name=%q}`, hook, d.Name)
		}
		list = append(list, g)
	}
	return list
}

// show replaces the module metrics by those of the live generation.
func (hm *hostMetrics) show(g *generation) {
	hm.mu.Lock()
	defer hm.mu.Unlock()
	for _, name := range hm.info {
		hm.set.UnregisterMetric(name)
	}
	hm.info = hm.info[:0]
	for _, m := range g.modules {
		name := fmt.Sprintf(`edgenode_hooks_module_info{hook=%q,sha256="%x"}`, m.spec.Name, m.hash)
		hm.set.GetOrCreateGauge(name, func() float64 { return 1 })
		took := fmt.Sprintf(`edgenode_hooks_compile_seconds{hook=%q}`, m.spec.Name)
		seconds := m.report.CompileTime.Seconds()
		hm.set.GetOrCreateGauge(took, func() float64 { return seconds })
		hm.info = append(hm.info, name, took)
	}
}

func (hm *hostMetrics) unregister() {
	hm.mu.Lock()
	defer hm.mu.Unlock()
	for name := range hm.names {
		hm.set.UnregisterMetric(name)
	}
	for _, name := range hm.info {
		hm.set.UnregisterMetric(name)
	}
}

// Guest logs and fault logs of one hook: at most logBurst at once and logPerSecond
// in the long run.
const (
	logPerSecond = 5
	logBurst     = 20
)

// limiter is a token bucket. The zero value with now set is full.
type limiter struct {
	now func() time.Time

	mu   sync.Mutex
	used float64 // tokens taken, less what time gave back
	last time.Time
}

func (l *limiter) allow() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	if !l.last.IsZero() {
		l.used = max(0, l.used-now.Sub(l.last).Seconds()*logPerSecond)
	}
	l.last = now
	if l.used+1 > logBurst {
		return false
	}
	l.used++
	return true
}
