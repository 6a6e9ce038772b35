package refcache_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"go.uber.org/goleak"

	"github.com/edgenode/edgenode/node/proxy"
	"github.com/edgenode/edgenode/node/proxy/refcache"
	"github.com/edgenode/edgenode/tiers"
	"github.com/edgenode/edgenode/tiers/item"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A store is the engine of a world: a map and a list of rules.
type store struct {
	now   func() int64
	clock *item.Clock

	mu    sync.Mutex
	items map[string]item.View
	rules []item.Rule
}

func (s *store) Get(_ context.Context, key item.Key, _ tiers.ReadOptions) (tiers.Hit, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, ok := s.items[string(key)]
	if !ok || v.Expired(s.now()) {
		return tiers.Hit{}, false, nil
	}
	soft := false
	for i := range s.rules {
		if s.rules[i].Covers(v) {
			if s.rules[i].Op != item.OpPurgeSoft {
				return tiers.Hit{}, false, nil
			}
			soft = true
		}
	}
	return tiers.Hit{View: v, Source: tiers.FromL1, Stale: soft}, true, nil
}

func (s *store) Submit(_ context.Context, w *tiers.Write) (tiers.Receipt, error) {
	it := item.Item{Kind: item.KindPut, Tiers: w.Tiers, Key: w.Key, MIME: w.MIME, Tags: w.Tags, Response: w.Response, Content: w.Content, Version: w.Version, ContentVersion: w.Version}
	if w.TTL > 0 {
		it.ExpiresAt = s.now() + w.TTL.Milliseconds()
	}
	if err := it.Check(); err != nil {
		return tiers.Receipt{}, err
	}
	v := item.View(it.AppendTo(nil))
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.rules {
		if s.rules[i].Covers(v) {
			return tiers.Receipt{}, tiers.ErrPurged
		}
	}
	if old, ok := s.items[string(w.Key)]; ok && old.Version() > w.Version {
		return tiers.Receipt{}, tiers.ErrSuperseded
	}
	s.items[string(w.Key)] = v
	return tiers.Receipt{Version: w.Version}, nil
}

func (s *store) Purge(_ context.Context, p tiers.Purge) (tiers.BulkReceipt, error) {
	r := item.Rule{Op: item.OpPurge, Match: p.Match, Namespaces: p.Namespaces, Values: p.Values, Version: s.clock.Stamp()}
	if p.Soft {
		r.Op = item.OpPurgeSoft
	}
	if err := r.Check(); err != nil {
		return tiers.BulkReceipt{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rules = append(s.rules, r)
	return tiers.BulkReceipt{Version: r.Version}, nil
}

func (s *store) Stamp() item.Version { return s.clock.Stamp() }

func (s *store) CoveredSince(key item.Key, tags []string, since item.Version) bool {
	it := item.Item{Kind: item.KindPut, Key: key, Tags: tags, ContentVersion: since, Version: since}
	v := item.View(it.AppendTo(nil))
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.rules {
		if s.rules[i].Covers(v) {
			return true
		}
	}
	return false
}

// Hottest is empty: nothing is refreshed ahead here.
func (s *store) Hottest(int) tiers.Hottest { return tiers.Hottest{} }

func (s *store) Crowded() bool { return false }

// forget empties the store; rules that cover nothing any more go too.
func (s *store) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.items)
	s.rules = nil
}

// An asked is one exchange of the proxy with the origin.
type asked struct {
	method, target string
	fields         http.Header
	at, came       time.Time
	plan           *plan // what was answered
	answer         *refcache.Answer
}

// world is a proxy, a store and an origin on loopback, under one clock.
type world struct {
	testing.TB
	p     *proxy.Proxy
	store *store
	set   *metrics.Set
	clock atomic.Int64
	ln    net.Listener
	conns sync.WaitGroup

	mu    sync.Mutex
	reply func(a *asked, r *http.Request) // fills plan and answer
	asked []*asked
}

func newWorld(t testing.TB) *world {
	w := &world{TB: t, set: metrics.NewSet()}
	w.clock.Store(time.Date(2044, 11, 6, 8, 49, 37, 0, time.UTC).UnixMilli())
	now := w.clock.Load
	w.store = &store{now: now, clock: item.NewClock(0, now), items: map[string]item.View{}}
	var err error
	if w.ln, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	w.p, err = proxy.New(proxy.Options{
		Engine: w.store, Now: now, Metrics: w.set,
		Pools: []proxy.Pool{{Name: "main", Origins: []string{"http://" + w.ln.Addr().String()}}},
		Sites: []proxy.Site{{Name: "shop", Hosts: []string{"shop.example"}, Pool: "main", Tiers: item.L1}}, ShareAfter: 1,
	})
	if err != nil {
		t.Fatal(err)
	}
	w.conns.Add(1)
	go w.accept()
	t.Cleanup(func() {
		w.p.Close()
		w.ln.Close()
		w.conns.Wait()
	})
	return w
}

func (w *world) now() time.Time       { return time.UnixMilli(w.clock.Load()).UTC() }
func (w *world) pass(d time.Duration) { w.clock.Add(d.Milliseconds()) }

func (w *world) accept() {
	defer w.conns.Done()
	for {
		c, err := w.ln.Accept()
		if err != nil {
			return
		}
		w.conns.Add(1)
		go func() {
			defer w.conns.Done()
			defer c.Close()
			for r := bufio.NewReader(c); w.one(c, r); {
			}
		}()
	}
}

// one answers one request on an origin's connection; false closes it.
func (w *world) one(c net.Conn, r *bufio.Reader) bool {
	q, err := http.ReadRequest(r)
	if err != nil {
		return false
	}
	io.Copy(io.Discard, q.Body)
	w.mu.Lock()
	a := &asked{method: q.Method, target: q.RequestURI, fields: q.Header, at: w.now()}
	w.asked = append(w.asked, a)
	w.reply(a, q)
	w.mu.Unlock()
	if a.plan.fault == closes {
		return false
	}
	if _, err = c.Write(a.wire()); err != nil {
		return false
	}
	return a.plan.fault == none
}

// take returns what the origin was asked since the last call, when nothing is
// on its way any more.
func (w *world) take() []*asked {
	fills := w.set.GetOrCreateGauge("edgenode_proxy_fills", nil)
	for fills.Get() != 0 {
		runtime.Gosched()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	all := w.asked
	w.asked = nil
	return all
}

// purge purges by URL.
func (w *world) purge(url string, soft bool) {
	match, values, err := w.p.PurgeURL(url)
	if err == nil {
		_, err = w.store.Purge(context.Background(), tiers.Purge{Soft: soft, Namespaces: item.InSites, Match: match, Values: values})
	}
	if err != nil {
		w.Fatal(err)
	}
}

// An exchange is a client's request and the answer to it.
type exchange struct {
	r       refcache.Request
	target  string
	status  int
	head    bytes.Buffer
	out     bytes.Buffer
	aborted bool
}

func (x *exchange) Method() string { return x.r.Method }
func (x *exchange) Target() []byte { return []byte(x.target) }
func (x *exchange) Host() []byte   { return []byte("shop.example") }
func (x *exchange) Scheme() string { return "http" }
func (x *exchange) Header(name string) []byte {
	if all := x.r.Fields.Lines(name); all != nil {
		return []byte(all[0])
	}
	return nil
}
func (x *exchange) Fields(yield func(name, value []byte) bool) {
	for _, f := range x.r.Fields {
		if !yield([]byte(f.Name), []byte(f.Value)) {
			return
		}
	}
}
func (x *exchange) ContentLength() int64            { return 0 }
func (x *exchange) Body() io.Reader                 { return strings.NewReader("") }
func (x *exchange) Client() netip.Addr              { return netip.MustParseAddr("192.0.2.7") }
func (x *exchange) Peer() netip.Addr                { return x.Client() }
func (x *exchange) HTTP10() bool                    { return false }
func (x *exchange) Context() context.Context        { return context.Background() }
func (x *exchange) Informational(int, []byte) error { return nil }
func (x *exchange) Status(code int)                 { x.status = code }
func (x *exchange) Add(name, value string)          { fmt.Fprintf(&x.head, "%s: %s\r\n", name, value) }
func (x *exchange) AddBlock(block []byte)           { x.head.Write(block) }
func (x *exchange) Send(body []byte) error          { x.out.Write(body); return nil }
func (x *exchange) SendSized(int64) error           { return nil }
func (x *exchange) Stream(int64) (io.Writer, error) { return &x.out, nil }
func (x *exchange) Abort()                          { x.aborted = true }
func (x *exchange) CloseAfter()                     {}

// fields returns the header of the answer.
func (x *exchange) fields() refcache.Fields {
	var all refcache.Fields
	for _, l := range strings.Split(x.head.String(), "\r\n") {
		if name, value, ok := strings.Cut(l, ":"); ok {
			all = append(all, refcache.Field{Name: name, Value: strings.Trim(value, " \t")})
		}
	}
	return all
}
