package config

import (
	"net/url"
	"slices"
	"strings"
)

// replica checks whose items this node keeps.
func (k *checker) replica() {
	r := &k.c.Replica
	r.Token = k.replicaToken()
	k.replicaTLS()
	if r.From == "" {
		if len(r.Prefixes) > 0 {
			k.add("replica.prefixes", "replica.from is not set", "set it to the URL of the hub, or remove this key")
		}
		return
	}
	if p := hubProblem(r.From); p != "" {
		k.add("replica.from", "not the URL of a node: "+p, "write http://host:8080 or https://host:8443, without a path")
	}
	for i, p := range r.Prefixes {
		switch {
		case p == "" || !strings.ContainsRune("./:", rune(p[len(p)-1])):
			k.add(k.elem("replica.prefixes", i), "does not end in a separator: \"uk\" would also be \"ukraine\"", "end it in /, . or :")
		case slices.Contains(r.Prefixes[:i], p):
			k.add(k.elem("replica.prefixes", i), "stands twice", "remove one")
		}
	}
	if len(r.Prefixes) > 64 {
		k.add("replica.prefixes", "more than 64", "name longer parts of the ids, or none for all")
	}
	if k.c.L3Shared {
		k.addAt([]string{"l3_shared", "sql_url", "replica.from"}, "a replica has a database of its own, and this one is shared",
			"remove sql_url, or set l3_shared = false if no other node writes there")
	}
	if !k.c.MerkleCalcEnabled {
		k.add("merkle_calc_enabled", "a replica compares its tree of hashes with the hub's", "remove this key")
	}
}

// hubProblem says why text is not the URL of a node, or "".
func hubProblem(text string) string {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return "it cannot be parsed"
	case u.Scheme != "http" && u.Scheme != "https":
		return "the scheme is neither http nor https"
	case u.User != nil:
		return "it has a user or a password; the token is in token_file"
	case !isAuthority(u.Host):
		return "the host is missing or invalid"
	case u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "":
		return "it has a path or a query"
	}
	return ""
}

// replicaToken returns what token_file holds.
func (k *checker) replicaToken() string {
	const key = "replica.token_file"
	r := &k.c.Replica
	token := k.password(key, &r.TokenFile, "replica.from", r.From)
	if strings.ContainsFunc(token, func(c rune) bool { return c <= ' ' || c >= 0x7f }) {
		k.add(key, r.TokenFile+" does not hold a token", "write one line of visible ASCII characters")
		return ""
	}
	return token
}

func (k *checker) replicaTLS() {
	const path = "replica.tls"
	t := &k.c.Replica.TLS
	if *t != (ReplicaTLS{}) && !strings.HasPrefix(k.c.Replica.From, "https:") {
		k.addAt([]string{path + ".server_name", path + ".ca", path + ".cert", path + ".key"}, "replica.from is not https", "write https:// there, or remove the keys of tls")
	}
	k.clientTLS(path, "hub", t.ServerName, &t.CA, &t.Cert, &t.Key)
}
