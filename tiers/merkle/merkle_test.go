package merkle_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/VictoriaMetrics/metrics"
	"pgregory.net/rapid"

	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/merkle"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// Vectors: what nodes of other versions compute must be the same to the byte.
func TestVectors(t *testing.T) {
	var b strings.Builder
	it := sample()
	view := func() item.View { return item.View(it.AppendTo(nil)) }
	fmt.Fprintf(&b, "leaf %s\n", merkle.LeafOf(view()))
	it = item.Item{Kind: item.KindPut, Key: item.AppendKey(nil, item.NamespaceItem, "k"), Version: 1, ContentVersion: 1}
	it.Seal()
	fmt.Fprintf(&b, "leaf of an empty item k %s\n", merkle.LeafOf(view()))

	src := newSource()
	add := func(name string, ids ...string) {
		for _, id := range ids {
			src.put(id, 1)
		}
		tree, s := built(t, src)
		fmt.Fprintf(&b, "root %s %s\n", name, settle(t, tree).Hash)
		var keys []string
		for k := range s.rows {
			keys = append(keys, k)
		}
		slices.Sort(keys)
		for _, k := range keys[:min(len(keys), 6)] {
			fmt.Fprintf(&b, "row %q\n%s", k, hex.Dump(s.rows[k]))
		}
	}
	add("one", "a")
	add("both", "uk", "uk.", "uk.nhs", "uk.nhsx", "uk..", "a/b:c", ":")
	for i := range 20 {
		src.put(fmt.Sprintf("shop/%d", i), 1)
	}
	add("fan")
	add("deep", strings.Repeat("x.", 100)+"y", strings.Repeat(".", 1024))

	const name = "testdata/vectors-1.txt"
	if *update {
		if err := os.WriteFile(name, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if b.String() != string(want) {
		t.Errorf("the format has changed, which needs a new number:\n%s", b.String())
	}
}

// What makes a leaf, and what does not.
func TestLeaf(t *testing.T) {
	it := sample()
	base := merkle.LeafOf(item.View(it.AppendTo(nil)))
	f := func(name string, differs bool, edit func(it *item.Item)) {
		t.Helper()
		it := sample()
		edit(&it)
		if got := merkle.LeafOf(item.View(it.AppendTo(nil))) != base; got != differs {
			t.Errorf("%s: differs = %v, want %v", name, got, differs)
		}
	}
	f("version", true, func(it *item.Item) { it.Version++ })
	f("content", true, func(it *item.Item) { it.Content = nil; it.Seal() })
	f("state", true, func(it *item.Item) { it.State = "" })
	f("tags", true, func(it *item.Item) { it.Tags = []string{"a"} })
	f("two tags in one", true, func(it *item.Item) { it.Tags = []string{"ab"} })
	f("MIME", true, func(it *item.Item) { it.MIME = "" })
	f("expiry", true, func(it *item.Item) { it.ExpiresAt = 0 })
	f("response", true, func(it *item.Item) { it.Response = nil })
	f("order of tags", false, func(it *item.Item) { slices.Reverse(it.Tags) })
	f("accesses", false, func(it *item.Item) { it.AccessCount, it.LastAccessed = 100, 5 })
	f("home", false, func(it *item.Item) { it.HomeInstance, it.TraceParent, it.BatchID = "x", "y", "z" })
	f("lifetimes of copies", false, func(it *item.Item) { it.L1TTL, it.L2TTL, it.Tiers = 1, 2, item.L3 })
}

// ids draws ids that are prefixes of each other, with empty segments.
func ids() *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		n := rapid.IntRange(1, 6).Draw(t, "n")
		var b strings.Builder
		for range n {
			b.WriteString(rapid.SampledFrom([]string{"a", "b", "ab", ".", "/", ":", ";", "..", "é"}).Draw(t, "piece"))
		}
		return b.String()
	})
}

// C15: trees of any ids and histories are those of the reference.
func TestC15_Reference(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		src, s := newSource(), newStore()
		tree := open(t, s, src, func(o *merkle.Options) {
			o.BatchItems = rapid.IntRange(1, 40).Draw(r, "batch")
			o.CacheRows = rapid.SampledFrom([]int{-1, 3, 4096}).Draw(r, "cache")
		})
		wide := rapid.IntRange(1, 200).Draw(r, "wide")
		for range rapid.IntRange(0, 120).Draw(r, "operations") {
			id := ids().Draw(r, "id")
			if rapid.Bool().Draw(r, "numbered") {
				id = fmt.Sprintf("shop/%d", rapid.IntRange(0, wide).Draw(r, "number"))
			}
			switch rapid.IntRange(0, 9).Draw(r, "operation") {
			case 0, 1, 2, 3, 4:
				src.put(id, rapid.IntRange(0, 3).Draw(r, "value"))
			case 5, 6, 7:
				src.remove(id)
			case 8:
				if _, err := tree.Step(context.Background()); err != nil {
					r.Fatal(err)
				}
			case 9:
				for _, id := range slices.Sorted(keysOf(src.items)) {
					if strings.HasPrefix(id, "shop/") {
						src.remove(id)
					}
				}
			}
		}
		h := settle(t, tree)
		want, ok := reference(src.items)
		if h.Exists != ok || ok && h.Hash != want || h.Leaves != uint64(len(src.items)) {
			r.Fatalf("%+v, want %v %s", h, ok, want)
		}
		again, fresh := built(t, src)
		if h.Hash != settle(t, again).Hash || len(fresh.rows) != len(s.rows) {
			r.Fatalf("%d rows by history, %d rows from scratch", len(s.rows), len(fresh.rows))
		}
		for k, v := range fresh.rows {
			if k != "" && !bytes.Equal(v, s.rows[k]) {
				r.Fatalf("row %q depends on the history", k)
			}
		}
	})
}

func keysOf(m map[string]merkle.Hash) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// C12: a writer comes while a step stands between reading the row and writing the
// node. In the end the leaf is that of the last content.
func TestC12_WriterDuringAStep(t *testing.T) {
	src, s := newSource(), newStore()
	tree := open(t, s, src)
	src.put("k", 1)
	settle(t, tree)
	src.put("k", 2)
	src.onLeaves = func() { src.put("k", 3) }
	settle(t, tree) // up to what was there when it read the changes
	expect(t, tree, src)
	src.put("k", 4)
	s.onCommit = func() { src.put("k", 5); src.remove("k"); src.put("k", 6) }
	settle(t, tree)
	expect(t, tree, src)
}

// C14: the power goes at each call of the store, before or after the commit. The
// root is that from scratch.
func TestC14_CrashAnywhere(t *testing.T) {
	points := 200
	if soak {
		points = 5000
	}
	src, s := newSource(), newStore()
	for i := range 300 {
		src.put(fmt.Sprintf("shop/%d", i), 0)
	}
	for n := range points {
		s.cutAt, s.kept = 1+n%23, n%2 == 0
		tree := open(t, s, src)
		if n%37 == 5 {
			src.trimmed = uint64(len(src.log)) // a build from scratch, cut too
		}
		for i := range 40 {
			src.put(fmt.Sprintf("shop/%d", (n*31+i*7)%400), n)
			src.remove(fmt.Sprintf("shop/%d", (n*17+i*11)%400))
			src.put(fmt.Sprintf("x.%d.%d", i%3, n%20), n)
		}
		var err error
		for more := true; more && err == nil; {
			more, err = tree.Step(context.Background())
		}
		if err != nil && !errors.Is(err, errCut) {
			t.Fatalf("point %d: %v", n, err)
		}
		s.cutAt, s.kept = 0, false
		if n%10 == 9 {
			expect(t, open(t, s, src), src)
		}
	}
	expect(t, open(t, s, src), src)
}

// Several nodes calculate at once: some lose steps, none does harm.
func TestSeveralNodes(t *testing.T) {
	src, s := newSource(), newStore()
	done := make(chan struct{})
	writer := make(chan struct{})
	go func() {
		defer close(writer)
		for i := range 3000 {
			src.put(fmt.Sprintf("shop/%d", i*7%900), i)
			if i%3 == 0 {
				src.remove(fmt.Sprintf("shop/%d", i%900))
			}
			if i == 1500 {
				src.mu.Lock()
				src.trimmed = uint64(len(src.log))
				src.mu.Unlock()
			}
		}
	}()
	for range 3 {
		tree := open(t, s, src, func(o *merkle.Options) { o.BatchItems = 20 })
		go func() {
			defer func() { done <- struct{}{} }()
			for {
				more, err := tree.Step(context.Background())
				if err != nil {
					t.Errorf("step: %v", err)
					return
				}
				select {
				case <-writer:
					if !more {
						return
					}
				default:
				}
			}
		}()
	}
	for range 3 {
		<-done
	}
	expect(t, open(t, s, src), src)
}

// A step that was overtaken writes nothing, and the next one goes on.
func TestOvertaken(t *testing.T) {
	src, s := newSource(), newStore()
	a, b := open(t, s, src), open(t, s, src)
	src.put("k", 1)
	settle(t, a)
	settle(t, b)
	src.put("k", 2)
	s.onCommit = func() {
		src.put("l", 1)
		settle(t, b)
	}
	if more, err := a.Step(context.Background()); err != nil || !more {
		t.Errorf("overtaken step = %v, %v", more, err)
	}
	expect(t, a, src)
}

// Changes that are gone, rows that are missing, and rows of another format lead
// to a build from scratch, during which nothing is said.
func TestRebuild(t *testing.T) {
	src, s := newSource(), newStore()
	for i := range 500 {
		src.put(fmt.Sprintf("shop/%d", i), 1)
	}
	tree := open(t, s, src)
	expect(t, tree, src)
	src.put("later", 1)
	src.put("later", 2)
	src.trimmed = uint64(len(src.log)) - 1
	if _, err := tree.Step(context.Background()); err != nil {
		t.Fatal(err)
	}
	unknown := func() {
		t.Helper()
		if h, err := tree.Head(context.Background()); err != nil || h.Known || h.Exists {
			t.Errorf("Head during a build = %+v, %v", h, err)
		}
		if err := tree.Children(context.Background(), nil, nil, 9, nil); !errors.Is(err, merkle.ErrUnknown) {
			t.Errorf("Children during a build = %v", err)
		}
		if _, _, err := tree.Dirty(context.Background(), nil, 9); !errors.Is(err, merkle.ErrUnknown) {
			t.Errorf("Dirty during a build = %v", err)
		}
		if _, err := merkle.Diff(context.Background(), tree, tree, merkle.DiffOptions{}, nil); !errors.Is(err, merkle.ErrUnknown) {
			t.Errorf("Diff during a build = %v", err)
		}
	}
	unknown()
	expect(t, tree, src)

	for k := range s.rows {
		if strings.HasPrefix(k, "shop/") && len(k) > len("shop/")+1 {
			delete(s.rows, k) // lost
		}
	}
	src.put("shop/1", 9)
	for i := range 20 {
		src.put(fmt.Sprintf("shop/%d", i), 9)
	}
	if _, err := open(t, s, src).Step(context.Background()); !errors.Is(err, merkle.ErrCorrupt) {
		t.Errorf("step over missing rows = %v", err)
	}
	if err := tree.Rebuild(context.Background()); err != nil {
		t.Fatal(err)
	}
	unknown()
	expect(t, tree, src)

	s.rows[""][0] = 9
	expect(t, open(t, s, src), src)
	s.rows[""] = []byte{1, 2}
	if _, err := tree.Step(context.Background()); !errors.Is(err, merkle.ErrCorrupt) {
		t.Errorf("step over half a state = %v", err)
	}
}

func TestChildren(t *testing.T) {
	src := newSource()
	want := map[string]bool{"": true}
	src.put("shop/", 1)
	for i := range 300 {
		src.put(fmt.Sprintf("shop/%d", i), 1)
		src.put(fmt.Sprintf("shop/%d.x", i), 1)
		want[fmt.Sprint(i)], want[fmt.Sprintf("%d.", i)] = true, true
	}
	tree, _ := built(t, src)
	got := map[string]bool{}
	var after []byte
	for {
		n := 0
		err := tree.Children(context.Background(), []byte("shop/"), after, 7, func(c merkle.Child) error {
			n++
			if got[string(c.Segment)] || c.Leaf == strings.HasSuffix(string(c.Segment), ".") || c.Leaves != 1 {
				t.Errorf("child %+v", c)
			}
			got[string(c.Segment)] = true
			after = append([]byte{}, c.Segment...)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if n < 7 {
			break
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d children, want %d", len(got), len(want))
	}
	for k := range want {
		if !got[k] {
			t.Errorf("no child %q", k)
		}
	}
	failed := tree.Children(context.Background(), nil, nil, 9, func(merkle.Child) error { return errCut })
	if !errors.Is(failed, errCut) {
		t.Errorf("error of fn = %v", failed)
	}
}

// C18: a branch holds what begins with its path, and the path ends with its
// separator.
func TestC18_Boundaries(t *testing.T) {
	src := newSource()
	for _, id := range []string{"uk", "uk.nhs", "uk.nhs.", "uk.nhs.a", "uk.nhs/a", "uk.nhsx", "uk.nhsx.a", "uk.nh"} {
		src.put(id, 1)
	}
	tree, _ := built(t, src)
	f := func(path string, leaves uint64) {
		t.Helper()
		h, err := tree.Branch(context.Background(), []byte(path))
		if err != nil || h.Leaves != leaves || h.Exists != (leaves > 0) {
			t.Errorf("Branch(%q) = %+v, %v, want %d items", path, h, err, leaves)
		}
	}
	f("", 8)
	f("uk.", 7)
	f("uk.nhs.", 2) // uk.nhs. and uk.nhs.a
	f("uk.nhs/", 1)
	f("uk.nhsx.", 1)
	f("uk/", 0)
	for _, path := range []string{"uk.nhs", "x", strings.Repeat(".", 64)} {
		if _, err := tree.Branch(context.Background(), []byte(path)); !errors.Is(err, merkle.ErrBadPath) {
			t.Errorf("Branch(%q) = %v, want ErrBadPath", path, err)
		}
	}
}

func TestDirty(t *testing.T) {
	src, s := newSource(), newStore()
	tree := open(t, s, src)
	settle(t, tree)
	for i := range 200 {
		src.put(fmt.Sprintf("a.%d", i%60), i)
		src.put("b/x", i)
	}
	src.log = append(src.log, "") // a rule
	f := func(path string, limit, want int, wantExact bool) {
		t.Helper()
		n, exact, err := tree.Dirty(context.Background(), []byte(path), limit)
		if err != nil || n != want || exact != wantExact {
			t.Errorf("Dirty(%q, %d) = %d, %v, %v, want %d, %v", path, limit, n, exact, err, want, wantExact)
		}
	}
	f("", 10_000, 61, true)
	f("a.", 10_000, 60, true)
	f("b/", 10_000, 1, true)
	f("c:", 10_000, 0, true)
	f("a.", 20, 10, false)
	counts, exact, err := tree.DirtyBranches(context.Background(), 10_000)
	if err != nil || !exact || len(counts) != 2 || counts["a."] != 60 || counts["b/"] != 1 {
		t.Errorf("DirtyBranches = %v, %v, %v", counts, exact, err)
	}
	settle(t, tree)
	f("", 10_000, 0, true)
}

// D15: the rows of one update do not grow with the siblings but for their
// logarithm.
func TestD15_CostOfAnUpdate(t *testing.T) {
	siblings := []int{100, 20_000}
	if soak {
		siblings = append(siblings, 1_000_000)
	}
	for _, n := range siblings {
		src, s := newSource(), newStore()
		for i := range n {
			src.put(fmt.Sprintf("uk.shop/%d", i), 1)
		}
		tree := open(t, s, src, func(o *merkle.Options) { o.BatchItems, o.CacheRows = 10_000, -1 })
		settle(t, tree)
		s.reads, s.writes = 0, 0
		const updates = 50
		for i := range updates {
			src.put(fmt.Sprintf("uk.shop/%d", i), 2)
			if _, err := tree.Step(context.Background()); err != nil {
				t.Fatal(err)
			}
		}
		depth := 3 // the state, the root, uk.
		for most := 16; most < n*2; most *= 16 {
			depth++
		}
		t.Logf("%d siblings: %.1f rows read, %.1f written per update", n, float64(s.reads)/updates, float64(s.writes)/updates)
		if s.reads > updates*(depth+1) || s.writes > updates*depth {
			t.Errorf("%d siblings: %d rows read and %d written for %d updates, want at most %d for each", n, s.reads, s.writes, updates, depth)
		}
	}
}

func TestOptionsAndMetrics(t *testing.T) {
	_, err := merkle.New(merkle.Options{BatchItems: -1})
	if err == nil || !strings.Contains(err.Error(), "Store") || !strings.Contains(err.Error(), "BatchItems") {
		t.Errorf("bad options: %v", err)
	}
	set := metrics.NewSet()
	src, s := newSource(), newStore()
	tree := open(t, s, src, func(o *merkle.Options) { o.Metrics = set })
	src.put("k", 1)
	settle(t, tree)
	src.put("k", 2)
	settle(t, tree)
	var b strings.Builder
	set.WritePrometheus(&b)
	for _, want := range []string{"edgenode_merkle_rebuilds_total 1", "edgenode_merkle_changes_total 1", "edgenode_merkle_applied_sequence 2"} {
		if !strings.Contains(b.String(), want+"\n") {
			t.Errorf("no %s in\n%s", want, b.String())
		}
	}
	tree.Close()
	if names := set.ListMetricNames(); len(names) != 0 {
		t.Errorf("after Close: %v", names)
	}
	ctx, cancel := context.WithCancel(context.Background())
	src.put("k", 3)
	src.onLeaves = func() {
		cancel()
		if _, err := tree.Step(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("a second step beside the first = %v", err)
		}
	}
	settle(t, tree)
}
