package proxy

import (
	"context"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"time"
)

// A line is the way to one origin: it counts the connections to it, whoever opened
// them, and keeps those of our own that are idle. It is safe for concurrent use.
//
// Requests without a body go over wires, see wire. The others, and upgrades, go by
// net/http, whose connections count all the same: see enter.
type line struct {
	address string
	idleFor time.Duration // then an idle wire is closed
	dial    func(ctx context.Context, address string) (net.Conn, error)
	yield   func() // makes net/http close what it keeps idle

	// mu guards the fields below. It is a leaf lock.
	mu      sync.Mutex
	room    int     // connections that may still be opened
	idle    []*wire // the one used last at the end
	waiting []*wish // in the order in which they came
	timer   *time.Timer
	armed   bool // timer runs
	retired bool // nothing is kept any more
}

// A wish is a request that waits for a connection.
type wish struct {
	any bool       // a wire will do; else it is for room to open a connection
	got chan *wire // nil is room; one is sent at the most
}

// newLine returns the line to an origin over which wires can go, or nil: they are
// not for TLS, nor for names that are not ASCII, which net/http translates.
func newLine(u *url.URL, cfg *Pool, d *dialer, yield func()) *line {
	if !wires || u.Scheme != "http" || u.Hostname() == "" {
		return nil
	}
	for i := range len(u.Host) {
		if u.Host[i] >= 0x80 || u.Host[i] == '%' {
			return nil
		}
	}
	port := u.Port()
	if port == "" {
		port = "80"
	}
	return &line{
		address: net.JoinHostPort(u.Hostname(), port), idleFor: cfg.IdleTimeout, room: cfg.MaxConnections, yield: yield,
		dial: func(ctx context.Context, address string) (net.Conn, error) { return d.plain(ctx, "tcp", address) },
	}
}

// wire returns a connection for one exchange: one that was kept, or a new one. It
// waits until there may be one. Whoever has it gives it back by release.
func (l *line) wire(ctx context.Context) (*wire, error) {
	for {
		w, err := l.take(ctx, true)
		switch {
		case err != nil:
			return nil, err
		case w == nil:
			return l.open(ctx)
		case w.silent():
			return w, nil
		}
		l.release(w, false)
	}
}

// kept is wire if one is idle, else it returns nil. One that the origin closed, or on
// which it says what nobody asked for, is closed.
func (l *line) kept() *wire {
	for {
		l.mu.Lock()
		last := len(l.idle) - 1
		if last < 0 {
			l.mu.Unlock()
			return nil
		}
		w := l.idle[last]
		l.idle = l.idle[:last]
		l.mu.Unlock()
		if w.silent() {
			return w
		}
		l.release(w, false)
	}
}

// open dials. The caller has the room for it.
func (l *line) open(ctx context.Context) (*wire, error) {
	c, err := l.dial(ctx, l.address)
	if err != nil {
		l.leave()
		return nil, err
	}
	return newWire(c, l), nil
}

// enter waits for room for a connection that is opened elsewhere; leave gives it
// back.
func (l *line) enter(ctx context.Context) error {
	_, err := l.take(ctx, false)
	return err
}

// take returns a kept wire, if any will do, or nil for room to open a connection.
func (l *line) take(ctx context.Context, any bool) (*wire, error) {
	l.mu.Lock()
	if last := len(l.idle) - 1; last >= 0 && (any || l.room == 0) {
		at := last
		if !any {
			at = 0 // the oldest makes room
		}
		w := l.idle[at]
		l.idle = append(l.idle[:at], l.idle[at+1:]...)
		l.mu.Unlock()
		if any {
			return w, nil
		}
		w.Conn.Close()
		return nil, nil
	}
	if l.room > 0 {
		l.room--
		l.mu.Unlock()
		return nil, nil
	}
	wanted := &wish{any: any, got: make(chan *wire, 1)}
	l.waiting = append(l.waiting, wanted)
	l.mu.Unlock()
	if any {
		l.yield()
	}
	select {
	case w := <-wanted.got:
		return w, nil
	case <-ctx.Done():
		l.forget(wanted)
		return nil, context.Cause(ctx)
	}
}

// forget takes back a wish. What it got meanwhile goes to the next.
func (l *line) forget(wanted *wish) {
	l.mu.Lock()
	for i, w := range l.waiting {
		if w == wanted {
			l.waiting = append(l.waiting[:i], l.waiting[i+1:]...)
			l.mu.Unlock()
			return
		}
	}
	l.mu.Unlock()
	if w := <-wanted.got; w != nil {
		l.release(w, true)
	} else {
		l.leave()
	}
}

// leave gives room back: a connection was closed, or not opened.
func (l *line) leave() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.waiting) == 0 {
		l.room++
		return
	}
	l.firstLocked().got <- nil
}

func (l *line) firstLocked() *wish {
	first := l.waiting[0]
	l.waiting = append(l.waiting[:0], l.waiting[1:]...)
	return first
}

// release gives a wire back. It is kept if it may be: nothing of its exchange is
// left to be read, and the origin did not say that it closes.
func (l *line) release(w *wire, keep bool) {
	l.mu.Lock()
	keep = keep && !l.retired && (len(l.waiting) == 0 || l.waiting[0].any)
	if !keep {
		l.mu.Unlock()
		w.Conn.Close()
		l.leave()
		return
	}
	defer l.mu.Unlock()
	if len(l.waiting) > 0 {
		l.firstLocked().got <- w
		return
	}
	w.since = time.Now()
	l.idle = append(l.idle, w)
	l.armLocked(l.idleFor)
}

// crowded reports whether somebody waits for a connection.
func (l *line) crowded() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.waiting) > 0
}

// armLocked makes sweep run after d, unless it will run anyway.
func (l *line) armLocked(d time.Duration) {
	switch {
	case l.armed:
		return
	case l.timer == nil:
		l.timer = time.AfterFunc(d, l.sweep)
	default:
		l.timer.Reset(d)
	}
	l.armed = true
}

// sweep closes the wires that were idle for too long.
func (l *line) sweep() {
	l.mu.Lock()
	now, n := time.Now(), 0
	for n < len(l.idle) && now.Sub(l.idle[n].since) >= l.idleFor {
		n++
	}
	old := append([]*wire(nil), l.idle[:n]...)
	l.idle = append(l.idle[:0], l.idle[n:]...)
	if l.armed = false; len(l.idle) > 0 {
		l.armLocked(l.idleFor - now.Sub(l.idle[0].since))
	}
	l.mu.Unlock()
	l.end(old)
}

// closeIdle closes what is idle. With retire nothing is kept from now on.
func (l *line) closeIdle(retire bool) {
	l.mu.Lock()
	old := l.idle
	l.idle, l.retired = nil, l.retired || retire
	if l.timer != nil {
		l.timer.Stop()
		l.armed = false
	}
	l.mu.Unlock()
	l.end(old)
}

func (l *line) end(old []*wire) {
	for _, w := range old {
		w.Conn.Close()
		l.leave()
	}
}

// A counted connection gives its room back when it is closed.
type counted struct {
	net.Conn
	line *line
	gone atomic.Bool
}

// Close implements net.Conn.
func (c *counted) Close() error {
	if !c.gone.Swap(true) {
		defer c.line.leave()
	}
	return c.Conn.Close()
}

// CloseWrite tells the origin that nothing follows.
func (c *counted) CloseWrite() error { return closeWrite(c.Conn) }
