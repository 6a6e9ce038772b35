package memstore_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/l3"
	"github.com/edgenode/edgenode/tiers/tiertest/memstore"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const now = 1_700_000_000_000

// A store is what both have in common.
type store interface {
	Apply(ctx context.Context, ops []l3.Op, rules []item.Rule, out []l3.Outcome) (uint64, error)
	Get(ctx context.Context, key item.Key, dst []byte) ([]byte, bool, error)
	GetMany(ctx context.Context, keys []item.Key, fn func(i int, v item.View) error) error
	Scan(ctx context.Context, q l3.ScanQuery, fn func(v item.View) error) error
	Count(ctx context.Context, q l3.ScanQuery, limit int) (int64, bool, error)
	SweepRule(ctx context.Context, rule item.Rule, limit int) (int, bool, error)
	Rules(ctx context.Context) ([]l3.StoredRule, error)
	DropRules(ctx context.Context, olderThan item.Version, storedBefore int64) (int, error)
	Expire(ctx context.Context, now int64, limit int) (int, error)
	PurgeTombstones(ctx context.Context, olderThan item.Version, storedBefore int64, limit int) (int, error)
	Changes(ctx context.Context, after uint64, limit int, fn func(c l3.Change) error) error
	TrimChanges(ctx context.Context, upTo uint64, limit int) (int, error)
	MaxVersion() item.Version
	LastSeq() uint64
}

// A pair is the store in memory and the real one, which must agree.
type pair struct {
	*testing.T
	rng  *rand.Rand
	mem  *memstore.L3
	real *l3.Store

	version item.Version
	used    map[item.Version]bool
	rules   []item.Rule
}

// TestL3IsLikeSQLite does the same random work on both and compares all that
// they say and hold.
func TestL3IsLikeSQLite(t *testing.T) {
	clock := func() int64 { return now }
	for seed := range uint64(8) {
		real, err := l3.Open(t.Context(), l3.Options{Path: filepath.Join(t.TempDir(), "l3.db"), Clock: clock})
		if err != nil {
			t.Fatal(err)
		}
		p := pair{T: t, rng: rand.New(rand.NewPCG(seed, 1)), mem: memstore.NewL3(clock), real: real, version: 500, used: map[item.Version]bool{}}
		for range 150 {
			p.step()
		}
		p.compare()
		if err := real.Close(); err != nil {
			t.Error(err)
		}
	}
}

func (p *pair) step() {
	switch p.rng.IntN(12) {
	case 0:
		p.rule()
	case 1:
		p.sweep()
	case 2:
		at := now - int64(p.rng.IntN(3))
		same(p, "expire", func(s store) string { n, err := s.Expire(p.Context(), at, 1000); return fmt.Sprint(n, err) })
	case 3:
		v := p.version - item.Version(p.rng.IntN(200))
		same(p, "purge tombstones", func(s store) string {
			n, err := s.PurgeTombstones(p.Context(), v, now+1, 1000)
			return fmt.Sprint(n, err)
		})
	case 4:
		v := p.version - item.Version(p.rng.IntN(400))
		same(p, "drop rules", func(s store) string { n, err := s.DropRules(p.Context(), v, now+1); return fmt.Sprint(n, err) })
	case 5:
		p.compare()
	default:
		p.apply()
	}
}

func (p *pair) id() item.Key {
	return item.AppendKey(nil, "iis"[p.rng.IntN(3)], fmt.Sprintf("%c/%d", 'a'+rune(p.rng.IntN(2)), p.rng.IntN(4)))
}

// next draws a version that no other record has: the newest, or now and then an
// older one.
func (p *pair) next() item.Version {
	p.version += 10
	v := p.version
	for p.rng.IntN(3) == 0 || p.used[v] {
		v = p.version - item.Version(p.rng.IntN(400))
		if v > 100 && !p.used[v] && !p.used[v+1] {
			break
		}
	}
	p.used[v] = true
	return v
}

// record draws a put, a delete or a metadata change.
func (p *pair) record() item.View {
	v := p.next()
	it := item.Item{
		Kind: item.Kind(1 + p.rng.IntN(3)), Tiers: item.AllTiers, Key: p.id(), Version: v, ContentVersion: v, MetadataVersion: v,
		UpdatedAt: int64(v), HomeInstance: fmt.Sprint(p.rng.IntN(3)),
	}
	if it.Kind != item.KindTombstone {
		it.State = []string{"", "new", "done"}[p.rng.IntN(3)]
		it.Tags = [][]string{nil, {"t1"}, {"t1", "t2"}, {"t2"}}[p.rng.IntN(4)]
		it.ExpiresAt = []int64{0, 0, now - 1, now + 1}[p.rng.IntN(4)]
	}
	switch it.Kind {
	case item.KindMetadata:
		it.ContentVersion = 0
	case item.KindPut:
		it.Content = fmt.Append(nil, "content ", p.rng.IntN(5))
		if p.rng.IntN(4) == 0 {
			it.MetadataVersion = v + 1 // as a put that was merged with a later change
			it.Version = v + 1
			p.used[v+1] = true
		}
		it.Seal()
	}
	return it.AppendTo(nil)
}

func (p *pair) apply() {
	ops := make([]l3.Op, 1+p.rng.IntN(5))
	for i := range ops {
		ops[i].Record = p.record()
		switch p.rng.IntN(8) {
		case 0:
			ops[i].If = func(head item.View) bool { return head != nil }
		case 1:
			ops[i].If = func(head item.View) bool { return head == nil }
		}
	}
	if p.rng.IntN(15) == 0 {
		ops[len(ops)-1].Record = item.View("rubbish")
	}
	same(p, "apply", func(s store) string {
		out := make([]l3.Outcome, len(ops))
		seq, err := s.Apply(p.Context(), ops, nil, out)
		var op *l3.OpError
		if errors.As(err, &op) {
			return fmt.Sprint("refused ", op.Index)
		}
		return fmt.Sprintf("%d %v %+v", seq, err, out)
	})
}

func (p *pair) rule() {
	p.version += 10
	r := item.Rule{
		Version: p.version - item.Version(p.rng.IntN(200)), CreatedAt: 7, Op: item.Operation(1 + p.rng.IntN(3)),
		Match: item.MatchAll, Namespaces: item.Namespaces(1 + p.rng.IntN(3)),
	}
	switch p.rng.IntN(4) {
	case 0:
		r.Match, r.Values = item.MatchKeyPrefix, []string{"a/"}
	case 1:
		r.Match, r.Values = item.MatchTag, []string{"t1"}
	case 2:
		r.Match, r.Values = item.MatchKey, []string{"a/1", "b/2"}
	}
	if slices.ContainsFunc(p.rules, func(x item.Rule) bool { return x.Version == r.Version }) {
		return // which of the same version comes first is not promised
	}
	p.rules = append(p.rules, r)
	same(p, "rule", func(s store) string {
		seq, err := s.Apply(p.Context(), nil, []item.Rule{r}, nil)
		return fmt.Sprint(seq, err)
	})
}

// sweep sweeps a rule to its end: how far one call comes is not the same. The
// order of the rows that it removes is.
func (p *pair) sweep() {
	if len(p.rules) == 0 {
		return
	}
	r := p.rules[p.rng.IntN(len(p.rules))]
	same(p, "sweep", func(s store) string {
		for sum := 0; ; {
			n, more, err := s.SweepRule(p.Context(), r, 3)
			if sum += n; err != nil || !more {
				return fmt.Sprint(sum, errors.Is(err, l3.ErrNoRule))
			}
		}
	})
}

// compare looks at all that both hold.
func (p *pair) compare() {
	p.Helper()
	all := func(s store, q l3.ScanQuery) (list []string) {
		err := s.Scan(p.Context(), q, func(v item.View) error { list = append(list, string(v)); return nil })
		n, exact, countErr := s.Count(p.Context(), q, 1000)
		return append(list, fmt.Sprint(err, n, exact, countErr))
	}
	for _, q := range []l3.ScanQuery{
		{WithContent: true}, {Prefix: []byte("ia")}, {Prefix: []byte("i"), State: "new"}, {Tag: "t2", WithContent: true},
		{Prefix: []byte("ib"), Tag: "t1", State: "done"},
	} {
		same(p, fmt.Sprintf("scan %+v", q), func(s store) string { return fmt.Sprintf("%q", all(s, q)) })
	}
	same(p, "page", func(s store) string {
		var list []string
		q := l3.ScanQuery{After: item.Key("ia/2"), Limit: 3}
		err := s.Scan(p.Context(), q, func(v item.View) error { list = append(list, v.Key().ID()); return nil })
		return fmt.Sprint(list, err)
	})
	for _, ns := range "is" {
		for i := range 8 {
			key := item.AppendKey(nil, byte(ns), fmt.Sprintf("%c/%d", 'a'+rune(i/4), i%4))
			same(p, "get "+string(key), func(s store) string {
				b, ok, err := s.Get(p.Context(), key, []byte("x"))
				return fmt.Sprintf("%q %v %v", b, ok, err)
			})
		}
	}
	same(p, "rules", func(s store) string { list, err := s.Rules(p.Context()); return fmt.Sprintf("%+v %v", list, err) })
	same(p, "counters", func(s store) string { return fmt.Sprint(s.MaxVersion(), s.LastSeq()) })
	same(p, "changes", func(s store) string { return changes(p, s) })
}

// changes are told without their order within a transaction that removes rows.
func changes(p *pair, s store) string {
	var list []string
	err := s.Changes(p.Context(), 0, 10_000, func(c l3.Change) error {
		list = append(list, fmt.Sprint(c.Op, c.Version, string(c.Key), c.Rule != nil))
		return nil
	})
	slices.Sort(list)
	return fmt.Sprint(list, err)
}

func same(p *pair, what string, f func(s store) string) {
	p.Helper()
	if got, want := f(p.mem), f(p.real); got != want {
		p.Fatalf("%s: in memory %s\nSQLite %s", what, got, want)
	}
}

func put(id, content string, version item.Version) item.View {
	it := item.Item{
		Kind: item.KindPut, Tiers: item.AllTiers, Key: item.AppendKey(nil, item.NamespaceItem, id), Content: []byte(content),
		Version: version, ContentVersion: version, MetadataVersion: version,
	}
	it.Seal()
	return it.AppendTo(nil)
}

func apply(s *memstore.L3, ctx context.Context, records ...item.View) ([]l3.Outcome, error) {
	ops := make([]l3.Op, len(records))
	for i, r := range records {
		ops[i].Record = r
	}
	out := make([]l3.Outcome, len(ops))
	_, err := s.Apply(ctx, ops, nil, out)
	return out, err
}

func holds(t *testing.T, s *memstore.L3, want ...string) {
	t.Helper()
	var got []string
	for _, it := range s.Rows() {
		got = append(got, it.Key.ID()+"="+string(it.Content))
	}
	if !slices.Equal(got, want) {
		t.Errorf("holds %q, want %q", got, want)
	}
}

// TestFaultsOfL3: each kind does what it says, once, and is counted.
func TestFaultsOfL3(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memstore.NewL3(nil)
		start := time.Now()
		f := func(fault memstore.Fault, failed bool, rows ...string) {
			t.Helper()
			if fault.Kind != memstore.Down && fault.Kind != memstore.Reject {
				s.Plan("Apply", fault)
			}
			_, err := apply(s, t.Context(), put(fault.Kind.String(), "x", 7))
			if (err != nil) != failed {
				t.Errorf("%v: error %v", fault.Kind, err)
			}
			if got := s.Hits(fault.Kind); got != 1 {
				t.Errorf("%v: hit %d times, want once", fault.Kind, got)
			}
			holds(t, s, rows...)
		}
		f(memstore.Fault{Kind: memstore.Before}, true)
		f(memstore.Fault{Kind: memstore.Swallow}, false)
		s.SetDown(true)
		f(memstore.Fault{Kind: memstore.Down}, true)
		s.SetDown(false)
		s.RejectRows(func([]byte) bool { return true })
		f(memstore.Fault{Kind: memstore.Reject}, true)
		s.Heal()
		f(memstore.Fault{Kind: memstore.After, Delay: time.Second}, true, "error after=x")
		f(memstore.Fault{Kind: memstore.Slow, Delay: time.Minute}, false, "error after=x", "slow=x")
		f(memstore.Fault{Kind: memstore.Late, Delay: time.Minute}, false, "error after=x", "late=x", "slow=x")
		if got := time.Since(start); got != 2*time.Minute+time.Second {
			t.Errorf("all took %v", got)
		}
		s.Plan("Apply", memstore.Fault{Kind: memstore.Slow, Delay: time.Minute})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := apply(s, ctx, put("late", "x", 9)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("given up: %v", err)
		}
		holds(t, s, "error after=x", "late=x", "slow=x")
	})
}

// TestSwallowedRowIsTold: the outcome is what the row holds, as A5 wants.
func TestSwallowedRowIsTold(t *testing.T) {
	s := memstore.NewL3(nil)
	if _, err := apply(s, t.Context(), put("a", "one", 1)); err != nil {
		t.Fatal(err)
	}
	s.Plan("Apply", memstore.Fault{Kind: memstore.Swallow})
	out, err := apply(s, t.Context(), put("a", "two", 2), put("b", "two", 2), put("c", "two", 2))
	if err != nil || out[0].Version != 1 || out[0].Won || !out[1].Won || out[1].Version != 2 || out[2].Version != 0 || out[2].Won {
		t.Errorf("outcomes %+v, %v", out, err)
	}
	holds(t, s, "a=one", "b=two")
}
