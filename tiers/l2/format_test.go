package l2_test

import (
	"bytes"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/l2"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// Golden bytes: what an older or newer binary reads must not change unseen.
func TestGolden(t *testing.T) {
	v := put("shop/1}", 0x0102030405060708, "content", metadataVersion(0x0102030405060707), tags("red"), response([]byte("meta")))
	var b strings.Builder
	f := func(name string, value []byte) { fmt.Fprintf(&b, "%s\n%s\n", name, hex.Dump(value)) }
	f("put", l2.AppendValue(nil, 1_700_000_000_000, v))
	f("tombstone", l2.AppendValue(nil, 1_700_000_000_000, tombstone("k", 9)))
	f("fence", l2.AppendFence(nil, 1_700_000_000_000, 10))
	f("mark", l2.AppendMark(nil, l2.Mark{L3: "identity", Seq: 258}))
	s := open(t, "redis://127.0.0.1:1", func(o *l2.Options) { o.Prefix = "p*:" })
	f("key", []byte(s.DataKey(v.Key())))
	f("pattern", []byte(s.DataPattern()))
	const name = "testdata/format2.txt"
	if *update {
		if err := os.WriteFile(name, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if b.String() != string(want) {
		t.Errorf("the format has changed:\n%s\nwant:\n%s", b.String(), want)
	}
}

// Distinct keys stay distinct, and what stands in the first braces is the same
// for all that begins with the key.
func TestKeys(t *testing.T) {
	s := open(t, "redis://127.0.0.1:1")
	const prefix = "edgenode:"
	rapid.Check(t, func(r *rapid.T) {
		own := rapid.SliceOfN(rapid.SampledFrom([]byte{'{', '}', 0xff, 1, 2, 'a', 0}), 1, 30).Draw(r, "own")
		k := item.AppendKey(nil, item.NamespaceItem, own)
		got := s.DataKey(k)
		if unescape(got[len(prefix)+1:len(got)-1]) != string(k.StorageKey()) {
			r.Fatalf("key %q became %q", k, got)
		}
		_, rest, _ := strings.Cut(got, "{")
		if tag, _, _ := strings.Cut(rest, "}"); len(tag) != len(got)-len(prefix)-2 {
			r.Fatalf("the hash tag of %q is %q, want all of it", got, tag)
		}
	})
	if got := s.DataKey(key("plain")); got != "edgenode:{iplain}" {
		t.Errorf("a plain key became %q", got)
	}
}

func unescape(s string) string {
	var b []byte
	for i := 0; i < len(s); i++ {
		if s[i] != 0xff {
			b = append(b, s[i])
			continue
		}
		i++
		b = append(b, map[byte]byte{1: '}', 2: 0xff}[s[i]])
	}
	return string(b)
}

// goldenValue returns the value called name of format 1, with an end far ahead.
func goldenValue(t *testing.T, name string) []byte {
	t.Helper()
	text, err := os.ReadFile("testdata/format1.txt")
	if err != nil {
		t.Fatal(err)
	}
	_, dump, _ := strings.Cut(string(text), name+"\n")
	dump, _, _ = strings.Cut(dump, "\n\n")
	var b []byte
	for line := range strings.Lines(dump) {
		digits, _, _ := strings.Cut(line[8:], "|")
		part, err := hex.DecodeString(strings.Join(strings.Fields(digits), ""))
		if err != nil {
			t.Fatal(err)
		}
		b = append(b, part...)
	}
	copy(b[25:], "\x0f")
	return b
}

// A value of format 1 is read as one of format 2 is, swept, and replaced by the same
// rules, with and without the script.
func TestFormat1(t *testing.T) {
	const version = 0x0102030405060708
	id, fields := "shop/1}", []field{metadataVersion(version - 1), tags("red"), response([]byte("meta"))}
	was := put(id, version, "content", fields...)
	value := goldenValue(t, "put")
	got, err := l2.ParseValue(value, key(id), 0)
	if err != nil || !bytes.Equal(got, was) {
		t.Errorf("a put is read as %q, %v", got, err)
	}
	head, err := l2.ParseValue(l2.CutContent(bytes.Clone(value)[:l2.HeadLen(value)]), key(id), 0)
	if err != nil || !bytes.Equal(head, was.AppendHead(nil)) {
		t.Errorf("without content: %q, %v", head, err)
	}
	if got, err := l2.ParseValue(goldenValue(t, "tombstone"), key("k"), 0); err != nil || !bytes.Equal(got, tombstone("k", 9)) {
		t.Errorf("a tombstone is read as %q, %v", got, err)
	}
	if got, err := l2.ParseValue(goldenValue(t, "fence"), nil, 0); err != nil || got != nil {
		t.Errorf("a fence is read as %q, %v", got, err)
	}
	var lesser, greater item.View // of the same versions, by the hash of the content
	for i := 0; lesser == nil || greater == nil; i++ {
		v := put(id, version, fmt.Sprint(i), fields...)
		if a, b := v.ContentHash(), was.ContentHash(); bytes.Compare(a[:], b[:]) < 0 {
			lesser = v
		} else {
			greater = v
		}
	}
	server, s := start(t)
	for name, a := range map[string]applier{"script": apply1(s), "transaction": inCompany(s)} {
		f := func(v item.View, want l2.Outcome, there item.View) {
			t.Helper()
			server.Do("SET", s.DataKey(key(id)), string(value))
			if got := a.apply(t, putOp(v)); got != want {
				t.Errorf("%s: %+v, want %+v", name, got, want)
			}
			if got := get(t, s, id); !bytes.Equal(got, there) {
				t.Errorf("%s: %q is there, want %q", name, got, there)
			}
		}
		f(was, l2.Outcome{Same: true}, was)
		f(lesser, l2.Outcome{}, was)
		f(greater, l2.Outcome{Won: true}, greater)
		f(put(id, version-1, "older"), l2.Outcome{}, was)
	}
	server.Do("SET", s.DataKey(key(id)), string(value))
	_, swept, err := s.Sweep(ctx, func(v item.View) bool { return bytes.Equal(v.Key(), key(id)) })
	if err != nil || swept == 0 || get(t, s, id) != nil {
		t.Errorf("sweep: %d, %v", swept, err)
	}
}

func TestParseValue(t *testing.T) {
	v := put("k", 9, strings.Repeat("content", 10), tags("red", "blue"), response([]byte("meta")))
	value := l2.AppendValue(nil, 1000, v)
	if got, err := l2.ParseValue(value, key("k"), 999); err != nil || !bytes.Equal(got, v) {
		t.Errorf("got %q, %v", got, err)
	}
	if got, err := l2.ParseValue(value, key("k"), 1000); err != nil || got != nil {
		t.Errorf("at its end: %q, %v", got, err)
	}
	if got, err := l2.ParseValue(l2.AppendFence(nil, 1000, 9), key("k"), 0); err != nil || got != nil {
		t.Errorf("fence: %q, %v", got, err)
	}
	f := func(name string, b []byte, k item.Key) {
		t.Helper()
		if got, err := l2.ParseValue(b, k, 0); err == nil || got != nil {
			t.Errorf("%s: got %q, %v", name, got, err)
		}
	}
	f("empty", nil, nil)
	f("other format", append([]byte{3}, value[1:]...), nil)
	f("another key", value, key("j"))
	for n := 1; n < len(value); n++ {
		if n != 33 { // which is a fence
			f(fmt.Sprint("cut at ", n), value[:n], nil)
		}
	}
	for _, at := range []int{1, 8, 9, 17, 24, 33, 34, 41} { // versions, format and kind of the record
		b := bytes.Clone(value)
		b[at] ^= 0x40
		f(fmt.Sprint("byte ", at, " changed"), b, key("k"))
	}
	head, err := l2.ParseValue(l2.CutContent(bytes.Clone(value)[:l2.HeadLen(value)]), key("k"), 0)
	if err != nil || len(head.Content()) != 0 || string(head.Response()) != "meta" || head.TagCount() != 2 {
		t.Errorf("without content: %q, %v", head, err)
	}
}

func FuzzParseValue(f *testing.F) {
	f.Add(l2.AppendValue(nil, 1<<40, put("k", 9, "content", tags("red"))))
	f.Add(l2.AppendValue(nil, 1<<40, tombstone("k", 9)))
	f.Add(l2.AppendFence(nil, 1<<40, 9))
	f.Add(l2.AppendMark(nil, l2.Mark{L3: "x", Seq: 3}))
	f.Fuzz(func(t *testing.T, b []byte) {
		if v, err := l2.ParseValue(b, nil, 0); err == nil && v != nil {
			if again, err := item.Parse(v); err != nil || !bytes.Equal(again, b[33:]) {
				t.Errorf("a believed record does not parse: %v", err)
			}
		}
		if n := l2.HeadLen(b); n > 0 && n <= len(b) {
			_, _ = l2.ParseValue(l2.CutContent(bytes.Clone(b[:n])), nil, 0)
		}
		if m, ok := l2.ParseMark(b); ok && !bytes.Equal(l2.AppendMark(nil, m), b) {
			t.Errorf("mark %+v", m)
		}
	})
}

func TestURL(t *testing.T) {
	f := func(text string, want l2.Address) {
		t.Helper()
		if got, err := l2.ParseURL(text); err != nil || got != want {
			t.Errorf("%s: got %+v, %v, want %+v", text, got, err, want)
		}
	}
	f("redis://h", l2.Address{Mode: l2.Single, Network: "tcp", Hosts: "h:6379 "})
	f("redis://u%40:p%3A%2F@h:1/3", l2.Address{Mode: l2.Single, Network: "tcp", Hosts: "h:1 ", User: "u@", Pass: "p:/", DB: 3})
	f("redis://:p:q@[::1]:7", l2.Address{Mode: l2.Single, Network: "tcp", Hosts: "[::1]:7 ", Pass: "p:q"})
	f("rediss://h/", l2.Address{Mode: l2.Single, Network: "tcp", Hosts: "h:6379 ", TLS: true})
	f("unix:///run/r.sock?db=2", l2.Address{Mode: l2.Single, Network: "unix", Hosts: "/run/r.sock ", DB: 2})
	f("unix://u:p@/run/r.sock", l2.Address{Mode: l2.Single, Network: "unix", Hosts: "/run/r.sock ", User: "u", Pass: "p"})
	f("redis+sentinel://a,b:5/m/1", l2.Address{Mode: l2.Sentinel, Network: "tcp", Hosts: "a:26379 b:5 ", Master: "m", DB: 1})
	f("redis+cluster://a:1,b:2,[::1]", l2.Address{Mode: l2.Cluster, Network: "tcp", Hosts: "a:1 b:2 [::1]:6379 "})
	f("rediss+cluster://a/0", l2.Address{Mode: l2.Cluster, Network: "tcp", Hosts: "a:6379 ", TLS: true})
	bad := func(text, says string) {
		t.Helper()
		_, err := l2.ParseURL(text)
		if err == nil || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: got %v, want it to say %q", text, err, says)
		}
	}
	bad("", "must begin with")
	bad("localhost:6379", "must begin with")
	bad("http://h", "scheme")
	bad("redis://", "host")
	bad("redis://:secret@h:99999", "host")
	bad("redis://:secret%zz@h", "escape")
	bad("redis://a,b", "several hosts")
	bad("redis://h/x", "database")
	bad("redis://h/-1", "database")
	bad("redis://h?db=1", "query")
	bad("redis+sentinel://a,b", "name of the master")
	bad("redis+cluster://a/1", "database 0 only")
	bad("unix://relative", "absolute path")
	bad("unix:///s?x=1", "parameter")
}

func TestOptions(t *testing.T) {
	_, err := l2.Open(l2.Options{URL: "ftp://x", Prefix: "a{b", Timeout: 1, L2MaxTTL: -1, EvictionStart: 0.5, EvictionTarget: 0.6, PoolSize: -1})
	for _, part := range []string{"scheme", "Prefix", "redis_timeout", "l2_max_ttl", "redis_eviction_start", "PoolSize"} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("the error does not name %s: %v", part, err)
		}
	}
	s := open(t, "redis://127.0.0.1:1")
	if err := s.Reload(l2.Limits{EvictionTarget: 0.9}); err == nil {
		t.Error("a target above the start was taken")
	}
	if err := s.Reload(l2.Limits{EvictionStart: 0.95, EvictionTarget: 0.9}); err != nil {
		t.Error(err)
	}
}
