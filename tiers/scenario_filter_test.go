package tiers_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edgenode/edgenode/tiers"
	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/l3"
	"github.com/edgenode/edgenode/tiers/tiertest"
)

// Scenarios of the filter as the engine keeps it. Items live in L3 alone, so that
// each read comes to the filter.

func filterTrusted(e *tiers.Engine) bool { return e.Health(context.Background()).Filter.Trusted }

func awaitFilter(t *testing.T, e *tiers.Engine) {
	t.Helper()
	until(t, 20*time.Second, "filter trusted", func() bool { return filterTrusted(e) })
}

// putBelow stores content in L3 alone.
func putBelow(t *testing.T, e *tiers.Engine, id, content string) tiers.Receipt {
	t.Helper()
	return putIn(t, e, id, content, item.L3, 0)
}

func gets(store *tiertest.Store) int { n, _ := store.Calls(); return n }

// A scans counts the pages of keys that are read, and can end them: after so many
// they fail. Of one id it knows nothing, if it is told to.
type scans struct {
	tiers.Store
	pages atomic.Int64
	left  atomic.Int64 // below 0: no end
	hides atomic.Pointer[string]
}

func (s *scans) wrap(real tiers.Store) tiers.Store {
	s.Store = real
	s.left.Store(-1)
	return s
}

func (s *scans) Scan(ctx context.Context, q l3.ScanQuery, fn func(v item.View) error) error {
	s.pages.Add(1)
	if s.left.Load() == 0 || s.left.Load() > 0 && s.left.Add(-1) < 0 {
		return fmt.Errorf("test: %w", l3.ErrUnavailable)
	}
	return s.Store.Scan(ctx, q, func(v item.View) error {
		if id := s.hides.Load(); id != nil && v.Key().ID() == *id {
			return nil
		}
		return fn(v)
	})
}

// TestC4_NothingThatIsThereIsDenied: of many keys, some deleted, each that remains
// is found the moment it has left pending; those that never were cost no query.
func TestC4_NothingThatIsThereIsDenied(t *testing.T) {
	overDialects(t, testC4NothingThatIsThereIsDenied)
}

func testC4NothingThatIsThereIsDenied(t *testing.T) {
	dir, store := t.TempDir(), &tiertest.Store{}
	e := open(t, dir, func(o *tiers.Options) { o.WrapStore = store.Wrap })
	awaitFilter(t, e)
	n := scale(100_000, 4000)
	if raceEnabled {
		n /= 4
	}
	const batch = 500
	for from := 0; from < n; from += batch {
		for i := from; i < from+batch; i++ {
			putBelow(t, e, fmt.Sprint("k/", i), "v")
		}
		flush(t, e)
		for i := from; i < from+batch; i += 17 {
			want(t, e, fmt.Sprint("k/", i), "v")
		}
	}
	for i := 0; i < n; i += 10 {
		del(t, e, fmt.Sprint("k/", i))
	}
	flush(t, e)
	for i := range n {
		if i%10 == 0 {
			wantAbsent(t, e, fmt.Sprint("k/", i))
		} else {
			want(t, e, fmt.Sprint("k/", i), "v")
		}
	}
	before := gets(store)
	for i := range n {
		wantAbsent(t, e, fmt.Sprint("none/", i))
		if id := fmt.Sprint("none/", i); !e.DefinitelyMissing(key(t, id)) && e.MightExist(key(t, id)) && i < 3 {
			t.Errorf("%s might exist", id) // three by chance, one in 10^12
		}
	}
	if cost := gets(store) - before; cost > 2+n/1000 {
		t.Errorf("%d keys that are not there cost %d queries, want at most one in a thousand", n, cost)
	}
	// Many at once, deletes, and outages.
	keys := []item.Key{key(t, "none/a"), key(t, "none/b"), key(t, "none/c")}
	store.SetDown(true)
	e.GetMany(t.Context(), keys, tiers.ReadOptions{}, func(i int, _ *tiers.Hit, ok bool, err error) {
		if ok || err != nil {
			t.Errorf("get many, %d: %v, %v, want absent", i, ok, err)
		}
	})
	if r, err := e.Delete(t.Context(), key(t, "none/d"), nil, 0); err != nil || r.Existed != tiers.ExistedNo {
		t.Errorf("delete: %v, %v, want that it did not exist", r.Existed, err)
	}
	if _, _, err := e.Get(t.Context(), key(t, "k/1"), tiers.ReadOptions{}); !errors.Is(err, tiers.ErrUnavailable) {
		t.Errorf("get of what is there: %v, want ErrUnavailable", err)
	}
	if _, err := e.Contains(t.Context(), key(t, "none/a")); !errors.Is(err, tiers.ErrUnavailable) {
		t.Errorf("contains: %v, want ErrUnavailable", err)
	}
}

// TestC4_NewIsKnown: a put of an id that never was says so, once.
func TestC4_NewIsKnown(t *testing.T) {
	e := open(t, t.TempDir(), nil)
	awaitFilter(t, e)
	f := func(what string, want tiers.Existence) {
		t.Helper()
		if r := putBelow(t, e, "k", "v"); r.Existed != want {
			t.Errorf("%s: existed %v, want %v", what, r.Existed, want)
		}
	}
	f("the first", tiers.ExistedNo)
	f("while it is pending", tiers.ExistedUnknown)
	flush(t, e)
	f("in L3", tiers.ExistedUnknown)
	putIn(t, e, "cached", "v", item.L1, 0)
	flush(t, e)
	if r := put(t, e, "cached", "w"); r.Existed != tiers.ExistedYes {
		t.Errorf("over an item outside L3: existed %v, want true", r.Existed)
	}
}

// TestC5_VerifyFindsALie: a row that a warm-up did not see is denied; verify says
// so, nothing is believed any more, not even after a crash, until all is read anew.
func TestC5_VerifyFindsALie(t *testing.T) { overDialects(t, testC5VerifyFindsALie) }

func testC5VerifyFindsALie(t *testing.T) {
	dir := t.TempDir()
	e := open(t, dir, nil)
	putBelow(t, e, "hidden", "v")
	putBelow(t, e, "k", "v")
	flush(t, e)
	if err := e.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	snapshot := filepath.Join(dir, "filter.snapshot")
	if err := os.Remove(snapshot); err != nil {
		t.Fatal(err)
	}
	s, id := &scans{}, "hidden"
	s.hides.Store(&id)
	e = open(t, dir, func(o *tiers.Options) { o.WrapStore = s.wrap })
	awaitFilter(t, e)
	wantAbsent(t, e, "hidden") // the lie
	if r, err := e.VerifyFilter(t.Context()); err != nil || r.Missing != 0 || r.Checked != 2 {
		t.Errorf("verify of what it knows: %+v, %v, want 2 rows and no lie", r, err)
	}
	until(t, 10*time.Second, "snapshot", func() bool { _, err := os.Stat(snapshot); return err == nil })
	s.hides.Store(nil)
	s.left.Store(1) // for verify; the warm-up after it fails
	r, err := e.VerifyFilter(t.Context())
	if err != nil || r.Checked != 3 || r.Missing != 1 || r.Example.ID() != "hidden" {
		t.Errorf("verify: %+v, %v, want one lie of 3", r, err)
	}
	if filterTrusted(e) {
		t.Error("still trusted")
	}
	want(t, e, "hidden", "v")
	if _, err := e.VerifyFilter(t.Context()); !errors.Is(err, tiers.ErrFilterIncomplete) {
		t.Errorf("verify again: %v, want ErrFilterIncomplete", err)
	}
	e.CloseAbruptly()
	e = open(t, dir, nil)
	awaitFilter(t, e)
	want(t, e, "hidden", "v")
	if r, err := e.VerifyFilter(t.Context()); err != nil || r.Missing != 0 {
		t.Errorf("verify after the restart: %+v, %v", r, err)
	}
	off := open(t, t.TempDir(), func(o *tiers.Options) { o.FilterOff = true })
	if _, err := off.VerifyFilter(t.Context()); !errors.Is(err, tiers.ErrNoFilter) || off.Health(t.Context()).Filter != nil || off.DefinitelyMissing(key(t, "k")) {
		t.Errorf("verify without filter: %v", err)
	}
}

// TestC6_SnapshotThenCrash: what was committed after the snapshot is found after a
// crash: also if the crash came between the commit and the moment at which the
// filter is told.
func TestC6_SnapshotThenCrash(t *testing.T) { overDialects(t, testC6SnapshotThenCrash) }

func testC6SnapshotThenCrash(t *testing.T) {
	dir, store := t.TempDir(), &tiertest.Store{}
	wrap := func(o *tiers.Options) { o.WrapStore = store.Wrap }
	e := open(t, dir, wrap)
	putBelow(t, e, "old", "v")
	e = reopen(t, e, dir, wrap) // with a snapshot
	awaitFilter(t, e)
	putBelow(t, e, "new", "v")
	flush(t, e)
	e.CloseAbruptly()

	e = open(t, dir, wrap)
	want(t, e, "new", "v")
	awaitFilter(t, e)
	want(t, e, "new", "v")
	want(t, e, "old", "v")
	committed, goOn := make(chan struct{}), make(chan struct{})
	store.OnApply(nil, func([]l3.Op) {
		close(committed)
		<-goOn
	})
	putBelow(t, e, "late", "v")
	ended := make(chan error, 1)
	go func() { ended <- e.Flush(context.Background()) }()
	<-committed
	image := t.TempDir()
	if err := os.CopyFS(image, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	close(goOn)
	<-ended
	store.OnApply(nil, nil)
	e.CloseAbruptly()
	e = open(t, image, func(o *tiers.Options) { o.BatchFlush = 1 << 40 })
	awaitFilter(t, e)
	want(t, e, "late", "v")
	flush(t, e)
	want(t, e, "late", "v")
}

// TestC6_SnapshotsOfAllKinds: whatever lies in the place of the snapshot, and
// whatever became of L3 meanwhile, nothing that is there is denied; and one that
// fits is trusted without a look at all keys.
func TestC6_SnapshotsOfAllKinds(t *testing.T) {
	const ids = 40
	seed := t.TempDir() // 20 ids; then a copy of it with 40
	e := open(t, seed, nil)
	for i := range ids / 2 {
		putBelow(t, e, fmt.Sprint("k/", i), "v")
	}
	flush(t, e)
	if err := e.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	later := copyOf(t, seed)
	e = open(t, later, nil)
	for i := ids / 2; i < ids; i++ {
		putBelow(t, e, fmt.Sprint("k/", i), "v")
	}
	flush(t, e)
	if err := e.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	other := t.TempDir() // another L3, and one that went another way after the copy
	away := copyOf(t, seed)
	for _, dir := range []string{other, away} {
		e = open(t, dir, nil)
		for i := range 2 * ids {
			putBelow(t, e, fmt.Sprint("o/", i), "v")
		}
		flush(t, e)
		if err := e.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	f := func(name string, walks bool, prefix string, there, absent int, prepare func(t *testing.T, dir string)) {
		t.Run(name, func(t *testing.T) {
			dir, s := copyOf(t, later), &scans{}
			prepare(t, dir)
			e := open(t, dir, func(o *tiers.Options) { o.WrapStore = s.wrap })
			look := func() {
				t.Helper()
				for i := range there {
					want(t, e, fmt.Sprint(prefix, i), "v")
				}
				for i := range absent {
					wantAbsent(t, e, fmt.Sprint("k/", ids-1-i))
				}
			}
			look()
			awaitFilter(t, e)
			look()
			if walked := s.pages.Load() > 0; walked != walks {
				t.Errorf("all keys were read: %v, want %v", walked, walks)
			}
		})
	}
	snapshot := func(dir string) string { return filepath.Join(dir, "filter.snapshot") }
	take := func(from, name string) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			b, err := os.ReadFile(filepath.Join(from, name))
			if err == nil {
				err = os.WriteFile(filepath.Join(dir, name), b, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	write := func(edit func([]byte) []byte) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			b, err := os.ReadFile(snapshot(dir))
			if err == nil {
				err = os.WriteFile(snapshot(dir), edit(b), 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	f("right", false, "k/", ids, 0, func(*testing.T, string) {})
	f("older", false, "k/", ids, 0, take(seed, "filter.snapshot"))
	f("deleted", true, "k/", ids, 0, func(t *testing.T, dir string) {
		if err := os.Remove(snapshot(dir)); err != nil {
			t.Fatal(err)
		}
	})
	f("empty", true, "k/", ids, 0, write(func([]byte) []byte { return nil }))
	f("cut", true, "k/", ids, 0, write(func(b []byte) []byte { return b[:len(b)/2] }))
	f("a bit flipped", true, "k/", ids, 0, write(func(b []byte) []byte { b = bytes.Clone(b); b[len(b)/2] ^= 4; return b }))
	f("of another L3", true, "k/", ids, 0, take(other, "filter.snapshot"))
	f("L3 is another one", true, "o/", 2*ids, ids, take(other, "edgenode.db"))
	f("L3 from an older backup", true, "k/", ids/2, ids/2, take(seed, "edgenode.db"))
	f("L3 from an older backup, and written since", true, "o/", 2*ids, ids/2, take(away, "edgenode.db"))
}

// copyOf copies the data directory of an engine that is closed.
func copyOf(t *testing.T, dir string) string {
	t.Helper()
	to := t.TempDir()
	if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	return to
}

// TestC7_WritesDuringWarmUps: keys that come and go while the filter is filled anew,
// again and again, are found once they are acknowledged, also the moment after
// their commit.
func TestC7_WritesDuringWarmUps(t *testing.T) { overDialects(t, testC7WritesDuringWarmUps) }

func testC7WritesDuringWarmUps(t *testing.T) {
	e := open(t, t.TempDir(), func(o *tiers.Options) { o.BatchFlush = time.Millisecond })
	awaitFilter(t, e)
	for i := range 2500 { // some pages
		putBelow(t, e, fmt.Sprint("k/", i), "v")
	}
	flush(t, e)
	done := make(chan struct{})
	var wg, warm sync.WaitGroup
	warm.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			if err := e.WarmFilter(t.Context()); err != nil {
				t.Error(err)
				return
			}
		}
	})
	for w := range 3 {
		wg.Go(func() {
			for i := range scale(2000, 60) {
				id := fmt.Sprint("w/", w, "/", i)
				putBelow(t, e, id, "v")
				for range 20 {
					want(t, e, id, "v") // while it is flushed
				}
				if i%3 == 0 {
					del(t, e, fmt.Sprint("w/", w, "/", i-i%2))
				}
			}
		})
	}
	wg.Wait()
	close(done)
	warm.Wait()
	flush(t, e)
	if r, err := e.VerifyFilter(t.Context()); err != nil || r.Missing != 0 {
		t.Errorf("verify: %+v, %v", r, err)
	}
}

// TestC7_WarmUpBeforeTheCommit: a warm-up that reads all keys right before a commit
// does not make the filter deny what was committed.
func TestC7_WarmUpBeforeTheCommit(t *testing.T) { overDialects(t, testC7WarmUpBeforeTheCommit) }

func testC7WarmUpBeforeTheCommit(t *testing.T) {
	for _, shared := range []bool{false, true} {
		t.Run(fmt.Sprint("shared=", shared), func(t *testing.T) {
			store := &tiertest.Store{}
			e := open(t, t.TempDir(), func(o *tiers.Options) {
				o.WrapStore, o.L3Shared, o.FollowInterval, o.BatchFlush = store.Wrap, shared, time.Hour, time.Hour
			})
			awaitFilter(t, e)
			for i := range 10 {
				id := fmt.Sprint("k/", shared, "/", i)
				store.OnApply(func([]l3.Op) {
					store.OnApply(nil, nil)
					if err := e.WarmFilter(t.Context()); err != nil {
						t.Error(err)
					}
				}, nil)
				w := &tiers.Write{Key: key(t, id), Content: []byte("v"), Tiers: item.L3}
				if i%2 == 0 {
					w.If = &tiers.Condition{NoneAny: true} // decided in a shared L3
				}
				if _, err := e.Submit(t.Context(), w); err != nil {
					t.Fatal(err)
				}
				flush(t, e)
				want(t, e, id, "v")
			}
		})
	}
}

// TestC7_WarmUpFails: while all keys cannot be read, nothing is denied; afterwards
// it is trusted without help.
func TestC7_WarmUpFails(t *testing.T) { overDialects(t, testC7WarmUpFails) }

func testC7WarmUpFails(t *testing.T) {
	dir := t.TempDir()
	e := open(t, dir, nil)
	for i := range 2500 {
		putBelow(t, e, fmt.Sprint("k/", i), "v")
	}
	flush(t, e)
	if err := e.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, "filter.snapshot")); err != nil {
		t.Fatal(err)
	}
	s := &scans{}
	e = open(t, dir, func(o *tiers.Options) {
		o.WrapStore = func(real tiers.Store) tiers.Store {
			s.wrap(real)
			s.left.Store(1) // the second page fails
			return s
		}
	})
	until(t, 10*time.Second, "a page fails", func() bool { return s.pages.Load() >= 2 })
	if h := e.Health(t.Context()).Filter; h.Trusted || h.Reason == "" {
		t.Errorf("%+v, want not trusted, and why", h)
	}
	want(t, e, "k/2499", "v")
	s.left.Store(-1)
	awaitFilter(t, e)
	want(t, e, "k/2499", "v")
}

// TestC8_FilterOfASharedL3: what another node wrote is denied for a follow interval
// at most, and never by what has to be right, nor once it was shown here.
func TestC8_FilterOfASharedL3(t *testing.T) {
	var now atomic.Int64
	now.Store(time.Now().UnixMilli())
	store := &tiertest.Store{}
	e := open(t, t.TempDir(), func(o *tiers.Options) {
		o.WrapStore, o.L3Shared, o.FollowInterval, o.Now = store.Wrap, true, time.Hour, now.Load
	})
	awaitFilter(t, e)
	for _, id := range []string{"read", "contained", "current", "listed", "inserted", "condition", "fresh", "many", "late"} {
		elsewhere(t, e, store, id, "v")
	}
	before := gets(store)
	wantAbsent(t, e, "read") // as of the last look
	if gets(store) != before {
		t.Error("a read asked L3 for what the filter denies")
	}
	if ok, err := e.Contains(t.Context(), key(t, "contained")); !ok || err != nil {
		t.Errorf("contains: %v, %v", ok, err)
	}
	shown := func(id string) {
		t.Helper()
		if e.DefinitelyMissing(key(t, id)) {
			t.Errorf("%s is denied after it was shown", id)
		}
	}
	shown("contained")
	content := item.Item{Kind: item.KindPut, Key: key(t, "current"), Content: []byte("v")}
	content.Seal()
	if ok, err := e.IsCurrent(t.Context(), key(t, "current"), content.ContentHash); !ok || err != nil {
		t.Errorf("is current: %v, %v", ok, err)
	}
	h, inserted, err := e.GetOrInsert(t.Context(), key(t, "inserted"), func(context.Context) (*tiers.Write, error) {
		t.Error("a fill runs for what is there")
		return &tiers.Write{}, nil
	})
	if inserted || err != nil {
		t.Errorf("get or insert: %v, %v", inserted, err)
	}
	h.Release()
	if _, err := e.CompareAndSubmit(t.Context(), &tiers.Condition{NoneAny: true}, &tiers.Write{Key: key(t, "condition")}); !errors.Is(err, tiers.ErrPrecondition) {
		t.Errorf("condition: %v, want ErrPrecondition", err)
	}
	if h, ok, err := e.Get(t.Context(), key(t, "fresh"), tiers.ReadOptions{MinVersion: 1}); !ok || err != nil {
		t.Errorf("with a least version: %v, %v", ok, err)
	} else {
		h.Release()
	}
	if r, err := e.Delete(t.Context(), key(t, "many"), nil, 0); err != nil || r.Existed != tiers.ExistedYes {
		t.Errorf("delete: %v, %v, want that it existed", r.Existed, err)
	}
	if _, err := e.List(t.Context(), tiers.Query{Prefix: "listed"}, func(item.View) error { return nil }); err != nil {
		t.Error(err)
	}
	shown("listed")
	for _, id := range []string{"contained", "current", "inserted", "condition", "fresh", "listed"} {
		want(t, e, id, "v")
	}
	wantAbsent(t, e, "late")
	now.Add((time.Hour + 51*time.Millisecond).Milliseconds()) // nobody has looked since
	want(t, e, "late", "v")
	want(t, e, "read", "v")
}

// TestC8_FilterFollows: with a follow interval of 50 ms the filter is fed by the
// follower, and what another node wrote is found.
func TestC8_FilterFollows(t *testing.T) {
	store := &tiertest.Store{}
	e := open(t, t.TempDir(), func(o *tiers.Options) {
		o.WrapStore, o.L3Shared, o.FollowInterval = store.Wrap, true, 50*time.Millisecond
	})
	awaitFilter(t, e)
	for i := range 10 {
		id := fmt.Sprint("k/", i)
		wantAbsent(t, e, id)
		elsewhere(t, e, store, id, "v")
		until(t, 5*time.Second, id+" found", func() bool { _, ok := get(t, e, id); return ok })
	}
}
