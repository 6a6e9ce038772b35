package config

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// checker looks at what one key alone cannot tell: contradictions, names that
// refer to others, files. It brings values into their working form: hosts in
// lower case, paths of files resolved, tokens hashed.
type checker struct {
	*report
	c   *Config
	dir string // files are relative to it
}

func (k *checker) check() {
	k.engine()
	k.redis()
	k.sql()
	k.replica()
	k.l3Tables()
	k.pressure()
	k.listener("listen.data", &k.c.Listen.Data)
	k.listener("listen.admin", &k.c.Listen.Admin)
	if k.c.AccessLog.Path != "-" {
		k.c.AccessLog.Path = k.resolve("access_log.path", k.c.AccessLog.Path)
	}
	k.pools()
	k.sites()
	k.namespaces()
	k.apiHosts()
	k.hooks()
	k.hookKeys()
	k.tokens()
	k.adminIsGuarded()
}

// engine checks sizes against each other.
func (k *checker) engine() {
	c := k.c
	if c.DataDir == "" {
		k.add("data_dir", "empty", "name a directory that the node may write to")
	}
	if !k.isSet("max_payload_bytes") {
		c.MaxPayloadBytes = min(c.MaxPayloadBytes, c.InflightMaxBytes, c.JournalMaxBytes/8)
	}
	if c.MaxPayloadBytes > c.InflightMaxBytes {
		k.addAt([]string{"inflight_max_bytes", "max_payload_bytes"}, fmt.Sprintf("inflight_max_bytes (%v) is less than max_payload_bytes (%v): the largest body could never pass", c.InflightMaxBytes, c.MaxPayloadBytes),
			"raise inflight_max_bytes or lower max_payload_bytes")
	}
	if c.MaxPayloadBytes > c.JournalMaxBytes/8 {
		k.addAt([]string{"journal_max_bytes", "max_payload_bytes"}, fmt.Sprintf("journal_max_bytes (%v) is less than eight times max_payload_bytes (%v)", c.JournalMaxBytes, c.MaxPayloadBytes),
			"raise journal_max_bytes or lower max_payload_bytes")
	}
	if c.ClockSkewMax >= c.TombstoneRetention {
		k.addAt([]string{"clock_skew_max", "tombstone_retention"}, fmt.Sprintf("clock_skew_max (%v) is not below tombstone_retention (%v): a delete could be forgotten before an older write is refused", c.ClockSkewMax, c.TombstoneRetention),
			"raise tombstone_retention or lower clock_skew_max")
	}
}

// addAt records a contradiction between keys at the first of them that was set.
func (k *checker) addAt(keys []string, problem, remedy string) {
	for _, key := range keys {
		if k.isSet(key) {
			k.add(key, problem, remedy)
			return
		}
	}
	k.add(keys[0], problem, remedy)
}

// pressure checks that the thresholds rise.
func (k *checker) pressure() {
	p := k.c.Pressure
	levels := []struct {
		name string
		at   float64
	}{{"warn", p.Warn}, {"throttle", p.Throttle}, {"critical", p.Critical}, {"emergency", p.Emergency}, {"shutdown", p.Shutdown}}
	for i := 1; i < len(levels); i++ {
		if low, high := levels[i-1], levels[i]; high.at <= low.at {
			k.addAt([]string{"pressure." + high.name, "pressure." + low.name}, fmt.Sprintf("pressure.%s (%v) is not above pressure.%s (%v)", high.name, high.at, low.name, low.at),
				"the order is warn < throttle < critical < emergency < shutdown")
		}
	}
}

// listener checks one listener and resolves its files.
func (k *checker) listener(path string, l *Listener) {
	host, port, err := net.SplitHostPort(l.Address)
	n, portErr := strconv.ParseUint(port, 10, 16)
	switch {
	case err != nil || portErr != nil:
		k.add(path+".address", "not an address", "write host:port, as in \"127.0.0.1:8081\" or \":8080\"")
	case path == "listen.admin" && l.Address == k.c.Listen.Data.Address && n != 0:
		k.addAt([]string{path + ".address", "listen.data.address"}, "both listeners have the address "+l.Address, "give the admin listener a port of its own")
	case strings.ContainsAny(host, " /"):
		k.add(path+".address", "not an address", "write host:port, without scheme and path")
	}
	if !k.isSet(path + ".max_connections_per_address") {
		l.MaxConnectionsPerAddress = min(l.MaxConnectionsPerAddress, l.MaxConnections)
	}
	if l.MaxConnectionsPerAddress > l.MaxConnections {
		k.add(path+".max_connections_per_address", fmt.Sprintf("more than max_connections (%d)", l.MaxConnections), "lower it")
	}
	for i, p := range l.TrustedProxies {
		if _, err := netip.ParsePrefix(p); err == nil {
			continue
		}
		if _, err := netip.ParseAddr(p); err != nil {
			k.add(k.elem(path+".trusted_proxies", i), "not a network", "write a CIDR such as \"10.0.0.0/8\", or one address")
		}
	}
	if l.ProxyProtocol == "v1v2" && len(l.TrustedProxies) == 0 {
		k.add(path+".proxy_protocol", "no trusted_proxies: nobody's header would be read", "name the proxies in trusted_proxies")
	}
	k.tls(path+".tls", &l.TLS)
}

// elem returns the path of the i-th element if it has a place of its own, else
// that of the list (which came from the environment).
func (k *checker) elem(list string, i int) string {
	if e := elemKey(list, i); k.isSet(e) {
		return e
	}
	return list
}

// resolve makes name, the value of key, relative to the configuration's folder.
func (k *checker) resolve(key, name string) string {
	if name == "" || filepath.IsAbs(name) || k.places[key].file == Environment {
		return name
	}
	return filepath.Join(k.dir, name)
}

// tls checks the files of a listener.
func (k *checker) tls(path string, t *TLS) {
	t.Cert = k.resolve(path+".cert", t.Cert)
	t.Key = k.resolve(path+".key", t.Key)
	t.ClientCA = k.resolve(path+".client_ca", t.ClientCA)
	switch {
	case t.Cert == "" && t.Key == "" && t.ClientCA == "":
		return
	case t.Cert == "":
		k.addAt([]string{path + ".key", path + ".client_ca"}, "key or client_ca without cert", "set cert and key, or remove them all")
		return
	case t.Key == "":
		k.add(path+".cert", "cert without key", "set key to the file of the private key")
		return
	}
	k.keyPair(path, t.Cert, t.Key)
	if t.ClientCA != "" {
		if pem, ok := k.read(path+".client_ca", t.ClientCA, false); ok && !x509.NewCertPool().AppendCertsFromPEM(pem) {
			k.add(path+".client_ca", "no certificate in the file", "name a PEM file of the authority's certificates")
		}
	}
}

// keyPair checks that two files hold a certificate and its key.
func (k *checker) keyPair(path, certFile, keyFile string) {
	cert, certOK := k.read(path+".cert", certFile, false)
	key, keyOK := k.read(path+".key", keyFile, true)
	if certOK && keyOK {
		if _, err := tls.X509KeyPair(cert, key); err != nil {
			k.add(path+".cert", "unusable with tls.key: "+strings.TrimPrefix(err.Error(), "tls: "), "name a PEM chain and the PEM key that belongs to it")
		}
	}
}

// read reads a small file. A secret one must be closed to the world. It reports
// false after a fault.
func (k *checker) read(key, name string, secret bool) ([]byte, bool) {
	info, err := os.Stat(name)
	if err != nil {
		k.add(key, fmt.Sprintf("%s cannot be read: %v", name, reasonOf(err)), "name a file that is there and readable by the node")
		return nil, false
	}
	if !info.Mode().IsRegular() || info.Size() > maxFileBytes {
		k.add(key, name+" is not a small plain file", "name the file itself")
		return nil, false
	}
	if secret && info.Mode().Perm()&0o007 != 0 {
		k.add(key, fmt.Sprintf("%s is open to every user (mode %04o)", name, info.Mode().Perm()), "run: chmod o-rwx "+name)
		return nil, false
	}
	data, err := os.ReadFile(name)
	if err != nil {
		k.add(key, fmt.Sprintf("%s cannot be read: %v", name, reasonOf(err)), "make it readable by the node")
		return nil, false
	}
	return data, true
}

// Scopes that a token may have.
const (
	ScopeRead  = "read"
	ScopeWrite = "write"
	ScopePurge = "purge"
	ScopeAdmin = "admin"
)

// tokens checks the tokens and replaces files by the hash of what they hold.
func (k *checker) tokens() {
	names, hashes := map[string]int{}, map[string]int{}
	for i := range k.c.Tokens {
		t, path := &k.c.Tokens[i], elemKey("token", i)
		k.name(path, t.Name, names, i)
		k.tokenHash(path, t)
		if j, ok := hashes[t.SHA256]; ok && t.SHA256 != "" {
			k.add(path, fmt.Sprintf("the same token as %s", elemKey("token", j)), "make a token for each, or remove one")
		}
		hashes[t.SHA256] = i
		if len(t.Scopes) == 0 {
			k.add(path+".scopes", "no scopes: the token opens nothing", `write some of ["read", "write", "purge", "admin"]`)
		}
		k.words(path+".scopes", t.Scopes, ScopeRead, ScopeWrite, ScopePurge, ScopeAdmin)
		if ns := t.Namespace; ns != "" && !strings.ContainsRune(Separators, rune(ns[len(ns)-1])) {
			k.add(path+".namespace", "does not end in a separator: \"uk\" would also open \"ukraine\"", "end it in /, . or :")
		}
		if t.Namespace != "" && t.Can(ScopeAdmin) {
			k.add(path+".namespace", "a namespace with the scope admin: admin sees the whole node", "remove one of the two")
		}
	}
}

// tokenHash leaves in t.SHA256 the hash of the token, whichever way it came.
func (k *checker) tokenHash(path string, t *Token) {
	t.File = k.resolve(path+".file", t.File)
	switch {
	case t.SHA256 != "" && t.File != "":
		k.add(path+".file", "both sha256 and file", "remove one of them")
	case t.SHA256 == "" && t.File == "":
		k.add(path, "neither sha256 nor file", "add sha256 = \"…\" (printf %s TOKEN | sha256sum), or file = \"…\"")
	case t.File != "":
		k.tokenFile(path, t)
	default:
		t.SHA256 = strings.ToLower(t.SHA256)
		if raw, err := hex.DecodeString(t.SHA256); err != nil || len(raw) != sha256.Size {
			k.add(path+".sha256", "not a SHA-256", "write 64 hex digits: printf %s TOKEN | sha256sum")
			t.SHA256 = ""
		}
	}
}

// minTokenBytes is the shortest token that a file may hold.
const minTokenBytes = 16

func (k *checker) tokenFile(path string, t *Token) {
	data, ok := k.read(path+".file", t.File, true)
	if !ok {
		return
	}
	token := strings.TrimRight(string(data), "\r\n")
	if len(token) < minTokenBytes || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		k.add(path+".file", fmt.Sprintf("%s does not hold a token", t.File),
			fmt.Sprintf("write one line of at least %d visible ASCII characters: openssl rand -hex 32", minTokenBytes))
		return
	}
	sum := sha256.Sum256([]byte(token))
	t.SHA256 = hex.EncodeToString(sum[:])
}

// adminIsGuarded refuses an admin listener that others can reach unguarded.
func (k *checker) adminIsGuarded() {
	admin := k.c.Listen.Admin
	if IsLoopback(admin.Address) || admin.TLS.ClientCA != "" {
		return
	}
	if slices.ContainsFunc(k.c.Tokens, func(t Token) bool { return t.Can(ScopeAdmin) }) {
		return
	}
	k.add("listen.admin.address", "reachable from other machines, without tokens and client certificates",
		"listen on 127.0.0.1, add a [[token]] with the scope admin, or set listen.admin.tls.client_ca")
}

// IsLoopback reports whether a listener on address is reached from this machine
// only: its host is localhost or a loopback address.
func IsLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	if host == "localhost" {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}

// name checks the name of the i-th element of an array of tables.
func (k *checker) name(path, name string, seen map[string]int, i int) {
	key := path + ".name"
	if !isName(name) {
		k.add(key, "missing or not a name", "write 1 to 63 of a-z 0-9 _ -, as in \"shop\"")
		return
	}
	if j, ok := seen[name]; ok {
		array := path[:strings.IndexByte(path, '[')]
		k.add(key, fmt.Sprintf("the name of %s too (line %d)", elemKey(array, j), k.lineOf(elemKey(array, j)+".name")), "choose another")
		return
	}
	seen[name] = i
}

func isName(s string) bool {
	for i := range len(s) {
		if c := s[i]; !isBareByte(c) || c >= 'A' && c <= 'Z' {
			return false
		}
	}
	return s != "" && len(s) <= 63
}

// words checks that each element of a list is one of those allowed, and none
// stands twice.
func (k *checker) words(list string, have []string, allowed ...string) {
	for i, w := range have {
		switch {
		case !slices.Contains(allowed, w):
			remedy := "allowed are " + strings.Join(allowed, ", ")
			if near, ok := nearest(w, allowed); ok {
				remedy = fmt.Sprintf("did you mean %q? %s", near, remedy)
			}
			k.add(k.elem(list, i), "not known", remedy)
		case slices.Contains(have[:i], w):
			k.add(k.elem(list, i), "stands twice", "remove one")
		}
	}
}
