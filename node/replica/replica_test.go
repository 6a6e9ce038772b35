package replica_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/edgenode/edgenode/node/replica"
	"github.com/edgenode/edgenode/tiers"
	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/tiertest/mariadbtest"
)

// randomChange writes something at the hub.
func randomChange(hub *site, rng *rand.Rand, step int) {
	hub.Helper()
	id := fmt.Sprintf("%c/%d", 'a'+rune(rng.IntN(4)), rng.IntN(40))
	tag := fmt.Sprint("t", rng.IntN(3))
	var err error
	switch n := rng.IntN(100); {
	case n < 60:
		w := tiers.Write{Key: key(hub, id), Content: fmt.Appendf(nil, "%d %s", step, strings.Repeat("x", rng.IntN(3000))), State: fmt.Sprint("s", rng.IntN(3)), Tags: []string{tag}}
		if n < 10 {
			w.TTL = time.Hour
		}
		if n == 11 {
			w.Content = make([]byte, 1<<20+rng.IntN(1<<20)) // too long for a line of the feed
		}
		_, err = hub.e.Submit(context.Background(), &w)
	case n < 78:
		state := fmt.Sprint("c", rng.IntN(3))
		_, err = hub.e.Change(context.Background(), key(hub, id), tiers.MetadataChange{State: &state})
	case n < 95:
		_, err = hub.e.Delete(context.Background(), key(hub, id), nil, 0)
	case n < 97:
		_, err = hub.e.DeleteMatching(context.Background(), tiers.Query{Prefix: id[:2]}, 0)
	default:
		_, err = hub.e.DeleteMatching(context.Background(), tiers.Query{Tag: tag}, 0)
	}
	if err != nil && !errors.Is(err, tiers.ErrNoItem) {
		hub.Fatal(err)
	}
}

// TestD13_ReplicaAfterAnyCut: after any cuts, restarts of either side and changes
// that are not kept any more, the replica has what the hub has: deletes, bulk
// deletes, versions and metadata.
func TestD13_ReplicaAfterAnyCut(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 13))
	hub, n, w := pair(t, replica.Options{})
	o := replica.Options{From: w.url}
	for round := range 8 {
		w.set(rng.IntN(3) == 0)
		for step := range 40 + rng.IntN(60) {
			randomChange(hub, rng, 1000*round+step)
			if rng.IntN(20) == 0 {
				w.set(rng.IntN(2) == 0)
			}
		}
		switch rng.IntN(4) {
		case 0:
			n.close()
			n = openSite(t, n.dir, &o)
		case 1:
			hub.close()
			hub = openSite(t, hub.dir, nil)
			w.lead(hub)
		case 2:
			hub.flush()
			hub.gone.Store(hub.e.LastChange())
		}
		w.set(false)
		n.wantEqual(hub, "")
		hub.gone.Store(0)
	}
	await(t, func() bool {
		a, errA := hub.e.MerkleBranch(t.Context(), "")
		b, errB := n.e.MerkleBranch(t.Context(), "")
		return errA == nil && errB == nil && a.Known && b.Known && a.Hash == b.Hash
	}, func() string { return "one root" })
	if newer := n.r.Health().Newer; newer != 0 {
		t.Errorf("%d items are newer at the replica", newer)
	}
}

// TestD13_ReplicaFellOff: what was deleted while the hub could not be heard, and of
// which its feed tells nothing any more, goes; what the hub never had goes too.
func TestD13_ReplicaFellOff(t *testing.T) {
	hub, n, w := pair(t, replica.Options{Prefixes: []string{"a/", "b/"}})
	for i := range 600 {
		hub.put(fmt.Sprintf("%c/%d", 'a'+i%3, i), fmt.Sprint(i))
	}
	n.wantEqual(hub, "a/")
	n.wantEqual(hub, "b/")
	if got := n.items("c/"); len(got) != 0 {
		t.Errorf("%d items of another prefix", len(got))
	}
	n.awaitState(replica.StateFollowing)
	w.set(true)
	n.awaitState(replica.StateCutOff)
	for i := range 100 {
		hub.delete(fmt.Sprintf("%c/%d", 'a'+i%3, i))
	}
	if _, err := hub.e.DeleteMatching(t.Context(), tiers.Query{Prefix: "b/3"}, 0); err != nil {
		t.Fatal(err)
	}
	hub.put("a/new", "new")
	hub.flush()
	hub.gone.Store(hub.e.LastChange())
	stray := item.Item{Kind: item.KindPut, Key: key(t, "a/stray"), Tiers: item.AllTiers, Version: item.VersionAt(1_700_000_000_000), Content: []byte("x"), MIME: "text/plain"}
	stray.ContentVersion, stray.MetadataVersion, stray.UpdatedAt = stray.Version, stray.Version, stray.Version.UnixMilli()
	stray.Seal()
	out := make([]tiers.Receipt, 1)
	if n.e.RepairMany(t.Context(), []item.View{stray.AppendTo(nil)}, out); out[0].Err != nil {
		t.Fatal(out[0].Err)
	}
	n.put("c/own", "own")
	w.set(false)
	n.wantEqual(hub, "a/")
	n.wantEqual(hub, "b/")
	if got := n.items("c/"); len(got) != 1 {
		t.Errorf("what is the replica's own: %v", got)
	}
	hub.gone.Store(0)
	hub.put("a/after", "the feed goes on")
	n.wantEqual(hub, "a/")
}

// TestD13_ReplicaOfAnotherStore: behind the same address there is another database,
// whose numbers mean something else.
func TestD13_ReplicaOfAnotherStore(t *testing.T) {
	hub, n, w := pair(t, replica.Options{})
	for i := range 50 {
		hub.put(fmt.Sprintf("a/%d", i), "first")
	}
	n.wantEqual(hub, "")
	n.awaitState(replica.StateFollowing)
	w.set(true)
	other := openSite(t, filepath.Join(t.TempDir(), "other"), nil)
	for i := range 120 { // beyond the number that the replica is at
		other.put(fmt.Sprintf("b/%d", i), "second")
	}
	other.put("a/1", "second")
	other.flush()
	w.lead(other)
	w.set(false)
	n.wantEqual(other, "")
	other.put("b/1", "third")
	n.wantEqual(other, "")
}

// TestD13_ReplicaKeepsWhatIsNewer: a hub that was restored from a backup does not
// make versions go back: what is newer here stays, and that is told.
func TestD13_ReplicaKeepsWhatIsNewer(t *testing.T) {
	hub, n, w := pair(t, replica.Options{})
	hub.put("a/1", "old")
	hub.put("a/2", "same")
	n.wantEqual(hub, "")
	n.awaitState(replica.StateFollowing)
	w.set(true)
	n.put("a/1", "newer than the backup")
	n.flush()
	hub.put("a/3", "later")
	hub.flush()
	hub.gone.Store(hub.e.LastChange())
	w.set(false)
	await(t, func() bool { return n.r.Health().Newer == 1 }, func() string { return fmt.Sprintf("%+v", n.r.Health()) })
	if got := n.items("")["a/1"]; !strings.Contains(got, "newer than the backup") {
		t.Errorf("a/1 is %q", got)
	}
	if reasons := n.r.Health().Reasons; len(reasons) == 0 || !strings.Contains(strings.Join(reasons, " "), "restored from a backup") {
		t.Errorf("health says %q", reasons)
	}
}

// TestD13_ReplicaFindsWhatTheFeedDidNotTell: every now and then the trees are
// compared, whatever the feed said.
func TestD13_ReplicaFindsWhatTheFeedDidNotTell(t *testing.T) {
	hub, n, _ := pair(t, replica.Options{CheckEvery: 20 * time.Millisecond, Wait: 10 * time.Millisecond})
	hub.put("a/1", "x")
	n.wantEqual(hub, "")
	n.awaitState(replica.StateFollowing) // the first comparison is over
	n.flush()
	v, _, err := n.e.Row(t.Context(), key(t, "a/1"))
	if err != nil || v == nil {
		t.Fatal(v, err)
	}
	it := v.Item() // a delete that nobody asked for, older than all that the hub may write
	gone := item.Item{Kind: item.KindTombstone, Key: it.Key, Tiers: item.AllTiers, Version: it.Version + 1, ContentVersion: it.Version + 1, MetadataVersion: it.Version + 1, UpdatedAt: it.UpdatedAt}
	hub.put("a/2", "y")
	n.wantEqual(hub, "")
	stray := item.Item{Kind: item.KindPut, Key: key(t, "a/stray"), Tiers: item.AllTiers, Version: it.Version, ContentVersion: it.Version, MetadataVersion: it.Version, UpdatedAt: it.UpdatedAt}
	stray.Seal()
	out := make([]tiers.Receipt, 1)
	if n.e.RepairMany(t.Context(), []item.View{stray.AppendTo(nil)}, out); out[0].Err != nil {
		t.Fatal(out[0].Err)
	}
	n.wantEqual(hub, "")
	if n.e.RepairMany(t.Context(), []item.View{gone.AppendTo(nil)}, out); out[0].Err != nil {
		t.Fatal(out[0].Err)
	}
	await(t, func() bool { return n.r.Health().Newer == 1 }, func() string { return fmt.Sprintf("%+v", n.r.Health()) })
}

// TestD13_ReplicaOfWhatIsTooLarge: what cannot be stored here is told, and holds up
// nothing, neither in the feed nor in a comparison.
func TestD13_ReplicaOfWhatIsTooLarge(t *testing.T) {
	hub, n, w := pair(t, replica.Options{MaxPayload: 100 << 10})
	for i := range 2 {
		big := tiers.Write{Key: key(t, fmt.Sprint("a/big", i)), Content: make([]byte, 2<<20)}
		if _, err := hub.e.Submit(t.Context(), &big); err != nil {
			t.Fatal(err)
		}
		hub.put(fmt.Sprint("b/", i), "small")
		hub.flush()
		await(t, func() bool { return n.items("b/")[fmt.Sprint("b/", i)] != "" }, func() string { return fmt.Sprintf("%+v", n.r.Health()) })
		if got := strings.Join(n.r.Health().Reasons, " "); !strings.Contains(got, "a/big") || !strings.Contains(got, "max_payload_bytes") || len(n.items("a/")) != 0 {
			t.Errorf("round %d: %q, %v", i, got, n.items("a/"))
		}
		w.set(true)
		w.set(false)
	}
}

// TestD13_ReplicaOfAServer: a hub that keeps its items in MariaDB, shared with other
// nodes, is followed like any other, from whichever node writes.
func TestD13_ReplicaOfAServer(t *testing.T) {
	server := mariadbtest.Shared(t)
	database := server.Database(t)
	on := func(o *tiers.Options) {
		o.SQLURL, o.SQLPassword, o.L3Shared = server.URL(database), mariadbtest.Password, true
	}
	hub := openSiteOn(t, filepath.Join(t.TempDir(), "hub"), on, nil)
	second := openSiteOn(t, filepath.Join(t.TempDir(), "second"), on, nil)
	w := newWire(t, hub)
	n := openSite(t, filepath.Join(t.TempDir(), "replica"), &replica.Options{From: w.url, Forward: true})
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 13))
	for step := range 60 {
		randomChange([]*site{hub, second}[rng.IntN(2)], rng, step)
		if step == 20 || step == 40 {
			w.set(step == 20)
		}
	}
	second.flush()
	hub.flush()
	n.wantEqual(second, "")
	n.want(201, "PUT", "/v1/items/a/new", "through the replica", "If-None-Match", "*")
	n.want(412, "PUT", "/v1/items/a/new", "again", "If-None-Match", "*")
	n.wantEqual(second, "")
}

// TestD13_ReplicaGoesOn: after a restart the feed goes on where it was, without a
// comparison, and the age of what is here is known at once.
func TestD13_ReplicaGoesOn(t *testing.T) {
	hub, n, w := pair(t, replica.Options{})
	hub.put("a/1", "x")
	hub.flush()
	n.wantEqual(hub, "")
	n.awaitState(replica.StateFollowing)
	hub.put("a/2", "y")
	n.wantEqual(hub, "")
	await(t, func() bool { return n.r.Health().Seq == hub.e.LastChange() }, func() string { return fmt.Sprintf("%+v", n.r.Health()) })
	n.close()
	w.set(true)
	set := metrics.NewSet()
	n = openSite(t, n.dir, &replica.Options{From: w.url, Metrics: set})
	n.awaitState(replica.StateCutOff)
	if h := n.r.Health(); h.Stale || h.Seq == 0 {
		t.Errorf("after the restart %+v", h)
	}
	w.set(false)
	hub.put("a/3", "z")
	n.wantEqual(hub, "")
	var page strings.Builder
	set.WritePrometheus(&page)
	for line := range strings.Lines(page.String()) {
		if strings.HasPrefix(line, "edgenode_replica_comparisons_total") && !strings.HasSuffix(line, " 0\n") {
			t.Errorf("a restart made a comparison: %s", line)
		}
	}
}
