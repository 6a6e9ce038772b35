package proxy

import (
	"fmt"

	"github.com/VictoriaMetrics/metrics"
)

// proxyMetrics are the figures of this package.
type proxyMetrics struct {
	set *metrics.Set

	hits, stale, misses, passes        *metrics.Counter
	validated, collapsed, stored       *metrics.Counter
	notStored, purgedMeanwhile, cut    *metrics.Counter
	ranges, notModified, invalidated   *metrics.Counter
	refusedOverrides, waitersRefused   *metrics.Counter
	fetches, retries, originErrors     *metrics.Counter
	originBroken, background, released *metrics.Counter
	panics                             *metrics.Counter
	storeErrors, refusedEdits          *metrics.Counter
	chunks, chunksRefused              *metrics.Counter
	ownRanges, changedMidway           *metrics.Counter
	healthOK, healthFailed, purges     *metrics.Counter
	upgradesMade, upgradesRefused      *metrics.Counter
	toClient, toOrigin                 *metrics.Counter
	aheadBegun, aheadSkipped           *metrics.Counter
	shared, blockGone                  *metrics.Counter
}

// newMetrics registers the metrics on set; nil means that nobody reads them.
func newMetrics(set *metrics.Set, p *Proxy) *proxyMetrics {
	if set == nil {
		set = metrics.NewSet()
	}
	set.NewGauge(`edgenode_proxy_fills`, func() float64 { return float64(p.fills.Load()) })
	set.NewGauge(`edgenode_proxy_fill_bytes`, func() float64 { return float64(p.fillBytes.Load()) })
	set.NewGauge(`edgenode_proxy_fill_limit_bytes`, func() float64 { return float64(p.o.MaxFillBytes) })
	set.NewGauge(`edgenode_proxy_upgrades`, func() float64 { return float64(p.upgrades.Load()) })
	set.NewGauge(`edgenode_proxy_waiters`, func() float64 { return float64(p.waiters.Load()) })
	set.NewGauge(`edgenode_proxy_header_blocks`, func() float64 { n, _ := p.blocks.stats(); return float64(n) })
	set.NewGauge(`edgenode_proxy_header_block_bytes`, func() float64 { _, bytes := p.blocks.stats(); return float64(bytes) })
	set.NewGauge(`edgenode_proxy_header_block_limit_bytes`, func() float64 { return maxBlockBytes })
	return &proxyMetrics{
		set:              set,
		hits:             set.NewCounter(`edgenode_proxy_answers_total{from="fresh"}`),
		stale:            set.NewCounter(`edgenode_proxy_answers_total{from="stale"}`),
		validated:        set.NewCounter(`edgenode_proxy_answers_total{from="validated"}`),
		collapsed:        set.NewCounter(`edgenode_proxy_answers_total{from="collapsed"}`),
		misses:           set.NewCounter(`edgenode_proxy_answers_total{from="origin"}`),
		passes:           set.NewCounter(`edgenode_proxy_answers_total{from="pass"}`),
		stored:           set.NewCounter(`edgenode_proxy_stored_total`),
		notStored:        set.NewCounter(`edgenode_proxy_not_stored_total`),
		purgedMeanwhile:  set.NewCounter(`edgenode_proxy_purged_in_flight_total`),
		cut:              set.NewCounter(`edgenode_proxy_answers_cut_total`),
		ranges:           set.NewCounter(`edgenode_proxy_range_answers_total`),
		notModified:      set.NewCounter(`edgenode_proxy_not_modified_total`),
		invalidated:      set.NewCounter(`edgenode_proxy_invalidations_total`),
		refusedOverrides: set.NewCounter(`edgenode_proxy_refused_overrides_total`),
		refusedEdits:     set.NewCounter(`edgenode_proxy_refused_edits_total`),
		waitersRefused:   set.NewCounter(`edgenode_proxy_waiters_refused_total`),
		released:         set.NewCounter(`edgenode_proxy_waiters_released_total`),
		fetches:          set.NewCounter(`edgenode_proxy_origin_requests_total`),
		retries:          set.NewCounter(`edgenode_proxy_origin_retries_total`),
		originErrors:     set.NewCounter(`edgenode_proxy_origin_errors_total`),
		originBroken:     set.NewCounter(`edgenode_proxy_origin_broken_answers_total`),
		panics:           set.NewCounter(`edgenode_proxy_panics_total`),
		upgradesMade:     set.NewCounter(`edgenode_proxy_upgrades_total{outcome="made"}`),
		upgradesRefused:  set.NewCounter(`edgenode_proxy_upgrades_total{outcome="refused"}`),
		toClient:         set.NewCounter(`edgenode_proxy_upgraded_bytes_total{to="client"}`),
		toOrigin:         set.NewCounter(`edgenode_proxy_upgraded_bytes_total{to="origin"}`),
		purges:           set.NewCounter(`edgenode_proxy_purge_requests_total`),
		healthOK:         set.NewCounter(`edgenode_proxy_health_checks_total{outcome="ok"}`),
		healthFailed:     set.NewCounter(`edgenode_proxy_health_checks_total{outcome="failed"}`),
		storeErrors:      set.NewCounter(`edgenode_proxy_store_errors_total`),
		chunks:           set.NewCounter(`edgenode_proxy_chunks_stored_total`),
		chunksRefused:    set.NewCounter(`edgenode_proxy_chunks_not_stored_total`),
		ownRanges:        set.NewCounter(`edgenode_proxy_range_requests_total`),
		changedMidway:    set.NewCounter(`edgenode_proxy_changed_midway_total`),
		aheadBegun:       set.NewCounter(`edgenode_proxy_ahead_refreshes_total{outcome="begun"}`),
		aheadSkipped:     set.NewCounter(`edgenode_proxy_ahead_refreshes_total{outcome="skipped"}`),
		shared:           set.NewCounter(`edgenode_proxy_header_blocks_shared_total`),
		blockGone:        set.NewCounter(`edgenode_proxy_header_blocks_gone_total`),
		background:       set.NewCounter(`edgenode_proxy_background_refreshes_total`),
	}
}

// problem counts an answer of the node's own by its name, one of a closed set.
func (m *proxyMetrics) problem(name string) {
	m.set.GetOrCreateCounter(fmt.Sprintf(`edgenode_proxy_problems_total{problem=%q}`, name)).Inc()
}

func (m *proxyMetrics) healthCheck(ok bool) {
	if ok {
		m.healthOK.Inc()
		return
	}
	m.healthFailed.Inc()
}

// originStates are the values of the label state.
var originStates = [...]string{"up", "resting", "down"}

func poolMetric(pool, state string) string {
	return fmt.Sprintf(`edgenode_proxy_pool_origins{pool=%q,state=%q}`, pool, state)
}

// pool shows how many origins of a pool are in each state.
func (m *proxyMetrics) pool(p *Proxy, name string) {
	for _, state := range originStates {
		m.set.GetOrCreateGauge(poolMetric(name, state), func() float64 {
			pl, now, n := p.table.Load().pools[name], p.o.Now(), 0
			if pl == nil {
				return 0
			}
			for _, o := range pl.origins {
				if o.state(now).State == state {
					n++
				}
			}
			return float64(n)
		})
	}
}

// forget takes the pools of old that now has not out of the metrics.
func (m *proxyMetrics) forget(old, now *table) {
	for name := range old.pools {
		if now.pools[name] == nil {
			for _, state := range originStates {
				m.set.UnregisterMetric(poolMetric(name, state))
			}
		}
	}
}
