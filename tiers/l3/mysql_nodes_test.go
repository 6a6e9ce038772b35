package l3_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/l3"
)

// Two nodes write the same few keys at once, in batches of any order: each key
// ends in the row that the same writes give one after the other, with its tags,
// in one table, and the change sequence ends in it too.
func TestTwoNodesConverge(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	const keys, writers, batches, width = 12, 4, 25, 6
	url := database(t)
	nodes := []*l3.Store{openURL(t, url), openURL(t, url)}
	want := openSQLite(t, filepath.Join(t.TempDir(), "l3.db"))

	// Of every key some writes are made before, so that metadata changes, which
	// need the item, find one; keys that are deleted get none.
	var all []item.View
	version := item.Version(1)
	next := func(key int) item.View {
		version++
		id, tag := fmt.Sprint("k", key), tags(fmt.Sprint("t", r.IntN(3)))
		switch {
		case key%2 == 0 && r.IntN(3) == 0:
			return tombstone(id, version)
		case key%2 == 1 && key > 4 && r.IntN(3) == 0:
			return metadata(id, version, tag, state(fmt.Sprint("s", r.IntN(3))))
		}
		return put(id, version, fmt.Sprint("content ", version), tag)
	}
	for key := 5; key < keys; key += 2 {
		all = append(all, next(key), put(fmt.Sprint("k", key), version+1, "base"))
		version += 2
	}
	for _, v := range all {
		apply(t, want, v)
		apply(t, nodes[0], v)
	}
	var plans [writers][][]item.View
	for i := range writers * batches {
		var batch []item.View
		for range width {
			batch = append(batch, next(r.IntN(keys)))
		}
		for _, v := range batch {
			apply(t, want, v)
		}
		plans[i%writers] = append(plans[i%writers], batch)
		if r.IntN(4) == 0 { // two nodes have the same writes
			w := r.IntN(writers)
			plans[w] = append(plans[w], batch)
		}
	}
	var group sync.WaitGroup
	for w := range writers {
		r := rand.New(rand.NewPCG(seed, uint64(w)+2))
		r.Shuffle(len(plans[w]), func(i, j int) { plans[w][i], plans[w][j] = plans[w][j], plans[w][i] })
		group.Go(func() {
			for _, batch := range plans[w] {
				out := make([]l3.Outcome, len(batch))
				if _, err := nodes[w%len(nodes)].Apply(context.Background(), opsOf(batch), nil, out); err != nil {
					t.Error(err)
				}
				for i, o := range out {
					if batch[i].Kind() != item.KindMetadata && o.Version < batch[i].Version() {
						t.Errorf("%s at %s: %+v", batch[i].Key().ID(), batch[i].Version(), o)
					}
				}
			}
		})
	}
	group.Wait()
	same(t, nodes[1], want, keys)
	c := beside(t, url)
	if n := c.rows("SELECT count(*) FROM edgenode_items JOIN edgenode_tombstones USING (item_key)"); n[0][0] != "0" {
		t.Errorf("%s keys are in both tables", n[0][0])
	}
}

func same(t *testing.T, s, want *l3.Store, keys int) {
	t.Helper()
	last := make(map[string]item.Version)
	err := s.Changes(context.Background(), 0, 1_000_000, func(c l3.Change) error {
		if c.Version < last[c.Key.ID()] {
			t.Errorf("change %d takes %s back from %s to %s", c.Seq, c.Key.ID(), last[c.Key.ID()], c.Version)
		}
		last[c.Key.ID()] = c.Version
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	for key := range keys {
		id := fmt.Sprint("k", key)
		got, w := get(t, s, idKey(id)), get(t, want, idKey(id))
		if string(got) != string(w) {
			t.Errorf("%s: got  %q\nwant %q", id, got, w)
		}
		if got != nil && last[id] != got.Version() {
			t.Errorf("%s: the last change is of %s, the row has %s", id, last[id], got.Version())
		}
	}
	for n := range 3 {
		q := l3.ScanQuery{Tag: fmt.Sprint("t", n)}
		if got, w := fmt.Sprint(ids(t, s, q)), fmt.Sprint(ids(t, want, q)); got != w {
			t.Errorf("tag %s: got %s, want %s", q.Tag, got, w)
		}
	}
}

// One of two nodes has a lease, and one of two processes an identity, when both
// ask at once.
func TestLeaseRace(t *testing.T) {
	url := database(t)
	nodes := []*l3.Store{openURL(t, url), openURL(t, url)}
	for round := range 10 {
		var held, registered [2]bool
		var group sync.WaitGroup
		for i, s := range nodes {
			group.Go(func() {
				var err error
				if held[i], err = s.AcquireLease(context.Background(), fmt.Sprint("role", round), fmt.Sprint("node", i), time.Hour); err != nil {
					t.Error(err)
				}
				info := l3.NodeInfo{ID: fmt.Sprint("id", round), Incarnation: fmt.Sprint(i), LeaseUntil: now + 60_000}
				registered[i] = s.RegisterNode(context.Background(), info) == nil
			})
		}
		group.Wait()
		if held[0] == held[1] || registered[0] == registered[1] {
			t.Errorf("round %d: held by %v, registered %v", round, held, registered)
		}
	}
}
