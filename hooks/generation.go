package hooks

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/experimental"

	"github.com/edgenode/edgenode/hooks/abi"
)

// generation is one set of hooks as loaded together.
type generation struct {
	host        *Host
	number      uint64
	runtime     wazero.Runtime
	compiled    []wazero.CompiledModule
	modules     []*module
	metrics     *hostMetrics // where its modules count
	metricNames metricNames
	chains      [abi.Hooks][]*module
	memo        atomic.Pointer[memo] // of route, replaced each time it goes live
	ofOneClient bool                 // some module of route sees what tells clients apart

	draining  atomic.Int32   // modules that still have instances, once drain began
	impatient atomic.Bool    // calls do not wait for an instance: nobody needs the answer
	workers   sync.WaitGroup // of its modules
}

// newGeneration loads all specs or none. Its modules count on the given metrics.
func (h *Host) newGeneration(ctx context.Context, on *hostMetrics, specs []Spec) (*generation, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, h.o.LoadTimeout, fmt.Errorf("hooks: loading took longer than %v", h.o.LoadTimeout))
	defer cancel()
	ctx = experimental.WithCompilationWorkers(ctx, 2) // fewer than 2 do not look at ctx
	config := wazero.NewRuntimeConfig().WithCoreFeatures(features).WithCompilationCache(h.cache).
		WithDebugInfoEnabled(false).WithMemoryLimitPages(MaxMemoryBytes / pageBytes)
	g := &generation{host: h, number: h.numbers + 1, metrics: on, runtime: wazero.NewRuntimeWithConfig(ctx, config)}
	if err := instantiateImports(ctx, g.runtime); err != nil {
		return nil, errors.Join(fmt.Errorf("hooks: host functions: %w", err), g.close())
	}
	names := map[string]bool{}
	for i := range specs {
		if names[specs[i].Name] {
			return nil, errors.Join(fmt.Errorf("hooks: hook %q is configured twice", specs[i].Name), g.close())
		}
		names[specs[i].Name] = true
		m, err := g.newModule(ctx, specs[i])
		if err != nil {
			return nil, errors.Join(fmt.Errorf("hooks: load hook %q: %w", specs[i].Name, err), g.close())
		}
		g.modules = append(g.modules, m)
		for hook, used := range m.uses {
			if used {
				g.chains[hook] = append(g.chains[hook], m)
			}
		}
	}
	memo := newMemo(g.chains[abi.Route])
	g.memo.Store(memo)
	g.ofOneClient = memo.sees.ofOneClient()
	return g, nil
}

// drain takes all instances out of use as they come back; after the last the
// generation is closed.
func (g *generation) drain() {
	g.draining.Store(int32(len(g.modules)) + 1)
	for _, m := range g.modules {
		m.drain()
	}
	g.moduleDrained() // the one added above: a generation may have no modules
	for _, m := range g.modules {
		m.wake() // its worker may be waiting to replace an instance
	}
}

func (g *generation) moduleDrained() {
	if g.draining.Add(-1) == 0 {
		g.host.closers.Go(g.finish)
	}
}

// finish closes a generation that has no instance any more, once its workers
// have ended.
func (g *generation) finish() {
	defer g.host.open.Done()
	g.workers.Wait()
	if err := g.close(); err != nil {
		g.host.o.Logger.Error("hook generation not closed cleanly", "generation", g.number, "error", err)
	}
}

// close frees the runtime, the compiled code and the metrics. No call may be under way.
func (g *generation) close() error {
	ctx := context.Background()
	err := g.runtime.Close(ctx)
	g.metrics.release(g.metricNames)
	for _, c := range g.compiled {
		err = errors.Join(err, c.Close(ctx))
	}
	return err
}
