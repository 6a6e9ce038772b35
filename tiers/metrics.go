package tiers

import (
	"errors"
	"sync/atomic"

	"github.com/VictoriaMetrics/metrics"

	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/pressure"
)

// engineMetrics are the engine's counters. Reads are counted per tier and
// outcome; the gauges are read when somebody asks.
type engineMetrics struct {
	set *metrics.Set

	hits       [5]*metrics.Counter // by Source
	misses     *metrics.Counter
	readErrors *metrics.Counter
	corrupted  [5]*metrics.Counter
	throttled  *metrics.Counter

	acknowledged [5]*metrics.Counter // by Durability
	shed         *metrics.Counter
	busyReads    *metrics.Counter
	promoLost    *metrics.Counter

	superseded   *metrics.Counter
	flushed      *metrics.Counter
	flushBytes   *metrics.Counter
	flushErrors  *metrics.Counter
	unseen       *metrics.Counter
	flushSeconds *metrics.Histogram
	batchItems   *metrics.Histogram
	swept        *metrics.Counter
	expired      *metrics.Counter
	trimmed      *metrics.Counter
	changesLost  *metrics.Counter
	unhashed     *metrics.Counter

	l1Restored, l1CorruptBlocks *metrics.Counter

	// Of L2; counted, if there is none, but shown to nobody.
	distrusts, l2Skipped, l2Errors, l2Writes, l2WriteErrors *metrics.Counter
	l2Refused, l2Swept, l2Repairs, l2Repaired               *metrics.Counter
	l2Proven, l2Compared, treeCopyRows, treeCopyErrors      *metrics.Counter
	cdcEntries, cdcResets, cdcErrors                        *metrics.Counter
	cdcLeads                                                atomic.Bool
	cdcAt                                                   atomic.Uint64 // the last change that the stream has, if this node writes it
	announced, woken                                        *metrics.Counter
	l2Seconds                                               *metrics.Histogram

	names []string // as registered
}

// phases are the states that start and end an engine.
var phases = []State{StateConnecting, StateDrainingJournal, StateSyncingL2, StateWarmingUp, StateShuttingDown}

func newEngineMetrics(set *metrics.Set, e *Engine) *engineMetrics {
	m := &engineMetrics{set: set}
	if set == nil {
		set = metrics.NewSet() // counted, shown to nobody
	}
	counter := func(name string) *metrics.Counter {
		m.names = append(m.names, name)
		return set.NewCounter(name)
	}
	histogram := func(name string) *metrics.Histogram {
		m.names = append(m.names, name)
		return set.NewHistogram(name)
	}
	sources := []Source{FromL1, FromPending, FromL3}
	if e.l2 != nil {
		sources = append(sources, FromL2)
	}
	for _, s := range sources {
		m.hits[s] = counter(`edgenode_get_total{tier="` + s.String() + `",outcome="hit"}`)
		m.corrupted[s] = counter(`edgenode_corruption_total{tier="` + s.String() + `"}`)
	}
	for d := item.DurabilityMemory; d <= item.DurabilityL3; d++ {
		m.acknowledged[d] = counter(`edgenode_writes_total{durability="` + d.String() + `"}`)
	}
	m.misses = counter(`edgenode_get_total{tier="all",outcome="miss"}`)
	m.readErrors = counter(`edgenode_get_total{tier="all",outcome="error"}`)
	m.throttled = counter(`edgenode_writes_refused_total{reason="throttle"}`)
	m.shed = counter(`edgenode_writes_refused_total{reason="pressure"}`)
	m.busyReads = counter("edgenode_fill_waiters_refused_total")
	m.promoLost = counter("edgenode_promotions_lost_total")
	m.superseded = counter("edgenode_superseded_total")
	m.flushed = counter("edgenode_flush_items_total")
	m.flushBytes = counter("edgenode_flush_bytes_total")
	m.flushErrors = counter("edgenode_flush_errors_total")
	m.unseen = counter("edgenode_flush_unseen_total")
	m.flushSeconds = histogram("edgenode_flush_seconds")
	m.batchItems = histogram("edgenode_flush_batch_items")
	m.swept = counter("edgenode_swept_rows_total")
	m.expired = counter("edgenode_expired_rows_total")
	m.trimmed = counter("edgenode_trimmed_changes_total")
	m.changesLost = counter("edgenode_changes_lost_total")
	m.unhashed = counter("edgenode_merkle_trimmed_changes_total")
	m.l1Restored = counter("edgenode_l1_restored_total")
	m.l1CorruptBlocks = counter("edgenode_l1_snapshot_corrupt_total")

	m.registerL2(e, set)
	gauge := func(name string, f func() float64) {
		set.NewGauge(name, f)
		m.names = append(m.names, name)
	}
	for _, s := range phases {
		gauge(`edgenode_phase_seconds{phase="`+s.String()+`"}`, func() float64 { return e.state.seconds(s) })
	}
	gauge("edgenode_pressure_ratio", e.Pressure)
	gauge("edgenode_pressure_level", func() float64 { return float64(e.thresholds.Load().Level(e.Pressure())) })
	gauge("edgenode_pending_items", func() float64 { return float64(e.pending.ids.Load()) })
	gauge("edgenode_pending_bytes", func() float64 { return float64(e.pending.bytes()) })
	gauge("edgenode_rules_unswept", func() float64 { return float64(len(e.rules.waiting(notSweptInL3))) })
	gauge("edgenode_follow_lag_changes", func() float64 {
		last, applied := e.l3.LastSeq(), e.applied()
		return float64(max(last, applied) - applied)
	})
	if e.tree != nil && e.options.MerkleCalc {
		gauge("edgenode_merkle_lag_changes", func() float64 { return float64(e.treeLag()) })
		gauge("edgenode_merkle_calculating", func() float64 { return oneIf(e.tree.calc.Load()) })
		gauge("edgenode_merkle_corrupt", func() float64 { return oneIf(e.tree.broken.Load() != nil) })
	}
	gauge("edgenode_follow_age_seconds", func() float64 {
		age, _ := e.followAge()
		return age.Seconds()
	})
	gauge("edgenode_dead_letters", func() float64 { return float64(e.dead.Backlog().Records) })
	gauge("edgenode_l3_up", func() float64 {
		if e.l3Up() {
			return 1
		}
		return 0
	})
	return m
}

func oneIf(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// unregister takes the metrics out of the set, so that an engine opened later
// can register its own.
func (m *engineMetrics) unregister() {
	if m.set == nil {
		return
	}
	for _, name := range m.names {
		m.set.UnregisterMetric(name)
	}
}

func (m *engineMetrics) read(h *Hit, ok bool, err error) {
	switch {
	case ok:
		m.hits[h.Source].Inc()
	case err != nil && !errors.Is(err, ErrTooOld):
		m.readErrors.Inc()
	default:
		m.misses.Inc()
	}
}

func (m *engineMetrics) refused(v pressure.Verdict) {
	switch v {
	case pressure.Delay:
		m.throttled.Inc()
	case pressure.Refuse:
		m.shed.Inc()
	}
}

func (m *engineMetrics) corrupt(s Source) { m.corrupted[s].Inc() }
func (m *engineMetrics) busy()            { m.busyReads.Inc() }
func (m *engineMetrics) promotionLost()   { m.promoLost.Inc() }

// registerL2 makes the metrics of L2. Without L2 they go where nobody looks.
func (m *engineMetrics) registerL2(e *Engine, set *metrics.Set) {
	if e.l2 == nil {
		set = metrics.NewSet()
	}
	note := func(name string) string {
		if e.l2 != nil {
			m.names = append(m.names, name)
		}
		return name
	}
	counter := func(name string) *metrics.Counter { return set.NewCounter(note(name)) }
	m.distrusts = counter("edgenode_l2_distrusted_total")
	m.l2Skipped = counter("edgenode_l2_skipped_total")
	m.l2Errors = counter("edgenode_l2_read_errors_total")
	m.l2Writes = counter("edgenode_l2_writes_total")
	m.l2WriteErrors = counter("edgenode_l2_write_errors_total")
	m.l2Refused = counter("edgenode_l2_refused_total")
	m.l2Swept = counter("edgenode_l2_swept_copies_total")
	m.l2Repairs = counter("edgenode_l2_repairs_total")
	m.l2Repaired = counter("edgenode_l2_repaired_copies_total")
	m.l2Proven = counter(`edgenode_l2_repair_checks_total{by="tree"}`)
	m.l2Compared = counter(`edgenode_l2_repair_checks_total{by="row"}`)
	m.treeCopyRows = counter("edgenode_l2_tree_rows_written_total")
	m.treeCopyErrors = counter("edgenode_l2_tree_errors_total")
	m.cdcEntries = counter("edgenode_cdc_entries_total")
	m.cdcResets = counter("edgenode_cdc_resets_total")
	m.cdcErrors = counter("edgenode_cdc_errors_total")
	m.announced = counter("edgenode_wakes_sent_total")
	m.woken = counter("edgenode_wakes_heard_total")
	m.l2Seconds = set.NewHistogram(note("edgenode_l2_write_seconds"))
	if e.l2 == nil {
		return
	}
	set.NewGauge(note("edgenode_cdc_writer"), func() float64 {
		if m.cdcLeads.Load() {
			return 1
		}
		return 0
	})
	set.NewGauge(note("edgenode_cdc_lag_changes"), func() float64 {
		if !m.cdcLeads.Load() {
			return 0
		}
		last, at := e.LastChange(), m.cdcAt.Load()
		return float64(max(last, at) - at)
	})
	set.NewGauge(note("edgenode_l2_trusted"), func() float64 {
		if _, ok := e.l2.trusted(); ok {
			return 1
		}
		return 0
	})
	set.NewGauge(note("edgenode_l2_lag_changes"), func() float64 { return float64(e.l2.lag(e.l3.LastSeq())) })
	set.NewGauge(note("edgenode_l2_tree_sequence"), func() float64 {
		if e.shadow == nil {
			return 0
		}
		return float64(e.shadow.seq.Load())
	})
	set.NewGauge(note("edgenode_l2_copies_waiting"), func() float64 { return float64(e.l2.copies.count.Load()) })
}
