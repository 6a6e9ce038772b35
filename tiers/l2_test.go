package tiers_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/edgenode/edgenode/tiers"
	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/l2"
	"github.com/edgenode/edgenode/tiers/tiertest/redistest"
)

// belowL1 are the tiers of an item that a read always takes from below.
const belowL1 = item.L2 | item.L3

// withRedis returns options that put server between L1 and L3.
func withRedis(server *redistest.Server, change func(*tiers.Options)) func(*tiers.Options) {
	return func(o *tiers.Options) {
		o.RedisURL, o.RedisTimeout, o.FollowInterval = server.URL(), 2*time.Second, 20*time.Millisecond
		if change != nil {
			change(o)
		}
	}
}

// patience is how long a busy machine may take for what takes a moment.
const patience = time.Minute

// inTime is the limit of what is promised within a time: the promise in a soak, and
// elsewhere what only a hang exceeds.
func inTime(promised time.Duration) time.Duration {
	if soak {
		return promised
	}
	return max(promised, patience)
}

// until calls f every few milliseconds until it is true, which is promised within a
// time.
func until(t *testing.T, within time.Duration, what string, f func() bool) time.Duration {
	t.Helper()
	start := time.Now()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !f() {
		if limit := inTime(within); time.Since(start) > limit {
			t.Fatalf("not within %v: %s", limit, what)
		}
		<-tick.C
	}
	return time.Since(start)
}

func awaitTrust(t *testing.T, e *tiers.Engine) {
	t.Helper()
	until(t, 20*time.Second, "L2 trusted", e.L2Trusted)
}

// openRedis starts an engine with L2 and waits until it is trusted.
func openRedis(t *testing.T, dir string, server *redistest.Server, change func(*tiers.Options)) *tiers.Engine {
	t.Helper()
	e := open(t, dir, withRedis(server, change))
	awaitTrust(t, e)
	return e
}

// putIn stores content in the given tiers.
func putIn(t *testing.T, e *tiers.Engine, id, content string, in item.Tiers, ttl time.Duration) tiers.Receipt {
	t.Helper()
	r, err := e.Submit(t.Context(), &tiers.Write{Key: key(t, id), Content: []byte(content), Tiers: in, TTL: ttl})
	if err != nil {
		t.Fatalf("put %q in %v: %v", id, in, err)
	}
	return r
}

// wantFrom gets id and compares content and tier.
func wantFrom(t *testing.T, e *tiers.Engine, id, content string, from tiers.Source) {
	t.Helper()
	h, ok, err := e.Get(t.Context(), key(t, id), tiers.ReadOptions{})
	if err != nil || !ok {
		t.Errorf("get %q: %v, %v, want %q from %s", id, ok, err, content, from)
		return
	}
	defer h.Release()
	if got := string(h.View.Content()); got != content || h.Source != from {
		t.Errorf("get %q = %q from %s, want %q from %s", id, got, h.Source, content, from)
	}
}

// awaitFrom reads id until the answer comes from there: the walk along the changes
// may take a copy out of L1, or keep one from it, that it does not know yet.
func awaitFrom(t *testing.T, e *tiers.Engine, id, content string, from tiers.Source) {
	t.Helper()
	until(t, 10*time.Second, fmt.Sprintf("%q comes from %s", id, from), func() bool {
		h, ok, err := e.Get(t.Context(), key(t, id), tiers.ReadOptions{})
		if err != nil || !ok {
			return false
		}
		defer h.Release()
		if got := string(h.View.Content()); got != content {
			t.Errorf("get %q = %q from %s, want %q", id, got, h.Source, content)
		}
		return h.Source == from
	})
}

// rawRedis is a client beside the engine's, under the same prefix.
func rawRedis(t *testing.T, server *redistest.Server) *l2.Store {
	t.Helper()
	s, err := l2.Open(l2.Options{URL: server.URL(), Prefix: tiers.DefaultRedisPrefix})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// wantInRedis compares what Redis holds of id: "" for nothing or a tombstone.
func wantInRedis(t *testing.T, server *redistest.Server, id, content string) {
	t.Helper()
	b, found, err := rawRedis(t, server).Get(context.Background(), key(t, id), nil)
	if err != nil {
		t.Fatal(err)
	}
	got := ""
	if v := item.View(b); found && v.Kind() == item.KindPut {
		got = string(v.Content())
	}
	if got != content {
		t.Errorf("Redis holds %q of %s, want %q", got, id, content)
	}
}

// wantStatus compares where an item is.
func wantStatus(t *testing.T, e *tiers.Engine, id string, want tiers.Status) {
	t.Helper()
	st, err := e.Status(t.Context(), key(t, id))
	st.Version = want.Version
	if err != nil || st != want {
		t.Errorf("status of %s: %+v, %v, want %+v", id, st, err, want)
	}
}

// faultyL2 passes calls on, and lets a test look at them or hold them up.
type faultyL2 struct {
	tiers.L2Store

	mu      sync.Mutex
	onApply func(ops []l2.Op)
	fail    error
	gets    int
	many    int
}

func (f *faultyL2) wrap(real tiers.L2Store) tiers.L2Store { f.L2Store = real; return f }

func (f *faultyL2) set(onApply func(ops []l2.Op), fail error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.onApply, f.fail = onApply, fail
}

func (f *faultyL2) Apply(ctx context.Context, ops []l2.Op, out []l2.Outcome) error {
	f.mu.Lock()
	hook, fail := f.onApply, f.fail
	f.mu.Unlock()
	if hook != nil {
		hook(ops)
	}
	if fail != nil {
		return fail
	}
	return f.L2Store.Apply(ctx, ops, out)
}

func (f *faultyL2) Get(ctx context.Context, key item.Key, dst []byte) ([]byte, bool, error) {
	f.mu.Lock()
	f.gets++
	f.mu.Unlock()
	return f.L2Store.Get(ctx, key, dst)
}

func (f *faultyL2) GetMany(ctx context.Context, keys []item.Key, fn func(int, item.View) error) error {
	f.mu.Lock()
	f.many++
	f.mu.Unlock()
	return f.L2Store.GetMany(ctx, keys, fn)
}

func (f *faultyL2) reads() (gets, many int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.gets, f.many
}

// TestL2_PathOfAnItem: through the flush to L2 and L3, read back from L2, and
// after it is gone there from L3, which fills L2 again.
func TestL2_PathOfAnItem(t *testing.T) {
	server := redistest.Start(t, redistest.Options{})
	dir := t.TempDir()
	e := openRedis(t, dir, server, nil)
	putIn(t, e, "a", "one", belowL1, 0)
	wantFrom(t, e, "a", "one", tiers.FromPending)
	flush(t, e)
	wantFrom(t, e, "a", "one", tiers.FromL2)
	wantStatus(t, e, "a", tiers.Status{Where: tiers.StatusSynced, L2: true, L3: true})
	server.Wipe()
	until(t, 20*time.Second, "a from L3, L2 being empty", func() bool {
		h, ok, err := e.Get(t.Context(), key(t, "a"), tiers.ReadOptions{})
		if err != nil || !ok {
			t.Fatalf("get: %v, %v", ok, err)
		}
		defer h.Release()
		return h.Source == tiers.FromL3
	})
	awaitTrust(t, e)
	until(t, 10*time.Second, "L2 filled by a read", func() bool {
		h, ok, err := e.Get(t.Context(), key(t, "a"), tiers.ReadOptions{})
		defer h.Release()
		return err == nil && ok && h.Source == tiers.FromL2
	})
	del(t, e, "a")
	flush(t, e)
	wantAbsent(t, e, "a")
	wantInRedis(t, server, "a", "")
}

// TestL2_ManyInOneRoundTrip: GetMany asks L2 once and L3 for the rest.
func TestL2_ManyInOneRoundTrip(t *testing.T) {
	server, f := redistest.Start(t, redistest.Options{}), &faultyL2{}
	e := openRedis(t, t.TempDir(), server, func(o *tiers.Options) { o.WrapL2 = f.wrap })
	var keys []item.Key
	for i := range 20 {
		in := belowL1
		if i%4 == 0 {
			in = item.L3
		}
		putIn(t, e, fmt.Sprintf("m/%d", i), fmt.Sprint(i), in, 0)
		keys = append(keys, key(t, fmt.Sprintf("m/%d", i)))
	}
	keys = append(keys, key(t, "m/none"))
	flush(t, e)
	g, m := f.reads()
	e.GetMany(t.Context(), keys, tiers.ReadOptions{}, func(i int, h *tiers.Hit, ok bool, err error) {
		if err != nil || ok != (i < 20) {
			t.Fatalf("%d: %v, %v", i, ok, err)
		}
		if !ok {
			return
		}
		want := tiers.FromL2
		if i%4 == 0 {
			want = tiers.FromL3
		}
		if string(h.View.Content()) != fmt.Sprint(i) || h.Source != want {
			t.Errorf("%d = %q from %s, want it from %s", i, h.View.Content(), h.Source, want)
		}
	})
	if g2, m2 := f.reads(); g2 != g || m2 != m+1 {
		t.Errorf("%d single reads and %d round trips of L2, want 0 and 1", g2-g, m2-m)
	}
}

// TestL2_StoredAnswers: site objects reach L2 without L3, leave L1, come back,
// and a purge takes them from everywhere at once.
func TestL2_StoredAnswers(t *testing.T) {
	server := redistest.Start(t, redistest.Options{})
	dir := t.TempDir()
	e := openRedis(t, dir, server, nil)
	site := func(name string) item.Key { return item.AppendKey(nil, item.NamespaceSite, "s/"+name) }
	store := func(name, content string, tags ...string) {
		t.Helper()
		if _, err := e.Submit(t.Context(), &tiers.Write{Key: site(name), Content: []byte(content), Tags: tags, Version: e.Stamp()}); err != nil {
			t.Fatal(err)
		}
	}
	store("a", "one")
	store("a", "two")
	store("b", "bee", "t1")
	until(t, 10*time.Second, "written to Redis", func() bool {
		_, a, _ := rawRedis(t, server).Get(t.Context(), site("a"), nil)
		_, b, _ := rawRedis(t, server).Get(t.Context(), site("b"), nil)
		return a && b
	})
	e = reopen(t, e, dir, withRedis(server, nil))
	awaitTrust(t, e)
	read := func(name string) (string, tiers.Source) {
		h, ok, err := e.Get(t.Context(), site(name), tiers.ReadOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			return "", 0
		}
		defer h.Release()
		return string(h.View.Content()), h.Source
	}
	if got, from := read("a"); got != "two" || from != tiers.FromL2 {
		t.Errorf("a = %q from %s after a restart, want two from l2", got, from)
	}
	r, err := e.Purge(t.Context(), tiers.Purge{Namespaces: item.InSites, Match: item.MatchTag, Values: []string{"t1"}})
	if err != nil || !r.Complete || r.L2 != 1 {
		t.Errorf("purge: %+v, %v, want 1 copy of L2", r, err)
	}
	if got, _ := read("b"); got != "" {
		t.Errorf("b = %q after its purge", got)
	}
	if _, found, err := rawRedis(t, server).Get(t.Context(), site("b"), nil); found || err != nil {
		t.Errorf("b is still in Redis (%v)", err)
	}
}
