package l3

import (
	"errors"
	"time"

	"github.com/VictoriaMetrics/metrics"
)

// storeMetrics are the metrics of one store. With a nil set they count unseen.
type storeMetrics struct {
	set   *metrics.Set
	names []string

	commits                          *metrics.Histogram
	won, lost, refused               *metrics.Counter
	unavailable, corrupt, rejected   *metrics.Counter
	passives, restarts               *metrics.Counter
	expired, swept, purged, rereadNo *metrics.Counter
	retries, moved                   *metrics.Counter
}

func newMetrics(set *metrics.Set, s *Store) *storeMetrics {
	m := &storeMetrics{set: set}
	if set == nil {
		m.set = metrics.NewSet()
	}
	m.commits = m.set.NewHistogram(m.name(`edgenode_l3_commit_seconds`))
	m.won = m.counter(`edgenode_l3_operations_total{outcome="won"}`)
	m.lost = m.counter(`edgenode_l3_operations_total{outcome="lost"}`)
	m.refused = m.counter(`edgenode_l3_operations_total{outcome="refused"}`)
	m.unavailable = m.counter(`edgenode_l3_errors_total{kind="unavailable"}`)
	m.corrupt = m.counter(`edgenode_l3_errors_total{kind="corrupt"}`)
	m.rejected = m.counter(`edgenode_l3_errors_total{kind="rejected"}`)
	m.passives = m.counter(`edgenode_l3_checkpoints_total{mode="passive"}`)
	m.restarts = m.counter(`edgenode_l3_checkpoints_total{mode="restart"}`)
	m.expired = m.counter(`edgenode_l3_expired_total`)
	m.swept = m.counter(`edgenode_l3_swept_total`)
	m.purged = m.counter(`edgenode_l3_tombstones_purged_total`)
	m.rereadNo = m.counter(`edgenode_l3_unverified_rows_total`)
	m.retries = m.counter(`edgenode_l3_retries_total`)
	m.moved = m.counter(`edgenode_l3_moved_total`)
	m.set.NewGauge(m.name(`edgenode_l3_wal_bytes`), s.walBytes)
	m.set.NewGauge(m.name(`edgenode_l3_wal_max_bytes`), func() float64 { return float64(s.opts.WALMax) })
	m.set.NewGauge(m.name(`edgenode_l3_change_sequence`), func() float64 { return float64(s.LastSeq()) })
	return m
}

// walBytes is the size of the write-ahead log; a server's is its own affair.
func (s *Store) walBytes() float64 {
	if s.wal == nil {
		return 0
	}
	return float64(s.wal.bytes.Load())
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
	case errors.Is(err, ErrCorrupt):
		m.corrupt.Inc()
	case errors.Is(err, ErrUnavailable):
		m.unavailable.Inc()
	case errors.Is(err, ErrRejected):
		m.rejected.Inc()
	}
}

func (m *storeMetrics) timeCommit(commit func() error) error {
	start := time.Now()
	err := commit()
	m.commits.UpdateDuration(start)
	return err
}

func (m *storeMetrics) outcomes(out []Outcome) {
	for i := range out {
		switch {
		case out[i].Won:
			m.won.Inc()
		case out[i].Refused:
			m.refused.Inc()
		default:
			m.lost.Inc()
		}
	}
}

type checkpointMode int

const (
	passive checkpointMode = iota
	restart
)

func (m *storeMetrics) checkpoint(mode checkpointMode) {
	if mode == passive {
		m.passives.Inc()
	} else {
		m.restarts.Inc()
	}
}
