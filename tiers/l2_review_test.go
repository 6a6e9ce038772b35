package tiers_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edgenode/edgenode/tiers"
	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/l3"
	"github.com/edgenode/edgenode/tiers/tiertest"
	"github.com/edgenode/edgenode/tiers/tiertest/redistest"
)

// A logBook keeps what an engine logs.
type logBook struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *logBook) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

// count returns how many lines hold text.
func (b *logBook) count(text string) (n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for line := range strings.Lines(b.text.String()) {
		if strings.Contains(line, text) {
			n++
		}
	}
	return n
}

func (b *logBook) into(o *tiers.Options) { o.Logger = slog.New(slog.NewTextHandler(b, nil)) }

// reasons returns what health complains about, and fails if the verdict does not
// agree with it.
func reasons(t *testing.T, e *tiers.Engine) string {
	t.Helper()
	h := e.Health(t.Context())
	if (len(h.Reasons) == 0) != (h.Verdict == "ok") {
		t.Errorf("verdict %s, reasons %q", h.Verdict, h.Reasons)
	}
	return strings.Join(h.Reasons, "; ")
}

// TestL2_AFreshServerIsNoTrouble: the first contact with Redis is no change of
// the server, and warns of nothing.
func TestL2_AFreshServerIsNoTrouble(t *testing.T) {
	book := &logBook{}
	e := openRedis(t, t.TempDir(), redistest.Start(t, redistest.Options{}), book.into)
	putIn(t, e, "k", "v", belowL1, 0)
	flush(t, e)
	wantFrom(t, e, "k", "v", tiers.FromL2)
	if n := book.count("level=WARN"); n > 0 {
		t.Errorf("%d warnings:\n%s", n, book.text.String())
	}
}

// TestL2_ServerThatEvicts: a server that may evict tombstones and the mark by
// itself is told of in health, and once in the log, until it is set right.
func TestL2_ServerThatEvicts(t *testing.T) {
	server, book := redistest.Start(t, redistest.Options{}), &logBook{}
	server.Do("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
	e := openRedis(t, t.TempDir(), server, book.into)
	if got := reasons(t, e); got != "" {
		t.Errorf("without a limit of memory nothing is evicted; health says %q", got)
	}
	server.Do("CONFIG", "SET", "maxmemory", "100mb")
	until(t, 5*time.Second, "told in health", func() bool { return strings.Contains(reasons(t, e), "allkeys-lru") })
	for range 3 {
		e.ProbeL2()
	}
	if n := book.count("maxmemory-policy"); n != 1 {
		t.Errorf("%d lines in the log, want 1", n)
	}
	server.Do("CONFIG", "SET", "maxmemory-policy", "noeviction")
	until(t, 5*time.Second, "not told any more", func() bool { return reasons(t, e) == "" })
}

// TestL2_FlappingIsOneLine: L2 that is lost and found many times a second does
// not fill the log.
func TestL2_FlappingIsOneLine(t *testing.T) {
	book := &logBook{}
	e := openRedis(t, t.TempDir(), redistest.Start(t, redistest.Options{}), book.into)
	for range 20 {
		e.DistrustL2()
		awaitTrust(t, e)
	}
	if n := book.count("trusted"); n > 4 {
		t.Errorf("%d lines in the log, want a few:\n%s", n, book.text.String())
	}
}

// TestG9_LongKeysInTheQueue: what L2 is owed is bounded by its bytes too, not
// only by its number: keys may have 8 KiB.
func TestG9_LongKeysInTheQueue(t *testing.T) {
	server := redistest.Start(t, redistest.Options{})
	e := openRedis(t, t.TempDir(), server, func(o *tiers.Options) { o.L2QueueBytes = 1 })
	server.Kill()
	e.DistrustL2()
	const each = 8 << 10
	for i := range 300 {
		k := item.AppendKey(nil, item.NamespaceSite, fmt.Sprintf("%0*d", each, i))
		if _, err := e.Submit(t.Context(), &tiers.Write{Key: k, Content: []byte("x"), Version: e.Stamp()}); err != nil {
			t.Fatal(err)
		}
	}
	if got := e.OwedKeyBytes(); got > 1<<20+each {
		t.Errorf("%d bytes of keys wait, want at most 1 MiB", got)
	}
}

// TestG4_L3ReplacedUnderTheNode: L3 is another one than it was, and has more
// changes already than this node has seen. The mark of the old one says nothing.
func TestG4_L3ReplacedUnderTheNode(t *testing.T) {
	server, store := redistest.Start(t, redistest.Options{}), &tiertest.Store{}
	e := openRedis(t, t.TempDir(), server, func(o *tiers.Options) { o.WrapStore = store.Wrap })
	putIn(t, e, "k", "of the first", belowL1, 0)
	flush(t, e)
	raw := rawRedis(t, server)
	markOf := func() string {
		m, _, err := raw.ReadMark(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return m.L3
	}
	until(t, 5*time.Second, "marked", func() bool { return markOf() != "" })
	v := e.Stamp()
	name := item.Item{
		Kind: item.KindPut, Key: item.AppendKey(nil, item.NamespaceInternal, "l3-identity"), Tiers: item.L3,
		Version: v, ContentVersion: v, MetadataVersion: v, Content: []byte("another"),
	}
	name.Seal()
	if _, err := store.Store.Apply(t.Context(), []l3.Op{{Record: name.AppendTo(nil)}}, nil, make([]l3.Outcome, 1)); err != nil {
		t.Fatal(err)
	}
	putIn(t, e, "other", "x", belowL1, 0)
	flush(t, e)
	until(t, 10*time.Second, "the mark names the L3 that is there", func() bool { return markOf() == "another" })
	awaitTrust(t, e)
	want(t, e, "k", "of the first") // its row is there
}

// A silentStore takes batches and does not answer while hang is set.
type silentStore struct {
	tiertest.Store
	hang  atomic.Bool
	began chan struct{}
}

func (s *silentStore) wrap(real tiers.Store) tiers.Store {
	s.began = make(chan struct{}, 1)
	s.Store.Wrap(real)
	return s
}

func (s *silentStore) Apply(ctx context.Context, ops []l3.Op, rules []item.Rule, out []l3.Outcome) (uint64, error) {
	if len(ops) > 0 && s.hang.Load() {
		select {
		case s.began <- struct{}{}:
		default:
		}
		<-ctx.Done()
		return 0, fmt.Errorf("%w: %w", l3.ErrUnavailable, context.Cause(ctx))
	}
	return s.Store.Apply(ctx, ops, rules, out)
}

// TestD12_AHungBatchEndsWithTheOutage: the connection of a batch dies silently
// while L3 is away. When L3 is back the batch does not wait out its limit.
func TestD12_AHungBatchEndsWithTheOutage(t *testing.T) {
	s := &silentStore{}
	e := open(t, t.TempDir(), func(o *tiers.Options) { o.WrapStore, o.L3ApplyTimeout = s.wrap, 3*time.Minute }) // longer than until waits
	s.hang.Store(true)
	put(t, e, "k", "v")
	<-s.began
	s.SetDown(true)
	until(t, 5*time.Second, "the outage is named", func() bool { return e.Health(t.Context()).L3.Circuit == "open" })
	s.SetDown(false)
	s.hang.Store(false)
	until(t, 5*time.Second, "flushed after the outage", func() bool { return e.PendingItems() == 0 })
	until(t, 5*time.Second, "well again", func() bool { return reasons(t, e) == "" })
}

// TestD12_AHungBatchIsNamed: L3 answers probes, but not the batch.
func TestD12_AHungBatchIsNamed(t *testing.T) {
	s := &silentStore{}
	var ahead atomic.Int64
	e := open(t, t.TempDir(), func(o *tiers.Options) {
		o.WrapStore, o.L3ApplyTimeout = s.wrap, 2*time.Minute
		o.Now = func() int64 { return time.Now().UnixMilli() + ahead.Load() }
	})
	s.hang.Store(true)
	put(t, e, "k", "v")
	<-s.began
	if got := reasons(t, e); got != "" {
		t.Errorf("named at once: %s", got)
	}
	ahead.Store(6000)
	if got := reasons(t, e); !strings.Contains(got, "batch") {
		t.Errorf("after 6 s health says %q, want the batch", got)
	}
	s.hang.Store(false)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	e.Close(ctx)
}
