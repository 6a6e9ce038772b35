package node

import (
	"fmt"
	"time"

	"github.com/VictoriaMetrics/metrics"
)

// nodeMetrics are the figures of the node as a whole. set is shared by all
// parts and shown by the admin listener.
type nodeMetrics struct {
	set *metrics.Set

	reloads, reloadFailures *metrics.Counter
	misdirected             *metrics.Counter
	bodiesRefused           *metrics.Counter
}

func newNodeMetrics(set *metrics.Set, n *Node) *nodeMetrics {
	m := &nodeMetrics{
		set:            set,
		reloads:        set.NewCounter(`edgenode_reloads_total{outcome="done"}`),
		reloadFailures: set.NewCounter(`edgenode_reloads_total{outcome="refused"}`),
		misdirected:    set.NewCounter(`edgenode_misdirected_total`),
		bodiesRefused:  set.NewCounter(`edgenode_inflight_refused_total`),
	}
	set.NewGauge(`edgenode_ready`, func() float64 {
		if n.ready.Load() && n.engine.Ready() {
			return 1
		}
		return 0
	})
	set.NewGauge(`edgenode_inflight_bytes`, func() float64 { return float64(n.inflight.used.Load()) })
	set.NewGauge(`edgenode_inflight_limit_bytes`, func() float64 { return float64(n.inflight.limit) })
	return m
}

// phase notes how long a step of the start has taken.
func (m *nodeMetrics) phase(name string, d time.Duration) {
	seconds := d.Seconds()
	m.set.NewGauge(fmt.Sprintf(`edgenode_start_seconds{phase=%q}`, name), func() float64 { return seconds })
}
