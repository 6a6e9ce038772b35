package l3_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/l3"
)

// TestContract is what every dialect must do.
func TestContract(t *testing.T) {
	t.Run("sqlite", func(t *testing.T) { contract(t, openSQLite) })
	t.Run("mariadb", func(t *testing.T) { contract(t, openMariaDB) })
	t.Run("sqlite, mapped", func(t *testing.T) { contract(t, mappedOpener(openSQLite)) })
	t.Run("mariadb, mapped", func(t *testing.T) { contract(t, mappedOpener(openMariaDB)) })
}

func contract(t *testing.T, open opener) {
	f := func(name string, test func(t *testing.T, s *l3.Store)) {
		t.Run(name, func(t *testing.T) { test(t, open(t, filepath.Join(t.TempDir(), "l3.db"))) })
	}
	f("put and get", putAndGet)
	f("keys are bytes", keysAreBytes)
	f("prefixes are bytes", prefixesAreBytes)
	f("long keys", longKeys)
	f("winners", winners)
	f("metadata", metadataChanges)
	f("tombstones", tombstones)
	f("conditions", conditions)
	f("two ops of a key", twoOpsOfAKey)
	f("bad ops", badOps)
	f("rules", rules)
	f("rules by every predicate", rulePredicates)
	f("sweep in pages", sweepInPages)
	f("scan", scan)
	f("count", count)
	f("expire", expire)
	f("purge tombstones", purgeTombstones)
	f("change sequence", changeSequence)
	f("get many", getMany)
	f("abandon changes", abandonChanges)
	f("nodes", nodes)
	f("leases", leases)
	f("merkle", merkleRows)
	f("heads", heads)
	f("cancelled", cancelled)
	t.Run("reopen", func(t *testing.T) { reopen(t, open) })
}

func putAndGet(t *testing.T, s *l3.Store) {
	if got := get(t, s, idKey("absent")); got != nil {
		t.Errorf("absent key has %v", got)
	}
	full := put("a", 7<<16, "content", state("done"), tags("x", "y"), expires(now+5), response("200"), mime("text/plain"),
		traceparent("00-1-2-3"), func(it *item.Item) {
			it.L1TTL, it.L2TTL, it.BatchID, it.TraceState, it.HomeInstance = 1, 2, "b", "s", "home"
			it.AccessCount, it.LastAccessed, it.Durability = 3, 4, item.DurabilitySync
		})
	empty := put("b", 1, "")
	json := put("c", 1, `{"a": 1.0}`)
	apply(t, s, full, empty, json)
	for _, want := range []item.View{full, empty, json} {
		if got := get(t, s, want.Key()); string(got) != string(want) {
			t.Errorf("%s: got %q, want %q", want.Key().ID(), got, want)
		}
	}
	dst := []byte("before ")
	if b, found, err := s.Get(context.Background(), idKey("a"), dst); !found || err != nil || string(b) != "before "+string(full) {
		t.Errorf("Get appends %q, %t, %v", b, found, err)
	}
	if b, found, err := s.Get(context.Background(), idKey("absent"), dst); found || err != nil || string(b) != "before " {
		t.Errorf("Get of an absent key gives %q, %t, %v", b, found, err)
	}
}

func keysAreBytes(t *testing.T, s *l3.Store) {
	list := []string{
		"a", "A", "á", "a\u0301", "a ", " a", "a  ", "a\x00", "a\x00b", "\xff", "\xff\xfe", "%", "_", "a'b", `a"b`,
		strings.Repeat("k", 255), strings.Repeat("k", 256), strings.Repeat("k", 1023), strings.Repeat("k", 1024),
	}
	var records []item.View
	for i, id := range list {
		records = append(records, put(id, 1, fmt.Sprint("content ", i), tags("t")))
	}
	for i, o := range apply(t, s, records...) {
		if !o.Won || !o.New {
			t.Errorf("%q: %+v", list[i], o)
		}
	}
	for i, id := range list {
		if got, want := live(t, s, id), fmt.Sprint("content ", i); got != want {
			t.Errorf("%q has %q, want %q", id, got, want)
		}
	}
	want := slices.Sorted(slices.Values(list))
	if got := ids(t, s, l3.ScanQuery{}); !slices.Equal(got, want) {
		t.Errorf("scan: got %q, want %q", got, want)
	}
	if got := ids(t, s, l3.ScanQuery{Tag: "t"}); !slices.Equal(got, want) {
		t.Errorf("scan by tag: got %q, want %q", got, want)
	}
}

func prefixesAreBytes(t *testing.T, s *l3.Store) {
	for _, id := range []string{"a_b1", "axb2", "A_B3", "%", "%x", "a\xff", "a\xff\xff1", "b"} {
		apply(t, s, put(id, 1, id))
	}
	apply(t, s, put("a_b1", 1, "site", rawKey(item.AppendKey(nil, item.NamespaceSite, "a_b1"))))
	f := func(prefix string, want ...string) {
		t.Helper()
		q := l3.ScanQuery{Prefix: idKey(prefix)}
		if got := ids(t, s, q); !slices.Equal(got, want) {
			t.Errorf("prefix %q: got %q, want %q", prefix, got, want)
		}
		if n, exact, err := s.Count(context.Background(), q, 100); n != int64(len(want)) || !exact || err != nil {
			t.Errorf("prefix %q: count %d, %t, %v", prefix, n, exact, err)
		}
	}
	f("a_b", "a_b1")
	f("%", "%", "%x")
	f("_")
	f("a\xff", "a\xff", "a\xff\xff1")
	f("a\xff\xff", "a\xff\xff1")
	f("", "%", "%x", "A_B3", "a_b1", "axb2", "a\xff", "a\xff\xff1", "b")
	rule := item.Rule{Version: 5, Op: item.OpDelete, Match: item.MatchKeyPrefix, Namespaces: item.InItems, Values: []string{"a_b"}}
	applyWith(t, s, []item.Rule{rule})
	if n := sweep(t, s, rule, 10); n != 1 || live(t, s, "axb2") != "axb2" || live(t, s, "a_b1") != "-" {
		t.Errorf("delete of prefix a_b removed %d", n)
	}
}

func longKeys(t *testing.T, s *l3.Store) {
	long := func(tail string) with {
		return rawKey(item.AppendKey(nil, item.NamespaceSite, strings.Repeat("p", 1100)+tail))
	}
	a, b := put("", 1, "a", long("a"), tags("t")), put("", 1, "b", long("b"), tags("t"))
	apply(t, s, a, b)
	for _, want := range []item.View{a, b} {
		if got := get(t, s, want.Key()); string(got) != string(want) {
			t.Errorf("long key: got %q", got)
		}
	}
	f := func(prefix item.Key, want int) {
		t.Helper()
		q := l3.ScanQuery{Prefix: prefix}
		if got := ids(t, s, q); len(got) != want {
			t.Errorf("prefix of %d bytes: got %d items, want %d", len(prefix), len(got), want)
		}
		if n, exact, err := s.Count(context.Background(), q, 10); n != int64(want) || !exact || err != nil {
			t.Errorf("prefix of %d bytes: count %d, %t, %v", len(prefix), n, exact, err)
		}
	}
	f(a.Key()[:100], 2)
	f(a.Key()[:1101], 2)
	f(a.Key(), 1)
	apply(t, s, tombstone("", 2, long("a")))
	if got := get(t, s, a.Key()); got.Kind() != item.KindTombstone || string(got.Key()) != string(a.Key()) {
		t.Errorf("tombstone of a long key: %q", got)
	}
	var graves int
	err := s.Tombstones(context.Background(), a.Key(), nil, 0, func(v item.View) error { graves++; return nil })
	if err != nil || graves != 1 {
		t.Errorf("%d tombstones, %v", graves, err)
	}
}

func winners(t *testing.T, s *l3.Store) {
	f := func(v item.View, won, existed, isNew bool, holds item.Version, content string) {
		t.Helper()
		o := apply(t, s, v)[0]
		if want := (l3.Outcome{Won: won, Existed: existed, New: isNew, Version: holds, ContentVersion: holds}); o != want {
			t.Errorf("version %s: got %+v, want %+v", v.Version(), o, want)
		}
		if got := live(t, s, v.Key().ID()); got != content {
			t.Errorf("version %s: content %q, want %q", v.Version(), got, content)
		}
	}
	f(put("k", 5, "five"), true, false, true, 5, "five")
	f(put("k", 4, "four"), false, true, false, 5, "five")
	f(put("k", 5, "five"), true, true, false, 5, "five") // the same write again
	f(put("k", 6, "six"), true, true, false, 6, "six")
	low, high := "x", "y" // by hash
	if a, b := put("k", 7, low).ContentHash(), put("k", 7, high).ContentHash(); string(a[:]) > string(b[:]) {
		low, high = high, low
	}
	f(put("k", 7, high), true, true, false, 7, high)
	f(put("k", 7, low), false, true, false, 7, high)
	for _, order := range [][2]string{{low, high}, {high, low}} { // the metadata goes with the content that wins
		for _, st := range []string{"a", "z"} {
			id := order[0] + st
			states := map[string]string{low: "m", high: st}
			apply(t, s, put(id, 7, order[0], state(states[order[0]])))
			apply(t, s, put(id, 7, order[1], state(states[order[1]])))
			if got := get(t, s, idKey(id)); string(got.Content()) != high || got.State() != st {
				t.Errorf("two puts of a version are mixed: %q in state %q", got.Content(), got.State())
			}
		}
	}
	if got, want := changes(t, s, 0)[:3], []string{"1 k 5", "1 k 6", "1 k 7"}; !slices.Equal(got, want) {
		t.Errorf("changes: got %q, want %q", got, want)
	}
}

func metadataChanges(t *testing.T, s *l3.Store) {
	if o := apply(t, s, metadata("k", 9, state("s")))[0]; o.Won || o.Version != 0 {
		t.Errorf("metadata of nothing: %+v", o)
	}
	apply(t, s, put("k", 10, "ten", state("new"), tags("a", "b")))
	if o := apply(t, s, metadata("k", 20, state("done"), tags("b", "c")))[0]; !o.Won || o.Version != 20 || o.ContentVersion != 10 {
		t.Errorf("metadata: %+v", o)
	}
	f := func(content, state string, tag, notTag string, version item.Version) {
		t.Helper()
		v := get(t, s, idKey("k"))
		if string(v.Content()) != content || v.State() != state || v.Version() != version {
			t.Errorf("got %q in state %q at %s", v.Content(), v.State(), v.Version())
		}
		if !slices.Equal(ids(t, s, l3.ScanQuery{Tag: tag}), []string{"k"}) || ids(t, s, l3.ScanQuery{Tag: notTag}) != nil {
			t.Errorf("not tag %q alone", tag)
		}
		if !slices.Equal(ids(t, s, l3.ScanQuery{State: state}), []string{"k"}) {
			t.Errorf("not in state %q", state)
		}
	}
	f("ten", "done", "c", "a", 20)
	if o := apply(t, s, metadata("k", 19, state("late")))[0]; o.Won || o.Version != 20 {
		t.Errorf("late metadata: %+v", o)
	}
	apply(t, s, put("k", 15, "fifteen", state("older"), tags("a"))) // newer content, older metadata
	f("fifteen", "done", "c", "a", 20)
	apply(t, s, put("k", 30, "thirty", state("again"), tags("a")))
	f("thirty", "again", "a", "c", 30)
	if got, want := changes(t, s, 0), []string{"1 k 10", "2 k 20", "1 k 20", "1 k 30"}; !slices.Equal(got, want) {
		t.Errorf("changes: got %q, want %q", got, want)
	}
}

func tombstones(t *testing.T, s *l3.Store) {
	if o := apply(t, s, tombstone("never", 5))[0]; !o.Won || o.Existed || o.New || o.Version != 5 {
		t.Errorf("tombstone of nothing: %+v", o)
	}
	apply(t, s, put("k", 10, "ten", tags("a"), state("s")))
	if o := apply(t, s, tombstone("k", 20))[0]; !o.Won || !o.Existed || o.Version != 20 {
		t.Errorf("tombstone: %+v", o)
	}
	if o := apply(t, s, put("k", 15, "late"))[0]; o.Won || o.Existed || o.Version != 20 {
		t.Errorf("late older put: %+v", o)
	}
	if o := apply(t, s, metadata("k", 25, state("s")))[0]; o.Won || o.Version != 20 {
		t.Errorf("metadata of a deleted item: %+v", o)
	}
	v := get(t, s, idKey("k"))
	if v.Kind() != item.KindTombstone || v.Version() != 20 {
		t.Errorf("got %q", v)
	}
	if ids(t, s, l3.ScanQuery{}) != nil || ids(t, s, l3.ScanQuery{Tag: "a"}) != nil || ids(t, s, l3.ScanQuery{State: "s"}) != nil {
		t.Error("a deleted item is listed")
	}
	if o := apply(t, s, put("k", 30, "thirty"))[0]; !o.Won || o.Existed || !o.New || o.Version != 30 {
		t.Errorf("put after delete: %+v", o)
	}
	if o := apply(t, s, tombstone("k", 25))[0]; o.Won || o.Version != 30 || live(t, s, "k") != "thirty" {
		t.Errorf("late tombstone: %+v", o)
	}
}

func conditions(t *testing.T, s *l3.Store) {
	absent := func(head item.View) bool { return head == nil }
	at := func(v item.Version) func(item.View) bool {
		return func(head item.View) bool { return head != nil && head.ContentVersion() == v }
	}
	f := func(v item.View, cond func(item.View) bool, won bool) {
		t.Helper()
		out := make([]l3.Outcome, 1)
		if _, err := s.Apply(context.Background(), []l3.Op{{Record: v, If: cond}}, nil, out); err != nil {
			t.Fatal(err)
		}
		if out[0].Won != won || out[0].Refused == won {
			t.Errorf("version %s: %+v", v.Version(), out[0])
		}
	}
	f(put("k", 1, "one"), absent, true)
	f(put("k", 2, "two"), absent, false)
	f(put("k", 2, "two"), at(1), true)
	f(tombstone("k", 3), at(1), false)
	f(tombstone("k", 3), at(2), true)
	f(put("k", 4, "four"), absent, true)
}

func twoOpsOfAKey(t *testing.T, s *l3.Store) {
	out := apply(t, s, put("k", 1, "one", tags("a")), put("k", 3, "three"), put("k", 2, "two"), metadata("k", 4, tags("b")))
	var won []bool
	for _, o := range out {
		won = append(won, o.Won)
		if o.Version != 4 {
			t.Errorf("version %s, want 4", o.Version)
		}
	}
	if want := []bool{false, true, false, true}; !slices.Equal(won, want) {
		t.Errorf("won %v, want %v", won, want)
	}
	apply(t, s, tombstone("k", 5), put("k", 6, "six"), tombstone("d", 1), tombstone("d", 2))
	if got, want := changes(t, s, 0), []string{"1 k 4", "1 k 6", "3 d 2"}; !slices.Equal(got, want) {
		t.Errorf("changes: got %q, want %q", got, want)
	}
	if ids(t, s, l3.ScanQuery{Tag: "b"}) != nil || live(t, s, "k") != "six" {
		t.Error("put after tombstone in one batch is not there alone")
	}
}

func badOps(t *testing.T, s *l3.Store) {
	f := func(bad item.View) {
		t.Helper()
		out := make([]l3.Outcome, 2)
		_, err := s.Apply(context.Background(), opsOf([]item.View{put("good", 1, "x"), bad}), nil, out)
		var op *l3.OpError
		if !errors.As(err, &op) || op.Index != 1 || !errors.Is(err, l3.ErrRejected) {
			t.Errorf("got %v", err)
		}
	}
	f(item.View("rubbish"))
	f(put("", 1, "a key of length 0"))
	f(put("k", 0, "no version"))
	f(put("k", 1<<63, "too new"))
	f(put("k", 5, "wrong", func(it *item.Item) { it.Version = 9 }))
	f(tombstone("k", 5, func(it *item.Item) { it.Content = []byte("x") }))
	f(metadata("k", 0))
	if live(t, s, "good") != "" || s.LastSeq() != 0 {
		t.Error("a part of a failed batch is stored")
	}
	if _, err := s.Apply(context.Background(), nil, []item.Rule{{Version: 1}}, nil); !errors.Is(err, l3.ErrRejected) {
		t.Errorf("bad rule: %v", err)
	}
	if _, err := s.Apply(context.Background(), nil, nil, make([]l3.Outcome, 1)); !errors.Is(err, l3.ErrRejected) {
		t.Errorf("bad outcomes: %v", err)
	}
}

func cancelled(t *testing.T, s *l3.Store) {
	ctx, cancel := context.WithCancel(context.Background())
	ops := opsOf([]item.View{put("a", 1, "x"), put("b", 1, "x")})
	ops[1].If = func(item.View) bool { cancel(); return true } // in the midst of the transaction
	_, err := s.Apply(ctx, ops, nil, make([]l3.Outcome, 2))
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if live(t, s, "a") != "" || s.LastSeq() != 0 {
		t.Error("a cancelled batch is stored")
	}
	if _, _, err := s.Get(ctx, idKey("a"), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("Get: %v", err)
	}
	apply(t, s, put("a", 1, "x")) // the writer works
	if live(t, s, "a") != "x" {
		t.Error("the writer does not")
	}
}

func reopen(t *testing.T, open opener) {
	path := filepath.Join(t.TempDir(), "l3 ?#%41.db") // no character has a meaning
	s := open(t, path)
	rule := item.Rule{Version: 50, CreatedAt: 1, Op: item.OpDelete, Match: item.MatchAll, Namespaces: item.InItems}
	apply(t, s, put("a", 100, "a"), put("b", 10, "b"), tombstone("c", 200))
	applyWith(t, s, []item.Rule{rule})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("second close: %v", err)
	}
	if _, _, err := s.Get(context.Background(), idKey("a"), nil); !errors.Is(err, l3.ErrClosed) {
		t.Errorf("Get after Close: %v", err)
	}
	if _, err := s.Apply(context.Background(), nil, nil, nil); !errors.Is(err, l3.ErrClosed) {
		t.Errorf("Apply after Close: %v", err)
	}
	s = open(t, path)
	if s.MaxVersion() != 200 || s.LastSeq() != 4 {
		t.Errorf("max version %s, last change %d", s.MaxVersion(), s.LastSeq())
	}
	if o := apply(t, s, put("b", 20, "late"))[0]; !o.Refused {
		t.Errorf("late put after reopen: %+v", o)
	}
	if n := sweep(t, s, rule, 1); n != 1 || live(t, s, "a") != "a" || live(t, s, "b") != "-" || live(t, s, "c") != "-" {
		t.Errorf("%d swept", n)
	}
	if err := s.Verify(context.Background()); err != nil {
		t.Error(err)
	}
	if err := s.Ping(context.Background()); err != nil {
		t.Error(err)
	}
}
