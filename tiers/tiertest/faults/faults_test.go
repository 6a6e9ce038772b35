package faults_test

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"

	"github.com/edgenode/edgenode/tiers"
	"github.com/edgenode/edgenode/tiers/tiertest/mariadbtest"
	"github.com/edgenode/edgenode/tiers/tiertest/redistest"
)

const (
	namedWithin     = 2 * time.Second // health names a lost backend
	recoveredWithin = 5 * time.Second // and trusts it again
)

// A server is a backend behind a proxy.
type server struct {
	name                      string
	proxy                     *toxiproxy.Proxy
	stop, resume, kill, start func()
}

// A fault is what a server or the way to it suffers.
type fault struct {
	name string
	hard bool // the backend counts as lost
	on   func(t *testing.T, s *server)
	off  func(s *server)
}

// toxic is a fault of the proxy, in toxiproxy's words.
func toxic(name string, hard bool, specs ...string) fault {
	return fault{name: name, hard: hard,
		on: func(t *testing.T, s *server) {
			for _, spec := range specs {
				if _, err := s.proxy.Toxics.AddToxicJson(strings.NewReader(spec)); err != nil {
					t.Fatal(err)
				}
			}
		},
		off: func(s *server) { s.proxy.Toxics.ResetToxics(context.Background()) },
	}
}

var faults = []fault{
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
	{"SIGSTOP", true, func(_ *testing.T, s *server) { s.stop() }, func(s *server) { s.resume() }},
	{"kill -9", true, func(_ *testing.T, s *server) { s.kill() }, func(s *server) { s.start() }},
}

// A rig is an engine whose L3 and L2 are behind proxies.
type rig struct {
	*testing.T
	dir        string
	sqlURL     string // empty: SQLite
	redis, sql *server
	e          *tiers.Engine
}

// newRig starts Redis, and an engine on it and on a new database of maria, or on
// SQLite if that is nil.
func newRig(t *testing.T, maria *mariadbtest.Server) *rig {
	r := &rig{T: t, dir: t.TempDir()}
	redis := redistest.Start(t, redistest.Options{})
	r.redis = &server{
		name: "L2", proxy: newProxy(t, "redis", redis.Addr()),
		stop: redis.Stop, resume: redis.Cont, kill: redis.Kill, start: redis.Restart,
	}
	if maria != nil {
		r.sql = &server{
			name: "L3", proxy: newProxy(t, "mariadb", maria.Addr()),
			stop: func() { maria.Stop(t) }, resume: func() { maria.Cont(t) }, kill: maria.Kill, start: func() { maria.Restart(t) },
		}
		r.sqlURL = maria.URLAt(r.sql.proxy.Listen, maria.Database(t))
	}
	r.open()
	t.Cleanup(func() { r.e.Close(context.Background()) })
	return r
}

func newProxy(t *testing.T, name, upstream string) *toxiproxy.Proxy {
	proxy := toxiproxy.NewProxy(toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop()), name, "127.0.0.1:0", upstream)
	if err := proxy.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(proxy.Stop)
	return proxy
}

func (r *rig) open() {
	r.Helper()
	e, err := tiers.Open(r.Context(), tiers.Options{
		DataDir: r.dir, L1MaxBytes: 16 << 20, MaxPayloadBytes: 1 << 20, JournalMaxBytes: 64 << 20, BatchFlush: 5 * time.Millisecond,
		Logger: slog.New(slog.DiscardHandler), RedisURL: "redis://" + r.redis.proxy.Listen + "/0",
		RedisTimeout: 300 * time.Millisecond, FollowInterval: 50 * time.Millisecond,
		SQLURL: r.sqlURL, L3Timeout: time.Second, L3ApplyTimeout: 2 * time.Second,
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

// awaitNamed waits until health says that s is lost.
func (r *rig) awaitNamed(s *server) {
	r.Helper()
	r.await(namedWithin, "health names "+s.name, func(h tiers.Health) bool {
		b := h.L3
		if s == r.redis {
			b = h.L2
		}
		return !b.OK && h.Verdict == "degraded"
	})
}

// suffer lets s have a fault while clients work, and then compares what they were
// told with what is there, also after a restart.
func (r *rig) suffer(s *server, f fault) {
	r.awaitWell(20 * time.Second)
	ledger := newLedger()
	stop := ledger.work(r.T, r.e)
	for range repeats {
		f.on(r.T, s)
		if f.hard {
			r.awaitNamed(s)
		}
		wait(duration)
		f.off(s)
		r.awaitWell(recoveredWithin)
	}
	stop()
	ledger.check(r.T, r.e, true)
	if err := r.e.Flush(r.Context()); err != nil {
		r.Fatal(err)
	}
	if err := r.e.Close(r.Context()); err != nil {
		r.Fatal(err)
	}
	r.open()
	ledger.check(r.T, r.e, false)
	r.awaitWell(recoveredWithin)
	ledger.check(r.T, r.e, true)
}

// TestRedisFaults: whatever Redis does, no acknowledged write is lost, nothing
// deleted comes back, no read is wrong, and health says what is the matter.
func TestRedisFaults(t *testing.T) {
	for _, f := range faults {
		t.Run(f.name, func(t *testing.T) {
			r := newRig(t, nil)
			r.suffer(r.redis, f)
		})
	}
}

// TestMariaDBFaults is TestRedisFaults for the SQL server, with Redis beside it.
func TestMariaDBFaults(t *testing.T) {
	maria := mariadbtest.Start(t, mariadbtest.Options{})
	for _, f := range faults {
		t.Run(f.name, func(t *testing.T) {
			r := newRig(t, maria)
			r.suffer(r.sql, f)
		})
	}
}

// wait lets a fault last: real servers have no fake clock.
func wait(d time.Duration) { <-time.After(d) }
