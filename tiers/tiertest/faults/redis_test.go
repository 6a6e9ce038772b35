package faults_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"

	"github.com/edgenode/edgenode/tiers"
	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/tiertest/redistest"
)

const (
	namedWithin     = 2 * time.Second // health names a lost backend
	recoveredWithin = 5 * time.Second // and trusts it again
)

// A fault is what a server or the way to it suffers.
type fault struct {
	name string
	hard bool // the backend counts as lost
	on   func(r *rig)
	off  func(r *rig)
}

// toxic is a fault of the proxy, in toxiproxy's words.
func toxic(name string, hard bool, specs ...string) fault {
	return fault{name: name, hard: hard,
		on: func(r *rig) {
			for _, spec := range specs {
				if _, err := r.proxy.Toxics.AddToxicJson(strings.NewReader(spec)); err != nil {
					r.Fatal(err)
				}
			}
		},
		off: func(r *rig) { r.proxy.Toxics.ResetToxics(context.Background()) },
	}
}

var redisFaults = []fault{
	toxic("latency", false, `{"type":"latency","attributes":{"latency":30,"jitter":20}}`),
	toxic("latency above the limit", true, `{"type":"latency","attributes":{"latency":3000}}`),
	toxic("timeout", true, `{"type":"timeout","attributes":{"timeout":50}}`),
	toxic("half-open: nothing comes back", true, `{"type":"timeout","attributes":{"timeout":0}}`),
	toxic("half-open: nothing arrives", true, `{"type":"timeout","stream":"upstream","attributes":{"timeout":0}}`),
	toxic("reset", true, `{"type":"reset_peer","attributes":{"timeout":5}}`),
	toxic("cut in the midst of an answer", true, `{"type":"limit_data","attributes":{"bytes":40}}`),
	toxic("slices", false, `{"type":"slicer","attributes":{"average_size":7,"size_variation":5,"delay":10}}`),
	toxic("slow close", false, `{"type":"slow_close","attributes":{"delay":500}}`),
	toxic("narrow", false, `{"type":"bandwidth","attributes":{"rate":64}}`, `{"type":"bandwidth","stream":"upstream","attributes":{"rate":64}}`),
	{"SIGSTOP", true, func(r *rig) { r.redis.Stop() }, func(r *rig) { r.redis.Cont() }},
	{"kill -9", true, func(r *rig) { r.redis.Kill() }, func(r *rig) { r.redis.Restart() }},
}

// A rig is an engine on SQLite and on a Redis behind a proxy.
type rig struct {
	*testing.T
	dir   string
	redis *redistest.Server
	proxy *toxiproxy.Proxy
	e     *tiers.Engine
}

func newRig(t *testing.T) *rig {
	r := &rig{T: t, dir: t.TempDir(), redis: redistest.Start(t, redistest.Options{})}
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	r.proxy = toxiproxy.NewProxy(server, "redis", "127.0.0.1:0", r.redis.Addr())
	if err := r.proxy.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.proxy.Stop)
	r.open()
	t.Cleanup(func() { r.e.Close(context.Background()) })
	return r
}

func (r *rig) open() {
	r.Helper()
	e, err := tiers.Open(r.Context(), tiers.Options{
		DataDir: r.dir, L1MaxBytes: 16 << 20, MaxPayloadBytes: 1 << 20, JournalMaxBytes: 64 << 20, BatchFlush: 5 * time.Millisecond,
		Logger: slog.New(slog.DiscardHandler), RedisURL: "redis://" + r.proxy.Listen + "/0",
		RedisTimeout: 300 * time.Millisecond, FollowInterval: 50 * time.Millisecond,
	})
	if err != nil {
		r.Fatal(err)
	}
	r.e = e
}

// await polls until f is true.
func (r *rig) await(within time.Duration, what string, f func(h tiers.Health) bool) {
	r.Helper()
	start := time.Now()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		h := r.e.Health(r.Context())
		if f(h) {
			return
		}
		if time.Since(start) > within {
			r.Fatalf("not within %v: %s; health %+v, L2 %+v", within, what, h, h.L2)
		}
		<-tick.C
	}
}

func (r *rig) awaitWell(within time.Duration) {
	r.Helper()
	r.await(within, "all is well and L2 is trusted", func(h tiers.Health) bool { return h.Verdict == "ok" && h.L2Trusted })
}

// TestRedisFaults: whatever Redis does, no acknowledged write is lost, nothing
// deleted comes back, no read is wrong, and health says what is the matter.
func TestRedisFaults(t *testing.T) {
	for _, f := range redisFaults {
		t.Run(f.name, func(t *testing.T) {
			r := newRig(t)
			r.awaitWell(20 * time.Second)
			ledger := newLedger()
			stop := ledger.work(t, r.e)
			for range repeats {
				f.on(r)
				if f.hard {
					r.await(namedWithin, "health names L2", func(h tiers.Health) bool { return !h.L2.OK && h.Verdict == "degraded" })
				}
				wait(duration)
				f.off(r)
				r.awaitWell(recoveredWithin)
			}
			stop()
			ledger.check(t, r.e)
			if err := r.e.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := r.e.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			r.open()
			ledger.check(t, r.e)
			r.awaitWell(recoveredWithin)
			ledger.check(t, r.e)
		})
	}
}

// wait lets a fault last: real servers have no fake clock.
func wait(d time.Duration) { <-time.After(d) }

// A ledger is what clients were told. Each client has ids of its own, so what it
// reads is what it wrote last.
type ledger struct {
	mu    sync.Mutex
	items map[string]string // by id; "" is deleted
}

func newLedger() *ledger { return &ledger{items: map[string]string{}} }

func (l *ledger) set(id, content string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.items[id] = content
}

// work has clients put, delete and read until stop is called.
func (l *ledger) work(t *testing.T, e *tiers.Engine) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for client := range 4 {
		wg.Go(func() {
			pace := time.NewTicker(2 * time.Millisecond)
			defer pace.Stop()
			for i := 0; ctx.Err() == nil; i++ {
				l.once(t, e, fmt.Sprintf("c%d/%d", client, i%20), i)
				<-pace.C
			}
		})
	}
	return func() { cancel(); wg.Wait() }
}

// once writes or deletes id, and reads it back from below L1.
func (l *ledger) once(t *testing.T, e *tiers.Engine, id string, i int) {
	key, ctx := item.AppendKey(nil, item.NamespaceItem, id), context.Background()
	content := fmt.Sprintf("%s at %d", id, i)
	var err error
	if i%5 == 4 {
		content = ""
		_, err = e.Delete(ctx, key, nil, 0)
	} else {
		_, err = e.Submit(ctx, &tiers.Write{Key: key, Content: []byte(content), Tiers: item.L2 | item.L3})
	}
	if err != nil {
		t.Errorf("%s: a write fails though SQL is well: %v", id, err)
		return
	}
	l.set(id, content)
	read(t, e, id, content)
}

func read(t *testing.T, e *tiers.Engine, id, want string) {
	h, ok, err := e.GetVerified(context.Background(), item.AppendKey(nil, item.NamespaceItem, id))
	defer h.Release()
	if errors.Is(err, tiers.ErrUnavailable) {
		return
	}
	got := ""
	if ok {
		got = string(h.View.Content())
	}
	if err != nil || got != want {
		t.Errorf("%s is %q from %s, %v, want %q", id, got, h.Source, err, want)
	}
}

// check reads every id.
func (l *ledger) check(t *testing.T, e *tiers.Engine) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.items) == 0 {
		t.Error("no client did anything")
	}
	for id, want := range l.items {
		read(t, e, id, want)
	}
}
