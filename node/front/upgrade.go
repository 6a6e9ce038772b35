package front

import (
	"net"
	"time"
)

// Upgrade answers 101 with the prepared lines of block, which name the protocol
// (Upgrade) but not Connection, and hands the connection over. The handler reads
// and writes it until it returns; then it is closed. Only the handler's own
// deadlines hold for it. Bytes that the client has sent early are read first.
//
// It fails with ErrOrder after another answer has begun, for HTTP/1.0, and for a
// request with a body that was not read. It may be closed by any goroutine; for
// reading and writing one each may use it.
func (x *Exchange) Upgrade(block []byte) (net.Conn, error) {
	if x.state != answerNone || x.h.http10 || x.body.err == nil || x.body.failed() {
		return nil, ErrOrder
	}
	if x.used { // nobody else may read from the connection
		x.ctx, x.used = x.ctx.end(), false
	}
	w := x.c.w
	w.out = append(w.out, x.s.lines[1]...)
	w.out = append(w.out, "Connection: Upgrade\r\n"...)
	w.out = append(w.out, block...)
	w.out = append(w.out, "\r\n"...)
	x.state, x.code, x.close, x.upgraded = answerDone, 101, true, true
	if err := x.flush(); err != nil {
		return nil, err
	}
	x.c.deadline.Store(0)
	x.c.tcp.SetDeadline(time.Time{})
	return &upgraded{Conn: x.c.nc, x: x}, nil
}

// An upgraded is a connection that was handed over.
type upgraded struct {
	net.Conn
	x *Exchange
}

// Read takes what had been read before the upgrade, then from the connection.
func (u *upgraded) Read(p []byte) (int, error) {
	c := u.x.c
	if c.end > c.r {
		n := copy(p, c.w.in[c.r:c.end])
		c.r += n
		return n, nil
	}
	n, err := u.Conn.Read(p)
	c.s.m.received.Add(n)
	return n, err
}

// Write writes to the client.
func (u *upgraded) Write(p []byte) (int, error) {
	n, err := u.Conn.Write(p)
	u.x.answer.sent += int64(n)
	u.x.s.m.sent.Add(n)
	return n, err
}

// CloseWrite tells the client that nothing follows.
func (u *upgraded) CloseWrite() error {
	if half, ok := u.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}
