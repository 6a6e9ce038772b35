package front

import (
	"net"

	"golang.org/x/sys/unix"
)

// awaitGone returns true when the client has closed its side or the connection
// broke, false when its read deadline passes. It takes no bytes: the system is
// asked about the state, not for data.
func (c *conn) awaitGone() bool {
	t, ok := c.tcp.(*net.TCPConn)
	if !ok {
		return false
	}
	raw, err := t.SyscallConn()
	if err != nil {
		return false
	}
	return raw.Read(hungUp) == nil
}

// hungUp reports whether the peer of fd has sent all it will send. New events
// on fd make RawConn.Read ask again.
func hungUp(fd uintptr) bool {
	p := [1]unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
	n, err := unix.Poll(p[:], 0)
	return err == nil && n > 0 && p[0].Revents&(unix.POLLRDHUP|unix.POLLHUP|unix.POLLERR) != 0
}
