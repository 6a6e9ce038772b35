package proxy

import (
	"crypto/tls"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// acknowledged reports whether the peer of a connection has acknowledged every byte
// that was written to it, and has not reset it. A close that crossed a request
// leaves its bytes unacknowledged: the peer's system answers them by a reset.
func acknowledged(c net.Conn) bool {
	for {
		switch under := c.(type) {
		case *codingConn:
			c = under.Conn
			continue
		case *counted:
			c = under.Conn
			continue
		case *tls.Conn:
			c = under.NetConn()
			continue
		}
		break
	}
	sc, ok := c.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	all := false
	err = raw.Control(func(fd uintptr) {
		left, err1 := unix.IoctlGetInt(int(fd), unix.SIOCOUTQ)
		reset, err2 := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR)
		all = err1 == nil && err2 == nil && left == 0 && reset == 0
	})
	return err == nil && all
}
