package tiers_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/edgenode/edgenode/tiers"
	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/tiertest"
)

// TestA17_KeysAreBytes: ids that differ by case, accent, composition or a space
// at the end, of every length that is allowed, are distinct in every tier, or
// refused before anything is acknowledged.
func TestA17_KeysAreBytes(t *testing.T) { overBackends(t, testA17KeysAreBytes) }

func testA17KeysAreBytes(t *testing.T) {
	for _, id := range []string{"", "a\x00", "a\nb", "\xff", "a\xc3", "\u0085", strings.Repeat("x", 1025)} {
		if _, err := item.IDKey(id); !errors.Is(err, item.ErrBadID) {
			t.Errorf("%.20q: %v, want ErrBadID", id, err)
		}
	}
	long := func(n int, end string) string { return strings.Repeat("k", n-len(end)) + end }
	ids := []string{
		"a", "A", "a ", "a  ", "\u00e9", "e\u0301", "e", "\u00df", "ss", "I", "\u0131", "i", "%", "_", "\\", "'", "\"", "a/b", "a/B", "a.b", "a:b",
		"\U0001f600", "\U0001f601", "0", "00", "1e1", "10", "\u00a0", " ",
		long(255, "a"), long(255, "A"), long(256, "a"), long(256, "A"), long(1023, " "), long(1024, "a"), long(1024, "A"),
	}
	dir := t.TempDir()
	e := open(t, dir, nil)
	content := func(id string) string { return fmt.Sprintf("of %x", id) }
	for _, id := range ids {
		put(t, e, id, content(id))
	}
	check := func(when string, e *tiers.Engine) {
		t.Helper()
		for _, id := range ids {
			if got, ok := get(t, e, id); !ok || got != content(id) {
				t.Errorf("%s: %.40q is %.40q, %v", when, id, got, ok)
			}
		}
		n, _, err := e.Count(t.Context(), tiers.Query{})
		if err != nil || n != int64(len(ids)) {
			t.Errorf("%s: %d items, %v, want %d", when, n, err, len(ids))
		}
	}
	check("pending", e)
	flush(t, e)
	check("in L1", e)
	e = reopen(t, e, dir, nil)
	check("below L1", e)
	e = reopen(t, e, dir, func(o *tiers.Options) { o.RedisURL = "" })
	check("in L3", e)
	del(t, e, "a")
	del(t, e, long(1024, "A"))
	flush(t, e)
	e = reopen(t, e, dir, nil)
	wantAbsent(t, e, "a")
	wantAbsent(t, e, long(1024, "A"))
	want(t, e, "A", content("A"))
	want(t, e, "a ", content("a "))
	want(t, e, long(1024, "a"), content(long(1024, "a")))
	last := item.Key(nil)
	n := 0
	if _, err := e.List(t.Context(), tiers.Query{}, func(v item.View) error {
		if n++; bytes.Compare(last, v.Key()) >= 0 {
			t.Errorf("listed %.40q after %.40q", v.Key(), last)
		}
		last = bytes.Clone(v.Key())
		return nil
	}); err != nil || n != len(ids)-2 {
		t.Errorf("%d listed, %v, want %d", n, err, len(ids)-2)
	}
}

// residentBytes returns what the process has in memory; 0 where nobody says.
func residentBytes() int64 {
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	var size, resident int64
	if _, err := fmt.Sscan(string(b), &size, &resident); err != nil {
		return 0
	}
	return resident * int64(os.Getpagesize())
}

// TestD11_BulkLoadWithLittleMemory: many more bytes are loaded than memory may
// hold, the first of them while L3 is away. Each item has its result; nothing is
// refused while the journal has room; memory stays within its bound; all is there
// in the end.
func TestD11_BulkLoadWithLittleMemory(t *testing.T) {
	const batch, budget = 1000, 32 << 20
	n, early := scale(1_000_000, 12_000), 12_000
	if raceEnabled { // sizes are for the plain run
		n, early = 3_000, 2_000
	}
	store := &tiertest.Store{}
	e := open(t, t.TempDir(), func(o *tiers.Options) { o.WrapStore, o.L1MaxBytes, o.JournalMaxBytes = store.Wrap, budget, 1<<30 })
	content := bytes.Repeat([]byte("0123456789abcdef"), 256) // 48 MiB in the small size
	debug.FreeOSMemory()
	before, most := residentBytes(), int64(0)
	store.SetDown(true)
	last := item.Version(0)
	for from := 0; from < n; from += batch {
		if from == early {
			store.SetDown(false)
			e.ProbeL3()
		}
		ws, out := make([]*tiers.Write, batch), make([]tiers.Receipt, batch)
		for i := range ws {
			ws[i] = &tiers.Write{Key: key(t, fmt.Sprintf("n/%06d", from+i)), Content: content}
		}
		for {
			again, refused := ws[:0:0], 0
			e.SubmitMany(t.Context(), ws, out[:len(ws)])
			for i, r := range out[:len(ws)] {
				switch {
				case r.Err == nil && r.Version > last:
					last = r.Version
				case errors.Is(r.Err, tiers.ErrPressure) && from >= early:
					again, refused = append(again, ws[i]), refused+1
				default:
					t.Fatalf("item %d of the batch at %d: version %s after %s, %v", i, from, r.Version, last, r.Err)
				}
			}
			if ws = again; refused == 0 {
				break
			}
			flush(t, e)
		}
		most = max(most, residentBytes()-before)
		if h := e.Health(t.Context()); h.L1Bytes > h.L1Max {
			t.Fatalf("L1 holds %d bytes of %d", h.L1Bytes, h.L1Max)
		}
	}
	t.Logf("%d MiB more in memory at most", most>>20)
	if most > budget+96<<20 && !raceEnabled {
		t.Errorf("%d MiB more in memory, want at most the budget and 96 MiB", most>>20)
	}
	store.SetDown(false)
	e.ProbeL3()
	flush(t, e)
	if got, _, err := e.Count(t.Context(), tiers.Query{Prefix: "n/"}); err != nil || got != int64(n) {
		t.Errorf("%d items in L3, %v, want %d", got, err, n)
	}
	want(t, e, "n/000000", string(content))
	want(t, e, fmt.Sprintf("n/%06d", n-1), string(content))
}
