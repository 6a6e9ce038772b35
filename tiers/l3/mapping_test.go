package l3_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/l3"
)

// mappedOpener opens stores whose keys are in five tables, two of them of
// prefixes within others.
func mappedOpener(open opener) opener {
	return func(t testing.TB, path string) *l3.Store {
		t.Helper()
		s := open(t, path)
		for _, m := range [...][2]string{{"a", "key"}, {"k", "state"}, {"a_", "a"}, {"a_b1", "__"}} {
			mapTable(t, s, m[0], m[1])
		}
		return s
	}
}

// mapTable maps a prefix and moves all rows.
func mapTable(t testing.TB, s *l3.Store, prefix, table string) {
	t.Helper()
	if err := s.MapPrefix(context.Background(), idKey(prefix), table); err != nil {
		t.Fatal(err)
	}
	for moveSome(t, s, 100) {
	}
}

func moveSome(t testing.TB, s *l3.Store, limit int) (more bool) {
	t.Helper()
	n, more, err := s.MoveMapped(context.Background(), limit)
	if err != nil || n > limit || n == 0 && more {
		t.Fatalf("%d rows moved, more %t, %v", n, more, err)
	}
	return more
}

// Whatever is moved where, and however far: a store answers as one without
// mappings that had the same writes, and so does another node that has not heard
// of the mapping.
func TestMoveRows(t *testing.T) {
	t.Run("sqlite", func(t *testing.T) {
		s := newStore(t)
		moveRows(t, s, s)
	})
	t.Run("mariadb", func(t *testing.T) {
		url := database(t)
		moveRows(t, openURL(t, url), openURL(t, url))
	})
}

func moveRows(t *testing.T, s, other *l3.Store) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	w := &twins{t: t, r: r, stores: []*l3.Store{s, other}, want: newStore(t)}
	for range 8 {
		w.write(10)
	}
	for i, step := range [...]func(){
		func() { w.mapPrefix("b/", "b") },
		func() { w.mapPrefix("b/1", "inner") },
		func() { w.mapPrefix("c", "c") },
		func() { w.unmap("b/") }, // its rows go below, those of b/1 stay
		func() { w.unmap("b/1") },
		func() { w.mapPrefix("b", "b") }, // a table that was used before
		func() { w.mapPrefix("b/2", "inner") },
		func() { w.unmap("b/2") },
		func() { w.unmap("b") },
	} {
		step()
		if i%2 == 1 { // else readers learn of it when rows have moved
			w.compare(fmt.Sprint("step ", i, " begun"))
		}
		for moveSome(t, w.any(), 1+r.IntN(20)) {
			w.write(4)
			w.compare(fmt.Sprint("step ", i))
		}
		w.compare(fmt.Sprint("step ", i, " done"))
	}
	list, err := other.Mappings(context.Background())
	if err != nil || len(list) != 1 || list[0].Table != "c" || list[0].Prefix.ID() != "c" || list[0].Moving || list[0].Leaving {
		t.Errorf("mappings %+v, %v", list, err)
	}
}

// twins writes the same to stores of one database and to one without mappings.
type twins struct {
	t       *testing.T
	r       *rand.Rand
	stores  []*l3.Store
	want    *l3.Store
	version item.Version
}

func (w *twins) any() *l3.Store { return w.stores[w.r.IntN(len(w.stores))] }

func (w *twins) mapPrefix(prefix, table string) {
	if err := w.any().MapPrefix(context.Background(), idKey(prefix), table); err != nil {
		w.t.Fatal(err)
	}
}

func (w *twins) unmap(prefix string) {
	if err := w.any().UnmapPrefix(context.Background(), idKey(prefix)); err != nil {
		w.t.Fatal(err)
	}
}

// write makes a batch, and now and then a rule or a sweep of what has expired.
func (w *twins) write(n int) {
	w.t.Helper()
	var records []item.View
	for range n {
		w.version++
		id := fmt.Sprintf("%c/%d", 'a'+w.r.IntN(4), w.r.IntN(30))
		more := []with{tags(fmt.Sprint("t", w.r.IntN(3))), state(fmt.Sprint("s", w.r.IntN(3)))}
		if w.r.IntN(10) == 0 {
			more = append(more, expires(now-int64(w.r.IntN(2))))
		}
		switch w.r.IntN(6) {
		case 0:
			records = append(records, tombstone(id, w.version))
		case 1:
			records = append(records, metadata(id, w.version, more...))
		default:
			records = append(records, put(id, w.version, fmt.Sprint("content ", w.version), more...))
		}
	}
	got, want := apply(w.t, w.any(), records...), apply(w.t, w.want, records...)
	if !slices.Equal(got, want) {
		w.t.Fatalf("outcomes %+v, want %+v", got, want)
	}
	ctx := context.Background()
	switch w.r.IntN(6) {
	case 0:
		n, err := w.any().Expire(ctx, now, 1000)
		m, err2 := w.want.Expire(ctx, now, 1000)
		if n != m || err != nil || err2 != nil {
			w.t.Fatalf("%d expired, want %d, %v, %v", n, m, err, err2)
		}
	case 1:
		w.version++
		rule := item.Rule{Version: w.version, Op: item.OpDelete, Match: item.MatchKeyPrefix, Namespaces: item.InItems, Values: []string{fmt.Sprintf("%c/%d", 'a'+w.r.IntN(4), w.r.IntN(4))}}
		if w.r.IntN(2) == 0 {
			rule.Match, rule.Values = item.MatchTag, []string{fmt.Sprint("t", w.r.IntN(12))}
		}
		applyWith(w.t, w.any(), []item.Rule{rule})
		applyWith(w.t, w.want, []item.Rule{rule})
		if n, m := sweep(w.t, w.any(), rule, 3), sweep(w.t, w.want, rule, 1000); n != m {
			w.t.Fatalf("%d swept, want %d", n, m)
		}
	}
}

func (w *twins) compare(what string) {
	w.t.Helper()
	for n, s := range w.stores {
		for _, q := range [...]l3.ScanQuery{
			{}, {Prefix: idKey("b/")}, {Prefix: idKey("b/1"), WithContent: true}, {Tag: "t1"}, {State: "s1"}, {Tag: "t0", Prefix: idKey("b"), WithContent: true},
			{State: "s2", Prefix: idKey("c/1")},
		} {
			if got, want := w.scan(s, q, 0), w.scan(w.want, q, 0); !slices.Equal(got, want) {
				w.t.Fatalf("%s: store %d, %+v:\ngot  %q\nwant %q", what, n, q, got, want)
			}
			if got, want := w.scan(s, q, 1+w.r.IntN(6)), w.scan(w.want, q, 0); !slices.Equal(got, want) {
				w.t.Fatalf("%s: store %d, %+v by cursor:\ngot  %q\nwant %q", what, n, q, got, want)
			}
			got, exact, err := s.Count(context.Background(), q, 1000)
			want, _, err2 := w.want.Count(context.Background(), q, 1000)
			if got != want || !exact || err != nil || err2 != nil {
				w.t.Fatalf("%s: store %d, %+v: %d items, %t, want %d, %v, %v", what, n, q, got, exact, want, err, err2)
			}
		}
		w.compareKeys(what, s)
	}
}

func (w *twins) compareKeys(what string, s *l3.Store) {
	w.t.Helper()
	var keys []item.Key
	for i := range 4 * 30 {
		keys = append(keys, idKey(fmt.Sprintf("%c/%d", 'a'+i%4, i/4)))
	}
	many := func(s *l3.Store) []string {
		list := make([]string, len(keys))
		err := s.GetMany(context.Background(), keys, func(i int, v item.View) error {
			if list[i] != "" {
				w.t.Errorf("%s: %s comes twice", what, keys[i].ID())
			}
			list[i] = string(v)
			return nil
		})
		if err != nil {
			w.t.Fatal(err)
		}
		return list
	}
	got, want := many(s), many(w.want)
	for i, key := range keys {
		if i%3 == w.r.IntN(3) {
			if one := get(w.t, s, key); string(one) != want[i] {
				w.t.Fatalf("%s: %s: got %q, want %q", what, key.ID(), one, want[i])
			}
		}
		if got[i] != want[i] {
			w.t.Fatalf("%s: %s among many: got %q, want %q", what, key.ID(), got[i], want[i])
		}
	}
}

// scan returns what a query visits, in pages of limit by cursor, 0 for all.
func (w *twins) scan(s *l3.Store, q l3.ScanQuery, limit int) (list []string) {
	w.t.Helper()
	q.Limit = limit
	for {
		n := 0
		err := s.Scan(context.Background(), q, func(v item.View) error {
			n++
			list = append(list, string(v))
			q.After = slices.Clone(v.Key())
			return nil
		})
		if err != nil {
			w.t.Fatal(err)
		}
		if limit == 0 || n < limit {
			return list
		}
	}
}

// While rows are moved to and fro, whoever reads finds each of them exactly once,
// and what is written is there.
func TestReadsDuringMoves(t *testing.T) {
	t.Run("sqlite", func(t *testing.T) {
		s := newStore(t)
		readsDuringMoves(t, s, s)
	})
	t.Run("mariadb", func(t *testing.T) {
		url := database(t)
		readsDuringMoves(t, openURL(t, url), openURL(t, url))
	})
}

func readsDuringMoves(t *testing.T, mover, s *l3.Store) {
	const rows, rounds = 300, 3
	var records []item.View
	var keys []item.Key
	for i := range rows {
		records = append(records, put(fmt.Sprintf("m/%03d", i), 1, "x", tags("t")))
		keys = append(keys, records[i].Key())
	}
	apply(t, s, records...)
	done := make(chan struct{})
	var group sync.WaitGroup
	group.Go(func() {
		defer close(done)
		for range rounds {
			mapTable(t, mover, "m/", "m")
			if err := mover.UnmapPrefix(context.Background(), idKey("m/")); err != nil {
				t.Error(err)
			}
			for moveSome(t, mover, 40) {
			}
		}
	})
	group.Go(func() {
		for i := item.Version(2); ; i++ {
			select {
			case <-done:
				return
			default:
			}
			out := apply(t, s, put(fmt.Sprintf("m/%03d", i*37%rows), i, "y", tags("t")), put("other", i, "y"))
			if !out[0].Won || !out[1].Won {
				t.Errorf("%+v", out)
			}
		}
	})
	for running := true; running; {
		select {
		case <-done:
			running = false
		default:
		}
		for _, q := range [...]l3.ScanQuery{{Prefix: idKey("m/")}, {Tag: "t"}} {
			if got := ids(t, s, q); len(got) != rows || len(slices.Compact(slices.Clone(got))) != rows || !slices.IsSorted(got) {
				t.Errorf("%+v: %d rows", q, len(got))
			}
			if n, _, err := s.Count(context.Background(), q, 1000); n != rows || err != nil {
				t.Errorf("%+v: count %d, %v", q, n, err)
			}
		}
		seen := 0
		if err := s.GetMany(context.Background(), keys, func(int, item.View) error { seen++; return nil }); seen != rows || err != nil {
			t.Errorf("%d of many, %v", seen, err)
		}
		for i := 0; i < rows; i += 29 {
			if get(t, s, keys[i]) == nil {
				t.Errorf("%s is missing", keys[i].ID())
			}
		}
	}
	group.Wait()
}

// What cannot be mapped is refused, and changes nothing.
func TestMappingsRefused(t *testing.T) {
	s := newStore(t)
	ctx := context.Background()
	f := func(prefix item.Key, table string, want error) {
		t.Helper()
		if err := s.MapPrefix(ctx, prefix, table); !errors.Is(err, want) {
			t.Errorf("%q to %q: got %v, want %v", prefix, table, err, want)
		}
	}
	for _, name := range []string{"", "A", "a-b", "a b", "ä", "a;DROP", "x`", strings.Repeat("x", 49)} {
		f(idKey("p"), name, l3.ErrRejected)
	}
	f(item.Key{item.NamespaceItem}, "x", l3.ErrRejected)
	f(idKey(strings.Repeat("p", 513)), "x", l3.ErrRejected)
	apply(t, s, put("p1", 1, "x"), put("p2", 1, "x"))
	f(idKey("p"), strings.Repeat("x", 48), nil)
	f(idKey("p"), strings.Repeat("x", 48), nil) // it is there
	f(idKey("q"), "q", l3.ErrMoving)
	if err := s.UnmapPrefix(ctx, idKey("p")); !errors.Is(err, l3.ErrMoving) {
		t.Errorf("unmap: %v", err)
	}
	moveSome(t, s, 100)
	f(idKey("p"), "other", l3.ErrMapped)
	f(idKey("q"), strings.Repeat("x", 48), l3.ErrMapped)
	if err := s.UnmapPrefix(ctx, idKey("q")); !errors.Is(err, l3.ErrNotMapped) {
		t.Errorf("unmap: %v", err)
	}
	for i := 1; i < l3.MaxMappings; i++ {
		mapTable(t, s, fmt.Sprint("p", i), fmt.Sprint("t", i))
	}
	f(idKey("q"), "q", l3.ErrRejected)
	if got := ids(t, s, l3.ScanQuery{}); !slices.Equal(got, []string{"p1", "p2"}) {
		t.Errorf("items %q", got)
	}
}

// A move goes on after a restart, and a binary that does not know mappings cannot
// open the database from the first one on.
func TestMoveGoesOn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "l3.db")
	s := openSQLite(t, path)
	for i := range 10 {
		apply(t, s, put(fmt.Sprint("m", i), 1, `{"price": 5}`))
	}
	if err := s.MapPrefix(context.Background(), idKey("m"), "m"); err != nil {
		t.Fatal(err)
	}
	moveSome(t, s, 4)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openSQLite(t, path)
	if got := ids(t, s, l3.ScanQuery{}); len(got) != 10 {
		t.Errorf("items %q", got)
	}
	for moveSome(t, s, 4) {
	}
	if err := s.Verify(context.Background()); err != nil {
		t.Error(err)
	}
	// SQL's JSON functions ask the table; a NULL would be refused.
	check := "INSERT INTO tags SELECT CASE WHEN count(*) = 10 AND (SELECT count(*) FROM items) = 0 AND (SELECT min_binary FROM schema_info) = 5 " +
		"THEN 'n' END, 'k' FROM items__m WHERE json_extract(CAST(content AS TEXT), '$.price') = 5"
	if err := l3.Exec(s, check); err != nil {
		t.Error(err)
	}
}

// JSON functions work on the table of a mapping as on the other.
func TestServerJSONMapped(t *testing.T) {
	url := database(t)
	s := openURL(t, url)
	apply(t, s, put("shop/1", 1, `{"price": 5}`), put("shop/2", 1, `{"price": 50}`), put("x", 1, `{"price": 7}`))
	mapTable(t, s, "shop/", "shop")
	apply(t, s, put("shop/3", 1, `{"price": 60}`), put("shop/4", 1, "no JSON"))
	got := fmt.Sprint(beside(t, url).rows("SELECT item_key, JSON_VALUE(json, '$.price') FROM edgenode_items__shop WHERE JSON_VALUE(json, '$.price') > 10 ORDER BY item_key"))
	if got != "[[ishop/2 50] [ishop/3 60]]" {
		t.Errorf("rows %s", got)
	}
	if err := s.Verify(context.Background()); err != nil {
		t.Error(err)
	}
}

// A put that began before a prefix was mapped, and would be committed after it,
// goes to the new table.
func TestWriteBeforeMapping(t *testing.T) {
	url := database(t)
	s, other := openURL(t, url), openURL(t, url)
	apply(t, s, put("before", 1, "x"))
	out, tries := meanwhile(t, s, put("m/k", 5, "x"), func() { mapTable(t, other, "m/", "m") })
	if !out.Won || tries != 2 || live(t, other, "m/k") != "x" {
		t.Errorf("%+v in %d tries", out, tries)
	}
	if n := beside(t, url).rows("SELECT (SELECT count(*) FROM edgenode_items), (SELECT count(*) FROM edgenode_items__m)"); n[0][0] != "1" || n[0][1] != "1" {
		t.Errorf("rows in the tables: %v", n[0])
	}
}
