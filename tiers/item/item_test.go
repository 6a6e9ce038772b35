package item_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/edgenode/edgenode/tiers/item"
)

var update = flag.Bool("update", false, "rewrite the files in testdata")

func sample() item.Item {
	it := item.Item{
		Kind: item.KindPut, Tiers: item.AllTiers, Durability: item.DurabilitySync,
		Key: item.AppendKey(nil, item.NamespaceItem, "uk/london:7"), Version: 3 << 16, ContentVersion: 2 << 16, MetadataVersion: 3 << 16,
		UpdatedAt: 3, ExpiresAt: 1_000_000, L1TTL: 60_000, L2TTL: 3_600_000,
		MIME: "application/json", State: "ready", Tags: []string{"a", "b-c"}, BatchID: "batch", TraceParent: "00-1-2-01",
		TraceState: "x=y", HomeInstance: "home", AccessCount: 9, LastAccessed: 77,
		Response: []byte("Content-Encoding: br"), Content: []byte(`{"a": 1}`),
	}
	it.Seal()
	return it
}

func TestRecordGolden(t *testing.T) {
	it := sample()
	rule := item.Rule{
		Version: 5 << 16, CreatedAt: 5, Op: item.OpPurgeSoft, Match: item.MatchTag, Namespaces: item.InItems | item.InSites,
		Scope: []byte("uk/"), Values: []string{"news", "\x01h:shop.example"},
	}
	f := func(name string, got []byte) {
		t.Helper()
		path := "testdata/" + name
		if *update {
			if err := os.WriteFile(path, []byte(hex.EncodeToString(got)+"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if hex.EncodeToString(got) != strings.TrimSpace(string(want)) {
			t.Errorf("%s: the record has changed: this needs a new format number", name)
		}
	}
	f("item-1.hex", it.AppendTo(nil))
	f("rule-1.hex", rule.AppendTo(nil))
}

// TestRecordRoundTrip draws items with any bytes in every part.
func TestRecordRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := func(name string, most int) string {
			return string(rapid.SliceOfN(rapid.Byte(), 0, most).Draw(t, name))
		}
		want := item.Item{
			Kind: item.KindPut, Tiers: item.Tiers(rapid.IntRange(0, 7).Draw(t, "tiers")), Durability: item.DurabilitySync,
			Key:     item.AppendKey(nil, item.NamespaceSite, "k"+text("key", 2000)),
			Version: item.Version(rapid.Uint64().Draw(t, "version")), ExpiresAt: rapid.Int64().Draw(t, "expires"),
			MIME: text("mime", 300), State: text("state", 32), BatchID: text("batch", 40), HomeInstance: text("home", 40),
			TraceParent: text("parent", 60), TraceState: text("tracestate", 300),
			Response: []byte(text("response", 500)), Content: []byte(text("content", 2000)),
		}
		for range rapid.IntRange(0, 5).Draw(t, "tags") {
			want.Tags = append(want.Tags, text("tag", 300))
		}
		want.Seal()
		b := want.AppendTo([]byte("before"))[len("before"):]
		if len(b) != want.EncodedLen() {
			t.Fatalf("EncodedLen = %d, want %d", want.EncodedLen(), len(b))
		}
		v, err := item.Parse(b)
		if err != nil {
			t.Fatal(err)
		}
		if got := v.Item(); !reflect.DeepEqual(normal(got), normal(want)) {
			t.Fatalf("got %+v\nwant %+v", got, want)
		}
	})
}

// normal makes empty and nil slices alike.
func normal(it item.Item) item.Item {
	it.Response, it.Content = append([]byte{}, it.Response...), append([]byte{}, it.Content...)
	it.Tags = append([]string{}, it.Tags...)
	return it
}

// FuzzParse: bytes of others are refused or read, and what is read is written
// the same.
func FuzzParse(f *testing.F) {
	it := sample()
	f.Add(it.AppendTo(nil))
	f.Add([]byte{1, 1})
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := item.Parse(b)
		if err != nil {
			if !errors.Is(err, item.ErrMalformed) {
				t.Fatalf("error %v is not ErrMalformed", err)
			}
			return
		}
		got := v.Item()
		if again := got.AppendTo(nil); !bytes.Equal(again, b) {
			t.Fatalf("written again as %x, was %x", again, b)
		}
	})
}

func FuzzParseRule(f *testing.F) {
	r := item.Rule{Version: 1, Op: item.OpDelete, Match: item.MatchKeyPrefix, Namespaces: item.InItems, Values: []string{"a"}}
	f.Add(r.AppendTo(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := item.ParseRule(b)
		if err != nil {
			return
		}
		b[5], b[6], b[7] = 0, 0, 0 // reserved
		if again := r.AppendTo(nil); !bytes.Equal(again, b) {
			t.Fatalf("written again as %x, was %x", again, b)
		}
	})
}

func TestParseRefuses(t *testing.T) {
	it := sample()
	good := it.AppendTo(nil)
	f := func(what string, change func(b []byte) []byte) {
		t.Helper()
		if _, err := item.Parse(change(bytes.Clone(good))); !errors.Is(err, item.ErrMalformed) {
			t.Errorf("%s: error %v, want ErrMalformed", what, err)
		}
	}
	f("a byte short", func(b []byte) []byte { return b[:len(b)-1] })
	f("a byte more", func(b []byte) []byte { return append(b, 0) })
	f("the next format", func(b []byte) []byte { b[0] = item.Format + 1; return b })
	f("an unknown kind", func(b []byte) []byte { b[1] = 9; return b })
	f("an unknown namespace", func(b []byte) []byte { b[152] = 'Q'; return b })
	f("one tag more than there are", func(b []byte) []byte { b[6]++; return b })
	f("one tag less than there are", func(b []byte) []byte { b[6]--; return b })
}

func TestCheckID(t *testing.T) {
	f := func(id string, ok bool) {
		t.Helper()
		if err := item.CheckID(id); (err == nil) != ok {
			t.Errorf("CheckID(%.20q): %v, want ok = %v", id, err, ok)
		}
	}
	f("a", true)
	f("A/b:c.d //..", true)
	f("\u00e9", true)
	f("e\u0301", true) // not the same id as the one above: nothing is normalised
	f("\ufffd", true)  // the replacement character itself is UTF-8
	f(strings.Repeat("x", 1024), true)
	f(strings.Repeat("x", 1025), false)
	f("", false)
	f("a\x00b", false)
	f("a\nb", false)
	f("a\u0085b", false) // C1 control
	f("a\x7f", false)
	f("\xff", false)
	f("a\xc3", false)
}

func TestStorageKey(t *testing.T) {
	short := item.AppendKey(nil, item.NamespaceSite, strings.Repeat("s", 1024))
	if got := short.StorageKey(); !bytes.Equal(got, short) {
		t.Error("a key of 1,024 bytes is not its own storage key")
	}
	a := item.AppendKey(nil, item.NamespaceSite, strings.Repeat("s", 4000)+"a")
	b := item.AppendKey(nil, item.NamespaceSite, strings.Repeat("s", 4000)+"b")
	if got := len(a.StorageKey()); got != 1+512+32 {
		t.Errorf("storage key of %d bytes, want 545", got)
	}
	if bytes.Equal(a.StorageKey(), b.StorageKey()) {
		t.Error("two long keys with a common head share a storage key")
	}
}

func TestPrefixEnd(t *testing.T) {
	f := func(prefix, want string) {
		t.Helper()
		if got := item.PrefixEnd([]byte(prefix)); string(got) != want {
			t.Errorf("PrefixEnd(%q) = %q, want %q", prefix, got, want)
		}
	}
	f("a", "b")
	f("a\xff", "b")
	f("a\xffb", "a\xffc")
	f("", "")
	f("\xff\xff", "")
}

func TestTags(t *testing.T) {
	f := func(ok bool, tags ...string) {
		t.Helper()
		if err := item.CheckTags(tags); (err == nil) != ok {
			t.Errorf("CheckTags(%q): %v, want ok = %v", tags, err, ok)
		}
	}
	f(true)
	f(true, "a", "!~")
	f(true, strings.Repeat("t", 256))
	f(false, strings.Repeat("t", 257))
	f(false, "a,b")
	f(false, "a b")
	f(false, "")
	f(false, "\u00e9")
	f(false, make([]string, 257)...)
}

func TestClock(t *testing.T) {
	now := int64(1_000)
	c := item.NewClock(0, func() int64 { return now })
	a, b := c.Stamp(), c.Stamp()
	if a != item.VersionAt(1_000) || b != a+1 {
		t.Errorf("two stamps of a millisecond are %d and %d, want %d and the next", a, b, item.VersionAt(1_000))
	}
	now = 900 // set back
	if got := c.Stamp(); got <= b {
		t.Errorf("after the clock was set back it stamps %d, not above %d", got, b)
	}
	if err := c.Observe(item.VersionAt(now+61_000), time.Minute); !errors.Is(err, item.ErrClockSkew) {
		t.Errorf("a version 61 s ahead: %v, want ErrClockSkew", err)
	}
	seen := item.VersionAt(now + 59_000)
	if err := c.Observe(seen, time.Minute); err != nil {
		t.Errorf("a version 59 s ahead: %v", err)
	}
	if got := c.Stamp(); got <= seen {
		t.Errorf("stamp %d is not above the observed %d", got, seen)
	}
	if got := item.NewClock(seen, func() int64 { return now }).Stamp(); got <= seen {
		t.Errorf("first stamp %d is not above the floor %d", got, seen)
	}
}

func TestETag(t *testing.T) {
	a, b := item.ETagOf("text/plain", []byte("x")), item.ETagOf("text/plai", []byte("nx"))
	if a == b {
		t.Error("moving a byte from MIME to content keeps the entity tag")
	}
	back, ok := item.ParseETag(a.String())
	if !ok || back != a || len(a.String()) != 32 {
		t.Errorf("ParseETag(%q) = %v, %v", a, back, ok)
	}
	for _, s := range []string{"", "12", strings.Repeat("g", 32)} {
		if _, ok := item.ParseETag(s); ok {
			t.Errorf("ParseETag(%q) was accepted", s)
		}
	}
}

func TestRuleCovers(t *testing.T) {
	it := sample() // content version 2<<16
	v := item.View(it.AppendTo(nil))
	f := func(want bool, r item.Rule) {
		t.Helper()
		r.Op = item.OpDelete
		if got := r.Covers(v); got != want {
			t.Errorf("%+v covers: %v, want %v", r, got, want)
		}
	}
	const after, before = 2<<16 + 1, 2 << 16
	f(true, item.Rule{Version: after, Match: item.MatchAll, Namespaces: item.InItems})
	f(false, item.Rule{Version: before, Match: item.MatchAll, Namespaces: item.InItems})
	f(false, item.Rule{Version: after, Match: item.MatchAll, Namespaces: item.InSites})
	f(true, item.Rule{Version: after, Match: item.MatchAll, Namespaces: item.InItems, Scope: []byte("uk/")})
	f(false, item.Rule{Version: after, Match: item.MatchAll, Namespaces: item.InItems, Scope: []byte("fr/")})
	f(true, item.Rule{Version: after, Match: item.MatchKey, Namespaces: item.InItems, Values: []string{"x", "uk/london:7"}})
	f(false, item.Rule{Version: after, Match: item.MatchKey, Namespaces: item.InItems, Values: []string{"uk/london:"}})
	f(true, item.Rule{Version: after, Match: item.MatchKeyPrefix, Namespaces: item.InItems, Values: []string{"uk/london:"}})
	f(true, item.Rule{Version: after, Match: item.MatchTag, Namespaces: item.InItems, Values: []string{"b-c"}})
	f(false, item.Rule{Version: after, Match: item.MatchTag, Namespaces: item.InItems, Values: []string{"b"}})
	f(true, item.Rule{Version: after, Match: item.MatchTagPrefix, Namespaces: item.InItems, Values: []string{"b"}})
}

func TestViewAllocatesNothing(t *testing.T) {
	it := sample()
	b := it.AppendTo(nil)
	n := testing.AllocsPerRun(100, func() {
		v, err := item.Parse(b)
		if err != nil || v.MIME() != "application/json" || v.TagCount() != 2 || len(v.Content()) == 0 {
			t.Fatal("wrong view")
		}
	})
	if n != 0 {
		t.Errorf("Parse and reading fields allocate %v times, want 0", n)
	}
}
