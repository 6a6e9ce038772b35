package front

import (
	"fmt"

	"github.com/VictoriaMetrics/metrics"
)

// serverMetrics are the metrics of one listener. Without a set they are counted
// and not shown.
type serverMetrics struct {
	set   *metrics.Set
	names []string

	accepted *metrics.Counter
	requests [6]*metrics.Counter // by the status' first digit; 0 is cut
	refused  [refusals]*metrics.Counter
	received *metrics.Counter
	sent     *metrics.Counter
	dropped  *metrics.Counter
}

func newServerMetrics(set *metrics.Set, s *Server) *serverMetrics {
	if set == nil {
		set = metrics.NewSet()
	}
	m := &serverMetrics{set: set}
	m.gauge("edgenode_front_connections", s, func() float64 {
		s.mu.Lock()
		defer s.mu.Unlock()
		return float64(len(s.conns))
	})
	m.gauge("edgenode_front_connections_max", s, func() float64 { return float64(s.o.MaxConnections) })
	m.accepted = m.counter("edgenode_front_connections_total", s, "")
	m.received = m.counter("edgenode_front_received_bytes_total", s, "")
	m.sent = m.counter("edgenode_front_sent_bytes_total", s, "")
	m.dropped = m.counter("edgenode_front_dropped_fields_total", s, "")
	for i, class := range [...]string{"cut", "1xx", "2xx", "3xx", "4xx", "5xx"} {
		m.requests[i] = m.counter("edgenode_front_requests_total", s, `,class="`+class+`"`)
	}
	for r := refusedNot + 1; r < refusals; r++ {
		m.refused[r] = m.counter("edgenode_front_refused_total", s, `,reason="`+r.verdict().reason+`"`)
	}
	return m
}

func (m *serverMetrics) full(name string, s *Server, labels string) string {
	name = fmt.Sprintf("%s{listener=%q%s}", name, s.o.Name, labels)
	m.names = append(m.names, name)
	return name
}

func (m *serverMetrics) counter(name string, s *Server, labels string) *metrics.Counter {
	return m.set.GetOrCreateCounter(m.full(name, s, labels))
}

func (m *serverMetrics) gauge(name string, s *Server, value func() float64) {
	m.set.NewGauge(m.full(name, s, ""), value)
}

// close takes the metrics out of their set.
func (m *serverMetrics) close() {
	for _, name := range m.names {
		m.set.UnregisterMetric(name)
	}
}

// class returns the counter for a status; statuses above 599 count as 5xx.
func (m *serverMetrics) class(code int) *metrics.Counter {
	return m.requests[max(0, min(code/100, 5))]
}
