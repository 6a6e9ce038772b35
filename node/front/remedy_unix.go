//go:build unix

package front

import (
	"errors"
	"syscall"
)

// remedy says what an operator can do about a failed listen or accept.
func remedy(err error) string {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return "another process has this port; stop it (ss -ltnp shows it) or set another address"
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		return "ports below 1024 need CAP_NET_BIND_SERVICE; grant it or set a higher port"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return "this machine has no such address; set one of its own, or leave the host empty"
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		return "out of file descriptors; raise the limit (LimitNOFILE, ulimit -n) above max_connections"
	}
	return "check the address: host:port"
}
