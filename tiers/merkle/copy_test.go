package merkle_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/edgenode/edgenode/tiers/merkle"
)

// A copyStore is rows in memory that can be dropped.
type copyStore struct {
	*store
	onRead func() // called before each read
}

func newCopy() *copyStore { return &copyStore{store: newStore()} }

func (s *copyStore) Rows(ctx context.Context, keys []string) ([][]byte, error) {
	if s.onRead != nil {
		s.onRead()
	}
	return s.store.Rows(ctx, keys)
}

func (s *copyStore) Drop(context.Context) error {
	clear(s.rows)
	return nil
}

// copied copies until nothing moves, and compares all rows.
func copied(t testing.TB, from *store, to *copyStore) merkle.CopyStats {
	t.Helper()
	stats, err := merkle.Copy(context.Background(), from, to, merkle.CopyOptions{})
	if err != nil || stats.Moved != 0 {
		t.Fatalf("Copy = %+v, %v", stats, err)
	}
	a, b := maps.Clone(from.rows), maps.Clone(to.rows)
	delete(a, "")
	delete(b, "")
	if !maps.EqualFunc(a, b, bytes.Equal) {
		t.Fatalf("the copy has %d rows of %d, or others", len(b), len(a))
	}
	return stats
}

// C16 (the rows): whatever the ids were and are, the copy has the rows of the tree
// and no others; also after a copy that the power ended.
func TestC16_CopyIsTheTree(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		src, to := newSource(), newCopy()
		tree, from := built(t, src)
		wide := rapid.IntRange(1, 300).Draw(r, "wide")
		for range rapid.IntRange(1, 6).Draw(r, "rounds") {
			for range rapid.IntRange(0, 60).Draw(r, "changes") {
				id := ids().Draw(r, "id")
				if rapid.Bool().Draw(r, "numbered") {
					id = fmt.Sprintf("shop/%d", rapid.IntRange(0, wide).Draw(r, "number"))
				}
				if rapid.IntRange(0, 2).Draw(r, "remove") == 0 {
					src.remove(id)
				} else {
					src.put(id, rapid.IntRange(0, 3).Draw(r, "n"))
				}
			}
			settle(t, tree)
			if rapid.IntRange(0, 3).Draw(r, "cut") == 0 {
				to.cutAt, to.kept = rapid.IntRange(1, 9).Draw(r, "cut at"), rapid.Bool().Draw(r, "kept")
				if _, err := merkle.Copy(context.Background(), from, to, merkle.CopyOptions{}); err != nil && !errors.Is(err, errCut) {
					t.Fatal(err)
				}
				to.cutAt = 0
				continue
			}
			copied(t, from, to)
		}
		copied(t, from, to)
		proves(t, to, headOf(t, tree), src)
	})
}

func headOf(t testing.TB, tree *merkle.Tree) merkle.Head {
	t.Helper()
	h, err := tree.Head(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// proves asks for all ids, and some that are not there.
func proves(t testing.TB, to *copyStore, h merkle.Head, src *source) {
	t.Helper()
	want := map[string]merkle.Hash{}
	var all [][]byte
	for id, leaf := range src.items {
		want[id] = leaf
		all = append(all, []byte(id), []byte(id+"/none"))
	}
	all = append(all, []byte("nobody"), []byte("shop/none"), []byte(""))
	got := 0
	err := merkle.NewProof(to, h.Branch, 20).Leaves(context.Background(), all, func(i int, v merkle.Verdict, leaf merkle.Hash) {
		got++
		truth, there := want[string(all[i])]
		if there != (v == merkle.Present) || leaf != truth || v == merkle.Unproven {
			t.Errorf("%q: verdict %d, leaf %s; there %v, leaf %s", all[i], v, leaf, there, truth)
		}
	})
	if err != nil || got != len(all) {
		t.Errorf("%d answers to %d ids, %v", got, len(all), err)
	}
}

// A large tree goes over in many commits; what differs later in few reads. A part
// that was left half done is finished.
func TestCopyInParts(t *testing.T) {
	src := newSource()
	for i := range 5000 {
		src.put(fmt.Sprintf("shop.%d/%d", i%70, i), 1)
	}
	tree, from := built(t, src)
	to := newCopy()
	to.cutAt = 80
	if _, err := merkle.Copy(context.Background(), from, to, merkle.CopyOptions{}); !errors.Is(err, errCut) {
		t.Fatalf("Copy = %v", err)
	}
	if h, err := merkle.CopyHead(context.Background(), to, nil); err == nil || h.Known {
		t.Errorf("CopyHead without power = %+v, %v", h, err)
	}
	to.cutAt = 0
	if h, err := merkle.CopyHead(context.Background(), to, nil); err != nil || h.Known || len(to.rows) == 0 {
		t.Errorf("half a copy has head %+v, %v, with %d rows", h, err, len(to.rows))
	}
	copied(t, from, to)
	src.put("shop.7/77", 2)
	src.remove("shop.8/8")
	settle(t, tree)
	stats := copied(t, from, to)
	if stats.Read > 150 || stats.Written > 20 {
		t.Errorf("two changes took %+v", stats)
	}
	if again := copied(t, from, to); again.Read != 1 || again.Written != 0 {
		t.Errorf("nothing to do took %+v", again)
	}
	if h, err := merkle.CopyHead(context.Background(), to, []byte("shop.")); err != nil || !h.Known || h.Leaves != 4999 || h.Seq != headOf(t, tree).Seq {
		t.Errorf("CopyHead = %+v, %v", h, err)
	}
	t.Logf("two of 5000 leaves: %+v", stats)
}

// What the tree does while it is copied is fetched by the next call, also if it is
// undone meanwhile; until then nothing false is proven.
func TestCopyOfAMovingTree(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		src, to := newSource(), newCopy()
		for i := range rapid.IntRange(0, 400).Draw(r, "items") {
			src.put(fmt.Sprintf("a.%d/%d", i%20, i), 1)
		}
		tree, from := built(t, src)
		if rapid.Bool().Draw(r, "copied before") {
			copied(t, from, to)
		}
		moves := rapid.SliceOfN(rapid.IntRange(0, 500), 0, 6).Draw(r, "moves")
		for range 3 {
			src.put(fmt.Sprintf("a.%d/%d", 3, rapid.IntRange(0, 500).Draw(r, "id")), 2)
			settle(t, tree)
			undo := moves
			to.onRead = func() { // once per read of the copy
				if len(undo) == 0 {
					return
				}
				id := fmt.Sprintf("a.%d/%d", undo[0]%20, undo[0])
				if _, ok := src.items[id]; ok && undo[0]%2 == 0 {
					src.remove(id)
				} else {
					src.put(id, 1)
				}
				undo = undo[1:]
				settle(t, tree)
			}
			if _, err := merkle.Copy(context.Background(), from, to, merkle.CopyOptions{}); err != nil {
				t.Fatal(err)
			}
			to.onRead = nil
			for _, m := range slices.Backward(moves) {
				id := fmt.Sprintf("a.%d/%d", m%20, m)
				if _, ok := src.items[id]; ok {
					src.remove(id)
				} else {
					src.put(id, 1)
				}
			}
			settle(t, tree)
		}
		trueAtLeast(t, to, headOf(t, tree), src)
		copied(t, from, to)
	})
}

// trueAtLeast asks a copy that may be behind: what it proves is so.
func trueAtLeast(t testing.TB, to *copyStore, h merkle.Head, src *source) {
	t.Helper()
	var all [][]byte
	for i := range 501 {
		all = append(all, fmt.Appendf(nil, "a.%d/%d", i%20, i))
	}
	err := merkle.NewProof(to, h.Branch, 1000).Leaves(context.Background(), all, func(i int, v merkle.Verdict, leaf merkle.Hash) {
		truth, there := src.items[string(all[i])]
		if v != merkle.Unproven && (there != (v == merkle.Present) || leaf != truth) {
			t.Errorf("%q: verdict %d, leaf %s; there %v, leaf %s", all[i], v, leaf, there, truth)
		}
	})
	if err != nil {
		t.Error(err)
	}
}

// Rows that somebody has damaged, taken away or brought from elsewhere prove nothing.
func TestProofBelievesHashesOnly(t *testing.T) {
	src := newSource()
	for i := range 600 {
		src.put(fmt.Sprintf("a.%d/%d", i%20, i), 1)
	}
	tree, from := built(t, src)
	for name, harm := range map[string]func(to *copyStore, key string){
		"gone":      func(to *copyStore, key string) { delete(to.rows, key) },
		"truncated": func(to *copyStore, key string) { to.rows[key] = to.rows[key][:len(to.rows[key])-1] },
		"other":     func(to *copyStore, key string) { to.rows[key][len(to.rows[key])-20] ^= 1 },
	} {
		to := newCopy()
		copied(t, from, to)
		n := 0
		for key := range to.rows {
			if n++; key != "" && n%5 == 0 {
				harm(to, key)
			}
		}
		if trueAtLeast(t, to, headOf(t, tree), src); t.Failed() {
			t.Fatal(name)
		}
	}
}

// Bounds and states are respected, and another writer is noticed.
func TestCopyRefuses(t *testing.T) {
	ctx := context.Background()
	src := newSource()
	for i := range 30 {
		src.put(fmt.Sprint(i), 1)
	}
	_, from := built(t, src)
	to := newCopy()
	f := func(o merkle.CopyOptions, want error) {
		t.Helper()
		if _, err := merkle.Copy(ctx, from, to, o); !errors.Is(err, want) {
			t.Errorf("Copy(%+v) = %v, want %v", o, err, want)
		}
	}
	f(merkle.CopyOptions{MaxItems: 29}, merkle.ErrTooMany)
	f(merkle.CopyOptions{Known: true}, merkle.ErrUnknown)
	if len(to.rows) != 0 {
		t.Errorf("%d rows after a refusal", len(to.rows))
	}
	to.onCommit = func() { to.rows[""] = []byte("another") }
	f(merkle.CopyOptions{}, merkle.ErrMoved)
	copied(t, from, to) // drops what is of nobody
	f(merkle.CopyOptions{Known: true, MaxItems: 30}, nil)
	empty := newStore()
	if _, err := merkle.Copy(ctx, empty, to, merkle.CopyOptions{}); !errors.Is(err, merkle.ErrUnknown) {
		t.Errorf("Copy of no tree = %v", err)
	}
}
