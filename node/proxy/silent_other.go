//go:build !linux

package proxy

import "net"

// wires says that connections of our own are not used here: whether anything came
// on one while it was idle cannot be told without reading.
const wires = false

type ear struct{}

func newEar(net.Conn) *ear { return &ear{} }

func (*ear) silent() bool { return false }
