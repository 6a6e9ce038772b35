package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/edgenode/edgenode/node"
)

// hookCommand groups what one does with hooks.
type hookCommand struct {
	Inspect inspectCommand `cmd:"" help:"Say what a module is: hooks, imports, what it asks for, what metering adds."`
}

// inspectCommand reads a module without running it.
type inspectCommand struct {
	jsonFlag
	Module string `arg:"" type:"existingfile" help:"File with the module, .wasm."`
}

// Run shows the module, or why it cannot be a hook.
func (c *inspectCommand) Run(p *process) error {
	info, err := node.InspectHook(c.Module)
	if err != nil {
		return fmt.Errorf("inspect %s: %w", c.Module, err)
	}
	if c.JSON {
		return writeJSON(p.out, info)
	}
	writeModule(p.out, info)
	return nil
}

func writeModule(w io.Writer, info node.ModuleInfo) {
	m := info.Manifest
	line := func(name, format string, args ...any) {
		fmt.Fprintf(w, "%-14s %s\n", name, fmt.Sprintf(format, args...))
	}
	list := func(name string, values []string) {
		if len(values) > 0 {
			line(name, "%s", strings.Join(values, ", "))
		}
	}
	line("sha256", "%s", info.SHA256)
	line("size", "%d bytes, %d with metering (%d entries, %d loops, %d bulk operations pay)",
		info.Bytes, info.MeteredBytes, info.FuelEntries, info.FuelLoops, info.FuelSized)
	line("functions", "%d", info.Functions)
	line("memory", "%d bytes at start", info.MemoryBytes)
	list("name", []string{m.Name})
	list("hooks", m.Hooks)
	list("headers", m.Headers)
	list("of responses", m.ResponseHeaders)
	list("capabilities", m.Capabilities)
	list("imports", info.Imports)
	list("exports", info.Exports)
	if m.Guards {
		line("guards", "yes: on_fault must be written in its [[hook]]")
	}
	if m.WASI {
		line("wasi", "yes")
	}
	for _, problem := range info.Problems {
		line("to load it", "%s", problem)
	}
}
