package l2

import (
	"errors"

	"github.com/VictoriaMetrics/metrics"
)

// storeMetrics are the metrics of one store. With a nil set they count unseen.
type storeMetrics struct {
	set   *metrics.Set
	names []string

	getTime, applyTime    *metrics.Histogram
	hits, misses          *metrics.Counter
	corrupt, foreign      *metrics.Counter
	unavailable, rejected *metrics.Counter
	ops                   map[OpKind][3]*metrics.Counter
	swept, evicted        *metrics.Counter
}

// Positions in storeMetrics.ops.
const (
	opWon = iota
	opSame
	opLost
)

func newMetrics(set *metrics.Set, s *Store) *storeMetrics {
	m := &storeMetrics{set: set}
	if set == nil {
		m.set = metrics.NewSet()
	}
	m.getTime = m.set.NewHistogram(m.name(`edgenode_l2_get_seconds`))
	m.applyTime = m.set.NewHistogram(m.name(`edgenode_l2_apply_seconds`))
	m.hits = m.counter(`edgenode_l2_gets_total{outcome="hit"}`)
	m.misses = m.counter(`edgenode_l2_gets_total{outcome="miss"}`)
	m.corrupt = m.counter(`edgenode_l2_bad_values_total{kind="corrupt"}`)
	m.foreign = m.counter(`edgenode_l2_bad_values_total{kind="foreign"}`)
	m.unavailable = m.counter(`edgenode_l2_errors_total{kind="unavailable"}`)
	m.rejected = m.counter(`edgenode_l2_errors_total{kind="rejected"}`)
	m.ops = map[OpKind][3]*metrics.Counter{
		OpPut: {m.counter(`edgenode_l2_operations_total{op="put",outcome="won"}`),
			m.counter(`edgenode_l2_operations_total{op="put",outcome="same"}`),
			m.counter(`edgenode_l2_operations_total{op="put",outcome="lost"}`)},
		OpTombstone: {m.counter(`edgenode_l2_operations_total{op="tombstone",outcome="won"}`),
			m.counter(`edgenode_l2_operations_total{op="tombstone",outcome="same"}`),
			m.counter(`edgenode_l2_operations_total{op="tombstone",outcome="lost"}`)},
		OpDrop: {m.counter(`edgenode_l2_operations_total{op="drop",outcome="won"}`),
			nil, // a drop never is
			m.counter(`edgenode_l2_operations_total{op="drop",outcome="lost"}`)},
	}
	m.swept = m.counter(`edgenode_l2_swept_total`)
	m.evicted = m.counter(`edgenode_l2_evicted_total`)
	m.set.NewGauge(m.name(`edgenode_l2_generation`), func() float64 { return float64(s.Generation()) })
	m.set.NewGauge(m.name(`edgenode_l2_used_bytes`), func() float64 { return float64(s.usedBytes.Load()) })
	m.set.NewGauge(m.name(`edgenode_l2_max_bytes`), func() float64 { return float64(s.maxBytes.Load()) })
	return m
}

func (m *storeMetrics) name(n string) string {
	m.names = append(m.names, n)
	return n
}

func (m *storeMetrics) counter(n string) *metrics.Counter { return m.set.NewCounter(m.name(n)) }

func (m *storeMetrics) unregister() {
	for _, n := range m.names {
		m.set.UnregisterMetric(n)
	}
}

func (m *storeMetrics) count(err error) {
	switch {
	case errors.Is(err, ErrUnavailable):
		m.unavailable.Inc()
	case errors.Is(err, ErrRejected):
		m.rejected.Inc()
	}
}

// countValue counts a value that was not believed.
func (m *storeMetrics) countValue(err error) {
	switch {
	case errors.Is(err, errFormat):
		m.foreign.Inc()
	case errors.Is(err, errCorrupt):
		m.corrupt.Inc()
	}
}

func (m *storeMetrics) countOp(kind OpKind, o Outcome) {
	at := opLost
	if o.Won {
		at = opWon
	} else if o.Same {
		at = opSame
	}
	m.ops[kind][at].Inc()
}
