package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/edgenode/edgenode/node"
	"github.com/edgenode/edgenode/node/hooktool"
)

// hookCommand groups what one does with hooks.
type hookCommand struct {
	New      newCommand      `cmd:"" help:"Make a project for a module that builds as it is, with cases."`
	Manifest manifestCommand `cmd:"" help:"Put a manifest into a module whose language cannot."`
	Inspect  inspectCommand  `cmd:"" help:"Say what a module is: hooks, imports, what it asks for, what metering adds."`
	Test     testCommand     `cmd:"" help:"Run cases on a module with the real host, without a server."`
	Bench    hookBench       `cmd:"" help:"Say what a module's hooks cost: time, fuel, allocations."`
	Replay   replayCommand   `cmd:"" help:"Replay an access log or a trace: what the module decides, and its hit ratio beside the built-in policies."`
	Keygen   keygenCommand   `cmd:"" help:"Make a key for signatures."`
	Sign     signCommand     `cmd:"" help:"Sign a module: writes its signature beside it."`
	List     hookListCommand `cmd:"" help:"List the hooks of a running node."`
	Load     loadCommand     `cmd:"" help:"Replace the module of a hook of a running node."`
	Unload   unloadCommand   `cmd:"" help:"Take back what load did: the module that the configuration names is the live one again."`
	Promote  promoteCommand  `cmd:"" help:"Make the set of hooks that is on trial the live one."`
	Abort    abortCommand    `cmd:"" help:"End the trial of a set of hooks."`
	Rollback rollbackCommand `cmd:"" help:"Make the former set of hooks of a running node the live one."`
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

// newCommand makes a project.
type newCommand struct {
	jsonFlag
	Language string `arg:"" enum:"go,rust,assemblyscript,c,wat" help:"go, rust, assemblyscript, c or wat."`
	Dir      string `arg:"" type:"path" help:"New folder; its name becomes that of the module."`
}

// Run writes the project and says how to build it.
func (c *newCommand) Run(p *process) error {
	project, err := hooktool.NewProject(c.Language, c.Dir)
	if err != nil {
		return fmt.Errorf("hook new: %w", err)
	}
	if c.JSON {
		return writeJSON(p.out, project)
	}
	fmt.Fprintf(p.out, "%s: %s\n\nBuild and test it:\n\n  cd %s\n", project.Dir, strings.Join(project.Files, ", "), project.Dir)
	for _, line := range append(project.Build, project.Test) {
		fmt.Fprintf(p.out, "  %s\n", line)
	}
	return nil
}

// manifestCommand puts a manifest into a module.
type manifestCommand struct {
	Module   string `arg:"" type:"existingfile" help:"File with the module, .wasm; changed in place."`
	Manifest string `arg:"" type:"existingfile" help:"File with the manifest, JSON."`
}

// Run changes the module.
func (c *manifestCommand) Run(*process) error {
	if err := hooktool.SetManifest(c.Module, c.Manifest); err != nil {
		return fmt.Errorf("hook manifest: %w", err)
	}
	return nil
}

// keygenCommand makes a key.
type keygenCommand struct {
	jsonFlag
	ID   string `arg:"" name:"id" help:"Name of the key, 1 to 64 of a-z 0-9 _ -."`
	File string `short:"o" type:"path" placeholder:"FILE" help:"File for the private key, default ID.key; the public one goes to FILE.pub."`
}

// Run writes the key and shows its public half.
func (c *keygenCommand) Run(p *process) error {
	if c.File == "" {
		c.File = c.ID + ".key"
	}
	key, err := hooktool.NewKey(c.File, c.ID)
	if err != nil {
		return fmt.Errorf("hook keygen: %w", err)
	}
	if c.JSON {
		return writeJSON(p.out, map[string]string{"id": key.ID, "public": key.Public(), "file": c.File, "public_file": c.File + ".pub"})
	}
	fmt.Fprintf(p.out, "private key  %s (keep it; who has it can sign)\npublic key   %s\n\nTo trust it:\n\n  hooks_trusted_keys = [\"%s %s\"]\n", c.File, c.File+".pub", key.ID, key.Public())
	return nil
}

// signCommand signs a module.
type signCommand struct {
	jsonFlag
	Key    string `short:"k" required:"" type:"existingfile" help:"File with the private key, as hook keygen writes it."`
	Module string `arg:"" type:"existingfile" help:"File with the module, .wasm."`
}

// Run writes the signature.
func (c *signCommand) Run(p *process) error {
	key, err := hooktool.ReadKey(c.Key)
	if err != nil {
		return fmt.Errorf("hook sign: %w", err)
	}
	file, err := hooktool.SignFile(key, c.Module)
	if err != nil {
		return fmt.Errorf("hook sign: %w", err)
	}
	if c.JSON {
		return writeJSON(p.out, map[string]string{"module": c.Module, "signature_file": file, "key": key.ID})
	}
	fmt.Fprintf(p.out, "%s: signed with %s\n", file, key.ID)
	return nil
}
