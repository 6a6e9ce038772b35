package filter_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/edgenode/edgenode/tiers/filter"
	"github.com/edgenode/edgenode/tiers/item"
)

func TestOptions(t *testing.T) {
	_, err := filter.New(filter.Options{MaxLag: -1, PageKeys: -1, MinItems: 1 << 40, Identity: strings.Repeat("x", 300)})
	if err == nil {
		t.Fatal("bad options were taken")
	}
	for _, want := range []string{"MaxLag", "PageKeys", "MinItems", "Identity"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %q does not name %s", err, want)
		}
	}
}

func TestNothingIsTrustedUntilWarm(t *testing.T) {
	f, s := open(t), newSource()
	for i := range 500 {
		s.put(0, key(i))
	}
	if f.DefinitelyMissing(key(1000)) || !f.MightExist(key(1000)) || f.Stats().WarmWanted != "incomplete" {
		t.Error("an empty filter knows something")
	}
	s.trimmed = 100
	if err := f.CatchUp(context.Background(), s); !errors.Is(err, filter.ErrGone) {
		t.Errorf("catching up over a gap = %v, want ErrGone", err)
	}
	warm(t, f, s)
	noLies(t, f, s)
	if !f.DefinitelyMissing(key(1000)) {
		t.Error("the filter does not know that an absent key is absent")
	}
}

func TestChanges(t *testing.T) {
	f, s := open(t), newSource()
	warm(t, f, s)
	s.put(0, key(1))
	if err := f.Seen(key(2)); err != nil || f.DefinitelyMissing(key(2)) {
		t.Errorf("a key that was seen is missing, %v", err)
	}
	catchUp(t, f, s)
	noLies(t, f, s)
	f.Apply(filter.Change{Seq: 1, Op: filter.OpRemove, Key: key(1)}) // had already
	if f.Applied() != 1 || f.Stats().Removed != 0 {
		t.Errorf("a number counted twice: %+v", f.Stats())
	}
	s.remove(key(1))
	catchUp(t, f, s)
	if st := f.Stats(); st.Removed != 1 || st.Applied != 2 || !f.MightExist(key(1)) {
		t.Errorf("after a removal: %+v", st)
	}
	if err := f.Apply(filter.Change{Seq: 9, Op: filter.OpPut, Key: key(3)}); !errors.Is(err, filter.ErrGap) {
		t.Errorf("gap = %v, want ErrGap", err)
	}
	if f.Trusted() || f.DefinitelyMissing(key(77)) {
		t.Error("trusted after a gap")
	}
	warm(t, f, s)
	if !f.DefinitelyMissing(key(1)) {
		t.Error("a removed key is there after a warm-up")
	}
}

// C4: deletes, of keys that are there and of keys that are not, deny nothing.
func TestC4_DeletesDenyNothing(t *testing.T) {
	n := 100_000
	if raceEnabled {
		n = 20_000
	}
	if soak {
		n = 1_000_000
	}
	f, s := open(t), newSource()
	warm(t, f, s)
	for i := range n {
		s.put(0, key(i))
	}
	for i := range n / 10 {
		s.remove(key(i * 10))
	}
	for i := range n {
		s.remove(key(n + i))
	}
	catchUp(t, f, s)
	noLies(t, f, s)
	if st := f.Stats(); st.Items != uint64(n) && st.Items < uint64(n)*999/1000 {
		t.Errorf("%d entries, want about %d", st.Items, n)
	}
}

// C5: a key that is missing from the filter is found by Verify, which ends the
// trust.
func TestC5_VerifyFindsALie(t *testing.T) {
	f, s := open(t), newSource()
	for i := range 3000 {
		s.put(i%2, key(i))
	}
	warm(t, f, s)
	r, err := f.Verify(context.Background(), s)
	if err != nil || r.Checked != 3000 || r.Missing != 0 || !f.Trusted() {
		t.Fatalf("Verify of a right filter = %+v, %v", r, err)
	}
	lost := key(1234)
	if !f.Lose(lost) {
		t.Fatal("the key was not there")
	}
	r, err = f.Verify(context.Background(), s)
	if err != nil || r.Missing != 1 || string(r.Example) != string(lost) {
		t.Errorf("Verify = %+v, %v, want 1 missing", r, err)
	}
	if f.Trusted() || f.DefinitelyMissing(lost) || f.DefinitelyMissing(key(99_999)) {
		t.Error("the filter is trusted after Verify found a lie")
	}
	if _, err := f.Verify(context.Background(), s); !errors.Is(err, filter.ErrIncomplete) {
		t.Errorf("Verify of an incomplete filter = %v", err)
	}
	warm(t, f, s)
	noLies(t, f, s)
}

// What is committed while Verify walks is no lie.
func TestVerifyBesideWriters(t *testing.T) {
	f, s := open(t), newSource()
	for i := range 1000 {
		s.put(0, key(i))
	}
	warm(t, f, s)
	s.pages, s.onPage = 0, func(page int) {
		s.put(0, item.Key("zzz-"+string(rune('a'+page)))) // behind the cursor, not applied
	}
	r, err := f.Verify(context.Background(), s)
	if err != nil || r.Missing != 0 || !f.Trusted() {
		t.Errorf("Verify = %+v, %v, trusted %v", r, err, f.Trusted())
	}
	s.fails = errOutage
	if _, err := f.Verify(context.Background(), s); !errors.Is(err, errOutage) || !f.Trusted() {
		t.Errorf("Verify in an outage = %v, trusted %v", err, f.Trusted())
	}
}

// C7: what is put, deleted or moved between two tables during a warm-up is never
// denied, and an error of SQL leaves no trust behind.
func TestC7_WarmUpBesideWriters(t *testing.T) {
	f, s := open(t), newSource()
	for i := range 2000 {
		s.put(i%2, key(i*10))
	}
	s.onPage = func(page int) {
		s.put(0, item.Key("i!before"+string(rune('a'+page)))) // behind the cursor: only its change tells
		s.put(1, item.Key("izz"+string(rune('a'+page))))
		s.remove(key(page * 10))
		s.put(1, key(page*10)) // deleted and back
		s.move(key(page * 100))
		s.remove(key(page*10 + 500))
		if page%3 == 0 {
			_ = f.CatchUp(context.Background(), s)
		}
		if f.DefinitelyMissing(key(0)) {
			t.Error("trusted during the first warm-up")
		}
	}
	warm(t, f, s)
	noLies(t, f, s)

	f.Distrust("test")
	s.pages = 0
	s.onPage = func(page int) {
		if page == 5 {
			s.mu.Lock()
			s.fails = errOutage
			s.mu.Unlock()
		}
	}
	if err := f.Warm(context.Background(), s, 0); !errors.Is(err, errOutage) {
		t.Errorf("warm-up in an outage = %v", err)
	}
	s.fails, s.onPage = nil, nil
	catchUp(t, f, s)
	if f.Trusted() || f.DefinitelyMissing(key(7)) {
		t.Error("trusted after half a warm-up")
	}
}

// A trusted filter stays so while it is built anew, and after that failed.
func TestWarmKeepsTheOldOne(t *testing.T) {
	f, s := open(t), newSource()
	for i := range 2000 {
		s.put(0, key(i))
	}
	warm(t, f, s)
	for i := range 1900 {
		s.remove(key(i))
	}
	catchUp(t, f, s)
	if w := f.Stats().WarmWanted; w != "removed" {
		t.Errorf("WarmWanted = %q, want removed", w)
	}
	s.onPage = func(int) {
		s.put(0, key(1_000_000+s.pages))
		catchUp(t, f, s)
		noLies(t, f, s)
		if !f.Stats().Warming || !f.DefinitelyMissing(key(5000)) {
			t.Error("the old one does not answer")
		}
	}
	warm(t, f, s)
	noLies(t, f, s)
	if st := f.Stats(); st.Removed != 0 || st.WarmWanted != "" || !f.DefinitelyMissing(key(3)) {
		t.Errorf("after the rebuild: %+v", st)
	}
	s.onPage = func(int) { s.mu.Lock(); s.fails = errOutage; s.mu.Unlock() }
	if err := f.Warm(context.Background(), s, 0); !errors.Is(err, errOutage) || !f.Trusted() {
		t.Errorf("failed rebuild = %v, trusted %v", err, f.Trusted())
	}
	s.onPage = func(int) { f.Distrust("meanwhile"); s.mu.Lock(); s.fails = nil; s.mu.Unlock() }
	s.fails = nil
	if err := f.Warm(context.Background(), s, 0); !errors.Is(err, filter.ErrReset) || f.Trusted() {
		t.Errorf("rebuild through a loss of trust = %v, trusted %v", err, f.Trusted())
	}
}

// C8: of two nodes on one ground truth, one puts a key. The other may deny it
// until it has followed, but not longer than the bound, whatever fails.
func TestC8_FollowBound(t *testing.T) {
	now := int64(1_000_000)
	clock := func(o *filter.Options) {
		o.MaxLag, o.Clock = time.Second, func() int64 { return now }
	}
	s := newSource()
	a := open(t, clock)
	warm(t, a, s)
	s.put(0, key(1)) // by B
	now += 900
	if !a.DefinitelyMissing(key(1)) {
		t.Error("the other node knows already")
	}
	catchUp(t, a, s)
	if a.DefinitelyMissing(key(1)) {
		t.Error("denied after following")
	}
	s.put(0, key(2))
	s.fails = errOutage
	now += 1001
	if err := a.CatchUp(context.Background(), s); !errors.Is(err, errOutage) {
		t.Fatal(err)
	}
	if a.DefinitelyMissing(key(2)) || a.Trusted() || a.Stats().Reason == "" {
		t.Error("denied beyond the bound")
	}
	s.fails = nil
	catchUp(t, a, s)
	if a.DefinitelyMissing(key(2)) || !a.DefinitelyMissing(key(3)) {
		t.Error("not right after the outage")
	}
}

// While entries are moved about, tables grow and one replaces another, no reader
// is told that an old key is missing.
func TestReadersDuringMoves(t *testing.T) {
	f, s := open(t), newSource()
	const old = 2000
	for i := range old {
		s.put(0, key(i))
	}
	warm(t, f, s)
	stop, readers := make(chan struct{}), sync.WaitGroup{}
	for r := range 3 {
		readers.Go(func() {
			for i := r; ; i++ {
				if f.DefinitelyMissing(key(i % old)) {
					t.Errorf("key %d is denied", i%old)
					return
				}
				select {
				case <-stop:
					return
				default:
				}
			}
		})
	}
	n := 60_000
	if raceEnabled {
		n = 20_000
	}
	for i := range n {
		if err := f.Seen(key(old + i)); err != nil {
			t.Fatal(err)
		}
		if i%8000 == 0 {
			warm(t, f, s)
		}
	}
	close(stop)
	readers.Wait()
}

func TestMetricsAndLog(t *testing.T) {
	set, log := metrics.NewSet(), &strings.Builder{}
	f := open(t, func(o *filter.Options) {
		o.Metrics, o.Log = set, slog.New(slog.NewTextHandler(log, nil))
	})
	s := newSource()
	s.put(0, key(1))
	f.DefinitelyMissing(key(1))
	warm(t, f, s)
	f.DefinitelyMissing(key(1))
	f.DefinitelyMissing(key(2))
	f.FalsePositive()
	f.Distrust("a test")
	text := &strings.Builder{}
	set.WritePrometheus(text)
	for _, want := range []string{
		`edgenode_filter_checks_total{outcome="missing"} 1`, `edgenode_filter_checks_total{outcome="maybe"} 1`,
		`edgenode_filter_checks_total{outcome="untrusted"} 1`, `edgenode_filter_false_positives_total 1`,
		`edgenode_filter_items 1`, `edgenode_filter_applied_sequence 1`, `edgenode_filter_trusted 0`,
	} {
		if !strings.Contains(text.String(), want+"\n") {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
	if l := log.String(); !strings.Contains(l, "filter is trusted") || !strings.Contains(l, `reason="a test"`) {
		t.Errorf("log: %s", l)
	}
	f.Close()
	if names := set.ListMetricNames(); len(names) != 0 {
		t.Errorf("after Close: %v", names)
	}
}

func TestDefinitelyMissingAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	f, s := open(t), newSource()
	warm(t, f, s)
	k := key(1)
	if n := testing.AllocsPerRun(100, func() { f.DefinitelyMissing(k) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestContextEnds(t *testing.T) {
	f, s := open(t), newSource()
	ctx, cancel := context.WithCancel(context.Background())
	s.onPage = func(int) {
		cancel()
		for name, call := range map[string]func() error{
			"Warm":   func() error { return f.Warm(ctx, s, 0) }, // one is under way
			"Verify": func() error { _, err := f.Verify(ctx, s); return err },
		} {
			if err := call(); !errors.Is(err, context.Canceled) {
				t.Errorf("%s = %v", name, err)
			}
		}
	}
	warm(t, f, s)
}

// TestWalked: whoever walks along the sequence feeds the filter as CatchUp does;
// what does not follow, and what a snapshot has to be compared with, is left to that.
func TestWalked(t *testing.T) {
	s, now := newSource(), int64(1000)
	lag := 100 * time.Millisecond
	f := open(t, func(o *filter.Options) { o.MaxLag, o.Clock = lag, func() int64 { return now } })
	warm(t, f, s)
	walk := func(after uint64, end bool) bool {
		t.Helper()
		var page []filter.Change
		if err := s.Changes(t.Context(), after, 100, func(c filter.Change) error { page = append(page, c); return nil }); err != nil {
			t.Fatal(err)
		}
		taken, err := f.Walked(now, after, page, end)
		if err != nil {
			t.Fatal(err)
		}
		return taken
	}
	s.put(0, key(1))
	s.put(0, key(2))
	now += 101
	if f.Trusted() || walk(1, true) {
		t.Error("trusted beyond its bound, or it took a page that leaves a gap")
	}
	if !walk(0, false) || f.Applied() != 2 || f.Trusted() {
		t.Errorf("after a page in the midst: applied %d, trusted %v, want 2, false", f.Applied(), f.Trusted())
	}
	if !walk(2, true) || !f.Trusted() || f.DefinitelyMissing(key(1)) || !f.DefinitelyMissing(key(3)) {
		t.Error("not trusted at the end of the changes, or wrong")
	}
	f.SetMaxLag(2 * lag)
	now += 150
	if !f.Trusted() {
		t.Error("the new bound does not hold")
	}
	var snapshot bytes.Buffer
	if err := f.WriteSnapshot(&snapshot); err != nil {
		t.Fatal(err)
	}
	if err := f.ReadSnapshot(&snapshot); err != nil {
		t.Fatal(err)
	}
	if walk(2, true) || f.Trusted() {
		t.Error("a snapshot is believed without a look at its change")
	}
	catchUp(t, f, s)
	if !walk(2, true) || !f.Trusted() {
		t.Error("not trusted after all")
	}
	if err := f.Identify("another"); err != nil {
		t.Fatal(err)
	}
	if err := f.WriteSnapshot(&snapshot); err != nil {
		t.Fatal(err)
	}
	if err := open(t).ReadSnapshot(&snapshot); !errors.Is(err, filter.ErrForeign) {
		t.Errorf("%v, want ErrForeign", err)
	}
}
