package front

import (
	"bytes"
	"net/netip"
	"slices"
)

// contains reports whether one of nets holds a.
func contains(nets []netip.Prefix, a netip.Addr) bool {
	for _, p := range nets {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// clientOf returns the client's address as the trusted proxies tell it: the
// rightmost address of Forwarded, or else of X-Forwarded-For, that is not
// trusted; if all are, the leftmost. What cannot be read ends the search: the
// last address that could be is the client then. If both fields are there and
// do not say the same, one may come from the client itself, and neither is
// believed. The peer is trusted.
func clientOf(peer netip.Addr, trusted []netip.Prefix, fields []field, base []byte) netip.Addr {
	a, gotA := walk(peer, trusted, fields, base, "forwarded", forwardedFor)
	b, gotB := walk(peer, trusted, fields, base, "x-forwarded-for", plainAddress)
	switch {
	case gotA && gotB && a != b:
		return peer
	case gotA:
		return a
	}
	return b
}

// walk goes through the elements of all fields of this name from right to left.
// found is false if there is no such field.
func walk(peer netip.Addr, trusted []netip.Prefix, fields []field, base []byte, name string, address func([]byte) (netip.Addr, bool)) (client netip.Addr, found bool) {
	client = peer
	for _, f := range slices.Backward(fields) {
		if f.kind != fieldForwarded || !foldIs(f.name.of(base), name) {
			continue
		}
		found = true
		for list, more := f.value.of(base), true; more; {
			var element []byte
			if list, element, more = cutLast(list); len(element) == 0 {
				continue // an empty element counts for nothing
			}
			a, ok := address(element)
			if !ok {
				return client, true
			}
			if client = a; !contains(trusted, a) {
				return client, true
			}
		}
	}
	return client, found
}

// cutLast cuts the last element off a comma-separated list; commas in quotes do
// not occur in addresses, and an element with one cannot be read.
func cutLast(list []byte) (rest, last []byte, more bool) {
	i := bytes.LastIndexByte(list, ',')
	if i < 0 {
		return nil, trimOWS(list), false
	}
	return list[:i], trimOWS(list[i+1:]), true
}

// forwardedFor returns the "for" of an element of Forwarded (RFC 7239).
func forwardedFor(element []byte) (netip.Addr, bool) {
	for len(element) > 0 {
		var pair []byte
		pair, element, _ = bytes.Cut(element, []byte{';'})
		name, value, ok := bytes.Cut(trimOWS(pair), []byte{'='})
		if ok && foldIs(name, "for") {
			if n := len(value); n >= 2 && value[0] == '"' && value[n-1] == '"' {
				value = value[1 : n-1]
			}
			return plainAddress(value)
		}
	}
	return netip.Addr{}, false
}

// plainAddress reads an address with an optional port: 192.0.2.1, 192.0.2.1:80,
// 2001:db8::1, [2001:db8::1], [2001:db8::1]:80.
func plainAddress(b []byte) (netip.Addr, bool) {
	if len(b) > 0 && b[0] == '[' {
		i := bytes.IndexByte(b, ']')
		if i < 0 || i+1 < len(b) && (b[i+1] != ':' || !isPort(b[i+2:])) {
			return netip.Addr{}, false
		}
		b = b[1:i]
	} else if i := bytes.IndexByte(b, ':'); i >= 0 && bytes.IndexByte(b[i+1:], ':') < 0 {
		if !isPort(b[i+1:]) {
			return netip.Addr{}, false
		}
		b = b[:i]
	}
	a, err := netip.ParseAddr(string(b))
	return a.Unmap().WithZone(""), err == nil
}
