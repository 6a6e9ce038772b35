package front_test

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/edgenode/edgenode/node/front"
	"github.com/edgenode/edgenode/node/proxy"
	"github.com/edgenode/edgenode/tiers"
)

// A chain is the real listener and proxy before an origin that records.
type chain struct {
	*front.Server
	ln    net.Listener
	conns sync.WaitGroup

	mu   sync.Mutex
	seen []string
	say  func(c net.Conn, q *http.Request) // answers; nil is a plain 200
}

// newChain starts one. Its engine keeps nothing that a test would look for.
func newChain(t *testing.T) *chain {
	t.Helper()
	c := &chain{}
	var err error
	if c.ln, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	engine, err := tiers.Open(context.Background(), tiers.Options{
		DataDir: t.TempDir(), L1MaxBytes: 16 << 20, MaxPayloadBytes: 2 << 20, JournalMaxBytes: 16 << 20, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	p, err := proxy.New(proxy.Options{
		Engine: engine, Pools: []proxy.Pool{{Name: "main", Origins: []string{"http://" + c.ln.Addr().String()}}},
		Sites: []proxy.Site{{Name: "shop", Hosts: []string{"shop.example"}, Pool: "main"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // after the listener's own end
		p.Close()
		c.ln.Close()
		c.conns.Wait()
		if err := engine.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	c.conns.Add(1)
	go c.accept()
	c.Server = start(t, front.Options{}, func(x *front.Exchange) { p.Serve(x) })
	return c
}

func (c *chain) accept() {
	defer c.conns.Done()
	for {
		conn, err := c.ln.Accept()
		if err != nil {
			return
		}
		c.conns.Add(1)
		go func() {
			defer c.conns.Done()
			defer conn.Close()
			for r := bufio.NewReader(conn); c.one(conn, r); {
			}
		}()
	}
}

// one records a request if it came whole, and answers it.
func (c *chain) one(conn net.Conn, r *bufio.Reader) bool {
	q, err := http.ReadRequest(r)
	if err != nil {
		return false
	}
	body, err := io.ReadAll(q.Body)
	if err != nil {
		return false
	}
	line := strings.TrimRight(q.Method+" "+q.RequestURI+" "+string(body), " ")
	c.mu.Lock()
	c.seen = append(c.seen, line)
	say := c.say
	c.mu.Unlock()
	if say != nil {
		say(conn, q)
		return true
	}
	_, err = io.WriteString(conn, "HTTP/1.1 200 OK\r\nCache-Control: no-store\r\nContent-Length: 0\r\n\r\n")
	return err == nil
}

func (c *chain) take() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	seen := strings.Join(c.seen, ";")
	c.seen = nil
	return seen
}

// last is sent behind every request, so that a connection that is kept ends too.
const last = "GET /last HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\r\n"

// talk sends raw, and last, and returns all that came until the server closed.
// It does not close its own side: a client that does counts as gone.
func (c *chain) talk(t *testing.T, raw string) string {
	t.Helper()
	nc := dial(t, c.Server)
	defer nc.Close()
	var sent sync.WaitGroup
	sent.Add(1)
	go func() {
		defer sent.Done()
		io.WriteString(nc, raw+last)
	}()
	b, err := io.ReadAll(nc)
	nc.Close() // a refused client may still be sending
	sent.Wait()
	if err != nil && !strings.Contains(err.Error(), "reset") {
		t.Errorf("%q: the connection is not closed: %v", raw, err)
	}
	return string(b)
}

// TestSmuggledRequests sends each request of testdata/smuggle.tsv through the
// listener and the proxy. It is refused with the status of the table and the
// connection closed, or the origin gets exactly the requests of the table.
func TestSmuggledRequests(t *testing.T) {
	table, err := os.ReadFile("testdata/smuggle.tsv")
	if err != nil {
		t.Fatal(err)
	}
	c := newChain(t)
	cases := 0
	for _, line := range strings.Split(string(bytes.TrimSpace(table)), "\n") {
		if strings.HasPrefix(line, "#") {
			continue
		}
		f := strings.Split(line, "\t")
		if len(f) != 5 {
			t.Fatalf("%d columns: %q", len(f), line)
		}
		raw, err := strconv.Unquote(f[4])
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		cases++
		want := strings.TrimPrefix(f[3], "-")
		got, seen := statuses(c.talk(t, raw)), c.take()
		if before, ok := strings.CutSuffix(seen, "GET /last"); ok { // it was kept
			got, seen = strings.TrimSuffix(got, " 200"), strings.TrimSuffix(before, ";")
		}
		if got != f[2] || seen != want {
			t.Errorf("RFC %s, %s: answered %q, want %q; the origin got %q, want %q\n%s", f[0], f[1], got, f[2], seen, want, f[4])
		}
	}
	if cases < 200 {
		t.Errorf("%d cases, want 200 at least", cases)
	}
	t.Logf("%d cases", cases)
}

// TestSmuggledAnswers has the origin answer raw bytes, then asks for something
// else on the same connection: what is hidden behind an answer never becomes the
// answer to the next request, nor is anything broken stored.
func TestSmuggledAnswers(t *testing.T) {
	const fresh = "Cache-Control: max-age=60\r\n"
	const hidden = "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 6\r\n\r\nhidden"
	c := newChain(t)
	n := 0
	// f answers the first request with raw. The statuses wanted of it are a list;
	// "cut" is an answer that breaks off.
	f := func(name, raw, want string) {
		t.Helper()
		n++
		target := "/r" + decimal(n)
		c.mu.Lock()
		c.say = func(conn net.Conn, q *http.Request) {
			if strings.HasSuffix(q.RequestURI, "-next") {
				io.WriteString(conn, "HTTP/1.1 200 OK\r\nCache-Control: no-store\r\nContent-Length: 4\r\n\r\nnext")
				return
			}
			io.WriteString(conn, raw)
			conn.(*net.TCPConn).CloseWrite()
		}
		c.mu.Unlock()
		get := func(target string) string {
			return c.ask(t, target)
		}
		first := get(target)
		got := "cut"
		if _, err := readAnswer(first); err == nil {
			got = lastStatus(first)
		}
		if !strings.Contains(" "+want+" ", " "+got+" ") || strings.Contains(first, "hidden") {
			t.Errorf("%s: got %s, want one of %q: %.300q", name, got, want, first)
		}
		if next := get(target + "-next"); !strings.HasSuffix(next, "\r\n\r\nnext") {
			t.Errorf("%s: the next request got %q", name, next)
		}
		if again := get(target); strings.Contains(again, ";hit") && !strings.Contains(want, "stored") {
			t.Errorf("%s: it was stored: %q", name, again)
		}
		c.take()
	}
	ok := func(fields, body string) string { return "HTTP/1.1 200 OK\r\n" + fresh + fields + "\r\n" + body }
	f("whole", ok("Content-Length: 2\r\n", "ab"), "200 stored")
	f("over-long", ok("Content-Length: 2\r\n", "ab"+hidden), "200 502 cut")
	f("truncated", ok("Content-Length: 9\r\n", "ab"), "502 cut")
	f("two lengths", ok("Content-Length: 2\r\nContent-Length: 3\r\n", "abc"), "502")
	f("a list of lengths", ok("Content-Length: 2, 3\r\n", "abc"), "502")
	f("negative length", ok("Content-Length: -2\r\n", "ab"), "502")
	f("signed length", ok("Content-Length: +2\r\n", "ab"), "502")
	f("length in hex", ok("Content-Length: 0x2\r\n", "ab"), "502")
	f("huge length", ok("Content-Length: 99999999999999999999\r\n", "ab"), "502")
	f("both framings", ok("Content-Length: 2\r\nTransfer-Encoding: chunked\r\n", "2\r\nab\r\n0\r\n\r\n"), "200 502 cut")
	f("unknown coding", ok("Transfer-Encoding: frob\r\n", "ab"), "200 502 cut")
	f("coding twice", ok("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "2\r\nab\r\n0\r\n\r\n"), "502 cut")
	f("chunk size", ok("Transfer-Encoding: chunked\r\n", "zz\r\nab\r\n0\r\n\r\n"), "502 cut")
	f("chunk too long", ok("Transfer-Encoding: chunked\r\n", "2\r\nabcd\r\n0\r\n\r\n"), "502 cut")
	f("no last chunk", ok("Transfer-Encoding: chunked\r\n", "2\r\nab\r\n"), "502 cut")
	f("bytes after the last chunk", ok("Transfer-Encoding: chunked\r\n", "2\r\nab\r\n0\r\n\r\n"+hidden), "200 502 cut")
	f("204 with a body", "HTTP/1.1 204 No Content\r\n"+fresh+"\r\n"+hidden, "204 502 stored")
	f("304 unasked", "HTTP/1.1 304 Not Modified\r\n"+fresh+"\r\n"+hidden, "502 304")
	f("no version", "200 OK\r\n\r\nab", "502")
	f("version 2", "HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nab", "502 200") // the transport reads it as 1.1
	f("status of two digits", "HTTP/1.1 20 OK\r\nContent-Length: 2\r\n\r\nab", "502")
	f("status of four digits", "HTTP/1.1 2000 OK\r\nContent-Length: 2\r\n\r\nab", "502")
	f("half a header", "HTTP/1.1 200 OK\r\nContent-Le", "502")
	f("NUL in a value", ok("X: a\x00b\r\nContent-Length: 2\r\n", "ab"), "502 200 stored")
	f("no name", ok(": x\r\nContent-Length: 2\r\n", "ab"), "502 200 stored")
	f("space in a name", ok("X Y: x\r\nContent-Length: 2\r\n", "ab"), "502 200 stored")
	f("folded line", ok("X: a\r\n b: c\r\nContent-Length: 2\r\n", "ab"), "200 502 stored")
	f("folded length", ok("Content-Length:\r\n 2\r\n", "ab"), "200 502 stored")
	f("1xx flood", strings.Repeat("HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n", 5000)+ok("Content-Length: 2\r\n", "ab"), "200 502 stored")
	f("100 flood", strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", 5000)+ok("Content-Length: 2\r\n", "ab"), "200 502 stored")
	f("101 unasked", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n"+hidden, "502")
	f("header bomb", ok(strings.Repeat("X-Bomb: "+strings.Repeat("x", 1000)+"\r\n", 20_000)+"Content-Length: 2\r\n", "ab"), "502")
	f("one long line", ok("X-Bomb: "+strings.Repeat("x", 20_000_000)+"\r\nContent-Length: 2\r\n", "ab"), "502")
}

// ask asks for target alone and returns the answer's bytes.
func (c *chain) ask(t *testing.T, target string) string {
	t.Helper()
	nc := dial(t, c.Server)
	defer nc.Close()
	io.WriteString(nc, "GET "+target+" HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\r\n")
	b, err := io.ReadAll(nc)
	if err != nil && !strings.Contains(err.Error(), "reset") {
		t.Errorf("%s: %v", target, err)
	}
	return string(b)
}

// readAnswer reads all answers in raw; the error tells that the last is not
// whole.
func readAnswer(raw string) (body []byte, err error) {
	r := bufio.NewReader(strings.NewReader(raw))
	for {
		a, err := http.ReadResponse(r, nil)
		if err != nil {
			return nil, err
		}
		if a.StatusCode >= 200 {
			return io.ReadAll(a.Body)
		}
	}
}

func lastStatus(raw string) string {
	all := strings.Fields(statuses(raw))
	if len(all) == 0 {
		return "nothing"
	}
	return all[len(all)-1]
}

// TestIdleCloseRace lets the origin close each kept connection at once: a
// request that meets the close is sent again, and none is answered twice.
func TestIdleCloseRace(t *testing.T) {
	c := newChain(t)
	c.say = func(conn net.Conn, q *http.Request) {
		io.WriteString(conn, "HTTP/1.1 200 OK\r\nCache-Control: no-store\r\nContent-Length: "+decimal(len(q.RequestURI))+"\r\n\r\n"+q.RequestURI)
		conn.(*net.TCPConn).CloseWrite()
	}
	nc := dial(t, c.Server)
	nc.SetDeadline(time.Now().Add(patience))
	r := bufio.NewReader(nc)
	for i := range 200 {
		target := "/i" + decimal(i)
		io.WriteString(nc, "GET "+target+" HTTP/1.1\r\nHost: shop.example\r\n\r\n")
		a, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(a.Body)
		if err != nil || a.StatusCode != 200 || string(body) != target {
			t.Errorf("%s: got %d %q, %v", target, a.StatusCode, body, err)
		}
	}
}
