package l2_test

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/l2"
	"github.com/edgenode/edgenode/tiers/tiertest/redistest"
)

// TestContract is what every way of running Redis must pass.
func TestContract(t *testing.T) {
	t.Run("single", func(t *testing.T) { contract(t, redistest.Start(t, redistest.Options{}).URL()) })
	t.Run("sentinel", func(t *testing.T) { contract(t, redistest.StartSentinel(t, redistest.Options{}).URL()) })
	t.Run("cluster", func(t *testing.T) { contract(t, redistest.StartCluster(t, redistest.Options{}).URL()) })
}

func contract(t *testing.T, url string) {
	s := open(t, url)
	t.Run("order", func(t *testing.T) { contractOrder(t, "alone-", apply1(s)) })
	t.Run("order in company", func(t *testing.T) { contractOrder(t, "company-", inCompany(s)) })
	t.Run("drop", func(t *testing.T) { contractDrop(t, s) })
	t.Run("many", func(t *testing.T) { contractMany(t, s) })
	t.Run("refused", func(t *testing.T) { contractRefused(t, s) })
	t.Run("bytes", func(t *testing.T) { contractBytes(t, s) })
	t.Run("mark", func(t *testing.T) { contractMark(t, s) })
	t.Run("probe", func(t *testing.T) { contractProbe(t, s) })
	t.Run("sweep", func(t *testing.T) { contractSweep(t, s) })
	t.Run("tree", func(t *testing.T) { contractTree(t, s) })
}

// An applier carries out one operation.
type applier struct {
	*l2.Store
	apply func(t testing.TB, op l2.Op) l2.Outcome
}

// apply1 applies an operation alone, which takes the script.
func apply1(s *l2.Store) applier {
	return applier{s, func(t testing.TB, op l2.Op) l2.Outcome { return apply(t, s, op)[0] }}
}

// inCompany applies an operation between replacements, which takes a transaction
// where there is one server.
func inCompany(s *l2.Store) applier {
	version := item.Version(0)
	return applier{s, func(t testing.TB, op l2.Op) l2.Outcome {
		var ops []l2.Op
		version++
		for i := range 20 {
			ops = append(ops, putOp(put(fmt.Sprint("company-of-", i), version, "a")))
		}
		ops[7] = op
		out := apply(t, s, ops...)
		for i := range out {
			if i != 7 && !out[i].Won {
				t.Errorf("replacement %d: %+v", i, out[i])
			}
		}
		return out[7]
	}}
}

// Both orders of two writes end in the greater one.
func contractOrder(t *testing.T, prefix string, s applier) {
	n := 0
	f := func(name string, older, newer func(id string) l2.Op) {
		t.Helper()
		for _, swap := range []bool{false, true} {
			n++
			id := fmt.Sprint(prefix, n)
			a, b := older(id), newer(id)
			if swap {
				a, b = b, a
			}
			if out := s.apply(t, a); !out.Won {
				t.Errorf("%s, swapped %v: the first write did not win", name, swap)
			}
			if out := s.apply(t, b); out.Won == swap || out.Same {
				t.Errorf("%s, swapped %v: the second write is %+v", name, swap, out)
			}
			want := newer(id).Record
			if got := get(t, s.Store, id); !bytes.Equal(got, want) {
				t.Errorf("%s, swapped %v: got %q, want %q", name, swap, got, want)
			}
			if out := s.apply(t, newer(id)); out.Won || !out.Same {
				t.Errorf("%s: the same write again is %+v, want same", name, out)
			}
		}
	}
	p := func(v item.Version, content string, fields ...field) func(string) l2.Op {
		return func(id string) l2.Op { return putOp(put(id, v, content, fields...)) }
	}
	dead := func(v item.Version) func(string) l2.Op {
		return func(id string) l2.Op { return tombstoneOp(tombstone(id, v)) }
	}
	f("version", p(1, "a"), p(2, "b"))
	f("as bytes, not as text or float", p(0x00ff_ffff_ffff_ffff, "a"), p(0x0100_0000_0000_0000, "b"))
	f("beyond 53 bits", p(1<<60, "a"), p(1<<60+1, "b"))
	f("the high bit is no sign", p(1<<62, "a"), p(1<<63, "b"))
	f("a NUL before the difference", p(0x0101_0000_0000_0001, "a"), p(0x0101_0000_0000_0002, "b"))
	f("content version", p(9, "a", contentVersion(3)), p(9, "b", contentVersion(4)))
	f("metadata version", p(9, "a", metadataVersion(3)), p(9, "a", metadataVersion(4)))
	f("no metadata version is that of the content", p(9, "a", metadataVersion(8)), p(9, "a", metadataVersion(0)))
	small, big := "x", "y"
	if a, b := put("i", 1, small).ContentHash(), put("i", 1, big).ContentHash(); bytes.Compare(a[:], b[:]) > 0 {
		small, big = big, small
	}
	f("content hash", p(5, small), p(5, big))
	f("tombstone after put", p(5, "a"), dead(6))
	f("tombstone against a late put", dead(6), p(7, "a"))
	f("put against a tombstone of its version", dead(6), p(6, "a"))
}

func contractDrop(t *testing.T, s *l2.Store) {
	apply(t, s, putOp(put("drop", 5, "a")))
	if out := apply(t, s, dropOp("drop", 5)); out[0].Won {
		t.Error("what is not older was dropped")
	}
	if get(t, s, "drop") == nil {
		t.Error("the item is gone")
	}
	if out := apply(t, s, dropOp("drop", 6)); !out[0].Won {
		t.Error("what is older was not dropped")
	}
	if get(t, s, "drop") != nil {
		t.Error("the item is still there")
	}
	if out := apply(t, s, putOp(put("drop", 5, "late"))); out[0].Won || get(t, s, "drop") != nil {
		t.Error("a late put came back after the drop")
	}
	if out := apply(t, s, putOp(put("drop", 6, "new"))); !out[0].Won || get(t, s, "drop") == nil {
		t.Error("a put of the drop's version was kept out")
	}
	apply(t, s, dropOp("never", 6))
	if out := apply(t, s, putOp(put("never", 5, "late"))); out[0].Won {
		t.Error("a drop of nothing let an older put in")
	}
}

func contractMany(t *testing.T, s *l2.Store) {
	var ops []l2.Op
	var keys []item.Key
	for i := range 300 {
		id := fmt.Sprint("many-", i)
		keys = append(keys, key(id))
		if i%3 != 0 {
			ops = append(ops, putOp(put(id, 1, id)))
		}
	}
	apply(t, s, ops...)
	var got []int
	err := s.GetMany(ctx, keys, func(i int, v item.View) error {
		if string(v.Content()) != fmt.Sprint("many-", i) {
			t.Errorf("position %d holds %q", i, v.Content())
		}
		got = append(got, i)
		return nil
	})
	if err != nil || len(got) != 200 {
		t.Errorf("%d of 200 found, error %v", len(got), err)
	}
	stop := errors.New("stop")
	if err := s.GetMany(ctx, keys, func(int, item.View) error { return stop }); err != stop {
		t.Errorf("error of the callback: got %v", err)
	}
}

// A refused operation does not fail the others.
func contractRefused(t *testing.T, s *l2.Store) {
	ops := []l2.Op{
		putOp(put("fine-1", 1, "a")), {Kind: l2.OpPut}, tombstoneOp(put("fine-3", 1, "a")),
		{Kind: 77, Record: put("x", 1, "a")}, {Kind: l2.OpDrop}, putOp(put("fine-2", 1, "b")),
	}
	out := make([]l2.Outcome, len(ops))
	if err := s.Apply(ctx, ops, out); err != nil {
		t.Fatal(err)
	}
	for i, o := range out {
		if fine := i == 0 || i == 5; fine != (o.Err == nil) || fine != o.Won || !fine && !errors.Is(o.Err, l2.ErrRejected) {
			t.Errorf("operation %d: %+v", i, o)
		}
	}
	if err := s.Apply(ctx, ops, nil); !errors.Is(err, l2.ErrRejected) {
		t.Errorf("no outcomes: got %v", err)
	}
}

// A16, A17: exact bytes for any key and content.
func contractBytes(t *testing.T, s *l2.Store) {
	version := item.Version(0) // grows, since keys may be drawn twice
	f := func(own, content []byte) {
		t.Helper()
		version++
		v := record(item.KindPut, item.AppendKey(nil, item.NamespaceSite, own), version, string(content), nil)
		apply(t, s, putOp(v))
		got, ok, err := s.Get(ctx, v.Key(), []byte("before"))
		if err != nil || !ok || !bytes.Equal(got, append([]byte("before"), v...)) {
			t.Errorf("key %q: found %v, error %v, record equal %v", own, ok, err, bytes.Equal(got, v))
		}
	}
	for _, own := range []string{"}", "{", "{}", "}{", "a}b", "a\xff", "\xff\x01", "a\x00", "a", "A", "ä", "a ", "*", "[a]"} {
		f([]byte(own), []byte("content of "+own))
	}
	f(bytes.Repeat([]byte("k"), 1024), nil)
	f(bytes.Repeat([]byte("k"), 1025), []byte{0})
	f(bytes.Repeat([]byte("k"), 8192), bytes.Repeat([]byte("\r\n$-1"), 1<<16))
	rapid.Check(t, func(r *rapid.T) {
		own := rapid.SliceOfN(rapid.Byte(), 1, 80).Draw(r, "own")
		f(own, rapid.SliceOfN(rapid.Byte(), 0, 200).Draw(r, "content"))
	})
}

func contractMark(t *testing.T, s *l2.Store) {
	if _, ok, err := s.ReadMark(ctx); ok || err != nil {
		t.Fatalf("before it is written: found %v, error %v", ok, err)
	}
	want := l2.Mark{L3: "an l3", Seq: 1<<63 + 5}
	if err := s.WriteMark(ctx, want, s.Generation()); err != nil {
		t.Fatal(err)
	}
	if got, ok, err := s.ReadMark(ctx); !ok || err != nil || got != want {
		t.Errorf("got %+v, %v, %v", got, ok, err)
	}
	if err := s.WriteMark(ctx, l2.Mark{Seq: 9}, s.Generation()-1); !errors.Is(err, l2.ErrGeneration) {
		t.Errorf("mark of another generation: got %v", err)
	}
	if got, _, _ := s.ReadMark(ctx); got != want {
		t.Errorf("a refused mark was written: %+v", got)
	}
}

// A15: plain Redis 7.
func contractProbe(t *testing.T, s *l2.Store) {
	a, err := s.Probe(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if a.JSON || a.Search || a.Version == "" || a.ID == "" || a.UsedMemory == 0 || a.MaxMemory != 0 || a.Role != "master" {
		t.Errorf("got %+v", a)
	}
	if a.Mode == l2.Cluster != (a.Masters == 3) {
		t.Errorf("mode %s with %d masters", a.Mode, a.Masters)
	}
	if b, err := s.Probe(ctx); err != nil || b.ID != a.ID {
		t.Errorf("second probe: %v, %v", b.ID == a.ID, err)
	}
}

func contractSweep(t *testing.T, s *l2.Store) {
	long := make([]byte, 5000)
	apply(t, s, putOp(put("sweep-1", 1, "a", tags("red"))), putOp(put("sweep-2", 1, "b", tags("blue"), response(long))),
		putOp(put("sweep-3", 1, string(long), tags("red"), response(long))), tombstoneOp(tombstone("sweep-4", 1)))
	seen := make(map[string]int)
	visited, dropped, err := s.Sweep(ctx, func(head item.View) bool {
		id := head.Key().ID()
		if len(head.Content()) != 0 {
			t.Errorf("head of %q has content", id)
		}
		seen[id]++
		for tag := range head.Tags {
			return tag == "red"
		}
		return false
	})
	if err != nil || dropped != 2 || visited < 4 {
		t.Errorf("visited %d, dropped %d, error %v", visited, dropped, err)
	}
	for i := 1; i <= 4; i++ {
		id := "sweep-" + strconv.Itoa(i)
		if seen[id] == 0 {
			t.Errorf("%s was not visited", id)
		}
		if gone := get(t, s, id) == nil; gone != (i == 1 || i == 3) {
			t.Errorf("%s gone: %v", id, gone)
		}
	}
	if out := apply(t, s, putOp(put("sweep-1", 1, "a"))); out[0].Won {
		t.Error("what was swept came back by a late write of its version")
	}
	if _, ok, err := s.ReadMark(ctx); !ok || err != nil {
		t.Errorf("the mark after a sweep: %v, %v", ok, err)
	}
}

func TestLifetimes(t *testing.T) {
	now := time.Now().UnixMilli()
	server, s := start(t, func(o *l2.Options) {
		o.Clock = func() int64 { return now }
		o.L2MaxTTL, o.MaxTTL, o.TombstoneTTL = time.Hour, 48*time.Hour, 10*time.Minute
	})
	f := func(want time.Duration, op l2.Op) {
		t.Helper()
		server.Do("FLUSHALL")
		apply(t, s, op)
		keys := server.Do("KEYS", "*").([]any)
		if len(keys) != 1 {
			t.Fatalf("%d keys, want one", len(keys))
		}
		got := time.Duration(server.Do("PTTL", keys[0].(string)).(int64)) * time.Millisecond
		if got > want || got < want-10*time.Second {
			t.Errorf("lifetime %v, want %v", got, want)
		}
	}
	cache := tiers(item.L1 | item.L2)
	f(time.Hour, putOp(put("k", 1, "")))
	f(time.Hour, putOp(put("k", 1, "", expires(now+7_200_000))))
	f(time.Minute, putOp(put("k", 1, "", expires(now+60_000))))
	f(time.Minute, putOp(put("k", 1, "", l2TTL(60_000))))
	f(time.Hour, putOp(put("k", 1, "", l2TTL(7_200_000))))
	f(48*time.Hour, putOp(put("k", 1, "", cache)))
	f(2*time.Hour, putOp(put("k", 1, "", cache, l2TTL(7_200_000))))
	f(10*time.Minute, tombstoneOp(tombstone("k", 1)))
	f(2*time.Second, dropOp("k", 1))
	f(2*time.Second, putOp(put("k", 1, "", expires(now-1)))) // over: a fence

	server.Do("FLUSHALL")
	apply(t, s, putOp(put("k", 1, "old")))
	apply(t, s, putOp(put("k", 2, "over", expires(now))))
	if get(t, s, "k") != nil {
		t.Error("an older copy survived a newer version that is over")
	}
	// C3: the reader's clock decides, to the millisecond.
	apply(t, s, putOp(put("c3", 1, "a", l2TTL(60_000))))
	now += 59_999
	if get(t, s, "c3") == nil {
		t.Error("gone 1 ms before its end")
	}
	now++
	if get(t, s, "c3") != nil {
		t.Error("there at its end")
	}
}

// Commits of the copy of the tree follow each other, all or nothing; a sweep does not
// touch it; one has the lease.
func contractTree(t *testing.T, s *l2.Store) {
	ctx := t.Context()
	rows := func(want ...string) {
		t.Helper()
		got, err := s.TreeRows(ctx, []string{"", "a\x00", "\x00", "none"})
		if err != nil {
			t.Fatal(err)
		}
		for i, w := range append(want, "") {
			if string(got[i]) != w || (got[i] == nil) != (w == "") {
				t.Errorf("row %d is %q, want %q", i, got[i], w)
			}
		}
	}
	rows("", "", "")
	first := l2.TreeBatch{State: []byte("1"), Puts: []l2.TreeRow{{Key: "a\x00", Value: []byte{0, 255}}, {Key: "\x00", Value: []byte("root")}}}
	if err := s.TreeCommit(ctx, first); err != nil {
		t.Fatal(err)
	}
	rows("1", "\x00\xff", "root")
	if err := s.TreeCommit(ctx, first); !errors.Is(err, l2.ErrTreeMoved) {
		t.Errorf("the same commit again: %v", err)
	}
	next := l2.TreeBatch{Was: []byte("1"), State: []byte("2"), Puts: []l2.TreeRow{{Key: "\x00", Value: []byte("new")}}, Deletes: []string{"a\x00", "gone"}}
	if err := s.TreeCommit(ctx, next); err != nil {
		t.Fatal(err)
	}
	rows("2", "", "new")
	if _, _, err := s.Sweep(ctx, func(item.View) bool { return true }); err != nil {
		t.Fatal(err)
	}
	rows("2", "", "new")
	if err := s.TreeDrop(ctx); err != nil {
		t.Fatal(err)
	}
	rows("", "", "")
	f := func(holder string, want bool) {
		t.Helper()
		if held, err := s.TreeLease(ctx, holder, time.Minute); err != nil || held != want {
			t.Errorf("lease of %s: %v, %v", holder, held, err)
		}
	}
	f("one", true)
	f("two", false)
	f("one", true)
}
