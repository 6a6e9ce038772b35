package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/edgenode/edgenode/node"
	"github.com/edgenode/edgenode/node/config"
)

// jsonFlag asks for output that a program reads.
type jsonFlag struct {
	JSON bool `name:"json" help:"Write JSON."`
}

// checkCommand checks a configuration and the hooks that it names.
type checkCommand struct {
	configFlag
	jsonFlag
}

// report is what check says as JSON.
type report struct {
	OK        bool              `json:"ok"`
	Faults    []config.Fault    `json:"faults"`
	Effective map[string]any    `json:"effective,omitempty"`
	Budget    *config.Budget    `json:"budget,omitempty"`
	Hooks     []node.HookReport `json:"hooks,omitempty"`
}

// Run shows every fault, or what the configuration comes to.
func (c *checkCommand) Run(p *process) error {
	cfg, err := c.load(p)
	var hooks []node.HookReport
	if err == nil {
		hooks, err = node.CheckHooks(cfg, c.Config)
	}
	if err != nil {
		return c.faulty(p, err)
	}
	if c.JSON {
		b := cfg.Budget()
		return writeJSON(p.out, report{OK: true, Faults: []config.Fault{}, Effective: cfg.Effective(), Budget: &b, Hooks: hooks})
	}
	writeEffective(p.out, cfg)
	writeHooks(p.out, hooks)
	writeBudget(p.out, cfg.Budget())
	name := c.Config
	if name == "" {
		name = "the defaults"
	}
	fmt.Fprintf(p.out, "\n%s: no faults\n", name)
	return nil
}

// faulty shows what is wrong; as JSON on standard output.
func (c *checkCommand) faulty(p *process, err error) error {
	faults, ok := err.(config.Faults)
	if !ok {
		return err
	}
	if c.JSON {
		if err := writeJSON(p.out, report{Faults: faults}); err != nil {
			return err
		}
	}
	return fmt.Errorf("%d faults: %w", len(faults), faults)
}

// writeEffective writes a line per key, in the order of the file's names.
func writeEffective(w io.Writer, cfg *config.Config) {
	values := map[string]string{}
	flatten("", cfg.Effective(), values)
	plain := map[string]string{}
	flatten("", config.Default().Effective(), plain)
	for _, key := range slices.Sorted(maps.Keys(values)) {
		note := ""
		if d, known := plain[key]; known && d != values[key] {
			note = "  # default " + d
		}
		fmt.Fprintf(w, "%s = %s%s\n", key, values[key], note)
	}
}

// flatten gives each scalar and list below v its dotted name.
func flatten(name string, v any, into map[string]string) {
	switch v := v.(type) {
	case map[string]any:
		for key, x := range v {
			flatten(strings.TrimPrefix(name+"."+key, "."), x, into)
		}
	case []map[string]any:
		for i, x := range v {
			flatten(fmt.Sprintf("%s[%d]", name, i), x, into)
		}
	default:
		b, err := json.Marshal(v)
		if err != nil { // a number that JSON has not, in the config of a hook
			b = fmt.Appendf(nil, "%v", v)
		}
		into[name] = string(b)
	}
}

// writeHooks writes a line per hook.
func writeHooks(w io.Writer, hooks []node.HookReport) {
	if len(hooks) == 0 {
		return
	}
	fmt.Fprintln(w, "\nhooks, in the order of the chain:")
	for _, h := range hooks {
		fmt.Fprintf(w, "  %s: %s, sha256 %s\n", h.Name, strings.Join(h.Hooks, " "), h.SHA256)
		for _, warning := range h.Warnings {
			fmt.Fprintf(w, "    warning: %s\n", warning)
		}
	}
}

// writeBudget writes the most memory that the node may come to use.
func writeBudget(w io.Writer, b config.Budget) {
	fmt.Fprintln(w, "\nmemory at most:")
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, part := range b.Parts {
		fmt.Fprintf(t, "  %s\t%d x %v\t= %v\n", part.Name, part.Count, part.Each, part.Bytes)
	}
	fmt.Fprintf(t, "  sum\t\t= %v\n", b.Total)
	_ = t.Flush() // standard output is not looked after here
}

// writeJSON writes v, indented.
func writeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}
