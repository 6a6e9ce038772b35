package tiers_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/edgenode/edgenode/tiers"
	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/tiertest/mariadbtest"
	"github.com/edgenode/edgenode/tiers/tiertest/redistest"
)

// A pair is two nodes on one server and one Redis, and what their clients have seen.
type pair struct {
	*testing.T
	nodes [2]*tiers.Engine
	start time.Time

	mu      sync.Mutex
	history []porcupine.Operation
	unknown int
}

// TestB7_TwoNodesCompareAndSubmit: the conditional writes of two nodes, through
// kills of SQL server and Redis, are one history; on each node a version never
// goes back (G4), and nobody reads less than it has written there (G3).
func TestB7_TwoNodesCompareAndSubmit(t *testing.T) {
	// With a binary log a commit is on disk before others see it; without, a kill may
	// take back what was read: see docs/operations.md.
	sql := mariadbtest.Start(t, mariadbtest.Options{Args: []string{"--log-bin", "--sync-binlog=1", "--server-id=1"}})
	redis := redistest.Start(t, redistest.Options{})
	url := sql.URL(sql.Database(t))
	p := &pair{T: t, start: time.Now()}
	for i := range p.nodes {
		p.nodes[i] = open(t, t.TempDir(), withRedis(redis, func(o *tiers.Options) {
			o.SQLURL, o.L3Shared = url, true
			o.FollowInterval, o.L3Timeout, o.L3ApplyTimeout = 20*time.Millisecond, 500*time.Millisecond, time.Second
			o.Now = func() int64 { return time.Now().UnixMilli() + int64(i)*5000 } // one clock is ahead
		}))
	}
	stop := make(chan struct{})
	var readers, writers sync.WaitGroup
	for _, e := range p.nodes {
		readers.Go(func() { p.watch(e, stop) })
	}
	for client := range 4 {
		rng := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), uint64(client)))
		writers.Go(func() {
			for i := range scale(5000, 500) {
				if !p.call(rng, client, fmt.Sprintf("%d.%d", client, i)) {
					<-time.After(5 * time.Millisecond) // an outage: not all calls at once
				}
			}
		})
	}
	for range scale(10, 1) {
		p.awaitCalls(200)
		sql.Kill()
		p.awaitCalls(20)
		sql.Restart(t)
		redis.Kill()
		p.awaitCalls(20)
		redis.Restart()
	}
	writers.Wait()
	close(stop)
	readers.Wait()
	p.final()
	t.Logf("%d calls, %d of unknown fate", len(p.history), p.unknown)
	if r := porcupine.CheckOperationsTimeout(linearRegister, p.history, time.Minute); r != porcupine.Ok {
		t.Errorf("the history of %d calls is %s", len(p.history), r)
	}
}

// awaitCalls returns when there are n more calls, or for the rest of them.
func (p *pair) awaitCalls(n int) {
	p.Helper()
	count := func() int { p.mu.Lock(); defer p.mu.Unlock(); return len(p.history) }
	from, begin := count(), time.Now()
	until(p.T, time.Minute, "calls", func() bool { return count() >= from+n || time.Since(begin) > 2*time.Second })
}

// watch reads all ids of a node again and again.
func (p *pair) watch(e *tiers.Engine, stop <-chan struct{}) {
	var seen [linearIDs]item.Version
	for {
		for i := range seen {
			h, ok, err := e.Get(context.Background(), nodeKey(i), tiers.ReadOptions{})
			if err != nil || !ok {
				continue
			}
			if v := h.View.Version(); v < seen[i] {
				p.Errorf("a node served %s of id %d from %s after %s", v, i, h.Source, seen[i])
			} else {
				seen[i] = v
			}
			h.Release()
		}
		select {
		case <-stop:
			return
		case <-time.After(time.Millisecond):
		}
	}
}

func nodeKey(i int) item.Key {
	return item.AppendKey(nil, item.NamespaceItem, fmt.Sprintf("k%d", i))
}

// call submits if the item is still as a node shows it, and reports whether that
// was decided.
func (p *pair) call(rng *rand.Rand, client int, content string) bool {
	e, i := p.nodes[rng.IntN(2)], rng.IntN(linearIDs)
	in := linearOp{id: fmt.Sprint(i), kind: "cas", content: content}
	h, ok, err := e.Get(context.Background(), nodeKey(i), tiers.ReadOptions{})
	if err != nil {
		return false
	}
	if ok {
		in.from = string(h.View.Content())
	}
	h.Release()
	c := tiers.Condition{NoneAny: !ok}
	if ok {
		c.Match = []item.ETag{item.ETagOf("application/octet-stream", []byte(in.from))}
	}
	begin := time.Since(p.start)
	r, err := e.CompareAndSubmit(context.Background(), &c, &tiers.Write{Key: nodeKey(i), Content: []byte(content)})
	p.note(client, in, begin, err)
	if err != nil {
		return errors.Is(err, tiers.ErrPrecondition)
	}
	h, ok, err = e.Get(context.Background(), nodeKey(i), tiers.ReadOptions{})
	if err == nil && (!ok || h.View.Version() < r.Version) {
		p.Errorf("wrote %s of id %d and read %v", r.Version, i, ok)
	}
	h.Release()
	return true
}

// note adds a call to the history, unless it was refused before it began.
func (p *pair) note(client int, in linearOp, begin time.Duration, err error) {
	out, end := linearResult{failed: errors.Is(err, tiers.ErrPrecondition)}, int64(time.Since(p.start))
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case err == nil, out.failed:
	case errors.Is(err, tiers.ErrUnknownFate):
		p.unknown++
		out.unknown, end, client = true, math.MaxInt64, 100+p.unknown
	default:
		return
	}
	p.history = append(p.history, porcupine.Operation{ClientId: client, Input: in, Call: int64(begin), Output: out, Return: end})
}

// final reads what SQL holds in the end, by both nodes.
func (p *pair) final() {
	p.Helper()
	for i := range linearIDs {
		begin := time.Since(p.start)
		var got [2]string
		until(p.T, 20*time.Second, "both nodes agree", func() bool {
			for n, e := range p.nodes {
				h, ok, err := e.Get(context.Background(), nodeKey(i), tiers.ReadOptions{})
				if err != nil {
					return false
				}
				if got[n] = ""; ok {
					got[n] = string(h.View.Content())
				}
				h.Release()
			}
			return got[0] == got[1]
		})
		p.history = append(p.history, porcupine.Operation{
			Input: linearOp{id: fmt.Sprint(i), kind: "get"}, Call: int64(begin), Output: linearResult{got: got[0]}, Return: int64(time.Since(p.start)),
		})
	}
}
