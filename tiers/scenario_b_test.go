package tiers_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/edgenode/edgenode/tiers"
	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/l3"
	"github.com/edgenode/edgenode/tiers/tiertest"
)

func del(t *testing.T, e *tiers.Engine, id string) tiers.Receipt {
	t.Helper()
	r, err := e.Delete(t.Context(), key(t, id), nil, 0)
	if err != nil {
		t.Fatalf("delete %q: %v", id, err)
	}
	return r
}

// reopen closes e and starts an engine on the same directory.
func reopen(t *testing.T, e *tiers.Engine, dir string, change func(*tiers.Options)) *tiers.Engine {
	t.Helper()
	if err := e.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	return open(t, dir, change)
}

// TestB1_DeleteBeforeFlush: the put and its delete wait in one batch.
func TestB1_DeleteBeforeFlush(t *testing.T) { overBackends(t, testB1DeleteBeforeFlush) }

func testB1DeleteBeforeFlush(t *testing.T) {
	dir := t.TempDir()
	e := open(t, dir, func(o *tiers.Options) { o.BatchFlush = 1 << 40 })
	put(t, e, "k", "v")
	del(t, e, "k")
	wantAbsent(t, e, "k")
	flush(t, e)
	wantAbsent(t, e, "k")
	e = reopen(t, e, dir, nil)
	wantAbsent(t, e, "k")
}

// TestB1_DeleteOvertakesPut: puts and deletes of one id wait for the disk
// together; whichever wakes first, the last one in order wins.
func TestB1_DeleteOvertakesPut(t *testing.T) { overBackends(t, testB1DeleteOvertakesPut) }

func testB1DeleteOvertakesPut(t *testing.T) {
	e := open(t, t.TempDir(), nil)
	for i := range scale(2000, 200) {
		id := fmt.Sprintf("o/%d", i)
		var mu sync.Mutex
		var last tiers.Receipt
		lastIsPut := false
		note := func(r tiers.Receipt, put bool) {
			mu.Lock()
			defer mu.Unlock()
			if r.Version > last.Version {
				last, lastIsPut = r, put
			}
		}
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() { note(put(t, e, id, "v"), true) })
			wg.Go(func() { note(del(t, e, id), false) })
		}
		wg.Wait()
		if _, ok := get(t, e, id); ok != lastIsPut {
			t.Fatalf("%s: the last write is a put: %v; found: %v", id, lastIsPut, ok)
		}
	}
}

// TestB2_DeleteDuringOutageAndRestart: the item is in L3 when L3 goes down.
func TestB2_DeleteDuringOutageAndRestart(t *testing.T) {
	overBackends(t, testB2DeleteDuringOutageAndRestart)
}

func testB2DeleteDuringOutageAndRestart(t *testing.T) {
	dir, store := t.TempDir(), &tiertest.Store{}
	e := open(t, dir, func(o *tiers.Options) { o.WrapStore = store.Wrap })
	put(t, e, "k", "v")
	flush(t, e)
	store.SetDown(true)
	del(t, e, "k")
	wantAbsent(t, e, "k")
	e = reopen(t, e, dir, nil)
	wantAbsent(t, e, "k")
	flush(t, e)
	wantAbsent(t, e, "k")
	if st, err := e.Status(t.Context(), key(t, "k")); err != nil || !st.Tombstone || st.Where != tiers.StatusSynced {
		t.Errorf("status %+v, %v, want a synced tombstone", st, err)
	}
}

// TestB3_PutAndDeleteDuringOutage: both drain when L3 is back.
func TestB3_PutAndDeleteDuringOutage(t *testing.T) { overBackends(t, testB3PutAndDeleteDuringOutage) }

func testB3PutAndDeleteDuringOutage(t *testing.T) {
	store := &tiertest.Store{}
	e := open(t, t.TempDir(), func(o *tiers.Options) { o.WrapStore = store.Wrap })
	store.SetDown(true)
	put(t, e, "k", "v")
	del(t, e, "k")
	store.SetDown(false)
	flush(t, e)
	wantAbsent(t, e, "k")
}

// TestB4_LatePromotionIsThrownAway: a read of L3 is held up while its id is
// written, deleted, or deleted by prefix; all of that is flushed and over when
// the read goes on.
func TestB4_LatePromotionIsThrownAway(t *testing.T) {
	overSQL(t, testB4LatePromotionIsThrownAway)
}

func testB4LatePromotionIsThrownAway(t *testing.T) {
	f := func(name string, write func(e *tiers.Engine), want string) {
		t.Run(name, func(t *testing.T) {
			dir, store := t.TempDir(), &tiertest.Store{}
			e := open(t, dir, nil)
			put(t, e, "k", "v1")
			e = reopen(t, e, dir, func(o *tiers.Options) { o.WrapStore = store.Wrap }) // L1 is empty
			reading, goOn := make(chan struct{}), make(chan struct{})
			var once sync.Once
			store.OnGet(func(item.Key) {
				held := false
				once.Do(func() { held = true })
				if held {
					close(reading)
					<-goOn
				}
			})
			done := make(chan struct{})
			go func() {
				defer close(done)
				get(t, e, "k") // began before the write: either answer is right
			}()
			<-reading
			write(e)
			flush(t, e)
			close(goOn)
			<-done
			got, _ := get(t, e, "k")
			if got != want {
				t.Errorf("after the late read: %q, want %q", got, want)
			}
			again, _ := get(t, e, "k")
			if again != want {
				t.Errorf("from L1: %q, want %q", again, want)
			}
		})
	}
	f("put", func(e *tiers.Engine) { put(t, e, "k", "v2") }, "v2")
	f("delete", func(e *tiers.Engine) { del(t, e, "k") }, "")
	f("delete by prefix", func(e *tiers.Engine) {
		if _, err := e.DeleteMatching(t.Context(), tiers.Query{Prefix: "k"}, 0); err != nil {
			t.Error(err)
		}
	}, "")
}

// An op is one call on a single id, for the linearizability check.
type op struct {
	kind    string // put, get, delete, cas
	content string // written, or of the condition
	next    string // cas: written
	got     string
	failed  bool // cas: the condition did not hold
}

// register is the sequential behaviour of one id; the state is its content.
var register = porcupine.Model{
	Init: func() any { return "" },
	Step: func(state, input, output any) (bool, any) {
		in, out, s := input.(op), output.(op), state.(string)
		switch in.kind {
		case "put":
			return true, in.content
		case "delete":
			return true, ""
		case "cas":
			if out.failed {
				return s != in.content, s
			}
			return s == in.content, in.next
		}
		return out.got == s, s
	},
	Equal: func(a, b any) bool { return a == b },
}

// TestB7_HistoriesAreLinearizable: clients put, get, delete and compare-and-set
// one id, through flushes.
func TestB7_HistoriesAreLinearizable(t *testing.T) { overBackends(t, testB7HistoriesAreLinearizable) }

func testB7HistoriesAreLinearizable(t *testing.T) {
	e := open(t, t.TempDir(), func(o *tiers.Options) { o.BatchFlush = time.Millisecond })
	start := time.Now()
	for h := range scale(1000, 50) {
		id := fmt.Sprintf("h/%d", h)
		var mu sync.Mutex
		var history []porcupine.Operation
		var wg sync.WaitGroup
		for client := range 4 {
			wg.Go(func() {
				for i := range 20 {
					in := op{kind: []string{"put", "get", "delete", "cas", "get"}[(client+i*3)%5], content: fmt.Sprintf("%d.%d", client, i)}
					call := time.Since(start)
					in, out := perform(t, e, id, in)
					mu.Lock()
					history = append(history, porcupine.Operation{
						ClientId: client, Input: in, Call: int64(call), Output: out, Return: int64(time.Since(start)),
					})
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		if !porcupine.CheckOperations(register, history) {
			t.Fatalf("history %d of %s is not linearizable", h, id)
		}
	}
}

// perform does one operation; a compare-and-set reads what it expects first.
func perform(t *testing.T, e *tiers.Engine, id string, in op) (op, op) {
	out := in
	switch in.kind {
	case "put":
		put(t, e, id, in.content)
	case "delete":
		del(t, e, id)
	case "get":
		out.got, _ = get(t, e, id)
	case "cas":
		in.next = in.content
		in.content, _ = get(t, e, id)
		c := tiers.Condition{NoneAny: in.content == ""}
		if in.content != "" {
			c.Match = []item.ETag{item.ETagOf("application/octet-stream", []byte(in.content))}
		}
		_, err := e.CompareAndSubmit(t.Context(), &c, &tiers.Write{Key: key(t, id), Content: []byte(in.next)})
		if out.failed = errors.Is(err, tiers.ErrPrecondition); err != nil && !out.failed {
			t.Errorf("compare and set: %v", err)
		}
	}
	return in, out
}

// TestB7_NoIncrementIsLost: eight writers count up one id by compare-and-set.
func TestB7_NoIncrementIsLost(t *testing.T) { overBackends(t, testB7NoIncrementIsLost) }

func testB7NoIncrementIsLost(t *testing.T) {
	e := open(t, t.TempDir(), func(o *tiers.Options) { o.BatchFlush = time.Millisecond })
	put(t, e, "n", "v0")
	var done atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range scale(10_000, 100) {
				now, _ := get(t, e, "n")
				n, _ := strconv.Atoi(now[1:])
				c := tiers.Condition{Match: []item.ETag{item.ETagOf("application/octet-stream", []byte(now))}}
				_, err := e.CompareAndSubmit(t.Context(), &c, &tiers.Write{Key: key(t, "n"), Content: fmt.Appendf(nil, "v%d", n+1)})
				switch {
				case err == nil:
					done.Add(1)
				case !errors.Is(err, tiers.ErrPrecondition):
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	want(t, e, "n", fmt.Sprintf("v%d", done.Load()))
}

// TestB7_TiersAgree: two writers on one id; afterwards L1, L3 and the order of
// acknowledgements agree.
func TestB7_TiersAgree(t *testing.T) { overBackends(t, testB7TiersAgree) }

func testB7TiersAgree(t *testing.T) {
	dir := t.TempDir()
	e := open(t, dir, func(o *tiers.Options) { o.BatchFlush = time.Millisecond })
	var mu sync.Mutex
	var last tiers.Receipt
	var content string
	var wg sync.WaitGroup
	for w := range 2 {
		wg.Go(func() {
			for i := range scale(100_000, 1_000) {
				c := fmt.Sprintf("%d/%d", w, i)
				r := put(t, e, "k", c)
				mu.Lock()
				if r.Version > last.Version {
					last, content = r, c
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	want(t, e, "k", content)
	flush(t, e)
	want(t, e, "k", content)
	e = reopen(t, e, dir, nil)
	want(t, e, "k", content)
}

// TestB9_BulkDeleteIsWhole: many items under a prefix, in L3, pending and in
// L1, are deleted by one call.
func TestB9_BulkDeleteIsWhole(t *testing.T) { overBackends(t, testB9BulkDeleteIsWhole) }

func testB9BulkDeleteIsWhole(t *testing.T) {
	n := scale(150_000, 4_000)
	if raceEnabled {
		n /= 4
	}
	dir, store := t.TempDir(), &tiertest.Store{}
	e := open(t, dir, func(o *tiers.Options) { o.WrapStore, o.JournalMaxBytes = store.Wrap, 1<<30 })
	submitAll(t, e, n) // under n/
	flush(t, e)
	store.SetDown(true)
	for i := range 100 { // pending when the delete comes, some of them new
		put(t, e, fmt.Sprintf("n/%06d", n-50+i), "pending")
	}
	put(t, e, "nn", "stays")
	r, err := e.DeleteMatching(t.Context(), tiers.Query{Prefix: "n/"}, 0)
	if err != nil {
		t.Fatal(err)
	}
	if r.Complete {
		t.Error("the delete says that it is complete while L3 is down")
	}
	for _, i := range []int{0, 1, n / 2, n - 1, n + 10} {
		h, ok, err := e.Get(t.Context(), key(t, fmt.Sprintf("n/%06d", i)), tiers.ReadOptions{})
		if ok || err != nil && !errors.Is(err, tiers.ErrUnavailable) {
			t.Errorf("item %d while L3 is down: %v, %v; want absent, or nobody can tell", i, ok, err)
		}
		h.Release()
	}
	put(t, e, "n/after", "new") // newer than the delete
	store.SetDown(false)
	flush(t, e)
	if got, exact, err := e.Count(t.Context(), tiers.Query{Prefix: "n/"}); err != nil || got != 1 || !exact {
		t.Errorf("%d items left under the prefix (%v, %v), want the one written after", got, exact, err)
	}
	e = reopen(t, e, dir, nil)
	want(t, e, "n/after", "new")
	want(t, e, "nn", "stays")
	wantAbsent(t, e, "n/000000")
	if deletes := countChanges(t, e, dir); deletes < n {
		t.Errorf("%d deletes in the change sequence, want one for each of %d", deletes, n)
	}
}

// countChanges closes e and counts the deletes in L3's change sequence.
func countChanges(t *testing.T, e *tiers.Engine, dir string) int {
	t.Helper()
	e.Close(context.Background())
	s := openL3(t, dir)
	deletes, after := 0, uint64(0)
	for {
		n := 0
		err := s.Changes(t.Context(), after, 1000, func(c l3.Change) error {
			n++
			after = c.Seq
			if c.Op == l3.ChangeDelete {
				deletes++
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			return deletes
		}
	}
}

// TestB10_PrefixIsBytes: nothing in a prefix is a pattern.
func TestB10_PrefixIsBytes(t *testing.T) { overBackends(t, testB10PrefixIsBytes) }

func testB10PrefixIsBytes(t *testing.T) {
	for _, flushed := range []bool{false, true} {
		e := open(t, t.TempDir(), func(o *tiers.Options) { o.BatchFlush = 1 << 40 })
		ids := []string{"a_b1", "axb2", "A_B3", "%x", "a%b", "a\u00e9", "ae\u0301"}
		for _, id := range ids {
			put(t, e, id, id)
		}
		if flushed {
			flush(t, e)
		}
		f := func(prefix string, gone ...string) {
			t.Helper()
			if _, err := e.DeleteMatching(t.Context(), tiers.Query{Prefix: prefix}, 0); err != nil {
				t.Fatal(err)
			}
			for _, id := range ids {
				left := true
				for _, g := range gone {
					left = left && g != id
				}
				if _, ok := get(t, e, id); ok != left {
					t.Errorf("flushed %v, after prefix %q: %q is there: %v, want %v", flushed, prefix, id, ok, left)
				}
			}
		}
		f("a_b", "a_b1")
		f("%", "a_b1", "%x")
		f("a\u00e9", "a_b1", "%x", "a\u00e9")
		if _, err := e.DeleteMatching(t.Context(), tiers.Query{Prefix: strings.Repeat("z", 1025)}, 0); !errors.Is(err, tiers.ErrInvalid) {
			t.Errorf("a prefix longer than an id: %v, want ErrInvalid", err)
		}
	}
}
