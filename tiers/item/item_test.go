package item_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/edgenode/edgenode/tiers/item"
)

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
