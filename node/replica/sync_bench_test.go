package replica_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/edgenode/edgenode/node/replica"
	"github.com/edgenode/edgenode/tiers"
)

// BenchmarkFirstSync is how long a new replica takes until it follows a hub with 10⁵
// items of 200 bytes, both with SQLite, on one machine: the trees are compared, all
// records fetched and stored, and the tree of the replica is that of the hub.
//
//	go test -run - -bench FirstSync -benchtime 1x ./node/replica
func BenchmarkFirstSync(b *testing.B) {
	items := 100_000
	if testing.Short() {
		items = 5000
	}
	large := func(o *tiers.Options) { o.L1MaxBytes, o.JournalMaxBytes = 64<<20, 256<<20 }
	hub := openSiteOn(b, b.TempDir(), large, nil)
	content := make([]byte, 200)
	for from := 0; from < items; from += 500 {
		writes := make([]*tiers.Write, min(500, items-from))
		for i := range writes {
			copy(content, fmt.Sprint(from+i))
			writes[i] = &tiers.Write{Key: key(b, fmt.Sprintf("a/%d/%d", (from+i)%100, from+i)), Content: append([]byte(nil), content...), MIME: "text/plain"}
		}
		out := make([]tiers.Receipt, len(writes))
		hub.e.SubmitMany(context.Background(), writes, out)
		for i := range out {
			if out[i].Err != nil {
				b.Fatal(out[i].Err)
			}
		}
	}
	hub.flush()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	var head uint64
	for last := hub.e.LastChange(); head < last; <-tick.C {
		h, err := hub.e.MerkleBranch(context.Background(), "")
		if err != nil {
			b.Fatal(err)
		}
		if h.Known {
			head = h.Seq
		}
	}
	want, err := hub.e.MerkleBranch(context.Background(), "a/")
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		r := openSiteOn(b, b.TempDir(), large, &replica.Options{From: hub.url, Prefixes: []string{"a/"}, MaxPayload: 4 << 20})
		for r.r.Health().State != replica.StateFollowing {
			<-tick.C
		}
		b.StopTimer()
		for {
			have, err := r.e.MerkleBranch(context.Background(), "a/")
			if err != nil {
				b.Fatal(err)
			}
			if have.Known && have.Hash == want.Hash {
				break
			}
			<-tick.C
		}
		r.close()
		b.StartTimer()
	}
	b.ReportMetric(float64(items*b.N)/b.Elapsed().Seconds(), "items/s")
}
