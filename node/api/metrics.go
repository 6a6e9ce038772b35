package api

import (
	"fmt"

	"github.com/VictoriaMetrics/metrics"
)

// counters counts what the API does. Without a set it counts into nothing.
type counters struct {
	requests [routes][6]*metrics.Counter // edgenode_api_requests_total by route and class of status
	lines    [2]*metrics.Counter         // edgenode_api_batch_lines_total by outcome: ok, failed
	denied   *metrics.Counter            // edgenode_api_denied_total: requests denied or answered by a policy

	feedEvents   *metrics.Counter // edgenode_api_feed_events_total: told to readers of the change feed
	feedsRefused *metrics.Counter // edgenode_api_feeds_refused_total: too many at a time
	feedsGone    *metrics.Counter // edgenode_api_feeds_gone_total: changes that a reader asked for are not kept any more

	refusedEdits *metrics.Counter // edgenode_api_refused_edits_total: header edits of a policy without effect
}

func newCounters(set *metrics.Set, feeds func() float64) *counters {
	if set == nil {
		set = metrics.NewSet() // never exported
	}
	m := &counters{denied: set.GetOrCreateCounter(`edgenode_api_denied_total`)}
	m.refusedEdits = set.GetOrCreateCounter(`edgenode_api_refused_edits_total`)
	m.feedEvents = set.GetOrCreateCounter(`edgenode_api_feed_events_total`)
	m.feedsRefused = set.GetOrCreateCounter(`edgenode_api_feeds_refused_total`)
	m.feedsGone = set.GetOrCreateCounter(`edgenode_api_feeds_gone_total`)
	set.GetOrCreateGauge(`edgenode_api_feeds`, feeds)
	for r := range routes {
		for class := range m.requests[r] {
			m.requests[r][class] = set.GetOrCreateCounter(fmt.Sprintf(`edgenode_api_requests_total{route=%q,class="%dxx"}`, r.String(), class))
		}
	}
	m.lines[0] = set.GetOrCreateCounter(`edgenode_api_batch_lines_total{outcome="ok"}`)
	m.lines[1] = set.GetOrCreateCounter(`edgenode_api_batch_lines_total{outcome="failed"}`)
	return m
}
