package node

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"

	"github.com/VictoriaMetrics/metrics"

	"github.com/edgenode/edgenode/hooks"
	"github.com/edgenode/edgenode/hooks/abi"
	"github.com/edgenode/edgenode/node/config"
	"github.com/edgenode/edgenode/tiers"
	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/l1"
)

// HookABI is the version of the contract with modules: major, minor.
const HookABI = "1.0"

// HookReport describes a hook as loaded.
type HookReport = hooks.ModuleReport

// ModuleInfo is what can be said of a module without running it.
type ModuleInfo = hooks.Info

// InspectHook reads a module's file and says what it is.
func InspectHook(path string) (ModuleInfo, error) {
	code, err := os.ReadFile(path)
	if err != nil {
		return ModuleInfo{}, err
	}
	return hooks.Inspect(code)
}

// CheckHooks loads the hooks of cfg, each by itself, uploaded modules in the place
// of those they replace as at a start, and unloads them again. file is the
// configuration's, for the faults. Its error is config.Faults: one per hook that
// would not load.
func CheckHooks(cfg *config.Config, file string) (reports []HookReport, err error) {
	if len(cfg.Hooks) == 0 {
		return nil, nil
	}
	host, err := hooks.Open(hookOptions(cfg))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, host.Close()) }()
	specs, err := (&hookSet{dir: filepath.Join(cfg.DataDir, uploadDir)}).specs(cfg)
	if err != nil {
		return nil, err
	}
	var faults config.Faults
	for i, spec := range specs {
		loaded, err := host.Load(context.Background(), []hooks.Spec{spec})
		if err != nil {
			remedy := "see edgenode hook inspect for what the module needs"
			if spec.Path != cfg.Hooks[i].Module {
				remedy = "this is an uploaded module: delete the file to go back to " + cfg.Hooks[i].Module
			}
			faults = append(faults, config.Fault{
				File: file, Key: fmt.Sprintf("hook[%d].module", i), Value: spec.Path, Problem: err.Error(), Remedy: remedy,
			})
			continue
		}
		reports = append(reports, loaded.Modules...)
	}
	if len(faults) > 0 {
		return nil, faults
	}
	return reports, nil
}

// hookSpecs turns the configuration of hooks into that of their host.
func hookSpecs(cfg *config.Config) []hooks.Spec {
	specs := make([]hooks.Spec, 0, len(cfg.Hooks))
	for _, h := range cfg.Hooks {
		specs = append(specs, hooks.Spec{
			Name: h.Name, Path: h.Module, Hooks: h.Hooks,
			Match:  hooks.Match{Sites: h.Match.Sites, PathPrefix: h.Match.PathPrefix},
			Config: h.Config, Pools: h.Pools, OnFault: h.OnFault,
			Grant: h.Grant,
			Fuel: map[string]uint64{
				"route": uint64(h.Fuel.Route), "ttl": uint64(h.Fuel.TTL), "evict": uint64(h.Fuel.Evict),
				"admit": uint64(h.Fuel.Admit), "init": uint64(h.Fuel.Init),
			},
			MemoryBytes: uint64(h.Memory), Instances: h.Instances, RecycleCalls: uint64(h.RecycleCalls),
		})
	}
	return specs
}

// hookOptions turns the configuration into that of the hooks' host.
func hookOptions(cfg *config.Config) hooks.Options {
	keys := map[string]ed25519.PublicKey{}
	for _, text := range cfg.HooksTrustedKeys {
		if id, key, ok := config.ParseTrustedKey(text); ok { // checked by config
			keys[id] = key
		}
	}
	return hooks.Options{
		TrustedKeys: keys, RequireSigned: cfg.RequireSigned, CacheDir: cfg.HooksCacheDir,
		MaxModuleBytes: int64(cfg.HooksMaxModuleBytes), LoadTimeout: cfg.HooksLoadTimeout.Std(),
	}
}

// A hookSet is the hooks of a node. Its zero value has none, and no host.
type hookSet struct {
	host *hooks.Host
	dir  string // of uploaded modules
	// tried is the upload that is on trial, guarded by Node.reloading.
	tried *upload
	now   func() int64
	used  atomic.Uint32 // a bit for each hook point that some live module has
	// memory asks what leaves and what comes in. Nil without an engine.
	memory memoryAsker
}

// A memoryAsker asks those that it was given last.
type memoryAsker interface {
	SetMemoryHooks(evict l1.Scorer, admit l1.Admitter)
}

// openHookSet starts the host and loads the hooks of cfg.
func openHookSet(ctx context.Context, cfg *config.Config, h *hookSet, kv hooks.KV, log *slog.Logger, set *metrics.Set) error {
	o := hookOptions(cfg)
	o.Logger, o.Metrics, o.KV = log, set, kv
	host, err := hooks.Open(o)
	if err != nil {
		return err
	}
	h.host, h.dir = host, filepath.Join(cfg.DataDir, uploadDir)
	if err := h.sweep(); err != nil {
		return err
	}
	return h.load(ctx, cfg)
}

// load replaces all hooks, or leaves everything as it is.
func (h *hookSet) load(ctx context.Context, cfg *config.Config) error {
	specs, err := h.specs(cfg)
	if err != nil {
		return err
	}
	return insteadOfConfigured(h.use(ctx, specs), cfg, specs)
}

// use loads hooks in place of those that are live.
func (h *hookSet) use(ctx context.Context, specs []hooks.Spec) error {
	r, err := h.host.Load(ctx, specs)
	if err != nil {
		return err
	}
	h.serve(usedHooks(r.Modules))
	return nil
}

// rollback undoes the last load.
func (h *hookSet) rollback() error {
	r, err := h.host.Rollback()
	if err != nil {
		return err
	}
	h.serve(usedHooks(r.Modules))
	return nil
}

// serve makes everyone ask the hook points of used, a bit for each, and no others.
// Changes of hooks are serialised by Node.reloading.
func (h *hookSet) serve(used uint32) {
	const byMemory = 1<<abi.Evict | 1<<abi.Admit
	before := h.used.Swap(used)
	if h.memory == nil || before&byMemory == used&byMemory {
		return
	}
	asked := newMemoryHooks(h)
	var evict l1.Scorer
	var admit l1.Admitter
	if used&(1<<abi.Evict) != 0 {
		evict = asked
	}
	if used&(1<<abi.Admit) != 0 {
		admit = asked
	}
	h.memory.SetMemoryHooks(evict, admit)
}

func usedHooks(modules []hooks.ModuleReport) (used uint32) {
	for _, m := range modules {
		for _, name := range m.Hooks {
			if hook, ok := abi.ParseHook(name); ok {
				used |= 1 << hook
			}
		}
	}
	return used
}

// has reports whether any live module has this hook point. It is one atomic
// load: all that a request costs when there are no hooks.
func (h *hookSet) has(hook abi.Hook) bool { return h.used.Load()&(1<<hook) != 0 }

// close frees everything. It may be called on a set that was never opened.
func (h *hookSet) close() error {
	h.used.Store(0) // memory is not told: nobody uses it any more
	if h.host == nil {
		return nil
	}
	return h.host.Close()
}

// memoryKV answers kv_get with items that are in memory.
type memoryKV struct{ engine *tiers.Engine }

var _ hooks.KV = memoryKV{}

// Get appends the content of the item called key.
func (kv memoryKV) Get(dst, key []byte) ([]byte, bool) {
	var space [128]byte
	k := item.AppendKey(item.Key(space[:0]), item.NamespaceItem, key)
	hit, ok, err := kv.engine.Get(context.Background(), k, tiers.ReadOptions{Tiers: item.L1})
	if err != nil || !ok {
		return dst, false
	}
	defer hit.Release()
	return append(dst, hit.View.Content()...), true
}
