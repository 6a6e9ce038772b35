package journal

import (
	"time"

	"github.com/VictoriaMetrics/metrics"
)

// journalMetrics are the metrics of one journal. Without a set they are counted
// and shown nowhere.
type journalMetrics struct {
	set   *metrics.Set
	names []string
	now   func() time.Time

	groups     *metrics.Counter
	bytes      *metrics.Counter
	syncs      *metrics.Counter
	syncTime   *metrics.Histogram
	failures   *metrics.Counter
	corruption *metrics.Counter
	tailBytes  *metrics.Counter
}

func newMetrics(set *metrics.Set, j *Journal) *journalMetrics {
	private := set == nil
	if private {
		set = metrics.NewSet()
	}
	m := &journalMetrics{set: set, now: j.opt.Now}
	counter := func(name string) *metrics.Counter {
		m.names = append(m.names, name)
		return set.GetOrCreateCounter(name)
	}
	m.groups = counter("edgenode_journal_groups_total")
	m.bytes = counter("edgenode_journal_written_bytes_total")
	m.syncs = counter("edgenode_journal_fsyncs_total")
	m.failures = counter("edgenode_journal_file_errors_total")
	m.corruption = counter("edgenode_journal_corruptions_total")
	m.tailBytes = counter("edgenode_journal_tail_cut_bytes_total")
	m.syncTime = set.GetOrCreateHistogram("edgenode_journal_fsync_seconds")
	m.names = append(m.names, "edgenode_journal_fsync_seconds")
	if private {
		return m
	}
	gauge := func(name string, f func(Backlog) float64) {
		m.names = append(m.names, name)
		set.GetOrCreateGauge(name, func() float64 { return f(j.Backlog()) })
	}
	gauge("edgenode_journal_backlog_records", func(b Backlog) float64 { return float64(b.Records) })
	gauge("edgenode_journal_backlog_bytes", func(b Backlog) float64 { return float64(b.Bytes) })
	gauge("edgenode_journal_disk_bytes", func(b Backlog) float64 { return float64(b.DiskBytes) })
	gauge("edgenode_journal_used_bytes", func(b Backlog) float64 { return float64(b.UsedBytes) })
	gauge("edgenode_journal_quota_bytes", func(b Backlog) float64 { return float64(b.QuotaBytes) })
	gauge("edgenode_journal_segments", func(b Backlog) float64 { return float64(b.Segments) })
	return m
}

func (m *journalMetrics) recovered(r *Recovery) {
	m.corrupted(r.Damaged)
	m.tailBytes.Add(int(r.TailCut.Bytes))
}

func (m *journalMetrics) wrote(n int) {
	m.groups.Inc()
	m.bytes.Add(n)
}

func (m *journalMetrics) begin() time.Time { return m.now() }

func (m *journalMetrics) synced(begin time.Time) {
	m.syncs.Inc()
	m.syncTime.Update(m.now().Sub(begin).Seconds())
}

func (m *journalMetrics) failed()         { m.failures.Inc() }
func (m *journalMetrics) corrupted(n int) { m.corruption.Add(n) }

// close takes the metrics off the set.
func (m *journalMetrics) close() {
	for _, name := range m.names {
		m.set.UnregisterMetric(name)
	}
}
