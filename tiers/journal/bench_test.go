package journal_test

import (
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/edgenode/edgenode/tiers/journal"
)

// BenchmarkPuts writes durable records of 1 KiB: to the journal, to a plain log
// and, by one writer, with a bare append and fdatasync. The p99 is of one put.
func BenchmarkPuts(b *testing.B) {
	for _, writers := range []int{1, 64, 256} {
		if writers == 1 {
			b.Run("raw/1", func(b *testing.B) { benchPuts(b, 1, rawPut(b)) })
		}
		b.Run(fmt.Sprintf("plain/%d", writers), func(b *testing.B) {
			l, err := openPlain(filepath.Join(b.TempDir(), "log"))
			if err != nil {
				b.Fatal(err)
			}
			defer l.f.Close()
			benchPuts(b, writers, l.put)
		})
		b.Run(fmt.Sprintf("journal/%d", writers), func(b *testing.B) {
			j := mustOpen(b, journal.Options{Dir: b.TempDir()})
			benchPuts(b, writers, func(p []byte) error {
				pos, err := j.Append(p)
				if err == nil {
					err = j.Sync(pos)
				}
				j.Release(pos)
				return err
			})
			if err := j.Close(); err != nil {
				b.Fatal(err)
			}
		})
	}
}

func rawPut(b *testing.B) func([]byte) error {
	f, err := os.Create(filepath.Join(b.TempDir(), "raw"))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { f.Close() })
	return func(p []byte) error {
		if _, err := f.Write(p); err != nil {
			return err
		}
		return syscall.Fdatasync(int(f.Fd()))
	}
}

func benchPuts(b *testing.B, writers int, put func([]byte) error) {
	var left atomic.Int64
	left.Store(int64(b.N))
	times := make([][]time.Duration, writers)
	var wg sync.WaitGroup
	b.SetBytes(1024)
	b.ResetTimer()
	cpu := cpuTime(b)
	for w := range writers {
		wg.Go(func() {
			p := payload(uint64(w), 1024)
			for left.Add(-1) >= 0 {
				begin := time.Now()
				if err := put(p); err != nil {
					b.Error(err)
					return
				}
				times[w] = append(times[w], time.Since(begin))
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	b.ReportMetric(float64(cpuTime(b)-cpu)/float64(b.N), "cpu-ns/put")
	var all []time.Duration
	for _, t := range times {
		all = append(all, t...)
	}
	sort.Slice(all, func(i, k int) bool { return all[i] < all[k] })
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "puts/s")
	b.ReportMetric(float64(all[len(all)*99/100].Microseconds()), "p99-µs")
}

// cpuTime is what this process has used, in user and system mode. It is less
// disturbed by other processes than the rate.
func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkReplay opens a journal of a million records of 100 bytes and replays
// it.
func BenchmarkReplay(b *testing.B) {
	const records = 1_000_000
	opt := journal.Options{Dir: b.TempDir()}
	j := mustOpen(b, opt)
	p := payload(1, 100)
	var last journal.Pos
	for range records {
		last = mustAppend(b, j, p)
	}
	mustSync(b, j, last)
	if err := j.Close(); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		j := mustOpen(b, opt)
		n := 0
		if err := j.Replay(func(journal.Pos, []byte) error { n++; return nil }); err != nil || n != records {
			b.Fatalf("%d records, %v", n, err)
		}
		if err := j.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkAppend measures the copy into the buffer; the write is included, the
// sync is not.
func BenchmarkAppend(b *testing.B) {
	for _, size := range []int{100, 1024, 16 << 10} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			j := mustOpen(b, journal.Options{Dir: b.TempDir()})
			p := payload(1, size)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				pos, err := j.Append(p)
				if err != nil {
					b.Fatal(err)
				}
				j.Release(pos)
			}
		})
	}
}
