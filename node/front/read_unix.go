//go:build unix

package front

import (
	"io"
	"net"
	"syscall"
)

// rawOf returns the system's side of a plain TCP connection, or nil.
func rawOf(nc net.Conn) syscall.RawConn {
	t, ok := nc.(*net.TCPConn)
	if !ok {
		return nil
	}
	raw, err := t.SyscallConn()
	if err != nil {
		return nil
	}
	return raw
}

// readNow reads once if there is something to read. If there is not and the
// connection is idle, its buffers go back to the pool before it waits, so that
// idle connections hold none. It is the callback of RawConn.Read.
func (c *conn) readNow(fd uintptr) bool {
	c.acquire()
	for {
		n, err := syscall.Read(int(fd), c.w.in[c.end:])
		switch {
		case err == syscall.EINTR:
			continue
		case err == syscall.EAGAIN:
			if c.idle {
				c.release()
			}
			return false
		case err == nil && n == 0:
			err = io.EOF
		}
		c.got, c.gotErr = max(n, 0), err
		return true
	}
}
