package tiers_test

import (
	"context"
	"sync"
	"testing"

	"github.com/edgenode/edgenode/tiers"
	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/tiertest"
)

// A lateStore does something between a read of rows and its answer, once.
type lateStore struct {
	tiertest.Store
	mu   sync.Mutex
	then func()
}

func (s *lateStore) wrap(real tiers.Store) tiers.Store { s.Wrap(real); return s }

func (s *lateStore) do() {
	s.mu.Lock()
	then := s.then
	s.then = nil
	s.mu.Unlock()
	if then != nil {
		then()
	}
}

func (s *lateStore) Get(ctx context.Context, key item.Key, dst []byte) ([]byte, bool, error) {
	b, ok, err := s.Store.Get(ctx, key, dst)
	s.do()
	return b, ok, err
}

func (s *lateStore) GetMany(ctx context.Context, keys []item.Key, fn func(i int, v item.View) error) error {
	var rows []item.View
	var of []int
	err := s.Store.GetMany(ctx, keys, func(i int, v item.View) error {
		rows, of = append(rows, append(item.View(nil), v...)), append(of, i)
		return nil
	})
	s.do()
	for i, v := range rows {
		if err == nil {
			err = fn(of[i], v)
		}
	}
	return err
}

// lateReads are the ways to read k below L1.
var lateReads = map[string]func(t *testing.T, e *tiers.Engine) (content string, ok bool){
	"get": func(t *testing.T, e *tiers.Engine) (string, bool) { return get(t, e, "k") },
	"get many": func(t *testing.T, e *tiers.Engine) (content string, ok bool) {
		keys := []item.Key{key(t, "k"), key(t, "other")}
		e.GetMany(t.Context(), keys, tiers.ReadOptions{}, func(i int, h *tiers.Hit, found bool, err error) {
			if err != nil {
				t.Error(err)
			}
			if i == 0 && found {
				content, ok = string(h.View.Content()), true
			}
		})
		return content, ok
	},
	"change": func(t *testing.T, e *tiers.Engine) (string, bool) {
		state := "done"
		if _, err := e.Change(t.Context(), key(t, "k"), tiers.MetadataChange{State: &state}); err != nil {
			return "", false
		}
		return get(t, e, "k")
	},
}

func eachLateRead(t *testing.T, f func(t *testing.T, e *tiers.Engine, s *lateStore, read func() (string, bool))) {
	for name, read := range lateReads {
		t.Run(name, func(t *testing.T) {
			s := &lateStore{}
			e := open(t, t.TempDir(), func(o *tiers.Options) { o.WrapStore, o.FilterOff = s.wrap, true })
			w := &tiers.Write{Key: key(t, "k"), Content: []byte("old"), Tags: []string{"t1"}, Tiers: belowL1}
			if _, err := e.Submit(t.Context(), w); err != nil {
				t.Fatal(err)
			}
			flush(t, e)
			f(t, e, s, func() (string, bool) { return read(t, e) })
		})
	}
}

func deleteTag(t *testing.T, e *tiers.Engine, tag string) {
	t.Helper()
	if _, err := e.DeleteMatching(t.Context(), tiers.Query{Tag: tag}, 0); err != nil {
		t.Fatal(err)
	}
}

// TestB4_RuleSweptDuringTheRead: a bulk delete holds and has not reached the rows
// of L3 when a read of L3 begins; it has reached them when the old row is
// answered. The item is gone.
func TestB4_RuleSweptDuringTheRead(t *testing.T) {
	eachLateRead(t, func(t *testing.T, e *tiers.Engine, s *lateStore, read func() (string, bool)) {
		s.FailSweeps(true)
		deleteTag(t, e, "t1")
		s.then = func() {
			s.FailSweeps(false)
			flush(t, e)
		}
		if got, ok := read(); ok {
			t.Errorf("%q comes back", got)
		}
	})
}

// TestC1_RuleAndPutDuringTheRead: while L3 is read, the item gets content without
// its tag, and then what has the tag is deleted. The late row is covered, the item
// is not: there is no moment at which it was not there.
func TestC1_RuleAndPutDuringTheRead(t *testing.T) {
	eachLateRead(t, func(t *testing.T, e *tiers.Engine, s *lateStore, read func() (string, bool)) {
		s.then = func() {
			putIn(t, e, "k", "new", belowL1, 0)
			flush(t, e)
			deleteTag(t, e, "t1")
		}
		if got, ok := read(); !ok || got != "new" {
			t.Errorf("%q, %v, want the new content", got, ok)
		}
	})
}
