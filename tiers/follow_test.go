package tiers_test

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edgenode/edgenode/tiers"
	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/l3"
	"github.com/edgenode/edgenode/tiers/tiertest"
)

// A blindStore answers all questions but the one for changes.
type blindStore struct {
	tiers.Store
	blind atomic.Bool
}

func (s *blindStore) Changes(ctx context.Context, after uint64, limit int, fn func(l3.Change) error) error {
	if s.blind.Load() {
		return fmt.Errorf("%w: no changes", l3.ErrUnavailable)
	}
	return s.Store.Changes(ctx, after, limit, fn)
}

// TestD12_NotFollowed: L3 answers, but for its changes. Health says so within the
// follow interval and 2 s, what is in memory is served, "not there" is not said by
// the filter; and it ends when they can be read again.
func TestD12_NotFollowed(t *testing.T) {
	db, blind := filepath.Join(t.TempDir(), "l3.db"), &blindStore{}
	e := open(t, t.TempDir(), func(o *tiers.Options) {
		onFile(db, &tiertest.Store{})(o)
		o.L3Shared, o.FollowInterval = true, 20*time.Millisecond
		o.WrapStore = func(s tiers.Store) tiers.Store { blind.Store = s; return blind }
	})
	named := func() bool {
		for _, r := range e.Health(t.Context()).Reasons {
			if strings.Contains(r, "what other nodes write is not seen") {
				return true
			}
		}
		return false
	}
	putIn(t, e, "k", "v", item.AllTiers, 0)
	flush(t, e)
	if named() {
		t.Errorf("followed, and %q", e.Health(t.Context()).Reasons)
	}
	blind.blind.Store(true)
	if took := until(t, 10*time.Second, "health says so", named); took > inTime(2*time.Second) {
		t.Errorf("named after %v, want 2 s", took)
	}
	if e.DefinitelyMissing(key(t, "other")) {
		t.Error("the filter is sure of what it cannot know")
	}
	want(t, e, "k", "v")
	blind.blind.Store(false)
	until(t, 10*time.Second, "it is over", func() bool { return !named() })
}
