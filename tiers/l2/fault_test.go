package l2_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/l2"
	"github.com/edgenode/edgenode/tiers/tiertest/redistest"
)

// eventually calls f until it returns nil, for the time that a failover or a
// reconnection may take.
func eventually(t *testing.T, f func() error) {
	t.Helper()
	limit := time.NewTimer(time.Minute)
	defer limit.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := f()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-limit.C:
			t.Fatal(err)
		}
	}
}

// quick is for tests in which a server hangs: a busy machine is quicker than that.
func quick(o *l2.Options) { o.Timeout = 2 * time.Second }

// everyCallFails checks that each call fails as an outage, in bounded time. They are
// made at once, since each may take the limit.
func everyCallFails(t *testing.T, s *l2.Store) {
	t.Helper()
	var calls sync.WaitGroup
	defer calls.Wait()
	f := func(name string, call func() error) {
		calls.Go(func() {
			start := time.Now()
			if err := call(); !errors.Is(err, l2.ErrUnavailable) {
				t.Errorf("%s: got %v, want ErrUnavailable", name, err)
			}
			if took := time.Since(start); took > time.Minute {
				t.Errorf("%s took %v with a time limit of 2 s", name, took)
			}
		})
	}
	f("get", func() error { _, _, err := s.Get(ctx, key("k"), nil); return err })
	f("get many", func() error {
		return s.GetMany(ctx, []item.Key{key("a"), key("b")}, func(int, item.View) error { return nil })
	})
	f("apply", func() error {
		out := make([]l2.Outcome, 1)
		err := s.Apply(ctx, []l2.Op{putOp(put("k", 1, "a"))}, out)
		if !errors.Is(out[0].Err, l2.ErrUnavailable) {
			t.Errorf("outcome of apply: %+v", out[0])
		}
		return err
	})
	f("read mark", func() error { _, _, err := s.ReadMark(ctx); return err })
	f("write mark", func() error { return s.WriteMark(ctx, l2.Mark{}, s.Generation()) })
	f("probe", func() error { _, err := s.Probe(ctx); return err })
	f("sweep", func() error { _, _, err := s.Sweep(ctx, func(item.View) bool { return true }); return err })
	f("evict", func() error { _, err := s.Evict(ctx, bySize{}); return err })
}

// A server that was replaced is noticed before its first answer is believed.
func TestReplaced(t *testing.T) {
	f := func(name string, persist redistest.Persistence, replace func(*redistest.Server), want string) {
		t.Run(name, func(t *testing.T) {
			server := redistest.Start(t, redistest.Options{Persist: persist})
			s := open(t, server.URL(), quick)
			apply(t, s, putOp(put("k", 1, "old")))
			server.Save()
			apply(t, s, putOp(put("k", 2, "new")))
			probe, err := s.Probe(ctx)
			if err != nil {
				t.Fatal(err)
			}
			before := s.Generation()
			server.Kill()
			everyCallFails(t, s)
			replace(server)
			var got item.View
			eventually(t, func() error {
				generation := s.Generation()
				b, _, err := s.Get(ctx, key("k"), nil)
				if err == nil && generation == before && s.Generation() == before {
					t.Fatal("the new server's answer came under the old generation")
				}
				got = b
				return err
			})
			if content := ""; got != nil {
				content = string(got.Content())
				if content != want {
					t.Errorf("got %q, want %q", content, want)
				}
			} else if want != "" {
				t.Errorf("got nothing, want %q", want)
			}
			if err := s.WriteMark(ctx, l2.Mark{Seq: 1}, before); !errors.Is(err, l2.ErrGeneration) {
				t.Errorf("mark of the old server's generation: got %v", err)
			}
			if after, err := s.Probe(ctx); err != nil || after.ID == probe.ID {
				t.Errorf("probe: same id %v, error %v", after.ID == probe.ID, err)
			}
		})
	}
	f("the same data", redistest.AOF, (*redistest.Server).Restart, "new")
	f("stale", redistest.RDB, (*redistest.Server).Restart, "old")
	f("empty", redistest.RDB, (*redistest.Server).Wipe, "")
}

// A server that answers nothing costs the time limit; a write that it carries
// out later does not bring back what was dropped meanwhile.
func TestStopped(t *testing.T) {
	server, s := start(t, quick)
	apply(t, s, putOp(put("other", 1, "a")))
	before := s.Generation()
	server.Stop()
	out := make([]l2.Outcome, 1)
	if err := s.Apply(ctx, []l2.Op{putOp(put("k", 1, "late"))}, out); !errors.Is(err, l2.ErrUnavailable) {
		t.Errorf("apply to a stopped server: %v", err)
	}
	everyCallFails(t, s)
	server.Cont()
	eventually(t, func() error { return s.Apply(ctx, []l2.Op{dropOp("k", 2)}, out) })
	if s.Generation() == before {
		t.Error("a connection that was made after an error did not begin a generation")
	}
	if get(t, s, "k") != nil {
		t.Error("the late write came back")
	}
	allHaveAnEnd(t, server)
}

func allHaveAnEnd(t *testing.T, server *redistest.Server) {
	t.Helper()
	for _, k := range server.Do("KEYS", "*").([]any) {
		if ttl := server.Do("PTTL", k.(string)).(int64); ttl == -1 {
			t.Errorf("key %q has no end", k)
		}
	}
}

// TestD14 cuts the connection at many places of a batch: no key is without an
// end, and none holds part of a value.
func TestD14_ValueAndEndInOneCommand(t *testing.T) {
	server := redistest.Start(t, redistest.Options{})
	p := startProxy(t, server.Addr())
	s := open(t, p.url(), quick)
	var ops []l2.Op
	var keys []item.Key
	for i := range 20 {
		id := fmt.Sprint("k", i)
		keys = append(keys, key(id))
		ops = append(ops, putOp(put(id, 1, strings.Repeat(id, 50))))
	}
	out := make([]l2.Outcome, len(ops))
	stored := 0
	f := func(n, step int) { // few go by the script, many in a transaction
		for cut := 50; cut < 10_000; cut += step {
			server.Do("FLUSHALL")
			eventually(t, func() error { _, _, err := s.Get(ctx, key("connect"), nil); return err })
			p.cutAfter(cut)
			_ = s.Apply(ctx, ops[:n], out[:n])
			p.cutAfter(-1)
			allHaveAnEnd(t, server)
			eventually(t, func() error {
				return s.GetMany(ctx, keys, func(i int, v item.View) error {
					stored++
					if string(v.Content()) != strings.Repeat(fmt.Sprint("k", i), 50) {
						t.Errorf("cut at %d: key %d holds %q", cut, i, v.Content())
					}
					return nil
				})
			})
		}
	}
	f(5, 797)
	f(20, 397)
	if stored == 0 {
		t.Error("no cut let anything through: the test shows nothing")
	}
}

func TestOneRoundTrip(t *testing.T) {
	server := redistest.Start(t, redistest.Options{})
	p := startProxy(t, server.Addr())
	s := open(t, p.url())
	var ops []l2.Op
	var keys []item.Key
	for i := range 100 {
		keys = append(keys, key(fmt.Sprint("k", i)))
		ops = append(ops, putOp(put(fmt.Sprint("k", i), 1, "a")))
	}
	apply(t, s, ops...)
	f := func(name string, want int, call func() error) {
		t.Helper()
		p.roundTrips()
		if err := call(); err != nil {
			t.Fatal(err)
		}
		if got := p.roundTrips(); got != want {
			t.Errorf("%s: %d round trips, want %d", name, got, want)
		}
	}
	f("get", 1, func() error { _, _, err := s.Get(ctx, keys[0], nil); return err })
	f("get many", 1, func() error { return s.GetMany(ctx, keys, func(int, item.View) error { return nil }) })
	out := make([]l2.Outcome, len(ops))
	_ = s.Apply(ctx, ops, out) // it learns that these keys are there
	f("apply few", 1, func() error { return s.Apply(ctx, ops[:5], out[:5]) })
	f("apply", 2, func() error { return s.Apply(ctx, ops, out) })
	server.Do("SCRIPT", "FLUSH")
	f("apply without scripts", 2, func() error { return s.Apply(ctx, ops[:5], out[:5]) })
	for i, o := range out {
		if !o.Same || o.Err != nil {
			t.Fatalf("operation %d after SCRIPT FLUSH: %+v", i, o)
		}
	}
}

func TestSentinelFailover(t *testing.T) {
	set := redistest.StartSentinel(t, redistest.Options{})
	s := open(t, set.URL(), quick)
	apply(t, s, putOp(put("k", 1, "a")))
	before := s.Generation()
	set.Failover()
	eventually(t, func() error {
		_, found, err := s.Get(ctx, key("k"), nil)
		if err == nil && s.Generation() == before {
			t.Fatal("the new master's answer came under the old generation")
		}
		if err == nil && !found {
			t.Fatal("the replica's copy was not found")
		}
		return err
	})
	apply(t, s, putOp(put("k", 2, "b")))
}

func TestClusterNodeReplaced(t *testing.T) {
	c := redistest.StartCluster(t, redistest.Options{})
	s := open(t, c.URL(), quick)
	var keys []item.Key
	var ops []l2.Op
	for i := range 60 {
		keys = append(keys, key(fmt.Sprint("}", i))) // spread although they begin with a brace
		ops = append(ops, putOp(put(fmt.Sprint("}", i), 1, "a")))
	}
	apply(t, s, ops...)
	for i, n := range c.Nodes {
		if size := n.Do("DBSIZE").(int64); size == 0 {
			t.Errorf("node %d holds nothing", i)
		}
	}
	probe, err := s.Probe(ctx)
	if err != nil {
		t.Fatal(err)
	}
	before := s.Generation()
	c.Nodes[1].Wipe()
	c.AwaitReady()
	found := 0
	eventually(t, func() error {
		found = 0
		err := s.GetMany(ctx, keys, func(int, item.View) error { found++; return nil })
		if err == nil && s.Generation() == before {
			t.Fatal("the new node's answer came under the old generation")
		}
		return err
	})
	if found == 0 || found == len(keys) {
		t.Errorf("%d of %d found after a third was lost", found, len(keys))
	}
	if after, err := s.Probe(ctx); err != nil || after.ID == probe.ID {
		t.Errorf("probe: same id %v, error %v", after.ID == probe.ID, err)
	}
}

// What the server refuses is named with its remedy; the password never is.
func TestRefused(t *testing.T) {
	f := func(name, url, marker string, want error) {
		t.Helper()
		s := open(t, url, quick)
		_, _, err := s.Get(ctx, key("k"), nil)
		if !errors.Is(err, want) || !strings.Contains(fmt.Sprint(err), marker) || strings.Contains(fmt.Sprint(err), "secret") {
			t.Errorf("%s: got %v", name, err)
		}
	}
	locked := redistest.Start(t, redistest.Options{Password: "secret-1"})
	f("no password", "redis://"+locked.Addr(), "asks for a password", l2.ErrRejected)
	f("wrong password", "redis://:secret-2@"+locked.Addr(), "password in redis_url is wrong", l2.ErrRejected)
	if s := open(t, "redis://"+locked.Addr(), func(o *l2.Options) { o.Password = "secret-1" }); get(t, s, "k") != nil {
		t.Error("something was found")
	}
	set := redistest.StartSentinel(t, redistest.Options{})
	f("replica", set.Replica.URL(), "redis_url must name the master", l2.ErrUnavailable)
	f("unknown master", strings.Replace(set.URL(), "/edge/", "/other/", 1), `do not know the master "other"`, l2.ErrUnavailable)
	f("nobody there", "redis://127.0.0.1:1", "", l2.ErrUnavailable)
}

// learnsNew has the store see new keys only, so that it tries SET NX first.
func learnsNew(t *testing.T, s *l2.Store) {
	t.Helper()
	for i := range 4 {
		apply(t, s, putOp(put(fmt.Sprint("new-", i), 1, "a")))
	}
}

// SET NX first gives the same answers as the script.
func TestNewFirst(t *testing.T) {
	server := redistest.Start(t, redistest.Options{})
	p := startProxy(t, server.Addr())
	s := open(t, p.url())
	apply(t, s, putOp(put("newer", 5, "a")), tombstoneOp(tombstone("deleted", 5)), dropOp("dropped", 5), putOp(put("older", 3, "a")))
	learnsNew(t, s)
	p.roundTrips()
	out := apply(t, s, putOp(put("newer", 4, "late")), putOp(put("deleted", 4, "late")), putOp(put("dropped", 4, "late")),
		putOp(put("older", 4, "b")), putOp(put("absent", 4, "b")), putOp(put("newer", 5, "a")))
	if n := p.roundTrips(); n != 2 {
		t.Errorf("%d round trips, want 2: SET NX was not tried", n)
	}
	for i, want := range []l2.Outcome{{}, {}, {}, {Won: true}, {Won: true}, {Same: true}} {
		if out[i] != want {
			t.Errorf("operation %d: got %+v, want %+v", i, out[i], want)
		}
	}
	if v := get(t, s, "older"); v == nil || v.Version() != 4 {
		t.Error("the older item was not replaced")
	}
	allHaveAnEnd(t, server)
}

// Many writers of one key by two stores: the newest write is what is left, and
// nobody ever sees versions go backwards. The same in batches, which are
// transactions that meet others.
func TestConcurrentWriters(t *testing.T) {
	t.Run("one by one", func(t *testing.T) { concurrentWriters(t, 1) })
	t.Run("batches", func(t *testing.T) { concurrentWriters(t, 20) })
}

func concurrentWriters(t *testing.T, keys int) {
	server, first := start(t)
	second := open(t, server.URL())
	const each = 300
	var wg sync.WaitGroup
	for w := range 4 {
		s := []*l2.Store{first, second}[w%2]
		wg.Go(func() {
			ops, out := make([]l2.Op, keys), make([]l2.Outcome, keys)
			for i := range each {
				for k := range ops {
					ops[k] = putOp(put("k"+strings.Repeat("k", k), item.Version(1+i*4+w), "a"))
				}
				if err := s.Apply(ctx, ops, out); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Go(func() {
		var last item.Version
		for range each {
			b, ok, err := first.Get(ctx, key("k"), nil)
			if err != nil {
				t.Error(err)
			}
			if v := item.View(b); ok && v.Version() < last {
				t.Errorf("version %d after %d", v.Version(), last)
			} else if ok {
				last = v.Version()
			}
		}
	})
	wg.Wait()
	for k := range keys {
		if v := get(t, first, "k"+strings.Repeat("k", k)); v == nil || v.Version() != each*4 {
			t.Errorf("left of key %d is %v, want version %d", k, v, each*4)
		}
	}
}

// Several puts of one key in a batch that replaces: the newest is left, whatever
// their order.
func TestReplacedTwice(t *testing.T) {
	_, s := start(t)
	var ops []l2.Op
	for i := range 10 {
		ops = append(ops, putOp(put(fmt.Sprint(i), 1, "a")))
	}
	apply(t, s, ops...)
	apply(t, s, ops...) // it learns that these keys are there
	for i := range ops {
		ops[i] = putOp(put(fmt.Sprint(i), 3, "b"))
	}
	ops = append(ops, putOp(put("1", 2, "late")), putOp(put("2", 4, "last")), putOp(put("3", 3, "b")))
	out := apply(t, s, ops...)
	if out[10].Won || out[10].Same || !out[11].Won || !out[12].Same {
		t.Errorf("second puts: %+v", out[10:])
	}
	for id, want := range map[string]item.Version{"0": 3, "1": 3, "2": 4, "3": 3} {
		if v := get(t, s, id); v == nil || v.Version() != want {
			t.Errorf("left of %s is %v, want version %d", id, v, want)
		}
	}
}

// A server without memory refuses new items, but lets nothing old survive.
func TestOutOfMemory(t *testing.T) {
	server, s := start(t)
	apply(t, s, putOp(put("replaced", 1, "old")), putOp(put("deleted", 1, "old")), putOp(put("dropped", 1, "old")))
	learnsNew(t, s)
	server.Do("CONFIG", "SET", "maxmemory", "1")
	out := make([]l2.Outcome, 1)
	if err := s.Apply(ctx, []l2.Op{putOp(put("new", 1, "a"))}, out); err != nil {
		t.Fatal(err)
	}
	if err := out[0].Err; !errors.Is(err, l2.ErrRejected) || !strings.Contains(err.Error(), "maxmemory") {
		t.Errorf("a new item: %v", err)
	}
	for _, o := range apply(t, s, putOp(put("replaced", 2, "new")), tombstoneOp(tombstone("deleted", 2)),
		tombstoneOp(tombstone("never", 2)), dropOp("dropped", 2)) {
		if !o.Won {
			t.Errorf("outcome %+v, want won", o)
		}
	}
	if v := get(t, s, "replaced"); v == nil || string(v.Content()) != "new" {
		t.Error("the older item was not replaced")
	}
	if v := get(t, s, "deleted"); v == nil || v.Kind() != item.KindTombstone {
		t.Error("the older item was not deleted")
	}
	if get(t, s, "dropped") != nil {
		t.Error("the older item was not dropped")
	}
}

func TestCancelledAndClosed(t *testing.T) {
	server, s := start(t)
	before := get(t, s, "k")
	generation := s.Generation()
	server.Stop()
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	if _, _, err := s.Get(cancelled, key("k"), nil); !errors.Is(err, context.Canceled) || errors.Is(err, l2.ErrUnavailable) {
		t.Errorf("cancelled: got %v", err)
	}
	server.Cont()
	if get(t, s, "k"); before != nil || s.Generation() != generation {
		t.Error("a call that its caller gave up began a generation")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Get(ctx, key("k"), nil); !errors.Is(err, l2.ErrClosed) {
		t.Errorf("after Close: got %v", err)
	}
}

// Values of others are misses, and stay unless something newer comes.
func TestForeignValues(t *testing.T) {
	server, s := start(t)
	name := "edgenode:{ik}"
	value := func() any { return server.Do("GET", name) }
	server.Do("SET", name, "of someone else, and longer than registers are")
	if get(t, s, "k") != nil {
		t.Error("a foreign value was believed")
	}
	apply(t, s, putOp(put("old", 1, ""))) // connects, for the count below
	newer := "\x03" + strings.Repeat("\xff", 24) + "of a format to come"
	server.Do("SET", name, newer)
	if out := apply(t, s, putOp(put("k", 5, "a"))); out[0].Won || value() != newer {
		t.Errorf("a value of an unknown format was overwritten: %+v", out[0])
	}
	older := "\x03" + strings.Repeat("\x00", 24) + "of a format to come"
	server.Do("SET", name, older)
	if out := apply(t, s, putOp(put("k", 5, "a"))); out[0].Won || value() != nil {
		t.Errorf("an older value of an unknown format is still there: %+v", out[0])
	}
	server.Do("SET", name, older)
	if out := apply(t, s, dropOp("k", 5)); !out[0].Won || get(t, s, "k") != nil {
		t.Errorf("a drop left an older value of an unknown format: %+v", out[0])
	}
	server.Do("SET", name, "\x01torn")
	if get(t, s, "k") != nil {
		t.Error("a torn value was believed")
	}
	if out := apply(t, s, putOp(put("k", 1, "a"))); !out[0].Won {
		t.Error("a torn value was not replaced")
	}
	server.Do("DEL", name)
	server.Do("RPUSH", name, "a list")
	if get(t, s, "k") != nil {
		t.Error("a list was believed")
	}
	out := make([]l2.Outcome, 2)
	if err := s.Apply(ctx, []l2.Op{putOp(put("k", 1, "a")), putOp(put("fine", 1, "a"))}, out); err != nil {
		t.Fatal(err)
	}
	if !errors.Is(out[0].Err, l2.ErrRejected) || !strings.Contains(out[0].Err.Error(), "redis_prefix") || !out[1].Won {
		t.Errorf("put over a list: %+v", out)
	}
	if _, _, err := s.Sweep(ctx, func(item.View) bool { return false }); err != nil {
		t.Errorf("sweep over a list: %v", err)
	}
}
