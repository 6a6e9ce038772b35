package tiers_test

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edgenode/edgenode/tiers"
	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/l2"
	"github.com/edgenode/edgenode/tiers/tiertest"
	"github.com/edgenode/edgenode/tiers/tiertest/redistest"
)

// TestL2_MakesRoomInRedis: a server that is nearly full is emptied down to its
// target, also while L3 is away; nothing is lost by that, and L2 stays trusted.
func TestL2_MakesRoomInRedis(t *testing.T) {
	server, store := redistest.Start(t, redistest.Options{}), &tiertest.Store{}
	e := openRedis(t, t.TempDir(), server, func(o *tiers.Options) { o.WrapStore = store.Wrap })
	used := func() int {
		n, err := strconv.Atoi(server.Info("memory", "used_memory"))
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	empty := used()
	const n = 300
	content := strings.Repeat("x", 20_000)
	for i := range n {
		putIn(t, e, fmt.Sprint("k", i), content, belowL1, 0)
	}
	flush(t, e)
	awaitTrust(t, e)
	limit := used() * 10 / 8
	if (used()-empty)*2 < limit {
		t.Fatalf("%d bytes used, %d before: too few to see an eviction", used(), empty)
	}
	store.SetDown(true)
	until(t, 5*time.Second, "L3 is away", func() bool { return e.Health(t.Context()).L3.Circuit == "open" })
	server.Do("CONFIG", "SET", "maxmemory", strconv.Itoa(limit))
	until(t, 10*time.Second, "room in Redis", func() bool { return used() <= limit*62/100 })
	if !e.L2Trusted() {
		t.Error("L2 is not trusted any more")
	}
	store.SetDown(false)
	e.ProbeL3()
	until(t, 5*time.Second, "L3 is back", func() bool { return e.Health(t.Context()).L3.OK })
	for i := range n {
		want(t, e, fmt.Sprint("k", i), content)
	}
}

func siteKey(name string) item.Key { return item.AppendKey(nil, item.NamespaceSite, "s/"+name) }

func storeAnswer(t *testing.T, e *tiers.Engine, name, content string) {
	t.Helper()
	w := &tiers.Write{Key: siteKey(name), Content: []byte(content), Tiers: item.L2, Version: e.Stamp()}
	if _, err := e.Submit(t.Context(), w); err != nil {
		t.Fatal(err)
	}
}

// holdL2 lets writes to L2 wait until the returned function is called.
func holdL2(f *faultyL2) (held <-chan struct{}, release func()) {
	began, goOn := make(chan struct{}), make(chan struct{})
	var once sync.Once
	f.set(func([]l2.Op) {
		once.Do(func() { close(began) })
		<-goOn
	}, nil)
	return began, sync.OnceFunc(func() { close(goOn) })
}

// TestD10_L2QueueBytesReloads: what waits for L2 is bounded by what the last
// reload said.
func TestD10_L2QueueBytesReloads(t *testing.T) {
	server, f := redistest.Start(t, redistest.Options{}), &faultyL2{}
	var o tiers.Options
	e := openRedis(t, t.TempDir(), server, func(given *tiers.Options) { given.WrapL2 = f.wrap; o = *given })
	held, release := holdL2(f)
	t.Cleanup(release)
	storeAnswer(t, e, "first", "x")
	<-held
	content := strings.Repeat("x", 10_000)
	storeAnswer(t, e, "a", content)
	if got := e.OwedBytes(); got < 10_000 {
		t.Errorf("%d bytes wait, want the answer", got)
	}
	before := e.OwedBytes()
	o.RedisURL, o.RedisTimeout, o.FollowInterval, o.L2QueueBytes = server.URL(), 300*time.Millisecond, 20*time.Millisecond, 1
	if err := e.Reload(o); err != nil {
		t.Fatal(err)
	}
	storeAnswer(t, e, "b", content)
	if got := e.OwedBytes(); got != before {
		t.Errorf("%d bytes wait after the reload, want %d", got, before)
	}
}

// TestG2_AnswerThatWaitedIsNotForgotten: an answer is replaced, and what replaces
// it waits for L2 for longer than a second when the node is killed. The next start
// does not serve the older one.
func TestG2_AnswerThatWaitedIsNotForgotten(t *testing.T) {
	server, f := redistest.Start(t, redistest.Options{}), &faultyL2{}
	dir := t.TempDir()
	var ahead atomic.Int64
	clock := func(o *tiers.Options) {
		o.Now = func() int64 { return time.Now().UnixMilli() + ahead.Load() }
	}
	e := openRedis(t, dir, server, func(o *tiers.Options) { clock(o); o.WrapL2 = f.wrap })
	storeAnswer(t, e, "a", "older")
	until(t, 5*time.Second, "in Redis", func() bool {
		_, found, err := rawRedis(t, server).Get(t.Context(), siteKey("a"), nil)
		return found && err == nil
	})
	held, release := holdL2(f)
	t.Cleanup(release)
	storeAnswer(t, e, "other", "x")
	<-held
	storeAnswer(t, e, "a", "newer")
	ahead.Add(1100)
	e.NoteOwing()
	f.set(nil, fmt.Errorf("%w: killed", l2.ErrUnavailable)) // what waits is never sent
	server.Stop()
	release()
	if err := e.CloseAbruptly(); err != nil {
		t.Fatal(err)
	}
	server.Cont()
	e = openRedis(t, dir, server, clock)
	h, ok, err := e.Get(t.Context(), siteKey("a"), tiers.ReadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if ok {
		if got := string(h.View.Content()); got == "older" {
			t.Error("the older answer is served")
		}
		h.Release()
	}
}
