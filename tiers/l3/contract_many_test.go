package l3_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/l3"
)

func rules(t *testing.T, s *l3.Store) {
	apply(t, s, put("p/a", 10, "a", tags("t")), put("p/b", 60, "b"), put("q", 10, "q"))
	rule := item.Rule{Version: 50, CreatedAt: 1, Op: item.OpDelete, Match: item.MatchKeyPrefix, Namespaces: item.InItems, Values: []string{"p/"}}
	out := applyWith(t, s, []item.Rule{rule, rule}, put("p/c", 40, "old"), put("p/d", 70, "new"), metadata("p/a", 80, state("x")))
	if !out[0].Refused || out[0].Won || !out[1].Won || out[2].Won || out[2].Existed {
		t.Errorf("with the rule: %+v", out)
	}
	if list, err := s.Rules(context.Background()); err != nil || len(list) != 1 || list[0].Swept || list[0].Version != 50 {
		t.Errorf("rules: %+v, %v", list, err)
	}
	if o := apply(t, s, tombstone("p/a", 45))[0]; o.Won || o.Existed {
		t.Errorf("older tombstone of a covered row: %+v", o)
	}
	before := s.LastSeq()
	if n := sweep(t, s, rule, 100); n != 1 {
		t.Errorf("%d swept, want 1", n)
	}
	if got, want := changes(t, s, before), []string{"3 p/a 50"}; !slices.Equal(got, want) {
		t.Errorf("changes: got %q, want %q", got, want)
	}
	if n := sweep(t, s, rule, 100); n != 0 {
		t.Errorf("%d swept again", n)
	}
	if got, want := ids(t, s, l3.ScanQuery{}), []string{"p/b", "p/d", "q"}; !slices.Equal(got, want) {
		t.Errorf("left are %q, want %q", got, want)
	}
	if o := apply(t, s, put("p/e", 49, "late"))[0]; !o.Refused || live(t, s, "p/e") != "" {
		t.Errorf("late put after the sweep: %+v", o)
	}
	if n, err := s.DropRules(context.Background(), 50, now+1); n != 0 || err != nil {
		t.Errorf("%d rules dropped too early, %v", n, err)
	}
	if n, err := s.DropRules(context.Background(), 51, now+1); n != 1 || err != nil {
		t.Errorf("%d rules dropped, %v", n, err)
	}
	if o := apply(t, s, put("p/e", 49, "late"))[0]; !o.Won {
		t.Errorf("put without rule: %+v", o)
	}
	if _, _, err := s.SweepRule(context.Background(), rule, 1); !errors.Is(err, l3.ErrNoRule) {
		t.Errorf("sweep of no rule: %v", err)
	}
}

func rulePredicates(t *testing.T, s *l3.Store) {
	site := func(id string) with { return rawKey(item.AppendKey(nil, item.NamespaceSite, id)) }
	version := item.Version(100)
	f := func(r item.Rule, want ...string) {
		t.Helper()
		base := version
		version += 10
		for _, id := range []string{"a", "ab", "b"} {
			apply(t, s, put(id, base, "x", tags("t"+id, "all")), put("", base, "x", site(id), tags("s"+id)))
		}
		r.Version, r.CreatedAt = base+5, 1
		applyWith(t, s, []item.Rule{r})
		before := s.LastSeq()
		sweep(t, s, r, 2)
		var got []string
		err := s.Changes(context.Background(), before, 100, func(c l3.Change) error {
			got = append(got, string(c.Key))
			return nil
		})
		if slices.Sort(got); err != nil || !slices.Equal(got, want) {
			t.Errorf("%+v: removed %q, want %q, %v", r, got, want, err)
		}
	}
	items, both := item.InItems, item.InItems|item.InSites
	f(item.Rule{Op: item.OpDelete, Match: item.MatchAll, Namespaces: items}, "ia", "iab", "ib")
	f(item.Rule{Op: item.OpDelete, Match: item.MatchAll, Namespaces: both, Scope: []byte("a")}, "ia", "iab", "sa", "sab")
	f(item.Rule{Op: item.OpDelete, Match: item.MatchKey, Namespaces: both, Values: []string{"a", "b", "c"}}, "ia", "ib", "sa", "sb")
	f(item.Rule{Op: item.OpDelete, Match: item.MatchKeyPrefix, Namespaces: items, Values: []string{"ab", "a"}}, "ia", "iab")
	f(item.Rule{Op: item.OpDelete, Match: item.MatchTag, Namespaces: both, Values: []string{"ta", "sa"}}, "ia", "sa")
	f(item.Rule{Op: item.OpDelete, Match: item.MatchTag, Namespaces: items, Values: []string{"ta", "all"}}, "ia", "iab", "ib")
	f(item.Rule{Op: item.OpDelete, Match: item.MatchTagPrefix, Namespaces: items, Values: []string{"ta"}}, "ia", "iab")
	f(item.Rule{Op: item.OpDelete, Match: item.MatchTagPrefix, Namespaces: items, Values: []string{"t", "a"}}, "ia", "iab", "ib")
	f(item.Rule{Op: item.OpPurge, Match: item.MatchAll, Namespaces: both}, "sa", "sab", "sb") // items are not purged
	f(item.Rule{Op: item.OpPurge, Match: item.MatchTag, Namespaces: both, Values: []string{"ta", "sa"}}, "sa")
	f(item.Rule{Op: item.OpPurgeSoft, Match: item.MatchAll, Namespaces: both})
	if o := apply(t, s, put("a", version-6, "x"))[0]; o.Refused {
		t.Error("a soft purge refuses a put")
	}
}

func sweepInPages(t *testing.T, s *l3.Store) {
	const items, page = bulkItems, 256
	for chunk := range slices.Chunk(numbers(items), 1000) {
		var records []item.View
		for _, i := range chunk {
			records = append(records, put(fmt.Sprintf("p/%06d", i), item.Version(i+1), "x", tags("t", fmt.Sprint("t", i%7))))
		}
		apply(t, s, records...)
	}
	apply(t, s, put("p/new", 900_000, "x", tags("t")), put("other", 1, "x", tags("t")))
	before := s.LastSeq()
	rule := item.Rule{Version: 500_000, Op: item.OpDelete, Match: item.MatchKeyPrefix, Namespaces: item.InItems, Values: []string{"p/"}}
	applyWith(t, s, []item.Rule{rule})
	n, more, err := s.SweepRule(context.Background(), rule, page)
	if n != page || !more || err != nil {
		t.Fatalf("first page: %d, %t, %v", n, more, err)
	}
	if n += sweep(t, s, rule, page); n != items {
		t.Errorf("%d swept, want %d", n, items)
	}
	if got, want := s.LastSeq()-before, uint64(items+1); got != want {
		t.Errorf("%d changes, want %d", got, want)
	}
	if got := ids(t, s, l3.ScanQuery{Tag: "t"}); !slices.Equal(got, []string{"other", "p/new"}) {
		t.Errorf("left are %d items", len(got))
	}
}

func numbers(n int) []int {
	list := make([]int, n)
	for i := range list {
		list[i] = i
	}
	return list
}

func scan(t *testing.T, s *l3.Store) {
	const items = 700
	var records []item.View
	for i := range items {
		more := []with{state([]string{"", "even", "odd"}[1+i%2]), tags("t")}
		if i%10 == 0 {
			more = append(more, expires(now+int64(i)))
		}
		records = append(records, put(fmt.Sprintf("k%05d", i), 1, strings.Repeat("c", i), more...))
	}
	rand.New(rand.NewPCG(1, 2)).Shuffle(items, func(i, j int) { records[i], records[j] = records[j], records[i] })
	apply(t, s, records...)
	apply(t, s, tombstone("k00001", 2))
	f := func(q l3.ScanQuery, keep func(i int) bool) {
		t.Helper()
		var want []string
		for i := range items {
			if i != 1 && keep(i) {
				want = append(want, fmt.Sprintf("k%05d", i))
			}
		}
		if got := ids(t, s, q); !slices.Equal(got, want) {
			t.Errorf("%+v: got %d items, want %d", q, len(got), len(want))
		}
		if n, exact, err := s.Count(context.Background(), q, 1000); n != int64(len(want)) || !exact || err != nil {
			t.Errorf("%+v: count %d, %t, %v, want %d", q, n, exact, err, len(want))
		}
		if q.Limit = 7; len(want) > 20 { // in pages of 7
			var paged []string
			for page := ids(t, s, q); page != nil; page = ids(t, s, q) {
				paged = append(paged, page...)
				q.After = idKey(page[len(page)-1])
			}
			if !slices.Equal(paged, want) {
				t.Errorf("%+v: got %d items in pages, want %d", q, len(paged), len(want))
			}
		}
	}
	alive := func(i int) bool { return i%10 != 0 || i > 0 }
	f(l3.ScanQuery{}, alive)
	f(l3.ScanQuery{Prefix: idKey("k003")}, func(i int) bool { return i/100 == 3 })
	f(l3.ScanQuery{State: "odd"}, func(i int) bool { return i%2 == 1 })
	f(l3.ScanQuery{Tag: "t"}, alive)
	f(l3.ScanQuery{State: "even", Tag: "t"}, func(i int) bool { return i%2 == 0 && alive(i) })
	f(l3.ScanQuery{Tag: "none"}, func(int) bool { return false })
	f(l3.ScanQuery{Now: now + 1000}, func(i int) bool { return i%10 != 0 })
	f(l3.ScanQuery{Now: now + 1000, Tag: "t", Prefix: idKey("k0")}, func(i int) bool { return i%10 != 0 })
	f(l3.ScanQuery{Now: now + 1000, State: "even"}, func(i int) bool { return i%2 == 0 && i%10 != 0 })
	err := s.Scan(context.Background(), l3.ScanQuery{WithContent: true, Prefix: idKey("k00599")}, func(v item.View) error {
		if parsed, err := item.Parse(v); err != nil || len(parsed.Content()) != 599 {
			t.Errorf("content of %d bytes, %v", len(v.Content()), err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	stop := errors.New("stop")
	if err := s.Scan(context.Background(), l3.ScanQuery{}, func(item.View) error { return stop }); err != stop {
		t.Errorf("scan ends with %v", err)
	}
}

func count(t *testing.T, s *l3.Store) {
	for i := range 20 {
		apply(t, s, put(fmt.Sprint("k", i), 1, "x", tags("t"), state("s"), expires(now-5+int64(i))))
	}
	f := func(limit int, n int64, exact bool) {
		t.Helper()
		for _, q := range []l3.ScanQuery{{}, {Tag: "t"}, {State: "s"}, {State: "s", Tag: "t"}, {Prefix: idKey("k")}} {
			if got, is, err := s.Count(context.Background(), q, limit); got != n || is != exact || err != nil {
				t.Errorf("%+v up to %d: got %d, %t, %v, want %d, %t", q, limit, got, is, err, n, exact)
			}
		}
	}
	f(100, 14, true)
	f(14, 14, true)
	f(13, 13, false)
}

func expire(t *testing.T, s *l3.Store) {
	apply(t, s, put("a", 1, "x", expires(100), tags("t")), put("b", 2, "x", expires(200), tags("t")), put("c", 3, "x", tags("t")))
	f := func(at int64, limit, want int) {
		t.Helper()
		if n, err := s.Expire(context.Background(), at, limit); n != want || err != nil {
			t.Errorf("at %d: %d expired, %v, want %d", at, n, err, want)
		}
	}
	f(99, 10, 0)
	if o := apply(t, s, put("b", 5, "later", expires(300), tags("t")))[0]; !o.Won || o.Existed || o.New {
		t.Errorf("put over an expired row: %+v", o)
	}
	f(250, 1, 1)
	f(250, 1, 0)
	if live(t, s, "a") != "" || live(t, s, "b") != "later" {
		t.Error("expiry leaves a tombstone, or takes a newer version")
	}
	if got, want := changes(t, s, 4), []string{"4 a 1"}; !slices.Equal(got, want) {
		t.Errorf("changes: got %q, want %q", got, want)
	}
	apply(t, s, metadata("b", 6, tags("u"))) // no longer expires
	f(1000, 10, 0)
	if got := ids(t, s, l3.ScanQuery{Tag: "t"}); !slices.Equal(got, []string{"c"}) {
		t.Errorf("tagged are %q", got)
	}
}

func purgeTombstones(t *testing.T, s *l3.Store) {
	for i := range 10 {
		apply(t, s, tombstone(fmt.Sprint("k", i), item.Version(i+1)))
	}
	f := func(version item.Version, before int64, limit, want int) {
		t.Helper()
		if n, err := s.PurgeTombstones(context.Background(), version, before, limit); n != want || err != nil {
			t.Errorf("below %s: %d purged, %v, want %d", version, n, err, want)
		}
	}
	f(6, now, 100, 0) // stored just now
	f(6, now+1, 3, 3)
	f(6, now+1, 100, 2)
	if live(t, s, "k4") != "" || live(t, s, "k5") != "-" {
		t.Error("the wrong tombstones are gone")
	}
}

func changeSequence(t *testing.T, s *l3.Store) {
	for i := range 10 {
		apply(t, s, put(fmt.Sprint("k", i), item.Version(i+1), "x"))
	}
	rule := item.Rule{Version: 99, CreatedAt: 7, Op: item.OpPurge, Match: item.MatchTag, Namespaces: item.InSites, Values: []string{"t"}}
	applyWith(t, s, []item.Rule{rule})
	var last l3.Change
	seen := func(c l3.Change) error { last = c; return nil }
	if err := s.Changes(context.Background(), 10, 5, seen); err != nil || last.Op != l3.ChangeRule || last.Rule.Version != 99 || last.Seq != 11 {
		t.Errorf("got %+v, %v", last, err)
	}
	if err := s.Changes(context.Background(), 3, 2, seen); err != nil || last.Seq != 5 || last.At != now {
		t.Errorf("got %+v, %v", last, err)
	}
	f := func(after uint64, want error) {
		t.Helper()
		if err := s.Changes(context.Background(), after, 100, seen); !errors.Is(err, want) {
			t.Errorf("after %d: got %v, want %v", after, err, want)
		}
	}
	f(11, nil)
	f(12, l3.ErrChangesGone)
	if n, err := s.TrimChanges(context.Background(), 5, 3); n != 3 || err != nil {
		t.Errorf("%d trimmed, %v", n, err)
	}
	f(2, l3.ErrChangesGone)
	f(3, nil)
	if n, err := s.TrimChanges(context.Background(), 1000, 1000); n != 8 || err != nil {
		t.Errorf("%d trimmed, %v", n, err)
	}
	f(10, l3.ErrChangesGone)
	f(11, nil)
	if apply(t, s, put("k", 200, "x")); s.LastSeq() != 12 {
		t.Errorf("the sequence goes on at %d", s.LastSeq())
	}
}

// abandonChanges: the sequence goes on above what was seen, in one step and in many,
// and everybody who had read of it is told.
func abandonChanges(t *testing.T, s *l3.Store) {
	const many = 5000 // more than one page
	var records []item.View
	for i := range many {
		records = append(records, put(fmt.Sprint("k", i), item.Version(i+1), "x"))
	}
	apply(t, s, records...)
	gone := func(after uint64, want error) {
		t.Helper()
		if err := s.Changes(context.Background(), after, 1, func(l3.Change) error { return nil }); !errors.Is(err, want) {
			t.Errorf("after %d: got %v, want %v", after, err, want)
		}
	}
	f := func(seen uint64, want bool, end uint64) {
		t.Helper()
		if abandoned, err := s.AbandonChanges(context.Background(), seen); abandoned != want || err != nil {
			t.Errorf("abandon up to %d: %v, %v, want %v", seen, abandoned, err, want)
		}
		if s.LastSeq() != end {
			t.Errorf("the sequence ends at %d, want %d", s.LastSeq(), end)
		}
		gone(end-1, l3.ErrChangesGone)
		gone(end, nil)
		gone(end+1, l3.ErrChangesGone)
	}
	f(many+7, true, many+8) // the store has fewer than were seen
	f(many, false, many+8)  // that was done already
	gone(0, l3.ErrChangesGone)
	if live(t, s, "k1") == "" {
		t.Error("a row is gone")
	}
	apply(t, s, put("next", 2*many, "x"))
	if got, want := changes(t, s, many+8), []string{fmt.Sprintf("1 next %d", 2*many)}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	f(many+8, true, many+10) // it has more
	if _, err := s.AbandonChanges(context.Background(), 1<<63); !errors.Is(err, l3.ErrRejected) {
		t.Errorf("a number that cannot be stored: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := s.AbandonChanges(ctx, many+20); err == nil {
		t.Error("no error though the call was given up")
	}
}

func getMany(t *testing.T, s *l3.Store) {
	const items = 1200
	var records []item.View
	var keys []item.Key
	for i := range items {
		id := fmt.Sprintf("k%d", i)
		keys = append(keys, idKey(id))
		switch i % 3 {
		case 0:
			records = append(records, put(id, 1, id))
		case 1:
			records = append(records, tombstone(id, 2))
		}
	}
	apply(t, s, records...)
	keys = append(keys, keys[0])
	seen := make(map[int]item.Kind)
	err := s.GetMany(context.Background(), keys, func(i int, v item.View) error {
		if _, err := item.Parse(v); err != nil || string(v.Key()) != string(keys[i]) {
			t.Errorf("%d: %q, %v", i, v, err)
		}
		seen[i] = v.Kind()
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for i := range keys {
		want := [...]item.Kind{item.KindPut, item.KindTombstone, 0}[i%3]
		if seen[i] != want {
			t.Errorf("%d: kind %d, want %d", i, seen[i], want)
		}
	}
	stop := errors.New("stop")
	if err := s.GetMany(context.Background(), keys, func(int, item.View) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("GetMany ends with %v", err)
	}
	if err := s.GetMany(context.Background(), nil, nil); err != nil {
		t.Error(err)
	}
}
