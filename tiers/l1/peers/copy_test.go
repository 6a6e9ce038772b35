//go:build unix

package peers

import (
	"fmt"
	"math"
	"math/rand/v2"
	"sort"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/VictoriaMetrics/fastcache"
	"github.com/cespare/xxhash/v2"
	"github.com/coocood/freecache"

	"github.com/edgenode/edgenode/tiers/eviction"
	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/l1"
)

// BenchmarkGetCopy compares a Get that copies the value: 1 KiB values, 40-byte
// keys, Zipf 0.99, all of them there. cpu-ns/op is the processor time of the
// process, collector included.
func BenchmarkGetCopy(b *testing.B) {
	const keys, size, draws, budget = 130_000, 1024, 1 << 20, 512 << 20
	order := zipf(keys, draws)
	mine := l1.New(l1.Options{MaxBytes: budget, Scorer: eviction.Auto{}})
	defer mine.Close()
	fast := fastcache.New(budget)
	defer fast.Reset()
	free := freecache.NewCache(budget)
	value, all := make([]byte, size), make([][]byte, keys)
	for i := range all {
		key := fmt.Appendf(nil, "isome/prefix/of/usual/length/%011d", i)
		all[i] = key
		it := item.Item{Kind: item.KindPut, Key: key, Version: 1, Content: value}
		mine.Put(xxhash.Sum64(key), key, 1, it.AppendTo(nil), l1.PutOptions{NowMilli: 1})
		fast.Set(key, value)
		if err := free.Set(key, value, 0); err != nil {
			b.Fatal(err)
		}
	}
	run := func(name string, get func(dst, key []byte) []byte) {
		b.Run(name, func(b *testing.B) {
			var worker, hits atomic.Uint64
			b.ReportAllocs()
			cpu := cpuTime()
			b.RunParallel(func(pb *testing.PB) {
				at, h, dst := worker.Add(1)*draws/3, uint64(0), make([]byte, 0, 2*size)
				for ; pb.Next(); at++ {
					if dst = get(dst[:0], all[order[at%draws]]); len(dst) >= size {
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
		dst, _ = mine.Append(dst, xxhash.Sum64(key), key, 1)
		return dst
	})
	run("fastcache", fast.Get)
	run("freecache", func(dst, key []byte) []byte {
		err := free.GetFn(key, func(v []byte) error { dst = append(dst, v...); return nil })
		if err != nil {
			return nil
		}
		return dst
	})
}

// zipf returns n draws from [0, keys) with exponent 0.99, scattered.
func zipf(keys, n int) []uint32 {
	sums, total := make([]float64, keys), 0.0
	for i := range sums {
		total += math.Pow(float64(i+1), -0.99)
		sums[i] = total
	}
	random := rand.New(rand.NewPCG(1, 0))
	perm, out := random.Perm(keys), make([]uint32, n)
	for i := range out {
		out[i] = uint32(perm[min(sort.SearchFloat64s(sums, random.Float64()*total), keys-1)])
	}
	return out
}

// cpuTime returns the processor time of this process in ns.
func cpuTime() int64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return u.Utime.Nano() + u.Stime.Nano()
}
