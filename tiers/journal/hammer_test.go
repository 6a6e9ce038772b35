package journal_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/VictoriaMetrics/metrics"

	"github.com/edgenode/edgenode/tiers/journal"
	"github.com/edgenode/edgenode/tiers/tiertest/crashfs"
)

// TestHammer appends, waits, reads, releases and asks from many goroutines,
// then compares what a replay gives with what each of them knows.
func TestHammer(t *testing.T) {
	const writers, each = 16, 300
	fs := newFS()
	opt := smallOptions(fs)
	opt.MaxBytes = 4 << 20
	set := metrics.NewSet()
	opt.Metrics = set
	j := mustOpen(t, opt)
	var mu sync.Mutex
	kept := map[journal.Pos]uint64{}
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(w), 5))
			var last journal.Pos
			for i := range each {
				seq := uint64(w*each + i)
				b := payload(seq, 8+r.IntN(900))
				pos, err := j.Append(b)
				if err != nil {
					t.Errorf("Append: %v", err)
					return
				}
				if pos.Compare(last) <= 0 {
					t.Errorf("%v is not behind %v", pos, last)
				}
				last = pos
				switch r.IntN(3) {
				case 0:
					err = j.Sync(pos)
				case 1:
					err = j.Written(pos)
				}
				got, rerr := j.ReadAt(nil, pos)
				if err != nil || rerr != nil || !bytes.Equal(got, b) {
					t.Errorf("%v: wait %v, ReadAt %v", pos, err, rerr)
				}
				if r.IntN(10) > 0 {
					j.Release(pos)
					continue
				}
				mu.Lock()
				kept[pos] = seq
				mu.Unlock()
			}
		})
	}
	stop := make(chan struct{})
	var asking sync.WaitGroup
	asking.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			if b := j.Backlog(); b.DiskBytes > b.QuotaBytes || b.Records < 0 || b.Bytes < 0 || b.UsedBytes < 0 {
				t.Errorf("Backlog = %+v", b)
			}
			j.Oldest()
			_ = j.Mark()
			set.WritePrometheus(&bytes.Buffer{})
		}
	})
	wg.Wait()
	close(stop)
	asking.Wait()
	if got := j.Backlog().Records; got != len(kept) {
		t.Errorf("backlog of %d, want %d", got, len(kept))
	}
	mustClose(t, j)
	if names := set.ListMetricNames(); len(names) > 0 {
		t.Errorf("metrics left after Close: %v", names)
	}
	j = mustOpen(t, opt)
	ps, bs := replayed(t, j)
	for i, p := range ps {
		if seq, ok := kept[p]; ok {
			if !bytes.Equal(bs[i], payload(seq, len(bs[i]))) {
				t.Errorf("record at %v differs", p)
			}
			delete(kept, p)
		}
	}
	if len(kept) > 0 {
		t.Errorf("%d records are lost", len(kept))
	}
}

// TestCloseWhileInUse closes under load: every call gets an answer, and what
// was acknowledged is there.
func TestCloseWhileInUse(t *testing.T) {
	fs := newFS()
	opt := smallOptions(fs)
	opt.MaxBytes = 8 << 20
	j := mustOpen(t, opt)
	var mu sync.Mutex
	acked := map[journal.Pos]bool{}
	var wg sync.WaitGroup
	started := make(chan struct{}, 8)
	for range 8 {
		wg.Go(func() {
			for i := 0; ; i++ {
				if i == 20 {
					started <- struct{}{}
				}
				pos, err := j.Append(payload(uint64(i), 200))
				if err == nil {
					if err = j.Sync(pos); err == nil {
						mu.Lock()
						acked[pos] = true
						mu.Unlock()
					}
				}
				if errors.Is(err, journal.ErrClosed) {
					return
				}
				if err != nil && !errors.Is(err, journal.ErrFull) {
					t.Errorf("got %v", err)
					return
				}
			}
		})
	}
	for range 8 {
		<-started
	}
	mustClose(t, j)
	wg.Wait()
	j = mustOpen(t, opt)
	if !j.Recovery().Clean {
		t.Errorf("Recovery = %+v, want clean", j.Recovery())
	}
	ps, _ := replayed(t, j)
	for _, p := range ps {
		delete(acked, p)
	}
	if len(acked) > 0 {
		t.Errorf("%d acknowledged records are lost", len(acked))
	}
}

// TestGroupCommit has many wait for few syncs.
func TestGroupCommit(t *testing.T) {
	fs := newFS()
	opt := smallOptions(fs)
	opt.MaxBytes = 8 << 20 // so large that no next segment is prepared
	j := mustOpen(t, opt)
	before := fs.Calls(crashfs.Sync)
	var ps []journal.Pos
	for i := range 30 {
		ps = append(ps, mustAppend(t, j, payload(uint64(i), 100)))
	}
	var wg sync.WaitGroup
	for _, p := range ps {
		wg.Go(func() {
			if err := j.Sync(p); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := fs.Calls(crashfs.Sync) - before; n != 1 {
		t.Errorf("%d syncs for 30 records that were there before, want 1", n)
	}
	if err := j.Written(ps[29]); err != nil {
		t.Error(err)
	}
	if n := fs.Calls(crashfs.Sync) - before; n != 1 {
		t.Errorf("%d syncs after Written, want 1", n)
	}
}

func TestAppendDoesNotAllocate(t *testing.T) {
	if raceEnabled {
		return // the detector allocates
	}
	j := mustOpen(t, journal.Options{Dir: t.TempDir(), MaxBytes: 256 << 20})
	head, body := make([]byte, 40), make([]byte, 1024)
	buf := make([]byte, 0, 2048)
	var err error
	var pos journal.Pos
	for range 4000 { // the two buffers grow once
		if pos, err = j.Append(head, body); err != nil {
			t.Fatal(err)
		}
	}
	mustSync(t, j, pos)
	allocs := testing.AllocsPerRun(1000, func() {
		pos, err = j.Append(head, body)
		if err == nil {
			buf, err = j.ReadAt(buf[:0], pos)
		}
		j.Release(pos)
	})
	if err != nil || allocs != 0 {
		t.Errorf("%v allocations per append, read and release, %v", allocs, err)
	}
}
