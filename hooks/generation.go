package hooks

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/tetratelabs/wazero"

	"github.com/edgenode/edgenode/hooks/abi"
)

// generation is one set of hooks as loaded together.
type generation struct {
	host        *Host
	number      uint64
	runtime     wazero.Runtime
	compiled    []wazero.CompiledModule
	modules     []*module
	metricNames metricNames
	chains      [abi.Hooks][]*module
	memo        atomic.Pointer[memo] // of route, replaced each time it goes live
	ofOneClient bool                 // some module of route sees what tells clients apart

	draining atomic.Int32 // modules that still have instances, once drain began
}

// newGeneration loads all specs or none.
func (h *Host) newGeneration(ctx context.Context, number uint64, specs []Spec) (*generation, error) {
	config := wazero.NewRuntimeConfig().WithCoreFeatures(features).WithCompilationCache(h.cache).
		WithDebugInfoEnabled(false).WithMemoryLimitPages(MaxMemoryBytes / pageBytes)
	g := &generation{host: h, number: number, runtime: wazero.NewRuntimeWithConfig(ctx, config)}
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

// drain takes all instances out of use as they come back; the worker closes the
// generation after the last.
func (g *generation) drain() {
	g.draining.Store(int32(len(g.modules)) + 1)
	for _, m := range g.modules {
		m.drain()
	}
	g.moduleDrained()   // the one added above: a generation may have no modules
	g.host.later(job{}) // the worker may be waiting to replace an instance
}

func (g *generation) moduleDrained() {
	if g.draining.Add(-1) == 0 {
		g.host.later(job{closing: g})
	}
}

// close frees the runtime, the compiled code and the metrics. No call may be under way.
func (g *generation) close() error {
	ctx := context.Background()
	err := g.runtime.Close(ctx)
	g.host.metrics.release(g.metricNames)
	for _, c := range g.compiled {
		err = errors.Join(err, c.Close(ctx))
	}
	return err
}
