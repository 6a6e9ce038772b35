package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/edgenode/edgenode/node/hooktool"
	"github.com/edgenode/edgenode/node/hooktool/replay"
)

// moduleFlags name a module and what it is given.
type moduleFlags struct {
	Config string   `type:"existingfile" placeholder:"FILE" help:"Configuration of the module, TOML or JSON, as in the table config of its [[hook]]."`
	Pool   []string `placeholder:"NAME" help:"Origin pool that it may choose; may be repeated, in order."`
	Module string   `arg:"" type:"existingfile" help:"File with the module, .wasm."`
}

func (f *moduleFlags) read() (*hooktool.Module, error) {
	m, err := hooktool.ReadModule(f.Module)
	if err != nil {
		return nil, err
	}
	m.Pools = f.Pool
	if f.Config != "" {
		err = m.ReadConfig(f.Config)
	}
	return m, err
}

// testCommand runs cases.
type testCommand struct {
	jsonFlag
	Module string `arg:"" type:"existingfile" help:"File with the module, .wasm."`
	Cases  string `arg:"" type:"existingfile" help:"File with the cases, TOML."`
}

// Run shows what differs. It fails with exit code 7 if anything does.
func (c *testCommand) Run(p *process) error {
	m, err := hooktool.ReadModule(c.Module)
	if err != nil {
		return fmt.Errorf("hook test: %w", err)
	}
	cases, err := hooktool.ReadCases(c.Cases)
	if err != nil {
		return fmt.Errorf("hook test: %w", err)
	}
	ctx, stop := p.interruptible()
	defer stop()
	outcomes, err := hooktool.RunCases(ctx, m, cases)
	if err != nil {
		return fmt.Errorf("hook test: %w", err)
	}
	failed := 0
	for _, o := range outcomes {
		if !o.Passed {
			failed++
		}
	}
	if c.JSON {
		err = writeJSON(p.out, map[string]any{"passed": len(outcomes) - failed, "failed": failed, "cases": outcomes})
	} else {
		writeOutcomes(p.out, outcomes)
		fmt.Fprintf(p.out, "%d passed, %d failed\n", len(outcomes)-failed, failed)
	}
	if err == nil && failed > 0 {
		err = &exitError{exitDiffers, fmt.Errorf("hook test: %d of %d cases differ", failed, len(outcomes))}
	}
	return err
}

func writeOutcomes(w io.Writer, outcomes []hooktool.Outcome) {
	for _, o := range outcomes {
		word := "ok  "
		if !o.Passed {
			word = "FAIL"
		}
		fmt.Fprintf(w, "%s  %s: %s\n", word, o.Hook, o.Name)
		for _, d := range o.Differences {
			fmt.Fprintf(w, "      %s\n        - want %s\n        + got  %s\n", d.Field, d.Want, d.Got)
		}
		if !o.Passed {
			for _, n := range o.Notes {
				fmt.Fprintf(w, "      log: %s\n", n)
			}
		}
	}
}

// hookBench measures hooks.
type hookBench struct {
	jsonFlag
	moduleFlags
	Time   time.Duration `default:"1s" help:"How long to measure each hook."`
	Key    string        `placeholder:"URL" help:"URL of the request; default one of 40 bytes."`
	Header []string      `short:"H" sep:"none" placeholder:"NAME: VALUE" help:"Header field of the request; may be repeated. Others that the manifest lists have a value of 12 bytes."`
}

// Run shows a line per hook.
func (c *hookBench) Run(p *process) error {
	m, err := c.read()
	if err != nil {
		return fmt.Errorf("hook bench: %w", err)
	}
	o := hooktool.BenchOptions{Time: c.Time, Key: c.Key}
	for _, h := range c.Header {
		if err := o.AddHeader(h); err != nil {
			return &exitError{exitUsage, fmt.Errorf("hook bench: %w", err)}
		}
	}
	ctx, stop := p.interruptible()
	defer stop()
	show, end := p.progress()
	timings, err := hooktool.Bench(ctx, m, o, func(hook string) { show("measuring %s", hook) })
	end()
	if err != nil {
		return fmt.Errorf("hook bench: %w", err)
	}
	if c.JSON {
		return writeJSON(p.out, timings)
	}
	fmt.Fprintf(p.out, "%-6s %10s %10s %7s %9s %9s %8s %8s\n", "hook", "ns", "empty ns", "ratio", "fuel", "of", "allocs", "faults")
	for _, t := range timings {
		fmt.Fprintf(p.out, "%-6s %10.1f %10.1f %7.2f %9.0f %9d %8.2f %8d\n", t.Hook, t.Nanos, t.EmptyNanos, t.Ratio, t.Fuel, t.FuelLimit, t.Allocs, t.Faults)
	}
	return nil
}

// replayCommand replays what was recorded.
type replayCommand struct {
	jsonFlag
	moduleFlags
	File     string   `arg:"" type:"existingfile" help:"Access log (of edgenode, or in the common or combined format) or trace (ECT1); may be compressed by gzip."`
	Capacity []string `default:"0.1%,1%,10%" help:"Sizes of memory: bytes, with KiB, MiB, GiB, or a share of the bytes of all objects."`
	Policy   []string `default:"hook,auto,lru" help:"What to compare: hook, auto, bytes, tan, lru."`
	Rate     float64  `default:"100" help:"Requests a second for a trace without times."`
	Base     string   `default:"http://localhost" placeholder:"URL" help:"Scheme and host for lines without a host."`
	Each     bool     `help:"Show every decision, one JSON object per line, instead of counts."`
}

// replayReport is what replay shows with --json.
type replayReport struct {
	Requests  int              `json:"requests"`
	Keys      int              `json:"keys"`
	Footprint int64            `json:"footprint_bytes"`
	Skipped   int              `json:"skipped_lines"`
	Decisions []hooktool.Tally `json:"decisions,omitempty"`
	HitRatios []hooktool.Row   `json:"hit_ratios,omitempty"`
	Notes     []string         `json:"notes,omitempty"`
}

// Run shows decisions, and hit ratios if the module has an evict or an admit hook.
func (c *replayCommand) Run(p *process) error {
	err := c.run(p)
	if err != nil {
		err = fmt.Errorf("hook replay: %w", err)
	}
	return err
}

func (c *replayCommand) run(p *process) error {
	m, err := c.read()
	if err != nil {
		return err
	}
	rec, err := hooktool.ReadRecording(c.File, hooktool.ReadOptions{Rate: c.Rate, Base: c.Base})
	if err != nil {
		return err
	}
	ctx, stop := p.interruptible()
	defer stop()
	report := replayReport{
		Requests: max(len(rec.Requests), len(rec.Trace.IDs)), Keys: len(rec.Trace.Sizes),
		Footprint: rec.Trace.Footprint, Skipped: rec.Skipped, Notes: hooktool.ReplayNotes(m, rec),
	}
	if c.Each {
		out := bufio.NewWriter(p.out)
		_, err := hooktool.Decide(ctx, m, rec, func(d hooktool.Decision) error { return writeLine(out, d) })
		return errors.Join(err, out.Flush())
	}
	if report.Decisions, err = hooktool.Decide(ctx, m, rec, nil); err != nil {
		return err
	}
	if m.Ranks() && len(rec.Trace.IDs) > 0 {
		capacities, err := c.capacities(rec.Trace)
		if err != nil {
			return &exitError{exitUsage, err}
		}
		show, end := p.progress()
		report.HitRatios, err = hooktool.HitRatios(ctx, m, rec.Trace, capacities, c.Policy, func(policy string, share float64) {
			show("%s: %3.0f %%", policy, 100*share)
		})
		end()
		if errors.Is(err, replay.ErrPolicy) {
			err = &exitError{exitUsage, err}
		}
		if err != nil {
			return err
		}
	}
	if c.JSON {
		return writeJSON(p.out, report)
	}
	writeReplay(p.out, &report)
	return nil
}

func (c *replayCommand) capacities(t *replay.Trace) (list []int64, err error) {
	for _, s := range c.Capacity {
		n, err := hooktool.ParseCapacity(s, t.Footprint)
		if err != nil {
			return nil, err
		}
		list = append(list, n)
	}
	return list, nil
}

func writeReplay(w io.Writer, r *replayReport) {
	fmt.Fprintf(w, "%d requests, %d objects of %d bytes together; %d lines skipped\n", r.Requests, r.Keys, r.Footprint, r.Skipped)
	for _, n := range r.Notes {
		fmt.Fprintln(w, n)
	}
	for _, t := range r.Decisions {
		fmt.Fprintf(w, "\n%s: asked %d times, %d faults\n", t.Hook, t.Asked, t.Faulted)
		writeCounts(w, "verdict", t.Verdicts)
		writeCounts(w, "status", t.Statuses)
		writeCounts(w, "pool", t.Pools)
		writeCounts(w, "tag", t.Tags)
		writeCounts(w, "lifetime", t.Lifetimes)
		for _, n := range []struct {
			name  string
			count int
		}{{"key addition", t.Keys}, {"target", t.Targets}, {"header fields", t.Edits}, {"reusable", t.Reusable}} {
			if n.count > 0 {
				fmt.Fprintf(w, "  %-14s %-24s %9d\n", n.name, "", n.count)
			}
		}
	}
	if len(r.HitRatios) > 0 {
		fmt.Fprintf(w, "\n%14s %7s  %-8s %9s %9s\n", "memory", "share", "policy", "requests", "bytes")
	}
	for _, row := range r.HitRatios {
		fmt.Fprintf(w, "%14d %6.2f%%  %-8s %8.2f%% %8.2f%%", row.Capacity, 100*row.Share, row.Policy, 100*row.HitRatio, 100*row.ByteHitRatio)
		if row.HookCalls > 0 {
			fmt.Fprintf(w, "  %d calls, %d faults", row.HookCalls, row.HookFaults)
		}
		if row.HookRefused > 0 {
			fmt.Fprintf(w, ", %d refused", row.HookRefused)
		}
		fmt.Fprintln(w)
	}
}

// writeCounts shows the names with the highest counts first.
func writeCounts(w io.Writer, title string, counts map[string]int) {
	names := slices.SortedFunc(maps.Keys(counts), func(a, b string) int {
		if counts[a] != counts[b] {
			return counts[b] - counts[a]
		}
		return strings.Compare(a, b)
	})
	const most = 12
	for i, name := range names {
		if i == most {
			fmt.Fprintf(w, "  %-14s and %d more\n", title, len(names)-most)
			return
		}
		fmt.Fprintf(w, "  %-14s %-24s %9d\n", title, name, counts[name])
	}
}

// benchCommand groups benchmarks.
type benchCommand struct {
	Load   benchLoad   `cmd:"" default:"withargs" help:"Send requests and say how many were answered, and how fast (default)."`
	Replay benchReplay `cmd:"" help:"Play requests from standard input against memory and answer hit or miss: 16 bytes each, little endian, u32 id, u32 size, f64 seconds; one byte back, 1 or 0."`
}

// benchReplay speaks with a program that plays traces.
type benchReplay struct {
	Hook     string `type:"existingfile" placeholder:"FILE" help:"Module with an evict or an admit hook."`
	Config   string `type:"existingfile" placeholder:"FILE" help:"Configuration of the module, TOML or JSON."`
	Policy   string `default:"auto" enum:"auto,bytes,tan" help:"Built-in policy: auto, bytes or tan."`
	Capacity string `arg:"" help:"Bytes; what an object costs is its size and nothing else."`
}

// Run answers until standard input ends.
func (c *benchReplay) Run(p *process) error {
	capacity, err := hooktool.ParseCapacity(c.Capacity, 0)
	if err != nil {
		return &exitError{exitUsage, fmt.Errorf("bench replay: %w", err)}
	}
	var m *hooktool.Module
	if c.Hook != "" {
		flags := moduleFlags{Module: c.Hook, Config: c.Config}
		if m, err = flags.read(); err != nil {
			return fmt.Errorf("bench replay: %w", err)
		}
	}
	ctx, stop := p.interruptible()
	defer stop()
	err = hooktool.ServeReplay(ctx, m, capacity, c.Policy, func(cache replay.Cache) error {
		_, err := replay.Serve(p.in, p.out, cache)
		return err
	})
	if err != nil {
		return fmt.Errorf("bench replay: %w", err)
	}
	return nil
}

// progress returns a function that shows a line in place of the one before, and
// one that takes it away. They do nothing unless the errors go to a terminal.
func (p *process) progress() (show func(format string, args ...any), end func()) {
	if !p.isTerminal(p.err) {
		return func(string, ...any) {}, func() {}
	}
	const blank = "\r\x1b[K"
	return func(format string, args ...any) { fmt.Fprint(p.err, blank+fmt.Sprintf(format, args...)) },
		func() { fmt.Fprint(p.err, blank) }
}

// writeLine writes v as one line of JSON.
func writeLine(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	return e.Encode(v)
}
