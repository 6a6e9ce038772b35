package crash_test

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/edgenode/edgenode/tiers/tiertest/mariadbtest"
	"github.com/edgenode/edgenode/tiers/tiertest/redistest"
)

// A cluster is several nodes on one database, and perhaps one Redis, each a
// process on a directory of its own.
type cluster struct {
	testing.TB
	sql      *mariadbtest.Server
	database string
	redis    *redistest.Server // nil: none
	settings []string          // of all nodes
	own      [][]string        // of each node, after these
	dirs     []string
	nodes    []*process
}

// newCluster makes n nodes on an empty database; startAll starts them.
func newCluster(t testing.TB, n int, sql *mariadbtest.Server, redis *redistest.Server, settings ...string) *cluster {
	t.Helper()
	c := &cluster{TB: t, sql: sql, redis: redis, database: sql.Database(t)}
	c.settings = append(onServer(t, sql.Addr(), c.database), settings...)
	if redis != nil {
		c.settings = append(c.settings, "EDGENODE_REDIS_URL="+redis.URL())
	}
	for i := range n {
		c.dirs = append(c.dirs, t.TempDir())
		c.own = append(c.own, []string{fmt.Sprintf("EDGENODE_NODE_NAME=node%d", i)})
	}
	c.nodes = make([]*process, n)
	return c
}

// startAll starts every node that does not run and waits until all are well.
func (c *cluster) startAll() *cluster {
	c.Helper()
	for i, p := range c.nodes {
		if p == nil {
			c.nodes[i] = launch(c, c.dirs[i], slices.Concat(c.settings, c.own[i])...)
		}
	}
	for _, p := range c.nodes {
		p.await()
		p.awaitHealth(c.well)
	}
	return c
}

// well says that a node lacks nothing.
func (c *cluster) well(h *health) bool {
	return h.Verdict == "ok" && h.L3.OK && h.Filter.Trusted && (c.redis == nil || trusted(h))
}

// restart starts node i, which has ended, and returns when it is ready.
func (c *cluster) restart(i int) *process {
	c.Helper()
	c.nodes[i] = start(c, c.dirs[i], slices.Concat(c.settings, c.own[i])...)
	return c.nodes[i]
}

// version returns the version that an answer names.
func version(tb testing.TB, a *answer) uint64 {
	tb.Helper()
	v, err := strconv.ParseUint(a.header.Get("Edge-Version"), 10, 64)
	if err != nil {
		tb.Fatalf("%d %s: no version: %v", a.status, a.body, err)
	}
	return v
}

// awaitVersion asks a node for an id, as fast as it answers, until it shows this
// version or a newer one, and returns how long that took since begin.
func (p *process) awaitVersion(id string, least uint64, begin time.Time) (time.Duration, error) {
	for {
		a, err := p.ask(context.Background(), "GET", "/v1/items/"+id, "")
		if err != nil {
			return 0, err
		}
		v, _ := strconv.ParseUint(a.header.Get("Edge-Version"), 10, 64) // 404 has none
		took := time.Since(begin)
		if v >= least {
			return took, nil
		}
		if a.status != 200 && a.status != 404 || took > patience {
			return 0, fmt.Errorf("%s is %d at %d after %v, want version %d", id, a.status, v, took, least)
		}
	}
}

// awaitGone asks a node for a path until it shows nothing.
func (p *process) awaitGone(path string) {
	p.tb.Helper()
	for begin := time.Now(); p.must("GET", path, "", []int{200, 404}).status != 404; {
		if time.Since(begin) > patience {
			p.tb.Fatalf("%s is still there", path)
		}
	}
}

// A relay carries connections to a server and can cut them all.
type relay struct {
	l  net.Listener
	to string

	mu    sync.Mutex
	cut   bool
	conns map[net.Conn]bool
	done  sync.WaitGroup
}

// newRelay starts a relay to an address.
func newRelay(tb testing.TB, to string) *relay {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	r := &relay{l: l, to: to, conns: map[net.Conn]bool{}}
	r.done.Go(r.accept)
	tb.Cleanup(func() {
		_ = l.Close()
		r.setCut(true)
		r.done.Wait()
	})
	return r
}

// through returns url with the relay in place of its server.
func (r *relay) through(url string) string {
	return strings.Replace(url, r.to, r.l.Addr().String(), 1)
}

func (r *relay) accept() {
	for {
		in, err := r.l.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", r.to)
		if err != nil || !r.add(in, out) {
			_ = in.Close()
			continue
		}
		r.done.Go(func() { r.carry(in, out) })
		r.done.Go(func() { r.carry(out, in) })
	}
}

// add keeps a pair of connections, or closes out and reports false.
func (r *relay) add(in, out net.Conn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cut {
		_ = out.Close()
		return false
	}
	r.conns[in], r.conns[out] = true, true
	return true
}

// carry copies until either end is closed, and closes both.
func (r *relay) carry(from, to net.Conn) {
	buf := make([]byte, 16<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				break
			}
		}
		if err != nil {
			break
		}
	}
	_, _ = from.Close(), to.Close()
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.conns, from)
	delete(r.conns, to)
}

// setCut ends all connections and takes no more, or takes them again.
func (r *relay) setCut(cut bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cut = cut; cut {
		for c := range r.conns {
			_ = c.Close()
		}
	}
}
