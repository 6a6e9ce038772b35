package l1_test

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"slices"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"github.com/cespare/xxhash/v2"
	"github.com/maypok86/otter/v2"
	"golang.org/x/sys/unix"

	"github.com/edgenode/edgenode/tiers/eviction"
	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/l1"
)

// zipf returns n draws from [0, keys) with exponent 0.99, by the inverse of the
// cumulative distribution, scattered over the key space.
func zipf(seed uint64, keys, n int) []uint32 {
	sums, total := make([]float64, keys), 0.0
	for i := range sums {
		total += math.Pow(float64(i+1), -0.99)
		sums[i] = total
	}
	random := rand.New(rand.NewPCG(seed, 0))
	perm := rand.New(rand.NewPCG(7, 7)).Perm(keys)
	out := make([]uint32, n)
	for i := range out {
		x := random.Float64() * total
		lo, hi := 0, keys-1
		for lo < hi {
			if mid := (lo + hi) / 2; sums[mid] < x {
				lo = mid + 1
			} else {
				hi = mid
			}
		}
		out[i] = uint32(perm[lo])
	}
	return out
}

type ours struct {
	c   *l1.Cache
	rec []byte // patched for each put
}

func benchKey(dst []byte, i uint32) []byte {
	dst = append(dst[:0], "isome/prefix/of/usual/length/"...)
	return fmt.Appendf(dst, "%011d", i)
}

func (o *ours) get(key []byte) bool {
	p, ok := o.c.Get(xxhash.Sum64(key), key, 1)
	if ok {
		sink.Store(uint32(p.Bytes()[100]))
		p.Release()
	}
	return ok
}

var sink atomic.Uint32

// fork returns a copy with a record that can be patched without a lock.
func (o *ours) fork(size int) *ours {
	it := item.Item{Kind: item.KindPut, Key: benchKey(nil, 0), Version: 1, Content: make([]byte, size)}
	return &ours{o.c, it.AppendTo(nil)}
}

func (o *ours) setPatched(key []byte) {
	copy(item.View(o.rec).Key(), key)
	o.c.Put(xxhash.Sum64(key), key, 1, o.rec, l1.PutOptions{NowMilli: 1})
}

type others struct {
	c    *otter.Cache[string, []byte]
	size int
}

// text is key without a copy: nothing writes to the keys of the table.
func text(key []byte) string { return unsafe.String(unsafe.SliceData(key), len(key)) }

func (o *others) get(key []byte) bool {
	v, ok := o.c.GetIfPresent(text(key))
	if ok {
		sink.Store(uint32(v[100]))
	}
	return ok
}

func (o *others) set(key []byte) {
	v := make([]byte, o.size)
	binary.LittleEndian.PutUint32(v, 1)
	o.c.Set(string(key), v) // a copy, as a server must make
}

// BenchmarkCache compares with otter: 1 KiB values, 40-byte keys, Zipf 0.99.
// Otter gets as many entries as fit the budget here, which favours it: its own
// overhead is not counted.
func BenchmarkCache(b *testing.B) {
	const keys, size, draws = 1_000_000, 1024, 1 << 20
	order := zipf(1, keys, draws)
	keyTable := make([][]byte, keys)
	for i := range keyTable {
		keyTable[i] = benchKey(nil, uint32(i))
	}
	for _, load := range []struct {
		name    string
		budget  int64
		percent int // of writes; 0 reads only, -1 read-through
	}{{"get", 200 << 20, 0}, {"get90set10", 200 << 20, 10}, {"missSetEvict", 64 << 20, -1}} {
		resident := 130_000
		if load.percent < 0 {
			resident = keys
		}
		mk := l1.New(l1.Options{MaxBytes: load.budget, Scorer: eviction.Auto{}})
		first := (&ours{c: mk}).fork(size)
		for i := range resident {
			first.setPatched(keyTable[i])
		}
		entries := int(mk.Len())
		ot := otter.Must(&otter.Options[string, []byte]{MaximumSize: entries})
		oo := &others{ot, size}
		for i := range resident {
			oo.set(keyTable[i])
		}
		pick := func(n uint64) []byte {
			i := order[n%draws]
			if load.percent >= 0 {
				i %= uint32(resident)
			}
			return keyTable[i]
		}
		run := func(name string, loop func() (get func([]byte) bool, set func([]byte))) {
			b.Run(load.name+"/"+name, func(b *testing.B) {
				var worker, hits, gets atomic.Uint64
				b.ReportAllocs()
				cpu := cpuTime()
				b.RunParallel(func(pb *testing.PB) {
					get, set := loop()
					at, h, g := worker.Add(1)*draws/3, uint64(0), uint64(0)
					for pb.Next() {
						at++
						key := pick(at)
						if load.percent > 0 && at%10 == 0 {
							set(key)
							continue
						}
						g++
						if get(key) {
							h++
						} else if load.percent < 0 {
							set(key)
						}
					}
					hits.Add(h)
					gets.Add(g)
				})
				b.ReportMetric(float64(cpuTime()-cpu)/float64(b.N), "cpu-ns/op")
				b.ReportMetric(float64(hits.Load())/float64(max(1, gets.Load())), "hits/get")
			})
		}
		run("l1", func() (func([]byte) bool, func([]byte)) {
			o := first.fork(size)
			return o.get, o.setPatched
		})
		run("otter", func() (func([]byte) bool, func([]byte)) { return oo.get, oo.set })
		runtime.KeepAlive(mk)
		ot.StopAllGoroutines()
	}
}

// BenchmarkGetCopy compares reads that copy what is found to a buffer of their own,
// with the keys and values of BenchmarkCache.
func BenchmarkGetCopy(b *testing.B) {
	const keys, size, draws = 130_000, 1024, 1 << 20
	order := zipf(1, keys, draws)
	keyTable := make([][]byte, keys)
	c := l1.New(l1.Options{MaxBytes: 200 << 20, Scorer: eviction.Auto{}})
	oo := &others{otter.Must(&otter.Options[string, []byte]{MaximumSize: keys}), size}
	first := (&ours{c: c}).fork(size)
	for i := range keyTable {
		keyTable[i] = benchKey(nil, uint32(i))
		first.setPatched(keyTable[i])
		oo.set(keyTable[i])
	}
	run := func(name string, get func(dst, key []byte) []byte) {
		b.Run(name, func(b *testing.B) {
			var worker, hits atomic.Uint64
			b.ReportAllocs()
			cpu := cpuTime()
			b.RunParallel(func(pb *testing.PB) {
				at, h, dst := worker.Add(1)*draws/3, uint64(0), make([]byte, 0, 2*size)
				for ; pb.Next(); at++ {
					if dst = get(dst[:0], keyTable[order[at%draws]]); len(dst) > 0 {
						h++
					}
				}
				hits.Add(h)
			})
			b.ReportMetric(float64(cpuTime()-cpu)/float64(b.N), "cpu-ns/op")
			b.ReportMetric(float64(hits.Load())/float64(b.N), "hits/get")
		})
	}
	run("l1", func(dst, key []byte) []byte {
		dst, _ = c.Append(dst, xxhash.Sum64(key), key, 1)
		return dst
	})
	run("otter", func(dst, key []byte) []byte {
		v, _ := oo.c.GetIfPresent(text(key))
		return append(dst, v...)
	})
	oo.c.StopAllGoroutines()
}

// BenchmarkCollector reports what share of a core the collector takes while five
// million items of 100 bytes are replaced one by one, each op a put of a new key: of
// the time that passed and of the processor time of the process.
func BenchmarkCollector(b *testing.B) {
	const items, size = 5_000_000, 100
	run := func(name string, open func() (set func(key []byte), end func())) {
		set, end := open()
		defer end()
		var key []byte
		for i := range uint32(items) {
			key = benchKey(key, i)
			set(key)
		}
		next := uint32(items)
		b.Run(name, func(b *testing.B) {
			runtime.GC()
			b.ResetTimer()
			begin, cpu, collector := time.Now(), cpuTime(), cpuOfCollector()
			for range b.N {
				key = benchKey(key, next)
				set(key)
				next++
			}
			collector = cpuOfCollector() - collector // as of the last collection that ended
			b.ReportMetric(100*collector/time.Since(begin).Seconds(), "collector-%-of-core")
			b.ReportMetric(100*collector/(cpuTime()-cpu).Seconds(), "collector-%-of-cpu")
		})
	}
	run("l1", func() (func([]byte), func()) {
		c := l1.New(l1.Options{MaxBytes: 2 << 30, Scorer: eviction.Auto{}})
		return (&ours{c: c}).fork(size).setPatched, c.Close
	})
	run("otter", func() (func([]byte), func()) {
		o := &others{otter.Must(&otter.Options[string, []byte]{MaximumSize: items}), size}
		return o.set, func() { o.c.StopAllGoroutines() }
	})
}

// BenchmarkPutEvict is puts of new keys only, each of which evicts.
func BenchmarkPutEvict(b *testing.B) {
	c := l1.New(l1.Options{MaxBytes: 64 << 20, Scorer: eviction.Auto{}})
	o := (&ours{c: c}).fork(1024)
	var key []byte
	for i := range 100_000 {
		key = benchKey(key, uint32(i))
		o.setPatched(key)
	}
	cpu := cpuTime()
	b.ResetTimer()
	for i := range b.N {
		binary.LittleEndian.PutUint64(key[20:], uint64(i))
		o.setPatched(key)
	}
	b.ReportMetric(float64(cpuTime()-cpu)/float64(b.N), "cpu-ns/op")
}

// BenchmarkPutTail reports how long a put of a new key into a full cache takes at
// most, but for one in a thousand: in time that passed, which on a machine that does
// other things is mostly theirs, and in processor time of its thread.
func BenchmarkPutTail(b *testing.B) {
	c := l1.New(l1.Options{MaxBytes: 64 << 20, Scorer: eviction.Auto{}})
	o := (&ours{c: c}).fork(1024)
	key := benchKey(nil, 0)
	for i := range 100_000 {
		o.setPatched(benchKey(key, uint32(i)))
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for _, clock := range []struct {
		id   int32
		name string
	}{{unix.CLOCK_MONOTONIC, ""}, {unix.CLOCK_THREAD_CPUTIME_ID, "cpu-"}} {
		took := make([]int64, b.N)
		for i := range took {
			key = benchKey(key, rand.Uint32())
			start := clockNano(clock.id)
			o.setPatched(key)
			took[i] = clockNano(clock.id) - start
		}
		slices.Sort(took)
		b.ReportMetric(float64(took[len(took)/2])/1e3, clock.name+"µs-p50")
		b.ReportMetric(float64(took[len(took)*999/1000])/1e3, clock.name+"µs-p99.9")
	}
}

// clockNano returns what a clock of the system shows.
func clockNano(id int32) int64 {
	var now unix.Timespec
	if unix.ClockGettime(id, &now) != nil {
		return 0
	}
	return now.Nano()
}

// cpuTime returns the time that the process has spent on processors, collector
// included: it is steadier than the clock on a machine that does other things.
func cpuTime() time.Duration {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkOverhead reports what an item costs beyond its record, and how long
// a collection takes with a million of them.
func BenchmarkOverhead(b *testing.B) {
	const items = 1_000_000
	for b.Loop() {
		c := l1.New(l1.Options{MaxBytes: 1 << 30, Scorer: eviction.Auto{}})
		o := (&ours{c: c}).fork(100)
		empty := c.UsedBytes()
		var key []byte
		for i := range items {
			key = benchKey(key, uint32(i))
			o.setPatched(key)
		}
		over := float64(c.UsedBytes()-empty)/items - float64(len(o.rec))
		b.ReportMetric(over, "overhead-B/item")
		b.ReportMetric(over-float64(l1.GhostBytes(c))/items, "without-ghosts-B/item")
		runtime.GC()
		before := cpuOfCollector()
		start := time.Now()
		for range 10 {
			runtime.GC()
		}
		b.ReportMetric(float64(time.Since(start).Microseconds())/10, "µs/collection")
		b.ReportMetric((cpuOfCollector()-before)*1e9/10/items, "collector-ns/item")
		var stats debug.GCStats
		debug.ReadGCStats(&stats)
		b.ReportMetric(float64(stats.Pause[0].Microseconds()), "µs-pause")
		runtime.KeepAlive(c)
	}
}

func cpuOfCollector() float64 {
	sample := []metrics.Sample{{Name: "/cpu/classes/gc/total:cpu-seconds"}}
	metrics.Read(sample)
	return sample[0].Value.Float64()
}
