package l3_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/l3"
)

// All orders of a set of writes end in the same row, the same tags and the same
// place in the lists; each order has a key of its own.
func TestAllOrdersConverge(t *testing.T) {
	t.Run("sqlite", func(t *testing.T) { allOrdersConverge(t, newStore(t)) })
	t.Run("mariadb", func(t *testing.T) { allOrdersConverge(t, newMariaDB(t)) })
}

func allOrdersConverge(t *testing.T, s *l3.Store) {
	f := func(name string, ops ...func(id string) item.View) {
		t.Helper()
		orders := permutations(len(ops))
		id := func(n int) string { return fmt.Sprintf("%s/%03d", name, n) }
		for step := range len(ops) + 1 {
			var batch []item.View
			for n, order := range orders {
				if step == 0 {
					batch = append(batch, put(id(n), 1, "base", tags("base")))
				} else {
					batch = append(batch, ops[order[step-1]](id(n)))
				}
			}
			apply(t, s, batch...)
		}
		want := get(t, s, idKey(id(0)))
		for n := range orders {
			got, wantItem := get(t, s, idKey(id(n))).Item(), want.Item()
			got.Key = wantItem.Key
			if b := got.AppendTo(nil); string(b) != string(want) {
				t.Errorf("%s: order %v ends in %q, want %q", name, orders[n], b, want)
			}
		}
	}
	at := func(v item.Version, content string, more ...with) func(id string) item.View {
		return func(id string) item.View { return put(id, v, content, more...) }
	}
	meta := func(v item.Version, more ...with) func(id string) item.View {
		return func(id string) item.View { return metadata(id, v, more...) }
	}
	dead := func(v item.Version) func(id string) item.View {
		return func(id string) item.View { return tombstone(id, v) }
	}
	f("puts", at(2, "a"), at(4, "b", tags("x")), at(4, "c", state("s")), at(3, "d"))
	f("metadata", at(2, "a", tags("x")), meta(3, tags("y"), state("s")), at(4, "b", state("p")), meta(6, expires(now+9), updated(6)))
	f("older content", at(5, "a", state("put")), meta(9, state("late"), tags("y")), at(7, "b", state("put2")), meta(8, state("mid")))
	f("ties", at(5, "a", state("x")), meta(5, state("y")), at(5, "b", state("z")), meta(5, state("w")))
	f("deleted last", at(2, "a"), dead(9), at(8, "b"), meta(7, state("s")))
	f("deleted between", at(2, "a"), dead(5), at(8, "b", tags("x")), dead(8))
	if got := changes(t, s, 0); len(got) != int(s.LastSeq()) {
		t.Errorf("%d changes, the last is %d", len(got), s.LastSeq())
	}
}

func permutations(n int) (list [][]int) {
	if n == 0 {
		return [][]int{nil}
	}
	for _, p := range permutations(n - 1) {
		for i := range n {
			list = append(list, slices.Insert(slices.Clone(p), i, n-1))
		}
	}
	return list
}

// Any bytes come back as they were given (A16).
func FuzzRoundTrip(f *testing.F) { roundTrip(f, newStore(f)) }

// The same on a server, which takes tags up to 2,000 bytes.
func FuzzServerRoundTrip(f *testing.F) { roundTrip(f, newMariaDB(f)) }

func roundTrip(f *testing.F, s *l3.Store) {
	version := item.Version(0)
	f.Add([]byte("key"), []byte("content"), []byte("response"), "tag", "state")
	f.Add([]byte{0, 0xff, '\''}, []byte{0}, []byte{}, "t\x00\xff", "\xff\x00")
	f.Add([]byte("k"), []byte(`{"a": 1.0, "a": 2}`), []byte(nil), "", "")
	f.Fuzz(func(t *testing.T, key, content, resp []byte, tag, st string) {
		version++
		it := item.Item{
			Kind: item.KindPut, Key: item.AppendKey(nil, item.NamespaceItem, key), Version: version, ContentVersion: version,
			MetadataVersion: version, Content: content, Response: resp, Tags: []string{tag}, State: st,
		}
		it.Seal()
		if it.Check() != nil || len(tag) > 2000 {
			t.Skip()
		}
		want := item.View(it.AppendTo(nil))
		apply(t, s, want)
		if got := get(t, s, it.Key); string(got) != string(want) {
			t.Errorf("got  %q\nwant %q", got, want)
		}
	})
}
