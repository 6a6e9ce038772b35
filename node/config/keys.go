package config

import (
	"reflect"
	"strings"
)

// A Key is one key of the configuration, as the struct tags state it.
type Key struct {
	Path    string   // listen.data.address; site[].hosts for arrays of tables
	Env     string   // the variable that overrides it; empty in arrays of tables
	Default string   // as written in TOML
	Range   string   // "least..greatest", both allowed; empty: none
	OneOf   []string // the words allowed; empty: any
	Reloads bool     // a running node takes a change up
	Secret  bool     // hidden from Effective and Diff
}

// envPrefix begins the name of each variable that overrides a key.
const envPrefix = "EDGENODE_"

// Keys returns every key, in the order of the structs.
func Keys() []Key {
	var keys []Key
	appendKeys(&keys, "", reflect.ValueOf(Default()).Elem(), true)
	return keys
}

func appendKeys(keys *[]Key, path string, v reflect.Value, single bool) {
	for i := range v.NumField() {
		f := v.Type().Field(i)
		name := f.Tag.Get("toml")
		if name == "" {
			continue
		}
		key := joinKey(path, name)
		switch {
		case f.Type.Kind() == reflect.Struct:
			appendKeys(keys, key, v.Field(i), single)
		case isTables(f.Type):
			appendKeys(keys, key+"[]", newElement(f.Type.Elem()), false)
		default:
			*keys = append(*keys, describeKey(key, f, v.Field(i), single))
		}
	}
}

func describeKey(path string, f reflect.StructField, v reflect.Value, single bool) Key {
	k := Key{
		Path:    path,
		Default: written(v),
		Range:   f.Tag.Get("range"),
		OneOf:   strings.Fields(f.Tag.Get("oneof")),
		Reloads: f.Tag.Get("reload") == "yes",
		Secret:  f.Tag.Get("secret") == "yes",
	}
	if single {
		k.Env = envName(path)
	}
	return k
}

func envName(path string) string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(path, ".", "_"))
}

// isTables reports whether t is an array of tables.
func isTables(t reflect.Type) bool {
	return t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Struct
}

// newElement returns an addressable element of an array of tables, with its
// defaults.
func newElement(t reflect.Type) reflect.Value {
	p := reflect.New(t)
	if d, ok := p.Interface().(defaulter); ok {
		d.setDefaults()
	}
	return p.Elem()
}

// fieldOf returns the field of v that has the key name.
func fieldOf(v reflect.Value, name string) (reflect.StructField, reflect.Value, bool) {
	t := v.Type()
	for i := range t.NumField() {
		if f := t.Field(i); name != "" && f.Tag.Get("toml") == name {
			return f, v.Field(i), true
		}
	}
	return reflect.StructField{}, reflect.Value{}, false
}

// namesOf returns the keys of the table type t.
func namesOf(t reflect.Type) []string {
	var names []string
	for i := range t.NumField() {
		if name := t.Field(i).Tag.Get("toml"); name != "" {
			names = append(names, name)
		}
	}
	return names
}

// nearest returns the candidate with the least edit distance to name, if it is
// near enough to be a slip.
func nearest(name string, candidates []string) (string, bool) {
	best, at := "", max(2, len(name)/3)+1
	for _, c := range candidates {
		if d := distance(name, c); d < at {
			best, at = c, d
		}
	}
	return best, best != ""
}

// distance is the Levenshtein distance of a and b in bytes. Long names are cut:
// no key is longer.
func distance(a, b string) int {
	const longest = 64
	a, b = a[:min(len(a), longest)], b[:min(len(b), longest)]
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
