package l3

import "strings"

// baseTable is the table of all items that no mapping takes elsewhere.
const baseTable = ""

// tables names the tables and indexes of a database: statements and migrations
// write {items} and so on, and only this file knows what that is. An SQLite file
// is ours alone; a server's database may hold the tables of others, hence a
// prefix there. {items} is the table of a mapping, or of all the rest; {index}
// begins the names of its indexes in SQLite, where they are names of the file.
// Two underscores keep a table's name apart from every other.
func tables(prefix, mapped string) *strings.Replacer {
	items, index := "items", "items"
	if mapped != baseTable {
		items, index = "items__"+mapped, "index__"+mapped
	}
	pairs := []string{"{items}", prefix + items, "{index}", index}
	for _, name := range [...]string{
		"schema_info", "meta", "tombstones", "tags", "changes", "rules", "nodes", "leases", "mappings", "merkle",
	} {
		pairs = append(pairs, "{"+name+"}", prefix+name)
	}
	return strings.NewReplacer(pairs...)
}
