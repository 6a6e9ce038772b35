package hooktest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/edgenode/edgenode/hooks"
)

// An Outcome is what came of one case.
type Outcome struct {
	Name        string         `json:"name"`
	Hook        string         `json:"hook"`
	Passed      bool           `json:"passed"`
	Differences []Difference   `json:"differences,omitempty"`
	Got         map[string]any `json:"got"`
	Notes       []string       `json:"notes,omitempty"` // what the host and the module logged
}

// A Difference is one field that is not as the case wants it, both as JSON.
type Difference struct {
	Field string `json:"field"`
	Got   string `json:"got"`
	Want  string `json:"want"`
}

// Outcomes runs all cases on a module with the real host, in order, and returns
// what came of each. The module is given what its manifest asks for beyond what
// the cases grant; a fault of route and ttl is a deny with faulted. The error says that the module could not be loaded, or that a
// case cannot be run.
func (c Cases) Outcomes(ctx context.Context, module []byte) (outcomes []Outcome, err error) {
	spec, err := c.spec(module)
	if err != nil {
		return nil, err
	}
	notes := &noteLog{}
	// A call is always given the first instance, the second while that is replaced.
	h, err := hooks.Open(hooks.Options{Instances: 2, KV: items(c.KV), Logger: slog.New(notes), FaultLimit: 64})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, h.Close()) }()
	loaded, err := h.Load(ctx, []hooks.Spec{spec})
	if err != nil {
		return nil, err
	}
	for i := range c.Cases {
		one := &c.Cases[i]
		if one.Name == "" {
			one.Name = fmt.Sprintf("case %d", i+1)
		}
		if hooksOf := loaded.Modules[0].Hooks; !slices.Contains(hooksOf, one.Hook) {
			return nil, fmt.Errorf("%s: the module has no hook %q, it has %s", one.Name, one.Hook, strings.Join(hooksOf, ", "))
		}
		notes.take()
		r, err := one.result(h)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", one.Name, err)
		}
		r.Notes = notes.take()
		outcomes = append(outcomes, r)
	}
	return outcomes, nil
}

// spec is how the module is loaded.
func (c Cases) spec(module []byte) (hooks.Spec, error) {
	info, err := hooks.Inspect(module)
	if err != nil {
		return hooks.Spec{}, err
	}
	m := info.Manifest
	spec := hooks.Spec{
		Name: "case", Bytes: module, Config: c.Config, Pools: c.Pools, Fuel: m.Fuel, MemoryBytes: m.MemoryBytes,
		Grant: slices.Compact(slices.Sorted(slices.Values(slices.Concat(c.Grant, m.Capabilities)))),
	}
	if decides(info) {
		spec.OnFault = hooks.OnFaultDeny // so that a fault is seen
	}
	return spec, nil
}

// decides reports whether the module has a hook that may deny.
func decides(info hooks.Info) bool {
	list := info.Manifest.Hooks
	for _, e := range info.Exports {
		if name, _, _ := strings.Cut(e, " "); len(info.Manifest.Hooks) == 0 {
			list = append(list, strings.TrimPrefix(name, "edge_on_"))
		}
	}
	return slices.Contains(list, "route") || slices.Contains(list, "ttl")
}

func (c *Case) result(h *hooks.Host) (Outcome, error) {
	if len(c.Want) == 0 {
		return Outcome{}, errors.New("want is missing: name at least one field that must hold")
	}
	got, err := c.run(h)
	if err != nil {
		return Outcome{}, err
	}
	r := Outcome{Name: c.Name, Hook: c.Hook, Got: got}
	for _, field := range slices.Sorted(maps.Keys(c.Want)) {
		if _, ok := got[field]; !ok && !slices.Contains(seldomFields, field) {
			return Outcome{}, fmt.Errorf("want has no field %q for %s, there are %s", field, c.Hook,
				strings.Join(slices.Sorted(maps.Keys(got)), ", "))
		}
		want := c.Want[field]
		if want == AsComputed {
			want = nil
		}
		if g, w := marshal(got[field]), marshal(want); g != w {
			r.Differences = append(r.Differences, Difference{field, g, w})
		}
	}
	r.Passed = len(r.Differences) == 0
	return r, nil
}

// seldomFields are there only when they were decided.
var seldomFields = []string{"stale_while_revalidate", "stale_if_error", "read_tiers", "write_tiers", "body"}

// noteLog keeps what is logged. The host logs faults on the goroutine of the call,
// so that they are there when it returns.
type noteLog struct {
	mu    sync.Mutex // guards lines
	lines []string
}

// take returns the lines so far and forgets them.
func (l *noteLog) take() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	lines := l.lines
	l.lines = nil
	return lines
}

func (*noteLog) Enabled(context.Context, slog.Level) bool { return true }

// Handle implements slog.Handler.
func (l *noteLog) Handle(_ context.Context, r slog.Record) error {
	line := r.Message
	r.Attrs(func(a slog.Attr) bool {
		if a.Key != "hook" {
			line += fmt.Sprintf(" %s=%v", a.Key, a.Value)
		}
		return true
	})
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, line)
	return nil
}

func (l *noteLog) WithAttrs([]slog.Attr) slog.Handler { return l }
func (l *noteLog) WithGroup(string) slog.Handler      { return l }
