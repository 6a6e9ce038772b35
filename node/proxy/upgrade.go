package proxy

import (
	"crypto/rand"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/edgenode/edgenode/node/problem"
)

// Defaults of Upgrades.
const (
	DefaultUpgradesMax  = 1000
	DefaultUpgradesIdle = 10 * time.Minute
)

// Upgrades says which connections a site hands through to its origins after a
// 101. The zero value hands none through: Upgrade is a field of the connection
// and goes no further.
type Upgrades struct {
	Protocols []string      // websocket
	Max       int           // at once; 0 is DefaultUpgradesMax
	Idle      time.Duration // without a byte in either direction; 0 is DefaultUpgradesIdle
}

var failUpgrades = failure{kind: problem.TooManyUpgrades, text: "too many upgraded connections", retry: time.Second}

// An upgrader exchange can hand its connection over.
type upgrader interface {
	Upgrade(block []byte) (net.Conn, error)
}

// upgradeOf returns the protocol that a request wants and the site allows, or "".
func (st *state) upgradeOf() string {
	if len(st.site.Upgrades.Protocols) == 0 || st.x.Method() != http.MethodGet || st.x.ContentLength() != 0 || st.x.HTTP10() {
		return ""
	}
	wants := string(st.x.Header("Upgrade"))
	for _, p := range st.site.Upgrades.Protocols {
		if strings.EqualFold(wants, p) && st.connectionHas("upgrade") {
			return p
		}
	}
	return ""
}

// connectionHas reports whether Connection names an option.
func (st *state) connectionHas(option string) (has bool) {
	st.x.Fields(func(name, value []byte) bool {
		if equalFold(name, "connection") {
			for part := range strings.SplitSeq(string(value), ",") {
				has = has || strings.EqualFold(strings.Trim(part, " \t"), option)
			}
		}
		return true
	})
	return has
}

// upgrade passes a request for another protocol on. If the origin agrees, both
// connections are one from then on; else its answer is passed on like any other.
func (p *Proxy) upgrade(st *state, protocol string) {
	h := how{fwd: fwdBypass, detail: "upgrade"}
	client, ok := received(st.x).(upgrader)
	if !ok || p.loops(st) {
		p.refuse(st, failLoop, h)
		return
	}
	open := st.site.upgraded
	if open.Add(1) > int64(st.site.Upgrades.Max) {
		open.Add(-1)
		p.m.upgradesRefused.Inc()
		p.refuse(st, failUpgrades, h)
		return
	}
	p.upgrades.Add(1)
	defer func() {
		open.Add(-1)
		p.upgrades.Add(-1)
	}()
	r := p.snapshot(st)
	r.header["Connection"], r.header["Upgrade"] = []string{"Upgrade"}, []string{protocol}
	f := fetch{p: p, r: r, header: r.header, upgrade: true}
	// Not the exchange's context: what watches it would read from the connection.
	oa, err := f.do(p.drained)
	if err != nil {
		p.refuse(st, failureOf(err), h)
		return
	}
	h.fwdStatus = oa.StatusCode
	if oa.StatusCode != http.StatusSwitchingProtocols {
		oa.finish(p)
		p.relay(st, oa, &h, r)
		return
	}
	defer oa.Close()
	origin, ok := oa.Body.(io.ReadWriteCloser)
	if !ok || !strings.EqualFold(oa.Header.Get("Upgrade"), protocol) {
		p.refuse(st, failBroken, h)
		return
	}
	oa.finish(p)
	block, _, _ := appendBlock(nil, oa.Header, notSent...)
	block = append(append(append(block, "Upgrade: "...), protocol...), "\r\n"...)
	st.tell(&h)
	conn, err := client.Upgrade(p.appendStatus(block, st.site, &h, nil))
	if err != nil {
		p.sent(err)
		return
	}
	p.m.upgradesMade.Inc()
	t := &tunnel{p: p, idle: st.site.Upgrades.Idle}
	t.run(conn, originSide{origin, oa.tap})
}

// originSide is an upgraded connection to an origin: what net/http has of it, with
// the deadlines of the connection below.
type originSide struct {
	io.ReadWriteCloser
	tap *tap
}

func (c originSide) SetReadDeadline(t time.Time) error  { return c.tap.SetReadDeadline(t) }
func (c originSide) SetWriteDeadline(t time.Time) error { return c.tap.SetWriteDeadline(t) }
func (c originSide) CloseWrite() error                  { return closeWrite(c.tap.Conn) }

func closeWrite(c any) error {
	if half, ok := c.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// An end is one side of a tunnel.
type end interface {
	io.ReadWriteCloser
	SetReadDeadline(t time.Time) error
	SetWriteDeadline(t time.Time) error
}

// A tunnel carries bytes both ways between a client and an origin until one side
// ends, nothing moves for the idle time, or the node is to stop.
type tunnel struct {
	p    *Proxy
	idle time.Duration
	last atomic.Int64 // when bytes moved, Unix ns
	over atomic.Bool  // one direction has ended
}

// endGrace is how long one direction may go on after the other has ended, and how
// long a last frame may take.
const endGrace = time.Second

// run returns when both sides are closed. It has one goroutine, for what the
// client sends.
func (t *tunnel) run(client, origin end) {
	t.last.Store(time.Now().UnixNano())
	var up, down frames
	done := make(chan struct{})
	go func() {
		defer close(done)
		t.carry(origin, client, &up, t.p.m.toOrigin.Add)
		t.ending(origin)
	}()
	t.carry(client, origin, &down, t.p.m.toClient.Add)
	t.ending(client)
	<-done
	if t.p.drained.Err() != nil {
		goAway(client, &down, false)
		goAway(origin, &up, true)
	}
	_ = client.Close()
	_ = origin.Close()
}

// ending gives what still comes from the other side a little time.
func (t *tunnel) ending(other end) {
	t.over.Store(true)
	_ = other.SetReadDeadline(time.Now().Add(endGrace))
}

// carry copies from one side to the other until the first ends or is idle.
func (t *tunnel) carry(to, from end, seen *frames, count func(int)) {
	buf := make([]byte, 16<<10)
	forget := t.p.whenDrained(func() { _ = from.SetReadDeadline(time.Unix(1, 0)) })
	defer forget()
	for t.patience(from) {
		n, err := from.Read(buf)
		if n > 0 {
			t.last.Store(time.Now().UnixNano())
			seen.see(buf[:n])
			_ = to.SetWriteDeadline(time.Now().Add(t.idle))
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
			count(n)
		}
		switch {
		case err == nil:
		case errors.Is(err, os.ErrDeadlineExceeded) && t.left() > 0 && !t.over.Load(): // the other direction is busy
		default:
			if errors.Is(err, io.EOF) {
				_ = closeWrite(to)
			}
			return
		}
	}
}

// left is how long nothing may move from now on.
func (t *tunnel) left() time.Duration { return t.idle - time.Since(time.Unix(0, t.last.Load())) }

// patience sets how long the next read may wait. It reports false if there is to
// be none. Whoever ends the tunnel first says so and then sets a deadline, so one
// of the two is seen.
func (t *tunnel) patience(from end) bool {
	_ = from.SetReadDeadline(time.Now().Add(max(t.left(), time.Millisecond)))
	if t.over.Load() {
		_ = from.SetReadDeadline(time.Now().Add(endGrace))
	}
	return t.p.drained.Err() == nil
}

// goAway sends a WebSocket close frame, status 1001 (RFC 6455 §7.4.1), if the last
// frame to this side was whole. Frames to origins are masked.
func goAway(to end, sent *frames, mask bool) {
	if !sent.whole() {
		return
	}
	frame := []byte{0x88, 2, 0x03, 0xe9}
	if mask {
		var key [4]byte
		_, _ = rand.Read(key[:]) // never fails
		frame = append([]byte{0x88, 0x80 | 2}, key[:]...)
		frame = append(frame, 0x03^key[0], 0xe9^key[1])
	}
	_ = to.SetWriteDeadline(time.Now().Add(endGrace))
	_, _ = to.Write(frame) // the side may have gone
}

// frames follows WebSocket frames (RFC 6455 §5.2), to know where one ends.
type frames struct {
	head [14]byte
	have int
	left uint64 // of the payload
}

// see follows b.
func (f *frames) see(b []byte) {
	for len(b) > 0 {
		if f.left > 0 {
			n := min(f.left, uint64(len(b)))
			f.left -= n
			b = b[n:]
			continue
		}
		f.head[f.have] = b[0]
		f.have++
		b = b[1:]
		if f.have >= 2 && f.have == f.headLen() {
			f.left, f.have = f.payload(), 0
		}
	}
}

func (f *frames) headLen() int {
	n := 2
	switch f.head[1] & 0x7f {
	case 126:
		n += 2
	case 127:
		n += 8
	}
	if f.head[1]&0x80 != 0 {
		n += 4
	}
	return n
}

func (f *frames) payload() (n uint64) {
	size := 0
	switch n := f.head[1] & 0x7f; n {
	default:
		return uint64(n)
	case 126:
		size = 2
	case 127:
		size = 8
	}
	for _, c := range f.head[2 : 2+size] {
		n = n<<8 | uint64(c)
	}
	return n
}

// whole reports whether no frame has begun and not ended.
func (f *frames) whole() bool { return f.have == 0 && f.left == 0 }
