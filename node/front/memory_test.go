package front_test

import (
	"net"
	"sync"
	"time"
)

// A memoryListener hands out connections made by dial.
type memoryListener struct {
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

func newMemoryListener() *memoryListener {
	return &memoryListener{conns: make(chan net.Conn), done: make(chan struct{})}
}

func (l *memoryListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *memoryListener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

func (l *memoryListener) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 80} }

// dial returns the client's end of a synchronous connection.
func (l *memoryListener) dial() net.Conn {
	client, server := net.Pipe()
	l.conns <- server
	return client
}

// A scriptedConn gives its reader the same bytes again and again, and drops
// what is written. It ends after the given number of reads. It allocates
// nothing.
type scriptedConn struct {
	request []byte
	reads   int
	written int64
	step    func() // called before each read
	closed  chan struct{}
	once    sync.Once
}

func newScriptedConn(request string, reads int) *scriptedConn {
	return &scriptedConn{request: []byte(request), reads: reads, closed: make(chan struct{})}
}

func (c *scriptedConn) Read(p []byte) (int, error) {
	if c.step != nil {
		c.step()
	}
	if c.reads == 0 {
		return 0, net.ErrClosed
	}
	c.reads--
	return copy(p, c.request), nil
}

func (c *scriptedConn) Write(p []byte) (int, error) {
	c.written += int64(len(p))
	return len(p), nil
}

func (c *scriptedConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return nil
}

func (c *scriptedConn) LocalAddr() net.Addr                { return nil }
func (c *scriptedConn) RemoteAddr() net.Addr               { return nil }
func (c *scriptedConn) SetDeadline(t time.Time) error      { return nil }
func (c *scriptedConn) SetReadDeadline(t time.Time) error  { return nil }
func (c *scriptedConn) SetWriteDeadline(t time.Time) error { return nil }
