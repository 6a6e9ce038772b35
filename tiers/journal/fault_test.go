package journal_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/edgenode/edgenode/tiers/journal"
	"github.com/edgenode/edgenode/tiers/tiertest/crashfs"
)

// TestFaultAtEveryCall has the n-th call of each kind fail, for every n that a
// fixed piece of work reaches.
func TestFaultAtEveryCall(t *testing.T) {
	faults := []crashfs.Fault{{Err: syscall.EIO}, {Err: syscall.ENOSPC}, {Err: syscall.EIO, Short: true}}
	sites := 0
	for _, op := range crashfs.Ops() {
		for _, fault := range faults {
			if fault.Short && op != crashfs.Write {
				continue
			}
			for n := 1; ; n++ {
				if raceEnabled && n > 12 {
					break
				}
				hit, err := faultRun(op, n, fault)
				if err != nil {
					t.Fatalf("%v %d: %v (short %v): %v", op, n, fault.Err, fault.Short, err)
				}
				if !hit {
					break
				}
				sites++
			}
		}
	}
	t.Logf("%d faults", sites)
}

func faultRun(op crashfs.Op, n int, fault crashfs.Fault) (bool, error) {
	fs := newFS()
	fs.Fail(op, n, fault)
	opt := smallOptions(fs)
	opt.RetryInterval = 1 // with a clock that goes on, so: always
	m := &model{}
	for generation := range 2 {
		if err := faultWork(opt, m, generation); err != nil {
			return true, fmt.Errorf("generation %d: %w", generation, err)
		}
		r := rand.New(rand.NewPCG(uint64(n), 3))
		for image, img := range []*crashfs.FS{fs.Clone(), fs.Crash(r), fs.Crash(r)} {
			if err := recoverImage(img, m); err != nil {
				return true, fmt.Errorf("generation %d, image %d: %w", generation, image, err)
			}
		}
	}
	return fs.Calls(op) >= n, nil
}

// faultWork opens a journal, again if the fault is in Open, and does the same
// things in it every time.
func faultWork(opt journal.Options, m *model, generation int) error {
	j, err := journal.Open(opt)
	if err != nil {
		if j, err = journal.Open(opt); err != nil {
			return fmt.Errorf("second Open: %w", err)
		}
	}
	found, err := m.check(j)
	if err != nil {
		if !errors.Is(err, syscall.EIO) && !errors.Is(err, syscall.ENOSPC) {
			return errors.Join(err, j.Close())
		}
		found = m // Replay met the fault
	}
	*m = *found
	for i := range 150 {
		b := payload(m.seq, 600)
		pos, err := j.Append(b)
		if err != nil {
			if !known(err) {
				return errors.Join(fmt.Errorf("Append: %w", err), j.Close())
			}
			continue
		}
		m.records = append(m.records, record{seq: m.seq, pos: pos, size: len(b)})
		m.seq++
		if i%5 == 0 {
			switch err := j.Sync(pos); {
			case err == nil:
				for k := range m.records {
					m.records[k].synced = true
				}
			case !errors.Is(err, journal.ErrUnknown):
				return errors.Join(fmt.Errorf("Sync: %w", err), j.Close())
			}
		}
		if got, err := j.ReadAt(nil, pos); err == nil && string(got) != string(b) {
			return errors.Join(fmt.Errorf("ReadAt(%v): wrong bytes", pos), j.Close())
		}
		if k := m.firstLive(); i%3 > 0 && k < len(m.records)-20 {
			m.records[k].released = true
			j.Release(m.records[k].pos)
		}
	}
	if generation == 1 {
		return ignoreKnown(j.Close())
	}
	if err := j.Mark(); err != nil && !known(err) {
		return errors.Join(err, j.Close())
	}
	return ignoreKnown(j.Close())
}

func known(err error) bool {
	return errors.Is(err, journal.ErrFull) || errors.Is(err, journal.ErrReadOnly) || errors.Is(err, journal.ErrUnknown)
}

func ignoreKnown(err error) error {
	if err == nil || known(err) {
		return nil
	}
	return err
}

// clock is a clock that stands until it is moved.
type clock struct{ ns atomic.Int64 }

func (c *clock) now() time.Time          { return time.Unix(1_700_000_000, c.ns.Load()) }
func (c *clock) advance(d time.Duration) { c.ns.Add(int64(d)) }

// failSegmentSync has the next sync of a segment fail, and no sync of what the
// housekeeper prepares meanwhile.
func failSegmentSync(fs *crashfs.FS, number uint32) {
	failed := false
	fs.OnCall(func(op crashfs.Op, name string) *crashfs.Fault {
		// A file keeps the name under which it was prepared.
		if failed || op != crashfs.Sync || !strings.Contains(name, fmt.Sprintf("%010d.", number)) {
			return nil
		}
		failed = true
		return &crashfs.Fault{Err: syscall.EIO}
	})
}

// TestSyncErrorMovesRecords checks the steps after an fsync error: who waits
// gets ErrUnknown, the file is never written to again, the records are in a new
// one before the next acknowledgement, and positions stay.
func TestSyncErrorMovesRecords(t *testing.T) {
	fs := newFS()
	j := mustOpen(t, smallOptions(fs))
	first := mustAppend(t, j, payload(1, 300))
	mustSync(t, j, first)
	failSegmentSync(fs, first.Segment)
	unknown := mustAppend(t, j, payload(2, 300))
	if err := j.Sync(unknown); !errors.Is(err, journal.ErrUnknown) || !errors.Is(err, syscall.EIO) || errors.Is(err, journal.ErrReadOnly) {
		t.Fatalf("Sync = %v, want ErrUnknown for EIO", err)
	}
	third := mustAppend(t, j, payload(3, 300))
	mustSync(t, j, third)
	if b := j.Backlog(); b.Records != 3 {
		t.Errorf("Backlog = %+v, want 3 records", b)
	}
	for i, p := range []journal.Pos{first, unknown, third} {
		got, err := j.ReadAt(nil, p)
		if err != nil || string(got) != string(payload(uint64(i+1), 300)) {
			t.Errorf("ReadAt(%v): %v", p, err)
		}
	}
	for range 20 {
		img := fs.Crash(rand.New(rand.NewPCG(1, 9)))
		k := mustOpen(t, smallOptions(img))
		if got, _ := replayed(t, k); len(got) != 3 || got[0] != first || got[1] != unknown || got[2] != third {
			t.Fatalf("replayed %v", got)
		}
		mustClose(t, k)
	}
}

// TestReadOnlyAndBack has no file to be made after an fsync error, then again.
func TestReadOnlyAndBack(t *testing.T) {
	fs := newFS()
	var c clock
	opt := smallOptions(fs)
	opt.Now = c.now
	j := mustOpen(t, opt)
	acked := mustAppend(t, j, payload(1, 300))
	mustSync(t, j, acked)
	fs.OnCall(func(op crashfs.Op, _ string) *crashfs.Fault {
		if op == crashfs.Sync || op == crashfs.Create {
			return &crashfs.Fault{Err: syscall.EIO}
		}
		return nil
	})
	unknown := mustAppend(t, j, payload(2, 300))
	if err := j.Sync(unknown); !errors.Is(err, journal.ErrUnknown) || !errors.Is(err, journal.ErrReadOnly) {
		t.Fatalf("Sync = %v, want ErrUnknown and ErrReadOnly", err)
	}
	creates := fs.Calls(crashfs.Create)
	for range 10 {
		if _, err := j.Append([]byte("x")); !errors.Is(err, journal.ErrReadOnly) {
			t.Fatalf("Append = %v, want ErrReadOnly", err)
		}
	}
	if got := fs.Calls(crashfs.Create); got != creates {
		t.Errorf("%d tries within the interval, want none", got-creates)
	}
	for i, p := range []journal.Pos{acked, unknown} {
		if got, err := j.ReadAt(nil, p); err != nil || string(got) != string(payload(uint64(i+1), 300)) {
			t.Errorf("ReadAt(%v): %v", p, err)
		}
	}
	c.advance(2 * time.Second)
	if _, err := j.Append([]byte("x")); !errors.Is(err, journal.ErrReadOnly) {
		t.Fatalf("Append = %v, want ErrReadOnly still", err)
	}
	fs.OnCall(nil)
	c.advance(2 * time.Second)
	last := mustAppend(t, j, payload(3, 300))
	mustSync(t, j, last)
	mustSync(t, j, unknown)
	mustClose(t, j)
	k := mustOpen(t, opt)
	if got, _ := replayed(t, k); len(got) != 3 {
		t.Errorf("replayed %v, want 3", got)
	}
}

// TestDiskFull fills the disk and empties it again.
func TestDiskFull(t *testing.T) {
	fs := newFS()
	var c clock
	opt := smallOptions(fs)
	opt.Now = c.now
	j := mustOpen(t, opt)
	fs.SetCapacity(100 << 10)
	var ps []journal.Pos
	var err error
	for err == nil {
		var pos journal.Pos
		if pos, err = j.Append(payload(uint64(len(ps)), 900)); err == nil {
			ps = append(ps, pos)
		}
	}
	if !errors.Is(err, journal.ErrFull) || !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("Append = %v, want ErrFull for ENOSPC", err)
	}
	mustSync(t, j, ps[len(ps)-1])
	for i, p := range ps {
		if got, err := j.ReadAt(nil, p); err != nil || string(got) != string(payload(uint64(i), 900)) {
			t.Fatalf("ReadAt(%v): %v", p, err)
		}
	}
	fs.SetCapacity(0)
	c.advance(2 * time.Second)
	mustSync(t, j, mustAppend(t, j, payload(0, 900)))
}
