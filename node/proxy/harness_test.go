package proxy

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/edgenode/edgenode/tiers"
	"github.com/edgenode/edgenode/tiers/item"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// startMilli is the fake clock's beginning: Sun, 06 Nov 2044 08:49:37 GMT.
var startMilli = time.Date(2044, 11, 6, 8, 49, 37, 0, time.UTC).UnixMilli()

// fakeEngine keeps items in a map and rules in a list. It is honest: it refuses
// what a rule covers and what is older than what it has.
type fakeEngine struct {
	now   func() int64
	clock *item.Clock

	mu      sync.Mutex
	items   map[string]item.View
	rules   []item.Rule
	gets    atomic.Int64
	getErr  error
	submits int
	hot     map[string]uint64 // hits by key, for Hottest
	crowded atomic.Bool
}

func (e *fakeEngine) Hottest(int) (out tiers.Hottest) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for key, hits := range e.hot {
		out.Keys = append(out.Keys, tiers.HotKey{Key: []byte(key), Whole: true, Hits: hits})
	}
	return out
}

func (e *fakeEngine) Crowded() bool { return e.crowded.Load() }

func newFakeEngine(now func() int64) *fakeEngine {
	return &fakeEngine{now: now, clock: item.NewClock(0, now), items: map[string]item.View{}}
}

func (e *fakeEngine) Get(_ context.Context, key item.Key, _ tiers.ReadOptions) (tiers.Hit, bool, error) {
	e.gets.Add(1)
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.getErr != nil {
		return tiers.Hit{}, false, e.getErr
	}
	v, ok := e.items[string(key)]
	if !ok || v.Expired(e.now()) {
		return tiers.Hit{}, false, nil
	}
	stale := false
	for i := range e.rules {
		if e.rules[i].Covers(v) {
			if e.rules[i].Op != item.OpPurgeSoft {
				return tiers.Hit{}, false, nil
			}
			stale = true
		}
	}
	return tiers.Hit{View: v, Source: tiers.FromL1, Stale: stale}, true, nil
}

func (e *fakeEngine) Submit(_ context.Context, w *tiers.Write) (tiers.Receipt, error) {
	it := item.Item{
		Kind: item.KindPut, Tiers: w.Tiers, Key: w.Key, MIME: w.MIME, Tags: w.Tags, Response: w.Response, Content: w.Content,
		Version: w.Version, ContentVersion: w.Version,
	}
	if err := it.Check(); err != nil {
		return tiers.Receipt{}, err
	}
	if w.TTL > 0 {
		it.ExpiresAt = e.now() + w.TTL.Milliseconds()
	}
	v := item.View(it.AppendTo(nil))
	e.mu.Lock()
	defer e.mu.Unlock()
	e.submits++
	for i := range e.rules {
		if e.rules[i].Covers(v) {
			return tiers.Receipt{}, tiers.ErrPurged
		}
	}
	if old, ok := e.items[string(w.Key)]; ok && old.Version() > w.Version {
		return tiers.Receipt{}, tiers.ErrSuperseded
	}
	e.items[string(w.Key)] = v
	return tiers.Receipt{Version: w.Version}, nil
}

func (e *fakeEngine) Purge(_ context.Context, p tiers.Purge) (tiers.BulkReceipt, error) {
	r := item.Rule{Op: item.OpPurge, Match: p.Match, Namespaces: p.Namespaces, Values: p.Values, Version: e.clock.Stamp()}
	if p.Soft {
		r.Op = item.OpPurgeSoft
	}
	if err := r.Check(); err != nil {
		return tiers.BulkReceipt{}, err
	}
	e.mu.Lock()
	e.rules = append(e.rules, r)
	e.mu.Unlock()
	return tiers.BulkReceipt{Version: r.Version}, nil
}

func (e *fakeEngine) Stamp() item.Version { return e.clock.Stamp() }

func (e *fakeEngine) CoveredSince(key item.Key, tags []string, since item.Version) bool {
	it := item.Item{Kind: item.KindPut, Key: key, Tags: tags, ContentVersion: since, Version: since}
	v := item.View(it.AppendTo(nil))
	e.mu.Lock()
	defer e.mu.Unlock()
	for i := range e.rules {
		if e.rules[i].Covers(v) {
			return true
		}
	}
	return false
}

func (e *fakeEngine) ruleCount() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.rules)
}

// An exchange is a request and the exact bytes of its answer.
type exchange struct {
	method, target, host, scheme string
	fields                       [][2]string
	body                         io.Reader
	length                       int64
	client, peer                 netip.Addr
	http10                       bool
	ctx                          context.Context

	status  int
	head    bytes.Buffer // lines added
	out     bytes.Buffer
	sized   int64 // of SendSized
	stream  int64 // of Stream
	infos   []string
	ended   bool
	aborted bool
	onWrite func(total int)
	onSend  func()
	busy    atomic.Int32 // uses of the exchange at this moment
	t       testing.TB
}

func (x *exchange) Method() string { return x.method }
func (x *exchange) Target() []byte { return []byte(x.target) }
func (x *exchange) Host() []byte   { return []byte(x.host) }
func (x *exchange) Scheme() string { return x.scheme }
func (x *exchange) Header(name string) []byte {
	for _, f := range x.fields {
		if strings.EqualFold(f[0], name) {
			return []byte(f[1])
		}
	}
	return nil
}
func (x *exchange) Fields(yield func(name, value []byte) bool) {
	for _, f := range x.fields {
		if !yield([]byte(f[0]), []byte(f[1])) {
			return
		}
	}
}
func (x *exchange) ContentLength() int64     { return x.length }
func (x *exchange) Body() io.Reader          { return readAlone{x, x.body} }
func (x *exchange) Client() netip.Addr       { return x.client }
func (x *exchange) Peer() netip.Addr         { return x.peer }
func (x *exchange) HTTP10() bool             { return x.http10 }
func (x *exchange) Context() context.Context { return x.ctx }

// only notes a use of the exchange: there is one at a time.
func (x *exchange) only() func() {
	if x.busy.Add(1) > 1 {
		x.t.Errorf("%s %s: the exchange is used by two goroutines at once", x.method, x.target)
	}
	return func() { x.busy.Add(-1) }
}

// readAlone is a request body that counts as a use of the exchange.
type readAlone struct {
	x *exchange
	r io.Reader
}

func (b readAlone) Read(p []byte) (int, error) {
	defer b.x.only()()
	runtime.Gosched()
	return b.r.Read(p)
}

func (x *exchange) Informational(code int, block []byte) error {
	defer x.only()()
	if x.status != 0 {
		x.t.Errorf("interim answer %d after the status", code)
	}
	x.infos = append(x.infos, fmt.Sprintf("%d %s", code, block))
	return nil
}
func (x *exchange) Status(code int) {
	defer x.only()()
	if x.status != 0 {
		x.t.Errorf("second status %d after %d", code, x.status)
	}
	x.status = code
}
func (x *exchange) Add(name, value string) { fmt.Fprintf(&x.head, "%s: %s\r\n", name, value) }
func (x *exchange) AddBlock(block []byte)  { x.head.Write(block) }
func (x *exchange) Send(body []byte) error {
	x.end()
	if x.onSend != nil {
		x.onSend()
	}
	x.out.Write(body)
	return nil
}
func (x *exchange) SendSized(length int64) error {
	x.end()
	x.sized = length
	return nil
}
func (x *exchange) Stream(length int64) (io.Writer, error) {
	x.end()
	x.stream = length
	return x, nil
}
func (x *exchange) Write(b []byte) (int, error) {
	defer x.only()()
	n, err := x.out.Write(b)
	if x.onWrite != nil {
		x.onWrite(x.out.Len())
	}
	return n, err
}
func (x *exchange) Flush() error { return nil }
func (x *exchange) Abort()       { x.aborted = true }
func (x *exchange) CloseAfter()  {}
func (x *exchange) end() {
	defer x.only()()
	if x.ended || x.status == 0 {
		x.t.Errorf("answer sent twice or without status (%d)", x.status)
	}
	x.ended = true
}

// lines returns the values of a field of the answer.
func (x *exchange) lines(name string) []string {
	return headerOf(x.head.Bytes())[http.CanonicalHeaderKey(name)]
}

func (x *exchange) line(name string) string { return strings.Join(x.lines(name), " | ") }

// cache returns our member of Cache-Status without the key.
func (x *exchange) cache() string {
	all := x.lines("Cache-Status")
	if len(all) == 0 {
		return ""
	}
	last, _, _ := strings.Cut(all[len(all)-1], ";key=")
	return strings.TrimPrefix(last, "edgenode;")
}

// world is a proxy, its engine and an origin that answers raw bytes.
type world struct {
	testing.TB
	p      *Proxy
	store  Engine      // that of p
	engine *fakeEngine // the store, unless onReal
	clock  atomic.Int64
	ln     net.Listener

	// answer writes the answer to a request. It runs on the connection's
	// goroutine.
	mu     sync.Mutex
	answer func(c net.Conn, r *http.Request)
	seen   []*http.Request
	conns  sync.WaitGroup

	reopener
	gate   sync.Mutex
	active int // requests under way
}

func (w *world) now() int64           { return w.clock.Load() }
func (w *world) pass(d time.Duration) { w.clock.Add(d.Milliseconds()) }
func (w *world) date() string         { return httpDate(w.now()) }
func httpDate(ms int64) string        { return time.UnixMilli(ms).UTC().Format(http.TimeFormat) }

func newWorld(t testing.TB, change ...func(o *Options)) *world {
	t.Helper()
	w := &world{TB: t}
	w.clock.Store(startMilli)
	w.engine = newFakeEngine(w.now)
	var err error
	if w.ln, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	o := Options{
		Engine: w.engine, Now: w.now,
		Pools: []Pool{{Name: "main", Origins: []string{"http://" + w.ln.Addr().String()}}},
		Sites: []Site{{Name: "shop", Hosts: []string{"shop.example", "*.shop.example"}, Pool: "main"}},
	}
	if w.way = wayOf(t); w.way != "" && w.way != wayCold {
		w.dir = t.TempDir()
		o.Sites[0].Tiers = item.L1 | item.L3
	}
	if w.way == wayCold {
		o.Sites[0].Tiers, o.ShareAfter = item.L1, -1
	}
	for _, f := range change {
		f(&o)
	}
	w.options = o
	w.open(t)
	w.store = w.options.Engine
	if w.p, err = New(w.options); err != nil {
		t.Fatal(err)
	}
	w.conns.Add(1)
	go w.accept()
	t.Cleanup(func() {
		w.p.Close()
		w.reopener.close(t)
		w.ln.Close()
		w.conns.Wait()
	})
	return w
}

// An opener gives a world its engine.
type opener func(t testing.TB) func(o *Options)

// eachEngine runs a test twice: with the engine in a map, and with the real one,
// in a folder of its own for each world.
func eachEngine(t *testing.T, test func(t *testing.T, on opener)) {
	t.Run("fake", func(t *testing.T) { test(t, func(testing.TB) func(*Options) { return func(*Options) {} }) })
	t.Run("real", func(t *testing.T) {
		test(t, func(t testing.TB) func(*Options) {
			return func(o *Options) { o.Engine = realEngine(t, t.TempDir(), o.Now) }
		})
	})
}

// realEngine opens the engine that serve wires, with little memory.
func realEngine(t testing.TB, dir string, now func() int64) *tiers.Engine {
	t.Helper()
	e := openEngine(t, dir, now)
	t.Cleanup(func() {
		if err := e.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return e
}

func openEngine(t testing.TB, dir string, now func() int64) *tiers.Engine {
	t.Helper()
	e, err := tiers.Open(context.Background(), tiers.Options{
		DataDir: dir, L1MaxBytes: 16 << 20, MaxPayloadBytes: 2 << 20, JournalMaxBytes: 16 << 20, FilterMinItems: 1000, Now: now, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func site1(f func(s *Site)) func(o *Options) { return func(o *Options) { f(&o.Sites[0]) } }

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
			r := bufio.NewReader(c)
			for {
				req, err := http.ReadRequest(r)
				if err != nil {
					return
				}
				body, _ := io.ReadAll(req.Body)
				req.Body = io.NopCloser(bytes.NewReader(body))
				w.mu.Lock()
				w.seen = append(w.seen, req)
				answer := w.answer
				w.mu.Unlock()
				if answer == nil { // a health check at the start, before the test has said what it wants
					return
				}
				answer(c, req)
			}
		}()
	}
}

// says makes the origin answer every request with what f returns.
func (w *world) says(f func(r *http.Request) string) {
	w.does(func(c net.Conn, r *http.Request) { io.WriteString(c, f(r)) })
}

func (w *world) does(f func(c net.Conn, r *http.Request)) {
	w.mu.Lock()
	w.answer = f
	w.mu.Unlock()
}

func (w *world) always(raw string) { w.says(func(*http.Request) string { return raw }) }

func (w *world) requests() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.seen)
}

func (w *world) lastRequest() *http.Request {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.seen[len(w.seen)-1]
}

// ok renders a 200 with Date, these lines and a body.
func (w *world) ok(lines, body string) string { return w.status(200, lines, body) }

func (w *world) status(code int, lines, body string) string {
	if lines != "" {
		lines = strings.ReplaceAll(lines, "\n", "\r\n") + "\r\n"
	}
	if !strings.Contains(strings.ToLower(lines), "date:") || strings.Contains(strings.ToLower(lines), "-date:") {
		lines += "Date: " + w.date() + "\r\n"
	}
	if code != 304 && code != 204 {
		lines += fmt.Sprintf("Content-Length: %d\r\n", len(body))
	}
	if code == 204 || code == 304 {
		body = ""
	}
	return fmt.Sprintf("HTTP/1.1 %d X\r\n%s\r\n%s", code, lines, body)
}

// request makes an exchange; lines are "Name: value".
func (w *world) request(method, target string, lines ...string) *exchange {
	x := &exchange{
		method: method, target: target, host: "shop.example", scheme: "http", client: netip.MustParseAddr("192.0.2.7"), peer: netip.MustParseAddr("192.0.2.7"),
		ctx: context.Background(), body: strings.NewReader(""), t: w, sized: -2, stream: -2,
	}
	for _, l := range lines {
		name, value, _ := strings.Cut(l, ":")
		x.fields = append(x.fields, [2]string{name, strings.TrimSpace(value)})
	}
	return x
}

func (w *world) serve(x *exchange) *exchange {
	w.enter().Serve(x)
	w.leave()
	if !x.ended {
		w.Errorf("%s %s: no answer was sent", x.method, x.target)
	}
	return x
}

func (w *world) get(target string, lines ...string) *exchange {
	w.Helper()
	return w.serve(w.request("GET", target, lines...))
}

// An expectation changes what expect looks at.
type expectation int

const anyBody expectation = 0

// expect checks body and the beginning of our Cache-Status member.
func (w *world) expect(x *exchange, status int, body, cache string, o ...expectation) {
	w.Helper()
	if len(o) > 0 {
		body = x.out.String()
	}
	if x.status != status || x.out.String() != body || !strings.HasPrefix(x.cache(), cache) {
		w.Errorf("%s %s: got %d %q %q, want %d %q %q", x.method, x.target, x.status, x.out.String(), x.cache(), status, body, cache)
	}
}

type http1 = http.Request

func itoa(n int64) string { return fmt.Sprint(n) }

var errBroken = tiers.ErrUnavailable
