//go:build soak && linux && !race && !slabheap

package l1_test

import (
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"runtime/metrics"
	"sync"
	"testing"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/edgenode/edgenode/tiers/eviction"
	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/l1"
)

// How long each budget is under churn, and which: go test -tags soak -run Churn -v
// -timeout 6h ./tiers/l1 -churn 1h -churnmib 4096
var (
	churnFor = flag.Duration("churn", time.Minute, "time under churn, for each budget")
	churnMiB = flag.Int("churnmib", 0, "the budget in MiB; 0 is 64, and then 1024")
)

// Under churn of records from 1 byte to 16 MiB the process stays within the budget
// and what a test process takes beside it, however long that goes on.
func TestChurn(t *testing.T) {
	budgets := []int64{64 << 20, 1 << 30}
	if *churnMiB > 0 {
		budgets = []int64{int64(*churnMiB) << 20}
	}
	for _, budget := range budgets {
		t.Run(fmt.Sprintf("%dMiB", budget>>20), func(t *testing.T) { churn(t, budget) })
	}
}

func churn(t *testing.T, budget int64) {
	const (
		workers = 2
		beside  = 160 << 20 // heap: buffers of workers, twice for the collector
	)
	base, baseNow := resident(t), residentNow(t)
	before := pauses()
	c := newCache(t, l1.Options{MaxBytes: budget, Scorer: eviction.Auto{}, Contest: true})
	stop := make(chan struct{})
	var group sync.WaitGroup
	for g := range workers {
		group.Go(func() { churnUntil(c, uint64(g), stop) })
	}
	most, tick := int64(0), time.NewTicker(time.Second)
	for end := time.After(*churnFor); end != nil; {
		select {
		case <-tick.C:
			most = max(most, residentNow(t)-baseNow)
		case <-end:
			end = nil
		}
	}
	tick.Stop()
	close(stop)
	group.Wait()
	audit(t, c)
	quiet, st := resident(t)-base, c.Stats()
	const mib = 1 << 20
	t.Logf("%d MiB: resident at most %d MiB more, %d at rest; used %d, mapped %d, records %d MiB in %d, %d classes; %d puts, %d evicted, %d moved, %d refused; longest pause %v",
		budget/mib, most/mib, quiet/mib, c.UsedBytes()/mib, c.MappedBytes()/mib, c.RecordBytes()/mib, c.Len(), len(l1.ClassSizes(c)),
		st.Puts, st.Evicted, st.Moved, st.Refused, longestSince(before))
	tables := c.UsedBytes() - c.MappedBytes() // twice on this heap, which has no limit as a node's has
	if most > budget+tables+beside || quiet > c.UsedBytes()+16*mib {
		t.Errorf("resident: at most %d MiB, %d at rest, with a budget of %d", most/mib, quiet/mib, budget/mib)
	}
}

// churnUntil puts and gets records of sizes that are as often of one order as of
// another, whose middle moves in time.
func churnUntil(c *l1.Cache, seed uint64, stop <-chan struct{}) {
	random := rand.New(rand.NewPCG(seed, 1))
	content, record := make([]byte, 16<<20), make([]byte, 0, 17<<20)
	var key []byte
	for n := uint64(0); ; n++ {
		select {
		case <-stop:
			return
		default:
		}
		top := 10 + 14*float64(n>>14%8)/7 // up to 1 KiB at first, up to 16 MiB seven phases later
		size := int(math.Exp2(top * random.Float64()))
		i := random.Uint32N(1 << 22)
		if p, ok := c.Get(hashOf(&key, i), key, 0); ok {
			p.Release()
			continue
		}
		it := item.Item{Kind: item.KindPut, Key: key, Version: 1, Content: content[:size]}
		record = it.AppendTo(record[:0])
		c.Put(xxhash.Sum64(key), key, 1, record, l1.PutOptions{})
	}
}

func hashOf(key *[]byte, i uint32) uint64 {
	*key = benchKey(*key, i)
	return xxhash.Sum64(*key)
}

// TestPauses: with ten million items no collection stops the world for long. It
// says for how long; how long it may be depends on the machine.
func TestPauses(t *testing.T) {
	const items = 10_000_000
	c := newCache(t, l1.Options{MaxBytes: 6 << 30, Scorer: eviction.Auto{}})
	o := (&ours{c: c}).fork(100)
	var key []byte
	for i := range uint32(items) {
		key = benchKey(key, i)
		o.setPatched(key)
	}
	before := pauses()
	for range 5 {
		runtime.GC()
	}
	cpu, at := cpuOfCollector(), time.Now()
	start := cpuTime()
	garbage := make([][]byte, 1<<10)
	for n := 0; time.Since(at) < 10*time.Second; n++ {
		if key = benchKey(key, uint32(n*7919%items)); n%10 > 0 {
			o.get(key)
			continue
		}
		o.setPatched(key)
		garbage[n/10%len(garbage)] = make([]byte, 1<<10) // as one who reads a request to write it
	}
	t.Logf("%d items: longest pause %v; the collector took %.3f %% of the processor time", c.Len(), longestSince(before),
		100*(cpuOfCollector()-cpu)/(cpuTime()-start).Seconds())
	if c.Len() < items {
		t.Errorf("%d items are there", c.Len())
	}
	runtime.KeepAlive(garbage)
}

// pauses returns how often the world was stopped for a collection, by the time that
// this took.
func pauses() *metrics.Float64Histogram {
	s := []metrics.Sample{{Name: "/sched/pauses/total/gc:seconds"}}
	metrics.Read(s)
	return s[0].Value.Float64Histogram()
}

// longestSince returns an upper bound of the longest stop after before was read.
func longestSince(before *metrics.Float64Histogram) time.Duration {
	now, longest := pauses(), 0.0
	for i, n := range now.Counts {
		if n > before.Counts[i] {
			longest = now.Buckets[i+1]
		}
	}
	return time.Duration(longest * float64(time.Second))
}
