package crash_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/edgenode/edgenode/tiers/tiertest/mariadbtest"
	"github.com/edgenode/edgenode/tiers/tiertest/redistest"
)

// TestD13_ServerTakesChangesBack: a SQL server loses commits that were published
// already, and gives their numbers to others. Whoever reads the changes, by long
// polls, as events, in the Redis stream, is told to compare; a replica does, and has
// in the end what its hub has.
func TestD13_ServerTakesChangesBack(t *testing.T) {
	for _, more := range []int{0, 20} {
		if t.Failed() {
			return // the rest would only wait
		}
		t.Run(fmt.Sprint(more, " later"), func(t *testing.T) { serverTakesBack(t, more) })
	}
}

func serverTakesBack(t *testing.T, more int) {
	sql, redis := mariadbtest.Shared(t), redistest.Start(t, redistest.Options{})
	c := newCluster(t, 2, sql, redis, "EDGENODE_FOLLOW_INTERVAL=20ms", "EDGENODE_CDC_ENABLED=true", "EDGENODE_MERKLE_CALC_JITTER=1ms").startAll()
	hub, other := c.nodes[0], c.nodes[1]
	replica := start(t, t.TempDir(), "EDGENODE_REPLICA_FROM="+hub.data, "EDGENODE_REPLICA_PREFIXES=a/,b/", "EDGENODE_FOLLOW_INTERVAL=20ms", "EDGENODE_MERKLE_CALC_JITTER=1ms")
	put := func(p *process, id, content string) {
		p.must("PUT", "/v1/items/"+id, content, written, "Edge-Durability", "l3")
	}
	put(hub, "a/kept", "1")
	put(hub, "b/changed", "1")
	put(hub, "b/deleted", "1")
	awaitFollowing(replica)
	await(t, replica, "the replica has all", func() bool { return listed(replica) == listed(hub) })

	restore := sql.Backup(t, c.database)
	put(other, "a/lost", "x")
	put(hub, "b/changed", "2")
	hub.must("DELETE", "/v1/items/b/deleted", "", []int{204}, "Edge-Durability", "l3")
	await(t, replica, "the replica has what is lost then", func() bool { return listed(replica) == listed(hub) && strings.Contains(listed(hub), "a/lost") })
	end := feedEnd(t, hub)
	var entry uint64
	await(t, hub, "the stream has it", func() bool { entry, _ = lastEntry(t, redis); return entry == end })
	events := readEvents(t, other, end)

	restore()
	for i := range more {
		put(c.nodes[i%2], fmt.Sprint("b/later", i), "y")
	}
	for _, p := range c.nodes {
		await(t, p, "a reader in lines is told", func() bool {
			a := p.must("GET", fmt.Sprintf("/v1/changes?since=%d&wait=1s", end), "", []int{200, 410})
			return a.status == 410 && strings.Contains(a.body, "changes-gone")
		})
	}
	select {
	case kind := <-events:
		if kind != "problem" {
			t.Errorf("the events end with %q", kind)
		}
	case <-time.After(patience):
		t.Errorf("a reader of events is not told\n%s", other.log())
	}
	await(t, hub, "the stream has a reset", func() bool {
		reset, _ := redis.Do("XRANGE", "edgenode:cdc", fmt.Sprintf("(%d-0", entry), "+").([]any)
		return strings.Contains(fmt.Sprint(reset), `"op":"reset"`)
	})
	if list := listed(hub); strings.Contains(list, "a/lost") || !strings.Contains(list, "b/deleted") {
		t.Errorf("the hub has\n%s", list)
	}
	put(hub, "b/changed", "3") // versions do not go back: what the replica has of these is newer
	put(hub, "b/deleted", "3")
	await(t, replica, "the replica has what the hub has", func() bool { return listed(replica) == listed(hub) })
	await(t, replica, "the replica has compared for what is gone", func() bool {
		text := replica.must("GET", replica.admin+"/metrics", "", ok).body
		return strings.Contains(text, `edgenode_replica_comparisons_total{why="gone"}`) && !strings.Contains(text, `edgenode_replica_comparisons_total{why="gone"} 0`)
	})
	put(other, "a/after", "z")
	await(t, replica, "the replica follows", func() bool { return listed(replica) == listed(hub) && strings.Contains(listed(hub), "a/after") })
	for _, p := range c.nodes {
		p.awaitHealth(c.well)
	}
}

// await waits until f is true.
func await(t *testing.T, p *process, what string, f func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); !f(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("not in time: %s\n%s", what, p.log())
		}
	}
}

// feedEnd returns the number of the last change.
func feedEnd(t *testing.T, p *process) uint64 {
	t.Helper()
	var end struct {
		Seq uint64 `json:"seq,string"`
	}
	if err := json.Unmarshal([]byte(p.must("GET", "/v1/changes?since=now&limit=1", "", ok).body), &end); err != nil {
		t.Fatal(err)
	}
	return end.Seq
}

// lastEntry returns the number of the last entry of the stream.
func lastEntry(t *testing.T, redis *redistest.Server) (seq uint64, found bool) {
	t.Helper()
	list, _ := redis.Do("XREVRANGE", "edgenode:cdc", "+", "-", "COUNT", "1").([]any)
	if len(list) == 0 {
		return 0, false
	}
	_, err := fmt.Sscanf(fmt.Sprint(list[0].([]any)[0]), "%d-0", &seq)
	return seq, err == nil
}

// readEvents reads the feed as events from a number on, and tells the kind of the
// last one when it ends.
func readEvents(t *testing.T, p *process, since uint64) <-chan string {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	req, err := http.NewRequestWithContext(ctx, "GET", fmt.Sprintf("%s/v1/changes?since=%d", p.data, since), nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", "text/event-stream")
	resp, err := p.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan string, 1)
	done := make(chan struct{})
	t.Cleanup(func() { cancel(); <-done })
	go func() {
		defer close(done)
		defer resp.Body.Close()
		kind := ""
		for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
			if k, ok := strings.CutPrefix(lines.Text(), "event: "); ok {
				kind = k
			}
		}
		ended <- kind
	}()
	return ended
}
