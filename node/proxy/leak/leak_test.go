package leak_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/edgenode/edgenode/node/edit"
	"github.com/edgenode/edgenode/node/front"
	"github.com/edgenode/edgenode/node/proxy"
	"github.com/edgenode/edgenode/tiers"
	"github.com/edgenode/edgenode/tiers/item"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var seedFlag = flag.Uint64("seed", 0, "seed of TestNoLeak; 0 is the default one, or a new one in a soak")

const clients = 24

// patience bounds every wait for the network; no run waits that long.
const patience = time.Minute

// greedy is a policy that tries to have everything shared for long, and to hide
// what forbids it.
type greedy struct{ n atomic.Uint64 }

func (g *greedy) Route(in *proxy.RouteInput, out *proxy.RouteDecision) {
	hide := func(response bool, names ...string) {
		for _, name := range names {
			out.Edits = append(out.Edits, edit.Edit{Response: response, Remove: true, Name: []byte(name)})
		}
	}
	switch g.n.Add(1) % 5 {
	case 0:
		hide(true, "Cache-Control", "Vary", "CDN-Cache-Control")
		out.Edits = append(out.Edits, edit.Edit{Response: true, Name: []byte("Cache-Control"), Value: []byte("public, max-age=1000")})
	case 1:
		hide(false, "Authorization")
	case 2:
		hide(false, "Cookie")
	case 3:
		out.Tags = []string{"all"}
	}
}

func (g *greedy) TTL(_ *proxy.TTLInput, out *proxy.TTLDecision) {
	out.HasLifetime, out.Lifetime = true, 5*time.Second
	out.HasStale, out.Revalidate, out.IfError = true, time.Hour, time.Hour
}

// A run is one node with its origin and its clients.
type run struct {
	*testing.T
	origin *origin
	crowd  *crowd
	engine *tiers.Engine
	proxy  *proxy.Proxy
	front  *front.Server
	clock  atomic.Int64

	left                                   atomic.Int64 // requests to do
	hits, collapsed, whole, gone, own, cut atomic.Int64
	leaks                                  atomic.Int64
}

func start(t *testing.T, seed uint64) *run {
	r := &run{T: t, crowd: newCrowd(clients)}
	r.clock.Store(time.Date(2044, 11, 6, 8, 49, 37, 0, time.UTC).UnixMilli())
	r.left.Store(requests)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(err)
	r.origin = &origin{ln: ln, crowd: r.crowd, rand: rand.New(rand.NewPCG(seed, 1))}
	r.engine, err = tiers.Open(context.Background(), tiers.Options{
		DataDir: t.TempDir(), L1MaxBytes: 64 << 20, MaxPayloadBytes: 2 << 20, JournalMaxBytes: 16 << 20, Now: r.clock.Load, Logger: slog.New(slog.DiscardHandler),
	})
	must(err)
	r.proxy, err = proxy.New(proxy.Options{
		Engine: r.engine, Now: r.clock.Load, Policy: &greedy{}, ShareAfter: -1,
		Pools: []proxy.Pool{{Name: "main", Origins: []string{"http://" + ln.Addr().String()}}},
		Sites: []proxy.Site{
			{Name: "strict", Hosts: []string{"strict.example"}, Pool: "main", Tiers: item.L1, StaleOn5xx: true, ChunkBytes: 2048},
			{Name: "loose", Hosts: []string{"loose.example"}, Pool: "main", Tiers: item.L1, AllowOverride: []string{"no-cache", "no-store", "s-maxage", "must-revalidate", "proxy-revalidate"}},
		},
	})
	must(err)
	r.front, err = front.Listen(front.Options{Address: "127.0.0.1:0", Logger: slog.New(slog.DiscardHandler)})
	must(err)
	r.front.Start(func(x *front.Exchange) { r.proxy.Serve(x) })
	r.origin.conns.Add(1)
	go r.origin.accept()
	return r
}

func (r *run) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := r.front.Shutdown(ctx); err != nil {
		r.Error(err)
	}
	r.proxy.Close()
	r.origin.ln.Close()
	r.origin.conns.Wait()
	if err := r.engine.Close(ctx); err != nil {
		r.Error(err)
	}
}

// TestNoLeak lets all clients loose on one node.
func TestNoLeak(t *testing.T) {
	seed := *seedFlag
	if seed == 0 {
		if seed = 20441106; requests > 10_000 {
			seed = uint64(time.Now().UnixNano())
		}
	}
	t.Logf("seed %d: begin like it with -seed %d (the order of clients is not in it)", seed, seed)
	r := start(t, seed)
	var all sync.WaitGroup
	for i := range clients {
		all.Add(1)
		go func() {
			defer all.Done()
			defer r.crowd.end()
			c := client{run: r, name: fmt.Sprintf("c%02d", i), rand: rand.New(rand.NewPCG(seed, 100+uint64(i)))}
			for r.left.Add(-1) >= 0 && r.leaks.Load() == 0 {
				c.one()
			}
			c.close()
		}()
	}
	all.Wait()
	r.stop()
	o := r.origin
	t.Logf("%d requests: %d hits, %d collapsed, %d read to the end, %d left early, %d cut, %d got a mark of their own; the origin answered %d, %d marked, %d faults, %d times 304, %d times 206",
		requests, r.hits.Load(), r.collapsed.Load(), r.whole.Load(), r.gone.Load(), r.cut.Load(), r.own.Load(), o.n, o.personal, o.faults, o.agree, o.parts)
	for what, n := range map[string]int64{
		"hits": r.hits.Load(), "collapsed": r.collapsed.Load(), "own marks": r.own.Load(), "leavers": r.gone.Load(), "faults": int64(o.faults), "304": int64(o.agree), "206": int64(o.parts),
	} {
		if n < requests/200 && r.leaks.Load() == 0 {
			t.Errorf("the run proves too little: only %d %s", n, what)
		}
	}
}

// A client has one name, one connection at a time, and asks as itself or as
// nobody.
type client struct {
	*run
	name string
	rand *rand.Rand
	conn net.Conn
	in   *bufio.Reader
	raw  bytes.Buffer // what came for this request
}

func (c *client) close() {
	if c.conn != nil {
		c.conn.Close()
		c.conn = nil
	}
}

// A mark that a chunk of the transfer coding cuts in two is not seen; there are
// many.
var markBegins = []byte("MEANT-FOR(c")

// marks yields the names of those that bytes are meant for. A regular expression
// costs a third of the test.
func marks(b []byte) iter.Seq[string] {
	return func(yield func(name string) bool) {
		for {
			at := bytes.Index(b, markBegins)
			if at < 0 {
				return
			}
			b = b[at+len(markBegins):]
			if len(b) >= 3 && b[2] == ')' && !yield("c"+string(b[:2])) {
				return
			}
		}
	}
}

// one asks once and looks for marks in all that came.
func (c *client) one() {
	if c.rand.IntN(8) == 0 {
		c.clock.Add(int64(c.rand.IntN(4000)))
	}
	if c.rand.IntN(60) == 0 {
		c.purge()
	}
	if c.conn == nil {
		conn, err := net.Dial("tcp", c.front.Addr().String())
		if err != nil {
			c.Error(err)
			return
		}
		c.conn = conn
		c.in = bufio.NewReader(io.TeeReader(conn, &c.raw))
	}
	c.conn.SetDeadline(time.Now().Add(patience))
	request := c.request()
	c.crowd.enter()
	c.exchange(request)
	c.crowd.leave()
	marked := false
	for name := range marks(c.raw.Bytes()) {
		marked = true
		if name != c.name {
			c.leaks.Add(1)
			q, _ := http.ReadRequest(bufio.NewReader(strings.NewReader(request)))
			c.Errorf("client %s asked\n%s\nand got what was meant for %s:\n%.800s\nthe origin's answers:\n%s", c.name, request, name, c.raw.Bytes(), c.origin.history(q.Host, q.RequestURI))
			break
		}
	}
	if marked {
		c.own.Add(1)
	}
	c.raw.Reset()
}

// request writes a request as itself, or as nobody.
func (c *client) request() string {
	method := "GET"
	switch c.rand.IntN(30) {
	case 0, 1:
		method = "HEAD"
	case 2:
		method = "POST"
	}
	var b strings.Builder
	target := fmt.Sprintf("/u%d", c.rand.IntN(8))
	if c.rand.IntN(2) == 0 { // what everybody wants at the moment
		target = fmt.Sprintf("/new%d", c.left.Load()/20)
	}
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s.example\r\n", method, target, []string{"strict", "strict", "loose"}[c.rand.IntN(3)])
	as := c.rand.IntN(4)
	if as&1 != 0 {
		fmt.Fprintf(&b, "Authorization: Bearer %s\r\n", c.name)
	}
	if as&2 != 0 {
		fmt.Fprintf(&b, "Cookie: id=%s\r\n", c.name)
	}
	switch c.rand.IntN(12) {
	case 0:
		b.WriteString("Range: bytes=0-40\r\n")
	case 3, 4:
		fmt.Fprintf(&b, "Range: bytes=%d-%d\r\n", c.rand.IntN(3)*300, 299+c.rand.IntN(20)*300)
	case 5:
		fmt.Fprintf(&b, "Range: bytes=%d-\r\n", c.rand.IntN(9)*300)
	case 1:
		b.WriteString("If-None-Match: \"e\"\r\n")
	case 2:
		b.WriteString("Cache-Control: no-cache\r\n")
	}
	if c.rand.IntN(3) == 0 {
		b.WriteString("TE: trailers\r\n")
	}
	if method == "POST" {
		b.WriteString("Content-Length: 0\r\n")
	}
	return b.String() + "\r\n"
}

// exchange sends a request and reads the answer, or leaves on the way.
func (c *client) exchange(request string) {
	leave := c.rand.IntN(15)
	if _, err := io.WriteString(c.conn, request); err != nil || leave == 0 {
		c.gone.Add(1)
		c.close()
		return
	}
	method, _, _ := strings.Cut(request, " ")
	q := &http.Request{Method: method}
	answer, err := http.ReadResponse(c.in, q)
	for err == nil && answer.StatusCode == 103 {
		answer, err = http.ReadResponse(c.in, q)
	}
	if err != nil {
		c.cut.Add(1)
		c.close()
		return
	}
	c.count(answer.Header)
	if leave == 1 {
		io.CopyN(io.Discard, answer.Body, int64(c.rand.IntN(100_000)))
		c.gone.Add(1)
		c.close()
		return
	}
	if _, err = io.Copy(io.Discard, answer.Body); err != nil {
		c.cut.Add(1)
		c.close()
		if !errors.Is(err, io.ErrUnexpectedEOF) && !strings.Contains(err.Error(), "reset") {
			c.Errorf("reading the answer to %q: %v", request, err)
		}
		return
	}
	c.whole.Add(1)
	if answer.Close {
		c.close()
	}
}

func (c *client) count(h http.Header) {
	status := strings.Join(h.Values("Cache-Status"), ",")
	if strings.Contains(status, ";hit") {
		c.hits.Add(1)
	}
	if strings.Contains(status, ";collapsed") {
		c.collapsed.Add(1)
	}
}

func (c *client) purge() {
	match, values, err := c.proxy.PurgeURL(fmt.Sprintf("http://strict.example/u%d", c.rand.IntN(8)))
	if err == nil {
		_, err = c.engine.Purge(context.Background(), tiers.Purge{Soft: c.rand.IntN(2) == 0, Namespaces: item.InSites, Match: match, Values: values})
	}
	if err != nil {
		c.Error(err)
	}
}
