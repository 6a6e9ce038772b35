package filter_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"io"
	"math/rand/v2"
	"os"
	"testing"
	"testing/iotest"

	"github.com/cespare/xxhash/v2"

	"github.com/edgenode/edgenode/tiers/filter"
	"github.com/edgenode/edgenode/tiers/item"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func snapshot(t testing.TB, f *filter.Filter) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := f.WriteSnapshot(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// small returns a filter with a fixed secret and few keys.
func small(t testing.TB, n int) (*filter.Filter, *source) {
	f, s := open(t, func(o *filter.Options) {
		o.MinItems, o.Secret = 1, func() uint64 { return 0x0123456789abcdef }
	}), newSource()
	warm(t, f, s)
	for i := range n {
		s.put(0, key(i))
	}
	catchUp(t, f, s)
	return f, s
}

// The bytes of a snapshot, and the places of keys in it, must not change unseen.
func TestSnapshotGolden(t *testing.T) {
	f, s := small(t, 40)
	s.remove(key(3))
	catchUp(t, f, s)
	got, name := snapshot(t, f), "testdata/snapshot-1.bin"
	if *update {
		if err := os.WriteFile(name, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("the snapshot has changed: this needs a new format number")
	}
	restored := open(t)
	if err := restored.ReadSnapshot(bytes.NewReader(want)); err != nil {
		t.Fatal(err)
	}
	catchUp(t, restored, s)
	noLies(t, restored, s)
	if !restored.DefinitelyMissing(key(40)) || restored.Stats().Removed != 1 {
		t.Errorf("restored: %+v", restored.Stats())
	}
}

// C6: a snapshot, a key put after it, a crash. After the restart the key is never
// denied: the filter says "perhaps" until it has caught up.
func TestC6_KeysAfterTheSnapshot(t *testing.T) {
	f, s := open(t), newSource()
	for i := range 5000 {
		s.put(0, key(i))
	}
	warm(t, f, s)
	saved := snapshot(t, f)
	s.put(0, key(9000))

	f = open(t)
	if err := f.ReadSnapshot(bytes.NewReader(saved)); err != nil {
		t.Fatal(err)
	}
	if f.Trusted() || f.DefinitelyMissing(key(9000)) || f.Applied() != 5000 {
		t.Errorf("a snapshot is believed before the changes after it are in: %+v", f.Stats())
	}
	s.fails = errOutage
	_ = f.CatchUp(context.Background(), s)
	if f.DefinitelyMissing(key(9000)) {
		t.Error("believed in an outage")
	}
	s.fails = nil
	catchUp(t, f, s)
	noLies(t, f, s)
	if !f.DefinitelyMissing(key(9001)) {
		t.Error("not trusted after catching up")
	}
}

// A snapshot whose changes are gone, or that is of another history of the same
// ground truth, is not believed.
func TestSnapshotOfAnotherTime(t *testing.T) {
	f, s := small(t, 100)
	b := snapshot(t, f)
	read := func(s *source) (*filter.Filter, error) {
		f := open(t)
		if err := f.ReadSnapshot(bytes.NewReader(b)); err != nil {
			t.Fatal(err)
		}
		return f, f.CatchUp(context.Background(), s)
	}
	refused := func(name string, s *source) {
		t.Helper()
		f, err := read(s)
		if f.Trusted() || f.Stats().WarmWanted != "incomplete" {
			t.Errorf("%s: trusted; %v", name, err)
		}
		warm(t, f, s)
		noLies(t, f, s)
	}
	s.trimmed = 100 // the change itself is not kept, those after it are
	if f, err := read(s); err != nil || !f.Trusted() {
		t.Errorf("trimmed up to the snapshot: %v", err)
	}
	s.put(0, key(100))
	s.put(0, key(101))
	s.trimmed = 101
	refused("trimmed beyond it", s)

	back := newSource() // restored from a copy, and written since
	for i := range 99 {
		back.put(0, key(i))
	}
	refused("one change less", back)
	back.put(0, key(5000))
	back.log[99].Version++
	refused("another change of that number", back)
	refused("ahead", newSource())
}

func TestSnapshotRefused(t *testing.T) {
	f, _ := small(t, 100)
	b := snapshot(t, f)
	refuse := func(want error, b []byte, edit ...func(*filter.Options)) {
		t.Helper()
		f := open(t, edit...)
		if err := f.ReadSnapshot(bytes.NewReader(b)); !errors.Is(err, want) {
			t.Errorf("ReadSnapshot = %v, want %v", err, want)
		}
		if st := f.Stats(); st.Complete || st.Items != 0 || st.Applied != 0 {
			t.Errorf("something of it was taken: %+v", st)
		}
	}
	refuse(filter.ErrForeign, b, func(o *filter.Options) { o.Identity = "another" })
	refuse(filter.ErrCorrupt, nil)
	refuse(filter.ErrCorrupt, append(bytes.Clone(b), 0))
	newer := bytes.Clone(b)
	newer[8] = 2
	refuse(filter.ErrFormat, newer)

	empty := open(t)
	if err := empty.WriteSnapshot(&bytes.Buffer{}); !errors.Is(err, filter.ErrIncomplete) {
		t.Errorf("snapshot of an incomplete filter = %v", err)
	}
	if err := f.ReadSnapshot(iotest.ErrReader(errOutage)); !errors.Is(err, errOutage) || !f.Trusted() {
		t.Errorf("a reader that fails = %v, trusted %v", err, f.Trusted())
	}
}

// A writer that loses trust while it writes does not call the result a snapshot.
func TestDistrustDuringSnapshot(t *testing.T) {
	f, _ := small(t, 100)
	err := f.WriteSnapshot(writerFunc(func(b []byte) (int, error) {
		f.Distrust("meanwhile")
		return len(b), nil
	}))
	if !errors.Is(err, filter.ErrIncomplete) {
		t.Errorf("WriteSnapshot = %v", err)
	}
}

type writerFunc func([]byte) (int, error)

func (w writerFunc) Write(b []byte) (int, error) { return w(b) }

// Every damage is found, and the whole refused.
func TestSnapshotDamage(t *testing.T) {
	f, _ := small(t, 5000)
	b := snapshot(t, f)
	rounds := 2000
	if raceEnabled {
		rounds = 200
	}
	if soak {
		rounds = 100_000
	}
	random := rand.New(rand.NewPCG(1, 2))
	victim := open(t)
	for i := range rounds {
		d := bytes.Clone(b)
		at := random.IntN(len(d))
		switch i % 4 {
		case 0:
			d[at] ^= 1 << random.IntN(8)
		case 1:
			d = d[:at]
		case 2:
			clear(d[at/4096*4096 : min(len(d), at/4096*4096+4096)])
		case 3:
			copy(d[at:], d[random.IntN(len(d)):])
		}
		if bytes.Equal(d, b) {
			continue
		}
		if err := victim.ReadSnapshot(bytes.NewReader(d)); err == nil {
			t.Fatalf("round %d: damage at %d was not found", i, at)
		}
	}
	if st := victim.Stats(); st.Complete || st.Items != 0 {
		t.Errorf("something of a damaged one was taken: %+v", st)
	}
}

// FuzzReadSnapshot reads bytes whose checksum is right.
func FuzzReadSnapshot(f *testing.F) {
	small, _ := small(f, 10)
	b := snapshot(f, small)
	f.Add(b[:len(b)-8])
	f.Add(b[:100])
	f.Fuzz(func(t *testing.T, b []byte) {
		sum := xxhash.Sum64(b)
		for i := range 8 {
			b = append(b, byte(sum>>(8*i)))
		}
		victim := open(t)
		if err := victim.ReadSnapshot(bytes.NewReader(b)); err != nil {
			return
		}
		s := newSource()
		for i := range int(min(1000, victim.Applied())) {
			s.put(0, key(i))
		}
		_ = victim.CatchUp(context.Background(), s)
		for i := range 100 {
			_ = victim.Seen(key(i))
			victim.MightExist(key(i))
		}
		_ = victim.Stats()
	})
}

// An incomplete filter has no snapshot to give; an older one still is one.
func TestSnapshotOfIncomplete(t *testing.T) {
	f, s := small(t, 100)
	saved := snapshot(t, f)
	if f.Stats().SavedSeq != 100 {
		t.Errorf("SavedSeq = %d", f.Stats().SavedSeq)
	}
	f.Distrust("a test")
	if err := f.WriteSnapshot(io.Discard); !errors.Is(err, filter.ErrIncomplete) {
		t.Errorf("a snapshot while incomplete = %v", err)
	}
	if err := f.ReadSnapshot(bytes.NewReader(saved)); err != nil {
		t.Errorf("the older one: %v", err)
	}
	catchUp(t, f, s)
	noLies(t, f, s)
}

// What is added while a snapshot is written neither breaks it nor is waited for.
func TestSnapshotBesideWriters(t *testing.T) {
	f, s := open(t), newSource()
	for i := range 2000 {
		s.put(0, key(i))
	}
	warm(t, f, s)
	var b bytes.Buffer
	n := 2000
	err := f.WriteSnapshot(writerFunc(func(p []byte) (int, error) {
		for range 10_000 {
			if err := f.Seen(item.Key(key(n))); err != nil {
				t.Error(err)
			}
			n++
		}
		return b.Write(p)
	}))
	if err != nil {
		t.Fatal(err)
	}
	restored := open(t)
	if err := restored.ReadSnapshot(&b); err != nil {
		t.Fatal(err)
	}
	catchUp(t, restored, s)
	noLies(t, restored, s)
}

// G5: a ground truth that has crashed shows another change in place of one that was
// applied before: what the filter has not met is not denied. One that only does not
// answer costs nothing.
func TestG5_ChangesForgotten(t *testing.T) {
	forget := func(name string, instead ...int) {
		f, s := small(t, 100)
		s.put(0, key(200))
		catchUp(t, f, s)
		s.fails = errOutage
		if err := f.CatchUp(context.Background(), s); err == nil || !f.DefinitelyMissing(key(9000)) {
			t.Errorf("%s: in an outage: %v", name, err)
		}
		var b bytes.Buffer
		if err := f.WriteSnapshot(&b); err != nil {
			t.Errorf("%s: a snapshot in an outage: %v", name, err)
		}
		s.fails = nil
		s.log = s.log[:100] // the last one is gone
		delete(s.tables[0], string(key(200)))
		s.sorted = nil
		for _, n := range instead {
			s.put(0, key(n))
			s.log[len(s.log)-1].Version += 7
		}
		err := f.CatchUp(context.Background(), s)
		if f.Trusted() {
			t.Errorf("%s: trusted; %v", name, err)
		}
		noLies(t, f, s)
		warm(t, f, s)
		noLies(t, f, s)
		catchUp(t, f, s)
	}
	forget("fewer")
	forget("as many", 300)
	forget("more", 300, 301)
}
