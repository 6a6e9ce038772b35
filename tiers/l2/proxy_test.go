package l2_test

import (
	"io"
	"net"
	"sync"
	"testing"
)

// A proxy stands between a store and a server. It counts round trips, and can
// cut the connection after a number of bytes.
type proxy struct {
	listener net.Listener
	to       string

	mu     sync.Mutex
	conns  []net.Conn
	limit  int  // bytes to the server still let through; below 0 all
	asking bool // the last bytes went to the server
	turns  int  // times that bytes went to the server after bytes from it
	wg     sync.WaitGroup
}

func startProxy(t *testing.T, to string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{listener: l, to: to, limit: -1}
	p.wg.Add(1)
	go p.accept()
	t.Cleanup(p.close)
	return p
}

func (p *proxy) url() string { return "redis://" + p.listener.Addr().String() }

func (p *proxy) close() {
	_ = p.listener.Close()
	p.mu.Lock()
	for _, c := range p.conns {
		_ = c.Close()
	}
	p.mu.Unlock()
	p.wg.Wait()
}

// cutAfter closes the connection once n more bytes have gone to the server.
func (p *proxy) cutAfter(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.limit = n
}

// roundTrips returns how often something was asked since the last call.
func (p *proxy) roundTrips() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := p.turns
	p.turns, p.asking = 0, false
	return n
}

func (p *proxy) accept() {
	defer p.wg.Done()
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", p.to)
		if err != nil {
			_ = client.Close()
			continue
		}
		p.mu.Lock()
		p.conns = append(p.conns, client, server)
		p.mu.Unlock()
		p.wg.Add(2)
		go p.pass(server, client, true)
		go p.pass(client, server, false)
	}
}

func (p *proxy) pass(to, from net.Conn, asking bool) {
	defer p.wg.Done()
	defer to.Close()
	defer from.Close()
	b := make([]byte, 64<<10)
	for {
		n, err := from.Read(b)
		cut := p.note(&n, asking)
		if n > 0 {
			if _, err := to.Write(b[:n]); err != nil {
				return
			}
		}
		if cut || err == io.EOF || err != nil {
			return
		}
	}
}

func (p *proxy) note(n *int, asking bool) (cut bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if *n > 0 && asking != p.asking {
		p.asking = asking
		if asking {
			p.turns++
		}
	}
	if !asking || p.limit < 0 {
		return false
	}
	if *n < p.limit {
		p.limit -= *n
		return false
	}
	*n, p.limit = p.limit, -1
	return true
}
