package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

// bench is one run of the table.
type bench struct {
	*tool
	rounds  int
	seconds time.Duration
	only    string

	self, edgenode string // programs
	version        string // of the tree
	origin         string // its address
	contenders     []*contender
	fresh          int // runs with keys of their own
}

// parts are the sections of the page, in its order.
var parts = []string{"http", "hooks", "l1", "writes"}

func (b *bench) flags(f *flag.FlagSet) func(context.Context) error {
	f.IntVar(&b.rounds, "rounds", number("BENCH_ROUNDS", 5), "rounds; medians of them are shown")
	f.DurationVar(&b.seconds, "seconds", time.Duration(number("BENCH_SECONDS", 3))*time.Second, "length of one measurement over HTTP, in whole seconds")
	f.StringVar(&b.only, "only", os.Getenv("BENCH_ONLY"), "parts, of "+strings.Join(parts, ",")+"; all if empty")
	return b.run
}

// few returns how often benchmarks of packages are run, which take long.
func (b *bench) few() int { return min(b.rounds, 3) }

// number returns what the environment says, or def.
func number(name string, def int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil {
		return n
	}
	return def
}

func (b *bench) run(ctx context.Context) (err error) {
	asked := parts
	if b.only != "" {
		asked = strings.Split(b.only, ",")
	}
	for _, part := range asked {
		if !slices.Contains(parts, part) {
			return fmt.Errorf("no part %q; there are %s", part, strings.Join(parts, ", "))
		}
	}
	if b.rounds < 1 || b.rounds > 100 || b.seconds < time.Second || b.seconds > time.Minute {
		return errors.New("rounds from 1 to 100, seconds from 1 to 60")
	}
	if err := wrkThere(); err != nil {
		return err
	}
	if b.self, err = os.Executable(); err != nil {
		return err
	}
	if b.edgenode, err = b.build(ctx, filepath.Join(b.root, "cmd", "edgenode"), "edgenode"); err != nil {
		return err
	}
	if b.version, err = output(ctx, b.root, "git", "describe", "--always", "--dirty"); err != nil {
		b.version = "of this tree"
	}
	defer b.stopAll()
	warning := busy(loadAverage(), runtime.NumCPU())
	for _, part := range asked {
		start := time.Now()
		b.commands = nil
		var text string
		switch part {
		case "http":
			text, err = b.http(ctx)
		case "hooks":
			text, err = b.hooks(ctx)
		case "l1":
			text, err = b.memoryTier(ctx)
		case "writes":
			text, err = b.writes(ctx)
		}
		b.stopAll()
		if err != nil {
			return err
		}
		if err := b.write(part, warning+text+b.ran()+"\n"+b.machine(ctx, start)); err != nil {
			return err
		}
	}
	return nil
}

// http measures section 1: hits, memory, misses.
func (b *bench) http(ctx context.Context) (string, error) {
	if err := b.startAll(ctx); err != nil {
		return "", err
	}
	memory, err := b.fillAll(ctx)
	if err != nil {
		return "", err
	}
	r, list := results{}, rows()
	for _, row := range list {
		if err := b.measure(ctx, r, row, b.contenders); err != nil {
			return "", err
		}
	}
	caches := slices.DeleteFunc(slices.Clone(b.contenders), func(c *contender) bool { return c.name != site && !slices.Contains(others(), c.name) })
	if err := b.measure(ctx, r, row{name: miss, size: kibibyte, fresh: true}, caches); err != nil {
		return "", err
	}
	b.stopAll()
	inside := timings{}
	if err := b.goBench(ctx, inside, "./node", "HitInProcess", "-benchtime", "500000x", "-count", fmt.Sprint(b.few())); err != nil {
		return "", err
	}
	b.ranWrk()
	return b.hitText(r, list, memory, inside), nil
}

// ranWrk adds the command of what goes over HTTP.
func (b *bench) ranWrk() {
	b.commands = append(b.commands, fmt.Sprintf("taskset -c %s wrk -t1 -c64 -d%ds -s SCRIPT http://ADDRESS/  # each server: GOMAXPROCS=1 taskset -c %s",
		clientCore, int(b.seconds.Seconds()), serverCore))
}

// Nodes with hooks.
const (
	noHook     = "no hook"
	oneHook    = "one route hook"
	reusedHook = "one with reused verdicts"

	hookDepth = 8
)

// hooks measures nodes with and without a small route module.
func (b *bench) hooks(ctx context.Context) (string, error) {
	if err := b.startOrigin(ctx); err != nil {
		return "", err
	}
	module, err := b.build(ctx, filepath.Join(b.root, "hooks", "benchmodule"), "benchmodule")
	if err != nil {
		return "", err
	}
	var nodes []*contender
	for name, args := range map[string][]string{noHook: nil, oneHook: {}, reusedHook: {"-reuse", "3600"}} {
		more := ""
		if args != nil {
			file := filepath.Join(b.dir, fileName(name)+".wasm")
			if _, err := output(ctx, b.dir, module, append(args, "-o", file)...); err != nil {
				return "", err
			}
			more = fmt.Sprintf("[[hook]]\nname = \"bench\"\nmodule = %q\nhooks = [\"route\"]\n", file)
		}
		c := &contender{name: name}
		if err := b.node(ctx, c, more); err != nil {
			return "", err
		}
		if err := b.fill(ctx, c, kibibyte, 1); err != nil {
			return "", err
		}
		nodes = append(nodes, c)
	}
	slices.SortFunc(nodes, func(a, c *contender) int { return strings.Compare(a.name, c.name) })
	r := results{}
	if err := b.measure(ctx, r, row{name: hook, size: kibibyte, keys: []int{0}, depth: hookDepth}, nodes); err != nil {
		return "", err
	}
	plain := slices.DeleteFunc(slices.Clone(nodes), func(c *contender) bool { return c.name != noHook })
	if err := b.measure(ctx, r, row{name: hot, size: kibibyte, keys: []int{0}}, plain); err != nil {
		return "", err
	}
	b.ranWrk()
	return b.hookText(r), nil
}

// hookText is the section of hooks. What a hook adds is measured in a pipeline, where
// it is not lost in what the kernel's work differs by, and is set against a hit that
// is sent alone.
func (b *bench) hookText(r results) string {
	var s strings.Builder
	alone, _ := r.median(hot, noHook, cpuOf)
	fmt.Fprintf(&s, "Microseconds of processor time of a node per hit of a site, %d requests in a pipeline; medians of %d rounds of %v. "+
		"The hook is a small module that reads the key and a header field and decides nothing; its verdicts are for one request each, or are reused. "+
		"A hit that is sent alone takes %.2f µs without a hook; the last column is what the hook adds in the pipeline ÷ that.\n\n", hookDepth, b.rounds, b.seconds, alone)
	t := newTable("node", "µs", "÷ none", "added ÷ a hit alone")
	var list []goal
	none, _ := r.median(hook, noHook, cpuOf)
	for _, of := range []struct {
		name, goal string
		limit      float64
	}{{noHook, "", 0}, {oneHook, "a route hook, added ÷ a hit alone", 0.02}, {reusedHook, "a route hook with reused verdicts, added ÷ a hit alone", 0.01}} {
		cpu, _ := r.median(hook, of.name, cpuOf)
		ratio, ok := r.ratio(hook, of.name, noHook, cpuOf)
		added := (ratio - 1) * none / alone
		t.row(of.name, fmt.Sprintf("%.2f", cpu), fmt.Sprintf("%.3f", ratio), fmt.Sprintf("%+.1f %%", 100*added))
		if of.goal != "" && ok {
			list = append(list, goal{what: of.goal, want: fmt.Sprintf("≤ %.0f %%", 100*of.limit), got: fmt.Sprintf("%.1f %%", 100*added), met: added <= of.limit})
		}
	}
	return s.String() + t.String() + "\n### Goals\n\n" + goals(list)
}

// hitText is the section of hits.
func (b *bench) hitText(r results, list []row, memory map[string]grown, inside timings) string {
	var s strings.Builder
	fmt.Fprintf(&s, "Microseconds of processor time of the server per request, user and system (ratio to `%s` in the same run; requests/s in thousands). "+
		"Medians of %d rounds of %v, ratios within a round; servers in turns on one core, `wrk` with 64 connections and the origin on the other.\n\n", bare, b.rounds, b.seconds)
	heads := []string{"server"}
	for _, row := range list {
		heads = append(heads, row.name)
	}
	t := newTable(append(heads, "bytes of memory per body byte")...)
	for _, c := range b.contenders {
		cells := []string{c.name}
		for _, row := range list {
			cpu, ok := r.median(row.name, c.name, cpuOf)
			if !ok {
				cells = append(cells, "did not answer")
				continue
			}
			ratio, _ := r.ratio(row.name, c.name, bare, cpuOf)
			rate, _ := r.median(row.name, c.name, rateOf)
			cells = append(cells, fmt.Sprintf("%.2f (%.2f; %.0f)", cpu, ratio, rate/1000))
		}
		cell := "–"
		if m, ok := memory[c.name]; ok {
			cell = m.text()
		}
		t.row(append(cells, cell)...)
	}
	s.WriteString(t.String() + "\n")
	for _, c := range b.contenders {
		fmt.Fprintf(&s, "- %s: %s\n", c.name, c.what)
	}
	if q, ok := r.ratio(hot, site, bareFields, cpuOf); ok {
		fmt.Fprintf(&s, "\nA site's hit of a hot key of 1 KiB costs %.2f of a bare handler that sends the same fields: what it is more than that beside `%s` is the bytes.\n", q, bare)
	}
	s.WriteString("\nMemory is what the process grew by, and the files of nginx's cache on disk, with 100,000 answers of 1 KiB, once it gives nothing back any more; of a node also what its memory tier grew by.\n\n")
	t = newTable("a miss filled from a local origin, 1 KiB", "µs", "requests/s")
	for _, name := range append([]string{site}, others()...) {
		if cpu, ok := r.median(miss, name, cpuOf); ok {
			rate, _ := r.median(miss, name, rateOf)
			t.row(name, fmt.Sprintf("%.1f", cpu), fmt.Sprintf("%.0f", rate))
		}
	}
	s.WriteString(t.String() + "\n" + insideText(inside) + "\n### Goals\n\n" + goals(b.hitGoals(r, memory, inside)))
	return s.String()
}

// insideHit is the benchmark of whole requests without a kernel.
const insideHit = "node HitInProcess/"

func insideText(inside timings) string {
	t := newTable("in process, no kernel, 1 KiB", "one hot key, ns", "100,000 keys, ns", "allocations")
	for _, of := range [][2]string{
		{bare, "bare"}, {"bare, an origin's twelve fields", "bare-12-fields"}, {item, "item"}, {site, "site"},
	} {
		hot, many := insideHit+"hot/"+of[1], insideHit+"100k/"+of[1]
		t.row(of[0], inside.show(hot, "cpu-ns/op", "%.0f"), inside.show(many, "cpu-ns/op", "%.0f"), inside.show(many, "allocs/op", "%.0f"))
	}
	return t.String()
}

// goal is that of a ratio.
func (r results) goal(what, row, a, b string, f func(sample) float64, limit float64, atLeast bool) goal {
	g := goal{what: what, want: fmt.Sprintf("≤ %.2f", limit)}
	if atLeast {
		g.want = fmt.Sprintf("≥ %.2f", limit)
	}
	if q, ok := r.ratio(row, a, b, f); ok {
		g.got, g.met = fmt.Sprintf("%.3f", q), q <= limit && !atLeast || q >= limit && atLeast
	}
	return g
}

// hitGoals are those of section 1 of the design.
func (b *bench) hitGoals(r results, memory map[string]grown, inside timings) (list []goal) {
	ratio := func(what, row, a, b string, f func(sample) float64, limit float64, atLeast bool) {
		list = append(list, r.goal(what, row, a, b, f, limit, atLeast))
	}
	for _, c := range []string{item, site} {
		ratio(c+", one hot key, ÷ bare", hot, c, bare, cpuOf, 1.08, false)
		ratio(c+", 100,000 keys uniform, ÷ bare with 100,000 bodies", uniform, c, bare, cpuOf, 1.10, false)
		ratio(c+", pipelined 16, requests/s ÷ bare", pipelined, c, bare, rateOf, 0.85, true)
	}
	ratio("site ÷ nginx, hot", hot, site, nginx, cpuOf, 0.80, false)
	ratio("site ÷ nginx, uniform", uniform, site, nginx, cpuOf, 0.45, false)
	ratio("site ÷ Varnish, hot", hot, site, varnish, cpuOf, 0.55, false)
	ratio("site ÷ Varnish, uniform", uniform, site, varnish, cpuOf, 0.40, false)
	ratio("site ÷ Traffic Server, hot", hot, site, traffic, cpuOf, 0.50, false)
	ratio("site ÷ Traffic Server, uniform", uniform, site, traffic, cpuOf, 0.50, false)
	for _, c := range []string{item, site} {
		m, ok := memory[c]
		g := goal{what: "memory per body byte, " + c, want: "≤ 1.25"}
		if ok {
			g.got, g.met = m.text(), m.all <= 1.25
		}
		list = append(list, g)
	}
	list = append(list, goal{what: "memory per body byte after an hour of churn", want: "≤ 1.25"})
	ratio("a miss ÷ nginx", miss, site, nginx, cpuOf, 0.80, false)
	for _, of := range []struct {
		keys, name string
		limit      float64
	}{{"one hot key", "hot/", 150}, {"100,000 keys", "100k/", 600}} {
		for _, who := range []string{"item", "site"} {
			g := goal{what: "in process, added over bare, " + of.keys + ", " + who, want: fmt.Sprintf("≤ %.0f ns, 0 allocations", of.limit)}
			floor, ok := inside.median(insideHit+of.name+"bare", "cpu-ns/op")
			whole, ok2 := inside.median(insideHit+of.name+who, "cpu-ns/op")
			allocs, _ := inside.median(insideHit+of.name+who, "allocs/op")
			if ok && ok2 {
				g.got, g.met = fmt.Sprintf("%.0f ns, %.0f", whole-floor, allocs), whole-floor <= of.limit && allocs == 0
			}
			list = append(list, g)
		}
	}
	return list
}
