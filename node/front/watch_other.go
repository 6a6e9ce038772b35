//go:build !linux

package front

// awaitGone returns false: here a leaving client is noticed by the next read or
// write only.
func (c *conn) awaitGone() bool { return false }
