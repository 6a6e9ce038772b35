package crash_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// replicaKills is how often the replica is killed.
const replicaKills = 6

// TestD13_ReplicaKilled kills a replica again and again while it follows, and its hub
// too: in the end it has what the hub has, versions and deletes, and what the hub has
// acknowledged through it is there.
func TestD13_ReplicaKilled(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 13))
	dir := t.TempDir()
	quick := []string{"EDGENODE_BATCH_FLUSH_MS=2", "EDGENODE_FOLLOW_INTERVAL=10ms", "EDGENODE_MERKLE_CALC_JITTER=1ms"}
	hub := start(t, filepath.Join(dir, "hub"), quick...)
	address := strings.TrimPrefix(hub.data, "http://")
	following := append([]string{"EDGENODE_REPLICA_FROM=" + hub.data, "EDGENODE_REPLICA_PREFIXES=a/,b/", "EDGENODE_REPLICA_PARTITION_GRACE=2s"}, quick...)
	acknowledged := map[string]string{}
	for round := range replicaKills {
		settings := following
		if round%2 == 1 { // all is in the journal alone
			settings = append(slices.Clone(following), "EDGENODE_BATCH_FLUSH_MS=60000", "EDGENODE_BATCH_FLUSH_COUNT=100000", "EDGENODE_BATCH_FLUSH_BYTES=256MiB")
		}
		p := start(t, filepath.Join(dir, "replica"), settings...)
		writing, stop := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() {
			defer close(done)
			for i := 0; writing.Err() == nil; i++ {
				id := fmt.Sprintf("/v1/items/%c/%d", 'a'+i%3, i%50)
				if i%7 == 3 {
					hub.must("DELETE", id, "", []int{204})
				} else {
					hub.must("PUT", id, fmt.Sprint(round, " ", i), written, "Edge-State", fmt.Sprint("s", i%4))
				}
				if i%97 == 0 {
					hub.must("DELETE", "/v1/items?prefix=b/1", "", ok)
				}
			}
		}()
		for i := range 5 { // through the replica, until it is killed
			id := fmt.Sprintf("a/own-%d-%d", round, i)
			if a, err := p.ask(context.Background(), "PUT", "/v1/items/"+id, id); err == nil && a.status/100 == 2 {
				acknowledged[id] = a.header.Get("Edge-Version")
			}
		}
		if round != 0 { // else in the middle of the first comparison
			awaitFollowing(p)
		}
		moment := time.NewTimer(time.Duration(rng.IntN(300)) * time.Millisecond)
		<-moment.C
		p.kill()
		stop()
		<-done
		if round%3 == 1 {
			hub.kill()
			hub = start(t, filepath.Join(dir, "hub"), append([]string{"EDGENODE_LISTEN_DATA_ADDRESS=" + address}, quick...)...)
		}
	}
	if len(acknowledged) == 0 {
		t.Error("nothing was acknowledged through the replica")
	}
	p := start(t, filepath.Join(dir, "replica"), following...)
	hub.must("PUT", "/v1/items/a/end", "end", written, "Edge-Durability", "l3")
	want := listed(hub)
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for ; listed(p) != want; <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("seed %d: the replica has\n%s\nthe hub\n%s\n%s", seed, listed(p), want, p.log())
		}
	}
	awaitFollowing(p)
	for id, version := range acknowledged {
		if a := p.must("GET", "/v1/items/"+id, "", ok); a.header.Get("Edge-Version") != version || a.header.Get("Edge-Stale") != "" {
			t.Errorf("%s has version %s, acknowledged was %s", id, a.header.Get("Edge-Version"), version)
		}
	}
	if n := listedBelow(p, "c/"); n != "" {
		t.Errorf("what is not replicated: %s", n)
	}
	hub.kill()
	for ; p.must("GET", "/v1/items/a/end", "", ok).header.Get("Edge-Stale") != "true"; <-tick.C {
		if time.Now().After(deadline.Add(patience)) {
			t.Fatalf("the hub is gone, and answers do not say so\n%s", p.log())
		}
	}
}

// awaitFollowing waits until a replica reads the feed of its hub.
func awaitFollowing(p *process) {
	p.tb.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); ; <-tick.C {
		var h struct{ Replica struct{ State string } }
		text := p.must("GET", p.admin+"/healthz", "", ok).body
		if err := json.Unmarshal([]byte(text), &h); err != nil {
			p.tb.Fatal(err)
		}
		if h.Replica.State == "following" {
			return
		}
		if time.Now().After(deadline) {
			p.tb.Fatalf("the hub is not followed: %s\n%s", text, p.log())
		}
	}
}

// listed returns what a node lists of what is replicated, versions and states.
func listed(p *process) string { return listedBelow(p, "a/") + listedBelow(p, "b/") }

func listedBelow(p *process, prefix string) string {
	p.tb.Helper()
	var page struct {
		Items []struct{ ID, Version, State string }
	}
	if err := json.Unmarshal([]byte(p.must("GET", "/v1/items?limit=1000&prefix="+prefix, "", ok).body), &page); err != nil {
		p.tb.Fatal(err)
	}
	var b strings.Builder
	for _, i := range page.Items {
		fmt.Fprintln(&b, i.ID, i.Version, i.State)
	}
	return b.String()
}
