package tiers_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/edgenode/edgenode/tiers"
	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/l3"
	"github.com/edgenode/edgenode/tiers/pressure"
	"github.com/edgenode/edgenode/tiers/tiertest"
	"github.com/edgenode/edgenode/tiers/tiertest/crashfs"
)

// A power is a node whose journal lives on a crash file system and whose L3 can
// be taken away: what is needed to cut its power.
type power struct {
	t     *testing.T
	dir   string
	fs    *crashfs.FS
	store *tiertest.Store
	e     *tiers.Engine
}

func newPower(t *testing.T) *power {
	p := &power{t: t, dir: t.TempDir(), fs: crashfs.New()}
	p.start()
	return p
}

func (p *power) start() {
	p.t.Helper()
	p.store = &tiertest.Store{}
	o := tiers.Options{
		DataDir: p.dir, L1MaxBytes: 16 << 20, MaxPayloadBytes: 1 << 20, JournalMaxBytes: 32 << 20,
		JournalFS: p.fs, WrapStore: p.store.Wrap, Logger: slog.New(slog.DiscardHandler),
	}
	backendsOf(p.t, &o)
	e, err := tiers.Open(context.Background(), o)
	if err != nil {
		p.t.Fatal(err)
	}
	p.e = e
}

// cut takes the power away and starts the node again from what the disk kept of
// the journal. L3 gets nothing more after the cut.
func (p *power) cut(rng *rand.Rand) {
	p.t.Helper()
	p.fs.Cut()
	p.store.SetDown(true)
	p.e.Close(context.Background()) // fails: the disk is gone
	p.fs = p.fs.Crash(rng)
	p.start()
	p.t.Cleanup(func() { p.e.Close(context.Background()) })
}

// A ledger holds what was acknowledged: per id the last content acknowledged
// and the contents whose fate is unknown because they came after it.
type ledger struct {
	mu    sync.Mutex
	acked map[string]string
	maybe map[string][]string
}

func newLedger() *ledger {
	return &ledger{acked: map[string]string{}, maybe: map[string][]string{}}
}

func (l *ledger) begin(id, content string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.maybe[id] = append(l.maybe[id], content)
}

func (l *ledger) ack(id, content string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.acked[id], l.maybe[id] = content, nil
}

// check reads every id: the acknowledged content or a later one must be there.
func (l *ledger) check(t *testing.T, e *tiers.Engine) {
	t.Helper()
	for id, content := range l.acked {
		got, ok := get(t, e, id)
		later := false
		for _, m := range l.maybe[id] {
			later = later || got == m
		}
		if !ok || got != content && !later {
			t.Fatalf("acknowledged %s = %q is now %q, %v", id, content, got, ok)
		}
	}
}

// load writes from 16 writers until the journal is gone; each has ids of its
// own, so that the last write of an id is known.
func load(p *power, l *ledger, round, writes int) {
	var wg sync.WaitGroup
	for w := range 16 {
		wg.Go(func() {
			for i := range writes {
				id := fmt.Sprintf("w%d/%d", w, i%7)
				content := fmt.Sprintf("round %d write %d", round, i)
				k, _ := item.IDKey(id)
				l.begin(id, content)
				if _, err := p.e.Submit(context.Background(), &tiers.Write{Key: k, Content: []byte(content)}); err != nil {
					return
				}
				l.ack(id, content)
			}
		})
	}
	wg.Wait()
}

// TestA1_SyncWritesSurvivePowerCut: the cut comes at a random write of the disk.
func TestA1_SyncWritesSurvivePowerCut(t *testing.T) {
	overBackends(t, func(t *testing.T) { testPowerCut(t, false) })
}

// TestA19_PowerCutDuringOutageOfL3 is A1 while L3 is down.
func TestA19_PowerCutDuringOutageOfL3(t *testing.T) {
	overBackends(t, func(t *testing.T) { testPowerCut(t, true) })
}

func testPowerCut(t *testing.T, outage bool) {
	rng := rand.New(rand.NewPCG(1, 2))
	p, l := newPower(t), newLedger()
	for round := range 8 {
		p.store.SetDown(outage)
		p.fs.CutAt(p.fs.Changes() + 20 + rng.IntN(300))
		load(p, l, round, 60)
		p.cut(rng)
		l.check(t, p.e)
	}
	if outage { // what a failed flush had in its hands is still there
		p.store.SetDown(true)
		load(p, l, 8, 60)
		if err := p.e.Flush(t.Context()); err == nil {
			t.Error("a flush during the outage reports no error")
		}
	}
	p.store.SetDown(false)
	flush(t, p.e)
	l.check(t, p.e)
	if err := p.e.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.start() // nothing is in L1 or in the journal
	defer p.e.Close(context.Background())
	l.check(t, p.e)
}

// TestA2_ShutdownLosesNothing: unflushed puts are in L3 after Close.
func TestA2_ShutdownLosesNothing(t *testing.T) { overBackends(t, testA2ShutdownLosesNothing) }

func testA2ShutdownLosesNothing(t *testing.T) {
	for _, n := range []int{1, 2, 100, 999} {
		dir := t.TempDir()
		e := open(t, dir, func(o *tiers.Options) { o.BatchFlush = 1 << 40 }) // no flush by time
		submitAll(t, e, n)
		if err := e.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if rows := countRows(t, openL3(t, dir)); rows != n {
			t.Errorf("%d rows in L3 after %d puts and Close", rows, n)
		}
	}
}

func submitAll(t *testing.T, e *tiers.Engine, n int) {
	t.Helper()
	ws, out := make([]*tiers.Write, n), make([]tiers.Receipt, n)
	for i := range ws {
		ws[i] = &tiers.Write{Key: key(t, fmt.Sprintf("n/%06d", i)), Content: fmt.Appendf(nil, "content %d", i)}
	}
	e.SubmitMany(t.Context(), ws, out)
	for i := range out {
		if out[i].Err != nil {
			t.Fatal(out[i].Err)
		}
	}
}

// TestA3_NoAcknowledgementWhileShuttingDown: puts race with Close.
func TestA3_NoAcknowledgementWhileShuttingDown(t *testing.T) {
	before := runtime.NumGoroutine()
	dir := t.TempDir()
	e := open(t, dir, nil)
	l := newLedger()
	var wg sync.WaitGroup
	started := make(chan struct{}, 8)
	for w := range 8 {
		wg.Go(func() {
			for i := 0; ; i++ {
				id, content := fmt.Sprintf("s%d/%d", w, i), "x"
				_, err := e.Submit(context.Background(), &tiers.Write{Key: key(t, id), Content: []byte(content)})
				if err != nil {
					if !errors.Is(err, tiers.ErrShuttingDown) && !errors.Is(err, tiers.ErrClosed) {
						t.Errorf("put while shutting down: %v", err)
					}
					return
				}
				l.ack(id, content)
				if i == 3 {
					started <- struct{}{}
				}
			}
		})
	}
	for range 8 {
		<-started
	}
	if err := e.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	if _, err := e.Submit(t.Context(), &tiers.Write{Key: key(t, "late")}); !errors.Is(err, tiers.ErrClosed) {
		t.Errorf("put after Close: %v, want ErrClosed", err)
	}
	if _, _, err := e.Get(t.Context(), key(t, "unknown"), tiers.ReadOptions{}); !errors.Is(err, tiers.ErrClosed) {
		t.Errorf("get after Close: %v, want ErrClosed", err)
	}
	for range 100 {
		if runtime.NumGoroutine() <= before {
			break
		}
		runtime.Gosched()
	}
	e = open(t, dir, nil)
	l.check(t, e)
}

// TestA4_CancelledRequestsLoseNothing: the put that fills a batch is cancelled
// at once. What it acknowledged is there; a flush runs on no request's context.
func TestA4_CancelledRequestsLoseNothing(t *testing.T) {
	overBackends(t, testA4CancelledRequestsLoseNothing)
}

func testA4CancelledRequestsLoseNothing(t *testing.T) {
	dir := t.TempDir()
	e := open(t, dir, func(o *tiers.Options) { o.BatchFlushCount = 2 })
	acked := map[string]bool{}
	for i := range scale(1000, 200) {
		ctx, cancel := context.WithCancel(t.Context())
		if i%3 == 0 { // now the first of a batch, now the one that fills it
			cancel()
		}
		id := fmt.Sprintf("c/%d", i)
		_, err := e.Submit(ctx, &tiers.Write{Key: key(t, id), Content: []byte(id)})
		cancel()
		if err == nil {
			acked[id] = true
		}
	}
	flush(t, e)
	if len(acked) == 0 {
		t.Fatal("nothing was acknowledged")
	}
	e = reopen(t, e, dir, nil) // no copies in L1: what is read was flushed
	for id := range acked {
		want(t, e, id, id)
	}
}

// TestA5_SwallowedRowStaysInJournal: L3 loses one row of n.
func TestA5_SwallowedRowStaysInJournal(t *testing.T) {
	overBackends(t, testA5SwallowedRowStaysInJournal)
}

func testA5SwallowedRowStaysInJournal(t *testing.T) {
	dir, store := t.TempDir(), &tiertest.Store{}
	e := open(t, dir, func(o *tiers.Options) { o.WrapStore = store.Wrap })
	lost := key(t, "n/000007")
	seen := make(chan struct{}, 1)
	store.Swallow(func(op l3.Op) bool {
		if !bytes.Equal(op.Record.Key(), lost) {
			return false
		}
		select {
		case seen <- struct{}{}:
		default:
		}
		return true
	})
	submitAll(t, e, 20)
	<-seen
	for again := false; !again; runtime.Gosched() {
		select {
		case <-seen: // it is tried again
			again = true
		default:
			if st, err := e.Status(t.Context(), lost); err != nil || st.Where != tiers.StatusJournaled {
				t.Fatalf("status %+v, %v before the row is in L3, want journaled", st, err)
			}
		}
	}
	want(t, e, "n/000007", "content 7")
	st, err := e.Status(t.Context(), lost)
	if err != nil || st.Where != tiers.StatusJournaled {
		t.Errorf("status %+v, %v, want journaled", st, err)
	}
	store.SetDown(true)
	e.Close(context.Background())
	e = open(t, dir, nil)
	want(t, e, "n/000007", "content 7")
	flush(t, e)
	if st, err := e.Status(t.Context(), lost); err != nil || st.Where != tiers.StatusSynced {
		t.Errorf("after recovery status %+v, %v, want synced", st, err)
	}
}

// TestA6_FullJournalRefuses: L3 is down and the journal at its quota. Nothing
// is acknowledged that is not kept; all acknowledged before stays.
func TestA6_FullJournalRefuses(t *testing.T) { overBackends(t, testA6FullJournalRefuses) }

func testA6FullJournalRefuses(t *testing.T) {
	dir, store := t.TempDir(), &tiertest.Store{}
	e := open(t, dir, func(o *tiers.Options) {
		o.WrapStore, o.JournalMaxBytes = store.Wrap, 16<<20
		o.Pressure = pressure.Thresholds{Warn: .991, Throttle: .992, Critical: .993, Emergency: .994, Shutdown: .995}
	})
	store.SetDown(true)
	l := newLedger()
	content := bytes.Repeat([]byte("x"), 100<<10)
	refused := 0
	for i := 0; refused < 3; i++ {
		id := fmt.Sprintf("f/%d", i)
		_, err := e.Submit(t.Context(), &tiers.Write{Key: key(t, id), Content: append(content, id...)})
		switch {
		case err == nil:
			l.ack(id, string(content)+id)
		case errors.Is(err, tiers.ErrFull) || errors.Is(err, tiers.ErrPressure):
			refused++
		default:
			t.Fatal(err)
		}
		if i > 1000 {
			t.Fatal("the quota was never reached")
		}
	}
	if _, err := e.Delete(t.Context(), key(t, "f/0"), nil, 0); err != nil {
		t.Errorf("delete at the quota: %v; deletes pass from the reserve", err)
	}
	delete(l.acked, "f/0")
	l.check(t, e)
	e.Close(context.Background())
	e = open(t, dir, func(o *tiers.Options) { o.JournalMaxBytes = 16 << 20 })
	l.check(t, e)
	wantAbsent(t, e, "f/0")
	flush(t, e)
	l.check(t, e)
}

// TestA6_ReadOnlyJournalIsTold: no file of the journal can be synced any more.
// Writes are refused, health says so, and reads go on.
func TestA6_ReadOnlyJournalIsTold(t *testing.T) {
	p := newPower(t)
	t.Cleanup(func() { p.e.Close(context.Background()) })
	put(t, p.e, "before", "v")
	p.fs.OnCall(func(op crashfs.Op, _ string) *crashfs.Fault {
		if op != crashfs.Sync {
			return nil
		}
		return &crashfs.Fault{Err: syscall.EIO}
	})
	_, err := p.e.Submit(t.Context(), &tiers.Write{Key: key(t, "k"), Content: []byte("v")})
	if !errors.Is(err, tiers.ErrUnknownFate) && !errors.Is(err, tiers.ErrReadOnly) {
		t.Errorf("put on a broken disk: %v", err)
	}
	if h := p.e.Health(t.Context()); h.AcceptingWrites || h.Verdict != "degraded" {
		t.Errorf("health: accepting %v, %s %v; want degraded, refusing", h.AcceptingWrites, h.Verdict, h.Reasons)
	}
	want(t, p.e, "before", "v")
	p.fs.OnCall(nil)
}

// TestA9_BacklogIsExact: after every step of a random schedule the gauges equal
// what is pending by a count of their own.
func TestA9_BacklogIsExact(t *testing.T) { overBackends(t, testA9BacklogIsExact) }

func testA9BacklogIsExact(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	store := &tiertest.Store{}
	e := open(t, t.TempDir(), func(o *tiers.Options) { o.WrapStore, o.BatchFlush = store.Wrap, 1<<40 })
	store.SetDown(true) // so that nothing leaves by itself
	pending := map[string]int{}
	records := 0
	for range scale(2000, 400) {
		id := fmt.Sprintf("b/%d", rng.IntN(50))
		switch rng.IntN(10) {
		case 0:
			store.SetDown(false)
			flush(t, e)
			store.SetDown(true)
			clear(pending)
			records = 0
		case 1, 2:
			if _, err := e.Delete(t.Context(), key(t, id), nil, 0); err != nil {
				t.Fatal(err)
			}
			pending[id]++
			records++
		default:
			put(t, e, id, "x")
			pending[id]++
			records++
		}
		h := e.Health(t.Context())
		if h.JournalRecords != int64(records) {
			t.Fatalf("backlog %d records, pending are %d", h.JournalRecords, records)
		}
		if got := e.PendingItems(); got != int64(len(pending)) {
			t.Fatalf("pending gauge %d, want %d", got, len(pending))
		}
	}
	store.SetDown(false)
	flush(t, e)
	if h := e.Health(t.Context()); h.JournalRecords != 0 || h.JournalBytes != 0 || e.PendingItems() != 0 {
		t.Errorf("after all was flushed: %d records, %d bytes, %d items", h.JournalRecords, h.JournalBytes, e.PendingItems())
	}
}

// TestA10_BigJournalIsReadAndDrained: a journal of many records is indexed at
// start, read from, and drained once.
func TestA10_BigJournalIsReadAndDrained(t *testing.T) {
	overBackends(t, testA10BigJournalIsReadAndDrained)
}

func testA10BigJournalIsReadAndDrained(t *testing.T) {
	n := scale(1_000_000, 20_000)
	dir, store := t.TempDir(), &tiertest.Store{}
	big := func(o *tiers.Options) { o.JournalMaxBytes, o.L1MaxBytes = 2<<30, 512<<20 }
	e := open(t, dir, func(o *tiers.Options) { big(o); o.WrapStore = store.Wrap })
	store.SetDown(true)
	submitAll(t, e, n)
	e.CloseAbruptly()
	store = &tiertest.Store{}
	store.SetDown(true)
	e = open(t, dir, func(o *tiers.Options) { big(o); o.WrapStore = store.Wrap })
	if got := e.PendingItems(); got != int64(n) {
		t.Errorf("%d items pending after the restart, want %d", got, n)
	}
	for i := 0; i < n; i += n / 100 {
		want(t, e, fmt.Sprintf("n/%06d", i), fmt.Sprintf("content %d", i))
	}
	var rows atomic.Int64
	store.OnApply(nil, func(ops []l3.Op) { rows.Add(int64(len(ops))) })
	store.SetDown(false)
	flush(t, e)
	if got := rows.Load(); got != int64(n) {
		t.Errorf("%d rows were sent to L3, want each of %d once", got, n)
	}
	if got, exact, err := e.Count(t.Context(), tiers.Query{Prefix: "n/"}); err != nil || !exact && n < 1_000_000 || got != int64(n) {
		t.Errorf("%d items in L3 (%v, %v), want %d", got, exact, err, n)
	}
}

// TestA11_ContentsLeaveL1: with L3 down more is written than L1 can hold.
func TestA11_ContentsLeaveL1(t *testing.T) { overBackends(t, testA11ContentsLeaveL1) }

func testA11ContentsLeaveL1(t *testing.T) {
	dir, store := t.TempDir(), &tiertest.Store{}
	e := open(t, dir, func(o *tiers.Options) { o.WrapStore, o.JournalMaxBytes = store.Wrap, 96<<20 })
	store.SetDown(true)
	content := bytes.Repeat([]byte("y"), 64<<10)
	acked := 0
	for ; acked < 2000; acked++ {
		id := fmt.Sprintf("m/%d", acked)
		_, err := e.Submit(t.Context(), &tiers.Write{Key: key(t, id), Content: append(content, id...)})
		if errors.Is(err, tiers.ErrPressure) || errors.Is(err, tiers.ErrFull) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if acked*len(content) < 2*16<<20 {
		t.Fatalf("refused after %d items: contents did not leave the 16 MiB of L1", acked)
	}
	if acked == 2000 {
		t.Fatal("never refused: the journal's thresholds do not hold")
	}
	for i := range acked {
		id := fmt.Sprintf("m/%d", i)
		want(t, e, id, string(content)+id)
	}
	if h := e.Health(t.Context()); h.L1Bytes > h.L1Max {
		t.Errorf("L1 holds %d bytes of %d", h.L1Bytes, h.L1Max)
	}
}

// TestA12_JournalServesReads: L3 is down from the start; L1 is empty after the
// restart.
func TestA12_JournalServesReads(t *testing.T) { overBackends(t, testA12JournalServesReads) }

func testA12JournalServesReads(t *testing.T) {
	dir, store := t.TempDir(), &tiertest.Store{}
	e := open(t, dir, func(o *tiers.Options) { o.WrapStore = store.Wrap })
	store.SetDown(true)
	put(t, e, "k", "v")
	e.Close(context.Background())
	store = &tiertest.Store{}
	store.SetDown(true)
	e = open(t, dir, func(o *tiers.Options) { o.WrapStore = store.Wrap })
	h, ok, err := e.Get(t.Context(), key(t, "k"), tiers.ReadOptions{})
	if err != nil || !ok || h.Source != tiers.FromPending || string(h.View.Content()) != "v" {
		t.Fatalf("get = %v from %v, %v", ok, h.Source, err)
	}
	h.Release()
	if _, _, err := e.Get(t.Context(), key(t, "other"), tiers.ReadOptions{}); !errors.Is(err, tiers.ErrUnavailable) {
		t.Errorf("get of what only L3 can know: %v, want ErrUnavailable", err)
	}
}

// FuzzA16_BytesRoundTrip: any bytes come back exactly from L1, the journal and
// L3; see TestA16 for its seeds as a test.
func FuzzA16_BytesRoundTrip(f *testing.F) {
	for _, s := range []string{"", "\x00", "{\"a\": 1.0e1, \"b\":  [ ]}", "\xff\xfe", "a\r\nb"} {
		f.Add([]byte(s))
	}
	f.Fuzz(roundTrip)
}

func TestA16_BytesRoundTrip(t *testing.T) { overSQL(t, testA16BytesRoundTrip) }

func testA16BytesRoundTrip(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	for range 12 {
		b := make([]byte, rng.IntN(1<<rng.IntN(18)))
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		roundTrip(t, b)
	}
	roundTrip(t, []byte("{\"z\" : 1.50, \"a\":[1 ,2]}\n"))
}

func roundTrip(t *testing.T, content []byte) {
	dir, store := t.TempDir(), &tiertest.Store{}
	e := open(t, dir, func(o *tiers.Options) { o.WrapStore = store.Wrap })
	store.SetDown(true)
	r := put(t, e, "k", string(content))
	f := func(e *tiers.Engine, from tiers.Source) {
		t.Helper()
		h, ok, err := e.GetVerified(t.Context(), key(t, "k"))
		if err != nil || !ok {
			t.Fatalf("from %v: %v, %v", from, ok, err)
		}
		defer h.Release()
		if h.Source != from || !bytes.Equal(h.View.Content(), content) || h.View.ETag() != r.ETag {
			t.Errorf("from %v (wanted %v): %d bytes, entity tag %v; put %d bytes, %v",
				h.Source, from, len(h.View.Content()), h.View.ETag(), len(content), r.ETag)
		}
	}
	f(e, tiers.FromL1)
	e.Close(context.Background())
	store = &tiertest.Store{}
	e = open(t, dir, func(o *tiers.Options) { o.WrapStore, o.BatchFlush = store.Wrap, 1<<40 })
	f(e, tiers.FromPending)
	flush(t, e)
	e.Close(context.Background())
	f(open(t, dir, nil), tiers.FromL3)
}

// TestA20_DirectoryIsLocked: two engines cannot share a data directory.
func TestA20_DirectoryIsLocked(t *testing.T) {
	dir := t.TempDir()
	e := open(t, dir, func(o *tiers.Options) { o.NodeName = "first" })
	_, err := tiers.Open(t.Context(), tiers.Options{DataDir: dir, NodeName: "second"})
	if err == nil || !bytes.Contains([]byte(err.Error()), []byte("first")) {
		t.Fatalf("second open: %v, want an error that names the owner", err)
	}
	put(t, e, "k", "v")
	want(t, e, "k", "v") // the attempt harmed nothing
	e.Close(context.Background())
	e = open(t, dir, nil)
	want(t, e, "k", "v")
}

// TestA21_ReleaseWaitsForL3: the power is cut right after a flush has released
// its journal records. L3 has committed by then, and its journal of its own is
// on disk.
func TestA21_ReleaseWaitsForL3(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	p, l := newPower(t), newLedger()
	for round := range 6 {
		load(p, l, round, 20)
		flush(t, p.e)
		p.cut(rng)
		l.check(t, p.e)
	}
}

// TestA21_NothingIsReleasedEarly counts the journal's records while a batch is
// held up before its commit, and after it but before the engine learns of it.
func TestA21_NothingIsReleasedEarly(t *testing.T) { overBackends(t, testA21NothingIsReleasedEarly) }

func testA21NothingIsReleasedEarly(t *testing.T) {
	store := &tiertest.Store{}
	e := open(t, t.TempDir(), func(o *tiers.Options) { o.WrapStore, o.BatchFlush = store.Wrap, 1<<40 })
	submitAll(t, e, 20)
	f := func(when string, want int64) {
		t.Helper()
		if got := e.Health(t.Context()).JournalRecords; got != want {
			t.Errorf("%s the commit the journal holds %d records, want %d", when, got, want)
		}
	}
	store.OnApply(func([]l3.Op) { f("before", 20) }, func([]l3.Op) { f("right after", 20) })
	flush(t, e)
	f("long after", 0)
	store.OnApply(nil, nil)
}
