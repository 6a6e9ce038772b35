package hooktool

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/edgenode/edgenode/hooks"
	"github.com/edgenode/edgenode/hooks/abi"
	"github.com/edgenode/edgenode/hooks/hooktest"
)

// BenchOptions say what is asked, and for how long.
type BenchOptions struct {
	Time    time.Duration // for each hook, half of it for the empty one; default one second
	Key     string        // of the request; default a URL of 40 bytes
	Headers hooktest.Headers
}

// AddHeader adds a header field given as "name: value".
func (o *BenchOptions) AddHeader(text string) error {
	name, value, ok := strings.Cut(text, ":")
	if !ok || name == "" {
		return fmt.Errorf("header %q has no name and colon; write 'Accept-Language: de'", text)
	}
	o.Headers = append(o.Headers, hooktest.Field{Name: name, Value: strings.TrimSpace(value)})
	return nil
}

// A Timing is what a hook costs.
type Timing struct {
	Hook       string  `json:"hook"`
	Calls      int     `json:"calls"`
	Nanos      float64 `json:"ns"`         // of a call, the median of the rounds
	EmptyNanos float64 `json:"empty_ns"`   // of a module that decides nothing, in the same run
	Ratio      float64 `json:"ratio"`      // Nanos over EmptyNanos
	Fuel       float64 `json:"fuel"`       // of a call
	FuelLimit  uint64  `json:"fuel_limit"` // of a call
	Allocs     float64 `json:"allocs"`     // of the host, a call
	Faults     uint64  `json:"faults"`     // calls without a verdict
	Candidates int     `json:"candidates"` // in a call, for evict and admit
}

// benchCandidates is how many candidates an evict hook is given.
const benchCandidates = abi.MaxCandidates

const benchRounds = 20

// Bench calls each hook of the module again and again with the same input,
// taking turns with an empty module. It uses one goroutine.
func Bench(ctx context.Context, m *Module, o BenchOptions, progress func(hook string)) ([]Timing, error) {
	if o.Time <= 0 {
		o.Time = time.Second
	}
	if o.Key == "" {
		o.Key = "https://shop.example/assets/app.js?v=123"
	}
	names, err := m.hookNames(ctx, "route", "ttl", "evict", "admit")
	if err != nil {
		return nil, err
	}
	var list []Timing
	for _, name := range names {
		if progress != nil {
			progress(name)
		}
		t, err := m.bench(ctx, name, o)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		list = append(list, t)
	}
	return list, nil
}

func (m *Module) bench(ctx context.Context, name string, o BenchOptions) (t Timing, err error) {
	set := metrics.NewSet()
	host, err := m.open(ctx, set, nil, name)
	if err != nil {
		return t, err
	}
	defer func() { err = errors.Join(err, host.Close()) }()
	hook, _ := abi.ParseHook(name)
	empty := &Module{Path: "empty module", Code: hooktest.Guest(hook, emptyAnswer(hook)).Bytes()}
	other, err := empty.open(ctx, nil, nil, name)
	if err != nil {
		return t, err
	}
	defer func() { err = errors.Join(err, other.Close()) }()

	t = Timing{Hook: name, FuelLimit: m.fuelLimit(name)}
	if hook == abi.Evict || hook == abi.Admit {
		t.Candidates = benchCandidates
	}
	call, callEmpty := m.caller(host, hook, o), empty.caller(other, hook, o)
	n := calibrate(call, o.Time/2/benchRounds)
	calibrate(callEmpty, o.Time/2/benchRounds)
	var nanos, emptyNanos []float64
	before := mallocs()
	for range benchRounds {
		if ctx.Err() != nil {
			return t, context.Cause(ctx)
		}
		nanos = append(nanos, perCall(call, n))
	}
	t.Calls = n * benchRounds
	t.Allocs = math.Round(float64(mallocs()-before)/float64(t.Calls)*100) / 100
	for i := range nanos { // once more in turns: what else the machine does weighs on both
		nanos[i] = perCall(call, n)
		emptyNanos = append(emptyNanos, perCall(callEmpty, n))
	}
	t.Nanos, t.EmptyNanos = median(nanos), median(emptyNanos)
	t.Ratio = t.Nanos / t.EmptyNanos
	m.read(&t, set)
	return t, nil
}

// emptyAnswer is the shortest valid code of a hook.
func emptyAnswer(hook abi.Hook) []byte {
	switch hook {
	case abi.Evict:
		return hooktest.Result(abi.OK, 0, benchCandidates)
	case abi.Admit:
		return hooktest.Result(abi.OK, 0, 1)
	}
	return hooktest.Result(abi.Default, 0, 0)
}

func (m *Module) fuelLimit(name string) uint64 {
	defaults := map[string]uint64{
		"route": hooks.DefaultRouteFuel, "ttl": hooks.DefaultTTLFuel,
		"evict": hooks.DefaultEvictFuel, "admit": hooks.DefaultAdmitFuel,
	}
	return max(defaults[name], m.Info.Manifest.Fuel[name])
}

// caller returns a function that makes one call.
func (m *Module) caller(h *hooks.Host, hook abi.Hook, o BenchOptions) func() {
	const now = 1_700_000_000_000
	switch hook {
	case abi.Evict:
		list := candidates(benchCandidates)
		scores := make([]int32, 0, len(list))
		return func() { h.Score(scores, list, 0.5, now) }
	case abi.Admit:
		list := candidates(benchCandidates)
		return func() { h.Admit(list[0], list[1:], 0.5, now) }
	}
	req := &hooks.Request{Site: "bench", Key: []byte(o.Key), Headers: m.fields(o.Headers)}
	req.Input = abi.Input{
		Operation: abi.Read, Method: abi.MethodGet, Tiers: abi.L1 | abi.L2, NowMillis: now,
		ContentBytes: abi.UnknownBytes, Flags: abi.FlagSite | abi.FlagTLS,
	}
	req.Client = [16]byte{10: 0xff, 11: 0xff, 12: 192, 13: 0, 14: 2, 15: 1}
	d := new(hooks.Decision)
	if hook == abi.Route {
		return func() { h.Route(req, d) }
	}
	req.Status, req.Lifetime = 200, 300
	req.Flags |= abi.FlagLifetimeKnown
	return func() { h.TTL(req, d) }
}

// candidates returns n that differ, always the same.
func candidates(n int) []abi.Candidate {
	list := make([]abi.Candidate, n)
	x := uint64(0x9e3779b97f4a7c15)
	for i := range list {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		list[i] = abi.Candidate{
			ID: x, Size: 200 + uint32(x>>40)&0xffff, AgeSeconds: uint32(x >> 20 & 0xfff), IdleMillis: uint32(x & 0xfffff),
			Hits: 1 + uint32(x>>32&31), LeftSeconds: 300,
		}
	}
	return list
}

// lines are header fields that cost nothing to look up.
type lines []line

type line struct {
	name     string
	value    []byte
	response bool
}

// AppendHeader implements hooks.Headers.
func (l lines) AppendHeader(dst [][]byte, name string, response bool) [][]byte {
	for i := range l {
		if l[i].response == response && l[i].name == name {
			dst = append(dst, l[i].value)
		}
	}
	return dst
}

// fields returns the given header fields and, for those that the manifest lists
// and that are not given, a value of twelve bytes.
func (m *Module) fields(given hooktest.Headers) (l lines) {
	for _, f := range given {
		l = append(l, line{strings.ToLower(f.Name), []byte(f.Value), f.Response})
	}
	add := func(name string, response bool) {
		if !slices.ContainsFunc(l, func(f line) bool { return f.name == name && f.response == response }) {
			l = append(l, line{name, []byte("value-of-it!"), response})
		}
	}
	for _, name := range m.Info.Manifest.Headers {
		add(name, false)
	}
	for _, name := range m.Info.Manifest.ResponseHeaders {
		add(name, true)
	}
	return l
}

// calibrate returns how many calls take about d.
func calibrate(call func(), d time.Duration) int {
	for n := 64; ; n *= 2 {
		if took := perCall(call, n) * float64(n); took > float64(d)/4 || n > 1<<28 {
			return max(1, int(float64(n)*float64(d)/max(took, 1)))
		}
	}
}

// perCall returns the ns of a call, from n of them.
func perCall(call func(), n int) float64 {
	start := time.Now()
	for range n {
		call()
	}
	return float64(time.Since(start)) / float64(n)
}

func mallocs() uint64 {
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return s.Mallocs
}

func median(v []float64) float64 {
	slices.Sort(v)
	return v[len(v)/2]
}

// read takes fuel and faults from the metrics of the host, which measures the
// fuel of one call in 64.
func (m *Module) read(t *Timing, set *metrics.Set) {
	var text bytes.Buffer
	set.WritePrometheus(&text)
	var sum, count float64
	for one := range strings.Lines(text.String()) {
		name, number, _ := strings.Cut(strings.TrimSpace(one), " ")
		value, err := strconv.ParseFloat(number, 64)
		switch {
		case err != nil:
		case strings.HasPrefix(name, "edgenode_hooks_call_fuel_sum"):
			sum += value
		case strings.HasPrefix(name, "edgenode_hooks_call_fuel_count"):
			count += value
		case strings.HasPrefix(name, "edgenode_hooks_faults_total"):
			t.Faults += uint64(value)
		}
	}
	if count > 0 {
		t.Fuel = sum / count
	}
}
