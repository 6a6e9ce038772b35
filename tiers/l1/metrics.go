package l1

import (
	"fmt"

	"github.com/VictoriaMetrics/metrics"
)

// Stats are counts since New.
type Stats struct {
	Hits, Misses uint64 // of Get and Append
	Puts         uint64 // stored
	Refused      uint64 // not stored for other reasons than a newer version
	Lost         uint64 // of these, not above what would have left for them, or not admitted
	Evicted      uint64 // left for room before their time
	Expired      uint64 // removed after their time
	Moved        uint64 // records moved to free a chunk
	Unmappable   uint64 // times that the system gave no memory
	HookCalls    uint64
	HookFaults   uint64 // calls without as many scores as candidates, or without an answer
	HookRefused  uint64 // of Lost, by the admit hook
}

// Stats returns the counts. They need not be of one moment.
func (c *Cache) Stats() Stats {
	out := Stats{
		Refused: c.refused.Load(), Lost: c.lost.Load(), Evicted: c.evicted.Load(), Expired: c.expired.Load(),
		Moved: c.moved.Load(), HookCalls: c.hookCalls.Load(), HookFaults: c.hookFaults.Load(),
		HookRefused: c.hookRefused.Load(), Unmappable: c.unmappable.Load(),
	}
	for i := range c.shards {
		s := &c.shards[i]
		out.Hits += s.hits.Load()
		out.Misses += s.misses.Load()
		out.Puts += s.puts.Load()
	}
	return out
}

// register adds the metrics of c to set. They are read when the set is written,
// so that a hit counts once and not twice.
func (c *Cache) register(set *metrics.Set) {
	gauge := func(name string, f func() int64) { set.NewGauge(name, func() float64 { return float64(f()) }) }
	gauge("edgenode_l1_items", c.Len)
	gauge("edgenode_l1_used_bytes", c.UsedBytes)
	gauge("edgenode_l1_mapped_bytes", c.MappedBytes)
	gauge("edgenode_l1_max_bytes", c.MaxBytes)
	gauge("edgenode_l1_pinned_bytes", c.PinnedBytes)
	gauge("edgenode_l1_reserved_bytes", c.external.Load)

	flag := func(name string, f func(way) bool) {
		gauge(name, func() int64 {
			if f(c.way()) {
				return 1
			}
			return 0
		})
	}
	flag("edgenode_l1_contest", func(w way) bool { return w.contest })
	flag("edgenode_l1_queues", func(w way) bool { return w.queues() })

	count := func(name string, f func(Stats) uint64) {
		set.NewGauge(name, func() float64 { return float64(f(c.Stats())) })
	}
	count("edgenode_l1_hits_total", func(s Stats) uint64 { return s.Hits })
	count("edgenode_l1_misses_total", func(s Stats) uint64 { return s.Misses })
	count("edgenode_l1_puts_total", func(s Stats) uint64 { return s.Puts })
	count("edgenode_l1_refused_total", func(s Stats) uint64 { return s.Refused })
	count("edgenode_l1_lost_total", func(s Stats) uint64 { return s.Lost })
	count("edgenode_l1_evictions_total", func(s Stats) uint64 { return s.Evicted })
	count("edgenode_l1_expirations_total", func(s Stats) uint64 { return s.Expired })
	count("edgenode_l1_moves_total", func(s Stats) uint64 { return s.Moved })
	count("edgenode_l1_unmappable_total", func(s Stats) uint64 { return s.Unmappable })
	count("edgenode_l1_hook_calls_total", func(s Stats) uint64 { return s.HookCalls })
	count("edgenode_l1_hook_faults_total", func(s Stats) uint64 { return s.HookFaults })
	count("edgenode_l1_hook_refused_total", func(s Stats) uint64 { return s.HookRefused })
}

// NamespaceStats is what is counted of a namespace.
type NamespaceStats struct {
	Name            string
	Bytes, MaxBytes int64 // MaxBytes is 0 without a budget
	Items           int64
	Evicted         uint64 // left for room before their time
	Refused         uint64 // not stored for the budget
}

// NamespaceStats returns the counts of each namespace, in the order in which they
// were given. They need not be of one moment.
func (c *Cache) NamespaceStats() (out []NamespaceStats) {
	for _, ns := range c.spaces.Load().list {
		out = append(out, NamespaceStats{ns.name, ns.bytes.Load(), ns.limit, ns.items.Load(), ns.evicted.Load(), ns.refused.Load()})
	}
	return out
}

// series returns the metrics of ns, by name.
func (ns *namespace) series() map[string]func() float64 {
	label := fmt.Sprintf("{namespace=%q}", ns.name)
	return map[string]func() float64{
		"edgenode_l1_namespace_used_bytes" + label:      func() float64 { return float64(ns.bytes.Load()) },
		"edgenode_l1_namespace_max_bytes" + label:       func() float64 { return float64(ns.limit) },
		"edgenode_l1_namespace_items" + label:           func() float64 { return float64(ns.items.Load()) },
		"edgenode_l1_namespace_evictions_total" + label: func() float64 { return float64(ns.evicted.Load()) },
		"edgenode_l1_namespace_refused_total" + label:   func() float64 { return float64(ns.refused.Load()) },
	}
}

// register adds the metrics of each namespace; unregister is its inverse.
func (sp *spaces) register() {
	for _, ns := range sp.list {
		for name, f := range ns.series() {
			if sp.metrics != nil {
				sp.metrics.NewGauge(name, f)
			}
		}
	}
}

func (sp *spaces) unregister() {
	for _, ns := range sp.list {
		for name := range ns.series() {
			if sp.metrics != nil {
				sp.metrics.UnregisterMetric(name)
			}
		}
	}
}
