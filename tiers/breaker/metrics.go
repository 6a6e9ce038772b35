package breaker

import "github.com/VictoriaMetrics/metrics"

// breakerMetrics count what passed and what the breaker did.
type breakerMetrics struct {
	set                           *metrics.Set
	successes, failures, rejected *metrics.Counter
	to                            [3]*metrics.Counter // by State
	names                         []string
}

func newMetrics(set *metrics.Set, b *Breaker) *breakerMetrics {
	m := &breakerMetrics{set: set}
	if set == nil {
		set = metrics.NewSet() // counted, shown to nobody
	}
	counter := func(name string) *metrics.Counter {
		m.names = append(m.names, name)
		return set.NewCounter(name)
	}
	backend := `backend="` + b.name + `"`
	m.successes = counter(`edgenode_breaker_calls_total{` + backend + `,outcome="success"}`)
	m.failures = counter(`edgenode_breaker_calls_total{` + backend + `,outcome="failure"}`)
	m.rejected = counter(`edgenode_breaker_calls_total{` + backend + `,outcome="rejected"}`)
	for s := Closed; s <= Open; s++ {
		m.to[s] = counter(`edgenode_breaker_changes_total{` + backend + `,to="` + s.String() + `"}`)
	}
	state := `edgenode_breaker_state{` + backend + `}`
	set.NewGauge(state, func() float64 { return float64(b.State()) })
	m.names = append(m.names, state)
	return m
}

func (m *breakerMetrics) changed(to State) { m.to[to].Inc() }

func (m *breakerMetrics) unregister() {
	if m.set == nil {
		return
	}
	for _, name := range m.names {
		m.set.UnregisterMetric(name)
	}
}
