package hooktool

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/VictoriaMetrics/metrics"

	"github.com/edgenode/edgenode/hooks"
	"github.com/edgenode/edgenode/hooks/hooktest"
	"github.com/edgenode/edgenode/node/config"
)

// A Module is a module as read from its file, and what it is given.
type Module struct {
	Path   string
	Code   []byte
	Info   hooks.Info
	Config map[string]any // its configuration; nil for none
	Pools  []string       // the origin pools it may choose, by position
}

// ReadModule reads and inspects a module. Its error says why it cannot be a
// hook.
func ReadModule(path string) (*Module, error) {
	code, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	info, err := hooks.Inspect(code)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return &Module{Path: path, Code: code, Info: info}, nil
}

// ReadConfig gives the module the configuration in a file, TOML or JSON.
func (m *Module) ReadConfig(path string) error {
	text, err := readJSON(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, &m.Config); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// readJSON reads a file as JSON, be it JSON or, by its name, TOML.
func readJSON(path string) ([]byte, error) {
	text, err := os.ReadFile(path)
	if err != nil || filepath.Ext(path) != ".toml" {
		return text, err
	}
	if text, err = config.JSON(text); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return text, nil
}

// spec is how the module is loaded for the given hooks, none for all.
func (m *Module) spec(hookNames ...string) hooks.Spec {
	manifest := m.Info.Manifest
	s := hooks.Spec{
		Name: "module", Bytes: m.Code, Hooks: hookNames, Config: m.Config, Pools: m.Pools,
		Grant: manifest.Capabilities, Fuel: manifest.Fuel, MemoryBytes: manifest.MemoryBytes, Instances: 2,
	}
	requests := slices.Contains(hookNames, "route") || slices.Contains(hookNames, "ttl")
	if len(hookNames) == 0 {
		requests = m.Has("route") || m.Has("ttl")
	}
	if manifest.Guards && requests {
		s.OnFault = hooks.OnFaultDeny
	}
	return s
}

// open loads the module for the given hooks into a host of its own. The caller
// closes it. Faults do not switch the module off.
func (m *Module) open(ctx context.Context, set *metrics.Set, log *slog.Logger, hookNames ...string) (*hooks.Host, error) {
	h, err := hooks.Open(hooks.Options{Metrics: set, Logger: log, FaultLimit: 64, FaultWindow: 1})
	if err != nil {
		return nil, err
	}
	if _, err := h.Load(ctx, []hooks.Spec{m.spec(hookNames...)}); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", m.Path, err), h.Close())
	}
	return h, nil
}

// Has reports whether the module says that it has the hook, or exports it and
// says nothing.
func (m *Module) Has(hook string) bool {
	if list := m.Info.Manifest.Hooks; len(list) > 0 {
		return slices.Contains(list, hook)
	}
	return slices.ContainsFunc(m.Info.Exports, func(e string) bool { return strings.HasPrefix(e, "edge_on_"+hook+" ") })
}

// hookNames returns the hooks that the module has, of those that are wanted.
func (m *Module) hookNames(ctx context.Context, wanted ...string) ([]string, error) {
	h, err := hooks.Open(hooks.Options{})
	if err != nil {
		return nil, err
	}
	report, err := h.Load(ctx, []hooks.Spec{m.spec()})
	if err = errors.Join(err, h.Close()); err != nil {
		return nil, fmt.Errorf("%s: %w", m.Path, err)
	}
	has := report.Modules[0].Hooks
	return slices.DeleteFunc(slices.Clone(wanted), func(name string) bool { return !slices.Contains(has, name) }), nil
}

// ReadCases reads a file of cases, TOML.
func ReadCases(path string) (hooktest.Cases, error) {
	c, err := hooktest.ReadCases(path)
	if err == nil && len(c.Cases) == 0 {
		err = fmt.Errorf("%s: no cases: write [[case]] tables with name, hook, key and want", path)
	}
	return c, err
}

// An Outcome is what came of one case.
type Outcome = hooktest.Outcome

// RunCases runs cases on the module and returns what came of each. The
// configuration and the pools are those of the cases.
func RunCases(ctx context.Context, m *Module, c hooktest.Cases) ([]Outcome, error) {
	return c.Outcomes(ctx, m.Code)
}
