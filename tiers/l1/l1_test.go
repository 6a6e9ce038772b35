package l1_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"testing"

	"github.com/cespare/xxhash/v2"
	"go.uber.org/goleak"

	"github.com/edgenode/edgenode/tiers/eviction"
	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/l1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// hash is what the engine would use.
func hash(key []byte) uint64 { return xxhash.Sum64(key) }

func keyOf(i int) []byte { return fmt.Appendf(nil, "i%08d", i) }

// record returns the record of key with a content of n bytes made of version.
func record(key []byte, version uint64, n int) []byte {
	content := bytes.Repeat([]byte{byte(version)}, n)
	if n >= 8 {
		binary.LittleEndian.PutUint64(content, version)
	}
	it := item.Item{Kind: item.KindPut, Key: key, Version: item.Version(version), Content: content}
	return it.AppendTo(nil)
}

func newCache(tb testing.TB, o l1.Options) *l1.Cache {
	tb.Helper()
	if o.Scorer == nil {
		o.Scorer = eviction.Auto{}
	}
	c := l1.New(o)
	tb.Cleanup(func() {
		audit(tb, c)
		c.Close()
		audit(tb, c)
		if n := c.MappedBytes(); n != 0 {
			tb.Errorf("%d bytes are mapped after Close: somebody has not let go", n)
		}
	})
	return c
}

func audit(tb testing.TB, c *l1.Cache) {
	tb.Helper()
	if err := c.Audit(); err != nil {
		tb.Errorf("audit: %v", err)
	}
}

func put(c *l1.Cache, i int, version uint64, n int, o l1.PutOptions) bool {
	key := keyOf(i)
	return c.Put(hash(key), key, version, record(key, version, n), o)
}

// get returns the version stored under key i, or 0.
func get(c *l1.Cache, i int, now int64) uint64 {
	key := keyOf(i)
	p, ok := c.Get(hash(key), key, now)
	defer p.Release()
	if !ok {
		return 0
	}
	return uint64(item.View(p.Bytes()).Version())
}

func del(c *l1.Cache, i int, upTo uint64) bool { return c.Delete(hash(keyOf(i)), keyOf(i), upTo) }

func TestVersions(t *testing.T) {
	c := newCache(t, l1.Options{MaxBytes: 1 << 20})
	f := func(what string, got, want any) {
		t.Helper()
		if got != want {
			t.Errorf("%s: got %v, want %v", what, got, want)
		}
	}
	f("put 5", put(c, 1, 5, 100, l1.PutOptions{}), true)
	f("put 4 after 5", put(c, 1, 4, 100, l1.PutOptions{}), false)
	f("put 4 of another size", put(c, 1, 4, 900, l1.PutOptions{}), false)
	f("get", get(c, 1, 0), uint64(5))
	f("put 5 again", put(c, 1, 5, 300, l1.PutOptions{}), true)
	f("put 6", put(c, 1, 6, 300, l1.PutOptions{}), true)
	f("get", get(c, 1, 0), uint64(6))
	f("delete to 5", del(c, 1, 5), false)
	f("get", get(c, 1, 0), uint64(6))
	f("delete to 6", del(c, 1, 6), true)
	f("delete again", del(c, 1, 6), false)
	f("get", get(c, 1, 0), uint64(0))
	f("len", c.Len(), int64(0))
}

func TestPutChecksTheRecord(t *testing.T) {
	c := newCache(t, l1.Options{MaxBytes: 1 << 20})
	key, rec := keyOf(1), record(keyOf(1), 7, 10)
	f := func(what string, key []byte, version uint64, rec []byte, want bool) {
		t.Helper()
		if got := c.Put(hash(key), key, version, rec, l1.PutOptions{}); got != want {
			t.Errorf("%s: stored %v, want %v", what, got, want)
		}
	}
	f("whole", key, 7, rec, true)
	f("other version", key, 8, rec, false)
	f("other key", keyOf(2), 7, rec, false)
	f("cut", key, 7, rec[:len(rec)-1], false)
	f("empty", key, 7, nil, false)
	f("a quarter of the budget", keyOf(3), 7, record(keyOf(3), 7, 1<<18-256), true)
	f("more than a quarter", keyOf(4), 7, record(keyOf(4), 7, 1<<18), false)
	if got := c.Stats().Refused; got != 5 {
		t.Errorf("refused %d, want 5", got)
	}
}

func TestAppend(t *testing.T) {
	c := newCache(t, l1.Options{MaxBytes: 1 << 20})
	put(c, 1, 3, 50, l1.PutOptions{})
	want := append([]byte("head"), record(keyOf(1), 3, 50)...)
	if got, ok := c.Append([]byte("head"), hash(keyOf(1)), keyOf(1), 0); !ok || !bytes.Equal(got, want) {
		t.Errorf("got %d bytes, %v, want %d, true", len(got), ok, len(want))
	}
	if got, ok := c.Append([]byte("head"), hash(keyOf(2)), keyOf(2), 0); ok || string(got) != "head" {
		t.Errorf("got %q, %v, want head, false", got, ok)
	}
}

func TestSameHash(t *testing.T) {
	c := newCache(t, l1.Options{MaxBytes: 1 << 20})
	for i := range 20 {
		if !c.Put(42, keyOf(i), 1, record(keyOf(i), 1, i), l1.PutOptions{}) {
			t.Fatalf("put %d refused", i)
		}
	}
	for i := range 20 {
		p, ok := c.Get(42, keyOf(i), 0)
		if !ok || !bytes.Equal(p.Bytes(), record(keyOf(i), 1, i)) {
			t.Errorf("get %d: %v, %q", i, ok, p.Bytes())
		}
		p.Release()
	}
	for i := 0; i < 20; i += 2 {
		c.Delete(42, keyOf(i), math.MaxUint64)
	}
	for i := range 20 {
		p, ok := c.Get(42, keyOf(i), 0)
		if ok != (i%2 == 1) {
			t.Errorf("get %d after deletes: %v", i, ok)
		}
		p.Release()
	}
}

func TestExpiry(t *testing.T) {
	now := int64(1_700_000_000_000)
	c := newCache(t, l1.Options{MaxBytes: 1 << 20, Now: func() int64 { return now }})
	put(c, 1, 1, 100, l1.PutOptions{ExpiresAtMilli: now + 1})
	put(c, 2, 1, 100, l1.PutOptions{})
	put(c, 3, 1, 100, l1.PutOptions{ExpiresAtMilli: now + 1, Pinned: true})
	f := func(i int, at int64, want uint64) {
		t.Helper()
		if got := get(c, i, at); got != want {
			t.Errorf("get %d at %+d: version %d, want %d", i, at-now, got, want)
		}
	}
	f(1, now, 1)
	f(1, now+1, 0)
	f(1, now, 0) // it is gone, not hidden
	f(2, math.MaxInt64, 1)
	f(3, now, 1)
	f(3, now+1, 0) // pinned: absent to reads, but kept for its owner
	if got := c.Len(); got != 2 {
		t.Errorf("len %d, want 2", got)
	}
}

// Expired entries are the first to leave when room is needed.
func TestExpiredLeaveFirst(t *testing.T) {
	now, expired, others := int64(1_700_000_000_000), 0, 0
	c := newCache(t, l1.Options{MaxBytes: 1 << 20, Now: func() int64 { return now }, Events: l1.Events{
		Evicted: func(_ uint64, _ int, over bool) {
			if over {
				expired++
			} else {
				others++
			}
		}}})
	for i := 0; c.Stats().Evicted == 0; i++ {
		put(c, i, 1, 1000, l1.PutOptions{ExpiresAtMilli: now + 100 + int64(i%2)*1e9})
	}
	now += 101
	expired, others = 0, 0
	for i := range 100 {
		put(c, 1e6+i, 1, 1000, l1.PutOptions{})
	}
	if others > 5 || expired < 60 { // some find a free slot
		t.Errorf("%d expired and %d others left, want nearly all expired", expired, others)
	}
}

func TestStaleAndUnpin(t *testing.T) {
	c := newCache(t, l1.Options{MaxBytes: 1 << 20})
	stale := func() bool {
		p, _ := c.Get(hash(keyOf(1)), keyOf(1), 0)
		defer p.Release()
		return p.Stale()
	}
	put(c, 1, 5, 100, l1.PutOptions{Pinned: true})
	if c.SetStale(hash(keyOf(1)), keyOf(1), 4) || stale() {
		t.Error("stale by a purge of older versions")
	}
	if !c.SetStale(hash(keyOf(1)), keyOf(1), 5) || !stale() || c.SetStale(hash(keyOf(1)), keyOf(1), 5) {
		t.Error("not stale once")
	}
	if c.PinnedBytes() == 0 || c.Unpin(hash(keyOf(1)), keyOf(1), 4) || !c.Unpin(hash(keyOf(1)), keyOf(1), 5) || c.PinnedBytes() != 0 {
		t.Errorf("pinned bytes %d after unpin", c.PinnedBytes())
	}
	put(c, 1, 6, 100, l1.PutOptions{})
	if stale() {
		t.Error("a new version is stale")
	}
}

func TestSizes(t *testing.T) {
	for chunk := 16 << 10; chunk <= 256<<10; chunk *= 2 {
		s := l1.Sizes(chunk)
		if s[len(s)-1] != chunk/4 {
			t.Errorf("chunk %d: greatest class %d, want %d", chunk, s[len(s)-1], chunk/4)
		}
		for i := 1; i < len(s); i++ {
			if ratio := float64(s[i]) / float64(s[i-1]); ratio <= 1 || ratio > 1.26 {
				t.Errorf("chunk %d: classes %d and %d are %.2f apart", chunk, s[i-1], s[i], ratio)
			}
		}
	}
}

// The packed frequency follows f ← 1 + f·2^(−gap/H).
func TestFrequency(t *testing.T) {
	f := func(halfLife float64, now uint32, ticks ...uint32) {
		t.Helper()
		freq, last := 1.0, ticks[0]
		for _, tick := range ticks[1:] {
			freq, last = 1+freq*math.Exp2(-float64(tick-last)/halfLife), tick
		}
		want := math.Log2(freq) - float64(now-last)/halfLife
		if got := l1.Hit(halfLife, now, ticks...); math.Abs(got-want) > 0.05 {
			t.Errorf("H %v, hits at %v: log2 f = %.3f, want %.3f", halfLife, ticks, got, want)
		}
	}
	f(100, 0, 0)
	f(100, 100, 0)
	f(100, 5000, 0) // far below 2^-30: still ordered
	f(100, 10, 10, 10, 10, 10)
	f(100, 300, 0, 50, 100, 250)
	f(1e6, 1e6, 0, 5, 1e5, 9e5)
	f(100, 40, math.MaxUint32-20+1, 40) // the clock wraps
	var many []uint32
	for i := range uint32(20) {
		many = append(many, i*30)
	}
	f(100, 600, many...)
}

// A hot entry is counted by chance but not wrongly.
func TestFrequencyOfHotEntries(t *testing.T) {
	ticks := make([]uint32, 20000)
	want := math.Log2(float64(len(ticks)))
	if got := l1.Hit(1e9, 0, ticks...); math.Abs(got-want) > 0.5 {
		t.Errorf("log2 f = %.2f after 20000 hits, want %.2f", got, want)
	}
}
