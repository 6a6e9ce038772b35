package tiers_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edgenode/edgenode/tiers"
	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/tiertest"
)

// A replica replays the feed and nothing else.
type replica struct {
	*testing.T
	seq   uint64
	items map[string]string // id to version, state, content
	rules int
}

func newReplica(t *testing.T) *replica { return &replica{T: t, items: map[string]string{}} }

// read takes up to limit changes.
func (r *replica) read(e *tiers.Engine, limit int) {
	r.Helper()
	prev := r.seq
	last, err := e.Feed(context.Background(), tiers.FeedQuery{After: r.seq, Limit: limit, MaxContent: 1 << 20}, func(ev *tiers.Event) error {
		if ev.Prev != prev || ev.Seq <= prev {
			r.Errorf("event %d after %d says it comes after %d", ev.Seq, prev, ev.Prev)
		}
		prev = ev.Seq
		r.apply(ev)
		return nil
	})
	if err != nil {
		r.Fatal(err)
	}
	if last < prev || last > r.seq+uint64(limit) {
		r.Errorf("read to %d from %d with a limit of %d, last event %d", last, r.seq, limit, prev)
	}
	r.seq = last
}

func (r *replica) apply(ev *tiers.Event) {
	switch ev.Op {
	case tiers.EventPut, tiers.EventChange:
		if ev.Row != nil {
			r.items[ev.Key.ID()] = describe(ev.Row)
		}
	case tiers.EventDelete, tiers.EventExpire:
		delete(r.items, ev.Key.ID())
	case tiers.EventPurge, tiers.EventBulk:
		r.rules++
	}
}

func describe(v item.View) string {
	return fmt.Sprintf("%s %s %.20s %d", v.Version(), v.State(), v.Content(), len(v.Content()))
}

// truth returns what the engine lists, in the form of a replica.
func truth(t *testing.T, e *tiers.Engine) map[string]string {
	t.Helper()
	items := map[string]string{}
	for cursor := ""; ; {
		next, err := e.List(t.Context(), tiers.Query{Limit: 1000, Cursor: cursor}, func(v item.View) error {
			items[v.Key().ID()] = describe(v)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if cursor = next; cursor == "" {
			return items
		}
	}
}

func (r *replica) wantEqual(e *tiers.Engine, when string) {
	r.Helper()
	want := truth(r.T, e)
	for id, v := range want {
		if r.items[id] != v {
			r.Errorf("%s: %s is %q, want %q", when, id, r.items[id], v)
		}
	}
	for id := range r.items {
		if want[id] == "" {
			r.Errorf("%s: %s is there", when, id)
		}
	}
}

// TestD13_ReplayReachesL3: who replays the feed, in pieces and while it grows, has
// what L3 has; numbers rise, and each event names the one before.
func TestD13_ReplayReachesL3(t *testing.T) { overDialects(t, testD13ReplayReachesL3) }

func testD13ReplayReachesL3(t *testing.T) {
	var skew atomic.Int64
	e := open(t, t.TempDir(), func(o *tiers.Options) {
		o.Now = func() int64 { return time.Now().UnixMilli() + skew.Load() }
		o.ExpirySweep, o.BatchFlush = 5*time.Millisecond, 2*time.Millisecond
	})
	rng := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 13))
	r := newReplica(t)
	id := func() string { return fmt.Sprintf("%c/%d", 'a'+rune(rng.IntN(3)), rng.IntN(30)) }
	for step := range scale(10_000, 1_000) {
		switch n := rng.IntN(100); {
		case n < 60:
			w := tiers.Write{Key: key(t, id()), Content: []byte(strings.Repeat("x", rng.IntN(3000))), State: "s" + fmt.Sprint(rng.IntN(3))}
			if n < 10 {
				w.TTL = time.Minute
			} else if n < 15 {
				w.Tiers, w.Durability = item.L1, item.DurabilityMemory // leaves L3
			}
			if _, err := e.Submit(t.Context(), &w); err != nil {
				t.Fatal(err)
			}
		case n < 75:
			del(t, e, id())
		case n < 90:
			state := "t"
			if _, err := e.Change(t.Context(), key(t, id()), tiers.MetadataChange{State: &state}); err != nil && !errors.Is(err, tiers.ErrNoItem) {
				t.Fatal(err)
			}
		case n < 92:
			if _, err := e.DeleteMatching(t.Context(), tiers.Query{Prefix: string('a'+rune(rng.IntN(3))) + "/1"}, 0); err != nil {
				t.Fatal(err)
			}
		case n < 93:
			if _, err := e.Purge(t.Context(), tiers.Purge{Namespaces: item.InItems, Match: item.MatchAll}); err != nil {
				t.Fatal(err)
			}
		case n < 96:
			skew.Add((30 * time.Second).Milliseconds())
		default:
			r.read(e, 1+rng.IntN(50))
		}
		if step%250 == 249 {
			flush(t, e)
			skew.Add((2 * time.Minute).Milliseconds())
			until(t, 10*time.Second, "rules applied, expired rows gone, replica at the end", func() bool {
				r.read(e, 1000)
				return e.Settled() && r.seq == e.LastChange() && len(r.items) == len(truth(t, e))
			})
			r.wantEqual(e, fmt.Sprintf("after step %d", step))
		}
	}
	if r.rules == 0 {
		t.Error("no rule was seen")
	}
}

// TestD13_FeedOfAPrefix: a reader of a prefix sees its ids and the rules that can
// reach them, and its number moves on nevertheless; who fell off is told so.
func TestD13_FeedOfAPrefix(t *testing.T) {
	store := &tiertest.Store{}
	e := open(t, t.TempDir(), func(o *tiers.Options) { o.WrapStore = store.Wrap })
	big := strings.Repeat("b", 700<<10)
	for _, id := range []string{"uk/1", "de/1", "uk/big1", "uk/big2", "uk/1"} {
		content := "one"
		if strings.Contains(id, "big") {
			content = big // more than is held at a time
		}
		put(t, e, id, content)
		putIn(t, e, "uk/cached", "x", item.L1, 0)
		flush(t, e)
	}
	for _, p := range []tiers.Purge{
		{Namespaces: item.InItems, Match: item.MatchKeyPrefix, Values: []string{"de/", "u"}},
		{Namespaces: item.InItems, Match: item.MatchKey, Values: []string{"de/1"}},
		{Namespaces: item.InSites, Match: item.MatchAll},
		{Namespaces: item.InItems, Match: item.MatchTag, Values: []string{"t"}, Scope: "de/"},
		{Namespaces: item.InItems | item.InSites, Match: item.MatchTag, Values: []string{"t"}},
	} {
		if _, err := e.Purge(t.Context(), p); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	read := func(q tiers.FeedQuery) uint64 {
		t.Helper()
		got = nil
		last, err := e.Feed(t.Context(), q, func(ev *tiers.Event) error {
			s := ev.Op
			if ev.Rule != nil {
				s += fmt.Sprintf(" %d %v %s", ev.Rule.Match, ev.Rule.Values, ev.Rule.Scope)
			} else if s += " " + ev.Key.ID(); ev.Row != nil {
				s += fmt.Sprintf(" %d of %d", len(ev.Row.Content()), ev.Size)
			}
			got = append(got, s)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return last
	}
	f := func(q tiers.FeedQuery, want ...string) {
		t.Helper()
		q.Limit = 1000
		if last := read(q); last != e.LastChange() || strings.Join(got, "; ") != strings.Join(want, "; ") {
			t.Errorf("%+v: to %d of %d\n%q, want\n%q", q, last, e.LastChange(), got, want)
		}
	}
	bigs := []string{"put uk/big1 716800 of 716800", "put uk/big2 716800 of 716800"}
	rules := []string{"purge 3 [u] uk/", "purge 4 [t] uk/"}
	f(tiers.FeedQuery{Scope: "uk/", MaxContent: 1 << 20}, "put uk/1", bigs[0], bigs[1], "put uk/1 3 of 3", rules[0], rules[1])
	f(tiers.FeedQuery{Scope: "uk/", Prefix: "de/"})
	f(tiers.FeedQuery{Scope: "uk/", Prefix: "uk/big"}, "put uk/big1 0 of 716800", "put uk/big2 0 of 716800", "purge 3 [u] uk/big", "purge 4 [t] uk/big")
	if _, err := e.Feed(t.Context(), tiers.FeedQuery{Limit: 0}, nil); !errors.Is(err, tiers.ErrInvalid) {
		t.Errorf("no limit: %v", err)
	}

	// It stops where its reader does.
	stop := errors.New("stop")
	n := 0
	last, err := e.Feed(t.Context(), tiers.FeedQuery{Limit: 1000}, func(ev *tiers.Event) error {
		if n++; n == 3 {
			return stop
		}
		return nil
	})
	if last != 3 || !errors.Is(err, stop) { // the first change is the name of L3
		t.Errorf("stopped at the third event: %d, %v, want 3", last, err)
	}
	store.SetDown(true)
	if last, err := e.Feed(t.Context(), tiers.FeedQuery{After: 2, Limit: 10}, nil); last != 2 || !errors.Is(err, tiers.ErrUnavailable) {
		t.Errorf("L3 away: %d, %v, want 2, ErrUnavailable", last, err)
	}
	store.SetDown(false)
	e.ProbeL3()
	if _, err := store.Store.TrimChanges(t.Context(), 4, 1000); err != nil {
		t.Fatal(err)
	}
	for _, after := range []uint64{3, e.LastChange() + 1} {
		if _, err := e.Feed(t.Context(), tiers.FeedQuery{After: after, Limit: 10}, nil); !errors.Is(err, tiers.ErrChangesGone) {
			t.Errorf("after %d: %v, want ErrChangesGone", after, err)
		}
	}
	read(tiers.FeedQuery{After: 4, Limit: 10})
}

// TestD13_WaitForAChange: waiting ends with a change of this node or another one,
// with its context, and with the engine.
func TestD13_WaitForAChange(t *testing.T) {
	db := filepath.Join(t.TempDir(), "l3.db")
	share := func(o *tiers.Options) {
		onFile(db, &tiertest.Store{})(o)
		o.L3Shared, o.FollowInterval = true, 20*time.Millisecond
	}
	a, b := open(t, t.TempDir(), share), open(t, t.TempDir(), share)
	for i, writer := range []*tiers.Engine{a, b, a} {
		after, done := a.LastChange(), make(chan error, 1)
		go func() { done <- a.AwaitChange(context.Background(), after) }()
		select {
		case err := <-done:
			t.Fatalf("round %d: ended without a change: %v", i, err)
		default:
		}
		put(t, writer, fmt.Sprint(i), "x")
		flush(t, writer)
		if err := <-done; err != nil || a.LastChange() <= after {
			t.Errorf("round %d: %v, last change %d, was %d", i, err, a.LastChange(), after)
		}
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	gone := errors.New("gone")
	cancel(gone)
	if err := a.AwaitChange(ctx, a.LastChange()); !errors.Is(err, gone) {
		t.Errorf("cancelled: %v", err)
	}
	done := make(chan error, 1)
	go func() { done <- a.AwaitChange(context.Background(), a.LastChange()) }()
	if err := a.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	if err := <-done; !errors.Is(err, tiers.ErrShuttingDown) && !errors.Is(err, tiers.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
	if err := a.AwaitChange(context.Background(), 0); !errors.Is(err, tiers.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}
