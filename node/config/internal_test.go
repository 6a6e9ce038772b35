package config

import (
	"math"
	"reflect"
	"testing"
)

func TestLineIndex(t *testing.T) {
	index := lineIndex(`a = 1
"b c".d = '''
x = 1
'''
e = [ # one
  "x",
  { f = """
"""""" },
]
[t]
g = 2 # [no]
[[l]]
h = "\"[[l]]"
[l.m]
i = 1
[[l]] # again
[[l.n]]
j.k = { q = [1,
2] }
`)
	f := func(key string, want int) {
		t.Helper()
		if got := index[key]; got != want {
			t.Errorf("line of %s = %d, want %d", key, got, want)
		}
	}
	f("a", 1)
	f(`"b c".d`, 2)
	f("e", 5)
	f("e[0]", 6)
	f("e[1].f", 7)
	f("t", 10)
	f("t.g", 11)
	f("l", 12)
	f("l[0].h", 13)
	f("l[0].m.i", 15)
	f("l[1]", 16)
	f("l[1].n[0].j.k", 18)
	f("l[1].n[0].j.k.q[1]", 19)
	f("x", 0) // within a string
}

// TestSchema holds that each range can be read and has the default inside.
func TestSchema(t *testing.T) {
	schema(t, "", reflect.ValueOf(Default()).Elem())
}

func schema(t *testing.T, path string, v reflect.Value) {
	for i := range v.NumField() {
		f, field := v.Type().Field(i), v.Field(i)
		key := joinKey(path, f.Tag.Get("toml"))
		switch {
		case f.Type.Kind() == reflect.Struct:
			schema(t, key, field)
			continue
		case isTables(f.Type):
			schema(t, key, newElement(f.Type.Elem()))
		}
		if r := f.Tag.Get("reload"); r != "yes" && r != "no" {
			t.Errorf("%s: reload = %q, want yes or no", key, r)
		}
		if k := f.Type.Kind(); k == reflect.Map || k == reflect.Slice && !isTables(f.Type) { // the range is that of the elements
			continue
		}
		if low := f.Tag.Get("range"); low != "" && math.IsNaN(bound(cutRange(low), field)) {
			t.Errorf("%s: range %q cannot be read", key, low)
		}
		if problem := outOfBounds(f, field); problem != "" && key != "hook.on_fault" {
			t.Errorf("%s: default %v is %s", key, field, problem)
		}
	}
}

func cutRange(r string) string {
	for i := range len(r) - 1 {
		if r[i:i+2] == ".." {
			return r[:i]
		}
	}
	return r
}

func TestNearest(t *testing.T) {
	names := []string{"data_dir", "node_name", "sqlite_path"}
	f := func(name, want string) {
		t.Helper()
		if got, _ := nearest(name, names); got != want {
			t.Errorf("nearest(%q) = %q, want %q", name, got, want)
		}
	}
	f("datadir", "data_dir")
	f("nodename", "node_name")
	f("sqlite-path", "sqlite_path")
	f("x", "")
	f("completely_other", "")
}

// TestParseNetwork: IPv4 networks in the form of IPv6 hold for the clients that
// they name, whose addresses are IPv4 everywhere here.
func TestParseNetwork(t *testing.T) {
	for in, want := range map[string]string{
		"10.1.2.3/8": "10.0.0.0/8", "192.0.2.7": "192.0.2.7/32", "2001:db8::1/32": "2001:db8::/32", "2001:db8::1": "2001:db8::1/128",
		"::ffff:192.0.2.7": "192.0.2.7/32", "::ffff:10.1.2.3/104": "10.0.0.0/8", "::ffff:0:0/96": "0.0.0.0/0", "::/0": "::/0",
		"x": "invalid Prefix", "10.0.0.0/33": "invalid Prefix",
	} {
		if got, err := ParseNetwork(in); got.String() != want || (err != nil) != (want == "invalid Prefix") {
			t.Errorf("%s: %v, %v, want %s", in, got, err, want)
		}
	}
}
