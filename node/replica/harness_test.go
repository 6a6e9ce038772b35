package replica_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"go.uber.org/goleak"

	"github.com/edgenode/edgenode/node/api"
	"github.com/edgenode/edgenode/node/front"
	"github.com/edgenode/edgenode/node/replica"
	"github.com/edgenode/edgenode/tiers"
	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/tiertest/mariadbtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(mariadbtest.Main(m)) }

// patience is how long a test waits for what must come.
const patience = time.Minute

func openEngine(t testing.TB, dir string, change func(*tiers.Options)) *tiers.Engine {
	t.Helper()
	o := tiers.Options{
		DataDir: dir, L1MaxBytes: 16 << 20, MaxPayloadBytes: 4 << 20, JournalMaxBytes: 64 << 20, BatchFlush: 2 * time.Millisecond, ExpirySweep: time.Hour,
		MerkleCalc: true, MerkleJitter: time.Millisecond, FollowInterval: 5 * time.Millisecond, Logger: slog.New(slog.DiscardHandler),
	}
	if change != nil {
		change(&o)
	}
	e, err := tiers.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close(context.Background()) })
	return e
}

// A site is a node as far as it takes part: engine, items API, listener, and what
// follows the hub.
type site struct {
	testing.TB
	dir  string
	e    *tiers.Engine
	r    *replica.Replica // nil: a hub
	s    *front.Server
	url  string
	gone atomic.Uint64 // changes up to this number are told to be gone

	feedless atomic.Bool // there is no feed
}

// A forgetful engine does not keep the changes that it is told.
type forgetful struct {
	*tiers.Engine
	site *site
}

func (f forgetful) Feed(ctx context.Context, q tiers.FeedQuery, fn func(*tiers.Event) error) (uint64, error) {
	if f.site.feedless.Load() {
		return q.After, tiers.ErrUnavailable
	}
	if q.After < f.site.gone.Load() {
		return q.After, fmt.Errorf("test: %w", tiers.ErrChangesGone)
	}
	return f.Engine.Feed(ctx, q, fn)
}

// openSite opens a node in dir; with o it follows o.From.
func openSite(t testing.TB, dir string, o *replica.Options, tokens ...api.Token) *site {
	t.Helper()
	return openSiteOn(t, dir, nil, o, tokens...)
}

// openSiteOn is openSite with another engine.
func openSiteOn(t testing.TB, dir string, change func(*tiers.Options), o *replica.Options, tokens ...api.Token) *site {
	t.Helper()
	n := &site{TB: t, dir: dir, e: openEngine(t, dir, change)}
	ao := api.Options{Engine: forgetful{n.e, n}, Merkle: n.e, MaxPayload: 4 << 20, Tokens: tokens, Log: slog.New(slog.DiscardHandler)}
	if o != nil {
		n.follow(*o)
		ao.Replica = n.r
	}
	a, err := api.New(ao)
	if err != nil {
		t.Fatal(err)
	}
	if n.s, err = front.Listen(front.Options{Name: "data", Address: "127.0.0.1:0", Logger: slog.New(slog.DiscardHandler), Metrics: metrics.NewSet()}); err != nil {
		t.Fatal(err)
	}
	n.s.Start(func(x *front.Exchange) { a.Serve(x) })
	n.url = "http://" + n.s.Addr().String()
	t.Cleanup(n.close)
	return n
}

// follow opens what follows the hub, quick unless o says otherwise.
func (n *site) follow(o replica.Options) {
	n.Helper()
	o.Engine, o.Dir, o.Self = n.e, n.dir, n.e.Identity().ID
	if o.Client == nil {
		o.Client = &http.Transport{}
	}
	if o.Now == nil {
		o.Now = func() int64 { return time.Now().UnixMilli() }
	}
	if o.RetryMax == 0 {
		o.RetryMax = 50 * time.Millisecond
	}
	var err error
	if n.r, err = replica.Open(o); err != nil {
		n.Fatal(err)
	}
	n.Cleanup(n.r.Close)
}

// close ends it in good order; it may be called again.
func (n *site) close() {
	now, cancel := context.WithCancel(context.Background())
	cancel()
	if n.r != nil {
		n.r.Close()
	}
	n.s.Shutdown(now)
	n.e.Close(context.Background())
}

// ask sends a request and returns status, fields and body.
func (n *site) ask(method, path, body string, fields ...string) (int, http.Header, string) {
	n.Helper()
	req, err := http.NewRequest(method, n.url+path, strings.NewReader(body))
	if err != nil {
		n.Fatal(err)
	}
	for i := 0; i < len(fields); i += 2 {
		req.Header.Set(fields[i], fields[i+1])
	}
	resp, err := client.Do(req)
	if err != nil {
		n.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		n.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(b)
}

var client = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}

// want fails unless the answer has a status, and returns fields and body.
func (n *site) want(status int, method, path, body string, fields ...string) (http.Header, string) {
	n.Helper()
	got, h, b := n.ask(method, path, body, fields...)
	if got != status {
		n.Fatalf("%s %s: %d %s, want %d", method, path, got, b, status)
	}
	return h, b
}

// put writes at the hub.
func (n *site) put(id, content string) {
	n.Helper()
	if _, err := n.e.Submit(context.Background(), &tiers.Write{Key: key(n, id), Content: []byte(content), MIME: "text/plain"}); err != nil {
		n.Fatal(err)
	}
}

func (n *site) delete(id string) {
	n.Helper()
	if _, err := n.e.Delete(context.Background(), key(n, id), nil, 0); err != nil {
		n.Fatal(err)
	}
}

func (n *site) flush() {
	n.Helper()
	if err := n.e.Flush(context.Background()); err != nil {
		n.Fatal(err)
	}
}

func key(t testing.TB, id string) item.Key {
	t.Helper()
	k, err := item.IDKey(id)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// items returns what a node lists below a prefix, with versions and metadata.
func (n *site) items(prefix string) map[string]string {
	n.Helper()
	all := map[string]string{}
	for cursor := ""; ; {
		next, err := n.e.List(context.Background(), tiers.Query{Limit: 1000, Cursor: cursor, Prefix: prefix}, func(v item.View) error {
			tags := ""
			for t := range v.Tags {
				tags += t + ","
			}
			all[v.Key().ID()] = fmt.Sprintf("%s %s %s %s %d %.30s %d", v.Version(), v.ContentVersion(), v.State(), tags, v.ExpiresAt(), v.Content(), len(v.Content()))
			return nil
		})
		if err != nil {
			n.Fatal(err)
		}
		if cursor = next; cursor == "" {
			return all
		}
	}
}

// differs says how the replica differs from its hub, "" if it does not.
func (n *site) differs(hub *site, prefix string) string {
	n.Helper()
	want, got := hub.items(prefix), n.items(prefix)
	for id, v := range want {
		if got[id] != v {
			return fmt.Sprintf("%s is %q, want %q", id, got[id], v)
		}
	}
	for id := range got {
		if want[id] == "" {
			return id + " is at the replica only"
		}
	}
	return ""
}

// wantEqual waits until the replica has what the hub has, and fails if it does not
// come to that.
func (n *site) wantEqual(hub *site, prefix string) {
	n.Helper()
	hub.flush()
	await(n, func() bool { return n.differs(hub, prefix) == "" }, func() string {
		return fmt.Sprintf("%s; %+v", n.differs(hub, prefix), n.r.Health())
	})
}

// await waits until ok says so.
func await(t testing.TB, ok func() bool, why func() string) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatal("it does not come: " + why())
		}
	}
}

// awaitState waits until the replica is in a state.
func (n *site) awaitState(state string) {
	n.Helper()
	await(n, func() bool { return n.r.Health().State == state }, func() string { return fmt.Sprintf("%+v, want %s", n.r.Health(), state) })
}

// A wire is what is between replica and hub, and can be cut.
type wire struct {
	ln  net.Listener
	url string

	mu    sync.Mutex
	to    string
	cut   bool
	conns map[net.Conn]bool
	ended sync.WaitGroup
}

func newWire(t *testing.T, hub *site) *wire {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{ln: ln, url: "http://" + ln.Addr().String(), conns: map[net.Conn]bool{}}
	w.lead(hub)
	w.ended.Go(w.accept)
	t.Cleanup(func() {
		ln.Close()
		w.set(true)
		w.ended.Wait()
	})
	return w
}

// lead makes it lead to another hub.
func (w *wire) lead(hub *site) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.to = hub.s.Addr().String()
}

// set cuts it, or makes it whole.
func (w *wire) set(cut bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cut = cut; cut {
		for c := range w.conns {
			c.Close()
		}
	}
}

func (w *wire) accept() {
	for {
		c, err := w.ln.Accept()
		if err != nil {
			return
		}
		w.ended.Go(func() { w.carry(c) })
	}
}

func (w *wire) carry(c net.Conn) {
	defer c.Close()
	w.mu.Lock()
	to, cut := w.to, w.cut
	w.mu.Unlock()
	if cut {
		return
	}
	far, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	defer far.Close()
	w.mu.Lock()
	if w.cut {
		w.mu.Unlock()
		return
	}
	w.conns[c], w.conns[far] = true, true
	w.mu.Unlock()
	var both sync.WaitGroup
	both.Go(func() { io.Copy(far, c); far.Close(); c.Close() })
	both.Go(func() { io.Copy(c, far); far.Close(); c.Close() })
	both.Wait()
	w.mu.Lock()
	delete(w.conns, c)
	delete(w.conns, far)
	w.mu.Unlock()
}

// pair is a hub, and a replica behind a wire.
func pair(t *testing.T, o replica.Options) (hub, n *site, w *wire) {
	t.Helper()
	hub = openSite(t, filepath.Join(t.TempDir(), "hub"), nil)
	w = newWire(t, hub)
	o.From = w.url
	n = openSite(t, filepath.Join(t.TempDir(), "replica"), &o)
	return hub, n, w
}
