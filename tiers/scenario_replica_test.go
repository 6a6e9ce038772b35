package tiers_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/edgenode/edgenode/tiers"
	"github.com/edgenode/edgenode/tiers/item"
)

// A follower stores the records of another engine's feed.
type follower struct {
	*testing.T
	e   *tiers.Engine
	seq uint64
}

// step takes over up to limit changes of the hub.
func (f *follower) step(hub *tiers.Engine, limit int, prefixes ...string) {
	f.Helper()
	var vs []item.View
	at := map[string]int{}
	q := tiers.FeedQuery{After: f.seq, Limit: limit, MaxContent: 1 << 20, Tombstones: true, Prefixes: prefixes}
	last, err := hub.Feed(f.Context(), q, func(ev *tiers.Event) error {
		if ev.Row == nil {
			return nil
		}
		v := item.View(append([]byte(nil), ev.Row...))
		if i, ok := at[ev.Key.ID()]; ok {
			vs[i] = v
			return nil
		}
		at[ev.Key.ID()] = len(vs)
		vs = append(vs, v)
		return nil
	})
	if err != nil {
		f.Fatal(err)
	}
	out := make([]tiers.Receipt, len(vs))
	f.e.RepairMany(f.Context(), vs, out)
	for i, r := range out {
		if r.Err != nil && !errors.Is(r.Err, tiers.ErrSuperseded) {
			f.Fatalf("%s of version %s: %v", vs[i].Key().ID(), vs[i].Version(), r.Err)
		}
	}
	f.seq = last
}

// TestD13_RecordsMakeAReplica: whoever stores the records of the feed, in pieces,
// some of them twice and through crashes, has the rows of the hub: versions,
// metadata and deletes, and so the same tree.
func TestD13_RecordsMakeAReplica(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 13))
	quick := func(o *tiers.Options) { o.BatchFlush, o.ExpirySweep = 2*time.Millisecond, time.Hour }
	hub := open(t, filepath.Join(t.TempDir(), "hub"), quick)
	dir := filepath.Join(t.TempDir(), "replica")
	f := &follower{T: t, e: open(t, dir, quick)}
	saved := uint64(0)
	for step := range scale(8_000, 1_200) {
		randomChange(t, hub, rng, step)
		switch n := rng.IntN(100); {
		case n < 8:
			f.step(hub, 1+rng.IntN(300))
			if n < 4 {
				saved = f.seq
			}
		case n < 9 && step%20 == 0:
			if err := f.e.CloseAbruptly(); err != nil {
				t.Fatal(err)
			}
			f.e, f.seq = open(t, dir, quick), saved
		}
	}
	flush(t, hub)
	for f.seq < hub.LastChange() {
		f.step(hub, 1000)
	}
	flush(t, f.e)
	same(t, hub, f.e)
}

// randomChange writes, changes or deletes something of the hub.
func randomChange(t *testing.T, hub *tiers.Engine, rng *rand.Rand, step int) {
	t.Helper()
	k := key(t, fmt.Sprintf("%c/%d", 'a'+rune(rng.IntN(4)), rng.IntN(25)))
	tag := fmt.Sprint("t", rng.IntN(3))
	var err error
	switch n := rng.IntN(100); {
	case n < 55:
		w := tiers.Write{Key: k, Content: fmt.Appendf(nil, "%d %s", step, strings.Repeat("x", rng.IntN(2000))), State: fmt.Sprint("s", rng.IntN(3)), Tags: []string{tag}}
		if n < 10 {
			w.TTL = time.Hour
		}
		if n < 5 {
			w.Tiers, w.Durability = item.L1, item.DurabilityMemory // leaves L3
		}
		_, err = hub.Submit(t.Context(), &w)
	case n < 80:
		state, tags := fmt.Sprint("c", rng.IntN(3)), []string{tag, "more"}
		_, err = hub.Change(t.Context(), k, tiers.MetadataChange{State: &state, Tags: &tags})
	case n < 92:
		_, err = hub.Delete(t.Context(), k, nil, 0)
	case n < 94:
		_, err = hub.DeleteMatching(t.Context(), tiers.Query{Prefix: k.ID()[:2]}, 0)
	case n < 96:
		_, err = hub.DeleteMatching(t.Context(), tiers.Query{Tag: tag}, 0)
	default:
		flush(t, hub)
	}
	if err != nil && !errors.Is(err, tiers.ErrNoItem) {
		t.Fatal(err)
	}
}

// same fails unless both have the same rows and the same tree.
func same(t *testing.T, hub, replica *tiers.Engine) {
	t.Helper()
	want, got := truth(t, hub), truth(t, replica)
	for id, v := range want {
		if got[id] != v {
			t.Errorf("%s is %q at the replica, want %q", id, got[id], v)
		}
	}
	for id := range got {
		if want[id] == "" {
			t.Errorf("%s is at the replica only", id)
		}
	}
	settleTree(t, hub)
	settleTree(t, replica)
	if d := differ(t, hub, replica, ""); d != nil {
		t.Errorf("the trees differ: %q", d)
	}
}

// TestD13_DeleteOfThePresentVersion: a bulk delete leaves the version of newer
// metadata, so that the tombstone has the version of what it deletes. It holds also
// where that is still pending.
func TestD13_DeleteOfThePresentVersion(t *testing.T) {
	e := open(t, t.TempDir(), func(o *tiers.Options) { o.BatchFlush = time.Hour })
	at := func(ms int64) item.Version { return item.VersionAt(1_700_000_000_000 + ms) }
	it := item.Item{
		Kind: item.KindPut, Key: key(t, "p/1"), Tiers: item.AllTiers, Version: at(3), ContentVersion: at(1), MetadataVersion: at(3),
		UpdatedAt: at(3).UnixMilli(), Content: []byte("x"), MIME: "text/plain",
	}
	it.Seal()
	grave := item.Item{
		Kind: item.KindTombstone, Key: it.Key, Tiers: item.AllTiers, Version: at(3), ContentVersion: at(2), MetadataVersion: at(3), UpdatedAt: at(3).UnixMilli(),
	}
	out := make([]tiers.Receipt, 1)
	for _, v := range []item.View{it.AppendTo(nil), grave.AppendTo(nil)} {
		if e.RepairMany(context.Background(), []item.View{v}, out); out[0].Err != nil {
			t.Fatal(out[0].Err)
		}
	}
	wantAbsent(t, e, "p/1")
	flush(t, e)
	wantAbsent(t, e, "p/1")
	if e.RepairMany(context.Background(), []item.View{it.AppendTo(nil)}, out); !errors.Is(out[0].Err, tiers.ErrSuperseded) {
		t.Errorf("the item after its delete: %v", out[0].Err)
	}
	wantAbsent(t, e, "p/1")
}

// TestD13_FeedOfPrefixes: of several prefixes a reader gets each, and what else
// there is not; a tombstone comes with its delete until something newer is there.
func TestD13_FeedOfPrefixes(t *testing.T) {
	e := open(t, t.TempDir(), nil)
	for _, id := range []string{"a/1", "b/1", "c/1", "a/2"} {
		put(t, e, id, "x")
	}
	flush(t, e)
	for _, id := range []string{"a/1", "b/1"} {
		if _, err := e.Delete(t.Context(), key(t, id), nil, 0); err != nil {
			t.Fatal(err)
		}
	}
	flush(t, e)
	put(t, e, "b/1", "again")
	flush(t, e)
	var got []string
	q := tiers.FeedQuery{Limit: 1000, MaxContent: 1 << 20, Tombstones: true, Prefixes: []string{"b/", "a/1"}}
	if _, err := e.Feed(t.Context(), q, func(ev *tiers.Event) error {
		kind := -1
		if ev.Row != nil {
			kind = int(ev.Row.Kind())
		}
		got = append(got, fmt.Sprint(ev.Op, " ", ev.Key.ID(), " ", kind, " ", ev.Newer))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprint([]string{
		"put a/1 -1 true", "put b/1 -1 true", fmt.Sprint("delete a/1 ", int(item.KindTombstone), " false"), "delete b/1 -1 true",
		fmt.Sprint("put b/1 ", int(item.KindPut), " false"),
	})
	if fmt.Sprint(got) != want {
		t.Errorf("%q, want %s", got, want)
	}
}
