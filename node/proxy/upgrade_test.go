package proxy

import (
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"
)

func TestFrames(t *testing.T) {
	long := "\x82\x7e\x01\x00" + strings.Repeat("x", 256)
	huge := "\x82\xff\x00\x00\x00\x00\x00\x01\x00\x00mask" + strings.Repeat("x", 65536)
	all := "\x81\x02hi" + "\x89\x00" + "\x81\x83mask123" + long + huge + "\x88\x02\x03\xe9"
	ends := map[int]bool{0: true}
	at := 0
	for _, n := range []int{4, 2, 9, 260, 14 + 65536, 4} {
		at += n
		ends[at] = true
	}
	var f frames
	for i := range len(all) {
		if f.whole() != ends[i] {
			t.Fatalf("after %d bytes: whole %v", i, f.whole())
		}
		f.see([]byte{all[i]})
	}
	var g frames
	if g.see([]byte(all)); !f.whole() || !g.whole() || at != len(all) {
		t.Errorf("at the end: %v %v", f.whole(), g.whole())
	}
	g.see([]byte("\x81\x7f\xff\xff\xff\xff\xff\xff\xff\xff"))
	g.see(make([]byte, 1<<16))
	if g.whole() {
		t.Error("a frame of 2^64-1 bytes has ended")
	}
}

// raised is an exchange whose connection can be handed over.
type raised struct {
	*exchange
	conn  net.Conn
	block chan string
}

func (x *raised) Upgrade(block []byte) (net.Conn, error) {
	x.status, x.ended = 101, true
	x.block <- string(block)
	return x.conn, nil
}

// tcpPair returns both ends of a connection.
func tcpPair(t *testing.T) (a, b net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	a, err = net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	b, err = ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

var wantsUpgrade = []string{"Connection: keep-alive, Upgrade", "Upgrade: WebSocket", "Sec-WebSocket-Key: k", "Origin: http://shop.example"}

// dialUp starts an upgraded connection and returns the client's end, what was
// answered, and what is closed when Serve has returned.
func (w *world) dialUp(t *testing.T) (client net.Conn, block string, done chan struct{}) {
	t.Helper()
	client, conn := tcpPair(t)
	x := &raised{w.request("GET", "/ws", wantsUpgrade...), conn, make(chan string, 1)}
	done = make(chan struct{})
	go func() {
		defer close(done)
		w.p.Serve(x)
	}()
	select {
	case block = <-x.block:
	case <-done:
		block = x.out.String()
	}
	return client, block, done
}

func upgrades(max int, idle time.Duration) func(*Options) {
	return site1(func(s *Site) { s.Upgrades = Upgrades{Protocols: []string{"websocket"}, Max: max, Idle: idle} })
}

const switching = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: a\r\n\r\n"

func read(t *testing.T, c net.Conn, n int) string {
	t.Helper()
	b := make([]byte, n)
	c.SetReadDeadline(time.Now().Add(time.Minute))
	got, err := io.ReadFull(c, b)
	if err != nil {
		t.Fatalf("read %q, then %v", b[:got], err)
	}
	return string(b)
}

// TestUpgrade: bytes pass both ways, also those that come with the 101; the
// number of connections is bounded, and one that ended makes room.
func TestUpgrade(t *testing.T) {
	w := newWorld(t, upgrades(1, 0))
	w.does(func(c net.Conn, r *http.Request) {
		io.WriteString(c, switching+"early")
		io.Copy(c, c)
	})
	client, block, done := w.dialUp(t)
	if !strings.Contains(block, "Sec-Websocket-Accept: a\r\n") || !strings.Contains(block, "Upgrade: websocket\r\n") || strings.Contains(block, "Connection") {
		t.Errorf("%q", block)
	}
	if r := w.lastRequest(); r.Header.Get("Connection") != "Upgrade" || r.Header.Get("Upgrade") != "websocket" || r.Header.Get("Sec-Websocket-Key") != "k" {
		t.Errorf("the origin got %v", r.Header)
	}
	if got := read(t, client, 5); got != "early" {
		t.Errorf("%q", got)
	}
	io.WriteString(client, "hello")
	if got := read(t, client, 5); got != "hello" {
		t.Errorf("%q", got)
	}
	if _, refused, _ := w.dialUp(t); !strings.Contains(refused, "too many upgraded") {
		t.Errorf("the second one: %q", refused)
	}
	for limit := time.Now().Add(time.Minute); w.p.m.toClient.Get()+w.p.m.toOrigin.Get() < 15 && time.Now().Before(limit); {
		runtime.Gosched() // bytes are counted behind their sending
	}
	if w.p.upgrades.Load() != 1 || w.p.m.upgradesRefused.Get() != 1 || w.p.m.toClient.Get() != 10 || w.p.m.toOrigin.Get() != 5 {
		t.Errorf("%d open, %d refused, %d and %d bytes", w.p.upgrades.Load(), w.p.m.upgradesRefused.Get(), w.p.m.toClient.Get(), w.p.m.toOrigin.Get())
	}
	client.(*net.TCPConn).CloseWrite()
	if rest, err := io.ReadAll(client); err != nil || len(rest) > 0 {
		t.Errorf("%q %v", rest, err)
	}
	<-done
	again, _, _ := w.dialUp(t)
	read(t, again, 5)
	again.Close()
}

// TestUpgradeRefused: what is not allowed, or not agreed to, stays plain HTTP.
func TestUpgradeRefused(t *testing.T) {
	f := func(name string, w *world, change func(x *exchange), sees bool) {
		t.Helper()
		w.always(w.ok("", "plain"))
		x := w.request("GET", "/ws", wantsUpgrade...)
		change(x)
		w.expect(w.serve(x), 200, "plain", "fwd=")
		if got := w.lastRequest().Header.Get("Upgrade") != ""; got != sees {
			t.Errorf("%s: the origin sees Upgrade: %v", name, got)
		}
	}
	nothing := func(*exchange) {}
	f("not allowed", newWorld(t), nothing, false)
	w := newWorld(t, upgrades(0, 0))
	f("no connection that could be handed over", newWorld(t), nothing, false)
	f("POST", w, func(x *exchange) { x.method = "POST" }, false)
	f("HTTP/1.0", w, func(x *exchange) { x.http10 = true }, false)
	f("h2c", w, func(x *exchange) { x.fields[1][1] = "h2c" }, false)
	f("without Connection", w, func(x *exchange) { x.fields[0][1] = "keep-alive" }, false)

	w.always(w.status(403, "", "no"))
	client, conn := tcpPair(t)
	defer client.Close()
	x := &raised{w.request("GET", "/ws", wantsUpgrade...), conn, make(chan string, 1)}
	w.p.Serve(x)
	if x.status != 403 || x.out.String() != "no" {
		t.Errorf("declined: %d %q", x.status, &x.out)
	}
	client.Close() // should it be handed over, it ends at once
	w.always("HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n")
	x = &raised{w.request("GET", "/ws", wantsUpgrade...), conn, make(chan string, 1)}
	if w.p.Serve(x); x.status != 502 {
		t.Errorf("another protocol: %d", x.status)
	}
	if got := w.p.upgrades.Load(); got != 0 {
		t.Errorf("%d open", got)
	}
}

// TestUpgradeIdle: a connection over which nothing moves is closed.
func TestUpgradeIdle(t *testing.T) {
	w := newWorld(t, upgrades(0, 20*time.Millisecond))
	gone := make(chan struct{})
	w.does(func(c net.Conn, r *http.Request) {
		io.WriteString(c, switching)
		io.Copy(io.Discard, c)
		close(gone)
	})
	client, _, done := w.dialUp(t)
	if rest, err := io.ReadAll(client); err != nil || len(rest) > 0 {
		t.Errorf("%q %v", rest, err)
	}
	<-gone
	<-done
}

// TestUpgradeDrain: when the node is to stop both sides hear it, behind a whole
// frame only.
func TestUpgradeDrain(t *testing.T) {
	for _, cut := range []bool{false, true} {
		w := newWorld(t, upgrades(0, 0))
		fromOrigin, toOrigin := "\x81\x02hi", make(chan string, 1)
		if cut {
			fromOrigin = "\x81\x05hi"
		}
		w.does(func(c net.Conn, r *http.Request) {
			io.WriteString(c, switching+fromOrigin)
			all, _ := io.ReadAll(c)
			toOrigin <- string(all)
		})
		client, _, done := w.dialUp(t)
		if got := read(t, client, 4); got != fromOrigin {
			t.Errorf("%q", got)
		}
		w.p.Drain()
		rest, err := io.ReadAll(client)
		want := "\x88\x02\x03\xe9"
		if cut {
			want = ""
		}
		if err != nil || string(rest) != want {
			t.Errorf("the client hears %q, %v, want %q", rest, err, want)
		}
		if got := <-toOrigin; len(got) != 8 || got[:2] != "\x88\x82" || got[6]^got[2] != 0x03 || got[7]^got[3] != 0xe9 {
			t.Errorf("the origin hears %q", got)
		}
		<-done
	}
}
