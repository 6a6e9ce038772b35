package proxy

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/edgenode/edgenode/tiers/item"
)

// compactly makes the answers of the first site stay in this process; after is
// Options.ShareAfter.
func compactly(after int) func(o *Options) {
	return func(o *Options) { o.Sites[0].Tiers, o.ShareAfter = item.L1, after }
}

func mustCompact(t *testing.T, c *compactForm) meta {
	t.Helper()
	b, ok := c.append(nil)
	if !ok {
		t.Fatalf("%+v does not fit", c)
	}
	m, ok := parseMeta(b)
	if !ok {
		t.Fatalf("%x is not read", b)
	}
	m.with = c.with
	return m
}

func TestGoldenCompact(t *testing.T) {
	f := freshness{
		flags: metaNeverStale | metaIfError, received: 1_700_000_000_123, initialAge: 1_500, lifetime: 60_000,
		whileRevalidate: 5_000, ifError: 7_000, date: 1_699_999_999_000, lastModified: 1_600_000_000_000,
	}
	h := http.Header{
		"Date": {"Tue, 14 Nov 2023 22:13:19 GMT"}, "Last-Modified": {"Sun, 13 Sep 2020 12:26:40 GMT"}, "Etag": {`W/"v1"`}, "Foo": {"1", "2"},
	}
	with := &block{id: 0x0123456789abcdef, slot: 77, lines: []byte("Vary: foo\r\n"), vary: "foo"}
	m := mustCompact(t, &compactForm{status: 203, f: &f, header: h, own: namesOf(h, nil), with: with, vary: "foo", url: "http://a/b"})
	golden(t, "compact", m.b)
	lines := "Date: Tue, 14 Nov 2023 22:13:19 GMT\r\nLast-Modified: Sun, 13 Sep 2020 12:26:40 GMT\r\nETag: W/\"v1\"\r\nFoo: 1\r\nFoo: 2\r\nVary: foo\r\n"
	if m.status() != 203 || m.freshness() != f || string(m.block()) != lines || string(m.etag()) != `W/"v1"` || m.vary() != "foo" {
		t.Errorf("read back: %d %+v %q %q %q", m.status(), m.freshness(), m.block(), m.etag(), m.vary())
	}
	hash := [hashLen]byte{1, 15: 9}
	sole := m.asSole(&hash)
	golden(t, "compact-sole", sole.b)
	if again, ok := parseMeta(sole.b); !ok || !again.sole() || string(again.soleHash()) != string(hash[:]) || string(sole.asListed().b) != string(m.b) {
		t.Errorf("read back: %v %x", ok, sole.asListed().b)
	}
	for i := range sole.b {
		if _, ok := parseMeta(sole.b[:i]); ok {
			t.Errorf("%d of %d bytes are taken for an answer", i, len(sole.b))
		}
	}
}

// Both forms of one answer say the same, whatever its members are.
func TestCompactSaysTheSame(t *testing.T) {
	seed := time.Now().UnixNano()
	r := rand.New(rand.NewPCG(uint64(seed), 1))
	pick := func(values ...int64) int64 { return values[r.IntN(len(values))] }
	fits := 0
	for n := range 5000 {
		received := startMilli + r.Int64N(1<<40)
		f := freshness{
			flags: metaFlags(r.IntN(int(hasSeconds))), received: received, initialAge: pick(0, 1, 1_500, 1<<33),
			lifetime: pick(0, 1000, 1500, 60_000, 31_536_000_000, 31_536_000_001), whileRevalidate: pick(0, 60_000, 1, 86_400_000*365), ifError: pick(0, 1000, 999),
			date: pick(received-received%1000, received, received-received%1000-5000, 0, -1000), lastModified: pick(noTime, 0, 1_600_000_000_000, -86_400_000, 1<<43),
		}
		h := http.Header{}
		if r.IntN(3) > 0 {
			h["Date"] = []string{httpDate(pick(f.date, f.date, received))}
		}
		if f.lastModified != noTime && r.IntN(3) > 0 {
			h["Last-Modified"] = []string{httpDate(pick(f.lastModified, f.lastModified, 0))}
		}
		if r.IntN(2) == 0 {
			h["Etag"] = []string{`"` + strings.Repeat("e", r.IntN(300)) + `"`}
		}
		for i := range r.IntN(4) {
			h[fmt.Sprintf("X-%d", i)] = slices.Repeat([]string{"value"}, 1+r.IntN(2))
		}
		vary := []string{"", "accept-encoding", strings.Repeat("a", 254), strings.Repeat("a", 255)}[r.IntN(4)]
		c := compactForm{status: 200 + r.IntN(300), f: &f, header: h, own: namesOf(h, nil), vary: vary, url: "http://a/"}
		if r.IntN(2) == 0 {
			name := "X-0"
			c.with = &block{id: r.Uint64(), slot: uint16(r.IntN(maxBlocks)), vary: "accept-encoding"}
			c.with.lines, _, _ = appendField(nil, name, h[name])
			c.own = slices.DeleteFunc(c.own, func(s string) bool { return s == name })
		}
		b, ok := c.append([]byte("before"))
		if !ok {
			if string(b) != "before" {
				t.Fatalf("seed %d, %d: %q is left", seed, n, b)
			}
			continue
		}
		fits++
		m, ok := parseMeta(b[len("before"):])
		if !ok {
			t.Fatalf("seed %d, %d: %x is not read", seed, n, b)
		}
		m.with = c.with
		block, at, length := appendBlock(nil, h)
		whole := meta{b: appendMeta(nil, c.status, &f, block, at, length, vary, "")}
		if m.status() != whole.status() || m.flags() != whole.flags() || m.freshness() != whole.freshness() || m.vary() != whole.vary() ||
			string(m.etag()) != string(whole.etag()) || m.age(received+5) != whole.age(received+5) || m.hasValidator() != whole.hasValidator() {
			t.Fatalf("seed %d, %d: %+v is not %+v", seed, n, m.freshness(), whole.freshness())
		}
		if got, want := fmt.Sprint(headerOf(m.block())), fmt.Sprint(headerOf(block)); got != want {
			t.Fatalf("seed %d, %d: %s is not %s", seed, n, got, want)
		}
		for name := range h {
			if got, want := m.line(wireName(name)), whole.line(wireName(name)); !bytes.Equal(got, want) {
				t.Fatalf("seed %d, %d: %s is %q, not %q", seed, n, name, got, want)
			}
		}
	}
	if fits < 500 {
		t.Errorf("seed %d: %d of 5000 fitted", seed, fits)
	}
}

func TestAppendDate(t *testing.T) {
	var shown shownDate
	f := func(unix int64) {
		t.Helper()
		if got, want := string(shown.append(nil, uint32(unix))), httpDate(unix*1000); got != want {
			t.Errorf("after another, %d is %s, want %s", unix, got, want)
		}
		if got, want := string(appendDate(nil, uint32(unix))), httpDate(unix*1000); got != want {
			t.Errorf("%d is %s, want %s", unix, got, want)
		}
	}
	for day := int64(0); day < 1<<32/86_400; day++ {
		f(day*86_400 + day%86_400)
	}
	f(0)
	f(3600)
	f(86_399)
	f(86_400)
	f(1<<32 - 1)
	f(951_782_399) // the second before the leap day of a fourth century
	f(951_868_799) // its last
}

// Fields come to the client as they came from the origin: each once, those of one
// name in order.
func TestCompactFields(t *testing.T) {
	w := newWorld(t, compactly(-1))
	lines := "Cache-Control: max-age=60\nServer: origin\nX-A: 1\nLink: <a>\nLink: <b>\nETag: \"e\"\nLast-Modified: Sun, 06 Nov 1994 08:49:37 GMT\nCache-Status: other;hit"
	w.always(w.ok(lines, "body"))
	first := w.get("/a?b=%22\"")
	w.pass(2 * time.Second)
	second := w.get("/a?b=%22\"")
	w.expect(second, 200, "body", "hit;ttl=58;detail=l1")
	want, got := headerOf(first.head.Bytes()), headerOf(second.head.Bytes())
	if status := got["Cache-Status"]; len(status) != 2 || status[0] != "other;hit" || !strings.HasSuffix(status[1], `;key="http://shop.example/a?b=%22\""`) {
		t.Errorf("Cache-Status %q", status)
	}
	if age := got["Age"]; len(age) != 1 || age[0] != "2" {
		t.Errorf("Age %q", age)
	}
	delete(want, "Cache-Status")
	delete(got, "Cache-Status")
	delete(got, "Age")
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	if !bytes.HasPrefix(second.head.Bytes(), []byte("Date: ")) {
		t.Errorf("Date is not the first of %q", second.head.String())
	}
	m := w.stored("/a?b=%22\"")
	if !m.compact() || m.with == nil || lookupLine(m.with.lines, "Server") == nil || len(m.own()) > len("ETag: \"e\"\r\n") {
		t.Errorf("own lines %q, shared %+v", m.own(), m.with)
	}
}

// stored returns the metadata of an answer under its base key.
func (w *world) stored(target string) meta {
	w.Helper()
	_, response := w.record(baseKey(target))
	m, ok := w.p.metaOf(response)
	if !ok {
		w.Fatalf("%s is stored as %q", target, response)
	}
	return m
}
