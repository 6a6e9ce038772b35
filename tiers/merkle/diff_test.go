package merkle_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/edgenode/edgenode/tiers/merkle"
)

// differences returns what Diff finds, by id, and what it took.
func differences(t testing.TB, mine, theirs merkle.Peer, o merkle.DiffOptions) (map[string]merkle.Difference, merkle.DiffStats) {
	t.Helper()
	found := map[string]merkle.Difference{}
	stats, err := merkle.Diff(context.Background(), mine, theirs, o, func(d merkle.Difference) error {
		if _, twice := found[string(d.ID)]; twice {
			t.Errorf("%q is found twice", d.ID)
		}
		found[string(d.ID)] = d
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if stats.Differences != len(found) || stats.Moved != 0 {
		t.Errorf("%d differences, %+v", len(found), stats)
	}
	return found, stats
}

// setDifference is what Diff must find.
func setDifference(mine, theirs *source, path string) map[string]merkle.Difference {
	want := map[string]merkle.Difference{}
	for _, s := range []*source{mine, theirs} {
		for id := range s.items {
			a, inA := mine.items[id]
			b, inB := theirs.items[id]
			if (inA != inB || a != b) && strings.HasPrefix(id, path) {
				want[id] = merkle.Difference{Leaf: true, HasMine: inA, HasTheirs: inB, Mine: a, Theirs: b}
			}
		}
	}
	return want
}

func same(t testing.TB, got, want map[string]merkle.Difference) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%d differences, want %d", len(got), len(want))
	}
	for id, d := range got {
		d.ID = nil
		if w := want[id]; d.Leaf != w.Leaf || d.HasMine != w.HasMine || d.HasTheirs != w.HasTheirs || d.Mine != w.Mine || d.Theirs != w.Theirs {
			t.Errorf("%q: %+v, want %+v", id, d, w)
		}
	}
}

// C22: the difference of two trees is that of the sets, both ways.
func TestC22_DiffIsTheSetDifference(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		a, b := newSource(), newSource()
		count := rapid.IntRange(0, 150).Draw(r, "count")
		wide := rapid.IntRange(1, 300).Draw(r, "wide")
		for range count {
			id := ids().Draw(r, "id")
			if rapid.Bool().Draw(r, "numbered") {
				id = fmt.Sprintf("shop/%d", rapid.IntRange(0, wide).Draw(r, "number"))
			}
			if where := rapid.IntRange(0, 9).Draw(r, "where"); where == 0 {
				a.put(id, 1)
			} else if where == 1 {
				b.put(id, 1)
			} else {
				a.put(id, 2)
				b.put(id, 2)
			}
		}
		left, _ := built(t, a)
		right, _ := built(t, b)
		for _, path := range []string{"", "shop/", "a."} {
			o := merkle.DiffOptions{Path: []byte(path)}
			got, _ := differences(t, left, right, o)
			same(t, got, setDifference(a, b, path))
			got, _ = differences(t, right, left, o)
			same(t, got, setDifference(b, a, path))
		}
		if t.Failed() {
			r.FailNow()
		}
	})
}

// C17: one leaf at depth five differs: it is found, in a round trip for each row
// on the way.
func TestC17_OneLeaf(t *testing.T) {
	a, b := newSource(), newSource()
	for i := range 4000 {
		id := fmt.Sprintf("uk.nhs.%d/ward:%d.bed", i%10, i)
		a.put(id, 1)
		b.put(id, 1)
	}
	left, _ := built(t, a)
	right, _ := built(t, b)
	got, stats := differences(t, left, right, merkle.DiffOptions{})
	if len(got) != 0 || stats.RoundTrips != 1 || stats.Rows != 0 {
		t.Errorf("equal trees: %d differences, %+v", len(got), stats)
	}
	b.put("uk.nhs.3/ward:1233.bed", 2)
	settle(t, right)
	got, stats = differences(t, left, right, merkle.DiffOptions{})
	same(t, got, setDifference(a, b, ""))
	if stats.Rows > 9 || stats.RoundTrips > 10 || stats.Hashes > 9*16 {
		t.Errorf("one leaf took %+v", stats)
	}
	t.Logf("one of 4000 leaves at depth 5: %+v", stats)
}

// Many differences take no more round trips than a few, as long as they are few.
func TestDiffCost(t *testing.T) {
	a, b := newSource(), newSource()
	for i := range 20_000 {
		id := fmt.Sprintf("shop/%d", i)
		a.put(id, 1)
		b.put(id, 1)
	}
	for i := range 50 {
		b.put(fmt.Sprintf("shop/%d", i*397), 2)
	}
	left, _ := built(t, a)
	right, _ := built(t, b)
	got, stats := differences(t, left, right, merkle.DiffOptions{})
	same(t, got, setDifference(a, b, ""))
	if stats.RoundTrips > 8 || stats.Rows > 50*5 {
		t.Errorf("50 of 20,000 took %+v", stats)
	}
	t.Logf("50 of 20,000: %+v", stats)

	empty, _ := built(t, newSource())
	got, stats = differences(t, left, empty, merkle.DiffOptions{})
	if len(got) != 20_000 || stats.Rows != 0 {
		t.Errorf("against nothing: %d, %+v", len(got), stats)
	}
	got, stats = differences(t, empty, left, merkle.DiffOptions{Limit: 30})
	if len(got) != 30 || !stats.Truncated {
		t.Errorf("with a limit: %d, %+v", len(got), stats)
	}
}

// Drilling down: what differs right below a path, branch by branch.
func TestDrillDown(t *testing.T) {
	a, b := newSource(), newSource()
	for i := range 500 {
		id := fmt.Sprintf("uk.%d.x", i)
		a.put(id, 1)
		b.put(id, 1)
	}
	b.put("uk.77.x", 2)
	b.put("us.new", 1)
	a.put("only", 1)
	left, _ := built(t, a)
	right, _ := built(t, b)
	f := func(path string, want ...string) {
		t.Helper()
		got, _ := differences(t, left, right, merkle.DiffOptions{Path: []byte(path), Shallow: true})
		if len(got) != len(want) {
			t.Errorf("below %q: %v, want %q", path, got, want)
		}
		for _, w := range want {
			if d, ok := got[w]; !ok || d.Leaf == strings.HasSuffix(w, ".") {
				t.Errorf("below %q: %q is %+v, %v", path, w, d, ok)
			}
		}
	}
	f("", "uk.", "us.", "only")
	f("uk.", "uk.77.")
	f("uk.77.", "uk.77.x")
	f("uk.78.")
	f("none/")
	_, err := merkle.Diff(context.Background(), left, right, merkle.DiffOptions{Path: []byte("uk")}, nil)
	if !errors.Is(err, merkle.ErrBadPath) {
		t.Errorf("Diff of no branch = %v", err)
	}
}

// A peer answers as its functions do.
type peer struct {
	merkle.Peer
	head func(merkle.Head) merkle.Head
	rows func([][]byte) [][]byte
}

func (p peer) Head(ctx context.Context) (merkle.Head, error) {
	h, err := p.Peer.Head(ctx)
	if p.head != nil {
		h = p.head(h)
	}
	return h, err
}

func (p peer) Rows(ctx context.Context, keys []string) ([][]byte, error) {
	rows, err := p.Peer.Rows(ctx, keys)
	if p.rows != nil {
		rows = p.rows(rows)
	}
	return rows, err
}

// Answers of another format, and answers that fit no tree, are not taken for
// differences.
func TestPeers(t *testing.T) {
	a, b := newSource(), newSource()
	for i := range 100 {
		a.put(fmt.Sprintf("shop/%d", i), 1)
		b.put(fmt.Sprintf("shop/%d", i), 2)
	}
	left, _ := built(t, a)
	right, _ := built(t, b)
	f := func(p peer, want error) {
		t.Helper()
		p.Peer = right
		_, err := left.Diff(context.Background(), p, merkle.DiffOptions{}, func(merkle.Difference) error { return nil })
		if !errors.Is(err, want) {
			t.Errorf("Diff = %v, want %v", err, want)
		}
	}
	f(peer{head: func(h merkle.Head) merkle.Head { h.Format = 2; return h }}, merkle.ErrCannotCompare)
	f(peer{head: func(h merkle.Head) merkle.Head { h.Known = false; return h }}, merkle.ErrUnknown)
	f(peer{rows: func(r [][]byte) [][]byte { return r[:0] }}, merkle.ErrBadPeer)
	f(peer{rows: func(r [][]byte) [][]byte { return [][]byte{{1, 1, 0, 0}} }}, merkle.ErrBadPeer)
	f(peer{}, nil)
	if _, err := right.Rows(context.Background(), []string{""}); !errors.Is(err, merkle.ErrBadPath) {
		t.Errorf("the state was given away: %v", err)
	}

	moved := 0
	stats, err := merkle.Diff(context.Background(), left, peer{Peer: right, rows: func(r [][]byte) [][]byte {
		if moved++; moved == 2 { // the row was deleted meanwhile
			for i := range r {
				r[i] = nil
			}
		}
		return r
	}}, merkle.DiffOptions{}, func(merkle.Difference) error { return nil })
	if err != nil || stats.Moved == 0 {
		t.Errorf("a tree that moves: %+v, %v", stats, err)
	}
}

// FuzzDiff compares with a peer whose rows are any bytes.
func FuzzDiff(f *testing.F) {
	src := newSource()
	for i := range 40 {
		src.put(fmt.Sprintf("shop/%d", i), 1)
	}
	tree, s := built(f, src)
	for k, v := range s.rows {
		if k != "" {
			f.Add(v)
		}
	}
	f.Add([]byte{1, 2, 255, 255})
	f.Fuzz(func(t *testing.T, row []byte) {
		p := peer{Peer: tree, head: func(h merkle.Head) merkle.Head { h.Hash[0]++; return h }, rows: func(r [][]byte) [][]byte {
			for i := range r {
				r[i] = bytes.Clone(row)
			}
			return r
		}}
		_, _ = merkle.Diff(context.Background(), tree, p, merkle.DiffOptions{Limit: 1000}, func(merkle.Difference) error { return nil })
	})
}
