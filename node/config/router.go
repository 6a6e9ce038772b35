package config

import (
	"bytes"
	"strings"
)

// Router finds the site of a request. It is immutable and safe for concurrent
// use.
type Router struct {
	exact map[string][]route
	wild  map[string][]route // by what follows "*."
	any   []route            // "*"

	apiOpen  bool // no api_hosts: each host that no site claims
	apiExact map[string]bool
	apiWild  map[string]bool
	apiAny   bool
}

// route is one site of a host; longer prefixes come first.
type route struct {
	prefix string // "/" or without a slash at its end
	site   int
}

// NewRouter returns the router of the sites and API hosts of c, whose hosts are
// in the form in which Load leaves them: lower case, no brackets.
func NewRouter(c *Config) *Router {
	r := &Router{
		exact:    make(map[string][]route),
		wild:     make(map[string][]route),
		apiOpen:  len(c.APIHosts) == 0,
		apiExact: make(map[string]bool),
		apiWild:  make(map[string]bool),
	}
	for i, s := range c.Sites {
		for _, h := range s.Hosts {
			r.addSite(h, route{prefix: s.PathPrefix, site: i})
		}
	}
	for _, h := range c.APIHosts {
		if suffix, ok := strings.CutPrefix(h, "*."); ok {
			r.apiWild[suffix] = true
		} else if h == "*" {
			r.apiAny = true
		} else {
			r.apiExact[h] = true
		}
	}
	return r
}

func (r *Router) addSite(host string, t route) {
	if host == "*" {
		r.any = insert(r.any, t)
	} else if suffix, ok := strings.CutPrefix(host, "*."); ok {
		r.wild[suffix] = insert(r.wild[suffix], t)
	} else {
		r.exact[host] = insert(r.exact[host], t)
	}
}

// insert keeps routes in order of falling length of their prefixes.
func insert(routes []route, t route) []route {
	at := len(routes)
	for at > 0 && len(routes[at-1].prefix) < len(t.prefix) {
		at--
	}
	return append(routes[:at:at], append([]route{t}, routes[at:]...)...)
}

// Match returns the index in Config.Sites of the site for a request, or −1. It
// reports whether any site claims the host: a claimed host belongs to its sites
// with every path, so that −1 there is no way to the items API.
//
// Host is as in the Host field: a port and one trailing dot are dropped, case
// does not count. First the exact name decides, then the longest wildcard, then
// "*"; among the sites of that host the longest path prefix that ends on the
// border of a segment. Path is the raw path; a query may follow it.
//
// Match keeps neither argument. It does not allocate when host is in lower case.
func (r *Router) Match(host, path []byte) (site int, claimed bool) {
	routes := r.routes(normalHost(host))
	if len(routes) == 0 {
		return -1, false
	}
	for _, t := range routes {
		if HasPathPrefix(path, t.prefix) {
			return t.site, true
		}
	}
	return -1, true
}

// routes returns those of the pattern that fits host best.
func (r *Router) routes(host []byte) []route {
	if routes, ok := r.exact[string(host)]; ok {
		return routes
	}
	if len(r.wild) > 0 {
		for rest := host; ; {
			i := bytes.IndexByte(rest, '.')
			if i < 0 {
				break
			}
			rest = rest[i+1:]
			if routes, ok := r.wild[string(rest)]; ok && i > 0 {
				return routes
			}
		}
	}
	return r.any
}

// API reports whether the items API answers on host: no site claims it, and
// api_hosts has it or is empty. Host is read as by Match; API does not allocate
// when it is in lower case.
func (r *Router) API(host []byte) bool {
	host = normalHost(host)
	return len(r.routes(host)) == 0 && r.unclaimed(host)
}

// Unclaimed is API for a host of which Match has said that no site claims it.
func (r *Router) Unclaimed(host []byte) bool { return r.apiOpen || r.unclaimed(normalHost(host)) }

func (r *Router) unclaimed(host []byte) bool {
	if r.apiOpen || r.apiAny || r.apiExact[string(host)] {
		return true
	}
	for rest := host; ; {
		i := bytes.IndexByte(rest, '.')
		if i < 0 {
			return false
		}
		rest = rest[i+1:]
		if i > 0 && r.apiWild[string(rest)] {
			return true
		}
	}
}

// HasPathPrefix reports whether path lies under prefix on the border of a
// segment: /a has /a, /a/ and /a/b under it, but not /ab. The prefix has no
// slash at its end, except "/", under which everything lies.
func HasPathPrefix(path []byte, prefix string) bool {
	if prefix == "/" {
		return true
	}
	if len(path) < len(prefix) || string(path[:len(prefix)]) != prefix {
		return false
	}
	return len(path) == len(prefix) || path[len(prefix)] == '/' || path[len(prefix)] == '?'
}

// normalHost drops port, brackets and one trailing dot, and lowers the case. It
// returns a part of host unless that has upper-case letters.
func normalHost(host []byte) []byte {
	if len(host) > 0 && host[0] == '[' { // an IPv6 literal
		if end := bytes.IndexByte(host, ']'); end > 0 {
			host = host[1:end]
		}
	} else if i := bytes.IndexByte(host, ':'); i >= 0 && bytes.IndexByte(host[i+1:], ':') < 0 {
		host = host[:i]
	}
	if n := len(host); n > 0 && host[n-1] == '.' {
		host = host[:n-1]
	}
	for _, c := range host {
		if c >= 'A' && c <= 'Z' {
			return bytes.ToLower(host)
		}
	}
	return host
}
