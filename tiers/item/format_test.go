package item_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/edgenode/edgenode/tiers/item"
)

var update = flag.Bool("update", false, "rewrite the files in testdata, but those of former formats")

const uuid = "01890a5d-ac96-774b-bcce-b302099a8057"

// stored is a stored answer as package node/proxy has them.
func stored() item.Item {
	it := item.Item{
		Kind: item.KindPut, Tiers: item.L1 | item.L2, Durability: item.DurabilityMemory,
		Key: item.AppendKey(nil, item.NamespaceSite, "shop\x00https://shop.example/a/b?c=d"), Version: 9<<16 | 1, ContentVersion: 9<<16 | 1, MetadataVersion: 9<<16 | 1,
		UpdatedAt: 9, ExpiresAt: 2_000_000, MIME: "text/html; charset=utf-8",
		Tags:     []string{"\x01u:https://shop.example/a/b?c=d", "\x01h:shop.example", "own", "\x01g:elsewhere"},
		Response: []byte("Content-Type: text/html; charset=utf-8\r\n"), Content: []byte("<p>"),
	}
	it.Seal()
	it.ETag = item.ETag{}
	return it
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := "testdata/" + name
	if *update {
		if err := os.WriteFile(path, []byte(hex.EncodeToString(got)+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want := readHex(t, name); !bytes.Equal(got, want) {
		t.Errorf("%s: the record has changed: this needs a new format number", name)
	}
}

func readHex(t testing.TB, name string) []byte {
	t.Helper()
	text, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	b, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestRecordGolden(t *testing.T) {
	it, site := sample(), stored()
	rule := item.Rule{
		Version: 5 << 16, CreatedAt: 5, Op: item.OpPurgeSoft, Match: item.MatchTag, Namespaces: item.InItems | item.InSites,
		Scope: []byte("uk/"), Values: []string{"news", "\x01h:shop.example"},
	}
	golden(t, "item-2.hex", it.AppendTo(nil))
	golden(t, "site-2.hex", site.AppendTo(nil))
	golden(t, "rule-1.hex", rule.AppendTo(nil))
}

// A record of format 1 is read as the same item in the newest format.
func TestFormat1Golden(t *testing.T) {
	it := sample()
	old := readHex(t, "item-1.hex")
	if !bytes.Equal(append1(nil, &it), old) {
		t.Error("append1 does not write format 1")
	}
	v, err := item.Parse(old)
	if err != nil || !bytes.Equal(v, it.AppendTo(nil)) {
		t.Errorf("read as %x, %v", v, err)
	}
	if n := item.HeadLen(old); n != len(old)-len(it.Content) {
		t.Errorf("HeadLen = %d, want %d", n, len(old)-len(it.Content))
	}
	head := bytes.Clone(old[:item.HeadLen(old)])
	item.CutContent(head)
	if v, err = item.Parse(head); err != nil || len(v.Content()) != 0 || v.MIME() != it.MIME {
		t.Errorf("without content: %x, %v", v, err)
	}
}

// append1 appends the record of it in format 1.
func append1(dst []byte, it *item.Item) []byte {
	le := binary.LittleEndian
	var tags []byte
	for _, t := range it.Tags {
		tags = append(le.AppendUint16(tags, uint16(len(t))), t...)
	}
	dst = append(dst, 1, byte(it.Kind), byte(it.Tiers), byte(it.Flags), byte(it.Durability), byte(len(it.State)))
	dst = le.AppendUint16(dst, uint16(len(it.Tags)))
	for _, n := range []uint64{uint64(it.Version), uint64(it.ContentVersion), uint64(it.MetadataVersion),
		uint64(it.UpdatedAt), uint64(it.ExpiresAt), uint64(it.L1TTL), uint64(it.L2TTL)} {
		dst = le.AppendUint64(dst, n)
	}
	dst = append(append(dst, it.ContentHash[:]...), it.ETag[:]...)
	dst = le.AppendUint64(le.AppendUint64(dst, it.AccessCount), uint64(it.LastAccessed))
	for _, n := range []int{len(it.Key), len(it.MIME), len(it.BatchID), len(it.TraceParent), len(it.TraceState), len(it.HomeInstance)} {
		dst = le.AppendUint16(dst, uint16(n))
	}
	for _, n := range []int{len(it.Response), len(tags), len(it.Content)} {
		dst = le.AppendUint32(dst, uint32(n))
	}
	dst = append(append(append(append(dst, it.Key...), it.State...), it.MIME...), it.BatchID...)
	dst = append(append(append(append(dst, it.TraceParent...), it.TraceState...), it.HomeInstance...), tags...)
	return append(append(dst, it.Response...), it.Content...)
}

// drawItem draws an item with any bytes in every part.
func drawItem(t *rapid.T) item.Item {
	text := func(name string, most int) string {
		if !rapid.Bool().Draw(t, name+" is there") {
			return ""
		}
		return string(rapid.SliceOfN(rapid.Byte(), 0, most).Draw(t, name))
	}
	number := func(name string) uint64 {
		return rapid.OneOf(rapid.Just(uint64(0)), rapid.Just(uint64(5<<16)), rapid.Just(uint64(5)), rapid.Uint64()).Draw(t, name)
	}
	it := item.Item{
		Kind:  rapid.SampledFrom([]item.Kind{item.KindPut, item.KindTombstone, item.KindMetadata}).Draw(t, "kind"),
		Tiers: item.Tiers(rapid.IntRange(0, 7).Draw(t, "tiers")), Durability: item.Durability(rapid.IntRange(0, 4).Draw(t, "durability")),
		Key:     item.AppendKey(nil, item.NamespaceSite, "k"+text("key", 2000)),
		Version: item.Version(number("version")), ContentVersion: item.Version(number("content version")), MetadataVersion: item.Version(number("metadata version")),
		UpdatedAt: int64(number("updated")), ExpiresAt: int64(number("expires")), L1TTL: int64(number("l1")), L2TTL: int64(number("l2")),
		AccessCount: number("accesses"), LastAccessed: int64(number("accessed")),
		MIME: text("mime", 300), State: text("state", 32), BatchID: text("batch", 40), HomeInstance: text("home", 40),
		TraceParent: text("parent", 60), TraceState: text("tracestate", 300),
		Response: []byte(text("response", 500)), Content: []byte(text("content", 2000)),
	}
	if rapid.Bool().Draw(t, "usual") {
		it.MIME, it.HomeInstance = rapid.SampledFrom([]string{"application/json", "text/html; charset=utf-8", "image/x"}).Draw(t, "usual mime"), uuid
	}
	if rapid.IntRange(0, 9).Draw(t, "long texts") == 0 { // about where a length takes more bytes
		long := strings.Repeat("l", rapid.SampledFrom([]int{127, 128, 16_255, 16_256, 32_511, 32_512, 65_535}).Draw(t, "length"))
		it.MIME, it.TraceState, it.HomeInstance, it.Tags = long, long, long, []string{long}
	}
	if rapid.IntRange(0, 9).Draw(t, "wide") == 0 {
		it.Response = bytes.Repeat([]byte("r"), rapid.IntRange(65_530, 140_000).Draw(t, "response length"))
	}
	for range rapid.IntRange(0, 5).Draw(t, "tags") {
		tag := text("tag", 300)
		if rapid.Bool().Draw(t, "in the key") {
			from := rapid.IntRange(0, len(it.Key)).Draw(t, "from")
			tag = "\x01u:" + string(it.Key[from:rapid.IntRange(from, len(it.Key)).Draw(t, "to")])
		}
		it.Tags = append(it.Tags, tag)
	}
	switch rapid.IntRange(0, 2).Draw(t, "seal") {
	case 1:
		it.Seal()
	case 2:
		it.Seal()
		it.ETag = item.ETag{}
	}
	return it
}

// TestRecordRoundTrip: what is written is read, by every method.
func TestRecordRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := drawItem(t)
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
		if n := item.HeadLen(b); n != len(b)-len(want.Content) || v.TagCount() != len(want.Tags) {
			t.Fatalf("HeadLen %d of %d bytes, content has %d; %d tags", n, len(b), len(want.Content), v.TagCount())
		}
		head := v.AppendHead([]byte("before"))[len("before"):]
		if got := head.AppendWith([]byte("before"), want.Content)[len("before"):]; !bytes.Equal(got, b) {
			t.Fatalf("head and content make %x, want %x", got, b)
		}
		cut := bytes.Clone(b[:item.HeadLen(b)])
		if item.CutContent(cut); !bytes.Equal(cut, head) {
			t.Fatalf("cut %x, head %x", cut, head)
		}
	})
}

// TestFormatsAlike: the records of an item in all formats are read as one.
func TestFormatsAlike(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		it := drawItem(t)
		v, err := item.Parse(append1(nil, &it))
		if err != nil || !bytes.Equal(v, it.AppendTo(nil)) {
			t.Fatalf("format 1 of %+v is read as %x, %v", it, v, err)
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
// as the same item.
func FuzzParse(f *testing.F) {
	it, site := sample(), stored()
	f.Add(it.AppendTo(nil))
	f.Add(site.AppendTo(nil))
	f.Add(append1(nil, &it))
	f.Add(append1(nil, &site))
	f.Add([]byte{1, 1})
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) { readOrRefuse(t, b) })
}

func readOrRefuse(t testing.TB, b []byte) (read bool) {
	if n := item.HeadLen(b); n < 0 {
		t.Fatalf("HeadLen = %d", n)
	}
	v, err := item.Parse(b)
	if err != nil {
		if !errors.Is(err, item.ErrMalformed) {
			t.Fatalf("error %v is not ErrMalformed", err)
		}
		return false
	}
	got := v.Item()
	if err := got.Check(); err != nil {
		t.Fatalf("read, but %v", err)
	}
	again := got.AppendTo(nil)
	w, err := item.Parse(again)
	if err != nil || !bytes.Equal(again, w) {
		t.Fatalf("%x written again as %x: %v", b, again, err)
	}
	if other := w.Item(); !reflect.DeepEqual(normal(got), normal(other)) {
		t.Fatalf("got %+v\nthen %+v", got, other)
	}
	return true
}

// TestDamagedRecords: no byte and no end of a record that is another makes a read
// run out of it.
func TestDamagedRecords(t *testing.T) {
	it, site := sample(), stored()
	it.HomeInstance = uuid
	wide := stored()
	wide.Response = make([]byte, 70_000)
	for name, b := range map[string][]byte{
		"item": it.AppendTo(nil), "site": site.AppendTo(nil), "format 1": append1(nil, &it), "wide": wide.AppendTo(nil),
	} {
		head := min(len(b), 400)
		for n := range head {
			if readOrRefuse(t, b[:n:n]) {
				t.Errorf("%s: its first %d bytes are read", name, n)
			}
		}
		for at := range head {
			for _, x := range []byte{0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80, 0xff} {
				c := bytes.Clone(b)
				c[at] ^= x
				readOrRefuse(t, c)
			}
		}
	}
}

func TestParseRefuses(t *testing.T) {
	it, site := sample(), stored()
	f := func(what string, b []byte) {
		t.Helper()
		if _, err := item.Parse(b); !errors.Is(err, item.ErrMalformed) {
			t.Errorf("%s: error %v, want ErrMalformed", what, err)
		}
	}
	change := func(b []byte, change func(b []byte)) []byte {
		b = bytes.Clone(b)
		change(b)
		return b
	}
	for format, good := range [][]byte{1: append1(nil, &it), 2: it.AppendTo(nil)} {
		if good == nil {
			continue
		}
		key := bytes.Index(good, it.Key)
		name := func(what string) string { return fmt.Sprintf("format %d: %s", format, what) }
		f(name("a byte short"), good[:len(good)-1])
		f(name("a byte more"), append(bytes.Clone(good), 0))
		f(name("the next format"), change(good, func(b []byte) { b[0] = item.Format + 1 }))
		f(name("an unknown kind"), change(good, func(b []byte) { b[1] = 9 }))
		f(name("a rule"), change(good, func(b []byte) { b[1] = byte(item.KindRule) }))
		f(name("an unknown namespace"), change(good, func(b []byte) { b[key] = 'Q' }))
	}
	good := append1(nil, &it)
	f("format 1: one tag more than there are", change(good, func(b []byte) { b[6]++ }))
	f("format 1: one tag less than there are", change(good, func(b []byte) { b[6]-- }))
	f("format 1: tiers that there are not", change(good, func(b []byte) { b[2] = 0x10 }))

	good = site.AppendTo(nil)
	tags := bytes.Index(good, []byte("\x04\x07\x01u:")) // four, the first in parts
	if tags < 0 {
		t.Fatalf("no tag is a part of the key: %q", good)
	}
	f("one tag more than there are", change(good, func(b []byte) { b[tags]++ }))
	f("one tag less than there are", change(good, func(b []byte) { b[tags]-- }))
	f("a tag out of the key", change(good, func(b []byte) { b[tags+5]++ }))
	f("a tag longer than the key", change(good, func(b []byte) { b[tags+6]++ }))
	f("a number in more bytes than it needs", change(good, func(b []byte) { b[tags+5], b[tags+6] = 0x80, 6 }))
	f("bits without what they stand for", change(good, func(b []byte) { b[4] |= 0xf0 }))
	f("a key longer than the metadata", change(good, func(b []byte) { b[7] = 0xff }))
	f("metadata of which the end is before the key's", change(good, func(b []byte) { b[20], b[21] = 30, 0 }))
	rule := item.Rule{Version: 1, Op: item.OpDelete, Match: item.MatchKeyPrefix, Namespaces: item.InItems, Values: []string{"a"}}
	b := rule.AppendTo(nil)
	b[0] = item.Format
	if _, err := item.ParseRule(b); !errors.Is(err, item.ErrMalformed) {
		t.Errorf("a rule of the format of items: %v", err)
	}
}

// What has no room in a record is refused before it is written.
func TestCheckLimits(t *testing.T) {
	f := func(want error, change func(it *item.Item)) {
		t.Helper()
		it := sample()
		change(&it)
		if err := it.Check(); !errors.Is(err, want) {
			t.Errorf("error %v, want %v", err, want)
		}
		if want != nil {
			return
		}
		if v, err := item.Parse(it.AppendTo(nil)); err != nil || !reflect.DeepEqual(v.Item(), it) {
			t.Errorf("what is allowed is not kept: %v", err)
		}
	}
	long := strings.Repeat("x", 1<<16-1)
	f(nil, func(it *item.Item) { it.MIME, it.BatchID, it.TraceParent, it.TraceState = long, long, long, long })
	f(nil, func(it *item.Item) { it.HomeInstance, it.Tags = long, []string{long, "a"} })
	f(nil, func(it *item.Item) {
		it.Key = item.AppendKey(nil, item.NamespaceSite, strings.Repeat("k", item.MaxKeyLen-1))
	})
	f(nil, func(it *item.Item) {
		it.Tags = slices.Repeat([]string{"t"}, 1<<16-1)
	})
	f(item.ErrTooLarge, func(it *item.Item) { it.MIME = long + "x" })
	f(item.ErrTooLarge, func(it *item.Item) { it.TraceState = long + "x" })
	f(item.ErrTooLarge, func(it *item.Item) { it.HomeInstance = long + "x" })
	f(item.ErrTooLarge, func(it *item.Item) { it.Tags = []string{long + "x"} })
	f(item.ErrTooLarge, func(it *item.Item) { it.Tags = make([]string, 1<<16) })
	f(item.ErrMalformed, func(it *item.Item) { it.Tiers = 0x10 })
	f(item.ErrMalformed, func(it *item.Item) { it.Durability = 0x10 })
}

// TestRecordSize holds what a record takes beside its key, content and response
// metadata.
func TestRecordSize(t *testing.T) {
	f := func(what string, it item.Item, want int) {
		t.Helper()
		if got := it.EncodedLen() - len(it.Key) - len(it.Response) - len(it.Content); got != want {
			t.Errorf("%s: %d bytes, want %d", what, got, want)
		}
	}
	it := item.Item{
		Kind: item.KindPut, Tiers: item.AllTiers, Key: item.AppendKey(nil, item.NamespaceItem, "k"), Version: 9 << 16, ContentVersion: 9 << 16,
		MetadataVersion: 9 << 16, UpdatedAt: 9, MIME: "application/octet-stream", HomeInstance: uuid, Content: []byte("c"),
	}
	it.Seal()
	f("item", it, 24+48+1+17)
	site := stored()
	site.Tags = site.Tags[:2]
	f("stored answer", site, 24+32+8+1+1+6+6)
	f("tombstone", item.Item{Kind: item.KindTombstone, Key: it.Key, Version: 9 << 16, ContentVersion: 9 << 16, MetadataVersion: 9 << 16, UpdatedAt: 9}, 24)
}

func TestHomeInstance(t *testing.T) {
	for _, id := range []string{
		"", "home", uuid, strings.ToUpper(uuid), strings.Replace(uuid, "-", "_", 1), uuid[:35], uuid[:35] + "g", strings.Repeat("-", 36),
		strings.Repeat("0", 36), uuid[1:] + "-", uuid + "0", "0189-0a5dac96-774b-bcce-b302099a8057",
	} {
		it := sample()
		it.HomeInstance = id
		v, err := item.Parse(it.AppendTo(nil))
		if err != nil || v.HomeInstance() != id || v.Item().HomeInstance != id {
			t.Errorf("%q became %q, %v", id, v.HomeInstance(), err)
		}
	}
}

// TestRulesByTagParts: a rule covers a tag that the record keeps as a part of its
// key as it covers any other.
func TestRulesByTagParts(t *testing.T) {
	it := stored()
	v := item.View(it.AppendTo(nil))
	rapid.Check(t, func(t *rapid.T) {
		tag := rapid.SampledFrom(it.Tags).Draw(t, "tag")
		value := tag[:rapid.IntRange(0, len(tag)).Draw(t, "length")] + rapid.SampledFrom([]string{"", "", "x"}).Draw(t, "more")
		r := item.Rule{Version: it.Version + 1, Op: item.OpPurge, Match: item.MatchTag, Namespaces: item.InSites, Values: []string{"no", value}}
		if rapid.Bool().Draw(t, "prefix") {
			r.Match = item.MatchTagPrefix
		}
		want := false
		for _, tag := range it.Tags {
			want = want || r.MatchesTag(tag)
		}
		if got := r.Covers(v); got != want {
			t.Fatalf("%+v covers: %v, want %v", r, got, want)
		}
	})
}
