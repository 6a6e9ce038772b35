package proxy

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/edgenode/edgenode/tiers/item"
)

// What another process may read refers to nothing: answers for L2 and L3 are whole,
// also where the tiers of a site are changed later, and what is stored before that
// is not written there.
func TestBlocksStayInside(t *testing.T) {
	w := newWorld(t, compactly(-1))
	w.says(func(r *http.Request) string {
		if r.Header.Get("If-None-Match") != "" {
			return w.status(304, "ETag: \"e\"\nCache-Control: max-age=60", "")
		}
		return w.ok("Cache-Control: max-age=60\nETag: \"e\"\nServer: a server with a name", "body")
	})
	w.get("/a")
	if m := w.stored("/a"); !m.compact() || m.with == nil {
		t.Fatalf("stored as %q", m.b)
	}
	for _, tiers := range []item.Tiers{item.L1 | item.L2, item.L1 | item.L3, item.AllTiers, item.L2} {
		sites := []Site{w.options.Sites[0]}
		sites[0].Tiers = tiers
		if err := w.p.Configure(sites, w.options.Pools); err != nil {
			t.Fatal(err)
		}
		target := fmt.Sprint("/", tiers)
		w.get(target)
		if m := w.stored(target); m.compact() || !strings.Contains(string(m.block()), "Server: a server") {
			t.Errorf("for %v stored as %q", tiers, m.b)
		}
	}
	w.expect(w.get("/a"), 200, "body", "hit")
	if v, _ := w.record(baseKey("/a")); v.Tiers() != item.L1 {
		t.Errorf("what was stored before is for %v", v.Tiers())
	}
	w.pass(61 * time.Second)
	w.expect(w.get("/a"), 200, "body", "fwd=stale;fwd-status=304;ttl=60;stored")
	if m := w.stored("/a"); m.compact() || !strings.Contains(string(m.block()), "Server: a server") {
		t.Errorf("renewed as %q", m.b)
	}
}

// An answer whose block is gone is a miss and is fetched again.
func TestBlockGone(t *testing.T) {
	set := metrics.NewSet()
	w := newWorld(t, compactly(-1), func(o *Options) { o.Metrics = set })
	w.always(w.ok("Cache-Control: max-age=60\nETag: \"e\"\nVary: Foo\nServer: a server with a name", "body"))
	w.get("/a")
	w.expect(w.get("/a"), 200, "body", "hit")
	b := w.stored("/a").with
	drop := func(in *block) {
		w.p.blocks.slots[b.slot].Store(in)
		if in == nil {
			delete(w.p.blocks.byLines, string(b.lines))
		}
	}
	drop(&block{id: b.id + 1, slot: b.slot, lines: []byte("Server: of others\r\n")})
	w.expect(w.get("/a"), 200, "body", "fwd=uri-miss;fwd-status=200;stored")
	drop(nil)
	again := w.get("/a")
	w.expect(again, 200, "body", "fwd=uri-miss;fwd-status=200;stored")
	w.expect(w.get("/a"), 200, "body", "hit")
	if got := w.get("/a").line("Server"); got != "a server with a name" {
		t.Errorf("Server %q", got)
	}
	if got := set.GetOrCreateCounter(`edgenode_proxy_header_blocks_gone_total`).Get(); got == 0 {
		t.Error("no block that was gone is counted")
	}
}

// Lines are shared when they came several times, and what is unlike for each answer
// fills no slot.
func TestBlocksAreLearnt(t *testing.T) {
	w := newWorld(t, compactly(4))
	n := 0
	w.says(func(*http.Request) string {
		n++
		own := fmt.Sprintf("X-Request-Id: %d\nContent-Security-Policy: script-src 'nonce-%d'", n, n)
		return w.ok("Cache-Control: max-age=60\nServer: a server with a long name\n"+own, "body")
	})
	for i := range 50 {
		w.get(fmt.Sprint("/", i))
	}
	if m := w.stored("/0"); !m.compact() || m.with != nil {
		t.Errorf("the first is stored as %q", m.b)
	}
	m := w.stored("/49")
	if m.with == nil || lookupLine(m.with.lines, "Server") == nil || lookupLine(m.own(), "X-Request-Id") == nil || lookupLine(m.own(), "Content-Security-Policy") == nil {
		t.Errorf("the last is stored as %q", m.b)
	}
	if blocks, bytes := w.p.blocks.stats(); blocks != 1 || bytes != len(m.with.lines) {
		t.Errorf("%d blocks, %d bytes", blocks, bytes)
	}
}

// What was dropped from a full table was unused for long; what is in use stays, and
// new lines find no room.
func TestBlocksAreBounded(t *testing.T) {
	b := newBlocks(-1)
	share := func(i int, now int64) *block {
		h := http.Header{"Server": {fmt.Sprintf("a server with a long name %d", i)}}
		_, with := b.divide("shop", h, namesOf(h, nil), now)
		return with
	}
	now := startMilli
	for i := range maxBlocks {
		if share(i, now) == nil {
			t.Fatalf("no block %d", i)
		}
	}
	if share(-1, now) != nil {
		t.Error("a block above the bound")
	}
	for range keepEpochs - 1 {
		now += blockEpoch
		share(1, now)
	}
	used := b.byLines["Server: a server with a long name 2\r\n"]
	if b.at(int(used.slot), used.id) != used || b.at(int(used.slot), used.id+1) != nil {
		t.Error("the block is not found by its number alone")
	}
	if share(-1, now) != nil {
		t.Error("a block was dropped too soon")
	}
	now += blockEpoch
	if share(-1, now) == nil {
		t.Error("no room though most are long unused")
	}
	if n, _ := b.stats(); n != 3 {
		t.Errorf("%d blocks are left, want the one that is stored, the one that is read, the new one", n)
	}
	long := http.Header{}
	for i := range maxBlockBytes/maxBlockLines + 2 {
		long["Server"] = []string{strings.Repeat("x", maxBlockLines-100) + fmt.Sprint(i)}
		b.divide("shop", long, namesOf(long, nil), now)
	}
	if _, bytes := b.stats(); bytes > maxBlockBytes {
		t.Errorf("%d bytes, bound %d", bytes, maxBlockBytes)
	}
}

func keptExample() *blocks {
	b := newBlocks(0)
	b.putLocked(&block{id: 0x0102030405060708, slot: 3, lines: []byte("Server: a\r\nVary: Foo, bar\r\n"), vary: "bar,foo"})
	b.putLocked(&block{id: 9, slot: 4095, lines: []byte("Server: b\r\n")})
	return b
}

func TestGoldenBlocks(t *testing.T) {
	kept := keptExample().appendKept(nil)
	golden(t, "blocks", kept)
	b := newBlocks(0)
	if err := b.restore(kept); err != nil {
		t.Fatal(err)
	}
	if one := b.at(3, 0x0102030405060708); one == nil || one.vary != "bar,foo" || string(one.lines) != "Server: a\r\nVary: Foo, bar\r\n" {
		t.Errorf("read back: %+v", one)
	}
	if n, bytes := b.stats(); n != 2 || bytes != 38 || b.at(4095, 9) == nil {
		t.Errorf("%d blocks of %d bytes", n, bytes)
	}
	for i := range kept {
		other := newBlocks(0)
		damaged := append([]byte(nil), kept...)
		damaged[i] ^= 4
		if err := other.restore(damaged); err == nil || len(other.byLines) > 0 {
			t.Errorf("byte %d is damaged: %v", i, err)
		}
		if err := other.restore(kept[:i]); err == nil {
			t.Errorf("%d of %d bytes are read", i, len(kept))
		}
	}
}

func FuzzKeptBlocks(f *testing.F) {
	f.Add(keptExample().appendKept(nil))
	f.Fuzz(func(t *testing.T, kept []byte) {
		if len(kept) >= blocksHead {
			_, _ = keptBlocks(kept)
		}
		_ = newBlocks(0).restore(kept)
	})
}
