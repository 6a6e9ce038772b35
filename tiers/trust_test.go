package tiers_test

import (
	"fmt"
	"testing"

	"github.com/edgenode/edgenode/tiers"
	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/tiertest/redistest"
)

// TestG4_StaleRedis: Redis is replaced by what it was earlier. Its mark is of
// that time, and what has changed since is dropped before it is believed.
func TestG4_StaleRedis(t *testing.T) {
	server := redistest.Start(t, redistest.Options{Persist: redistest.RDB})
	e := openRedis(t, t.TempDir(), server, nil)
	for i := range 5 {
		putIn(t, e, fmt.Sprintf("k/%d", i), "v1", belowL1, 0)
	}
	flush(t, e)
	server.Save()
	putIn(t, e, "k/0", "v2", belowL1, 0)
	putIn(t, e, "k/1", "v2", item.L3, 0)
	del(t, e, "k/2")
	if _, err := e.DeleteMatching(t.Context(), tiers.Query{Prefix: "k/3"}, 0); err != nil {
		t.Fatal(err)
	}
	flush(t, e)
	server.Kill() // without saving
	server.Restart()
	check := func() {
		t.Helper()
		want(t, e, "k/0", "v2")
		want(t, e, "k/1", "v2")
		wantAbsent(t, e, "k/2")
		wantAbsent(t, e, "k/3")
		want(t, e, "k/4", "v1")
	}
	for range 50 {
		check()
	}
	awaitTrust(t, e)
	check()
	wantFrom(t, e, "k/4", "v1", tiers.FromL2) // survived the walk
}

// TestG4_RedisOfAnotherL3: what Redis holds was written for another L3, or by a
// program that left no mark. Each copy is compared with its row.
func TestG4_RedisOfAnotherL3(t *testing.T) {
	server := redistest.Start(t, redistest.Options{})
	e := openRedis(t, t.TempDir(), server, nil)
	for i := range 5 {
		putIn(t, e, fmt.Sprintf("k/%d", i), "of the first", belowL1, 0)
	}
	putIn(t, e, "cached", "of the first", item.L2, 0)
	flush(t, e)
	dir := t.TempDir()
	second := open(t, dir, nil)
	putIn(t, second, "k/0", "of the second", belowL1, 0)
	second = reopen(t, second, dir, withRedis(server, nil))
	awaitTrust(t, second)
	want(t, second, "k/0", "of the second")
	for i := 1; i < 5; i++ {
		wantAbsent(t, second, fmt.Sprintf("k/%d", i))
	}
	wantAbsent(t, second, "cached")
}

// TestG9_MoreCopiesThanTheQueueHolds: contents beyond the bound of the queue are
// not written to Redis, and nothing older of them is believed.
func TestG9_MoreCopiesThanTheQueueHolds(t *testing.T) {
	server, f := redistest.Start(t, redistest.Options{}), &faultyL2{}
	dir := t.TempDir()
	e := openRedis(t, dir, server, func(o *tiers.Options) { o.WrapL2, o.L2QueueBytes = f.wrap, 2000 })
	site := func(i int) item.Key { return item.AppendKey(nil, item.NamespaceSite, fmt.Sprintf("q/%d", i)) }
	store := func(content string) {
		t.Helper()
		for i := range 20 {
			if _, err := e.Submit(t.Context(), &tiers.Write{Key: site(i), Content: []byte(content), Version: e.Stamp()}); err != nil {
				t.Fatal(err)
			}
		}
	}
	store("v1")
	e = reopen(t, e, dir, withRedis(server, func(o *tiers.Options) { o.WrapL2, o.L2QueueBytes = f.wrap, 2000 }))
	awaitTrust(t, e)
	store("v2")
	e = reopen(t, e, dir, withRedis(server, nil))
	awaitTrust(t, e)
	old := 0
	for i := range 20 {
		h, ok, err := e.Get(t.Context(), site(i), tiers.ReadOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if ok && string(h.View.Content()) == "v1" {
			old++
		}
		if ok {
			h.Release()
		}
	}
	if old > 0 {
		t.Errorf("%d old answers are served from Redis", old)
	}
}
