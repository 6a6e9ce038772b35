package proxy

import (
	"bytes"
	"errors"
	"fmt"
	"net/url"
	"sort"
	"strings"

	"github.com/edgenode/edgenode/tiers/item"
)

// Implicit tags. The first byte is no visible ASCII, so that they never meet
// the tags of origins.
const (
	tagURL  = "\x01u:" // scheme://host/path?query of the answer to a GET
	tagHost = "\x01h:" // host name without port
	tagPost = "\x01p:" // like tagURL, of the answer to a POST

	tagGroup = "\x01g:" // scheme://host/ and a cache group
)

// Parts of a key after the site's name and "\0scheme://host/path?query".
const (
	keyAddition = "\x00a"
	keyVariant  = "\x00v"
)

// splitHost appends to dst the host in lower case without one trailing dot, and
// returns with it the bare name (a prefix of it without the port). A port that
// is the scheme's default is left out.
func splitHost(dst, host []byte, scheme string) (full, name []byte) {
	start := len(dst)
	if plainHost(host) {
		dst = append(dst, host...)
		return dst, dst[start:]
	}
	for _, c := range host {
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		dst = append(dst, c)
	}
	h := dst[start:]
	var port []byte
	if i := bytes.LastIndexByte(h, ':'); i >= 0 && bytes.IndexByte(h[i:], ']') < 0 {
		h, port = h[:i], h[i:]
	}
	if n := len(h); n > 1 && h[n-1] == '.' {
		h = h[:n-1]
	}
	nameLen := len(h)
	if string(port) == ":" || scheme == "http" && string(port) == ":80" || scheme == "https" && string(port) == ":443" {
		port = nil
	}
	dst = append(dst[:start+nameLen], port...)
	return dst, dst[start : start+nameLen]
}

// plainHost reports a host that is its own full form and name.
func plainHost(host []byte) bool {
	for _, c := range host {
		if c-'A' < 26 || c == ':' {
			return false
		}
	}
	return len(host) > 0 && host[len(host)-1] != '.'
}

// validHost reports whether a normalised host is made of the bytes of a host and
// port (RFC 3986 §3.2.2): nothing that could end the authority in a key or URL.
func validHost(host []byte) bool {
	for _, c := range host {
		if c < 64 && hostLow>>c&1 == 0 || c >= 64 && hostHigh>>(c-64)&1 == 0 || c >= 128 {
			return false
		}
	}
	return len(host) > 0
}

// The bytes of a host as sets of bits: digits and -.%!$&'()*+,;=: below 64,
// lower-case letters and _~[] from 64 on.
const (
	hostLow uint64 = 0x3ff<<'0' | 1<<'-' | 1<<'.' | 1<<'%' | 1<<'!' | 1<<'$' | 1<<'&' | 1<<'\'' | 1<<'(' | 1<<')' |
		1<<'*' | 1<<'+' | 1<<',' | 1<<';' | 1<<'=' | 1<<':'
	hostHigh uint64 = (1<<26-1)<<('a'-64) | 1<<('_'-64) | 1<<('~'-64) | 1<<('['-64) | 1<<(']'-64)
)

// appendTarget appends path and query by the rules of the site: parameters that
// it ignores are dropped, the rest is sorted if it says so. Nothing is decoded;
// the fragment that some clients send stays, it is part of what they asked.
func (s *Site) appendTarget(dst, target []byte) []byte {
	q := bytes.IndexByte(target, '?')
	if q < 0 || len(s.IgnoreQuery) == 0 && !s.SortQuery {
		return append(dst, target...)
	}
	var kept [][]byte
	for part := range bytes.SplitSeq(target[q+1:], []byte("&")) {
		name, _, _ := bytes.Cut(part, []byte("="))
		if !s.ignores(name) {
			kept = append(kept, part)
		}
	}
	if s.SortQuery {
		sort.SliceStable(kept, func(i, j int) bool {
			a, _, _ := bytes.Cut(kept[i], []byte("="))
			b, _, _ := bytes.Cut(kept[j], []byte("="))
			return bytes.Compare(a, b) < 0
		})
	}
	dst = append(dst, target[:q]...)
	for i, part := range kept {
		if i == 0 {
			dst = append(dst, '?')
		} else {
			dst = append(dst, '&')
		}
		dst = append(dst, part...)
	}
	return dst
}

func (s *Site) ignores(name []byte) bool {
	for _, rule := range s.IgnoreQuery {
		if prefix, ok := strings.CutSuffix(rule, "*"); ok && bytes.HasPrefix(name, []byte(prefix)) || string(name) == rule {
			return true
		}
	}
	return false
}

// appendKey appends the base key of a request: namespace, site, URL by the
// site's rules, addition. urlAt is where the URL begins. A key that is longer
// than item.MaxKeyLen less a variant's part is not to be used.
func (s *Site) appendKey(dst []byte, scheme string, host, target, addition []byte) (key []byte, urlAt, urlEnd int) {
	dst = append(dst, item.NamespaceSite)
	dst = append(dst, s.Name...)
	dst = append(dst, 0)
	urlAt = len(dst)
	dst = append(dst, scheme...)
	dst = append(dst, "://"...)
	dst = append(dst, host...)
	dst = s.appendTarget(dst, target)
	urlEnd = len(dst)
	if len(addition) > 0 {
		dst = append(dst, keyAddition...)
		dst = le.AppendUint16(dst, uint16(len(addition)))
		dst = append(dst, addition...)
	}
	return dst, urlAt, urlEnd
}

const maxBaseKey = item.MaxKeyLen - len(keyVariant) - hashLen

// ErrBadURL is returned for a purge of something that is no URL of a site.
var ErrBadURL = errors.New("proxy: not a URL of a site")

// PurgeURL returns the predicate and values of a tiers.Purge with namespaces
// item.InSites that covers every answer stored for a URL: all variants, all
// key additions, of GET and POST, and also what was asked under another URL and
// rewritten to this one. Without a scheme both http and https are meant.
func (p *Proxy) PurgeURL(raw string) (item.Predicate, []string, error) {
	values, err := p.purgeValues(raw, true)
	return item.MatchTag, values, err
}

// PurgePrefix is PurgeURL for all URLs that begin with a scheme, host and path.
// The site's query rules are not applied to it.
func (p *Proxy) PurgePrefix(raw string) (item.Predicate, []string, error) {
	values, err := p.purgeValues(raw, false)
	return item.MatchTagPrefix, values, err
}

// PurgeHost is PurgeURL for everything stored for a host name, on all ports.
func PurgeHost(host string) (item.Predicate, []string, error) {
	full, name := splitHost(nil, []byte(host), "")
	if len(name) == 0 || !validHost(full) {
		return 0, nil, fmt.Errorf("%w: %q is no host; write a name without scheme and path, as in shop.example", ErrBadURL, host)
	}
	return item.MatchTag, []string{tagHost + string(name)}, nil
}

func (p *Proxy) purgeValues(raw string, bySiteRules bool) ([]string, error) {
	schemes := []string{"http", "https"}
	rest := raw
	if i := strings.Index(raw, "://"); i >= 0 {
		schemes, rest = []string{strings.ToLower(raw[:i])}, raw[i+3:]
		if schemes[0] != "http" && schemes[0] != "https" {
			return nil, fmt.Errorf("%w: %q: the scheme must be http or https", ErrBadURL, raw)
		}
	}
	rest, _, _ = strings.Cut(rest, "#")
	n := strings.IndexAny(rest, "/?")
	if n < 0 {
		n = len(rest)
	}
	if _, err := url.Parse("http://" + rest[:n]); err != nil || n == 0 || strings.ContainsAny(rest, " \t\r\n\x00") {
		return nil, fmt.Errorf("%w: %q", ErrBadURL, raw)
	}
	target := rest[n:]
	if target == "" || target[0] == '?' {
		target = "/" + target
	}
	var values []string
	for _, scheme := range schemes {
		host, name := splitHost(nil, []byte(rest[:n]), scheme)
		target := []byte(target)
		if s := p.table.Load().find(name, target); s != nil && bySiteRules {
			target = s.appendTarget(nil, target)
		}
		u := scheme + "://" + string(host) + string(target)
		values = append(values, tagURL+u, tagPost+u)
	}
	return values, nil
}
