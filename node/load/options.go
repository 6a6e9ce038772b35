package load

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// Defaults and limits of Options.
const (
	DefaultConnections = 64
	DefaultDuration    = 10 * time.Second
	DefaultTimeout     = 5 * time.Second
	DefaultTheta       = 0.99
	DefaultSize        = 1024

	MaxConnections = 4096 // each has histograms of 18 KiB
	MaxPipeline    = 1024
	MaxDuration    = 24 * time.Hour
	MaxRate        = 1e7
	MaxKeys        = 1 << 30
	MaxSize        = 64 << 20
)

// Distributions of keys.
const (
	Hot     = "hot"     // one key
	Uniform = "uniform" // all alike
	Zipf    = "zipf"    // the k-th as often as 1/k^theta
)

// ErrOptions is wrapped by the errors about Options.
var ErrOptions = errors.New("load: bad options")

// Options say what to send, and where. The zero value of each field is its
// default.
type Options struct {
	// Targets are URLs, http or https; connections take turns. One without a path
	// is a node, whose items bench/0, bench/1, … are asked for. In others {key}
	// stands for the number of the key and {size} for the bytes of its value.
	Targets []string
	// Anywhere allows targets that are not on this machine.
	Anywhere bool

	Connections int           // default 64, at most MaxConnections
	Pipeline    int           // requests sent before their answers are read; default 1; closed loop only
	Rate        float64       // requests a second; 0 is a closed loop
	Duration    time.Duration // that is counted; default 10 s
	Warmup      time.Duration // before it; default none
	Timeout     time.Duration // of connecting, and of one request; default 5 s

	Keys  int     // how many there are; default 1
	Dist  string  // Hot, Uniform or Zipf; default Uniform
	Theta float64 // of Zipf, above 0 and at most 10; default 0.99
	Sizes []int   // bytes of values; a key has one of them for good; default 1024
	Trace *Trace  // instead of these four

	// Speed makes an open loop of the times of the trace: 1 is as recorded, 10 ten
	// times as fast. 0 pays no heed to them.
	Speed float64

	Writes     float64 // share of requests that are PUT, 0 to 1
	Durability string  // of PUTs: memory, journal, sync or l3; default what the node has
	Fill       bool    // PUT every key once before the run
	PutMisses  bool    // PUT what a GET was answered with 404 for, as one does around a cache

	Headers []string // "Name: value", of every request; Host replaces that of the URL
	Token   string   // bearer token
	Seed    uint64
}

// A Trace is a recorded order of requests.
type Trace struct {
	IDs    []uint32 // key of each request, an index of Sizes
	Millis []int64  // when it was, ms since the first; nil if that is not known
	Sizes  []uint32 // of each key's value, bytes
}

func (o *Options) fill() {
	def := func(p *int, v int) {
		if *p == 0 {
			*p = v
		}
	}
	def(&o.Connections, DefaultConnections)
	def(&o.Pipeline, 1)
	def(&o.Keys, 1)
	if o.Duration == 0 {
		o.Duration = DefaultDuration
	}
	if o.Timeout == 0 {
		o.Timeout = DefaultTimeout
	}
	if o.Dist == "" {
		o.Dist = Uniform
	}
	if o.Theta == 0 {
		o.Theta = DefaultTheta
	}
	if len(o.Sizes) == 0 {
		o.Sizes = []int{DefaultSize}
	}
}

// open reports whether requests have a time at which they are due.
func (o *Options) open() bool { return o.Rate > 0 || o.Speed > 0 }

// check returns every fault. Numbers that are not numbers are outside every
// range.
func (o *Options) check() error {
	var faults []error
	need := func(ok bool, format string, args ...any) {
		if !ok {
			faults = append(faults, fmt.Errorf("%w: "+format, append([]any{ErrOptions}, args...)...))
		}
	}
	within := func(v, low, high float64) bool { return v >= low && v <= high }
	need(len(o.Targets) > 0, "no URL is given")
	need(o.Connections >= 1 && o.Connections <= MaxConnections, "%d connections; from 1 to %d", o.Connections, MaxConnections)
	need(o.Pipeline >= 1 && o.Pipeline <= MaxPipeline, "%d requests in a pipeline; from 1 to %d", o.Pipeline, MaxPipeline)
	need(o.Pipeline == 1 || !o.open() && !o.PutMisses, "pipelines are for closed loops without puts of what was missed")
	need(within(o.Rate, 0, MaxRate), "%g requests a second; from 0 to %g", o.Rate, float64(MaxRate))
	need(o.Duration > 0 && o.Duration <= MaxDuration, "a duration of %v; above 0, at most %v", o.Duration, MaxDuration)
	need(o.Warmup >= 0 && o.Warmup <= MaxDuration, "a warm-up of %v; from 0 to %v", o.Warmup, MaxDuration)
	need(o.Timeout > 0 && o.Timeout <= MaxDuration, "a timeout of %v; above 0, at most %v", o.Timeout, MaxDuration)
	need(o.Keys >= 1 && o.Keys <= MaxKeys, "%d keys; from 1 to %d", o.Keys, MaxKeys)
	need(slices.Contains([]string{Hot, Uniform, Zipf}, o.Dist), "distribution %q; it is hot, uniform or zipf", o.Dist)
	need(o.Theta > 0 && o.Theta <= 10, "a theta of %g; above 0, at most 10", o.Theta)
	for _, s := range o.Sizes {
		need(s >= 0 && s <= MaxSize, "a value of %d bytes; from 0 to %d", s, MaxSize)
	}
	need(within(o.Writes, 0, 1), "a share of writes of %g; from 0 to 1", o.Writes)
	need(slices.Contains([]string{"", "memory", "journal", "sync", "l3"}, o.Durability), "durability %q; it is memory, journal, sync or l3", o.Durability)
	need(within(o.Speed, 0, 1e6), "a speed of %g; from 0 to 1e6", o.Speed)
	need(o.Speed == 0 || o.Rate == 0, "a rate or a speed, not both")
	need(o.Speed == 0 || o.Trace != nil && o.Trace.Millis != nil, "a speed is for traces with times")
	for _, h := range o.Headers {
		name, value, ok := strings.Cut(h, ":")
		need(ok && name != "" && !strings.ContainsAny(name, " \t\r\n") && !strings.ContainsAny(value, "\r\n"), "header field %q; write it as Name: value", h)
	}
	need(!strings.ContainsAny(o.Token, "\r\n"), "the token has a line break")
	if o.Trace != nil {
		need(o.Trace.fits(), "the trace is damaged: a key or a time of it is missing, or a value is above %d bytes", MaxSize)
	}
	return errors.Join(faults...)
}

func (t *Trace) fits() bool {
	ok := len(t.IDs) > 0 && (t.Millis == nil || len(t.Millis) == len(t.IDs))
	for _, id := range t.IDs {
		ok = ok && int(id) < len(t.Sizes)
	}
	for _, s := range t.Sizes {
		ok = ok && s <= MaxSize
	}
	return ok
}

// perRequest returns the time between two requests of an open loop with a rate.
func (o *Options) perRequest() float64 {
	if o.Rate == 0 {
		return math.Inf(1)
	}
	return float64(time.Second) / o.Rate
}
