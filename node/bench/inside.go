package main

import (
	"context"
	"fmt"
	"strings"
)

// memoryTier measures section 2: the memory tier beside otter.
func (b *bench) memoryTier(ctx context.Context) (string, error) {
	all := timings{}
	if err := b.goBench(ctx, all, "./tiers/l1", "^BenchmarkCache$", "-cpu", "2", "-count", fmt.Sprint(b.few())); err != nil {
		return "", err
	}
	if err := b.goBench(ctx, all, "./tiers/l1", "^BenchmarkOverhead$", "-cpu", "2", "-benchtime", "1x", "-count", fmt.Sprint(b.few())); err != nil {
		return "", err
	}
	if err := b.goBench(ctx, all, "./tiers/l1", "^BenchmarkPutTail$", "-benchtime", "500000x", "-count", fmt.Sprint(b.few())); err != nil {
		return "", err
	}
	if err := b.goBench(ctx, all, "./tiers/l1", "^BenchmarkCollector$", "-cpu", "2", "-benchtime", "10000000x"); err != nil {
		return "", err
	}
	if err := b.goBench(ctx, all, "./tiers/l1/peers", "^BenchmarkGetCopy$", "-cpu", "2", "-count", fmt.Sprint(b.few())); err != nil {
		return "", err
	}
	var s strings.Builder
	fmt.Fprintf(&s, "1 KiB values, 40-byte keys, Zipf 0.99, two processors. Nanoseconds of processor time per operation, collector included (time that passed); medians of %d. "+
		"otter holds pointers and is given as many entries as fit the budget here, its own overhead not counted.\n\n", b.few())
	t := newTable("cache", "Get", "90/10", "miss + Set + evict", "allocations of a Get")
	for _, c := range [][2]string{{"edgenode L1", "l1"}, {"otter v2", "otter"}} {
		cells := []string{c[0]}
		for _, load := range []string{"get", "get90set10", "missSetEvict"} {
			name := "tiers/l1 Cache/" + load + "/" + c[1]
			cells = append(cells, all.show(name, "cpu-ns/op", "%.0f")+" ("+all.show(name, "ns/op", "%.0f")+")")
		}
		t.row(append(cells, all.show("tiers/l1 Cache/get/"+c[1], "allocs/op", "%.0f"))...)
	}
	s.WriteString(t.String() + "\n")
	const copied = "tiers/l1/peers GetCopy/"
	t = newTable("cache, Get that copies, all are hits", "ns", "allocations")
	for _, c := range [][2]string{{"edgenode L1", "l1"}, {"fastcache", "fastcache"}, {"freecache", "freecache"}} {
		t.row(c[0], all.show(copied+c[1], "cpu-ns/op", "%.0f"), all.show(copied+c[1], "allocs/op", "%.0f"))
	}
	s.WriteString(t.String() + "\n")
	const collector = "tiers/l1 Collector/"
	fmt.Fprintf(&s, "While items of 100 bytes come into five million others, the collector takes %s %% of a core here and %s %% with otter.\n\n",
		all.show(collector+"l1", "collector-%-of-core", "%.2f"), all.show(collector+"otter", "collector-%-of-core", "%.2f"))
	const over = "tiers/l1 Overhead"
	fmt.Fprintf(&s, "Beyond its record an item takes %s bytes, %s without ghosts (values of 100 bytes, a million items). A collection takes %s µs, %s ns per item; the last pause was %s µs.\n\n",
		all.show(over, "overhead-B/item", "%.0f"), all.show(over, "without-ghosts-B/item", "%.0f"), all.show(over, "µs/collection", "%.0f"), all.show(over, "collector-ns/item", "%.2f"), all.show(over, "µs-pause", "%.0f"))
	list := []goal{
		quotient(all, "Get ÷ otter", "tiers/l1 Cache/get/l1", "tiers/l1 Cache/get/otter", "cpu-ns/op", 1.0, false),
		quotient(all, "90/10 ÷ otter", "tiers/l1 Cache/get90set10/l1", "tiers/l1 Cache/get90set10/otter", "cpu-ns/op", 1.0, false),
		quotient(all, "miss + Set + evict ÷ otter", "tiers/l1 Cache/missSetEvict/l1", "tiers/l1 Cache/missSetEvict/otter", "cpu-ns/op", 0.9, false),
		bound(all, "allocations of a Get", "tiers/l1 Cache/get/l1", "allocs/op", "%.0f", 0, false),
		bound(all, "allocations, 90/10", "tiers/l1 Cache/get90set10/l1", "allocs/op", "%.0f", 0, false),
		quotient(all, "Get with a copy ÷ fastcache", copied+"l1", copied+"fastcache", "cpu-ns/op", 0.9, false),
		bound(all, "overhead per item without ghosts, bytes", over, "without-ghosts-B/item", "%.0f", 56, false),
		bound(all, "overhead per item with ghosts, bytes", over, "overhead-B/item", "%.0f", 76, false),
		bound(all, "pause of a collection, µs", over, "µs-pause", "%.0f", 500, false),
		bound(all, "collector's share of a core at 5 M items, %", collector+"l1", "collector-%-of-core", "%.1f", 0.2, false),
		bound(all, "Set, p99.9, µs of its thread", "tiers/l1 PutTail", "cpu-µs-p99.9", "%.1f", 50, false),
	}
	return s.String() + "### Goals\n\n" + goals(list), nil
}

// quotient is the goal of a ratio.
func quotient(all timings, what, a, b, unit string, limit float64, atLeast bool) goal {
	g := goal{what: what, want: fmt.Sprintf("≤ %.2f", limit)}
	if atLeast {
		g.want = fmt.Sprintf("≥ %.2f", limit)
	}
	if q, ok := all.ratio(a, b, unit); ok {
		g.got, g.met = fmt.Sprintf("%.2f", q), q <= limit && !atLeast || q >= limit && atLeast
	}
	return g
}

// bound is the goal of a value.
func bound(all timings, what, name, unit, format string, limit float64, atLeast bool) goal {
	g := goal{what: what, want: "≤ " + fmt.Sprintf(format, limit)}
	if atLeast {
		g.want = "≥ " + fmt.Sprintf(format, limit)
	}
	if v, ok := all.median(name, unit); ok {
		g.got, g.met = fmt.Sprintf(format, v), v <= limit && !atLeast || v >= limit && atLeast
	}
	return g
}
