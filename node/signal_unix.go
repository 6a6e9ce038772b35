//go:build unix

package node

import (
	"os"
	"syscall"
)

// Signals are those that a process with a node wants to hear of.
func Signals() []os.Signal {
	return []os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGUSR1}
}

// reopens reports whether s asks for the access log to be opened anew.
func reopens(s os.Signal) bool { return s == syscall.SIGUSR1 }
