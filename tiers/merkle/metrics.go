package merkle

import (
	"sync/atomic"

	"github.com/VictoriaMetrics/metrics"
)

// treeMetrics are the metrics of one tree. With a nil set they count unseen.
type treeMetrics struct {
	set   *metrics.Set
	names []string

	stepTime                     *metrics.Histogram
	changes, written             *metrics.Counter
	moved, failed, rebuilds      *metrics.Counter
	diffs, diffRows, differences *metrics.Counter
	applied                      atomic.Uint64
}

func newMetrics(set *metrics.Set) *treeMetrics {
	m := &treeMetrics{set: set}
	if set == nil {
		m.set = metrics.NewSet()
	}
	m.stepTime = m.set.NewHistogram(m.name(`edgenode_merkle_step_seconds`))
	m.changes = m.counter(`edgenode_merkle_changes_total`)
	m.written = m.counter(`edgenode_merkle_rows_written_total`)
	m.moved = m.counter(`edgenode_merkle_steps_lost_total`)
	m.failed = m.counter(`edgenode_merkle_errors_total`)
	m.rebuilds = m.counter(`edgenode_merkle_rebuilds_total`)
	m.diffs = m.counter(`edgenode_merkle_diffs_total`)
	m.diffRows = m.counter(`edgenode_merkle_diff_rows_total`)
	m.differences = m.counter(`edgenode_merkle_differences_total`)
	m.set.NewGauge(m.name(`edgenode_merkle_applied_sequence`), func() float64 { return float64(m.applied.Load()) })
	return m
}

func (m *treeMetrics) name(n string) string {
	m.names = append(m.names, n)
	return n
}

func (m *treeMetrics) counter(n string) *metrics.Counter { return m.set.NewCounter(m.name(n)) }

func (m *treeMetrics) unregister() {
	for _, n := range m.names {
		m.set.UnregisterMetric(n)
	}
}
