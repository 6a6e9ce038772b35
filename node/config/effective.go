package config

import (
	"encoding/json"
	"maps"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
)

// hidden stands for the value of a secret.
const hidden = "(hidden)"

// Effective returns the configuration as a tree of maps, lists and scalars that
// encoding/json and TOML can write, with the names of the file's keys: defaults
// filled in, units written out, secrets hidden. It is the caller's, but shares
// the hooks' config tables with c.
func (c *Config) Effective() map[string]any {
	return effectiveTable(reflect.ValueOf(c).Elem())
}

func effectiveTable(v reflect.Value) map[string]any {
	out := make(map[string]any)
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if name := f.Tag.Get("toml"); name != "" {
			out[name] = effective(f, v.Field(i))
		}
	}
	return out
}

func effective(f reflect.StructField, v reflect.Value) any {
	switch {
	case f.Tag.Get("secret") == "yes" && !v.IsZero():
		return hidden
	case v.Kind() == reflect.Struct:
		return effectiveTable(v)
	case isTables(v.Type()):
		list := make([]map[string]any, v.Len())
		for i := range list {
			list[i] = effectiveTable(v.Index(i))
		}
		return list
	}
	return plain(v)
}

// plain returns a value in the form in which the file has it.
func plain(v reflect.Value) any {
	switch x := v.Interface().(type) {
	case Duration:
		return x.String()
	case Size:
		return x.String()
	case Millis:
		return x.Std().Milliseconds()
	case []string:
		return append([]string{}, x...)
	case map[string]Duration:
		out := make(map[string]string, len(x))
		for k, d := range x {
			out[k] = d.String()
		}
		return out
	case map[string]string:
		out := make(map[string]string, len(x))
		maps.Copy(out, x)
		return out
	case map[string]any:
		if x == nil {
			return map[string]any{}
		}
		return x
	default:
		return x
	}
}

// written returns a value as one line that can be compared and shown.
func written(v reflect.Value) string {
	b, err := json.Marshal(plain(v))
	if err != nil { // a number that JSON has not, in the config of a hook
		return "(not shown)"
	}
	return string(b)
}

// Database returns the path of the SQLite file.
func (c *Config) Database() string {
	if c.SQLitePath != "" {
		return c.SQLitePath
	}
	return filepath.Join(c.DataDir, "edgenode.sqlite")
}

// A Change is one key in which two configurations differ.
type Change struct {
	Key        string `json:"key"`        // elements of arrays by name: site["shop"].keep
	Old        string `json:"old"`        // as written in TOML; empty: was not there
	New        string `json:"new"`        // as written in TOML; empty: is gone
	Reloadable bool   `json:"reloadable"` // false: takes effect at the next start
}

// Diff returns what differs between two configurations, in the order of the
// file. Elements of arrays of tables are compared by name; one that came or
// went is one change. The order of hooks counts, that of the others does not.
// Values of secrets are hidden.
func Diff(old, new *Config) []Change {
	var d differ
	d.tables("", reflect.ValueOf(old).Elem(), reflect.ValueOf(new).Elem())
	d.file("sql_password_file", old.SQLPassword, new.SQLPassword)
	d.file("redis_password_file", old.RedisPassword, new.RedisPassword)
	d.file("replica.token_file", old.Replica.Token, new.Replica.Token)
	d.file("redis_sentinel_password_file", old.RedisSentinelPassword, new.RedisSentinelPassword)
	return d.changes
}

// InForce returns what is in force once a node that was started with started has
// taken up read: what needs a restart is as it was, the rest as it was read.
func InForce(started, read *Config) *Config {
	c := *read
	keepFixed(reflect.ValueOf(&c).Elem(), reflect.ValueOf(started).Elem())
	return &c
}

// keepFixed sets what does not reload in to from from.
func keepFixed(to, from reflect.Value) {
	for i := range to.NumField() {
		switch f := to.Type().Field(i); {
		case f.Type.Kind() == reflect.Struct:
			keepFixed(to.Field(i), from.Field(i))
		case f.Tag.Get("reload") != "yes":
			to.Field(i).Set(from.Field(i))
		}
	}
}

// differ collects changes.
type differ struct{ changes []Change }

// file notes that a file of a secret, which needs a restart, holds another one.
func (d *differ) file(key, old, new string) {
	named := func(c Change) bool { return c.Key == key }
	if old != new && !slices.ContainsFunc(d.changes, named) {
		d.changes = append(d.changes, Change{Key: key, Old: hidden, New: hidden})
	}
}

func (d *differ) tables(path string, a, b reflect.Value) {
	for i := range a.NumField() {
		f := a.Type().Field(i)
		name := f.Tag.Get("toml")
		if name == "" {
			continue
		}
		switch key := joinKey(path, name); {
		case f.Type.Kind() == reflect.Struct:
			d.tables(key, a.Field(i), b.Field(i))
		case isTables(f.Type):
			d.arrays(key, f, a.Field(i), b.Field(i))
		default:
			d.values(key, f, a.Field(i), b.Field(i))
		}
	}
}

// values compares one key.
func (d *differ) values(key string, f reflect.StructField, a, b reflect.Value) {
	c := Change{Key: key, Old: written(a), New: written(b), Reloadable: f.Tag.Get("reload") == "yes"}
	if c.Old == c.New {
		return
	}
	if f.Tag.Get("secret") == "yes" {
		c.Old, c.New = hideSet(a), hideSet(b)
	}
	d.changes = append(d.changes, c)
}

// hideSet stands for a secret that is set, and is empty for one that is not.
func hideSet(v reflect.Value) string {
	if v.IsZero() {
		return ""
	}
	return hidden
}

// arrays compares two arrays of tables by the names of their elements.
func (d *differ) arrays(key string, f reflect.StructField, a, b reflect.Value) {
	was, is := elementNames(a), elementNames(b)
	reload := f.Tag.Get("reload") == "yes"
	at := func(name string) string { return key + "[" + strconv.Quote(name) + "]" }
	for i, name := range was {
		if j := slices.Index(is, name); j >= 0 {
			d.tables(at(name), a.Index(i), b.Index(j))
		} else {
			d.changes = append(d.changes, Change{Key: at(name), Old: "present", Reloadable: reload})
		}
	}
	for _, name := range is {
		if !slices.Contains(was, name) {
			d.changes = append(d.changes, Change{Key: at(name), New: "present", Reloadable: reload})
		}
	}
	if key == "hook" && !slices.Equal(common(was, is), common(is, was)) {
		d.changes = append(d.changes, Change{Key: "hook", Old: joined(was), New: joined(is), Reloadable: reload})
	}
}

// common returns the elements of a that are also in b, in the order of a.
func common(a, b []string) []string {
	return slices.DeleteFunc(slices.Clone(a), func(s string) bool { return !slices.Contains(b, s) })
}

func joined(names []string) string { return written(reflect.ValueOf(names)) }

// elementNames returns the names of an array's elements.
func elementNames(v reflect.Value) []string {
	names := make([]string, v.Len())
	for i := range names {
		names[i] = v.Index(i).FieldByName("Name").String()
	}
	return names
}
