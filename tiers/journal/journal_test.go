package journal_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/edgenode/edgenode/tiers/journal"
	"github.com/edgenode/edgenode/tiers/tiertest/crashfs"
)

// replayed returns all that Replay gives.
func replayed(tb testing.TB, j *journal.Journal) (ps []journal.Pos, bs [][]byte) {
	tb.Helper()
	err := j.Replay(func(pos journal.Pos, b []byte) error {
		ps, bs = append(ps, pos), append(bs, bytes.Clone(b))
		return nil
	})
	if err != nil {
		tb.Fatalf("Replay: %v", err)
	}
	return ps, bs
}

func mustAppend(tb testing.TB, j *journal.Journal, b []byte) journal.Pos {
	tb.Helper()
	pos, err := j.Append(b)
	if err != nil {
		tb.Fatalf("Append: %v", err)
	}
	return pos
}

func mustSync(tb testing.TB, j *journal.Journal, pos journal.Pos) {
	tb.Helper()
	if err := j.Sync(pos); err != nil {
		tb.Fatalf("Sync(%v): %v", pos, err)
	}
}

func mustClose(tb testing.TB, j *journal.Journal) {
	tb.Helper()
	if err := j.Close(); err != nil {
		tb.Fatalf("Close: %v", err)
	}
}

func TestRoundTrip(t *testing.T) {
	for name, fs := range map[string]journal.FS{"os": nil, "crashfs": crashfs.New()} {
		t.Run(name, func(t *testing.T) {
			opt := journal.Options{Dir: t.TempDir() + "/j", FS: fs, MaxBytes: 64 << 20, SegmentBytes: 1 << 20}
			j := mustOpen(t, opt)
			if rec := j.Recovery(); !rec.New || !rec.Clean {
				t.Errorf("Recovery = %+v, want new and clean", rec)
			}
			var want [][]byte
			var ps []journal.Pos
			for i, size := range []int{0, 1, 15, 16, 17, 1000, 4096, 1 << 20, 3 << 20, 5, 70000} {
				b := payload(uint64(i), size)[:size]
				pos, err := j.Append(b[:size/2], nil, b[size/2:])
				if err != nil {
					t.Fatal(err)
				}
				want, ps = append(want, b), append(ps, pos)
				for k, p := range ps { // from the buffer and from the file
					got, err := j.ReadAt([]byte("x"), p)
					if err != nil || string(got[:1]) != "x" || !bytes.Equal(got[1:], want[k]) {
						t.Fatalf("ReadAt(%v) = %d bytes, %v", p, len(got), err)
					}
				}
				if i%3 == 0 {
					mustSync(t, j, pos)
				}
			}
			mustClose(t, j)
			j = mustOpen(t, opt)
			gotPs, got := replayed(t, j)
			if fmt.Sprint(gotPs) != fmt.Sprint(ps) {
				t.Errorf("positions %v, want %v", gotPs, ps)
			}
			for i := range want {
				if !bytes.Equal(got[i], want[i]) {
					t.Errorf("record %d differs", i)
				}
			}
			if rec := j.Recovery(); !rec.Clean || rec.Records != len(want) {
				t.Errorf("Recovery = %+v, want clean with %d", rec, len(want))
			}
		})
	}
}

func TestReleasedAreNotReplayedAfterClose(t *testing.T) {
	fs := newFS()
	j := mustOpen(t, smallOptions(fs))
	var ps []journal.Pos
	for i := range 10 {
		ps = append(ps, mustAppend(t, j, payload(uint64(i), 100)))
	}
	j.Release(ps[:4]...)
	j.Release(ps[3], ps[6], journal.Pos{Segment: 9, Offset: 8192}, journal.Pos{}) // twice, one in the middle, two unknown
	if b := j.Backlog(); b.Records != 5 || b.Bytes != 500 {
		t.Errorf("Backlog = %+v, want 5 records of 500 bytes", b)
	}
	if p, ok := j.OldestLive(); !ok || p.Compare(ps[4]) != 0 {
		t.Errorf("OldestLive = %v %v, want %v", p, ok, ps[4])
	}
	mustClose(t, j)
	j = mustOpen(t, smallOptions(fs))
	got, _ := replayed(t, j)
	if fmt.Sprint(got) != fmt.Sprint(ps[4:]) {
		t.Errorf("replayed %v, want %v: all before the oldest live one are gone", got, ps[4:])
	}
	j.Release(got...)
	mustClose(t, j)
	j = mustOpen(t, smallOptions(fs))
	if got, _ := replayed(t, j); len(got) != 0 {
		t.Errorf("replayed %v, want none", got)
	}
}

func TestOldestMovesWithMark(t *testing.T) {
	j := mustOpen(t, smallOptions(newFS()))
	if p, ok := j.Oldest(); ok {
		t.Errorf("Oldest of an empty journal = %v", p)
	}
	a := mustAppend(t, j, payload(1, 50))
	b := mustAppend(t, j, payload(2, 50))
	mustSync(t, j, b)
	j.Release(a)
	if p, ok := j.Oldest(); !ok || p.Compare(a) > 0 {
		t.Errorf("Oldest = %v %v, want at most %v: a crash brings it back", p, ok, a)
	}
	if err := j.Mark(); err != nil {
		t.Fatal(err)
	}
	if p, ok := j.Oldest(); !ok || p.Compare(b) != 0 {
		t.Errorf("Oldest after Mark = %v %v, want %v", p, ok, b)
	}
	j.Release(b)
	if err := j.Mark(); err != nil {
		t.Fatal(err)
	}
	if p, ok := j.Oldest(); ok {
		t.Errorf("Oldest = %v, want none", p)
	}
}

func TestQuota(t *testing.T) {
	fs := newFS()
	opt := smallOptions(fs)
	opt.ReserveBytes = 20 << 10
	j := mustOpen(t, opt)
	var ps []journal.Pos
	fill := func(add func(...[]byte) (journal.Pos, error)) int {
		n := 0
		for {
			before := j.Backlog()
			pos, err := add(payload(uint64(len(ps)), 1000))
			if errors.Is(err, journal.ErrFull) {
				if after := j.Backlog(); after.Records != before.Records {
					t.Errorf("ErrFull appended: %+v, before %+v", after, before)
				}
				return n
			}
			if err != nil {
				t.Fatal(err)
			}
			ps = append(ps, pos)
			n++
			if b := j.Backlog(); b.DiskBytes > b.QuotaBytes || b.UsedBytes > b.QuotaBytes {
				t.Fatalf("over quota: %+v", b)
			}
		}
	}
	if n := fill(j.Append); n < 150 {
		t.Errorf("%d KiB fit in a quota of 256 KiB less 20", n)
	}
	if n := fill(j.AppendReserved); n < 8 {
		t.Errorf("%d KiB fit in a reserve of 20 KiB", n)
	}
	var onDisk int64
	for _, name := range fs.Names() {
		b, err := fs.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		onDisk += int64(len(b))
	}
	if b := j.Backlog(); b.DiskBytes != onDisk {
		t.Errorf("DiskBytes = %d, the files have %d", b.DiskBytes, onDisk)
	}
	half := len(ps) / 2
	j.Release(ps[:half]...)
	if n := fill(j.Append); n < half/2 {
		t.Errorf("%d fit after %d were released", n, half)
	}
	mustSync(t, j, ps[len(ps)-1])
	mustClose(t, j)
	j = mustOpen(t, opt) // a full journal opens
	got, _ := replayed(t, j)
	if got[len(got)-1] != ps[len(ps)-1] {
		t.Errorf("last is %v, want %v", got[len(got)-1], ps[len(ps)-1])
	}
}

func TestSegmentsAreRecycled(t *testing.T) {
	fs := newFS()
	j := mustOpen(t, smallOptions(fs))
	for i := range 2000 {
		pos := mustAppend(t, j, payload(uint64(i), 500))
		if i%10 == 0 {
			mustSync(t, j, pos)
		}
		j.Release(pos)
	}
	if b := j.Backlog(); b.Records != 0 || b.Segments > 2 || b.DiskBytes > 5*32<<10 {
		t.Errorf("Backlog = %+v, want few segments", b)
	}
	if n := fs.Calls(crashfs.Create); n > 12 {
		t.Errorf("%d files were made for 40 segments, want recycling", n)
	}
}

func TestCloseAndAfter(t *testing.T) {
	j := mustOpen(t, smallOptions(newFS()))
	pos := mustAppend(t, j, payload(1, 100))
	mustClose(t, j)
	mustClose(t, j)
	if _, err := j.Append(nil); !errors.Is(err, journal.ErrClosed) {
		t.Errorf("Append: %v", err)
	}
	if _, err := j.ReadAt(nil, pos); !errors.Is(err, journal.ErrClosed) {
		t.Errorf("ReadAt: %v", err)
	}
	if err := j.Mark(); !errors.Is(err, journal.ErrClosed) {
		t.Errorf("Mark: %v", err)
	}
	if err := j.Replay(nil); !errors.Is(err, journal.ErrReplayed) && !errors.Is(err, journal.ErrClosed) {
		t.Errorf("Replay: %v", err)
	}
	if err := j.Sync(pos); err != nil {
		t.Errorf("Sync of what Close made durable: %v", err)
	}
	j.Release(pos)
	j.Backlog()
}

func TestMisuse(t *testing.T) {
	j := mustOpen(t, smallOptions(newFS()))
	if _, err := j.Append(make([]byte, j.MaxPayload()+1)); !errors.Is(err, journal.ErrTooLarge) {
		t.Errorf("Append above MaxPayload: %v", err)
	}
	big := mustAppend(t, j, make([]byte, j.MaxPayload()))
	mustSync(t, j, big)
	for _, p := range []journal.Pos{
		{}, {Segment: 1}, {Segment: 7, Offset: 8192, Length: 5}, {Segment: 1, Offset: 1 << 31, Length: 1 << 31},
		{Segment: big.Segment, Offset: big.Offset + 16, Length: 8}, {Segment: big.Segment, Offset: big.Offset, Length: 3},
	} {
		if got, err := j.ReadAt([]byte("y"), p); err == nil || string(got) != "y" {
			t.Errorf("ReadAt(%v) = %q, %v", p, got, err)
		}
	}
	if err := j.Sync(journal.Pos{Segment: 99, Offset: 8192}); !errors.Is(err, journal.ErrGone) {
		t.Errorf("Sync of an unknown position: %v", err)
	}
	if err := j.Replay(nil); !errors.Is(err, journal.ErrReplayed) {
		t.Errorf("Replay after Append: %v", err)
	}
	_, err := journal.Open(journal.Options{MaxBytes: 1000, BufferBytes: 5, Version: strings.Repeat("x", 40)})
	for _, want := range []string{"Dir", "MaxBytes", "BufferBytes", "Version"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Open with bad options: %v, want %s named", err, want)
		}
	}
}

func TestNewerFormatIsRefused(t *testing.T) {
	fs := newFS()
	j := mustOpen(t, smallOptions(fs))
	mustAppend(t, j, payload(1, 100))
	mustClose(t, j)
	name := fs.Names()[0]
	b, _ := fs.ReadFile(name)
	journal.SetFormat(b, 2, "9.9.9")
	fs.WriteFile(name, b)
	changes := fs.Changes()
	_, err := journal.Open(smallOptions(fs))
	if !errors.Is(err, journal.ErrFormat) || !strings.Contains(err.Error(), "9.9.9") {
		t.Errorf("Open: %v, want the version named", err)
	}
	if fs.Changes() != changes {
		t.Error("a refused directory was changed")
	}
}
