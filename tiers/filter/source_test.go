package filter_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sort"
	"sync"
	"testing"

	"github.com/edgenode/edgenode/tiers/filter"
	"github.com/edgenode/edgenode/tiers/item"
)

// errOutage is what a source answers while it is told to.
var errOutage = errors.New("outage")

// A source is a ground truth in memory: rows in two tables, as while a mapping
// moves them, and the sequence of changes.
type source struct {
	mu      sync.Mutex
	tables  [2]map[string]bool
	sorted  []string // of both tables; nil when it has to be made anew
	log     []filter.Change
	trimmed uint64
	fails   error // for every call
	// onPage is called before each page of keys, without the lock.
	onPage func(page int)
	pages  int
}

func newSource() *source {
	return &source{tables: [2]map[string]bool{{}, {}}}
}

func (s *source) change(op filter.Op, key item.Key) {
	n := uint64(len(s.log)) + 1
	s.log = append(s.log, filter.Change{Seq: n, Version: item.Version(n << 16), Op: op, Key: append(item.Key(nil), key...)})
}

// put commits a row into one of the tables.
func (s *source) put(table int, key item.Key) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.tables[0][string(key)] && !s.tables[1][string(key)] {
		s.sorted = nil
		s.tables[table][string(key)] = true
	}
	s.change(filter.OpPut, key)
}

func (s *source) remove(key item.Key) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.tables[0], string(key))
	delete(s.tables[1], string(key))
	s.sorted = nil
	s.change(filter.OpRemove, key)
}

func (s *source) move(key item.Key) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.tables {
		if s.tables[i][string(key)] {
			delete(s.tables[i], string(key))
			s.tables[1-i][string(key)] = true
			return
		}
	}
}

func (s *source) LastSeq(context.Context) (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return uint64(len(s.log)), s.fails
}

func (s *source) Changes(_ context.Context, after uint64, limit int, fn func(filter.Change) error) error {
	s.mu.Lock()
	if s.fails != nil {
		defer s.mu.Unlock()
		return s.fails
	}
	if after < s.trimmed || after > uint64(len(s.log)) {
		defer s.mu.Unlock()
		return fmt.Errorf("%w: kept are %d to %d", filter.ErrGone, s.trimmed+1, len(s.log))
	}
	list := slices.Clone(s.log[after:min(int(after)+limit, len(s.log))])
	s.mu.Unlock()
	for _, c := range list {
		if err := fn(c); err != nil {
			return err
		}
	}
	return nil
}

func (s *source) Keys(_ context.Context, after item.Key, limit int, fn func(item.Key) error) error {
	if s.onPage != nil {
		s.onPage(s.pages)
	}
	s.pages++
	s.mu.Lock()
	if s.sorted == nil {
		for i := range s.tables {
			for k := range s.tables[i] {
				s.sorted = append(s.sorted, k)
			}
		}
		slices.Sort(s.sorted)
	}
	from := sort.Search(len(s.sorted), func(i int) bool { return bytes.Compare([]byte(s.sorted[i]), after) > 0 })
	page := slices.Clone(s.sorted[from:min(from+limit, len(s.sorted))])
	err := s.fails
	s.mu.Unlock()
	if err != nil {
		return err
	}
	var buf []byte // reused, as a source may
	for _, k := range page {
		buf = append(buf[:0], k...)
		if err := fn(buf); err != nil {
			return err
		}
	}
	return nil
}

func key(n int) item.Key { return fmt.Appendf(nil, "ishop/item:%d", n) }

func open(t testing.TB, edit ...func(*filter.Options)) *filter.Filter {
	t.Helper()
	o := filter.Options{Identity: "truth", MinItems: 1000, PageKeys: 100}
	for _, e := range edit {
		e(&o)
	}
	f, err := filter.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	return f
}

func warm(t testing.TB, f *filter.Filter, s *source) {
	t.Helper()
	if err := f.Warm(context.Background(), s, 0); err != nil {
		t.Fatal(err)
	}
	if !f.Trusted() {
		t.Fatalf("not trusted after the warm-up: %+v", f.Stats())
	}
}

func catchUp(t testing.TB, f *filter.Filter, s *source) {
	t.Helper()
	if err := f.CatchUp(context.Background(), s); err != nil {
		t.Fatal(err)
	}
}

// noLies fails if the filter denies a key of the source.
func noLies(t testing.TB, f *filter.Filter, s *source) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.tables {
		for k := range s.tables[i] {
			if f.DefinitelyMissing(item.Key(k)) {
				t.Fatalf("the filter denies %q, which is there", k)
			}
		}
	}
}
