//go:build linux && !race && !slabheap

package l1_test

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/edgenode/edgenode/tiers/l1"
)

// resident returns the memory that the process holds, its garbage, the pages of its
// binary, which come in as they are run, and what the runtime has for itself aside:
// stacks, tables of spans and the collector's lists come and go by some MiB.
func resident(t *testing.T) int64 {
	t.Helper()
	debug.FreeOSMemory()
	own := []metrics.Sample{
		{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/objects:bytes"},
		{Name: "/memory/classes/heap/released:bytes"},
	}
	metrics.Read(own)
	return residentNow(t) - int64(own[0].Value.Uint64()-own[1].Value.Uint64()-own[2].Value.Uint64())
}

// residentNow returns the memory that the process holds but for the pages of its
// binary.
func residentNow(t *testing.T) int64 {
	t.Helper()
	text, err := os.ReadFile("/proc/self/statm")
	var size, pages, ofFiles int64
	if err == nil {
		_, err = fmt.Sscan(string(text), &size, &pages, &ofFiles)
	}
	if err != nil {
		t.Fatal(err)
	}
	return (pages - ofFiles) * int64(os.Getpagesize())
}

// What the cache says it uses is what the system says it holds, within 12 MiB:
// full of small records, of all sizes after churn, after it shrank, after a
// purge, and after its end.
func TestAccountsMatchTheSystem(t *testing.T) {
	t.Run("pages", func(t *testing.T) { accountsMatch(t, func(*l1.Cache) {}) })
	t.Run("huge pages", func(t *testing.T) { accountsMatch(t, l1.UseHugePages) })
}

func accountsMatch(t *testing.T, prepare func(*l1.Cache)) {
	const budget, slack = 48 << 20, 3 << 20
	base := resident(t)
	c := newCache(t, l1.Options{MaxBytes: budget})
	prepare(c)
	check := func(what string) {
		t.Helper()
		got, want := resident(t)-base, c.UsedBytes()
		if got > want+slack || got < want-slack-want/20 { // the last chunk of a class may be untouched
			t.Errorf("%s: the process holds %d KiB more than before, the cache says %d KiB", what, got>>10, want>>10)
		}
		if err := l1.Holes(c); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if c.UsedBytes() > c.MaxBytes() {
			t.Errorf("%s: %d of %d bytes used", what, c.UsedBytes(), c.MaxBytes())
		}
	}
	n := 0
	for ; c.Stats().Evicted == 0; n++ {
		put(c, n, 1, 300, l1.PutOptions{})
	}
	check("full of small records")
	for i := range 1500 {
		put(c, i%400, uint64(i+2), 1<<(i%23)+i, l1.PutOptions{}) // to 4 MiB
	}
	check("after churn of all sizes")
	if !c.Resize(budget / 3) {
		t.Fatal("did not shrink")
	}
	check("after it shrank")
	for i := range n {
		del(c, i, 1e9)
	}
	for c.GiveBack(100) > 0 {
	}
	check("after a purge")
	c.Close()
	check("after the end")
}

// What fills a huge page with the first chunk is counted, stays for the next ones,
// and goes when the budget is needed and at the end. Once a part of a huge page was
// given back the system does not make it whole again.
func TestHugePages(t *testing.T) {
	c := newCache(t, l1.Options{MaxBytes: 256 << 20})
	put(c, 1, 1, 300, l1.PutOptions{})
	one := c.MappedBytes()
	if one != 256<<10 && one != 2<<20 { // a system without memory that begins with a huge page, and others
		t.Fatalf("%d bytes mapped for one record", one)
	}
	audit(t, c)
	c.GiveBack(100)
	if got := c.MappedBytes(); got != one {
		t.Errorf("%d bytes mapped after giving back, %d before", got, one)
	}
	n := 1
	for ; c.MappedBytes() == one && n < 100_000; n++ {
		put(c, n, 1, 3000, l1.PutOptions{})
	}
	if got := c.MappedBytes(); got != 2*one {
		t.Errorf("%d bytes mapped after %d", got, one)
	}
	for i := range n {
		del(c, i, 1)
	}
	c.Resize(c.UsedBytes() - one)
	audit(t, c)
	if got := c.MappedBytes(); got > one {
		t.Errorf("%d bytes mapped when there is room for %d", got, one)
	}
	if err := l1.Holes(c); err != nil {
		t.Error(err)
	}
	if l1.Collapses(c) {
		t.Error("what was given back of a huge page may come back with it")
	}
	c.Close()
	if got := c.MappedBytes(); got != 0 {
		t.Errorf("%d bytes mapped at the end", got)
	}
}

// With pages of 64 KiB, as some arm64 systems have, blocks are whole pages.
func TestPagesOf64KiB(t *testing.T) {
	c := newCache(t, l1.Options{MaxBytes: 4 << 20})
	l1.UsePages(c, 64<<10)
	for i := range 300 {
		put(c, i%40, uint64(i+1), 1<<(i%20), l1.PutOptions{}) // to 512 KiB
	}
	for _, n := range l1.Blocks(c) {
		if n%(64<<10) != 0 {
			t.Fatalf("a block of %d bytes", n)
		}
	}
}

// Where the system gives no memory, what is there stays and serves, a Put is
// refused or takes the place of others, and the error names the remedy.
func TestNoMemory(t *testing.T) {
	var told error
	c := newCache(t, l1.Options{MaxBytes: 64 << 20, Events: l1.Events{NoMemory: func(err error) { told = err }}})
	if err := c.Check(); err != nil {
		t.Fatal(err)
	}
	put(c, 1, 1, 100, l1.PutOptions{})
	l1.RefuseMemory(c, unix.ENOMEM)
	stored := 0
	for i := range 2000 {
		if put(c, 10+i, 1, 100+60*(i%1000), l1.PutOptions{}) {
			stored++
		}
	}
	if put(c, 9999, 1, 3_000_000, l1.PutOptions{}) {
		t.Error("an extent was found where there is no memory")
	}
	if !errors.Is(told, unix.ENOMEM) || !strings.Contains(told.Error(), "lower l1_max_bytes") || c.Check() == nil {
		t.Errorf("told %v, checked %v", told, c.Check())
	}
	if st := c.Stats(); st.Unmappable == 0 || stored == 0 || c.Len() == 0 {
		t.Errorf("%d stored, %d here, %d times no memory", stored, c.Len(), st.Unmappable)
	}
	l1.RefuseMemory(c, nil)
	if !put(c, 9999, 1, 3_000_000, l1.PutOptions{}) {
		t.Error("no record was stored when memory was there again")
	}
}

// A cache that nobody refers to any more leaves no mapping behind.
func TestForgottenCache(t *testing.T) {
	c := l1.New(l1.Options{MaxBytes: 1 << 20})
	put(c, 1, 1, 1000, l1.PutOptions{})
	gone := l1.Regions(c)
	if gone() {
		t.Fatal("nothing is mapped")
	}
	runtime.KeepAlive(c)
	for range 1000 {
		if runtime.GC(); gone() {
			return
		}
	}
	t.Error("the mapping is still there")
}
