package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/edgenode/edgenode/node/hooktool"
	"github.com/edgenode/edgenode/node/load"
)

// benchLoad sends requests.
type benchLoad struct {
	jsonFlag
	URL         []string      `arg:"" name:"url" help:"Where to; connections take turns. Without a path: a node, whose items bench/0, bench/1, … are asked for. {key} and {size} in it stand for numbers."`
	Connections int           `short:"c" default:"64" help:"Connections."`
	Rate        float64       `help:"Requests a second, sent when they are due whatever is still unanswered (open loop). Without it a connection sends when it has its answer."`
	Duration    time.Duration `short:"d" default:"10s" help:"How long to count."`
	Warmup      time.Duration `default:"1s" help:"How long to send before that."`
	Timeout     time.Duration `default:"5s" help:"Of connecting, and of one request."`
	Pipeline    int           `default:"1" help:"Requests that are sent before their answers are read; without --rate."`
	Keys        int           `short:"k" default:"1" help:"How many keys there are."`
	Dist        string        `default:"uniform" help:"How often keys are asked for: hot (one), uniform, or zipf."`
	Theta       float64       `default:"0.99" help:"Exponent of zipf."`
	Size        []string      `default:"1KiB" help:"Bytes of values, with KiB, MiB; of several a key has one for good."`
	Writes      string        `default:"0" help:"Share of PUTs, such as 10% or 0.1."`
	Durability  string        `enum:",memory,journal,sync,l3" default:"" help:"What PUTs wait for: memory, journal, sync or l3."`
	Fill        bool          `help:"PUT every key once, first."`
	PutMisses   bool          `help:"PUT what a GET was answered with 404 for."`
	Trace       string        `type:"existingfile" placeholder:"FILE" help:"Keys, sizes and order from a trace (ECT1) or an access log, as hook replay reads them."`
	Speed       float64       `help:"Times from the trace as well: 1 as recorded, 10 ten times as fast."`
	Header      []string      `short:"H" sep:"none" placeholder:"NAME: VALUE" help:"Header field of every request; may be repeated."`
	Token       string        `env:"EDGENODE_TOKEN" help:"Bearer token; better in the environment, where other users cannot see it."`
	Seed        uint64        `default:"1" help:"Another one asks for other keys in another order."`
	Anywhere    bool          `help:"Allow URLs that are not on this machine. Load only what is yours."`
}

// Run fails with exit code 5 if nothing was answered.
func (c *benchLoad) Run(p *process) error {
	o, err := c.options()
	if err != nil {
		return &exitError{exitUsage, fmt.Errorf("bench: %w", err)}
	}
	if c.Trace != "" {
		if o.Trace, err = readTrace(c.Trace); err != nil {
			return fmt.Errorf("bench: %w", err)
		}
	}
	ctx, stop := p.interruptible()
	defer stop()
	show, end := p.progress()
	show("sending for %v", o.Warmup+o.Duration)
	r, err := load.Run(ctx, o)
	end()
	switch {
	case errors.Is(err, load.ErrOptions):
		return &exitError{exitUsage, fmt.Errorf("bench: %w", err)}
	case errors.Is(err, load.ErrElsewhere):
		return &exitError{exitUsage, fmt.Errorf("bench: %w; give --anywhere if it is yours to load", err)}
	case errors.Is(err, load.ErrFill):
		return &exitError{exitUnavailable, fmt.Errorf("bench: %w", err)}
	case err != nil:
		return fmt.Errorf("bench: %w", err)
	}
	if c.JSON {
		err = writeJSON(p.out, r)
	} else {
		writeLoad(p.out, r)
	}
	if err == nil && r.Requests == 0 {
		why := r.FirstError
		if why == "" {
			why = "there was no time for one; raise --duration or --rate"
		}
		err = &exitError{exitUnavailable, fmt.Errorf("bench: no request was answered: %s", why)}
	}
	return err
}

func (c *benchLoad) options() (o load.Options, err error) {
	o = load.Options{
		Targets: c.URL, Anywhere: c.Anywhere, Connections: c.Connections, Pipeline: c.Pipeline, Rate: c.Rate,
		Duration: c.Duration, Warmup: c.Warmup, Timeout: c.Timeout, Keys: c.Keys, Dist: c.Dist, Theta: c.Theta,
		Speed: c.Speed, Durability: c.Durability, Fill: c.Fill, PutMisses: c.PutMisses,
		Headers: c.Header, Token: c.Token, Seed: c.Seed,
	}
	// There a 0 is the default; here it is what was asked for.
	if c.Connections == 0 || c.Pipeline == 0 || c.Duration == 0 || c.Timeout == 0 || c.Keys == 0 || c.Theta == 0 {
		return o, errors.New("--connections, --pipeline, --duration, --timeout, --keys and --theta must be above 0")
	}
	for _, s := range c.Size {
		n, err := hooktool.ParseCapacity(s, 0)
		if err != nil {
			return o, fmt.Errorf("--size %q is not a number of bytes; write 1024, 10KiB or 1MiB", s)
		}
		o.Sizes = append(o.Sizes, int(min(n, math.MaxInt32)))
	}
	text, scale := c.Writes, 1.0
	if number, ok := strings.CutSuffix(text, "%"); ok {
		text, scale = number, 100
	}
	if o.Writes, err = strconv.ParseFloat(text, 64); err != nil {
		return o, fmt.Errorf("--writes %q is not a share; write it as 10%% or 0.1", c.Writes)
	}
	o.Writes /= scale
	return o, nil
}

// readTrace reads what --trace names.
func readTrace(path string) (*load.Trace, error) {
	rec, err := hooktool.ReadRecording(path, hooktool.ReadOptions{})
	if err != nil {
		return nil, err
	}
	if len(rec.Trace.IDs) == 0 {
		return nil, fmt.Errorf("%s: no request in it is a GET that was answered with 200 or 304", path)
	}
	t := &load.Trace{IDs: rec.Trace.IDs, Sizes: rec.Trace.Sizes}
	if rec.Trace.Timed {
		t.Millis = rec.Trace.Millis
	}
	return t, nil
}

func writeLoad(w io.Writer, r *load.Report) {
	fmt.Fprintf(w, "%s loop, %d connections", r.Loop, r.Connections)
	if r.Pipeline > 1 {
		fmt.Fprintf(w, ", pipelines of %d", r.Pipeline)
	}
	if r.Rate > 0 {
		fmt.Fprintf(w, ", %g requests a second asked for", r.Rate)
	}
	fmt.Fprintf(w, "\n%d requests in %.2f s: %.0f a second\n", r.Requests, r.Seconds, r.PerSecond)
	if r.Reads.Requests > 0 {
		fmt.Fprintf(w, "GET %12d  %d misses, %.1f MB\n", r.Reads.Requests, r.Reads.Misses, float64(r.Reads.Bytes)/1e6)
	}
	if r.Writes.Requests > 0 {
		fmt.Fprintf(w, "PUT %12d  %.1f MB\n", r.Writes.Requests, float64(r.Writes.Bytes)/1e6)
	}
	fmt.Fprintf(w, "\n%-10s %9s %9s %9s %9s %9s %9s %9s\n", "µs", "mean", "50 %", "90 %", "99 %", "99.9 %", "99.99 %", "max")
	line := func(name string, l load.Latency) {
		fmt.Fprintf(w, "%-10s %9.0f %9.0f %9.0f %9.0f %9.0f %9.0f %9.0f\n", name, l.Mean, l.P50, l.P90, l.P99, l.P999, l.P9999, l.Max)
	}
	line("latency", r.Latency)
	if r.Reads.Requests > 0 && r.Writes.Requests > 0 {
		line("  GET", r.Reads.Latency)
		line("  PUT", r.Writes.Latency)
	}
	if r.Service != nil {
		line("service", *r.Service)
	}
	fmt.Fprintln(w)
	for _, status := range slices.Sorted(maps.Keys(r.Statuses)) {
		fmt.Fprintf(w, "status %-8s %9d\n", status, r.Statuses[status])
	}
	for _, kind := range slices.Sorted(maps.Keys(r.Errors)) {
		fmt.Fprintf(w, "error %-9s %9d\n", kind, r.Errors[kind])
	}
	if r.FirstError != "" {
		fmt.Fprintf(w, "the first error: %s\n", r.FirstError)
	}
	if r.NotSent > 0 {
		fmt.Fprintf(w, "%d requests were due and could not be sent in time: the rate is above what is answered\n", r.NotSent)
	}
}
