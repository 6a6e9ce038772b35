package config

import "strings"

// laterKeys are keys of the design whose feature this version does not have.
// They are refused: a key that is accepted and does nothing would be believed.
// A name that ends in "*" stands for all that begin so.
var laterKeys = []struct{ name, reason string }{
	{"access_flush", "access figures are not written to L3"},
	{"peer", "nodes do not form groups"},
	{"token.l1_max_bytes", "tokens have no budgets"},
	{"token.writes_per_second", "tokens have no budgets"},
	{"token.bytes_per_second", "tokens have no budgets"},
}

// laterKey returns why the key at path is not in this version.
func laterKey(path string) (string, bool) {
	path = withoutIndexes(path)
	for _, k := range laterKeys {
		prefix, open := strings.CutSuffix(k.name, "*")
		if path == k.name || open && strings.HasPrefix(path, prefix) {
			return k.reason, true
		}
	}
	return "", false
}

// withoutIndexes turns site[1].hosts into site.hosts.
func withoutIndexes(path string) string {
	var b strings.Builder
	for path != "" {
		before, after, ok := strings.Cut(path, "[")
		b.WriteString(before)
		if !ok {
			break
		}
		_, path, _ = strings.Cut(after, "]")
	}
	return b.String()
}
