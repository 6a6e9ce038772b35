package tiers_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edgenode/edgenode/tiers"
	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/l3"
	"github.com/edgenode/edgenode/tiers/tiertest/mariadbtest"
)

// TestG6_EqualItemsEqualRoots: two nodes with the same items have the same root,
// whatever their database, the order in which they came, what was there in between,
// and what is read, expired as a copy or evicted; one change in one item makes
// another.
func TestG6_EqualItemsEqualRoots(t *testing.T) {
	rng := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 6))
	a := open(t, t.TempDir(), nil)
	b := open(t, t.TempDir(), func(o *tiers.Options) {
		if !raceEnabled {
			server := mariadbtest.Shared(t)
			o.SQLURL, o.L3Shared = server.URL(server.Database(t)), false
		}
	})
	ids := append(treeIDs(rng, 150), "uk/1", "uk/2", "nhs:1", "nhs:2", "a.b.1", "a.b.2")
	for round := range 3 {
		for _, i := range rng.Perm(len(ids)) {
			k := key(t, ids[i])
			w := tiers.Write{Key: k, Content: []byte(fmt.Sprint(round, i)), State: "s" + fmt.Sprint(i%3), Tags: []string{"b", "a"}}
			if i%4 == 0 {
				w.TTL = time.Hour
			}
			if _, err := a.Submit(t.Context(), &w); err != nil {
				t.Fatal(err)
			}
			if state := "changed"; i%5 == round {
				if _, err := a.Change(t.Context(), k, tiers.MetadataChange{State: &state}); err != nil {
					t.Fatal(err)
				}
			}
			if i%7 == round {
				del(t, a, ids[i])
			}
		}
		if round == 1 {
			flush(t, a)
		}
	}
	settleTree(t, a)
	passing := func(f func(id string)) {
		t.Helper()
		for i := range 120 {
			f(fmt.Sprint([]string{"uk/", "nhs:", "a.b.", ""}[i%4], "passing", i))
		}
		settleTree(t, b)
	}
	passing(func(id string) { put(t, b, id, "v") })
	for _, i := range rng.Perm(len(ids)) {
		row, _, err := a.Row(t.Context(), key(t, ids[i]))
		if err != nil {
			t.Fatal(err)
		}
		if row == nil {
			continue
		}
		if _, err := b.Repair(t.Context(), append(item.View(nil), row...)); err != nil {
			t.Fatal(err)
		}
	}
	passing(func(id string) { del(t, b, id) })
	root := branch(t, a, "")
	if other := branch(t, b, ""); other.Branch != root.Branch || !root.Exists || differ(t, a, b, "") != nil {
		t.Errorf("roots %+v and %+v, different: %q", root, other, differ(t, a, b, ""))
	}
	for _, e := range []*tiers.Engine{a, b} {
		for _, id := range ids {
			get(t, e, id)
		}
		if _, err := e.Purge(t.Context(), tiers.Purge{Namespaces: item.InItems, Match: item.MatchAll}); err != nil {
			t.Fatal(err)
		}
		settleTree(t, e)
		if after := branch(t, e, ""); after.Branch != root.Branch {
			t.Errorf("reads and evictions make the root %+v of %+v", after, root)
		}
	}
	put(t, b, ids[3], "other")
	settleTree(t, b)
	if other := branch(t, b, ""); other.Hash == root.Hash {
		t.Error("other content, the same root")
	}
	wantRebuilt(t, b)
}

// A countedTree counts the rows of the tree that are read and written.
type countedTree struct {
	treeFault
	reads, writes atomic.Int64
}

func (c *countedTree) MerkleRows(ctx context.Context, keys []string) ([][]byte, error) {
	c.reads.Add(int64(len(keys)))
	return c.treeFault.MerkleRows(ctx, keys)
}

func (c *countedTree) MerkleCommit(ctx context.Context, b l3.MerkleBatch) error {
	c.writes.Add(int64(len(b.Puts) + len(b.Deletes)))
	return c.treeFault.MerkleCommit(ctx, b)
}

func (c *countedTree) wrap(real tiers.Store) tiers.Store {
	c.treeFault.wrap(real)
	return c
}

// TestD15_TreeCostOfAWrite: a write costs the rows of its path, whose length is the
// logarithm of the siblings, on SQLite and on a server.
func TestD15_TreeCostOfAWrite(t *testing.T) { overDialects(t, testD15TreeCostOfAWrite) }

func testD15TreeCostOfAWrite(t *testing.T) {
	c := &countedTree{}
	e := open(t, t.TempDir(), func(o *tiers.Options) { o.WrapStore = c.wrap })
	n := 0
	for _, siblings := range []int{100, scale(100_000, 3000)} {
		for ; n < siblings; n += 500 {
			ws := make([]*tiers.Write, 0, 500)
			for i := n; i < min(n+500, siblings); i++ {
				ws = append(ws, &tiers.Write{Key: key(t, fmt.Sprintf("uk.shop/%d", i)), Content: []byte("v"), Durability: item.DurabilityJournal})
			}
			e.SubmitMany(t.Context(), ws, make([]tiers.Receipt, len(ws)))
		}
		n = siblings
		settleTree(t, e)
		const updates = 20
		c.reads.Store(0)
		c.writes.Store(0)
		for i := range updates {
			put(t, e, fmt.Sprintf("uk.shop/%d", i), fmt.Sprint(i))
			settleTree(t, e)
		}
		depth := int64(3) // the state, the root, uk.
		for most := 16; most < siblings*2; most *= 16 {
			depth++
		}
		r, w := c.reads.Load(), c.writes.Load()
		t.Logf("%d siblings: %.1f rows read, %.1f written per write", siblings, float64(r)/updates, float64(w)/updates)
		if r > updates*(depth+1) || w > updates*depth || w < updates {
			t.Errorf("%d siblings: %d rows read and %d written for %d writes, want at most %d for each", siblings, r, w, updates, depth)
		}
	}
}

// TestC10_StatesAreWhatTheyAre: items that go through five states, some of them with
// an end, are in the one that they have and in no other, by lists and counts, while
// the changes are pending, when they are flushed, and when some are over; and
// nothing of all that stays in memory.
func TestC10_StatesAreWhatTheyAre(t *testing.T) { overDialects(t, testC10StatesAreWhatTheyAre) }

func testC10StatesAreWhatTheyAre(t *testing.T) {
	var clock shiftedClock
	e := open(t, t.TempDir(), func(o *tiers.Options) {
		o.Now, o.ExpirySweep, o.Durability = clock.milli, 5*time.Millisecond, item.DurabilityJournal
	})
	n, states := scale(100_000, 400), []string{"new", "read", "checked", "done", "old"}
	in := make([]int, n) // the state of each, as its number
	id := func(i int) string { return fmt.Sprintf("k/%d", i) }
	ends := func(i int) bool { return i%3 == 0 }
	over := false
	check := func(when string) {
		t.Helper()
		want := make([]int64, len(states))
		for i, s := range in {
			if !over || !ends(i) {
				want[s]++
			}
		}
		for s, state := range states {
			if got, exact, err := e.Count(t.Context(), tiers.Query{State: state, Prefix: "k/"}); err != nil || exact && got != want[s] {
				t.Errorf("%s: %d are %s, want %d, %v", when, got, state, want[s], err)
			}
			listed, wrong := int64(0), 0
			for cursor := ""; ; {
				next, err := e.List(t.Context(), tiers.Query{State: state, Prefix: "k/", Limit: 1000, Cursor: cursor}, func(v item.View) error {
					listed++
					var i int
					if _, err := fmt.Sscanf(v.Key().ID(), "k/%d", &i); err != nil || in[i] != s || v.State() != state {
						wrong++
					}
					return nil
				})
				if err != nil {
					t.Fatal(err)
				}
				if cursor = next; cursor == "" {
					break
				}
			}
			if listed != want[s] || wrong > 0 {
				t.Errorf("%s: %d are listed as %s, %d of them are not, want %d", when, listed, state, wrong, want[s])
			}
		}
	}
	for i := range n {
		w := tiers.Write{Key: key(t, id(i)), Content: []byte("v"), State: states[0]}
		if ends(i) {
			w.TTL = time.Hour
		}
		if _, err := e.Submit(t.Context(), &w); err != nil {
			t.Fatal(err)
		}
	}
	check("at first")
	for s := 1; s < len(states); s++ {
		for i := range n {
			if i%5 == s {
				continue // stays where it is
			}
			if _, err := e.Change(t.Context(), key(t, id(i)), tiers.MetadataChange{State: &states[s]}); err != nil {
				t.Fatal(err)
			}
			in[i] = s
			if i == n/2 {
				check(fmt.Sprint("half way to ", states[s]))
			}
		}
		check(states[s] + ", pending")
		flush(t, e)
		check(states[s] + ", flushed")
	}
	clock.add(2 * time.Hour)
	over = true
	check("some are over")
	until(t, 20*time.Second, "they are removed", func() bool {
		rows, _, err := e.Count(t.Context(), tiers.Query{Prefix: "k/"})
		return err == nil && rows == int64(n-(n+2)/3)
	})
	check("removed")
	if ids, index, memory, records := e.CountedBytes(); ids != 0 || index != 0 || memory != 0 || records != 0 {
		t.Errorf("%d ids of %d bytes, %d bytes of contents and %d records stay in memory", ids, index, memory, records)
	}
}
