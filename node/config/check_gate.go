package config

import (
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"

	"github.com/edgenode/edgenode/node/edit"
)

// siteGate checks who may ask a site, where it sends them, and what it says.
func (k *checker) siteGate(path string, s *Site) {
	k.networks(path+".allow", s.Allow)
	k.networks(path+".deny", s.Deny)
	k.networks(path+".purge_acl", s.PurgeACL)
	for i, u := range s.Upgrades {
		if u == "h2c" {
			k.add(k.elem(path+".upgrades", i), "never passed through: requests inside it would be seen by nobody here", "remove it")
		}
	}
	k.words(path+".upgrades", slices.DeleteFunc(slices.Clone(s.Upgrades), func(u string) bool { return u == "h2c" }), "websocket")
	if s.RateBurst > 0 && s.Rate == 0 {
		k.add(path+".rate_burst", "rate is 0: there is no limit", "set rate, or remove rate_burst")
	}
	k.redirects(path+".redirect_hosts", s)
	k.errorPages(path+".error_pages", s)
	k.fieldEdits(path+".headers.request", &s.Headers.Request, false)
	k.fieldEdits(path+".headers.response", &s.Headers.Response, true)
}

// networks checks a list of client networks.
func (k *checker) networks(list string, nets []string) {
	for i, n := range nets {
		if _, err := ParseNetwork(n); err != nil {
			k.add(k.elem(list, i), "not a network", `write a CIDR such as "10.0.0.0/8", or one address`)
		}
	}
}

// ParseNetwork reads a CIDR, or one address as the network of only that.
func ParseNetwork(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil {
		a = a.Unmap().WithZone("")
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if a := p.Addr(); err == nil && a.Is4In6() && p.Bits() >= 96 { // clients are never in this form
		p = netip.PrefixFrom(a.Unmap(), p.Bits()-96)
	}
	return p.Masked(), err
}

// redirects checks hosts that are sent to others, and brings them into lower case.
func (k *checker) redirects(path string, s *Site) {
	hosts := make(map[string]string, len(s.RedirectHosts))
	for from, to := range s.RedirectHosts {
		key := joinKey(path, from)
		name := strings.TrimSuffix(strings.ToLower(from), ".")
		hosts[name] = strings.ToLower(to)
		switch {
		case !isHostName(name):
			k.add(key, "not a host name", `write a name without scheme and port, as in "www.shop.example"`)
		case !isAuthority(to):
			k.add(key, "not a host to be sent to", "write a host name, with a port if it is not the scheme's own")
		case !s.claims(name):
			k.add(key, fmt.Sprintf("%s is no host of this site, so it would never be asked", name), "add it to hosts")
		}
	}
	for from, to := range hosts {
		if _, again := hosts[hostOf(to)]; again {
			k.add(path, fmt.Sprintf("%s is sent to %s, which is sent on", from, to), "name the last of them")
		}
	}
	if len(hosts) > 0 {
		s.RedirectHosts = hosts
	}
}

// hostOf returns an authority without its port.
func hostOf(authority string) string {
	if host, _, err := net.SplitHostPort(authority); err == nil {
		return host
	}
	return authority
}

// claims reports whether one of the site's hosts is name.
func (s *Site) claims(name string) bool {
	return slices.ContainsFunc(s.Hosts, func(h string) bool {
		suffix, wild := strings.CutPrefix(h, "*")
		return h == "*" || h == name || wild && strings.HasSuffix(name, suffix) && len(name) > len(suffix)
	})
}

// pageTypes are the media types of error pages.
var pageTypes = map[string]string{
	".html": "text/html; charset=utf-8", ".htm": "text/html; charset=utf-8", ".txt": "text/plain; charset=utf-8",
	".json": "application/json", ".xml": "application/xml", ".svg": "image/svg+xml",
}

// errorPages reads the pages of a site.
func (k *checker) errorPages(path string, s *Site) {
	for status, name := range s.ErrorPages {
		key := joinKey(path, status)
		if !isStatusOrClass(status) || status[0] < '4' {
			k.add(key, "not a status of errors", `write "404", or a class: "4xx", "5xx"`)
			continue
		}
		kind := pageTypes[strings.ToLower(filepath.Ext(name))]
		if kind == "" {
			k.add(key, "the file's extension does not tell what it is", "name an .html, .txt, .json, .xml or .svg file")
			continue
		}
		name = k.resolve(key, name)
		s.ErrorPages[status] = name
		if body, ok := k.read(key, name, false); ok {
			if s.Pages == nil {
				s.Pages = map[string]ErrorPage{}
			}
			s.Pages[status] = ErrorPage{Type: kind, Body: body}
		}
	}
}

// fieldEdits checks changes of header fields of one side.
func (k *checker) fieldEdits(path string, f *FieldEdits, response bool) {
	seen := map[string]bool{}
	one := func(key string, e edit.Edit) {
		e.Response = response
		lower := strings.ToLower(string(e.Name))
		if _, _, no := edit.Admit([]edit.Edit{e}, nil); no.Count > 0 {
			k.add(key, "this field, or this value of it, cannot be set, added or removed", "see docs/hooks.md for the fields that are the node's own")
		} else if seen[lower] {
			k.add(key, "the field is changed twice", "say one of set, add and remove, once")
		}
		seen[lower] = true
	}
	for name, value := range f.Set {
		one(joinKey(path+".set", name), edit.Edit{Name: []byte(name), Value: []byte(value)})
	}
	for name, value := range f.Add {
		one(joinKey(path+".add", name), edit.Edit{Add: true, Name: []byte(name), Value: []byte(value)})
	}
	for i, name := range f.Remove {
		one(k.elem(path+".remove", i), edit.Edit{Remove: true, Name: []byte(name)})
	}
	if len(seen) > edit.Max {
		k.add(path, fmt.Sprintf("more than %d fields", edit.Max), "remove some")
	}
}
