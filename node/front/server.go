package front

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// A Handler answers one request. It is called from the goroutine of the
// connection; x and all its bytes are void when it returns. A panic of it costs
// the client its connection and is logged.
type Handler func(x *Exchange)

// A Server serves one listener. [Listen] makes it.
type Server struct {
	o       Options
	ln      net.Listener
	certs   *certificates // nil without TLS
	tlsConf *tls.Config
	m       *serverMetrics
	lines   [500][]byte // status lines of 100 to 599
	handler Handler

	trusted atomic.Pointer[[]netip.Prefix]
	date    atomic.Pointer[[]byte] // "Date: …\r\n"
	now     atomic.Int64           // coarse milliseconds since began
	began   time.Time

	draining atomic.Bool // answers say Connection: close
	closing  atomic.Bool // no further request is read
	stopped  chan struct{}
	stopOnce sync.Once

	base     context.Context // of all exchanges
	cut      context.CancelCauseFunc
	accepts  sync.WaitGroup // the accept loop and the clock
	serving  sync.WaitGroup // connections, refusals
	works    sync.Pool      // *work
	connPool sync.Pool      // *conn

	// mu guards the fields below. It is a leaf lock; no I/O is done under it.
	mu        sync.Mutex
	conns     []*conn
	byAddress map[netip.Addr]int
	refusing  int // goroutines that tell a client that there is no room
}

// ErrShutdown is the cause of a context that ends since the server was shut
// down by force.
var ErrShutdown = errors.New("front: the server is shutting down")

// Listen checks o, loads the certificates and opens the listener. The kernel
// takes connections from then on; they are served once Start was called.
func Listen(o Options) (*Server, error) {
	o.fill()
	if err := o.validate(); err != nil {
		return nil, err
	}
	certs, err := newCertificates(o.TLS)
	if err != nil {
		return nil, err
	}
	ln, err := o.listen()
	if err != nil {
		return nil, err
	}
	s := &Server{
		o: o, ln: ln, certs: certs,
		began:     time.Now(),
		stopped:   make(chan struct{}),
		byAddress: make(map[netip.Addr]int),
	}
	if certs != nil {
		s.tlsConf = certs.config()
	}
	s.base, s.cut = context.WithCancelCause(context.Background())
	for i := range s.lines {
		s.lines[i] = []byte("HTTP/1.1 " + strconv.Itoa(100+i) + " " + http.StatusText(100+i) + "\r\n")
	}
	s.SetTrustedProxies(o.TrustedProxies)
	s.m = newServerMetrics(o.Metrics, s)
	s.tick()
	return s, nil
}

// Start serves connections with h. It starts two goroutines, which Shutdown
// ends: the accept loop and the clock. It is called once.
func (s *Server) Start(h Handler) {
	s.handler = h
	s.accepts.Go(s.acceptLoop)
	s.accepts.Go(s.clockLoop)
}

// Addr returns the address of the listener.
func (s *Server) Addr() net.Addr { return s.ln.Addr() }

// SetTrustedProxies replaces the networks whose word on the client's address is
// believed. Requests under way keep the old ones.
func (s *Server) SetTrustedProxies(p []netip.Prefix) {
	masked := make([]netip.Prefix, 0, len(p))
	for _, x := range p {
		masked = append(masked, x.Masked())
	}
	s.trusted.Store(&masked)
}

// ReloadCertificates reads the files of the listener again. On an error the
// certificates in use stay. Without TLS it does nothing. Changed files are
// also found by the server itself, within seconds.
func (s *Server) ReloadCertificates() error {
	if s.certs == nil {
		return nil
	}
	return s.certs.load()
}

// maxRefusing bounds the clients that are being told that there is no room;
// further ones are closed without a word.
const maxRefusing = 64

func (s *Server) acceptLoop() {
	pause := time.Duration(0)
	for {
		nc, err := s.ln.Accept()
		if err != nil {
			if s.stopping() || errors.Is(err, net.ErrClosed) {
				return
			}
			if pause = min(max(2*pause, 5*time.Millisecond), time.Second); pause == 5*time.Millisecond {
				s.o.Logger.Warn("cannot accept connections", "listener", s.o.Name, "error", fmt.Errorf("front: accept: %w: %s", err, remedy(err)))
			}
			if !s.wait(pause) {
				return
			}
			continue
		}
		pause = 0
		s.admit(nc)
	}
}

// wait waits for d, or returns false at once when the server stops.
func (s *Server) wait(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-s.stopped:
		return false
	}
}

func (s *Server) stopping() bool {
	select {
	case <-s.stopped:
		return true
	default:
		return false
	}
}

// admit gives the connection its goroutine, or refuses it.
func (s *Server) admit(nc net.Conn) {
	peer := peerOf(nc)
	trusted := *s.trusted.Load()
	believed := contains(trusted, peer)
	s.mu.Lock()
	why, whole := s.roomLocked(peer, believed)
	if why != refusedNot {
		s.mu.Unlock()
		s.refuseConn(nc, why, whole)
		return
	}
	c := s.connPool.Get()
	if c == nil {
		c = newConn(s)
	}
	cn := c.(*conn)
	cn.open(nc, peer, believed)
	cn.index = len(s.conns)
	s.conns = append(s.conns, cn)
	if !believed {
		s.byAddress[addressGroup(peer)]++
	}
	s.serving.Add(1)
	s.mu.Unlock()
	s.m.accepted.Inc()
	go cn.serve()
}

// roomLocked decides on a new connection; tell is false when there are enough
// goroutines telling clients already.
func (s *Server) roomLocked(peer netip.Addr, believed bool) (why refusal, tell bool) {
	switch {
	case s.closing.Load():
		why = refusedFull
	case len(s.conns) >= s.o.MaxConnections:
		why = refusedFull
	case !believed && s.byAddress[addressGroup(peer)] >= s.o.MaxConnectionsPerAddress:
		why = refusedAddress
	default:
		return refusedNot, false
	}
	if tell = s.refusing < maxRefusing && s.certs == nil; tell {
		s.refusing++
		s.serving.Add(1)
	}
	return why, tell
}

// leave takes the connection off the list.
func (s *Server) leave(c *conn) {
	s.mu.Lock()
	last := len(s.conns) - 1
	s.conns[c.index] = s.conns[last]
	s.conns[c.index].index = c.index
	s.conns[last] = nil
	s.conns = s.conns[:last]
	if !c.counted {
		s.mu.Unlock()
		return
	}
	group := addressGroup(c.peer)
	if s.byAddress[group]--; s.byAddress[group] == 0 {
		delete(s.byAddress, group)
	}
	s.mu.Unlock()
}

// refuseConn answers 503 or 429 on a connection that has no room, and closes it.
func (s *Server) refuseConn(nc net.Conn, why refusal, tell bool) {
	s.m.refused[why].Inc()
	if !tell {
		nc.Close()
		return
	}
	go func() {
		defer s.serving.Done()
		v := why.verdict()
		kind, body := s.o.Problem(v.code, v.name, v.detail)
		head := fmt.Sprintf("HTTP/1.1 %d %s\r\nContent-Type: %s\r\nRetry-After: 1\r\n%sContent-Length: %d\r\nConnection: close\r\n\r\n",
			v.code, http.StatusText(v.code), kind, *s.date.Load(), len(body))
		nc.SetDeadline(time.Now().Add(refuseTime))
		if _, err := nc.Write(append([]byte(head), body...)); err == nil {
			linger(nc, make([]byte, 512), refuseBytes)
		}
		nc.Close()
		s.mu.Lock()
		s.refusing--
		s.mu.Unlock()
	}()
}

// What a refused client may still cost.
const (
	refuseTime  = time.Second
	refuseBytes = 16 << 10
)

// addressGroup is what MaxConnectionsPerAddress counts: an IPv4 address, or the
// /64 of an IPv6 address.
func addressGroup(a netip.Addr) netip.Addr {
	if a.Is6() {
		if p, err := a.Prefix(64); err == nil {
			return p.Addr()
		}
	}
	return a
}

// peerOf returns the peer's address, or the zero Addr if it has none.
func peerOf(nc net.Conn) netip.Addr {
	if a, ok := nc.RemoteAddr().(*net.TCPAddr); ok {
		return a.AddrPort().Addr().Unmap().WithZone("")
	}
	return netip.Addr{}
}
