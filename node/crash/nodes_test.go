package crash_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/edgenode/edgenode/tiers/tiertest/mariadbtest"
	"github.com/edgenode/edgenode/tiers/tiertest/redistest"
)

// TestC8_NodesSeeEachOther: what one of three nodes has written, the others show
// in place of what they had, and of what they knew to be absent, within 50 ms with
// Redis, and within the follow interval and 50 ms without. A read of min_version
// waits for nothing.
func TestC8_NodesSeeEachOther(t *testing.T) {
	sql := mariadbtest.Shared(t)
	t.Run("redis", func(t *testing.T) {
		c := newCluster(t, 3, sql, redistest.Start(t, redistest.Options{}), "EDGENODE_FOLLOW_INTERVAL=1h").startAll()
		awaitListeners(t, c.redis, 3)
		c.seen(seenRounds, 50*time.Millisecond)
	})
	t.Run("alone", func(t *testing.T) {
		c := newCluster(t, 3, sql, nil, "EDGENODE_FOLLOW_INTERVAL=100ms").startAll()
		c.seen(seenRounds/2, 150*time.Millisecond)
	})
}

// awaitListeners returns when n nodes hear of each other's writes.
func awaitListeners(t *testing.T, redis *redistest.Server, n int64) {
	t.Helper()
	tick := time.NewTicker(askAgain)
	defer tick.Stop()
	for begin := time.Now(); ; <-tick.C {
		if list, _ := redis.Do("PUBSUB", "NUMSUB", "edgenode:wake").([]any); len(list) == 2 && list[1] == n {
			return
		}
		if time.Since(begin) > patience {
			t.Fatal("the nodes do not listen")
		}
	}
}

// seen lets each node write in turn and takes the time from the acknowledgement,
// which is the commit, to the others' first answer with it. Most are in time on a
// machine that does nothing else; all are in the end.
func (c *cluster) seen(rounds int, bound time.Duration) {
	c.Helper()
	var mu sync.Mutex
	var took []time.Duration
	for i := range rounds {
		id := fmt.Sprintf("k%d", i%5)
		if i%3 == 0 {
			id = fmt.Sprintf("new%d", i) // absent until now
		}
		for _, p := range c.nodes {
			p.must("GET", "/v1/items/"+id, "", []int{200, 404})
		}
		writer := i % len(c.nodes)
		v := version(c, c.nodes[writer].must("PUT", "/v1/items/"+id, fmt.Sprint("round ", i), written, "Edge-Durability", "l3"))
		begin := time.Now()
		var readers sync.WaitGroup
		for n, p := range c.nodes {
			if n == writer {
				continue
			}
			readers.Go(func() {
				d, err := p.awaitVersion(id, v, begin)
				mu.Lock()
				defer mu.Unlock()
				if took = append(took, d); err != nil {
					c.Errorf("round %d, node %d: %v", i, n, err)
				}
			})
		}
		readers.Wait()
		sure := fmt.Sprintf("sure%d", i%2)
		v = version(c, c.nodes[writer].must("PUT", "/v1/items/"+sure, fmt.Sprint("round ", i), written, "Edge-Durability", "l3"))
		for n, p := range c.nodes {
			if a := p.must("GET", fmt.Sprintf("/v1/items/%s?min_version=%d", sure, v), "", ok); a.body != fmt.Sprint("round ", i) {
				c.Errorf("round %d, node %d: min_version gives %q", i, n, a.body)
			}
		}
	}
	slices.Sort(took)
	c.Logf("seen after %v (median), %v (9 of 10), %v (all %d)", took[len(took)/2], took[len(took)*9/10], took[len(took)-1], len(took))
	if p := took[len(took)*seenShare/100]; p > inTime(bound) {
		c.Errorf("%d of 100 are seen after %v, want %v", seenShare, p, bound)
	}
}

// A purged is which nodes have applied a purge.
type purged struct {
	Seq   string
	Nodes struct{ Applied, Pending []string }
}

// TestG2_PurgeReachesEveryNode: a purge is done when every known node says so:
// one that is halted or killed is named until it is back, and then it serves
// nothing that the purge or a delete has taken.
func TestG2_PurgeReachesEveryNode(t *testing.T) {
	t.Parallel() // it waits more than it works
	c := newCluster(t, 3, mariadbtest.Shared(t), redistest.Start(t, redistest.Options{})).startAll()
	one := c.nodes[0]
	for i := range 10 {
		one.must("PUT", fmt.Sprintf("/v1/items/k%d", i), "old", written, "Edge-Tags", "all", "Edge-Durability", "l3")
	}
	fill := func() {
		t.Helper()
		for _, p := range c.nodes {
			for i := range 10 {
				p.must("GET", fmt.Sprintf("/v1/items/k%d", i), "", []int{200, 404})
			}
		}
	}
	purge := func(query string) (out purged) {
		t.Helper()
		body := one.must("POST", "/v1/purge"+query, `{"tag":"all"}`, ok, "Content-Type", "application/json").body
		if err := json.Unmarshal([]byte(body), &out); err != nil || out.Seq == "" {
			t.Fatalf("purge: %s", body)
		}
		return out
	}
	whole := func(seq string) {
		t.Helper()
		var out struct{ Applied, Pending []string }
		body := one.must("GET", "/v1/purge/"+seq+"?wait=all", "", ok).body
		if err := json.Unmarshal([]byte(body), &out); err != nil || len(out.Applied) != 3 || len(out.Pending) != 0 {
			t.Errorf("when all have it: %s", body)
		}
	}
	fill()
	if p := purge("?wait=all"); len(p.Nodes.Applied) != 3 || len(p.Nodes.Pending) != 0 {
		t.Errorf("all run: %+v", p)
	}
	for _, p := range c.nodes {
		a := p.must("GET", "/v1/items/k3", "", ok)
		if s := a.header.Get("Cache-Status"); strings.Contains(s, "detail=l1") {
			t.Errorf("after the purge a node serves its copy: %s", s)
		}
	}

	fill()
	halted := c.nodes[1]
	halted.signal(syscall.SIGSTOP)
	p := purge("")
	if !slices.Contains(p.Nodes.Pending, "node1") {
		t.Errorf("one is halted: %+v", p)
	}
	halted.signal(syscall.SIGCONT)
	whole(p.Seq)
	if s := halted.must("GET", "/v1/items/k3", "", ok).header.Get("Cache-Status"); strings.Contains(s, "detail=l1") {
		t.Errorf("it was halted and serves its copy: %s", s)
	}

	fill()
	c.nodes[2].kill()
	p = purge("")
	if !slices.Contains(p.Nodes.Pending, "node2") {
		t.Errorf("one is killed: %+v", p)
	}
	one.must("DELETE", "/v1/items?prefix=k", "", ok)
	one.must("PUT", "/v1/items/k9", "after", written, "Edge-Durability", "l3")
	back := c.restart(2)
	whole(p.Seq)
	for i := range 9 {
		back.must("GET", fmt.Sprintf("/v1/items/k%d", i), "", []int{404})
	}
	if a := back.must("GET", "/v1/items/k9", "", ok); a.body != "after" {
		t.Errorf("k9 is %q", a.body)
	}
}

// TestC6_NodeThatWasAway: a node that was stopped, killed or halted while others
// wrote denies nothing that they wrote, and serves nothing that they replaced or
// deleted, from its first answer on.
func TestC6_NodeThatWasAway(t *testing.T) {
	t.Parallel() // it waits more than it works
	c := newCluster(t, 2, mariadbtest.Shared(t), nil, "EDGENODE_FOLLOW_INTERVAL=100ms").startAll()
	one := c.nodes[0]
	const n = 60
	var kept [n]uint64 // the newest versions
	for round, leave := range []func(p *process){(*process).stop, (*process).kill, func(p *process) { p.signal(syscall.SIGSTOP) }} {
		id := func(kind string, i int) string { return fmt.Sprintf("/v1/items/r%d/%s%d", round, kind, i) }
		for i := range n {
			one.must("PUT", id("kept", i), "old", written)
			one.must("PUT", id("gone", i), "old", written)
		}
		one.must("PUT", id("barrier", 0), "old", written, "Edge-Durability", "l3")
		two := c.nodes[1]
		for i := range n { // it knows them, and that the new ones are not there
			two.must("GET", id("kept", i), "", []int{200, 404})
			two.must("GET", id("gone", i), "", []int{200, 404})
			two.must("GET", id("new", i), "", []int{404})
		}
		leave(two)
		for i := range n {
			kept[i] = version(t, one.must("PUT", id("kept", i), "new", written))
			one.must("PUT", id("new", i), "new", written)
			one.must("DELETE", id("gone", i), "", []int{204})
		}
		one.must("PUT", id("barrier", 0), "new", written, "Edge-Durability", "l3")
		acked := time.Now()
		if round < 2 {
			two = c.restart(1)
		} else {
			for time.Since(acked) < 200*time.Millisecond { // what it knows is older than the bound
				one.must("PUT", id("later", 0), "x", written, "Edge-Durability", "l3")
			}
			two.signal(syscall.SIGCONT)
		}
		for i := range n {
			if a := two.must("GET", id("new", i), "", []int{200, 404}); a.status != 200 {
				t.Errorf("round %d: %s is denied", round, id("new", i))
			}
		}
		if round == 2 {
			// What it has in memory it may serve until it has looked, which is at once.
			for i := range n {
				if _, err := two.awaitVersion(fmt.Sprintf("r%d/kept%d", round, i), kept[i], time.Now()); err != nil {
					t.Fatal(err)
				}
				two.awaitGone(id("gone", i))
			}
		}
		for i := range n {
			if a := two.must("GET", id("kept", i), "", ok); a.body != "new" {
				t.Errorf("round %d: %s is %q", round, id("kept", i), a.body)
			}
			two.must("GET", id("gone", i), "", []int{404})
		}
		two.awaitHealth(c.well)
	}
}

// TestG5_FilterOfSeveralNodes: while a node cannot hear of the others' writes it
// denies what they have written no longer than the bound: then it says that it does
// not know. What must be right is right at once.
func TestG5_FilterOfSeveralNodes(t *testing.T) {
	t.Parallel() // it waits more than it works
	sql := mariadbtest.Shared(t)
	t.Run("sure", func(t *testing.T) {
		c := newCluster(t, 2, sql, nil, "EDGENODE_FOLLOW_INTERVAL=1h").startAll()
		one, two := c.nodes[0], c.nodes[1]
		two.must("GET", "/v1/items/a", "", []int{404})
		put := func(id string) uint64 {
			return version(t, one.must("PUT", "/v1/items/"+id, "one", []int{201, 204}, "Edge-Durability", "l3"))
		}
		for _, id := range []string{"a", "b", "c", "d", "e"} {
			v := put(id)
			two.must("GET", "/v1/items/"+id, "", []int{404}) // the filter does its work: nothing was heard yet
			switch id {
			case "a":
				two.must("GET", fmt.Sprintf("/v1/items/a?min_version=%d", v), "", ok)
			case "b":
				two.must("PUT", "/v1/items/b", "two", []int{412}, "If-None-Match", "*")
			case "c":
				two.must("PUT", "/v1/items/c", "two", []int{204}, "Edge-If-Version", fmt.Sprint(v))
			case "d":
				if a := two.must("DELETE", "/v1/items/d", "", []int{204}); a.header.Get("Edge-Existed") == "false" {
					t.Error("the delete of what is there says that it did not exist")
				}
			case "e":
				two.must("POST", "/v1/items/e:state", `{"state":"seen"}`, []int{204})
			}
		}
	})
	t.Run("cut off", func(t *testing.T) {
		c := newCluster(t, 2, sql, nil, "EDGENODE_FOLLOW_INTERVAL=100ms", "EDGENODE_SQL_TIMEOUT=1s")
		r := newRelay(t, sql.Addr())
		c.own[1] = append(c.own[1], r.through(c.settings[0]))
		c.startAll()
		one, two := c.nodes[0], c.nodes[1]
		two.must("GET", "/v1/items/a", "", []int{404})
		r.setCut(true)
		v := version(t, one.must("PUT", "/v1/items/a", "one", written, "Edge-Durability", "l3"))
		for acked := time.Now(); time.Since(acked) < time.Second; {
			begin := time.Since(acked)
			if a := two.must("GET", "/v1/items/a", "", []int{404, 503}); a.status == 404 && begin > 150*time.Millisecond {
				t.Fatalf("denied by a question %v after the acknowledgement", begin)
			}
		}
		two.must("GET", fmt.Sprintf("/v1/items/a?min_version=%d", v), "", []int{503})
		r.setCut(false)
		two.awaitHealth(c.well)
		if a := two.must("GET", "/v1/items/a", "", ok); a.body != "one" {
			t.Errorf("a is %q", a.body)
		}
	})
}
