package l3

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/edgenode/edgenode/tiers/item"
	"pgregory.net/rapid"
)

// genOp draws a put, metadata change or tombstone of one key with few versions
// and few contents, so that ties are common.
func genOp(kinds ...item.Kind) *rapid.Generator[item.View] {
	return rapid.Custom(func(t *rapid.T) item.View {
		v := item.Version(rapid.IntRange(2, 6).Draw(t, "version"))
		it := item.Item{
			Kind: rapid.SampledFrom(kinds).Draw(t, "kind"), Key: item.Key("ik"), Version: v, MetadataVersion: v,
			State:     rapid.SampledFrom([]string{"", "x", "y"}).Draw(t, "state"),
			ExpiresAt: int64(rapid.IntRange(0, 2).Draw(t, "expires")),
			UpdatedAt: int64(rapid.IntRange(0, 2).Draw(t, "updated")),
		}
		if it.Kind != item.KindMetadata {
			it.ContentVersion = v
		}
		if it.Kind == item.KindPut {
			it.Content = []byte(rapid.SampledFrom([]string{"a", "b", "[1]"}).Draw(t, "content"))
			it.MIME = rapid.SampledFrom([]string{"", "m"}).Draw(t, "mime")
			it.Seal()
		}
		return headOf(it.AppendTo(nil))
	})
}

func base() item.View {
	it := item.Item{Kind: item.KindPut, Key: item.Key("ik"), Version: 1, ContentVersion: 1, MetadataVersion: 1, Content: []byte("base")}
	it.Seal()
	return headOf(it.AppendTo(nil))
}

func mergeAll(cur item.View, ops []item.View) item.View {
	for _, op := range ops {
		cur, _ = merge(cur, op)
	}
	return cur
}

// Puts and metadata changes of a live item end in the same row in any order,
// also when versions are equal and when some come twice.
func TestMergeConverges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ops := rapid.SliceOfN(genOp(item.KindPut, item.KindMetadata), 1, 7).Draw(t, "ops")
		want := mergeAll(base(), ops)
		if _, err := item.Parse(want); err != nil {
			t.Fatal(err)
		}
		shuffled := append(rapid.Permutation(ops).Draw(t, "order"), ops[0])
		if got := mergeAll(base(), shuffled); string(got) != string(want) {
			t.Fatalf("got  %q\nwant %q", got, want)
		}
	})
}

// Puts and tombstones converge from nothing, and so does the content when
// metadata changes come between.
func TestMergeConvergesWithTombstones(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ops := rapid.SliceOfN(genOp(item.KindPut, item.KindTombstone), 1, 7).Draw(t, "ops")
		want := mergeAll(nil, ops)
		if got := mergeAll(nil, rapid.Permutation(ops).Draw(t, "order")); string(got) != string(want) {
			t.Fatalf("got  %q\nwant %q", got, want)
		}
		ops = append(ops, rapid.SliceOfN(genOp(item.KindMetadata), 1, 4).Draw(t, "metadata")...)
		a, b := mergeAll(base(), ops), mergeAll(base(), rapid.Permutation(ops).Draw(t, "order"))
		if compareContent(a, b) != 0 || a.Kind() != b.Kind() {
			t.Fatalf("got  %q\nwant %q", a, b)
		}
	})
}

// The version of a row never goes back.
func TestMergeIsMonotone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cur := base()
		for _, op := range rapid.SliceOfN(genOp(item.KindPut, item.KindMetadata, item.KindTombstone), 1, 9).Draw(t, "ops") {
			next, won := merge(cur, op)
			if next.Version() < cur.Version() || next.ContentVersion() < cur.ContentVersion() {
				t.Fatalf("version went back from %s to %s", cur.Version(), next.Version())
			}
			if again, more := merge(next, op); more != 0 || string(again) != string(next) {
				t.Fatalf("the same write won %d again", more)
			}
			if won&partContent != 0 != (op.Kind() != item.KindMetadata && holds(next, op) && !holds(cur, op)) {
				t.Fatalf("won %d, holds %t", won, holds(next, op))
			}
			cur = next
		}
	})
}

// headOf and appendRecord are inverse for every record, at the offset that the
// record form draws.
func FuzzHead(f *testing.F) {
	f.Add([]byte("content"), "state", "tag", "mime", []byte("response"))
	f.Add([]byte{}, "", "", "", []byte(nil))
	f.Fuzz(func(t *testing.T, content []byte, state, tag, mime string, response []byte) {
		it := item.Item{
			Kind: item.KindPut, Key: item.Key("ik"), Version: 1, ContentVersion: 1, State: state, MIME: mime,
			Tags: []string{tag}, Response: response, Content: content,
		}
		if it.Check() != nil {
			t.Skip()
		}
		want := it.AppendTo(nil)
		head := headOf(want)
		if v, err := item.Parse(head); err != nil || len(v.Content()) != 0 || string(v.Response()) != string(response) {
			t.Fatalf("head %q: %v", head, err)
		}
		if got := appendRecord([]byte("x"), head, content); string(got) != "x"+string(want) {
			t.Errorf("got  %q\nwant %q", got, want)
		}
	})
}

// A position of a sweep survives its encoding, and rubbish is refused.
func TestPosition(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 100 {
		p := position{span: r.IntN(10), tag: []byte(fmt.Sprint(r.IntN(1000))), key: []byte(fmt.Sprint(r.IntN(1000)))}
		got, err := decodePosition(p.encode())
		if err != nil || got.span != p.span || string(got.tag) != string(p.tag) || string(got.key) != string(p.key) {
			t.Errorf("got %+v, want %+v, %v", got, p, err)
		}
		if _, err := decodePosition(p.encode()[:4+r.IntN(6)%4]); err == nil {
			t.Error("a cut position is read")
		}
	}
}
