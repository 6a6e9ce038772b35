package tiers_test

import (
	"errors"
	"log/slog"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/edgenode/edgenode/tiers"
	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/tiertest/crashfs"
	"github.com/edgenode/edgenode/tiers/tiertest/memstore"
)

// TestB7_NobodyIsAheadOfTheOthers: a write is committed in a shared L3 and its
// node does not know it yet; who is told of it by a refused condition must not
// be answered with the version before it afterwards.
func TestB7_NobodyIsAheadOfTheOthers(t *testing.T) {
	dir := simDir(t)
	defer os.RemoveAll(dir)
	synctest.Test(t, func(t *testing.T) {
		sql, redis := memstore.NewL3(nil), memstore.NewL2(nil)
		e, err := tiers.Open(t.Context(), tiers.Options{
			DataDir: dir, L1MaxBytes: 16 << 20, MaxPayloadBytes: 1 << 20, JournalMaxBytes: 16 << 20, JournalFS: crashfs.New(),
			Logger: slog.New(slog.DiscardHandler), L3Shared: true, FilterOff: true, FollowInterval: time.Hour,
			OpenL2: func() (tiers.L2Store, error) { return redis, nil },
			WrapStore: func(real tiers.Store) tiers.Store {
				if err := real.Close(); err != nil {
					t.Error(err)
				}
				return &simStore{L3: sql, simRest: simRest{real}}
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		defer e.Close(t.Context())
		put(t, e, "k", "v1")
		flush(t, e)
		replace := func(content string) error {
			c := tiers.Condition{Match: []item.ETag{item.ETagOf("application/octet-stream", []byte("v1"))}}
			_, err := e.CompareAndSubmit(t.Context(), &c, &tiers.Write{Key: key(t, "k"), Content: []byte(content)})
			return err
		}
		sql.Plan("Get", memstore.Fault{Kind: memstore.Slow, Delay: 50 * time.Millisecond})
		sql.Plan("Apply", memstore.Fault{Kind: memstore.Late, Delay: 100 * time.Millisecond})
		refused, replaced := make(chan error, 1), make(chan error, 1)
		go func() { refused <- replace("v3") }()
		synctest.Wait() // it waits for its row
		go func() { replaced <- replace("v2") }()
		if err := <-refused; !errors.Is(err, tiers.ErrPrecondition) {
			t.Errorf("the second condition: %v, want it refused", err)
		}
		want(t, e, "k", "v2")
		if err := <-replaced; err != nil {
			t.Error(err)
		}
	})
}
