package l1_test

import (
	"bytes"
	"fmt"
	"math"
	"testing"

	"pgregory.net/rapid"

	"github.com/edgenode/edgenode/tiers/eviction"
	"github.com/edgenode/edgenode/tiers/l1"
)

type modelEntry struct {
	version       uint64
	size          int
	expires       int64
	pinned, stale bool
}

// The cache against a map. It may have lost what is not pinned; what it returns
// must be what the map holds, and what is pinned must be there.
func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := int64(1_000_000)
		way := rapid.IntRange(0, 2).Draw(t, "way")
		c := l1.New(l1.Options{MaxBytes: 1 << 20, Scorer: eviction.Auto{}, Contest: way == 1, Queues: way == 2,
			Seed: 1, Now: func() int64 { return now }})
		model := map[int]*modelEntry{}
		var held []held
		key := rapid.IntRange(0, 400)
		version := rapid.Uint64Range(1, 12)
		size := rapid.OneOf(rapid.IntRange(0, 600), rapid.IntRange(0, 8000), rapid.IntRange(0, 300_000))
		reserved := int64(0)
		t.Repeat(map[string]func(*rapid.T){
			"put": func(t *rapid.T) {
				i, v, n := key.Draw(t, "key"), version.Draw(t, "version"), size.Draw(t, "size")
				e := &modelEntry{version: v, size: n, pinned: rapid.IntRange(0, 9).Draw(t, "pinned") == 0 && n < 5000}
				if rapid.Bool().Draw(t, "expires") {
					e.expires = now + rapid.Int64Range(1, 2000).Draw(t, "ttl")
				}
				o := l1.PutOptions{ExpiresAtMilli: e.expires, Pinned: e.pinned}
				old := model[i]
				stored := put(c, i, v, n, o)
				if stored && old != nil && old.pinned && old.version > v {
					t.Fatalf("key %d: version %d replaced pinned %d", i, v, old.version)
				}
				if stored {
					model[i] = e
				}
			},
			"fill": func(t *rapid.T) {
				for i := range 200 {
					n := (i*i*37 + 100) % 5000
					if k := i + 1000; put(c, k, 1, n, l1.PutOptions{}) {
						model[k] = &modelEntry{version: 1, size: n}
					}
				}
			},
			"get": func(t *rapid.T) { check(t, c, model, key.Draw(t, "key"), now) },
			"hold": func(t *rapid.T) {
				i := key.Draw(t, "key")
				if p, ok := c.Get(hash(keyOf(i)), keyOf(i), now); ok {
					held = append(held, hold(p))
				}
			},
			"release": func(t *rapid.T) {
				if len(held) > 0 {
					held[0].release(t)
					held = held[1:]
				}
			},
			"delete": func(t *rapid.T) {
				i, v := key.Draw(t, "key"), version.Draw(t, "version")
				if del(c, i, v) && model[i] != nil && model[i].version > v {
					t.Fatalf("key %d: delete up to %d removed %d", i, v, model[i].version)
				}
				if model[i] != nil && model[i].version <= v {
					delete(model, i)
				}
			},
			"unpin": func(t *rapid.T) {
				i := key.Draw(t, "key")
				if e := model[i]; e != nil {
					if got := c.Unpin(hash(keyOf(i)), keyOf(i), e.version); got != e.pinned {
						t.Fatalf("unpin %d: %v, want %v", i, got, e.pinned)
					}
					e.pinned = false
				}
			},
			"time": func(t *rapid.T) { now += rapid.Int64Range(0, 500).Draw(t, "ms") },
			"stale": func(t *rapid.T) {
				i := key.Draw(t, "key")
				if e := model[i]; e != nil && c.SetStale(hash(keyOf(i)), keyOf(i), e.version) {
					e.stale = true
				}
			},
			"reserve": func(t *rapid.T) {
				if n := rapid.Int64Range(0, 300_000).Draw(t, "bytes"); reserved > 0 {
					c.Unreserve(reserved)
					reserved = 0
				} else if c.Reserve(n) {
					reserved = n
				}
			},
			"move": func(t *rapid.T) { c.MoveOne() },
			"": func(t *rapid.T) {
				if c.UsedBytes() > c.MaxBytes() {
					t.Fatalf("used %d of %d", c.UsedBytes(), c.MaxBytes())
				}
			},
		})
		for i := range model {
			check(t, c, model, i, now)
		}
		for _, h := range held {
			h.release(t)
		}
		if err := c.Audit(); err != nil {
			t.Fatal(err)
		}
	})
}

func check(t *rapid.T, c *l1.Cache, model map[int]*modelEntry, i int, now int64) {
	p, ok := c.Get(hash(keyOf(i)), keyOf(i), now)
	defer p.Release()
	e := model[i]
	if e != nil && e.expires != 0 && now >= e.expires {
		if ok {
			t.Fatalf("get %d: expired at %d, served at %d", i, e.expires, now)
		}
		if !e.pinned {
			delete(model, i)
		}
		return
	}
	if !ok {
		if e != nil && e.pinned {
			t.Fatalf("get %d: pinned version %d is gone", i, e.version)
		}
		delete(model, i)
		return
	}
	if e == nil {
		t.Fatalf("get %d: served what was deleted", i)
	}
	if !bytes.Equal(p.Bytes(), record(keyOf(i), e.version, e.size)) || p.Stale() != e.stale {
		t.Fatalf("get %d: not version %d of %d bytes, stale %v", i, e.version, e.size, p.Stale())
	}
}

// held is a pin and what it must go on showing.
type held struct {
	pin  l1.Pin
	want []byte
}

func hold(p l1.Pin) held { return held{p, bytes.Clone(p.Bytes())} }

func (h held) release(tb interface{ Fatalf(string, ...any) }) {
	if !bytes.Equal(h.pin.Bytes(), h.want) {
		tb.Fatalf("a pinned record changed")
	}
	h.pin.Release()
}

// Records keep their bytes while pinned, whatever happens to the cache.
func TestPinnedViewsSurviveChurn(t *testing.T) {
	c := newCache(t, l1.Options{MaxBytes: 1 << 20})
	var views []held
	for i := range 3000 {
		put(c, i, 1, (i*7919)%3000, l1.PutOptions{})
		if i%10 == 0 && len(views) < 100 {
			if p, ok := c.Get(hash(keyOf(i)), keyOf(i), 0); ok {
				views = append(views, hold(p))
			}
			switch i % 3 {
			case 0:
				del(c, i, math.MaxUint64)
			case 1:
				put(c, i, 2, (i*7919)%3000, l1.PutOptions{})
			}
		}
	}
	for _, v := range views {
		v.release(t)
	}
	if len(views) < 90 {
		t.Errorf("only %d views were pinned", len(views))
	}
}

func TestPinnedContentNeverLeaves(t *testing.T) {
	c := newCache(t, l1.Options{MaxBytes: 1 << 20})
	pinned := 0
	for put(c, pinned, 1, 1000, l1.PutOptions{Pinned: true}) {
		pinned++
	}
	if pinned < 500 {
		t.Fatalf("only %d fit", pinned)
	}
	if !c.Reserve(c.MaxBytes() - c.UsedBytes()) {
		t.Fatal("what is free cannot be reserved")
	}
	if put(c, 1e6, 1, 5000, l1.PutOptions{}) || c.Reserve(200_000) {
		t.Error("room was made although all is pinned")
	}
	for i := range pinned {
		if get(c, i, 0) != 1 {
			t.Fatalf("pinned %d of %d is gone", i, pinned)
		}
	}
	if !put(c, 3, 2, 1000, l1.PutOptions{Pinned: true}) {
		t.Error("a pinned record cannot be replaced in place")
	}
	if p := c.Pressure(); p < 0.7 {
		t.Errorf("pressure %v", p)
	}
	for i := range pinned / 2 {
		c.Unpin(hash(keyOf(2*i)), keyOf(2*i), 2)
	}
	if !c.Reserve(200_000) || !put(c, 1e6, 1, 5000, l1.PutOptions{}) {
		t.Error("no room although half is unpinned")
	}
	for i := 1; i < pinned; i += 2 {
		if get(c, i, 0) == 0 {
			t.Fatalf("pinned %d is gone", i)
		}
	}
	c.Unreserve(200_000)
}

// The mix of sizes changes completely, several times: the whole budget follows.
func TestSizesDrift(t *testing.T) {
	// By bytes, so that the ranking itself does not hold on to small records.
	c := newCache(t, l1.Options{MaxBytes: 4 << 20, Scorer: eviction.Auto{Bytes: 1}})
	next := 0
	for _, size := range []int{3000, 12_000, 60_000, 2400, 400_000, 3000} {
		payload := 0
		for filled := 0; filled < 12<<20; filled += size + 200 {
			if !put(c, next, 1, size, l1.PutOptions{}) {
				t.Fatalf("put of %d bytes refused", size)
			}
			next++
		}
		var cursor l1.Cursor
		for !c.Sweep(&cursor, 100, func(r []byte, _ bool) l1.Verdict {
			if len(r) >= size && len(r) < size+200 {
				payload += len(r)
			}
			return l1.Keep
		}) {
		}
		if share := float64(payload) / float64(c.MaxBytes()); share < 0.7 {
			t.Errorf("after records of %d bytes only %.2f of the budget is theirs", size, share)
		}
		audit(t, c)
	}
}

func TestResize(t *testing.T) {
	c := newCache(t, l1.Options{MaxBytes: 4 << 20})
	fill := func() {
		for i := range 3000 {
			put(c, i, 1, 4000, l1.PutOptions{})
		}
	}
	for _, size := range []int64{4 << 20, 2 << 20, 16 << 20, 1 << 20} {
		if !c.Resize(size) {
			t.Fatalf("resize to %d failed", size)
		}
		audit(t, c)
		fill()
		if used := c.UsedBytes(); used > size || used < min(size, 10<<20)*8/10 {
			t.Errorf("used %d of %d", used, size)
		}
	}
	for i := range 600 {
		put(c, i, 2, 1000, l1.PutOptions{Pinned: true})
	}
	if !c.Resize(2<<20) || !c.Reserve(1<<20) {
		t.Fatal("no room")
	}
	c.Unreserve(1 << 20)
}

func TestSweep(t *testing.T) {
	c := newCache(t, l1.Options{MaxBytes: 4 << 20})
	for i := range 1000 {
		put(c, i, 1, i, l1.PutOptions{})
	}
	for i := range 300 {
		del(c, 3*i, 1)
	}
	seen := map[string]int{}
	var cursor l1.Cursor
	steps := 1
	for ; !c.Sweep(&cursor, 10, func(r []byte, stale bool) l1.Verdict {
		seen[string(r)]++
		switch len(r) % 3 {
		case 0:
			return l1.Drop
		case 1:
			return l1.MarkStale
		}
		return l1.Keep
	}); steps++ {
		for i := range 5 { // newcomers while it goes on
			put(c, 5000+5*steps+i, 1, 50, l1.PutOptions{})
		}
	}
	if steps < 60 {
		t.Errorf("%d steps, want them bounded", steps)
	}
	for i := range 1000 {
		r := record(keyOf(i), 1, i)
		p, ok := c.Get(hash(keyOf(i)), keyOf(i), 0)
		gone := i%3 == 0 && i < 900
		if (seen[string(r)] == 1) == gone {
			t.Errorf("%d was shown %d times", i, seen[string(r)])
		}
		if want := !gone && len(r)%3 != 0; ok != want || ok && p.Stale() != (len(r)%3 == 1) {
			t.Errorf("%d after the sweep: %v, stale %v", i, ok, p.Stale())
		}
		p.Release()
	}
}

func ExampleCache() {
	c := l1.New(l1.Options{MaxBytes: 16 << 20, Scorer: eviction.Auto{}})
	key := []byte("igreeting")
	c.Put(hash(key), key, 1, record(key, 1, 5), l1.PutOptions{})
	if pin, ok := c.Get(hash(key), key, 0); ok {
		fmt.Println(len(pin.Bytes()), pin.Stale())
		pin.Release()
	}
	// Output: 54 false
}
