package config

import (
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// pools checks the pools.
func (k *checker) pools() {
	names := map[string]int{}
	for i := range k.c.Pools {
		p, path := &k.c.Pools[i], elemKey("pool", i)
		k.name(path, p.Name, names, i)
		if len(p.Origins) == 0 {
			k.add(path+".origins", "no origins", `write origins = ["http://10.0.0.5:8000"]`)
		}
		for j, o := range p.Origins {
			if problem := originProblem(o); problem != "" {
				if strings.Contains(o, "@") {
					k.hide(k.elem(path+".origins", j)) // user and password
				}
				k.add(k.elem(path+".origins", j), "not an origin: "+problem, "write scheme and host, as in \"http://10.0.0.5:8000\"")
			} else if slices.Contains(p.Origins[:j], o) {
				k.add(k.elem(path+".origins", j), "stands twice", "remove one")
			}
		}
		if p.Host != "client" && p.Host != "origin" && !isAuthority(p.Host) {
			k.add(path+".host", "not a host", `write "client", "origin" or a host name`)
		}
		k.poolHealth(path, p)
		k.poolTLS(path, p)
	}
}

// poolHealth checks when an origin counts as well.
func (k *checker) poolHealth(path string, p *Pool) {
	if p.Rest > p.RestMax {
		k.addAt([]string{path + ".rest_max", path + ".rest"}, fmt.Sprintf("rest (%v) is longer than rest_max (%v)", p.Rest, p.RestMax), "raise rest_max or lower rest")
	}
	h := &p.Health
	if h.Path != "" && (h.Path[0] != '/' || strings.ContainsFunc(h.Path, func(r rune) bool { return r <= ' ' || r >= 0x7f })) {
		k.add(path+".health.path", "not a path", `begin it with /, as in "/healthz"`)
	}
	if h.Host != "" && !isAuthority(h.Host) {
		k.add(path+".health.host", "not a host", "write a host name, with a port if it is not the scheme's own")
	}
	if h.Timeout > h.Interval {
		k.addAt([]string{path + ".health.timeout", path + ".health.interval"}, fmt.Sprintf("timeout (%v) is longer than interval (%v)", h.Timeout, h.Interval), "lower timeout or raise interval")
	}
	if len(h.Status) == 0 {
		k.add(path+".health.status", "no status: no origin would ever be well", "write status = [200]")
	}
}

// poolTLS checks the files of connections to https origins.
func (k *checker) poolTLS(path string, p *Pool) {
	t := &p.TLS
	path += ".tls"
	if *t != (PoolTLS{}) && !slices.ContainsFunc(p.Origins, func(o string) bool { return strings.HasPrefix(o, "https:") }) {
		k.add(path, "no origin of this pool is https", "write https:// in origins, or remove the keys of tls")
	}
	if t.InsecureSkipVerify && t.CA != "" {
		k.add(path+".insecure_skip_verify", "nothing is verified, although ca says by whom", "remove one of them")
	}
	k.clientTLS(path, "origin", t.ServerName, &t.CA, &t.Cert, &t.Key)
}

// clientTLS checks what connections by TLS to peer, a hub or an origin, are made
// with, and makes the paths of its files absolute.
func (k *checker) clientTLS(path, peer, serverName string, ca, cert, key *string) {
	*ca, *cert, *key = k.resolve(path+".ca", *ca), k.resolve(path+".cert", *cert), k.resolve(path+".key", *key)
	if serverName != "" && !isHostName(strings.ToLower(serverName)) {
		k.add(path+".server_name", "not a host name", "write the name in the "+peer+"'s certificate")
	}
	if *ca != "" {
		if pem, ok := k.read(path+".ca", *ca, false); ok && !x509.NewCertPool().AppendCertsFromPEM(pem) {
			k.add(path+".ca", "no certificate in the file", "name a PEM file of the authority's certificates")
		}
	}
	switch {
	case *cert == "" && *key == "":
	case *cert == "" || *key == "":
		k.addAt([]string{path + ".cert", path + ".key"}, "one of cert and key without the other", "set both, or none")
	default:
		k.keyPair(path, *cert, *key)
	}
}

// originProblem says why s is not the base URL of an origin, or "".
func originProblem(s string) string {
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return "it cannot be parsed"
	case u.Scheme != "http" && u.Scheme != "https":
		return "the scheme is not http or https"
	case !isAuthority(u.Host):
		return "the host is missing or invalid"
	case u.User != nil:
		return "it names a user"
	case u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "" || u.ForceQuery:
		return "it has a path, query or fragment"
	}
	return ""
}

// isAuthority reports whether s is a host name or address with optional port.
func isAuthority(s string) bool {
	host := s
	if h, port, err := net.SplitHostPort(s); err == nil {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return false
		}
		host = h
	} else if strings.HasPrefix(s, "[") && strings.HasSuffix(s, "]") {
		host = s[1 : len(s)-1]
	}
	return net.ParseIP(host) != nil || isHostName(strings.ToLower(host))
}

// isHostName reports whether s is a DNS name in lower case: labels of letters,
// digits, - and _.
func isHostName(s string) bool {
	if s == "" || len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if !isName(label) {
			return false
		}
	}
	return true
}

// hosts brings host patterns into their working form and checks them.
func (k *checker) hosts(list string, hosts []string) {
	for i, h := range hosts {
		h = strings.TrimSuffix(strings.ToLower(h), ".")
		hosts[i] = h
		bare := strings.TrimSuffix(strings.TrimPrefix(h, "["), "]")
		if net.ParseIP(bare) != nil {
			h, hosts[i] = bare, bare
		}
		if h == "*" || isHostName(strings.TrimPrefix(h, "*.")) || net.ParseIP(bare) != nil {
			if slices.Contains(hosts[:i], h) {
				k.add(k.elem(list, i), "stands twice", "remove one")
			}
			continue
		}
		k.add(k.elem(list, i), "not a host pattern",
			`write a name without scheme and port, "*.suffix" or "*"; names beyond ASCII in their xn-- form`)
	}
}

// sites checks the sites and that no two claim the same.
func (k *checker) sites() {
	names := map[string]int{}
	claims := map[string]int{} // by host and path prefix: the site
	for i := range k.c.Sites {
		s, path := &k.c.Sites[i], elemKey("site", i)
		k.name(path, s.Name, names, i)
		if len(s.Hosts) == 0 {
			k.add(path+".hosts", "no hosts", `write hosts = ["shop.example"], or ["*"] for all`)
		}
		k.hosts(path+".hosts", s.Hosts)
		s.PathPrefix = k.pathPrefix(path+".path_prefix", s.PathPrefix)
		k.knownPool(path+".pool", s.Pool)
		k.siteCache(path, s)
		k.siteGate(path, s)
		k.claim(i, claims)
	}
}

// claim records what the i-th site claims.
func (k *checker) claim(i int, claims map[string]int) {
	s := k.c.Sites[i]
	for h, host := range s.Hosts {
		claim := host + s.PathPrefix
		if j, ok := claims[claim]; ok && j != i {
			other := elemKey("site", j)
			k.add(k.elem(elemKey("site", i)+".hosts", h),
				fmt.Sprintf("%s is claimed by site %q too (line %d)", claim, k.c.Sites[j].Name, k.lineOf(other+".hosts")),
				"give one of them another host or path_prefix")
			continue
		}
		claims[claim] = i
	}
}

// pathPrefix checks a prefix and returns it without a slash at its end, except
// for "/" itself.
func (k *checker) pathPrefix(key, prefix string) string {
	if !strings.HasPrefix(prefix, "/") || strings.ContainsAny(prefix, "?#* \t\r\n") || strings.Contains(prefix, "//") {
		k.add(key, "not a path prefix", "begin it with /, without query, spaces and *")
		return prefix
	}
	if trimmed := strings.TrimSuffix(prefix, "/"); trimmed != "" {
		return trimmed
	}
	return "/"
}

// poolNames returns the names of all pools.
func (k *checker) poolNames() []string {
	names := make([]string, len(k.c.Pools))
	for i, p := range k.c.Pools {
		names[i] = p.Name
	}
	return names
}

// knownPool checks that name is a pool.
func (k *checker) knownPool(key, name string) {
	if slices.Contains(k.poolNames(), name) {
		return
	}
	if name == "" {
		k.add(key, "no pool", "name a [[pool]]")
		return
	}
	k.add(key, fmt.Sprintf("unknown pool %q", name), k.suggest(name, k.poolNames(), "[[pool]]"))
}

// suggest names the known word nearest to name, or all that are known.
func (k *checker) suggest(name string, known []string, table string) string {
	if near, ok := nearest(name, known); ok {
		return fmt.Sprintf("did you mean %q?", near)
	}
	return fmt.Sprintf("add a %s with this name", table)
}

// siteCache checks what a site stores, and how.
func (k *checker) siteCache(path string, s *Site) {
	if len(s.Tiers) == 0 {
		k.add(path+".tiers", "no tiers", `write tiers = ["l1"]`)
	}
	if !k.isSet(path+".tiers") && k.c.RedisURL != "" {
		s.Tiers = []string{"l1", "l2"}
	}
	if i := slices.Index(s.Tiers, "l2"); i >= 0 && k.c.RedisURL == "" {
		k.add(k.elem(path+".tiers", i), "there is no Redis", `set redis_url, or write tiers = ["l1"]`)
	}
	k.words(path+".tiers", s.Tiers, "l1", "l2", "l3")
	k.words(path+".honour_request_directives", s.HonourRequestDirectives,
		"no-cache", "no-store", "max-age", "max-stale", "min-fresh")
	k.words(path+".allow_override", s.AllowOverride,
		"no-cache", "no-store", "s-maxage", "must-revalidate", "proxy-revalidate")
	k.siteMemory(path, s)
	if !k.isSet(path + ".max_object_bytes") {
		s.MaxObjectBytes = min(s.MaxObjectBytes, k.c.L1MaxBytes/4)
	}
	if s.MaxObjectBytes > k.c.L1MaxBytes/4 {
		k.add(path+".max_object_bytes", fmt.Sprintf("more than a quarter of l1_max_bytes (%v)", k.c.L1MaxBytes),
			"raise l1_max_bytes or lower max_object_bytes")
	}
	if !k.isSet(path + ".chunk_bytes") {
		s.ChunkBytes = min(s.ChunkBytes, k.c.MaxPayloadBytes)
	}
	if s.ChunkBytes > k.c.MaxPayloadBytes {
		k.add(path+".chunk_bytes", fmt.Sprintf("more than max_payload_bytes (%v)", k.c.MaxPayloadBytes),
			"raise max_payload_bytes or lower chunk_bytes")
	}
	for i, f := range s.TargetedFields {
		if !isFieldName(f) {
			k.add(k.elem(path+".targeted_fields", i), "not a field name", "write one such as \"CDN-Cache-Control\"")
		}
	}
	for _, list := range []struct {
		key   string
		names []string
	}{{"key_fields", s.KeyFields}, {"key_cookies", s.KeyCookies}, {"methods", s.Methods}} {
		for i, name := range list.names {
			if !isFieldName(name) {
				k.add(k.elem(path+"."+list.key, i), "not a name", "write letters, digits and -, as in \"X-Country\", \"session\" or \"GET\"")
			}
		}
	}
	for i, q := range s.IgnoreQuery {
		if name := strings.TrimSuffix(q, "*"); q == "" || strings.ContainsAny(name, "*&=# ") {
			k.add(k.elem(path+".ignore_query", i), "not a parameter", `write a name, or a prefix and "*", as in "utm_*"`)
		}
	}
	for status, d := range s.DefaultLifetimes {
		key := joinKey(path+".default_lifetimes", status)
		if !isStatusOrClass(status) {
			k.add(key, "not a status", `write a final status ("200") or a class ("2xx")`)
		}
		if d > k.c.MaxLifetime {
			k.add(key, fmt.Sprintf("more than max_lifetime (%v)", k.c.MaxLifetime), "raise max_lifetime or lower it")
		}
	}
}

// isStatusOrClass reports whether s is 200 to 599 or 2xx to 5xx.
func isStatusOrClass(s string) bool {
	if len(s) != 3 || s[0] < '2' || s[0] > '5' {
		return false
	}
	_, err := strconv.ParseUint(s[1:], 10, 8)
	return s[1:] == "xx" || err == nil
}

// isFieldName reports whether s is a token (RFC 9110, section 5.6.2).
func isFieldName(s string) bool {
	for i := range len(s) {
		if !isBareByte(s[i]) && !strings.ContainsRune("!#$%&'*+.^`|~", rune(s[i])) {
			return false
		}
	}
	return s != ""
}

// apiHosts checks the hosts of the items API against those of the sites.
func (k *checker) apiHosts() {
	k.hosts("api_hosts", k.c.APIHosts)
	router := NewRouter(k.c)
	for i, h := range k.c.APIHosts {
		if at, claimed := router.Match([]byte(h), []byte("/")); claimed && h != "*" {
			problem := "claimed by a site, which owns every path of its hosts"
			if at >= 0 {
				problem = fmt.Sprintf("claimed by site %q, which owns every path of its hosts", k.c.Sites[at].Name)
			}
			k.add(k.elem("api_hosts", i), problem, "remove it here, or give the site narrower hosts")
		}
	}
}

// Hook points, as in the key hooks.
const (
	HookRoute = "route"
	HookTTL   = "ttl"
	HookEvict = "evict"
	HookAdmit = "admit"
)

// Capabilities that a hook may be granted: the host functions beyond its input.
var capabilities = []string{"log", "metric_add", "metric_observe", "now_ms", "header", "config", "kv_get", "tag_add"}

// operations stand where the admin listener has the names of hooks.
var operations = []string{"rollback", "promote", "abort"}

// hooks checks the hooks, but not their modules.
func (k *checker) hooks() {
	names := map[string]int{}
	sites := make([]string, len(k.c.Sites))
	for i, s := range k.c.Sites {
		sites[i] = s.Name
	}
	for i := range k.c.Hooks {
		h, path := &k.c.Hooks[i], elemKey("hook", i)
		k.name(path, h.Name, names, i)
		if slices.Contains(operations, h.Name) {
			k.add(path+".name", fmt.Sprintf("%q is an operation of the admin listener (POST /hooks/%s)", h.Name, h.Name), "give the hook another name")
		}
		if h.Module == "" {
			k.add(path+".module", "no module", `write module = "geo.wasm"`)
		}
		h.Module = k.resolve(path+".module", h.Module)
		if len(h.Hooks) == 0 {
			k.add(path+".hooks", "no hooks: the module would never be called", `write some of ["route", "ttl", "evict", "admit"]`)
		}
		k.words(path+".hooks", h.Hooks, HookRoute, HookTTL, HookEvict, HookAdmit)
		k.words(path+".grant", h.Grant, capabilities...)
		h.Match.PathPrefix = k.pathPrefix(path+".match.path_prefix", h.Match.PathPrefix)
		for j, s := range h.Match.Sites {
			if !slices.Contains(sites, s) {
				k.add(k.elem(path+".match.sites", j), fmt.Sprintf("unknown site %q", s), k.suggest(s, sites, "[[site]]"))
			}
		}
		for j, p := range h.Pools {
			k.knownPool(k.elem(path+".pools", j), p)
		}
		k.hookLimits(path, h)
	}
}

// hookLimits checks what a hook costs when it fails, and its memory.
func (k *checker) hookLimits(path string, h *Hook) {
	perRequest := slices.Contains(h.Hooks, HookRoute) || slices.Contains(h.Hooks, HookTTL)
	if !perRequest && len(h.Hooks) > 0 && h.OnFault != "" && h.OnFault != "default" {
		k.add(path+".on_fault", "evict and admit fall back to the built-in policy", `write "default", or remove the key`)
	}
	if _, err := json.Marshal(h.Config); err != nil {
		k.add(path+".config", "holds a number that JSON does not have (inf or nan)", "write a finite number")
	}
	if h.Memory != 0 && h.Memory < 64*KiB {
		k.add(path+".memory", "less than one page of WASM memory (64KiB)", "raise it, or write \"0B\" for the default")
	}
}
