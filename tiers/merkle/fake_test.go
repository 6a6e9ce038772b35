package merkle_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"sort"
	"sync"
	"testing"

	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/merkle"
)

// errCut is what everything answers after the power is gone.
var errCut = errors.New("power cut")

// A store is rows in memory. It forgets what was not committed.
type store struct {
	mu   sync.Mutex
	rows map[string][]byte

	reads, writes int // rows
	// cutAt is the call (Rows, Commit, Clear) at which the power goes, counted
	// down; 0 is never. A commit that is cut has happened if kept is true.
	cutAt int
	kept  bool
	// onCommit is called before a commit, without the lock.
	onCommit func()
}

func newStore() *store { return &store{rows: map[string][]byte{}} }

func (s *store) cut() bool {
	if s.cutAt > 0 {
		if s.cutAt--; s.cutAt == 0 {
			s.cutAt = -1
		}
	}
	return s.cutAt < 0
}

func (s *store) Rows(_ context.Context, keys []string) ([][]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cut() {
		return nil, errCut
	}
	list := make([][]byte, len(keys))
	for i, k := range keys {
		list[i] = s.rows[k]
	}
	s.reads += len(keys)
	return list, nil
}

func (s *store) Commit(_ context.Context, b merkle.Batch) error {
	if f := s.onCommit; f != nil {
		s.onCommit = nil
		f()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	cut := s.cut()
	if cut && !s.kept {
		return errCut
	}
	if !bytes.Equal(s.rows[""], b.Was) {
		return merkle.ErrMoved
	}
	for _, r := range b.Puts {
		s.rows[r.Key] = bytes.Clone(r.Value)
	}
	for _, k := range b.Deletes {
		if s.rows[k] == nil {
			return fmt.Errorf("row %q is deleted, and was not there", k)
		}
		delete(s.rows, k)
	}
	s.rows[""] = bytes.Clone(b.State)
	s.writes += len(b.Puts) + len(b.Deletes)
	if cut {
		s.kept = false
		return errCut
	}
	return nil
}

func (s *store) Clear(_ context.Context, was []byte, limit int) (n int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cut() {
		return 0, errCut
	}
	if !bytes.Equal(s.rows[""], was) {
		return 0, merkle.ErrMoved
	}
	for k := range s.rows {
		if k != "" && n < limit {
			delete(s.rows, k)
			n++
		}
	}
	return n, nil
}

// A source is a ground truth in memory.
type source struct {
	mu      sync.Mutex
	items   map[string]merkle.Hash
	sorted  []string // nil when it has to be made anew
	log     []string // ids by number; "" concerns no item
	trimmed uint64
	// onLeaves is called by Leaves between its question and its answer, without
	// the lock.
	onLeaves func()
}

func newSource() *source { return &source{items: map[string]merkle.Hash{}} }

// put commits a row whose leaf tells of n.
func (s *source) put(id string, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.items[id]; !ok {
		s.sorted = nil
	}
	s.items[id] = sha256.Sum256(fmt.Appendf(nil, "%s %d", id, n))
	s.log = append(s.log, id)
}

func (s *source) remove(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.items, id)
	s.sorted = nil
	s.log = append(s.log, id)
}

func (s *source) LastSeq(context.Context) (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return uint64(len(s.log)), nil
}

func (s *source) Changes(_ context.Context, after uint64, limit int, fn func(uint64, []byte) error) error {
	s.mu.Lock()
	if after < s.trimmed || after > uint64(len(s.log)) {
		defer s.mu.Unlock()
		return fmt.Errorf("%w: kept are %d to %d", merkle.ErrGone, s.trimmed+1, len(s.log))
	}
	list := slices.Clone(s.log[after:min(int(after)+limit, len(s.log))])
	s.mu.Unlock()
	for i, id := range list {
		var b []byte
		if id != "" {
			b = []byte(id)
		}
		if err := fn(after+uint64(i)+1, b); err != nil {
			return err
		}
	}
	return nil
}

func (s *source) Leaves(_ context.Context, ids [][]byte, fn func(int, merkle.Hash)) error {
	s.mu.Lock()
	list := make([]*merkle.Hash, len(ids))
	for i, id := range ids {
		if h, ok := s.items[string(id)]; ok {
			list[i] = &h
		}
	}
	s.mu.Unlock()
	if f := s.onLeaves; f != nil {
		s.onLeaves = nil
		f()
	}
	for i, h := range list {
		if h != nil {
			fn(i, *h)
		}
	}
	return nil
}

func (s *source) Scan(_ context.Context, after []byte, limit int, fn func([]byte, merkle.Hash) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sorted == nil {
		for id := range s.items {
			s.sorted = append(s.sorted, id)
		}
		slices.Sort(s.sorted)
	}
	from := sort.SearchStrings(s.sorted, string(after))
	if from < len(s.sorted) && s.sorted[from] == string(after) {
		from++
	}
	for _, id := range s.sorted[from:min(from+limit, len(s.sorted))] {
		if err := fn([]byte(id), s.items[id]); err != nil {
			return err
		}
	}
	return nil
}

func open(t testing.TB, s *store, src *source, edit ...func(*merkle.Options)) *merkle.Tree {
	t.Helper()
	o := merkle.Options{Store: s, Source: src, BatchItems: 50}
	for _, e := range edit {
		e(&o)
	}
	tree, err := merkle.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tree.Close)
	return tree
}

// settle steps until there is no more to do.
func settle(t testing.TB, tree *merkle.Tree) merkle.Head {
	t.Helper()
	for more := true; more; {
		var err error
		if more, err = tree.Step(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	h, err := tree.Head(context.Background())
	if err != nil || !h.Known {
		t.Fatalf("Head = %+v, %v", h, err)
	}
	return h
}

// built returns the settled tree of a source.
func built(t testing.TB, src *source) (*merkle.Tree, *store) {
	t.Helper()
	s := newStore()
	tree := open(t, s, src)
	settle(t, tree)
	return tree, s
}

// expect fails unless the tree is that of the source, computed otherwise.
func expect(t testing.TB, tree *merkle.Tree, src *source) {
	t.Helper()
	h := settle(t, tree)
	want, ok := reference(src.items)
	if h.Exists != ok || h.Leaves != uint64(len(src.items)) || ok && h.Hash != want {
		t.Fatalf("tree of %d items: %+v, want exists %v, hash %s", len(src.items), h, ok, want)
	}
}

// reference computes the root straight from its definition; ok is false for no
// items.
func reference(items map[string]merkle.Hash) (root merkle.Hash, ok bool) {
	type leaf struct {
		segments []string
		hash     merkle.Hash
	}
	var branch func(leaves []leaf) merkle.Hash
	var shape func(names []string, hashes map[string]merkle.Hash, depth int) merkle.Hash
	shape = func(names []string, hashes map[string]merkle.Hash, depth int) merkle.Hash {
		if len(names) <= 16 {
			sort.Strings(names)
			b := []byte{1, 0}
			for _, n := range names {
				h := hashes[n]
				b = append(b, 0, 0, byte(len(n)>>8), byte(len(n)))
				b = append(append(b, n...), h[:]...)
			}
			return sha256.Sum256(b)
		}
		var groups [16][]string
		for _, n := range names {
			digit := fmt.Sprintf("%x", sha256.Sum256([]byte(n)))[depth]
			i := bytes.IndexByte([]byte("0123456789abcdef"), digit)
			groups[i] = append(groups[i], n)
		}
		b := []byte{1, 1}
		for i, g := range groups {
			if len(g) > 0 {
				h := shape(g, hashes, depth+1)
				b = append(append(b, byte(i)), h[:]...)
			}
		}
		return sha256.Sum256(b)
	}
	branch = func(leaves []leaf) merkle.Hash {
		below, hashes := map[string][]leaf{}, map[string]merkle.Hash{}
		for _, l := range leaves {
			if len(l.segments) == 1 {
				hashes[l.segments[0]] = l.hash
				continue
			}
			below[l.segments[0]] = append(below[l.segments[0]], leaf{l.segments[1:], l.hash})
		}
		for name, list := range below {
			hashes[name] = branch(list)
		}
		var names []string
		for n := range hashes {
			names = append(names, n)
		}
		return shape(names, hashes, 0)
	}
	var all []leaf
	for id, h := range items {
		all = append(all, leaf{segments(id), h})
	}
	if len(all) == 0 {
		return root, false
	}
	return branch(all), true
}

// segments cuts an id as the format says.
func segments(id string) (list []string) {
	for len(list) < merkle.MaxSegments-1 {
		i := bytes.IndexAny([]byte(id), "./:")
		if i < 0 {
			break
		}
		list, id = append(list, id[:i+1]), id[i+1:]
	}
	return append(list, id)
}

func sample() item.Item {
	it := item.Item{
		Kind: item.KindPut, Tiers: item.AllTiers, Key: item.AppendKey(nil, item.NamespaceItem, "uk.nhs/trust:7"),
		Version: 3<<16 + 1, ContentVersion: 2 << 16, MetadataVersion: 3<<16 + 1, ExpiresAt: 1_700_000_000_000,
		MIME: "application/json", State: "ready", Tags: []string{"b", "a"}, HomeInstance: "home", AccessCount: 9,
		Response: []byte("Content-Encoding: br"), Content: []byte(`{"a": 1}`),
	}
	it.Seal()
	return it
}
