package l3

import "strings"

// tables names the tables of a database: statements and migrations write
// {items} and so on, and only this file knows what that is. An SQLite file is
// ours alone; a server's database may hold the tables of others, hence a prefix
// there.
func tables(prefix string) *strings.Replacer {
	var pairs []string
	for _, name := range [...]string{
		"schema_info", "meta", "items", "tombstones", "tags", "changes", "rules", "nodes", "leases",
	} {
		pairs = append(pairs, "{"+name+"}", prefix+name)
	}
	return strings.NewReplacer(pairs...)
}
