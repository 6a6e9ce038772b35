package load

import "time"

// A Report is what a run came to. What was sent in the warm-up is not in it.
type Report struct {
	Loop        string  `json:"loop"` // closed or open
	Connections int     `json:"connections"`
	Pipeline    int     `json:"pipeline"`
	Rate        float64 `json:"rate,omitempty"` // requests a second that were asked for
	Seconds     float64 `json:"seconds"`        // counted
	Requests    uint64  `json:"requests"`       // answered
	PerSecond   float64 `json:"requests_per_second"`
	Reads       Side    `json:"reads"`
	Writes      Side    `json:"writes"`
	Latency     Latency `json:"latency"` // of both; in an open loop since requests were due
	// Service is the latency since requests were sent, in an open loop only. What
	// Latency is more is time in which no connection was free for a request.
	Service *Latency `json:"service,omitempty"`
	// NotSent counts requests of an open loop that were due and could not be sent
	// before the end. They are in Latency with the time that they had waited.
	NotSent  uint64            `json:"not_sent"`
	Failed   uint64            `json:"failed"`   // no answer, or a status from 400 up, 404 to a GET aside
	Statuses map[string]uint64 `json:"statuses"` // of answers
	Errors   map[string]uint64 `json:"errors"`   // by Kind, requests without answer
	// FirstError is the first of these errors, or "".
	FirstError string `json:"first_error,omitempty"`
}

// A Side is one kind of request.
type Side struct {
	Requests uint64  `json:"requests"` // answered
	Misses   uint64  `json:"misses"`   // GETs answered with 404
	Bytes    uint64  `json:"bytes"`    // of bodies received; of bodies sent for writes
	Latency  Latency `json:"latency"`
}

// A Latency says how long requests took, in microseconds, at most 1.6 % too high.
// Those without answer are not in it, except those that ran into the timeout.
type Latency struct {
	Mean  float64 `json:"mean_us"`
	P50   float64 `json:"p50_us"`
	P90   float64 `json:"p90_us"`
	P99   float64 `json:"p99_us"`
	P999  float64 `json:"p99_9_us"`
	P9999 float64 `json:"p99_99_us"`
	Max   float64 `json:"max_us"`
}

func (h *histogram) latency() Latency {
	us := func(q float64) float64 { return float64(h.quantile(q)) / float64(time.Microsecond) }
	return Latency{
		Mean: h.mean() / float64(time.Microsecond),
		P50:  us(0.5), P90: us(0.9), P99: us(0.99), P999: us(0.999), P9999: us(0.9999),
		Max: float64(h.max) / float64(time.Microsecond),
	}
}

// A tally is what one connection has counted.
type tally struct {
	read, write   histogram
	service       *histogram // open loop only
	reads, writes Side       // without latencies
	notSent       uint64
	failed        uint64
	statuses      [1000]uint64
	errors        map[string]uint64
	firstError    error
	last          time.Duration // when the last answer came, since the start
}

func (t *tally) merge(o *tally) {
	t.read.merge(&o.read)
	t.write.merge(&o.write)
	if t.service != nil {
		t.service.merge(o.service)
	}
	for _, p := range [][2]*Side{{&t.reads, &o.reads}, {&t.writes, &o.writes}} {
		p[0].Requests += p[1].Requests
		p[0].Misses += p[1].Misses
		p[0].Bytes += p[1].Bytes
	}
	t.notSent += o.notSent
	t.failed += o.failed
	for i, n := range o.statuses {
		t.statuses[i] += n
	}
	for kind, n := range o.errors {
		t.errors[kind] += n
	}
	if t.firstError == nil {
		t.firstError = o.firstError
	}
	t.last = max(t.last, o.last)
}

// report returns what t comes to.
func (t *tally) report(o *Options) *Report {
	r := &Report{
		Loop: "closed", Connections: o.Connections, Pipeline: o.Pipeline, Rate: o.Rate,
		Requests: t.reads.Requests + t.writes.Requests, Reads: t.reads, Writes: t.writes,
		NotSent: t.notSent, Failed: t.failed, Statuses: map[string]uint64{}, Errors: t.errors,
	}
	// A trace may end before its time; a last answer may come after it.
	r.Seconds = max(t.last-o.Warmup, 0).Seconds()
	if o.Trace == nil {
		r.Seconds = max(r.Seconds, o.Duration.Seconds())
	}
	if r.Seconds > 0 {
		r.PerSecond = float64(r.Requests) / r.Seconds
	}
	r.Reads.Latency, r.Writes.Latency = t.read.latency(), t.write.latency()
	t.read.merge(&t.write)
	r.Latency = t.read.latency()
	if t.service != nil {
		r.Loop = "open"
		service := t.service.latency()
		r.Service = &service
	}
	for status, n := range t.statuses {
		if n > 0 {
			r.Statuses[statusText(status)] = n
		}
	}
	if t.firstError != nil {
		r.FirstError = t.firstError.Error()
	}
	return r
}
