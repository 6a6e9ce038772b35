package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// writes measures section 3: journal, PUT over HTTP, SQL and Redis.
func (b *bench) writes(ctx context.Context) (string, error) {
	all, few := timings{}, fmt.Sprint(b.few())
	for _, of := range [][]string{
		{"./tiers/journal", "^BenchmarkPuts$", "-count", few},
		{"./tiers/journal", "^BenchmarkReplay$", "-benchtime", "3x"},
		{"./tiers/l3", "^Benchmark(Apply|Get|ServerApply|ServerGet)$", "-count", few},
		{"./tiers/l2", "^Benchmark(Apply|GetMany)$", "-count", few},
	} {
		if err := b.goBench(ctx, all, of[0], of[1], of[2:]...); err != nil {
			return "", err
		}
	}
	puts, err := b.puts(ctx)
	if err != nil {
		return "", err
	}
	all["http"] = map[string][]float64{}
	var s strings.Builder
	s.WriteString(journalText(all) + "\n")
	fmt.Fprintf(&s, "A PUT of a new item of 1 KiB over HTTP, 64 connections, medians of %d rounds of %v:\n\n", b.rounds, b.seconds)
	t := newTable("durability", "PUT/s", "÷ memory", "p50", "p99")
	for _, d := range durabilities {
		rate := puts.of(d, func(p put) float64 { return p.rate })
		t.row("`"+d+"`", fmt.Sprintf("%.0f", rate), fmt.Sprintf("%.2f", rate/puts.of("memory", func(p put) float64 { return p.rate })),
			fmt.Sprintf("%.1f ms", puts.of(d, func(p put) float64 { return p.p50 / 1000 })), fmt.Sprintf("%.1f ms", puts.of(d, func(p put) float64 { return p.p99 / 1000 })))
		all["http"][d] = []float64{rate}
	}
	s.WriteString(t.String() + "\n" + backendText(all) + "\n### Goals\n\n" + goals(writeGoals(all)))
	return s.String(), nil
}

var durabilities = []string{"memory", "journal", "sync", "l3"}

// A put is what one run of PUTs came to: requests a second, µs.
type put struct{ rate, p50, p99 float64 }

type putRuns map[string][]put

func (p putRuns) of(durability string, f func(put) float64) float64 {
	var values []float64
	for _, run := range p[durability] {
		values = append(values, f(run))
	}
	return median(values)
}

// puts measures PUTs of new items at each durability, in turns. Each run begins
// with nothing to flush.
func (b *bench) puts(ctx context.Context) (putRuns, error) {
	if err := b.startOrigin(ctx); err != nil {
		return nil, err
	}
	c := &contender{name: "writes"}
	if err := b.node(ctx, c, ""); err != nil {
		return nil, err
	}
	runs := putRuns{}
	for round := range b.rounds {
		for _, d := range durabilities {
			args := []string{"-c", clientCore, b.edgenode, "bench", fmt.Sprintf("http://%s/v1/items/%s/%d/{key}", c.address, d, round), "-c", "64",
				"-d", b.seconds.String(), "--warmup", "500ms", "--writes", "100%", "--durability", d, "--keys", "1000000000", "--seed", fmt.Sprint(round), "--json"}
			text, err := output(ctx, b.dir, "taskset", args...)
			if err != nil {
				return nil, err
			}
			var r struct {
				PerSecond float64 `json:"requests_per_second"`
				Failed    uint64  `json:"failed"`
				First     string  `json:"first_error"`
				Latency   struct {
					P50 float64 `json:"p50_us"`
					P99 float64 `json:"p99_us"`
				} `json:"latency"`
			}
			if err := json.Unmarshal([]byte(text), &r); err != nil {
				return nil, err
			}
			if r.Failed > 0 {
				return nil, fmt.Errorf("PUT with %s: %d failed: %s\n%s", d, r.Failed, r.First, text)
			}
			b.say("PUT %-8s %8.0f/s  p99 %.1f ms", d, r.PerSecond, r.Latency.P99/1000)
			runs[d] = append(runs[d], put{r.PerSecond, r.Latency.P50, r.Latency.P99})
			if err := flushed(ctx, c.admin); err != nil {
				return nil, err
			}
		}
	}
	b.commands = append(b.commands, fmt.Sprintf("taskset -c %s edgenode bench URL -c 64 -d %v --writes 100%% --keys 1000000000 --durability LEVEL  # node: GOMAXPROCS=1 taskset -c %s", clientCore, b.seconds, serverCore))
	return runs, nil
}

// flushed waits until a node has nothing left to write.
func flushed(ctx context.Context, admin string) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		n, err := metric(ctx, admin, "edgenode_pending_items")
		if err != nil || n == 0 {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// metric returns the sum of a node's metric over its labels.
func metric(ctx context.Context, admin, name string) (sum float64, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+admin+"/metrics", nil)
	if err != nil {
		return 0, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer func() { _ = resp.Body.Close() }() // it was only read
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		line := lines.Text()
		i := strings.LastIndexByte(line, ' ')
		if base, _, _ := strings.Cut(line[:max(i, 0)], "{"); base == name {
			v, err := strconv.ParseFloat(line[i+1:], 64)
			if err != nil {
				return 0, err
			}
			sum += v
		}
	}
	return sum, lines.Err()
}

func journalText(all timings) string {
	t := newTable("durable records of 1 KiB a second (p99)", "1 writer", "64 writers", "256 writers")
	for _, c := range [][2]string{{"append and fdatasync of the disk", "raw"}, {"plain log with group commit", "plain"}, {"journal", "journal"}} {
		cells := []string{c[0]}
		for _, n := range []string{"1", "64", "256"} {
			name := "tiers/journal Puts/" + c[1] + "/" + n
			if _, ok := all.median(name, "puts/s"); !ok {
				cells = append(cells, "–")
				continue
			}
			p99, _ := all.median(name, "p99-µs")
			cells = append(cells, all.show(name, "puts/s", "%.0f")+fmt.Sprintf(" (%.1f ms)", p99/1000))
		}
		t.row(cells...)
	}
	return t.String()
}

func backendText(all timings) string {
	t := newTable("1 KiB, one connection, thousands a second", "plain", "through the store", "÷", "p99 of a batch")
	for _, c := range [][2]string{
		{"SQLite, new rows, batches of 1000", "tiers/l3 Apply/new"}, {"SQLite, over others", "tiers/l3 Apply/over"}, {"SQLite, read", "tiers/l3 Get"},
		{"MariaDB, new rows, batches of 1000", "tiers/l3 ServerApply/new"}, {"MariaDB, over others", "tiers/l3 ServerApply/over"}, {"MariaDB, read", "tiers/l3 ServerGet"},
		{"Redis, new, pipelines of 100", "tiers/l2 Apply/new"}, {"Redis, over others", "tiers/l2 Apply/over"}, {"Redis, read 100", "tiers/l2 GetMany"},
	} {
		q, ok := all.ratio(c[1]+"/plain", c[1]+"/store", "ns/op")
		if !ok {
			t.row(c[0], "–", "–", "–", "–")
			continue
		}
		p, _ := all.median(c[1]+"/plain", "ns/op")
		s, _ := all.median(c[1]+"/store", "ns/op")
		p99 := "–"
		if v, ok := all.median(c[1]+"/store", "p99-ms/batch"); ok {
			p99 = fmt.Sprintf("%.1f ms", v)
		}
		t.row(c[0], fmt.Sprintf("%.1f", 1e6/p), fmt.Sprintf("%.1f", 1e6/s), fmt.Sprintf("%.2f", q), p99)
	}
	return t.String()
}

// writeGoals are those of section 3 of the design.
func writeGoals(all timings) []goal {
	const j = "tiers/journal Puts/"
	rate := func(what, name string, least float64) goal {
		g := goal{what: what, want: fmt.Sprintf("≥ %.0f", least)}
		if v, ok := all.median(name, "ns/op"); ok {
			g.got, g.met = fmt.Sprintf("%.0f", 1e9/v), 1e9/v >= least
		}
		return g
	}
	speed := func(what, name string) goal {
		return quotient(all, what, name+"/plain", name+"/store", "ns/op", 0.85, true)
	}
	sync := goal{what: "PUT over HTTP, `sync` ÷ `memory`, 64 connections", want: "≥ 0.60"}
	if s, ok := all.median("http", "sync"); ok {
		m, _ := all.median("http", "memory")
		sync.got, sync.met = fmt.Sprintf("%.2f", s/m), s/m >= 0.6
	}
	replay := goal{what: "replay of a million records", want: "≤ 3 s"}
	if v, ok := all.median("tiers/journal Replay", "ns/op"); ok {
		replay.got, replay.met = fmt.Sprintf("%.2f s", v/1e9), v <= 3e9
	}
	return []goal{
		quotient(all, "journal, 1 writer, ÷ raw", j+"journal/1", j+"raw/1", "puts/s", 0.80, true),
		quotient(all, "journal, 64 writers, ÷ plain log", j+"journal/64", j+"plain/64", "puts/s", 0.76, true),
		bound(all, "journal, 64 writers, p99, µs", j+"journal/64", "p99-µs", "%.0f", 3000, false),
		quotient(all, "journal, 256 writers, ÷ plain log", j+"journal/256", j+"plain/256", "puts/s", 0.60, true),
		sync,
		speed("SQLite, new rows, ÷ plain loop", "tiers/l3 Apply/new"),
		rate("SQLite, new rows a second", "tiers/l3 Apply/new/store", 20_000),
		bound(all, "SQLite, commit of 1000, p99, ms", "tiers/l3 Apply/new/store", "p99-ms/batch", "%.1f", 20, false),
		speed("SQLite, reads ÷ plain", "tiers/l3 Get"),
		speed("MariaDB, new rows, ÷ plain loop", "tiers/l3 ServerApply/new"),
		rate("MariaDB, new rows a second", "tiers/l3 ServerApply/new/store", 30_000),
		speed("MariaDB, reads ÷ plain", "tiers/l3 ServerGet"),
		rate("Redis, SET a second in pipelines of 100", "tiers/l2 Apply/new/store", 200_000),
		replay,
		{what: "start to ready with a million items", want: "≤ 1 s"},
	}
}
