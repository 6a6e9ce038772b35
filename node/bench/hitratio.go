package main

import (
	"context"
	"encoding/csv"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// hitRatio plays traces against the memory tier (BenchmarkHitRatio of tiers/l1),
// and by a simulator against libraries and policies. The simulator is not part of
// the tree: a Go command that plays the ECT1 traces of -dir in sizes of -fracs
// (shares of the bytes of all objects) against its own -policies, and against a
// program -exec that answers as "edgenode bench replay" does, and appends to the
// file -csv lines of trace, "false", policy or "exec", fraction, share of requests
// and share of bytes. In its folder libs is such a program for libraries: libs
// otter BYTES.
type hitRatio struct {
	*tool
	traces, simulator string
}

var (
	// peers are the policies of the simulator that are not ours.
	peers     = []string{"fifo", "lru", "clock", "sieve", "s3fifo", "lfu", "lfuda", "wtinylfu", "wtinylfu-av", "wtinylfu-w20", "gdsf", "hyperbolic64", "lhd64"}
	libraries = []string{"otter", "theine", "ristretto"}
	fractions = []string{"0.01", "0.1"}
)

func (h *hitRatio) flags(f *flag.FlagSet) func(context.Context) error {
	f.StringVar(&h.traces, "traces", os.Getenv("TRACES"), "folder with traces, *.ect.gz")
	f.StringVar(&h.simulator, "simulator", os.Getenv("SIMULATOR"), "folder of the simulator")
	return h.run
}

func (h *hitRatio) run(ctx context.Context) error {
	if h.traces == "" || h.simulator == "" {
		return errors.New("hitratio: name the folders: make hitratio TRACES=folder SIMULATOR=folder")
	}
	start := time.Now()
	node, err := h.build(ctx, filepath.Join(h.root, "cmd", "edgenode"), "edgenode")
	if err != nil {
		return err
	}
	simulator, err := h.build(ctx, h.simulator, "simulator")
	if err != nil {
		return err
	}
	libs, err := h.build(ctx, filepath.Join(h.simulator, "libs"), "libs")
	if err != nil {
		return err
	}
	all := ratios{}
	play := func(name string, args ...string) error {
		h.say("playing %s", name)
		return h.play(ctx, all, simulator, name, args...)
	}
	memory := timings{}
	if err = h.goBench(ctx, memory, "./tiers/l1", "^BenchmarkHitRatio$/././^(auto|bytes)$", "-benchtime", "1x", "-args", "-traces", h.traces); err == nil {
		all.addMemory(memory)
		h.commands = []string{strings.ReplaceAll(h.commands[0], h.traces, "$TRACES")}
		err = play("policies", "-policies", strings.Join(peers, ","))
	}
	for _, policy := range []string{"auto", "bytes"} {
		if err == nil {
			err = play(policy+replayed, "-policies", "fifo", "-exec", node+" bench replay --policy "+policy)
		}
	}
	for _, library := range libraries {
		if err == nil {
			err = play(library, "-policies", "fifo", "-exec", libs+" "+library)
		}
	}
	if err != nil {
		return err
	}
	return h.write("hitratio", all.text()+h.ran()+"\n"+h.machine(ctx, start))
}

// play adds what one run of the simulator found. A program's ratios are kept
// under name.
func (h *hitRatio) play(ctx context.Context, all ratios, simulator, name string, args ...string) error {
	file := filepath.Join(h.dir, name+".csv")
	c := exec.CommandContext(ctx, simulator, append([]string{"-dir", h.traces, "-fracs", strings.Join(fractions, ","), "-csv", file}, args...)...)
	c.Stderr = os.Stderr
	if err := c.Run(); err != nil {
		return fmt.Errorf("simulator: %s: %w", name, err)
	}
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // it was only read
	rows, err := csv.NewReader(f).ReadAll()
	if err != nil {
		return err
	}
	return all.add(name, rows)
}

// replayed ends the name of a policy as edgenode bench replay plays it.
const replayed = " replayed"

// A cell is one memory on one trace.
type cell struct{ trace, fraction, policy string }

// ratios are shares of requests and of bytes, 0 to 1.
type ratios map[cell][2]float64

// add adds rows of trace, unit, policy, fraction, share of requests, share of
// bytes.
func (r ratios) add(program string, rows [][]string) error {
	for _, row := range rows {
		if len(row) != 6 {
			return fmt.Errorf("simulator: %q has not six columns", row)
		}
		requests, err := strconv.ParseFloat(row[4], 64)
		bytes, err2 := strconv.ParseFloat(row[5], 64)
		if err := errors.Join(err, err2); err != nil {
			return fmt.Errorf("simulator: %q: %w", row, err)
		}
		policy := row[2]
		if policy == "exec" {
			policy = program
		}
		r[cell{row[0], row[3], policy}] = [2]float64{requests, bytes}
	}
	return nil
}

// addMemory adds what BenchmarkHitRatio printed: names are trace/1%/policy.
func (r ratios) addMemory(all timings) {
	for name := range all {
		f := strings.Split(name, "/")
		if len(f) < 4 {
			continue
		}
		f = f[len(f)-3:]
		share, err := strconv.ParseFloat(strings.TrimSuffix(f[1], "%"), 64)
		objects, ok := all.median(name, "objects")
		if bytes, ok2 := all.median(name, "bytes"); err == nil && ok && ok2 {
			r[cell{f[0], strconv.FormatFloat(share/100, 'g', -1, 64), f[2]}] = [2]float64{objects, bytes}
		}
	}
}

func (r ratios) traceNames() (names []string) {
	for c := range r {
		if !slices.Contains(names, c.trace) {
			names = append(names, c.trace)
		}
	}
	slices.Sort(names)
	return names
}

// best returns the highest of policies.
func (r ratios) best(trace, fraction string, policies []string, unit int) (name string, ratio float64) {
	for _, p := range policies {
		if v := r[cell{trace, fraction, p}][unit]; v > ratio || name == "" {
			name, ratio = p, v
		}
	}
	return name, ratio
}

// A score is how a memory did against the best of others.
type score struct {
	sum, least float64
	n          int
	at         string // where it was least
}

func (s *score) add(ratio float64, where string) {
	if s.n == 0 || ratio < s.least {
		s.least, s.at = ratio, where
	}
	s.sum += ratio
	s.n++
}

func (s *score) mean() float64 { return s.sum / float64(max(s.n, 1)) }

func (s *score) text() string {
	return fmt.Sprintf("mean %.3f, least %.3f (%s)", s.mean(), s.least, s.at)
}

// Units of a ratio.
const (
	ofRequests = iota
	ofBytes
)

func (r ratios) text() string {
	var objectLibraries, objectPeers, byteAll score
	var s strings.Builder
	s.WriteString("### Requests: `eviction = \"auto\"`\n\nShare of requests that were hits, per cent.\n\n")
	s.WriteString(r.table("auto", ofRequests, func(fraction, where string, library, peer float64) {
		objectLibraries.add(library, where)
		if fraction == "0.1" {
			objectPeers.add(peer, where)
		}
	}))
	s.WriteString("\n### Bytes: `eviction = \"bytes\"`\n\nShare of bytes that were hits, per cent.\n\n")
	s.WriteString(r.table("bytes", ofBytes, func(_, where string, library, peer float64) { byteAll.add(min(library, peer), where) }))
	s.WriteString("\n### Goals\n\n")
	s.WriteString(goals([]goal{
		{"requests, each trace, 1 % and 10 %, ÷ best library", "≥ 1.00", objectLibraries.text(), objectLibraries.least >= 1},
		{"requests, mean of these ÷ best library", "≥ 1.15", fmt.Sprintf("%.3f", objectLibraries.mean()), objectLibraries.mean() >= 1.15},
		{"requests, mean at 10 % ÷ best policy", "≥ 1.01", objectPeers.text(), objectPeers.mean() >= 1.01},
		{"bytes, each trace, 1 % and 10 %, ÷ best of all", "≥ 0.98", byteAll.text(), byteAll.least >= 0.98},
	}))
	s.WriteString("\nBest policy is the best of " + strings.Join(peers, ", ") + "; libraries are " + strings.Join(libraries, ", ") + ". " +
		"The first figure is of the memory tier as a node has it, with whole records in it. In `edgenode bench replay` an object costs its recorded " +
		"size alone, as elsewhere here. Sizes of memory are shares of the bytes of all objects.\n")
	return s.String()
}

// table has a row for each trace and size, and tells each of them the ratios to
// the best library and the best policy.
func (r ratios) table(ours string, unit int, each func(fraction, where string, library, peer float64)) string {
	t := newTable("trace", "memory", "**"+ours+"**", "`bench replay`", "LRU", "otter", "theine", "ristretto", "S3-FIFO", "GDSF", "best policy", "÷ best library", "÷ best policy")
	for _, trace := range r.traceNames() {
		for _, fraction := range fractions {
			v := r[cell{trace, fraction, ours}][unit]
			share, _ := strconv.ParseFloat(fraction, 64)
			size := fmt.Sprintf("%g %%", share*100)
			row := []string{trace, size, fmt.Sprintf("**%.2f**", 100*v)}
			for _, p := range []string{ours + replayed, "lru", "otter", "theine", "ristretto", "s3fifo", "gdsf"} {
				row = append(row, fmt.Sprintf("%.2f", 100*r[cell{trace, fraction, p}][unit]))
			}
			_, library := r.best(trace, fraction, libraries, unit)
			name, peer := r.best(trace, fraction, peers, unit)
			const tiny = 1e-9 // nothing was ever hit
			library, peer2 := v/max(library, tiny), v/max(peer, tiny)
			each(fraction, trace+" at "+size, library, peer2)
			t.row(append(row, fmt.Sprintf("%.2f %s", 100*peer, name), fmt.Sprintf("%.3f", library), fmt.Sprintf("%.3f", peer2))...)
		}
	}
	return t.String()
}
