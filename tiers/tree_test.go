package tiers_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/edgenode/edgenode/tiers"
	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/l3"
	"github.com/edgenode/edgenode/tiers/merkle"
	"github.com/edgenode/edgenode/tiers/tiertest/mariadbtest"
)

// A treeFault is a real L3 with seams in what the tree asks of it.
type treeFault struct {
	*l3.Store
	onHeads func() // after the rows were read

	mu     sync.Mutex
	cutAt  int  // the call, counted down, from which on all fail; 0 is never
	commit bool // the commit that is cut has happened
	cut    bool
}

func (f *treeFault) wrap(real tiers.Store) tiers.Store { f.Store = real.(*l3.Store); return f }

var errTreeCut = fmt.Errorf("%w: the power is gone", l3.ErrUnavailable)

func (f *treeFault) dead() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.cutAt > 0 {
		f.cutAt--
		f.cut = f.cut || f.cutAt == 0
	}
	return f.cut
}

func (f *treeFault) MerkleRows(ctx context.Context, keys []string) ([][]byte, error) {
	if f.dead() {
		return nil, errTreeCut
	}
	return f.Store.MerkleRows(ctx, keys)
}

func (f *treeFault) MerkleCommit(ctx context.Context, b l3.MerkleBatch) error {
	if f.dead() {
		if f.commit {
			f.commit = false
			_ = f.Store.MerkleCommit(ctx, b)
		}
		return errTreeCut
	}
	return f.Store.MerkleCommit(ctx, b)
}

func (f *treeFault) MerkleClear(ctx context.Context, was []byte, limit int) (int, error) {
	if f.dead() {
		return 0, errTreeCut
	}
	return f.Store.MerkleClear(ctx, was, limit)
}

func (f *treeFault) Heads(ctx context.Context, keys []item.Key, fn func(i int, v item.View) error) error {
	if f.dead() {
		return errTreeCut
	}
	err := f.Store.Heads(ctx, keys, fn)
	if hook := f.onHeads; hook != nil {
		f.onHeads = nil
		hook()
	}
	return err
}

// settleTree takes all steps that there are.
func settleTree(t *testing.T, e *tiers.Engine) {
	t.Helper()
	flush(t, e)
	for more := true; more; {
		var err error
		if more, err = e.StepTree(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

func branch(t *testing.T, e *tiers.Engine, path string) merkle.Head {
	t.Helper()
	h, err := e.MerkleBranch(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// wantRebuilt fails unless the tree is the one that is built from the rows anew,
// and the audit says so before.
func wantRebuilt(t *testing.T, e *tiers.Engine) {
	t.Helper()
	before := branch(t, e, "")
	a, err := e.MerkleAudit(t.Context(), nil, func(f merkle.Finding) error {
		t.Errorf("the leaf of %q is not that of its row", f.ID)
		return nil
	})
	if err != nil || !a.Good() || !a.Counted {
		t.Errorf("audit: %+v, %v", a, err)
	}
	if err := e.MerkleRebuild(t.Context()); err != nil {
		t.Fatal(err)
	}
	if h := branch(t, e, ""); h.Known {
		t.Errorf("while it is built the root is %+v", h)
	}
	settleTree(t, e)
	if after := branch(t, e, ""); !before.Known || after.Branch != before.Branch {
		t.Errorf("root %+v, rebuilt %+v", before, after)
	}
}

// TestC12_TreeWriterBesideAStep: an item that changes between the step's look at it
// and the step's commit ends with the leaf of its last content.
func TestC12_TreeWriterBesideAStep(t *testing.T) { overDialects(t, testC12TreeWriterBesideAStep) }

func testC12TreeWriterBesideAStep(t *testing.T) {
	f := &treeFault{}
	e := open(t, t.TempDir(), func(o *tiers.Options) { o.WrapStore = f.wrap })
	for i := range 40 {
		put(t, e, fmt.Sprintf("uk.%d", i), "first")
	}
	settleTree(t, e)
	put(t, e, "uk.7", "second")
	flush(t, e)
	f.onHeads = func() {
		put(t, e, "uk.7", "third")
		put(t, e, "uk.new", "new")
		flush(t, e)
	}
	settleTree(t, e)
	settleTree(t, e) // what came meanwhile
	wantRebuilt(t, e)
}

// TestC13_TreeRootFollowsEachChange: new content, a new state, new tags, a new
// lifetime and a delete each change the root, on SQLite and on a server; reading
// does not.
func TestC13_TreeRootFollowsEachChange(t *testing.T) {
	t.Run("sqlite", func(t *testing.T) { rootFollows(t, nil) })
	if raceEnabled {
		return
	}
	t.Run("mariadb", func(t *testing.T) {
		server := mariadbtest.Start(t, mariadbtest.Options{})
		rootFollows(t, func(o *tiers.Options) { o.SQLURL, o.L3Shared = server.URL(server.Database(t)), true })
	})
}

func rootFollows(t *testing.T, change func(*tiers.Options)) {
	e := open(t, t.TempDir(), change)
	put(t, e, "a/k", "v1")
	put(t, e, "b/k", "v1")
	settleTree(t, e)
	root, a, b := branch(t, e, ""), branch(t, e, "a/"), branch(t, e, "b/")
	f := func(what string, wantChange bool, do func() error) {
		t.Helper()
		if err := do(); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		settleTree(t, e)
		r, h := branch(t, e, ""), branch(t, e, "a/")
		if (r.Hash != root.Hash) != wantChange || (h.Hash != a.Hash) != wantChange || branch(t, e, "b/").Hash != b.Hash {
			t.Errorf("%s: the root changes: %t, its branch: %t", what, r.Hash != root.Hash, h.Hash != a.Hash)
		}
		root, a = r, h
	}
	k := key(t, "a/k")
	state, ttl := "done", time.Hour
	f("content", true, func() error { put(t, e, "a/k", "v2"); return nil })
	f("read", false, func() error { want(t, e, "a/k", "v2"); return nil })
	f("state", true, func() error { _, err := e.Change(t.Context(), k, tiers.MetadataChange{State: &state}); return err })
	f("tags", true, func() error {
		_, err := e.Change(t.Context(), k, tiers.MetadataChange{Tags: &[]string{"x"}})
		return err
	})
	f("lifetime", true, func() error { _, err := e.Change(t.Context(), k, tiers.MetadataChange{TTL: &ttl}); return err })
	f("the same content", true, func() error { put(t, e, "a/k", "v2"); return nil })
	f("delete", true, func() error { _, err := e.Delete(t.Context(), k, nil, 0); return err })
	if h := branch(t, e, "a/"); !h.Known || h.Exists {
		t.Errorf("a branch without items: %+v", h)
	}
	wantRebuilt(t, e)
}

// treeCuts is how many cuts there are in C14.
const treeCuts = 200

// TestC14_TreeCutInTheMiddle: the power goes at any call of the tree's upkeep, some
// while it is built and some while it follows, with the commit made or not; the
// next process goes on, and the root is that of a tree rebuilt.
func TestC14_TreeCutInTheMiddle(t *testing.T) { overDialects(t, testC14TreeCutInTheMiddle) }

func testC14TreeCutInTheMiddle(t *testing.T) {
	seed := rand.Uint64()
	defer func() { t.Logf("seed %d", seed) }()
	rng := rand.New(rand.NewPCG(seed, 14))
	dir, f := t.TempDir(), &treeFault{}
	options := func(o *tiers.Options) {
		o.WrapStore, o.Durability = f.wrap, item.DurabilityJournal
		o.SetMerkleBatch(30)
	}
	e := open(t, dir, options)
	cuts := treeCuts
	if testing.Short() || raceEnabled || strings.HasSuffix(t.Name(), "mariadb") {
		cuts /= 5
	}
	done := 0
	for i := range cuts {
		for range 1 + rng.IntN(60) {
			id := fmt.Sprintf("%c.%d/%d", 'a'+rng.IntN(3), rng.IntN(5), rng.IntN(40))
			if rng.IntN(3) == 0 {
				if _, err := e.Delete(t.Context(), key(t, id), nil, 0); err != nil {
					t.Fatal(err)
				}
				continue
			}
			put(t, e, id, fmt.Sprint(i))
		}
		flush(t, e)
		if rng.IntN(40) == 0 {
			if err := e.MerkleRebuild(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		f.mu.Lock()
		f.cutAt, f.commit = 1+rng.IntN(12), rng.IntN(2) == 0
		f.mu.Unlock()
		for {
			more, err := e.StepTree(t.Context())
			if err != nil && !errors.Is(err, l3.ErrUnavailable) {
				t.Fatal(err)
			}
			if err != nil || !more {
				break
			}
		}
		f.mu.Lock()
		if f.cut {
			done++
		}
		f.cut, f.cutAt = false, 0
		f.mu.Unlock()
		if i%10 == 9 { // the process too
			if err := e.CloseAbruptly(); err != nil {
				t.Fatal(err)
			}
			e = open(t, dir, options)
			settleTree(t, e)
			wantRebuilt(t, e)
		}
	}
	if done < cuts/2 {
		t.Errorf("%d of %d upkeeps were cut", done, cuts)
	}
}

// treeIDs are ids that begin with each other, with empty segments and every
// separator.
func treeIDs(rng *rand.Rand, n int) (ids []string) {
	parts := []string{"", "a", "b", "uk", "nhs", "nhsx", ".", "/", ":", "::", "%", "_", "é"}
	for len(ids) < n {
		id := ""
		for range 1 + rng.IntN(7) {
			id += parts[rng.IntN(len(parts))]
		}
		if item.CheckID(id) == nil && !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	return ids
}

// TestC15_TreeOfOddIDs: the tree that followed puts and deletes of odd ids is the
// one built from the rows at once, and each branch counts what begins with it.
func TestC15_TreeOfOddIDs(t *testing.T) { overDialects(t, testC15TreeOfOddIDs) }

func testC15TreeOfOddIDs(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 15))
	e := open(t, t.TempDir(), func(o *tiers.Options) { o.SetMerkleBatch(50) })
	ids := treeIDs(rng, 400)
	alive := map[string]bool{}
	for round := range 6 {
		for range 150 {
			id := ids[rng.IntN(len(ids))]
			if alive[id] = rng.IntN(3) > 0; alive[id] {
				put(t, e, id, fmt.Sprint(round))
			} else if _, err := e.Delete(t.Context(), key(t, id), nil, 0); err != nil {
				t.Fatal(err)
			}
		}
		settleTree(t, e)
	}
	for _, path := range []string{"", "uk.", "a/", ":", "nhs:", "uk.nhs.", "a//"} {
		n := uint64(0)
		for id, live := range alive {
			if live && len(id) >= len(path) && id[:len(path)] == path {
				n++
			}
		}
		if h := branch(t, e, path); h.Leaves != n {
			t.Errorf("below %q are %d items, want %d", path, h.Leaves, n)
		}
	}
	wantRebuilt(t, e)
}

// TestC18_TreeBranchBorders: a branch does not hold what only begins like it.
func TestC18_TreeBranchBorders(t *testing.T) { overDialects(t, testC18TreeBranchBorders) }

func testC18TreeBranchBorders(t *testing.T) {
	e := open(t, t.TempDir(), nil)
	for _, id := range []string{"uk.nhs:1", "uk.nhs:2", "uk.nhsx:1", "uk.nhs", "uk.nhsx", "uk"} {
		put(t, e, id, "v")
	}
	settleTree(t, e)
	h := branch(t, e, "uk.nhs:")
	put(t, e, "uk.nhsx:1", "other")
	put(t, e, "uk.nhs", "other")
	settleTree(t, e)
	if after := branch(t, e, "uk.nhs:"); after.Branch != h.Branch || h.Leaves != 2 {
		t.Errorf("uk.nhs: was %+v, is %+v", h.Branch, after.Branch)
	}
	if _, err := e.MerkleBranch(t.Context(), "uk.nhs"); !errors.Is(err, tiers.ErrInvalid) {
		t.Errorf("a path without separator: %v", err)
	}
	var segments []string
	for after := []byte(nil); ; {
		n := 0
		err := e.MerkleChildren(t.Context(), "uk.", after, 1, func(c merkle.Child) error {
			n++
			segments, after = append(segments, fmt.Sprintf("%s %t", c.Segment, c.Leaf)), c.Segment
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			break
		}
	}
	slices.Sort(segments)
	if want := []string{"nhs true", "nhs: false", "nhsx true", "nhsx: false"}; !slices.Equal(segments, want) {
		t.Errorf("children %q, want %q", segments, want)
	}
}

// TestC19_TreeSaysHowOldItIs: what is in L3 and not yet in the tree is counted as
// dirty, and nothing else is.
func TestC19_TreeSaysHowOldItIs(t *testing.T) { overDialects(t, testC19TreeSaysHowOldItIs) }

func testC19TreeSaysHowOldItIs(t *testing.T) {
	e := open(t, t.TempDir(), nil)
	if _, _, err := e.MerkleDirty(t.Context(), "", 10); !errors.Is(err, tiers.ErrTreeUnknown) {
		t.Errorf("no tree: %v", err)
	}
	put(t, e, "a/1", "v")
	settleTree(t, e)
	f := func(path string, limit, want int, wantExact bool) {
		t.Helper()
		if n, exact, err := e.MerkleDirty(t.Context(), path, limit); n != want || exact != wantExact || err != nil {
			t.Errorf("dirty below %q: %d, %t, %v", path, n, exact, err)
		}
	}
	f("", 10, 0, true)
	put(t, e, "a/2", "v")
	f("", 10, 0, true) // pending
	put(t, e, "b/1", "v")
	put(t, e, "b/2", "v")
	put(t, e, "b", "v")
	flush(t, e)
	f("", 10, 4, true)
	f("b/", 10, 2, true)
	f("c/", 10, 0, true)
	f("", 1, 1, false)
	counts, exact, err := e.MerkleDirtyBranches(t.Context(), 100)
	if err != nil || !exact || fmt.Sprint(counts) != "map[a/:1 b:1 b/:2]" {
		t.Errorf("dirty branches: %v, %t, %v", counts, exact, err)
	}
	settleTree(t, e)
	f("", 10, 0, true)
}

// peerOf is an engine as another one sees it.
type peerOf struct {
	e    *tiers.Engine
	path string
}

func (p peerOf) Head(ctx context.Context) (merkle.Head, error) { return p.e.MerkleBranch(ctx, p.path) }
func (p peerOf) Rows(ctx context.Context, keys []string) ([][]byte, error) {
	return p.e.MerkleRows(ctx, p.path, keys)
}

// differ returns what differs below path, as "id here there".
func differ(t *testing.T, a, b *tiers.Engine, path string) (list []string) {
	t.Helper()
	_, err := a.MerkleDiff(t.Context(), peerOf{b, path}, merkle.DiffOptions{Path: []byte(path)}, func(d merkle.Difference) error {
		list = append(list, fmt.Sprintf("%s %t %t", d.ID, d.HasMine, d.HasTheirs))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(list)
	return list
}

// TestC22_TreeDiffAndRepair: two nodes that grew apart differ by just what is not
// equal, seen from either side and below a branch; and giving each the other's
// newer rows makes their roots equal, deletes included.
func TestC22_TreeDiffAndRepair(t *testing.T) { overDialects(t, testC22TreeDiffAndRepair) }

func testC22TreeDiffAndRepair(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 22))
	a, b := open(t, t.TempDir(), nil), open(t, t.TempDir(), ownDatabase(t))
	ids := treeIDs(rng, 300)
	for _, id := range ids {
		put(t, a, id, "common")
	}
	settleTree(t, a)
	for _, id := range ids {
		repairOne(t, a, b, id)
	}
	settleTree(t, b)
	if d := differ(t, a, b, ""); d != nil {
		t.Fatalf("copies differ: %q", d)
	}
	change := func(e *tiers.Engine, own string) {
		for range 25 {
			put(t, e, ids[rng.IntN(len(ids))], own)
			put(t, e, own+ids[rng.IntN(len(ids))], own)
			if _, err := e.Delete(t.Context(), key(t, ids[rng.IntN(len(ids))]), nil, 0); err != nil {
				t.Fatal(err)
			}
		}
		settleTree(t, e)
	}
	change(a, "A")
	change(b, "B")
	var want []string
	for _, id := range ids {
		want = append(want, "A"+id, "B"+id)
	}
	rows := map[string]bool{}
	for _, id := range append(want, ids...) {
		va, _, errA := a.Row(t.Context(), key(t, id))
		vb, _, errB := b.Row(t.Context(), key(t, id))
		if errA != nil || errB != nil {
			t.Fatal(errA, errB)
		}
		inA, inB := va != nil && va.Kind() == item.KindPut, vb != nil && vb.Kind() == item.KindPut
		if inA != inB || inA && merkle.LeafOf(va) != merkle.LeafOf(vb) {
			rows[fmt.Sprintf("%s %t %t", id, inA, inB)] = true
		}
	}
	got := differ(t, a, b, "")
	if len(got) != len(rows) || slices.ContainsFunc(got, func(d string) bool { return !rows[d] }) {
		t.Errorf("%d differences are named, %d there are", len(got), len(rows))
	}
	if back := differ(t, b, a, ""); len(back) != len(got) {
		t.Errorf("%d differences from the other side, %d from this one", len(back), len(got))
	}
	for _, d := range differ(t, a, b, "uk.") {
		if !slices.Contains(got, d) {
			t.Errorf("%s differs in the branch only", d)
		}
	}
	for _, id := range append(want, ids...) {
		repairOne(t, a, b, id)
	}
	settleTree(t, a)
	settleTree(t, b)
	if d := differ(t, a, b, ""); d != nil || branch(t, a, "").Branch != branch(t, b, "").Branch {
		t.Errorf("after the repair differ: %q", d)
	}
	wantRebuilt(t, a)
}

// ownDatabase gives another engine of t a database beside that of the first.
func ownDatabase(t *testing.T) func(o *tiers.Options) {
	return func(o *tiers.Options) {
		if o.SQLURL != "" {
			server := mariadbtest.Shared(t)
			o.SQLURL = server.URL(server.Database(t))
		}
	}
}

// repairOne gives each engine the other's row.
func repairOne(t *testing.T, a, b *tiers.Engine, id string) {
	t.Helper()
	va, _, errA := a.Row(t.Context(), key(t, id))
	vb, _, errB := b.Row(t.Context(), key(t, id))
	if errA != nil || errB != nil {
		t.Fatal(errA, errB)
	}
	give := func(to *tiers.Engine, v item.View) {
		if v == nil {
			return
		}
		_, err := to.Repair(t.Context(), v)
		if err != nil && !errors.Is(err, tiers.ErrSuperseded) && !errors.Is(err, tiers.ErrPurged) {
			t.Fatalf("repair of %q: %v", id, err)
		}
		flush(t, to)
		if got, _, err := to.Row(t.Context(), key(t, id)); err != nil || got.Version() < v.Version() {
			t.Errorf("%q after the repair: %v, %v", id, got.Version(), err)
		}
	}
	give(a, vb)
	give(b, va)
}

// TestRepairRefuses: what is no record of an item, what is too new, what a newer
// bulk delete covers, and what is older than what is here.
func TestRepairRefuses(t *testing.T) {
	e := open(t, t.TempDir(), nil)
	record := func(change func(it *item.Item)) item.View {
		v := item.Version(1_700_000_000_000 << 16)
		it := item.Item{
			Kind: item.KindPut, Key: key(t, "p/1"), Tiers: item.AllTiers, Version: v, ContentVersion: v, MetadataVersion: v, UpdatedAt: v.UnixMilli(),
			Content: []byte("old"), MIME: "text/plain",
		}
		it.Seal()
		change(&it)
		return it.AppendTo(nil)
	}
	f := func(what string, want error, change func(it *item.Item)) {
		t.Helper()
		if _, err := e.Repair(t.Context(), record(change)); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", what, err, want)
		}
	}
	f("as it is", nil, func(*item.Item) {})
	want(t, e, "p/1", "old")
	f("content that is not its hash's", tiers.ErrInvalid, func(it *item.Item) { it.Content = []byte("xxx") })
	f("of a site", tiers.ErrInvalid, func(it *item.Item) { it.Key = item.AppendKey(nil, item.NamespaceSite, "p/1") })
	f("an id that is none", tiers.ErrInvalid, func(it *item.Item) { it.Key = item.AppendKey(nil, item.NamespaceItem, "p/\x01") })
	f("a change of metadata", tiers.ErrInvalid, func(it *item.Item) { it.Kind = item.KindMetadata })
	f("of the future", tiers.ErrInvalid, func(it *item.Item) {
		it.Version = item.VersionAt(time.Now().Add(time.Hour).UnixMilli())
		it.ContentVersion = it.Version
	})
	f("the same again", tiers.ErrSuperseded, func(*item.Item) {})
	f("newer metadata", nil, func(it *item.Item) { it.MetadataVersion++; it.Version++; it.State = "s" })
	put(t, e, "p/1", "new")
	f("older than pending", tiers.ErrSuperseded, func(it *item.Item) { it.MetadataVersion += 2; it.Version += 2 })
	flush(t, e)
	f("older than L3", tiers.ErrSuperseded, func(*item.Item) {})
	if _, err := e.DeleteMatching(t.Context(), tiers.Query{Prefix: "p/"}, 0); err != nil {
		t.Fatal(err)
	}
	f("deleted in bulk", tiers.ErrPurged, func(it *item.Item) { it.Key = key(t, "p/2") })
	flush(t, e)
	wantAbsent(t, e, "p/1")
	wantAbsent(t, e, "p/2")
}

// TestC14_TreeTakeover: of two nodes on one L3 one calculates; when it has gone,
// the other goes on; and both tell the same root.
func TestC14_TreeTakeover(t *testing.T) { overDialects(t, testC14TreeTakeover) }

func testC14TreeTakeover(t *testing.T) {
	db := filepath.Join(t.TempDir(), "l3.db")
	share := func(o *tiers.Options) {
		if o.SQLURL == "" {
			o.SQLitePath = db
		}
		o.L3Shared, o.FollowInterval = true, 10*time.Millisecond
		o.MerkleCalc, o.MerkleJitter = true, 5*time.Millisecond
	}
	a, b := open(t, t.TempDir(), share), open(t, t.TempDir(), share)
	caughtUp := func(e *tiers.Engine) func() bool {
		return func() bool {
			h, err := e.MerkleBranch(t.Context(), "")
			n, exact, dirtyErr := e.MerkleDirty(t.Context(), "", 100)
			return err == nil && dirtyErr == nil && h.Known && exact && n == 0
		}
	}
	for i := range 50 {
		put(t, a, fmt.Sprintf("a/%d", i), "v")
		put(t, b, fmt.Sprintf("b/%d", i), "v")
	}
	flush(t, a)
	flush(t, b)
	until(t, 10*time.Second, "a tree", caughtUp(b))
	if ha, hb := branch(t, a, ""), branch(t, b, ""); ha != hb || ha.Leaves != 100 {
		t.Errorf("roots %+v and %+v", ha, hb)
	}
	calculates := func(e *tiers.Engine) bool { return e.Health(t.Context()).Merkle.Calculating }
	if calculates(a) == calculates(b) {
		t.Errorf("both calculate: %t", calculates(a))
	}
	first, second := a, b
	if calculates(b) {
		first, second = b, a
	}
	if err := first.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	put(t, second, "late", "v")
	flush(t, second)
	until(t, 15*time.Second, "the other one", func() bool { return calculates(second) && caughtUp(second)() })
	if h := branch(t, second, ""); h.Leaves != 101 {
		t.Errorf("root %+v", h)
	}
	until(t, 5*time.Second, "health", func() bool {
		m := second.Health(t.Context()).Merkle
		return m.State == "following" && m.LagChanges == 0
	})
}

// TestTreeCorrupt: rows that contradict each other are told, stay as they are, and
// are built anew when that is asked for.
func TestTreeCorrupt(t *testing.T) {
	dir, f := t.TempDir(), &treeFault{}
	options := func(o *tiers.Options) {
		o.WrapStore, o.MerkleCalc, o.FollowInterval, o.MerkleJitter = f.wrap, true, 10*time.Millisecond, time.Millisecond
	}
	e := open(t, dir, options)
	for i := range 40 {
		put(t, e, fmt.Sprintf("uk.%d", i), "v")
	}
	flush(t, e)
	following := func() bool {
		m := e.Health(t.Context()).Merkle
		return m.State == "following" && m.LagChanges == 0
	}
	until(t, 10*time.Second, "a tree", following)
	e.Close(context.Background())
	rows := func() [][]byte {
		list, err := f.Store.MerkleRows(t.Context(), []string{"", "uk.\x00"})
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	e = open(t, dir, options)
	until(t, 10*time.Second, "a tree", following)
	was := rows()
	if err := f.Store.MerkleCommit(t.Context(), l3.MerkleBatch{Was: was[0], State: was[0], Puts: []l3.MerkleRow{{Key: "uk.\x00", Value: bytes.Repeat([]byte{7}, 9)}}}); err != nil {
		t.Fatal(err)
	}
	e.Close(context.Background()) // and with it the rows in memory
	e = open(t, dir, options)
	put(t, e, "uk.7", "new")
	flush(t, e)
	until(t, 10*time.Second, "damage told", func() bool {
		h := e.Health(t.Context())
		return h.Merkle.State == "corrupt" && h.Verdict == "degraded"
	})
	if _, err := e.MerkleBranch(t.Context(), "uk."); !errors.Is(err, tiers.ErrTreeCorrupt) {
		t.Errorf("a damaged branch: %v", err)
	}
	if err := e.MerkleRebuild(t.Context()); err != nil {
		t.Fatal(err)
	}
	until(t, 10*time.Second, "a tree", func() bool { return following() && e.Health(t.Context()).Verdict == "ok" })
	wantAudit(t, e)
}

func wantAudit(t *testing.T, e *tiers.Engine) {
	t.Helper()
	if a, err := e.MerkleAudit(t.Context(), nil, func(merkle.Finding) error { return nil }); err != nil || !a.Good() || !a.Counted {
		t.Errorf("audit: %+v, %v", a, err)
	}
}

// TestTreeOfGoneChanges: a tree whose changes are gone builds itself anew; items
// that are over leave it when they are swept, and rows of sites never enter it.
func TestTreeOfGoneChanges(t *testing.T) {
	f := &treeFault{}
	now := time.Now().UnixMilli()
	e := open(t, t.TempDir(), func(o *tiers.Options) {
		o.WrapStore, o.ExpirySweep = f.wrap, time.Hour
		o.Now = func() int64 { return now }
	})
	put(t, e, "a", "v")
	settleTree(t, e)
	put(t, e, "b", "v")
	for i, w := range []tiers.Write{
		{Key: key(t, "over"), TTL: time.Second},
		{Key: item.AppendKey(nil, item.NamespaceSite, "http://x/"), Tiers: item.AllTiers, Durability: item.DurabilitySync},
	} {
		w.Content = []byte("x")
		if _, err := e.Submit(t.Context(), &w); err != nil {
			t.Fatal(i, err)
		}
	}
	flush(t, e)
	if _, err := f.Store.TrimChanges(t.Context(), f.Store.LastSeq(), 1000); err != nil {
		t.Fatal(err)
	}
	put(t, e, "c", "v")
	settleTree(t, e)
	if h := branch(t, e, ""); h.Leaves != 4 {
		t.Errorf("items in the tree: %d, want 4", h.Leaves)
	}
	if n, err := f.Store.Expire(t.Context(), now+2000, 10); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	settleTree(t, e)
	if h := branch(t, e, ""); h.Leaves != 3 {
		t.Errorf("items in the tree after the sweep: %d, want 3", h.Leaves)
	}
	wantRebuilt(t, e)
}
