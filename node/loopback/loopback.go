// Package loopback decides whether a request names this very machine: the Host
// field of a listener that trusts its own machine, and the Origin field that a
// browser adds. Begin with [Host].
//
// Checking that the peer is loopback is not enough: a page on any site can make
// a browser on this machine send requests here, under a name of its own that
// resolves to 127.0.0.1 (DNS rebinding), or by a form that posts across origins.
package loopback

import (
	"bytes"
	"net/netip"
)

// Host reports whether host, a Host field with or without a port, is localhost
// or a loopback address literal. It allocates nothing for names and IPv4.
func Host(host []byte) bool {
	name, ok := withoutPort(host)
	if !ok {
		return false
	}
	if bytes.EqualFold(name, []byte("localhost")) || isLoopback4(name) {
		return true
	}
	if len(host) == 0 || host[0] != '[' || len(name) > maxLiteral {
		return false
	}
	addr, err := netip.ParseAddr(string(name))
	return err == nil && addr.Zone() == "" && addr.Unmap().IsLoopback()
}

const maxLiteral = 45 // an IPv6 address that ends in an IPv4 one, in full

// isLoopback4 reports whether name is 127.x.y.z, by hand because netip's parser
// wants a string.
func isLoopback4(name []byte) bool {
	rest, ok := bytes.CutPrefix(name, []byte("127."))
	for i := 0; ok && i < 3; i++ {
		var octet []byte
		octet, rest, _ = bytes.Cut(rest, []byte("."))
		ok = isOctet(octet) && (i < 2) == (len(rest) > 0)
	}
	return ok && name[len(name)-1] != '.'
}

// isOctet reports whether s is 0 to 255 in decimal without leading zeros.
func isOctet(s []byte) bool {
	if len(s) == 0 || len(s) > 3 || len(s) > 1 && s[0] == '0' {
		return false
	}
	n := 0
	for _, c := range s {
		if c < '0' || c > '9' {
			return false
		}
		n = 10*n + int(c-'0')
	}
	return n <= 255
}

// withoutPort cuts the port and the brackets of an IPv6 literal.
func withoutPort(host []byte) ([]byte, bool) {
	if len(host) > 0 && host[0] == '[' {
		end := bytes.IndexByte(host, ']')
		if end < 0 || !isPort(host[end+1:]) {
			return nil, false
		}
		name := host[1:end]
		return name, bytes.IndexByte(name, ':') >= 0
	}
	name, rest := host, []byte(nil)
	if i := bytes.IndexByte(host, ':'); i >= 0 {
		name, rest = host[:i], host[i:]
	}
	return name, isPort(rest)
}

// isPort reports whether s is empty or a colon and up to five digits.
func isPort(s []byte) bool {
	if len(s) == 0 {
		return true
	}
	if s[0] != ':' || len(s) > 6 {
		return false
	}
	for _, c := range s[1:] {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}

// SameOrigin reports whether origin, an Origin field, is that of a page of
// scheme and host themselves. An absent field (nil) is the same origin: no
// browser sent the request across origins.
func SameOrigin(origin []byte, scheme string, host []byte) bool {
	if origin == nil {
		return true
	}
	rest, ok := bytes.CutPrefix(origin, []byte(scheme+"://"))
	return ok && bytes.EqualFold(rest, host)
}
