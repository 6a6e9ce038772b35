package tiers_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edgenode/edgenode/tiers"
	"github.com/edgenode/edgenode/tiers/l3"
	"github.com/edgenode/edgenode/tiers/tiertest"
	"github.com/edgenode/edgenode/tiers/tiertest/redistest"
)

// A forgetful store shows changes behind the last one which are on no disk: they
// are gone when its server has crashed.
type forgetful struct {
	tiertest.Store
	ghosts atomic.Pointer[[]l3.Change]
}

func (s *forgetful) Changes(ctx context.Context, after uint64, limit int, fn func(c l3.Change) error) error {
	ghosts := s.ghosts.Load()
	if ghosts == nil {
		return s.Store.Changes(ctx, after, limit, fn)
	}
	if first := (*ghosts)[0].Seq; after < first-1 {
		if err := s.Store.Changes(ctx, after, limit, fn); err != nil {
			return err
		}
	}
	for _, c := range *ghosts {
		if c.Seq > after {
			if err := fn(c); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *forgetful) wrap(real tiers.Store) tiers.Store {
	s.Store.Wrap(real)
	return s
}

// TestG5_ForgottenChanges: a node has read changes that their server then lost in
// a crash, and their numbers have others, of which the node had no other news: they
// are seen, by filter, memory and Redis, also if the sequence is shorter than it
// was.
func TestG5_ForgottenChanges(t *testing.T) {
	f := func(name string, redis *redistest.Server, more bool) {
		t.Run(name, func(t *testing.T) {
			db, store := filepath.Join(t.TempDir(), "l3.db"), &forgetful{}
			share := func(o *tiers.Options) {
				onFile(db, &tiertest.Store{})(o)
				o.L3Shared, o.FollowInterval = true, 10*time.Millisecond
				if redis != nil {
					o.RedisURL = redis.URL()
				}
			}
			b := open(t, t.TempDir(), share)
			a := open(t, t.TempDir(), func(o *tiers.Options) { share(o); o.WrapStore = store.wrap })
			put(t, b, "k", "v1")
			flush(t, b)
			awaitFilter(t, a)
			if redis != nil {
				awaitTrust(t, a)
				awaitTrust(t, b)
			}
			until(t, 10*time.Second, "followed", func() bool { return a.Followed() == b.LastChange() })
			awaitFrom(t, a, "k", "v1", tiers.FromL1)

			last := b.LastChange()
			ghosts := []l3.Change{
				{Seq: last + 1, Op: l3.ChangePut, Version: b.Stamp(), Key: key(t, "ghost1")},
				{Seq: last + 2, Op: l3.ChangePut, Version: b.Stamp(), Key: key(t, "ghost2")},
			}
			store.ghosts.Store(&ghosts)
			until(t, 10*time.Second, "more is seen than was synced", func() bool {
				return a.Followed() == last+2 && (redis == nil || a.L2Walked() == last+2)
			})
			store.SetDown(true)
			store.ghosts.Store(nil)
			put(t, b, "k", "v2")
			flush(t, b)
			if more {
				putBelow(t, b, "fresh", "v")
				flush(t, b)
				put(t, b, "other", "v")
				flush(t, b)
			}
			store.SetDown(false)
			a.ProbeL3()
			until(t, 10*time.Second, "what has the number of a lost change", func() bool {
				got, _ := get(t, a, "k")
				return got == "v2"
			})
			awaitFilter(t, a)
			until(t, 10*time.Second, "followed again", func() bool { return a.Followed() == b.LastChange() })
			awaitFrom(t, a, "k", "v2", tiers.FromL1)
			if more {
				awaitFilter(t, a)
				want(t, a, "fresh", "v")
			}
			if redis != nil {
				awaitTrust(t, a)
			}
			put(t, b, "k", "v3")
			put(t, b, "last", "v")
			flush(t, b)
			until(t, 10*time.Second, "it goes on", func() bool {
				got, _ := get(t, a, "k")
				last, _ := get(t, a, "last")
				return got == "v3" && last == "v"
			})
		})
	}
	f("as many", nil, true)
	f("fewer", nil, false)
	f("redis", redistest.Start(t, redistest.Options{}), true)
	f("redis, fewer", redistest.Start(t, redistest.Options{}), false)
}

// TestG5_ToldAndForgotten: readers of the feed were told of changes that L3 lost
// before the node's follower had read them: the sequence begins anew above them,
// whether a reader goes on, or nobody does, or another reader came in between.
func TestG5_ToldAndForgotten(t *testing.T) {
	f := func(name string, later int, then func(t *testing.T, a *tiers.Engine, ghost uint64)) {
		if t.Failed() {
			return // the rest would only wait
		}
		t.Run(name, func(t *testing.T) {
			db, store := filepath.Join(t.TempDir(), "l3.db"), &forgetful{}
			share := func(o *tiers.Options) {
				onFile(db, &tiertest.Store{})(o)
				o.L3Shared, o.FollowInterval = true, time.Hour
			}
			b := open(t, t.TempDir(), share)
			put(t, b, "k", "v1")
			flush(t, b)
			a := open(t, t.TempDir(), func(o *tiers.Options) { share(o); o.WrapStore, o.FilterOff = store.wrap, true })
			last := b.LastChange()
			until(t, 30*time.Second, "it knows the end", func() bool { return a.Followed() == last })
			ghosts := []l3.Change{
				{Seq: last + 1, Op: l3.ChangePut, Version: b.Stamp(), Key: key(t, "ghost1")},
				{Seq: last + 2, Op: l3.ChangePut, Version: b.Stamp(), Key: key(t, "ghost2")},
			}
			store.ghosts.Store(&ghosts)
			seen, err := readFeed(t, a, last)
			if err != nil || seen != last+2 {
				t.Fatalf("read up to %d, %v", seen, err)
			}
			store.ghosts.Store(nil)
			for i := range later {
				put(t, b, "later", fmt.Sprint(i))
				flush(t, b)
			}
			then(t, a, seen)
			until(t, 30*time.Second, "the sequence begins anew", func() bool {
				_, err := readFeed(t, b, seen)
				return errors.Is(err, tiers.ErrChangesGone) && a.Followed() > max(seen, last+uint64(later))
			})
			if _, err := readFeed(t, a, a.LastChange()); err != nil {
				t.Errorf("who begins now: %v", err)
			}
		})
	}
	nobody := func(_ *testing.T, a *tiers.Engine, _ uint64) { a.FollowNow() }
	goesOn := func(t *testing.T, a *tiers.Engine, ghost uint64) {
		if _, err := readFeed(t, a, ghost); !errors.Is(err, tiers.ErrChangesGone) {
			t.Errorf("who goes on is told %v", err)
		}
	}
	another := func(from uint64) func(t *testing.T, a *tiers.Engine, ghost uint64) {
		return func(t *testing.T, a *tiers.Engine, ghost uint64) {
			_, _ = readFeed(t, a, ghost-from) // it may be told, or not
			a.FollowNow()
		}
	}
	for later := 1; later < 4; later++ {
		f(fmt.Sprint("nobody, ", later), later, nobody)
		f(fmt.Sprint("from the begin, ", later), later, another(2))
		f(fmt.Sprint("from the middle, ", later), later, another(1))
	}
	f("nobody, shorter", 0, nobody)
	f("goes on, as long", 2, goesOn)
	f("goes on, longer", 3, goesOn)
}

func readFeed(t *testing.T, e *tiers.Engine, after uint64) (uint64, error) {
	return e.Feed(t.Context(), tiers.FeedQuery{After: after, Limit: 10}, func(*tiers.Event) error { return nil })
}
