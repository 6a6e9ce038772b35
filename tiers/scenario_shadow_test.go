package tiers_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/edgenode/edgenode/tiers"
	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/l2"
	"github.com/edgenode/edgenode/tiers/merkle"
	"github.com/edgenode/edgenode/tiers/tiertest/redistest"
)

// redisTree reads the copy of the tree as a Proof does.
type redisTree struct{ *l2.Store }

func (r redisTree) Rows(ctx context.Context, keys []string) ([][]byte, error) {
	return r.TreeRows(ctx, keys)
}
func (r redisTree) Commit(context.Context, merkle.Batch) error { return errors.ErrUnsupported }
func (r redisTree) Drop(context.Context) error                 { return errors.ErrUnsupported }

const redisTreeKey = tiers.DefaultRedisPrefix + "tree"

// wantCopy fails unless Redis has the rows of the tree, no others, and they prove
// every id and that others are not there.
func wantCopy(t *testing.T, e *tiers.Engine, server *redistest.Server, want map[string]bool) {
	t.Helper()
	fields, _ := server.Do("HKEYS", redisTreeKey).([]any)
	store := rawRedis(t, server)
	for _, f := range fields {
		name := f.(string)
		if name == "" {
			continue
		}
		mine, err := e.MerkleRows(t.Context(), "", []string{name})
		if err != nil {
			t.Fatal(err)
		}
		theirs, err := store.TreeRows(t.Context(), []string{name})
		if err != nil || string(mine[0]) != string(theirs[0]) {
			t.Fatalf("row %q in Redis is not that of the tree, which has %d bytes (%v)", name, len(mine[0]), err)
		}
	}
	var all [][]byte
	for id := range want {
		all = append(all, []byte(id))
	}
	err := merkle.NewProof(redisTree{store}, branch(t, e, "").Branch, 100).Leaves(t.Context(), all, func(i int, v merkle.Verdict, leaf merkle.Hash) {
		row, _, err := e.Row(t.Context(), key(t, string(all[i])))
		live := err == nil && row != nil && row.Kind() == item.KindPut
		if live != want[string(all[i])] || live != (v == merkle.Present) || v == merkle.Unproven || live && leaf != merkle.LeafOf(row) {
			t.Errorf("%q: verdict %d, row %v, want live %v", all[i], v, live, want[string(all[i])])
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}

// C16: ids of all kinds come and go; the copy of the tree in Redis follows, and what
// is deleted leaves it.
func TestC16_CopyInRedis(t *testing.T) { overDatabases(t, testC16CopyInRedis) }

func testC16CopyInRedis(t *testing.T) {
	seed := rand.Uint64()
	defer func() { t.Logf("seed %d", seed) }()
	rng := rand.New(rand.NewPCG(seed, 16))
	server := redistest.Start(t, redistest.Options{})
	e := openRedis(t, t.TempDir(), server, func(o *tiers.Options) {
		o.MerkleCalc, o.L2TreeItems, o.Durability = true, 100_000, item.DurabilityJournal
		o.MerkleJitter = time.Millisecond
		o.SetShadowEvery(10 * time.Millisecond)
		o.SetMerkleBatch(40)
	})
	pieces := []string{"a", "b", "uk", ".", "/", ":", "..", ";", "ä", "0", "shop/"}
	want := map[string]bool{}
	rounds := 4
	if raceEnabled {
		rounds = 2
	}
	for range rounds {
		for range 120 {
			id := pieces[rng.IntN(len(pieces))]
			for range rng.IntN(5) {
				id += pieces[rng.IntN(len(pieces))]
			}
			if rng.IntN(2) == 0 {
				id = fmt.Sprintf("shop/%d", rng.IntN(150))
			}
			if rng.IntN(2) == 0 {
				if _, err := e.Delete(t.Context(), key(t, id), nil, 0); err != nil {
					t.Fatal(err)
				}
				want[id] = false
				continue
			}
			put(t, e, id, fmt.Sprint(rng.IntN(5)))
			want[id] = true
		}
		flush(t, e)
		until(t, 20*time.Second, "the copy has the last change", func() bool {
			h, err := e.MerkleL2(t.Context(), "")
			return err == nil && h.Known && h.Seq == e.LastChange()
		})
		wantCopy(t, e, server, want)
	}
	if h, err := e.MerkleL2(t.Context(), ""); err != nil || h.Branch != branch(t, e, "").Branch {
		t.Errorf("root in L2 %+v, %v; in L3 %+v", h, err, branch(t, e, ""))
	}
	server.Do("FLUSHALL") // it comes again
	until(t, 20*time.Second, "the copy is made anew", func() bool {
		h, err := e.MerkleL2(t.Context(), "")
		return err == nil && h.Known && h.Seq == e.LastChange()
	})
	wantCopy(t, e, server, want)
}

// TestL2_RepairedByTheTree: Redis is away until the changes that it lacks are gone.
// Then it loses what is out of date and what is not in L3 any more, keeps the rest,
// and L3 is asked for few rows; also if the copy of the tree is damaged.
func TestL2_RepairedByTheTree(t *testing.T) { overDatabases(t, testL2RepairedByTheTree) }

func testL2RepairedByTheTree(t *testing.T) {
	f := func(name string, harm func(s *redistest.Server), mostRows int) {
		t.Run(name, func(t *testing.T) {
			server, fault, set := redistest.Start(t, redistest.Options{}), &treeFault{}, metrics.NewSet()
			e := openRedis(t, t.TempDir(), server, func(o *tiers.Options) {
				o.WrapStore, o.L2TreeItems, o.Durability, o.Metrics = fault.wrap, 100_000, item.DurabilityJournal, set
			})
			const items = 1500
			id := func(i int) string { return fmt.Sprintf("shop.%d/%d", i%7, i) }
			for i := range items {
				putIn(t, e, id(i), "v1", item.AllTiers, 0)
			}
			settleTree(t, e)
			if _, err := e.CopyTree(t.Context()); err != nil {
				t.Fatal(err)
			}
			putIn(t, e, "late", "v1", item.AllTiers, 0) // after the copy: Redis has it, the copy not
			flush(t, e)
			wantInRedis(t, server, "late", "v1")
			server.Stop()
			for i := range 30 {
				putIn(t, e, id(i), "v2", belowL1, 0)
			}
			for i := 30; i < 60; i++ {
				if _, err := e.Delete(t.Context(), key(t, id(i)), nil, 0); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := e.Delete(t.Context(), key(t, "late"), nil, 0); err != nil {
				t.Fatal(err)
			}
			settleTree(t, e)
			if _, err := fault.Store.TrimChanges(t.Context(), fault.Store.LastSeq(), 100_000); err != nil {
				t.Fatal(err)
			}
			byRow := set.GetOrCreateCounter(`edgenode_l2_repair_checks_total{by="row"}`)
			byTree := set.GetOrCreateCounter(`edgenode_l2_repair_checks_total{by="tree"}`)
			rows, tree := byRow.Get(), byTree.Get()
			server.Cont()
			if harm != nil {
				harm(server)
			}
			awaitTrust(t, e)
			for i := range items {
				switch {
				case i < 30:
					wantNotInRedis(t, server, id(i), "v1")
				case i < 60:
					wantInRedis(t, server, id(i), "")
				case i%50 == 0:
					wantInRedis(t, server, id(i), "v1")
				}
			}
			wantInRedis(t, server, "late", "")
			rows, tree = byRow.Get()-rows, byTree.Get()-tree
			// What was changed may be gone before all are compared, if it was known to be owed.
			if rows == 0 || int(rows) > mostRows || rows+tree < items-60 {
				t.Errorf("%d copies were compared with rows, %d by the tree; want %d rows at most of %d", rows, tree, mostRows, items)
			}
			t.Logf("%d copies: %d compared with rows, %d by the tree", items+1, rows, tree)
		})
	}
	f("whole", nil, 100)
	f("damaged", func(s *redistest.Server) {
		fields := s.Do("HKEYS", redisTreeKey).([]any)
		for i, name := range fields {
			switch name := name.(string); {
			case name == "":
			case i%9 == 0:
				s.Do("HDEL", redisTreeKey, name)
			case i%9 == 1:
				s.Do("HSET", redisTreeKey, name, "nonsense")
			}
		}
	}, 1501)
	f("gone", func(s *redistest.Server) { s.Do("DEL", redisTreeKey) }, 1501)
}
