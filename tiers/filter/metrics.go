package filter

import "github.com/VictoriaMetrics/metrics"

// filterMetrics are the metrics of one filter. With a nil set they count unseen.
type filterMetrics struct {
	set   *metrics.Set
	names []string

	missing, maybe, untrusted *metrics.Counter
	falsePositives            *metrics.Counter
}

func newMetrics(set *metrics.Set, f *Filter) *filterMetrics {
	m := &filterMetrics{set: set}
	if set == nil {
		m.set = metrics.NewSet()
	}
	m.missing = m.set.NewCounter(m.name(`edgenode_filter_checks_total{outcome="missing"}`))
	m.maybe = m.set.NewCounter(m.name(`edgenode_filter_checks_total{outcome="maybe"}`))
	m.untrusted = m.set.NewCounter(m.name(`edgenode_filter_checks_total{outcome="untrusted"}`))
	m.falsePositives = m.set.NewCounter(m.name(`edgenode_filter_false_positives_total`))
	gauge := func(name string, value func(s Stats) float64) {
		m.set.NewGauge(m.name(name), func() float64 { return value(f.Stats()) })
	}
	gauge(`edgenode_filter_trusted`, func(s Stats) float64 { return number(s.Trusted) })
	gauge(`edgenode_filter_items`, func(s Stats) float64 { return float64(s.Items) })
	gauge(`edgenode_filter_removed_items`, func(s Stats) float64 { return float64(s.Removed) })
	gauge(`edgenode_filter_bytes`, func(s Stats) float64 { return float64(s.Bytes) })
	gauge(`edgenode_filter_load_ratio`, func(s Stats) float64 { return s.Load })
	gauge(`edgenode_filter_false_positive_ratio`, func(s Stats) float64 { return s.FalsePositives })
	gauge(`edgenode_filter_applied_sequence`, func(s Stats) float64 { return float64(s.Applied) })
	gauge(`edgenode_filter_warming`, func(s Stats) float64 { return number(s.Warming) })
	gauge(`edgenode_filter_warmed_items`, func(s Stats) float64 { return float64(s.Warmed) })
	return m
}

func number(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func (m *filterMetrics) name(n string) string {
	m.names = append(m.names, n)
	return n
}

func (m *filterMetrics) unregister() {
	for _, n := range m.names {
		m.set.UnregisterMetric(n)
	}
}
