package front

import (
	"bytes"
	"encoding/binary"
	"io"
	"net/netip"
	"strings"
)

// The PROXY protocol, versions 1 and 2 (haproxy's proxy-protocol.txt): the first
// bytes of a connection say whose it is. They are taken from trusted proxies only,
// and must be there then: a receiver that guesses would believe clients.

const proxySignature = "\r\n\r\n\x00\r\nQUIT\n"

// maxProxyLine is the longest header of version 1 in bytes, maxProxyBlock what may
// follow the fixed part of version 2: addresses, and values that are not read.
const (
	maxProxyLine  = 107
	maxProxyBlock = 4 << 10
)

// announced reads the header. It reports false if there is none that can be read.
func (c *conn) announced() bool {
	c.arm(c.s.o.HeaderTimeout, true)
	source, ok := readProxyHeader(c.tcp)
	c.deadline.Store(0)
	if !ok {
		return false
	}
	c.proxied = true
	if source.IsValid() {
		c.peer = source
		c.believed = contains(*c.trusted, source)
	}
	return true
}

// readProxyHeader reads a header and no byte more. source is the zero Addr if the
// proxy speaks for itself (LOCAL) or does not say for whom.
func readProxyHeader(r io.Reader) (source netip.Addr, ok bool) {
	var b [maxProxyLine]byte
	if _, err := io.ReadFull(r, b[:len(proxySignature)]); err != nil {
		return source, false
	}
	if string(b[:len(proxySignature)]) == proxySignature {
		return readProxyBlock(r)
	}
	if !bytes.HasPrefix(b[:], []byte("PROXY ")) {
		return source, false
	}
	for n := len(proxySignature); n < len(b); n++ {
		if _, err := io.ReadFull(r, b[n:n+1]); err != nil {
			return source, false
		}
		if b[n] == '\n' {
			return parseProxyLine(string(b[:n+1]))
		}
	}
	return source, false
}

// parseProxyLine reads "PROXY TCP4 source destination port port\r\n".
func parseProxyLine(line string) (source netip.Addr, ok bool) {
	line, ok = strings.CutSuffix(line, "\r\n")
	if !ok {
		return source, false
	}
	parts := strings.Split(line, " ")
	if len(parts) >= 2 && parts[1] == "UNKNOWN" {
		return source, true
	}
	if len(parts) != 6 || !isPort([]byte(parts[4])) || !isPort([]byte(parts[5])) {
		return source, false
	}
	source, err := netip.ParseAddr(parts[2])
	if err != nil || source.Zone() != "" || source.Is4() != (parts[1] == "TCP4") || source.Is6() != (parts[1] == "TCP6") {
		return netip.Addr{}, false
	}
	return source.Unmap(), true
}

// readProxyBlock reads version 2 behind its signature.
func readProxyBlock(r io.Reader) (source netip.Addr, ok bool) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return source, false
	}
	length := int(binary.BigEndian.Uint16(head[2:]))
	if head[0]>>4 != 2 || head[0]&15 > 1 || length > maxProxyBlock {
		return source, false
	}
	block := make([]byte, length)
	if _, err := io.ReadFull(r, block); err != nil {
		return source, false
	}
	if head[0]&15 == 0 { // LOCAL: the proxy's own, such as a health check
		return source, true
	}
	switch head[1] {
	case 0x11: // TCP over IPv4
		if length < 12 {
			return source, false
		}
		return netip.AddrFrom4([4]byte(block[:4])), true
	case 0x21: // TCP over IPv6
		if length < 36 {
			return source, false
		}
		return netip.AddrFrom16([16]byte(block[:16])).Unmap(), true
	}
	return source, true // another family: not said for whom
}

// countIn counts a connection whose client became known after it was accepted. It
// reports false if that client has enough.
func (s *Server) countIn(c *conn) bool {
	if c.believed {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	group := addressGroup(c.peer)
	if s.byAddress[group] >= s.o.MaxConnectionsPerAddress {
		return false
	}
	s.byAddress[group]++
	c.counted = true
	return true
}
