package hooks

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/edgenode/edgenode/hooks/abi"
)

// Errors of trials.
var (
	// ErrNoTrial is returned by Promote and Abort when no trial runs. Nothing
	// was changed.
	ErrNoTrial = errors.New("hooks: no set of hooks is on trial")
	// ErrTrialRuns is returned by Try when one runs already. Nothing was changed.
	ErrTrialRuns = errors.New("hooks: a set of hooks is on trial already: promote or abort it first")
)

// Modes of a trial.
const (
	ModeShadow = "shadow" // the live set decides, the other is asked and compared
	ModeCanary = "canary" // the other set decides for its share of the keys
)

// TrialOptions say how a set is tried.
type TrialOptions struct {
	Mode string // ModeShadow or ModeCanary
	// Share of the traffic that the trial is about, by hash of the key, above 0
	// and at most 1. A key is always on the same side.
	Share float64
}

// TrialReport says how a trial goes.
type TrialReport struct {
	Mode       string          `json:"mode"`
	Share      float64         `json:"share"`
	Since      time.Time       `json:"since"`
	Generation uint64          `json:"generation"`
	Modules    []ModuleReport  `json:"modules"`
	Hooks      []TrialFigures  `json:"hooks"`       // by hook point, those that were asked
	Samples    []TrialSample   `json:"differences"` // the first 16 of them
	Eviction   EvictionFigures `json:"eviction"`
}

// TrialFigures are what was counted at one hook point.
type TrialFigures struct {
	Hook      string `json:"hook"`
	Calls     uint64 `json:"calls"`     // of the set on trial
	Different uint64 `json:"different"` // verdicts that differ from the live set's; shadow only
	Faults    uint64 `json:"faults"`    // calls in which no module, or not every one, gave a verdict
}

// TrialSample is one verdict that differed.
type TrialSample struct {
	Hook  string `json:"hook"`
	Key   string `json:"key"`
	Live  string `json:"live"`
	Trial string `json:"trial"`
}

// EvictionFigures compare evict hooks by what they regret: of the candidates each
// would have sent away first, those that came again or were used again. The set
// that regrets fewer keeps the better things. Shadow only.
type EvictionFigures struct {
	Chosen         uint64 `json:"chosen"`          // by each
	LiveRegretted  uint64 `json:"live_regretted"`  // of the live set's choice
	TrialRegretted uint64 `json:"trial_regretted"` // of the other's
}

const (
	trialSamples  = 16
	trialTextMax  = 256
	trialVictims  = 8    // candidates that leave after one call of evict
	trialRemember = 8192 // victims of each set that are watched
)

// trial is a set of hooks that runs beside the live one.
type trial struct {
	host  *Host
	gen   *generation
	o     TrialOptions
	limit uint64 // of the keys' hashes
	since time.Time
	space sync.Pool // *Decision, for answers that nobody is given

	calls, different, faults [abi.Hooks]atomic.Uint64

	// mu guards the fields below. It is a leaf lock, taken for differences and for
	// evictions.
	mu       sync.Mutex
	samples  []TrialSample
	chosen   uint64
	regrets  [2]uint64
	watching [2]watch // victims of the live set, and of the other
}

// Try loads a set of hooks beside the live one and begins a trial. Nothing of it
// is shown in metrics of hooks before it is promoted. It fails as Load does, with
// ErrTrialRuns, or if the options are wrong; then nothing was changed.
func (h *Host) Try(ctx context.Context, specs []Spec, o TrialOptions) (TrialReport, error) {
	if o.Mode != ModeShadow && o.Mode != ModeCanary {
		return TrialReport{}, fmt.Errorf("hooks: mode of a trial is %q, must be shadow or canary", o.Mode)
	}
	if !(o.Share > 0 && o.Share <= 1) {
		return TrialReport{}, fmt.Errorf("hooks: share of a trial is %v, must be above 0 and at most 1", o.Share)
	}
	h.loadMu.Lock()
	defer h.loadMu.Unlock()
	switch {
	case h.closed:
		return TrialReport{}, ErrClosed
	case h.trial.Load() != nil:
		return TrialReport{}, ErrTrialRuns
	}
	g, err := h.newGeneration(ctx, newHostMetrics(metrics.NewSet(), h), specs)
	if err != nil {
		h.metrics.loadFailures.Inc()
		h.note(EventRefused, nil, err)
		return TrialReport{}, err
	}
	h.numbers++
	h.open.Add(1)
	g.impatient.Store(o.Mode == ModeShadow)
	t := &trial{host: h, gen: g, o: o, since: h.o.Now(), limit: math.MaxUint64}
	if o.Share < 1 {
		t.limit = uint64(o.Share * (1 << 63) * 2)
	}
	t.space.New = func() any { return new(Decision) }
	h.trial.Store(t)
	h.note(EventTrial, g, nil)
	h.o.Logger.Info("hooks on trial", "mode", o.Mode, "share", o.Share, "generation", g.number)
	return t.report(), nil
}

// Trial says how the trial goes that runs, if one does.
func (h *Host) Trial() (TrialReport, bool) {
	if t := h.trial.Load(); t != nil {
		return t.report(), true
	}
	return TrialReport{}, false
}

// Promote makes the set on trial the live one, as Load would, without loading it
// again.
func (h *Host) Promote() (Report, error) {
	h.loadMu.Lock()
	defer h.loadMu.Unlock()
	if h.closed {
		return Report{}, ErrClosed
	}
	t := h.trial.Load()
	if t == nil {
		return Report{}, ErrNoTrial
	}
	h.trial.Store(nil)
	g := t.gen
	g.impatient.Store(false)
	hidden, names := g.metrics, g.metricNames
	g.metrics, g.metricNames = h.metrics, nil
	for _, m := range g.modules {
		m.measure(h.metrics)
	}
	hidden.release(names)
	h.replaceLive(g)
	h.note(EventPromote, g, nil)
	return g.report(), nil
}

// Abort ends the trial and closes its set.
func (h *Host) Abort() error {
	h.loadMu.Lock()
	defer h.loadMu.Unlock()
	if h.closed {
		return ErrClosed
	}
	if !h.endTrial() {
		return ErrNoTrial
	}
	return nil
}

// endTrial closes the set on trial, with loadMu held, and reports whether there
// was one.
func (h *Host) endTrial() bool {
	t := h.trial.Swap(nil)
	if t == nil {
		return false
	}
	h.note(EventAbort, t.gen, nil)
	t.gen.drain()
	return true
}

// covers reports whether the trial is about a key.
func (t *trial) covers(key []byte) bool {
	f := fnv.New64a()
	_, _ = f.Write(key) // never fails
	return t.coversHash(f.Sum64())
}

// coversHash is covers for a hash that need not be even.
func (t *trial) coversHash(h uint64) bool {
	h ^= h >> 33 // finalizer of MurmurHash3, by Austin Appleby
	h *= 0xff51afd7ed558ccd
	h ^= h >> 33
	h *= 0xc4ceb9fe1a85ec53
	h ^= h >> 33
	return h <= t.limit
}

// decide is Route and TTL while the trial runs.
func (t *trial) decide(hook abi.Hook, req *Request, out *Decision) bool {
	live := t.host.route
	if hook == abi.TTL {
		live = t.host.ttl
	}
	if !t.covers(req.Key) {
		return live(req, out)
	}
	if t.o.Mode == ModeCanary {
		out.Reset()
		asked, retired := t.ask(hook, req, out)
		if retired { // the trial has just ended
			return live(req, out)
		}
		return asked
	}
	asked := live(req, out)
	d := t.space.Get().(*Decision)
	defer t.space.Put(d)
	d.Reset()
	if tried, retired := t.ask(hook, req, d); !retired {
		t.compare(hook, req.Key, asked, out, tried, d)
	}
	return asked
}

// ask asks the set on trial.
func (t *trial) ask(hook abi.Hook, req *Request, out *Decision) (asked, retired bool) {
	asked, retired = t.gen.decide(hook, req, out)
	if asked && !retired {
		t.calls[hook].Add(1)
		if out.failed {
			t.faults[hook].Add(1)
		}
	}
	return asked, retired
}

func (t *trial) compare(hook abi.Hook, key []byte, asked bool, live *Decision, tried bool, d *Decision) {
	if asked == tried && (!asked || live.sameAs(d)) {
		return
	}
	t.different[hook].Add(1)
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.samples) < trialSamples {
		t.samples = append(t.samples, TrialSample{hook.String(), cut(string(key)), cut(describe(asked, live)), cut(describe(tried, d))})
	}
}

func cut(s string) string { return s[:min(len(s), trialTextMax)] }

// sameAs reports whether two verdicts mean the same. For how long they may be
// reused does not count.
func (d *Decision) sameAs(o *Decision) bool {
	return d.Verdict == o.Verdict && d.Status == o.Status && d.Pool == o.Pool && d.TiersSet == o.TiersSet &&
		d.ReadTiers == o.ReadTiers && d.WriteTiers == o.WriteTiers && d.NoStore == o.NoStore &&
		d.LifetimeSet == o.LifetimeSet && d.Lifetime == o.Lifetime && d.TierLifetimes == o.TierLifetimes &&
		d.StaleWhileRevalidate == o.StaleWhileRevalidate && d.StaleIfError == o.StaleIfError &&
		bytes.Equal(d.Reason, o.Reason) && bytes.Equal(d.KeyAddition, o.KeyAddition) && bytes.Equal(d.Target, o.Target) &&
		bytes.Equal(d.State, o.State) && slices.EqualFunc(d.Tags, o.Tags, bytes.Equal) &&
		slices.EqualFunc(d.Edits, o.Edits, func(a, b Edit) bool {
			return a.Response == b.Response && a.Remove == b.Remove && bytes.Equal(a.Name, b.Name) && bytes.Equal(a.Value, b.Value)
		}) && d.sameAnswer(o)
}

func (d *Decision) sameAnswer(o *Decision) bool {
	return d.AnswerStatus == o.AnswerStatus && bytes.Equal(d.AnswerBody, o.AnswerBody) &&
		slices.EqualFunc(d.AnswerFields, o.AnswerFields, func(a, b Field) bool {
			return bytes.Equal(a.Name, b.Name) && bytes.Equal(a.Value, b.Value)
		})
}

// describe shows a verdict to people.
func describe(asked bool, d *Decision) string {
	if !asked {
		return "not asked"
	}
	var b []byte
	add := func(format string, args ...any) { b = fmt.Appendf(append(b, ' '), format, args...) }
	add("%v", d.Verdict)
	if d.failed {
		add("after a fault")
	}
	if d.Verdict == Deny {
		add("%d %q", d.Status, d.Reason)
	}
	if d.Verdict == Answer {
		add("%d", d.AnswerStatus)
	}
	if d.Pool != "" {
		add("pool=%s", d.Pool)
	}
	for _, f := range []struct {
		name  string
		value []byte
	}{{"key", d.KeyAddition}, {"target", d.Target}, {"state", d.State}, {"tags", bytes.Join(d.Tags, []byte(","))}} {
		if len(f.value) > 0 {
			add("%s=%q", f.name, f.value)
		}
	}
	if d.TiersSet {
		add("tiers=%d/%d", d.ReadTiers, d.WriteTiers)
	}
	if d.NoStore {
		add("no-store")
	}
	if d.LifetimeSet {
		add("lifetime=%d", d.Lifetime)
	}
	if len(d.Edits) > 0 {
		add("edits=%d", len(d.Edits))
	}
	return string(b[1:])
}

// report says how it goes.
func (t *trial) report() TrialReport {
	r := TrialReport{Mode: t.o.Mode, Share: t.o.Share, Since: t.since, Generation: t.gen.number, Modules: t.gen.report().Modules,
		Hooks: []TrialFigures{}}
	for h := abi.Route; int(h) < abi.Hooks; h++ {
		if len(t.gen.chains[h]) > 0 {
			r.Hooks = append(r.Hooks, TrialFigures{h.String(), t.calls[h].Load(), t.different[h].Load(), t.faults[h].Load()})
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	r.Samples = append([]TrialSample{}, t.samples...)
	r.Eviction = EvictionFigures{t.chosen, t.regrets[0], t.regrets[1]}
	return r
}
