package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/edgenode/edgenode/node/load"
)

// A row is one kind of load.
type row struct {
	name  string
	size  int   // bytes of an answer
	keys  []int // in the order in which they are asked for, again and again
	depth int   // requests that are sent together
	fresh bool  // keys are new each time: misses
}

// A sample is what one run of a row against a contender came to.
type sample struct {
	cpu  float64 // µs of the server per request
	rate float64 // requests a second
}

// results are samples by row and contender.
type results map[[2]string][]sample

// median returns that of what f picks, and whether there is one.
func (r results) median(row, contender string, f func(sample) float64) (float64, bool) {
	list := r[[2]string{row, contender}]
	if len(list) == 0 {
		return 0, false
	}
	var values []float64
	for _, s := range list {
		values = append(values, f(s))
	}
	return median(values), true
}

// ratio returns the median of the ratios within a round, which a busy machine
// moves less than the medians themselves, and whether there is one.
func (r results) ratio(row, a, b string, f func(sample) float64) (float64, bool) {
	x, y := r[[2]string{row, a}], r[[2]string{row, b}]
	if len(x) == 0 || len(x) != len(y) {
		return 0, false
	}
	var values []float64
	for i := range x {
		values = append(values, f(x[i])/f(y[i]))
	}
	return median(values), true
}

func median(values []float64) float64 {
	slices.Sort(values)
	if n := len(values); n%2 == 0 {
		return (values[n/2-1] + values[n/2]) / 2
	}
	return values[len(values)/2]
}

func cpuOf(s sample) float64  { return s.cpu }
func rateOf(s sample) float64 { return s.rate }

// Names of rows.
const (
	hot       = "hot 1 KiB"
	hot10     = "hot 10 KiB"
	hot100    = "hot 100 KiB"
	uniform   = "100,000 keys uniform"
	zipf      = "100,000 keys Zipf 0.99"
	pipelined = "pipelined 16"
	miss      = "miss"
	hook      = "hooks"
)

// rows are the loads of hits.
func rows() []row {
	const draws = 1 << 18
	list := []row{
		{name: hot, size: kibibyte},
		{name: hot10, size: 10 * kibibyte},
		{name: hot100, size: 100 * kibibyte},
		{name: uniform, size: kibibyte, keys: uniformKeys(manyKeys, draws)},
		{name: zipf, size: kibibyte, keys: zipfKeys(manyKeys, draws)},
		{name: pipelined, size: kibibyte, depth: 16},
	}
	for i := range list {
		if list[i].keys == nil {
			list[i].keys = []int{0}
		}
	}
	return list
}

// measure runs a row in rounds, so that what disturbs a round disturbs all. Another
// program that does not answer well is left out of the row, which has no result of
// it then.
func (b *bench) measure(ctx context.Context, r results, row row, contenders []*contender) error {
	scripts := map[string]string{}
	for _, c := range contenders {
		script, err := b.script(&row, c)
		if err != nil {
			return err
		}
		scripts[c.name] = script
	}
	failed := map[string]bool{}
	for round := range b.rounds {
		for _, c := range contenders {
			if failed[c.name] {
				continue
			}
			s, err := b.once(ctx, &row, c, scripts[c.name], round)
			for again := 0; again < 2 && errors.Is(err, errWrk); again++ { // as on a machine that is too busy
				b.say("%s: %s: %v; once more", row.name, c.name, err)
				s, err = b.once(ctx, &row, c, scripts[c.name], round)
			}
			key := [2]string{row.name, c.name}
			if errors.Is(err, errWrk) && slices.Contains(others(), c.name) {
				b.say("%s: %s is left out: %v", row.name, c.name, err)
				failed[c.name] = true
				delete(r, key)
				continue
			}
			if err != nil {
				return fmt.Errorf("%s: %s: %w", row.name, c.name, err)
			}
			b.say("%-24s %-16s %8.0f/s %8.3f µs", row.name, c.name, s.rate, s.cpu)
			r[key] = append(r[key], s)
		}
	}
	return nil
}

// script writes what wrk sends.
func (b *bench) script(r *row, c *contender) (string, error) {
	name := fileName(r.name + "-" + c.name)
	text := fmt.Sprintf("wrk.headers[\"Host\"] = %q\nwrk.headers[\"X-Tenant\"] = \"eu-1\"\n", c.host())
	if r.fresh {
		text += fmt.Sprintf(`local n = 0
function init(args) n = tonumber(args[1]) end
function request() n = n + 1; return wrk.format("GET", "%s/%d/" .. n) end
`, c.prefix, r.size)
	} else {
		var paths strings.Builder
		for _, k := range r.keys {
			paths.WriteString(c.prefix + path(r.size, k) + "\n")
		}
		list := filepath.Join(b.dir, name+".paths")
		if err := os.WriteFile(list, []byte(paths.String()), 0o600); err != nil {
			return "", err
		}
		text += fmt.Sprintf(`local all, i = {}, 0
function init(args)
  for line in io.lines(%q) do all[#all + 1] = string.rep(wrk.format("GET", line), %d) end
end
function request() i = i %% #all + 1; return all[i] end
`, list, max(1, r.depth))
	}
	file := filepath.Join(b.dir, name+".lua")
	return file, os.WriteFile(file, []byte(text), 0o600)
}

// once runs wrk against one contender.
func (b *bench) once(ctx context.Context, r *row, c *contender, script string, round int) (s sample, err error) {
	before, err := c.process.usage()
	if err != nil {
		return s, err
	}
	args := []string{"-t1", "-c64", "--timeout", "10s", fmt.Sprintf("-d%ds", int(b.seconds.Seconds())), "-s", script, "http://" + c.address + "/"}
	if r.fresh {
		b.fresh++
		args = append(args, "--", strconv.Itoa(b.fresh*100_000_000+round))
	}
	text, err := output(ctx, b.dir, "taskset", append([]string{"-c", clientCore, "wrk"}, args...)...)
	if err != nil {
		return s, err
	}
	after, err := c.process.usage()
	if err != nil {
		return s, err
	}
	n, rate, err := parseWrk(text)
	if err != nil {
		return s, err
	}
	return sample{cpu: float64((after.cpu - before.cpu).Microseconds()) / n, rate: rate}, nil
}

var errWrk = errors.New("wrk: not all requests were answered well")

// parseWrk returns how many requests were answered, and how many a second.
func parseWrk(text string) (n, rate float64, err error) {
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		switch {
		case strings.Contains(line, "requests in"):
			n, err = strconv.ParseFloat(f[0], 64)
		case len(f) == 2 && f[0] == "Requests/sec:":
			rate, err = strconv.ParseFloat(f[1], 64)
		case strings.Contains(line, "Non-2xx") || strings.Contains(line, "Socket errors") && !strings.Contains(line, "connect 0, read 0, write 0, timeout 0"):
			return 0, 0, fmt.Errorf("%w: %s", errWrk, strings.TrimSpace(line))
		}
		if err != nil {
			return 0, 0, fmt.Errorf("wrk: %q: %w", line, err)
		}
	}
	if n < 1 {
		return 0, 0, fmt.Errorf("%w:\n%s", errWrk, text)
	}
	return n, rate, nil
}

// fill gives a contender the keys of a size, by asking for each once or by PUT.
func (b *bench) fill(ctx context.Context, c *contender, size, keys int) error {
	o := load.Options{
		Targets: []string{"http://" + c.address + c.prefix + "/{size}/{key}"}, Headers: []string{"Host: " + c.host(), "X-Tenant: eu-1"},
		Connections: 16, Duration: 10 * time.Minute, Trace: &load.Trace{}, Timeout: time.Minute,
	}
	if c.put {
		o.Writes, o.Durability = 1, "journal"
	}
	for k := range keys {
		o.Trace.IDs, o.Trace.Sizes = append(o.Trace.IDs, uint32(k)), append(o.Trace.Sizes, uint32(size))
	}
	r, err := load.Run(ctx, o)
	if err == nil && (r.Failed > 0 || int(r.Requests) != keys || r.Reads.Misses > 0) {
		err = fmt.Errorf("%d of %d keys, %d failed, statuses %v, %s", r.Requests, keys, r.Failed, r.Statuses, r.FirstError)
	}
	if err != nil {
		return fmt.Errorf("filling %s: %w", c.name, err)
	}
	return nil
}

// fillAll fills everybody and returns what 100,000 bodies cost each of them in
// memory.
func (b *bench) fillAll(ctx context.Context) (map[string]grown, error) {
	all := map[string]grown{}
	for _, c := range b.contenders {
		for _, size := range []int{kibibyte, 10 * kibibyte, 100 * kibibyte} {
			if err := b.fill(ctx, c, size, 1); err != nil {
				return nil, err
			}
		}
		if c.name == bare || c.name == bareFields {
			continue
		}
		b.say("filling %s", c.name)
		before, err := c.memory(ctx)
		if err == nil {
			err = b.fill(ctx, c, kibibyte, manyKeys)
		}
		if err == nil && c.twice {
			err = b.fill(ctx, c, kibibyte, manyKeys)
		}
		if err != nil {
			return nil, err
		}
		after, err := c.atRest(ctx)
		if err != nil {
			return nil, err
		}
		const bodies = manyKeys * kibibyte
		all[c.name] = grown{(after.all - before.all) / bodies, (after.tier - before.tier) / bodies}
	}
	return all, nil
}

// grown is memory, in bytes or in bytes per byte of a body.
type grown struct {
	all  float64 // resident, and in files that are memory
	tier float64 // of these in a node's memory tier, by its own account
}

func (g grown) text() string {
	if g.tier == 0 {
		return fmt.Sprintf("%.2f", g.all)
	}
	return fmt.Sprintf("%.2f (tier %.2f)", g.all, g.tier)
}

// memory returns what a contender takes now.
func (c *contender) memory(ctx context.Context) (g grown, err error) {
	u, err := c.process.usage()
	if err != nil {
		return g, err
	}
	g.all = float64(u.resident)
	if c.folder != "" {
		g.all += float64(folderBytes(c.folder))
	}
	if c.admin != "" {
		g.tier, err = metric(ctx, c.admin, "edgenode_l1_used_bytes")
	}
	return g, err
}

// atRest returns what a contender takes once it no longer gives anything back, for
// which a node waits some seconds after what it writes in the background.
func (c *contender) atRest(ctx context.Context) (grown, error) {
	const looks, pause = 12, 10 * time.Second
	last, err := c.memory(ctx)
	for range looks {
		if err == nil {
			err = wait(ctx, pause)
		}
		if err != nil {
			return last, err
		}
		before := last.all
		if last, err = c.memory(ctx); err == nil && last.all > 0.99*before {
			break
		}
	}
	return last, err
}

// wrkThere says how to get the client if it is missing.
func wrkThere() error {
	for _, name := range []string{"wrk", "taskset"} {
		if _, err := exec.LookPath(name); err != nil {
			return fmt.Errorf("%s is needed: %w (Debian: apt-get install wrk util-linux)", name, err)
		}
	}
	return nil
}
