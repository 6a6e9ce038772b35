package proxy

import (
	"encoding/hex"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

var rewrite = flag.Bool("rewrite", false, "rewrite the vectors in testdata")

// golden compares the stored form with the vector on disk: a node of another
// version reads these bytes.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	file := filepath.Join("testdata", name+".hex")
	if *rewrite {
		if err := os.WriteFile(file, []byte(hex.EncodeToString(got)+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if hex.EncodeToString(got) != strings.TrimSpace(string(want)) {
		t.Errorf("%s: got\n%x\nwant\n%s", name, got, want)
	}
}

func TestGoldenAnswer(t *testing.T) {
	f := freshness{
		flags: metaNeverStale | metaIfError, received: 1_700_000_000_123, initialAge: 1_500, lifetime: 60_000,
		whileRevalidate: 5_000, ifError: 7_000, date: 1_700_000_000_000, lastModified: noTime,
	}
	block := []byte("Cache-Control: max-age=60\r\nETag: W/\"v1\"\r\n")
	b := appendMeta(nil, 203, &f, block, 33, 6, "accept,foo", `;key="http://a/b"`)
	golden(t, "answer", b)
	m, ok := parseMeta(b)
	if !ok || m.status() != 203 || m.freshness() != f || string(m.block()) != string(block) || string(m.etag()) != `W/"v1"` ||
		m.vary() != "accept,foo" || string(m.note()) != `;key="http://a/b"` {
		t.Errorf("read back: %v %d %+v %q %q %q %q", ok, m.status(), m.freshness(), m.block(), m.etag(), m.vary(), m.note())
	}
}

func TestGoldenSole(t *testing.T) {
	hash := [hashLen]byte{1, 2, 3, 15: 9}
	listed := meta{b: appendMeta(nil, 200, &freshness{lifetime: 60_000}, []byte("A: b\r\n"), 0, 0, "foo", ";key=x")}
	b := listed.asSole(&hash).b
	golden(t, "sole", b)
	m, ok := parseMeta(b)
	if !ok || !m.sole() || string(m.soleHash()) != string(hash[:]) || m.vary() != "foo" || string(m.note()) != ";key=x" || string(m.asListed().b) != string(listed.b) {
		t.Errorf("read back: %v %q %q %q %x", ok, m.vary(), m.note(), m.soleHash(), m.asListed().b)
	}
	for i := range b {
		if _, ok := parseMeta(b[:i]); ok {
			t.Errorf("%d of %d bytes are taken for an answer", i, len(b))
		}
	}
	b[1] = kindAnswer
	if _, ok := parseMeta(b); ok {
		t.Error("a hash behind an answer of another kind is overlooked")
	}
}

func TestGoldenIndex(t *testing.T) {
	x := &index{expires: 1_700_000_009_000, specs: []string{"accept-encoding", "a,b"}, entries: []entry{
		{hash: [hashLen]byte{1, 2, 3}, lang: [hashLen]byte{7}, spec: 1, stored: 1_700_000_000_000, expires: 1_700_000_009_000},
		{hash: [hashLen]byte{9}, spec: 0, stored: 1_700_000_000_001, expires: 1_700_000_008_000},
	}}
	b := appendIndex(nil, x)
	golden(t, "index", b)
	v, ok := parseIndex(b)
	if !ok || !reflect.DeepEqual(v.decode(), x) {
		t.Errorf("read back: %v %+v", ok, v.decode())
	}
}

func TestGoldenKeys(t *testing.T) {
	s := Site{Name: "shop", IgnoreQuery: []string{"utm_*", "x"}, SortQuery: true}
	key, at, end := s.appendKey(nil, "https", []byte("a.example:8443"), []byte("/p%2F?b=2&utm_source=z&a=1&x=3&xy"), []byte("add"))
	if got, want := string(key[at:end]), "https://a.example:8443/p%2F?a=1&b=2&xy"; got != want {
		t.Errorf("URL %q, want %q", got, want)
	}
	hash, _ := variantHash("accept-encoding,foo", &request{site: &site{Site: s}, header: map[string][]string{"Foo": {"a ,b", "c"}}}, nil)
	golden(t, "key", variantKey(nil, key, hash[:]))
}

// Damaged and unknown forms are misses.
func TestUnknownFormsAreMisses(t *testing.T) {
	b := appendMeta(nil, 200, &freshness{}, []byte("A: b\r\n"), 0, 0, "", "")
	for i := range b {
		parseMeta(b[:i])
		if _, ok := parseMeta(b[:i]); ok {
			t.Errorf("%d of %d bytes are taken for an answer", i, len(b))
		}
	}
	b[0] = formatCompact + 1
	if _, ok := parseMeta(b); ok {
		t.Error("an unknown format is taken for ours")
	}
}
