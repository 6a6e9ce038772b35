package crash_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edgenode/edgenode/tiers/tiertest/redistest"
)

// trusted says that Redis is read.
func trusted(h *health) bool { return h.L2 != nil && h.L2.OK && h.L2.Trusted }

// degraded says that something is amiss, and that it is named.
func degraded(h *health) bool { return h.Verdict == "degraded" && len(h.Reasons) > 0 }

// stop tells the node to stop and waits until it has.
func (p *process) stop() {
	p.tb.Helper()
	p.signal(termination)
	if code := p.end(); code != 0 {
		p.tb.Fatalf("SIGTERM: exit code %d\n%s", code, p.log())
	}
}

// A status is what {id}:status answers.
type status struct {
	Where      string
	L1, L2, L3 bool
}

// awaitStatus returns when the status of an id is as f wants it.
func (p *process) awaitStatus(id string, f func(s status) bool) {
	p.tb.Helper()
	tick := time.NewTicker(askAgain)
	defer tick.Stop()
	for begin := time.Now(); ; <-tick.C {
		var s status
		body := p.must("GET", "/v1/items/"+id+":status", "", ok).body
		if err := json.Unmarshal([]byte(body), &s); err != nil {
			p.tb.Fatal(err)
		}
		if f(s) {
			return
		}
		if time.Since(begin) > patience {
			p.tb.Fatalf("the status of %s stays %s", id, body)
		}
	}
}

// from demands content and tier of an id.
func (p *process) from(id, content, detail string) {
	p.tb.Helper()
	a := p.must("GET", "/v1/items/"+id, "", ok)
	if got := a.header.Get("Cache-Status"); a.body != content || !strings.Contains(got, "detail="+detail) {
		p.tb.Errorf("%s is %q, %s; want %q from %s", id, a.body, got, content, detail)
	}
}

// TestThroughRedis: what is written is in every tier, and comes from Redis after
// a restart; lifetimes of copies, cache-only items, deletes and purges.
func TestThroughRedis(t *testing.T) {
	redis, dir := redistest.Start(t, redistest.Options{}), t.TempDir()
	settings := []string{"EDGENODE_REDIS_URL=" + redis.URL(), "EDGENODE_REDIS_PREFIX=t:", "EDGENODE_BATCH_FLUSH_MS=5"}
	p := start(t, dir, settings...)
	p.awaitHealth(trusted)
	p.must("PUT", "/v1/items/a", "one", written)
	p.must("PUT", "/v1/items/short", "two", written, "Edge-TTL", "l2=1m, l3=1d")
	p.must("PUT", "/v1/items/cached", "three", written, "Edge-Tiers", "l2")
	p.must("PUT", "/v1/items/durable", "four", written, "Edge-Tiers", "l3")
	p.must("PUT", "/v1/items/gone", "five", written)
	for _, id := range []string{"a", "short", "gone"} {
		p.awaitStatus(id, func(s status) bool { return s == status{"synced", true, true, true} })
	}
	p.awaitStatus("cached", func(s status) bool { return s.L2 && !s.L3 })
	p.awaitStatus("durable", func(s status) bool { return !s.L2 && s.L3 })
	within := 0
	for _, key := range redis.Do("KEYS", "t:*").([]any) {
		if ttl := redis.Do("PTTL", fmt.Sprint(key)).(int64); ttl > 30_000 && ttl <= 60_000 { // fences live shorter
			within++
		}
	}
	if within != 1 {
		t.Errorf("%d copies end within a minute, want that of Edge-TTL: l2=1m", within)
	}
	p.must("DELETE", "/v1/items/gone", "", []int{204})
	p.stop()

	p = start(t, dir, settings...)
	p.awaitHealth(trusted)
	p.from("a", "one", "l2")
	p.from("short", "two", "l2")
	p.from("cached", "three", "l2")
	p.from("durable", "four", "l3")
	p.from("a", "one", "l1")
	p.must("GET", "/v1/items/gone", "", []int{404})
	var purged struct{ L1, L2, L3 int64 }
	body := p.must("POST", "/v1/purge", `{"id":"a"}`, ok, "Content-Type", "application/json").body
	if err := json.Unmarshal([]byte(body), &purged); err != nil || purged.L1 != 1 || purged.L2 > 1 {
		t.Errorf("purge: %s", body)
	}
	p.from("a", "one", "l3")
	p.stop()
}

// TestD12_LostRedis: health names a lost Redis within 2 s and its return within
// 5 s; reads and writes go on meanwhile, and what Redis missed is not served
// from it.
func TestD12_LostRedis(t *testing.T) {
	redis := redistest.Start(t, redistest.Options{Persist: redistest.AOF})
	p := start(t, t.TempDir(), "EDGENODE_REDIS_URL="+redis.URL(), "EDGENODE_BATCH_FLUSH_MS=5")
	p.awaitHealth(trusted)
	p.must("PUT", "/v1/items/a", "old", written)
	p.awaitStatus("a", func(s status) bool { return s.L2 })
	lost := func(how string, take, give func()) {
		t.Helper()
		take()
		if took := p.awaitHealth(degraded); took > inTime(2*time.Second) {
			t.Errorf("%s: health was degraded after %v, want 2 s", how, took)
		}
		p.must("PUT", "/v1/items/a", how, written)
		p.must("PUT", "/v1/items/cached", how, written, "Edge-Tiers", "l2")
		p.from("a", how, "l1")
		p.must("POST", "/v1/purge", `{"id":"a"}`, ok, "Content-Type", "application/json")
		if a := p.must("GET", "/v1/items/a", "", ok); a.body != how {
			t.Errorf("%s: a is %q", how, a.body)
		}
		give()
		if took := p.awaitHealth(func(h *health) bool { return trusted(h) && h.Verdict == "ok" }); took > inTime(5*time.Second) {
			t.Errorf("%s: health was well after %v, want 5 s", how, took)
		}
		if a := p.must("GET", "/v1/items/a", "", ok); a.body != how {
			t.Errorf("%s: with Redis back a is %q", how, a.body)
		}
	}
	lost("killed", redis.Kill, redis.Restart)
	lost("stopped", redis.Stop, redis.Cont)
	p.stop()
}

// TestA13_RedisDownAtStart: the node is ready without Redis and finds it when it
// comes.
func TestA13_RedisDownAtStart(t *testing.T) {
	redis, dir := redistest.Start(t, redistest.Options{}), t.TempDir()
	redis.Kill()
	settings := []string{"EDGENODE_REDIS_URL=" + redis.URL()}
	p := start(t, dir, settings...)
	p.must("PUT", "/v1/items/a", "one", written)
	p.from("a", "one", "l1")
	if h := p.health(); h.L2 == nil || h.L2.Trusted {
		t.Errorf("health of Redis: %+v", h.L2)
	}
	p.kill()
	begin := time.Now()
	p = start(t, dir, settings...)
	if took := time.Since(begin); took > inTime(2*time.Second) {
		t.Errorf("ready after %v, want 2 s", took)
	}
	if a := p.must("GET", "/v1/items/a", "", ok); a.body != "one" {
		t.Errorf("a is %q", a.body)
	}
	redis.Restart()
	p.awaitHealth(trusted)
	p.stop()
}

// TestA1_KillNineOfRedisAndNode kills Redis, and then the node, while writers
// write, again and again, sometimes with Redis empty afterwards; the ledger
// stands.
func TestA1_KillNineOfRedisAndNode(t *testing.T) {
	rng := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 0))
	dir, l := t.TempDir(), newLedger()
	for _, persist := range []redistest.Persistence{redistest.AOF, redistest.None} {
		redis := redistest.Start(t, redistest.Options{Persist: persist})
		for range max(killCycles/10, 2) {
			p := start(t, dir, "EDGENODE_REDIS_URL="+redis.URL(), "EDGENODE_BATCH_FLUSH_MS=5", "EDGENODE_FOLLOW_INTERVAL=50ms")
			if err := l.check(p); err != nil {
				t.Fatalf("after a restart: %v\n%s", err, p.log())
			}
			p.awaitHealth(trusted)
			if err := underLoad(p, l, rng, 150, redis.Kill, redis.Restart, redis.Stop, redis.Cont, p.kill); err != nil {
				t.Fatalf("%v\n%s", err, p.log())
			}
		}
	}
	p := start(t, dir)
	if err := l.check(p); err != nil {
		t.Fatalf("without Redis: %v\n%s", err, p.log())
	}
	p.stop()
	t.Logf("%d ids", len(l.last))
}

// underLoad lets writers write and takes a step after every so many
// acknowledgements, here, on the goroutine of the test. The last step ends the
// node.
func underLoad(p *process, l *ledger, rng *rand.Rand, every int64, steps ...func()) error {
	return load(p, l, rng, false, every, steps)
}

// underOutage is underLoad where SQL goes away: what has to ask it is not sent,
// and 503 says nothing about the fate of a write.
func underOutage(p *process, l *ledger, rng *rand.Rand, every int64, steps ...func()) error {
	return load(p, l, rng, true, every, steps)
}

func load(p *process, l *ledger, rng *rand.Rand, outage bool, every int64, steps []func()) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(len(steps)+1)*patience)
	defer cancel()
	var acks atomic.Int64
	reached := make(chan struct{}, len(steps))
	acked := func() {
		if n := acks.Add(1); n%every == 0 && n/every <= int64(len(steps)) {
			reached <- struct{}{}
		}
	}
	var wg sync.WaitGroup
	errs, late := make([]error, 8), []error(nil)
	for i := range errs {
		w := &writer{name: fmt.Sprintf("w%d", i), p: p, l: l, acked: acked, rng: rand.New(rand.NewPCG(rng.Uint64(), 0))}
		if w.shared = i >= 6; w.shared {
			w.name, w.n = "shared", i*1_000_000_000
		}
		if outage {
			w.shared, w.outage = true, true
		}
		wg.Go(func() {
			if errs[i] = w.run(ctx); errs[i] != nil {
				cancel()
			}
		})
	}
	for _, step := range steps {
		select {
		case <-reached:
		case <-ctx.Done():
			late = append(late, fmt.Errorf("after %d acknowledgements: %w", acks.Load(), context.Cause(ctx)))
		}
		step()
	}
	wg.Wait()
	return errors.Join(append(errs, late...)...)
}

// TestSitesShareRedis: what one node has fetched, another one with the same
// Redis serves without the origin.
func TestSitesShareRedis(t *testing.T) {
	var asked atomic.Int64
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		w.Header().Set("Cache-Control", "max-age=600")
		fmt.Fprintf(w, "page %s", r.URL.Path)
	}))
	defer origin.Close()
	redis, dir := redistest.Start(t, redistest.Options{}), t.TempDir()
	config := writeFile(t, dir, "edgenode.toml", fmt.Sprintf(`
redis_url = %q
[[pool]]
name = "main"
origins = [%q]
[[site]]
name = "shop"
hosts = ["shop.example"]
pool = "main"
`, redis.URL(), origin.URL))
	one := start(t, filepath.Join(dir, "one"), "EDGENODE_CONFIG="+config)
	one.awaitHealth(trusted)
	two := start(t, filepath.Join(dir, "two"), "EDGENODE_CONFIG="+config)
	two.awaitHealth(trusted)
	one.must("GET", "/a", "", ok, "Host", "shop.example")
	tick := time.NewTicker(askAgain)
	defer tick.Stop()
	for begin := time.Now(); len(redis.Do("KEYS", "*").([]any)) < 2; <-tick.C { // a mark, and the page
		if time.Since(begin) > patience {
			t.Fatalf("nothing is in Redis\n%s", one.log())
		}
	}
	before := asked.Load()
	a := two.must("GET", "/a", "", ok, "Host", "shop.example")
	if a.body != "page /a" || asked.Load() != before {
		t.Errorf("got %q, %s; the origin was asked %d times more", a.body, a.header.Get("Cache-Status"), asked.Load()-before)
	}
	one.stop()
	two.stop()
}
