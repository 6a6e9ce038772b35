//go:build !linux

package mariadbtest

import "syscall"

// dieWithParent has no equivalent here: a test process that dies without
// cleaning up leaves its servers running.
func dieWithParent() *syscall.SysProcAttr { return nil }
