package hooks

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tetratelabs/wazero"

	"github.com/edgenode/edgenode/hooks/abi"
)

// Errors of Host.
var (
	// ErrClosed is returned after Close. Nothing was changed.
	ErrClosed = errors.New("hooks: host is closed")
	// ErrNoPrevious is returned by Rollback when there is no former
	// generation. Nothing was changed.
	ErrNoPrevious = errors.New("hooks: no former generation to roll back to")
)

// Host runs hooks. All its methods are safe for concurrent use.
type Host struct {
	o       Options
	cache   wazero.CompilationCache
	metrics *hostMetrics
	gen     atomic.Pointer[generation] // nil if no hook is loaded
	shown   atomic.Pointer[generation] // the live one even if empty, for reports

	reusedBefore atomic.Uint64 // verdicts reused from memos that are gone

	// loadMu serialises changes of generations and guards the fields below.
	loadMu   sync.Mutex
	live     *generation // as gen, but never nil once something was loaded
	previous *generation
	numbers  uint64
	closed   bool

	trial atomic.Pointer[trial] // nil if none runs

	// open counts generations not yet closed, closers the goroutines that do it.
	open, closers sync.WaitGroup

	// historyMu guards past. It is a leaf lock.
	historyMu sync.Mutex
	past      []Event
}

// ModuleReport describes one hook as loaded.
type ModuleReport struct {
	Name          string        `json:"name"`
	SHA256        string        `json:"sha256"`
	Bytes         int           `json:"bytes"`
	MeteringBytes int           `json:"metering_bytes"` // what metering adds to the module
	Hooks         []string      `json:"hooks"`
	Instances     int           `json:"instances"`
	MemoryBytes   int64         `json:"memory_bytes"` // of one instance after init
	CompileTime   time.Duration `json:"compile_ns"`
	Open          bool          `json:"breaker_open"` // switched off by its breaker now
	Warnings      []string      `json:"warnings,omitempty"`
}

// Report describes a generation.
type Report struct {
	Generation uint64         `json:"generation"` // 0 if nothing was ever loaded
	Modules    []ModuleReport `json:"modules"`
	Reused     uint64         `json:"reused"` // verdicts given again without a call, since the start
}

// Open makes a host without hooks. Close ends what goroutines its work starts.
func Open(o Options) (*Host, error) {
	o = o.withDefaults()
	if err := o.validate(); err != nil {
		return nil, fmt.Errorf("hooks: options: %w", err)
	}
	h := &Host{o: o, cache: wazero.NewCompilationCache()}
	if o.CacheDir != "" {
		var err error
		if h.cache, err = wazero.NewCompilationCacheWithDir(o.CacheDir); err != nil {
			return nil, fmt.Errorf("hooks: compilation cache %s: %w", o.CacheDir, err)
		}
	}
	h.metrics = newHostMetrics(o.Metrics, h)
	return h, nil
}

// Load replaces all hooks by those of specs, in chain order, or leaves everything
// as it is and says why. Calls go on meanwhile. The generation it replaces is kept
// for Rollback, the one before it is closed when its last call returns. A trial
// ends.
func (h *Host) Load(ctx context.Context, specs []Spec) (Report, error) {
	h.loadMu.Lock()
	defer h.loadMu.Unlock()
	if h.closed {
		return Report{}, ErrClosed
	}
	g, err := h.newGeneration(ctx, h.metrics, specs)
	if err != nil {
		h.metrics.loadFailures.Inc()
		h.note(EventRefused, nil, err)
		return Report{}, err
	}
	h.numbers++
	h.open.Add(1)
	h.endTrial()
	h.replaceLive(g)
	h.note(EventLoad, g, nil)
	return g.report(), nil
}

// replaceLive makes a new generation the live one and keeps the former.
func (h *Host) replaceLive(g *generation) {
	if h.previous != nil {
		h.previous.drain()
	}
	h.previous = h.live
	h.makeLive(g)
}

// Rollback makes the former generation the live one and the other way round. A
// trial ends.
func (h *Host) Rollback() (Report, error) {
	h.loadMu.Lock()
	defer h.loadMu.Unlock()
	if h.closed {
		return Report{}, ErrClosed
	}
	if h.previous == nil {
		return Report{}, ErrNoPrevious
	}
	h.endTrial()
	g := h.previous
	h.previous = h.live
	h.makeLive(g)
	h.note(EventRollback, g, nil)
	return g.report(), nil
}

func (h *Host) makeLive(g *generation) {
	former := h.live
	h.live = g
	h.shown.Store(g)
	if len(g.modules) == 0 {
		h.gen.Store(nil)
	} else {
		h.gen.Store(g)
	}
	if former != nil {
		h.forget(former)
	}
	h.metrics.show(g)
	for _, r := range g.report().Modules {
		h.o.Logger.Info("hook loaded", "hook", r.Name, "hooks", r.Hooks, "sha256", r.SHA256, "generation", g.number, "compile", r.CompileTime)
		for _, w := range r.Warnings {
			h.o.Logger.Warn("hook warning", "hook", r.Name, "warning", w)
		}
	}
}

// reused counts the verdicts that were reused since the host was opened.
func (h *Host) reused() uint64 {
	n := h.reusedBefore.Load()
	if g := h.shown.Load(); g != nil {
		n += g.memo.Load().reused()
	}
	return n
}

// forget drops what was remembered of a generation's verdicts, but not how often
// they were reused.
func (h *Host) forget(g *generation) {
	h.reusedBefore.Add(g.memo.Swap(newMemo(g.chains[abi.Route])).reused())
}

// Report describes the live generation. It never waits for a load.
func (h *Host) Report() Report {
	r := Report{}
	if g := h.shown.Load(); g != nil {
		r = g.report()
	}
	r.Reused = h.reused()
	return r
}

func (g *generation) report() Report {
	r := Report{Generation: g.number, Modules: []ModuleReport{}}
	for _, m := range g.modules {
		one := m.report
		one.Open = m.breaker.isOpen()
		r.Modules = append(r.Modules, one)
	}
	return r
}

// Close takes all hooks out of use, waits for calls under way, frees everything
// and ends the worker. Calls made later find no hooks. It may be called more than
// once.
func (h *Host) Close() error {
	h.loadMu.Lock()
	defer h.loadMu.Unlock()
	if h.closed {
		return nil
	}
	h.closed = true
	h.gen.Store(nil)
	h.endTrial()
	for _, g := range []*generation{h.live, h.previous} {
		if g != nil {
			g.drain()
		}
	}
	h.live, h.previous = nil, nil
	h.shown.Store(nil)
	h.open.Wait()
	h.closers.Wait()
	h.metrics.unregister()
	if err := h.cache.Close(context.Background()); err != nil {
		return fmt.Errorf("hooks: compilation cache: %w", err)
	}
	return nil
}
