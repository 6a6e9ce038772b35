package replica

import (
	"fmt"

	"github.com/VictoriaMetrics/metrics"
)

// counters counts what a replica does. Without a set it counts into nothing.
type counters struct {
	records     *metrics.Counter // edgenode_replica_records_total: stored here
	refused     *metrics.Counter // edgenode_replica_refused_records_total: cannot be stored here
	failures    *metrics.Counter // edgenode_replica_failures_total: tries to follow that failed
	forwarded   *metrics.Counter // edgenode_replica_forwarded_total: requests sent to the hub
	unforwarded *metrics.Counter // edgenode_replica_forward_failures_total: that the hub did not answer

	comparisons map[string]*metrics.Counter // edgenode_replica_comparisons_total by why
	repaired    *metrics.Counter            // edgenode_replica_repaired_total: items that comparisons changed
}

func newCounters(set *metrics.Set, r *Replica) *counters {
	if set == nil {
		set = metrics.NewSet() // never exported
	}
	m := &counters{
		records:     set.GetOrCreateCounter(`edgenode_replica_records_total`),
		refused:     set.GetOrCreateCounter(`edgenode_replica_refused_records_total`),
		failures:    set.GetOrCreateCounter(`edgenode_replica_failures_total`),
		forwarded:   set.GetOrCreateCounter(`edgenode_replica_forwarded_total`),
		unforwarded: set.GetOrCreateCounter(`edgenode_replica_forward_failures_total`),
		repaired:    set.GetOrCreateCounter(`edgenode_replica_repaired_total`),
		comparisons: map[string]*metrics.Counter{},
	}
	for _, why := range []string{whyFirst, whyGone, whyStore, whyConfig, whyCheck} {
		m.comparisons[why] = set.GetOrCreateCounter(fmt.Sprintf(`edgenode_replica_comparisons_total{why=%q}`, why))
	}
	for _, state := range []string{StateConnecting, StateRepairing, StateFollowing, StateCutOff} {
		set.GetOrCreateGauge(fmt.Sprintf(`edgenode_replica_state{state=%q}`, state), func() float64 { return one(r.Health().State == state) })
	}
	set.GetOrCreateGauge(`edgenode_replica_lag_changes`, func() float64 { return float64(r.behind.Load()) })
	set.GetOrCreateGauge(`edgenode_replica_lag_seconds`, func() float64 { return r.Health().LagSeconds })
	set.GetOrCreateGauge(`edgenode_replica_stale`, func() float64 { return one(r.Health().Stale) })
	set.GetOrCreateGauge(`edgenode_replica_newer_items`, func() float64 { return float64(r.newer.Load()) })
	set.GetOrCreateGauge(`edgenode_replica_awaited_ids`, func() float64 { return float64(r.awaited.n.Load()) })
	return m
}

func one(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}

// compared counts a comparison that changed n items.
func (m *counters) compared(why string, n int) {
	m.comparisons[why].Inc()
	m.repaired.Add(n)
}
