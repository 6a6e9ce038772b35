package tiers_test

import (
	"context"
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
