package mariadbtest

import "syscall"

// dieWithParent has the kernel kill the server when the test process dies
// without cleaning up, as it does after a panic or a time limit.
func dieWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
