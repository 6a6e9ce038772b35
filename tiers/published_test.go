package tiers_test

import (
	"crypto/sha256"
	"errors"
	"log/slog"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/edgenode/edgenode/tiers"
	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/l3"
	"github.com/edgenode/edgenode/tiers/tiertest/crashfs"
	"github.com/edgenode/edgenode/tiers/tiertest/memstore"
)

// published runs f on a node with a shared L3 in memory, under a fake clock.
func published(t *testing.T, f func(t *testing.T, e *tiers.Engine, sql *memstore.L3)) {
	inBubble(t, func(t *testing.T, e *tiers.Engine, sql *memstore.L3, _ *memstore.L2) { f(t, e, sql) })
}

// inBubble is published with the L2, in memory too.
func inBubble(t *testing.T, f func(t *testing.T, e *tiers.Engine, sql *memstore.L3, redis *memstore.L2)) {
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
		f(t, e, sql, redis)
	})
}

// replace stores content in place of what is expected.
func replace(t *testing.T, e *tiers.Engine, expected, content string) error {
	c := tiers.Condition{Match: []item.ETag{item.ETagOf("application/octet-stream", []byte(expected))}}
	_, err := e.CompareAndSubmit(t.Context(), &c, &tiers.Write{Key: key(t, "k"), Content: []byte(content)})
	return err
}

// TestB7_NobodyIsAheadOfTheOthers: a write is committed in a shared L3 and its
// node does not know it yet; who is told of it by a refused condition must not
// be answered with the version before it afterwards.
func TestB7_NobodyIsAheadOfTheOthers(t *testing.T) {
	published(t, func(t *testing.T, e *tiers.Engine, sql *memstore.L3) {
		put(t, e, "k", "v1")
		flush(t, e)
		sql.Plan("Get", memstore.Fault{Kind: memstore.Slow, Delay: 50 * time.Millisecond})
		sql.Plan("Apply", memstore.Fault{Kind: memstore.Late, Delay: 100 * time.Millisecond})
		refused, replaced := make(chan error, 1), make(chan error, 1)
		go func() { refused <- replace(t, e, "v1", "v3") }()
		synctest.Wait() // it waits for its row
		go func() { replaced <- replace(t, e, "v1", "v2") }()
		if err := <-refused; !errors.Is(err, tiers.ErrPrecondition) {
			t.Errorf("the second condition: %v, want it refused", err)
		}
		want(t, e, "k", "v2")
		if err := <-replaced; err != nil {
			t.Error(err)
		}
	})
}

// TestB7_APublicationTakesNothingBack: a read has found the row of another node,
// which is newer than what this node publishes before the read returns; it is
// what reads find from then on.
func TestB7_APublicationTakesNothingBack(t *testing.T) {
	published(t, func(t *testing.T, e *tiers.Engine, sql *memstore.L3) {
		old := put(t, e, "k", "v1")
		flush(t, e)
		sql.Plan("Apply", memstore.Fault{Kind: memstore.Late, Delay: 100 * time.Millisecond})
		replaced := make(chan error, 1)
		go func() { replaced <- replace(t, e, "v1", "v2") }()
		synctest.Wait() // committed, and not published
		theirs(t, sql, "v3")
		sql.Plan("Get", memstore.Fault{Kind: memstore.Late, Delay: 200 * time.Millisecond})
		h, ok, err := e.Get(t.Context(), key(t, "k"), tiers.ReadOptions{MinVersion: old.Version + 1})
		if err != nil || !ok {
			t.Fatal(ok, err)
		}
		first, content := h.View.Version(), string(h.View.Content())
		h.Release()
		if content != "v3" {
			t.Errorf("the read found %q, want the newest row", content)
		}
		if err := <-replaced; err != nil {
			t.Error(err)
		}
		h, ok, err = e.Get(t.Context(), key(t, "k"), tiers.ReadOptions{})
		if err != nil || !ok {
			t.Fatal(ok, err)
		}
		defer h.Release()
		if h.View.Version() < first {
			t.Errorf("%s from %s after a newer version", h.View.Content(), h.Source)
		}
	})
}

// theirs writes over the row of k as another node does.
func theirs(t *testing.T, sql *memstore.L3, content string) {
	t.Helper()
	b, ok, err := sql.Get(t.Context(), key(t, "k"), nil)
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	it := item.View(b).Item()
	it.Content = []byte(content)
	it.ContentHash, it.ETag = sha256.Sum256(it.Content), item.ETagOf(it.MIME, it.Content)
	it.Version++
	it.ContentVersion = it.Version
	out := make([]l3.Outcome, 1)
	if _, err := sql.Apply(t.Context(), []l3.Op{{Record: it.AppendTo(nil)}}, nil, out); err != nil {
		t.Fatal(err)
	}
}
