package proxy

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// wires says that connections of our own are used here.
const wires = true

// An ear tells whether anything came on a connection, without reading it. It
// allocates nothing once it is made.
type ear struct {
	raw   syscall.RawConn // nil for what is no socket
	look  func(fd uintptr)
	polls [1]unix.PollFd
	quiet bool
}

func newEar(c net.Conn) *ear {
	e := &ear{}
	if sc, ok := c.(syscall.Conn); ok {
		e.raw, _ = sc.SyscallConn() // nil is noisy
	}
	e.look = func(fd uintptr) {
		e.polls[0] = unix.PollFd{Fd: int32(fd), Events: unix.POLLIN | unix.POLLRDHUP}
		n, err := unix.Poll(e.polls[:], 0)
		e.quiet = n == 0 && err == nil
	}
	return e
}

// silent reports whether nothing came: no bytes, no end and no error.
func (e *ear) silent() bool {
	e.quiet = false
	return e.raw != nil && e.raw.Control(e.look) == nil && e.quiet
}
