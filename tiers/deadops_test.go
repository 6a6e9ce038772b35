package tiers_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/edgenode/edgenode/tiers"
	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/l3"
	"github.com/edgenode/edgenode/tiers/tiertest"
)

// TestG9_DeadLettersAreHandled: an operator lists them page by page, has one
// tried again, and gives one up.
func TestG9_DeadLettersAreHandled(t *testing.T) {
	dir, store := t.TempDir(), &tiertest.Store{}
	e := open(t, dir, func(o *tiers.Options) { o.WrapStore, o.DeadLetterTries = store.Wrap, 2 })
	put(t, e, "d/1", "old")
	flush(t, e)
	store.Reject(func(op l3.Op) bool { return strings.HasPrefix(op.Record.Key().ID(), "d/") })
	for i := range 5 {
		put(t, e, fmt.Sprintf("d/%d", i), "refused")
	}
	put(t, e, "ok", "taken")
	flush(t, e)
	var ids []string
	for cursor := ""; ; {
		list, next, err := e.DeadLetters(t.Context(), cursor, 2)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range list {
			ids = append(ids, d.Key.ID())
			if d.Reason == "" || d.Bytes == 0 || d.Kind != item.KindPut {
				t.Errorf("dead letter %+v lacks something", d)
			}
		}
		if cursor = next; cursor == "" {
			break
		}
	}
	if got := strings.Join(ids, " "); got != "d/0 d/1 d/2 d/3 d/4" {
		t.Errorf("listed %s", got)
	}
	if err := e.RetryDeadLetter(t.Context(), key(t, "d/0")); !errors.Is(err, tiers.ErrRefused) {
		t.Errorf("tried again: %v, want ErrRefused", err)
	}
	if err := e.RetryDeadLetter(t.Context(), key(t, "ok")); !errors.Is(err, tiers.ErrNoItem) {
		t.Errorf("what is no dead letter: %v, want ErrNoItem", err)
	}
	if err := e.DropDeadLetter(t.Context(), key(t, "d/1")); err != nil {
		t.Fatal(err)
	}
	want(t, e, "d/1", "old")
	if err := e.DropDeadLetter(t.Context(), key(t, "d/1")); !errors.Is(err, tiers.ErrNoItem) {
		t.Errorf("dropped twice: %v, want ErrNoItem", err)
	}
	store.Reject(nil)
	if err := e.RetryDeadLetter(t.Context(), key(t, "d/2")); err != nil {
		t.Errorf("tried again, not refused: %v", err)
	}
	wantStatus(t, e, "d/2", tiers.Status{Where: tiers.StatusSynced, L1: true, L3: true})
	audit(t, e, "at the end")
	e = reopen(t, e, dir, nil) // at a start all are tried
	want(t, e, "d/1", "old")
	want(t, e, "d/4", "refused")
	flush(t, e)
	if list, _, err := e.DeadLetters(t.Context(), "", 0); err != nil || len(list) != 0 {
		t.Errorf("%d dead letters left, %v", len(list), err)
	}
}

// corruptStore calls batches damaged that hold certain ids.
type corruptStore struct {
	tiers.Store
	all atomic.Bool
}

func (s *corruptStore) wrap(real tiers.Store) tiers.Store { s.Store = real; return s }

func (s *corruptStore) Apply(ctx context.Context, ops []l3.Op, rules []item.Rule, out []l3.Outcome) (uint64, error) {
	for _, op := range ops {
		if s.all.Load() || op.Record.Key().ID() == "bad" {
			return 0, fmt.Errorf("test: %w", l3.ErrCorrupt)
		}
	}
	return s.Store.Apply(ctx, ops, rules, out)
}

// TestA14_DamagedRow: a row of L3 that contradicts itself holds up its own id
// only; an L3 that is damaged as a whole makes no dead letters.
func TestA14_DamagedRow(t *testing.T) {
	store := &corruptStore{}
	e := open(t, t.TempDir(), func(o *tiers.Options) { o.WrapStore, o.BatchFlush = store.wrap, 1<<40 })
	for i := range 20 {
		put(t, e, fmt.Sprint(i), "v")
	}
	put(t, e, "bad", "v")
	flush(t, e)
	if n := e.PendingItems(); n != 1 {
		t.Errorf("%d pending, want the one", n)
	}
	want(t, e, "bad", "v")
	if st, err := e.Status(t.Context(), key(t, "bad")); err != nil || st.Where != tiers.StatusDeadLetter {
		t.Errorf("status %+v, %v", st, err)
	}
	store.all.Store(true)
	for i := range 20 {
		put(t, e, fmt.Sprint(i), "v2")
	}
	for range 10 {
		if err := e.Flush(t.Context()); !errors.Is(err, tiers.ErrUnavailable) {
			t.Fatalf("flush: %v, want ErrUnavailable", err)
		}
	}
	if list, _, _ := e.DeadLetters(t.Context(), "", 0); len(list) != 1 {
		t.Errorf("%d dead letters, want 1", len(list))
	}
	store.all.Store(false)
	flush(t, e)
	if n := e.PendingItems(); n != 1 {
		t.Errorf("%d pending at the end, want the one", n)
	}
}
