package accesslog

import "github.com/VictoriaMetrics/metrics"

type logMetrics struct {
	lines, dropped, failures, bytes *metrics.Counter
}

func newMetrics(set *metrics.Set) *logMetrics {
	if set == nil {
		set = metrics.NewSet()
	}
	return &logMetrics{
		lines:    set.NewCounter(`edgenode_access_log_lines_total`),
		dropped:  set.NewCounter(`edgenode_access_log_dropped_lines_total`),
		failures: set.NewCounter(`edgenode_access_log_failed_writes_total`),
		bytes:    set.NewCounter(`edgenode_access_log_written_bytes_total`),
	}
}
