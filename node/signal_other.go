//go:build !unix

package node

import (
	"os"
	"syscall"
)

// Signals are those that a process with a node wants to hear of.
func Signals() []os.Signal { return []os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGHUP} }

// reopens reports whether s asks for the access log to be opened anew: there is
// no such signal here.
func reopens(os.Signal) bool { return false }
