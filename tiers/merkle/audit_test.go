package merkle_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/edgenode/edgenode/tiers/merkle"
)

// A tree that is what the rows say is found good; one changed leaf, one leaf too
// many or one too few is found, and what a step has yet to take is not.
func TestAudit(t *testing.T) {
	s, src := newStore(), newSource()
	tree, err := merkle.New(merkle.Options{Store: s, Source: src, BatchItems: 50})
	if err != nil {
		t.Fatal(err)
	}
	settle := func() {
		t.Helper()
		for more := true; more; {
			if more, err = tree.Step(context.Background()); err != nil {
				t.Fatal(err)
			}
		}
	}
	audit := func(wantGood bool, want ...string) merkle.Audit {
		t.Helper()
		var found []string
		a, err := tree.Audit(context.Background(), nil, func(f merkle.Finding) error {
			found = append(found, fmt.Sprintf("%s %t", f.ID, f.InTree))
			return nil
		})
		if err != nil || a.Good() != wantGood || strings.Join(found, ",") != strings.Join(want, ",") {
			t.Errorf("audit: %+v, %q, %v", a, found, err)
		}
		return a
	}
	if _, err := tree.Audit(context.Background(), nil, nil); !errors.Is(err, merkle.ErrUnknown) {
		t.Errorf("no tree: %v", err)
	}
	settle()
	audit(true)
	for i := range 400 {
		src.put(fmt.Sprintf("uk.%d:%d", i%7, i), i)
	}
	settle()
	if a := audit(true); a.Items != 400 || !a.Counted {
		t.Errorf("audit: %+v", a)
	}
	src.put("uk.3:3", 1000)
	src.put("new", 1)
	if a := audit(true); a.Undecided != 2 || a.Counted {
		t.Errorf("with changes to come: %+v", a)
	}
	settle()
	silent := func(f func()) { // a row that changes without a number
		n := len(src.log)
		f()
		src.log = src.log[:n]
	}
	silent(func() { src.put("uk.5:5", 7777); src.put("uk.x", 1) })
	audit(false, "uk.5:5 true", "uk.x false")
	silent(func() { src.put("uk.5:5", 5); src.remove("uk.x") })
	audit(true)
	silent(func() { src.remove("uk.6:6") })
	if a := audit(false); a.Items != 400 || a.Leaves != 401 {
		t.Errorf("a leaf without row: %+v", a)
	}
	if err := tree.Rebuild(context.Background()); err != nil {
		t.Fatal(err)
	}
	settle()
	audit(true)
	s.rows[""] = []byte("x")
	if _, err := tree.Step(context.Background()); !errors.Is(err, merkle.ErrCorrupt) {
		t.Errorf("a state that is none: %v", err)
	}
	if err := tree.Rebuild(context.Background()); err != nil {
		t.Fatal(err)
	}
	settle()
	audit(true)
}

func TestPathOf(t *testing.T) {
	f := func(key, want string, good bool) {
		t.Helper()
		if path, err := merkle.PathOf(key); (err == nil) != good || good && path != want {
			t.Errorf("%q: %q, %v", key, path, err)
		}
	}
	f("\x00", "", true)
	f("uk.\x00", "uk.", true)
	f("uk.\x0f\x03\x02", "uk.", true)
	f("", "", false)
	f("uk\x00", "", false)
	f("uk.\x10\x01", "", false)
	f("\x07", "", false)
	f("uk.\x41", "", false)
	f(strings.Repeat("a.", 64)+"\x00", "", false)
}

func TestHashText(t *testing.T) {
	h := merkle.Hash{1, 0xfe, 31: 0x80}
	if got, err := merkle.ParseHash(h.String()); got != h || err != nil {
		t.Errorf("%v, %v", got, err)
	}
	for _, s := range []string{"", "00", h.String() + "0", strings.Repeat("G", 64)} {
		if _, err := merkle.ParseHash(s); err == nil {
			t.Errorf("%q is a hash", s)
		}
	}
}
