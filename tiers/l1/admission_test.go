package l1_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/edgenode/edgenode/tiers/eviction"
	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/l1"
)

// request gets i, and puts it if it is not there, as a cache before an origin does.
func request(c *l1.Cache, i, n int) (hit bool) {
	if get(c, i, 0) != 0 {
		return true
	}
	put(c, i, 1, n, l1.PutOptions{})
	return false
}

// What left comes back with the frequency that it had.
func TestGhosts(t *testing.T) {
	const hot = 20
	first := map[uint64]bool{} // to leave
	seen := map[uint64]float32{}
	for i := range hot {
		first[hash(keyOf(i))] = true
	}
	c := newCache(t, l1.Options{MaxBytes: 1 << 20, Scorer: scorerFunc(func(dst []int32, cs []item.Candidate) []int32 {
		for i := range cs {
			score := int32(cs[i].LogFrequency * 1000)
			if first[cs[i].Hash] {
				score = math.MinInt32
			}
			dst = append(dst, score)
			seen[cs[i].Hash] = cs[i].LogFrequency
		}
		return dst
	})})
	for i := range hot {
		for range 30 {
			request(c, i, 600)
		}
	}
	next := 1000
	churn := func(n int) {
		for range n {
			put(c, next, 1, 600, l1.PutOptions{})
			next++
		}
	}
	churn(3000)
	for i := range hot {
		if request(c, i, 600) {
			t.Fatalf("%d did not leave", i)
		}
	}
	clear(first)
	clear(seen)
	churn(300)
	found, warm := 0, 0
	for i := range hot {
		if f, ok := seen[hash(keyOf(i))]; ok {
			found++
			if f > 1 {
				warm++
			}
		}
	}
	if found < hot/2 || warm < found*3/4 {
		t.Errorf("of %d that came back and were looked at %d are known to be frequent", found, warm)
	}
}

// Scans make newcomers contest; when interest moves all at once they need not.
func TestDuel(t *testing.T) {
	c := newCache(t, l1.Options{MaxBytes: 1 << 20, Scorer: eviction.Auto{}, Contest: true})
	random, scan := rand.New(rand.NewPCG(1, 1)), 1_000_000
	for range 12_000 / slow * 2 { // favourites that fill the cache, and what is asked for once
		request(c, random.IntN(900), 700)
		request(c, scan, 6000)
		scan++
	}
	if !c.Contests() || c.Stats().Lost == 0 {
		t.Errorf("after a scan newcomers contest: %v, %d lost", c.Contests(), c.Stats().Lost)
	}
	audit(t, c)
	for set := range 40 {
		for range 4 {
			for i := range 500 {
				request(c, 100_000+set*500+i, 700)
			}
		}
	}
	if c.Contests() {
		t.Error("newcomers must contest although interest moves")
	}
	audit(t, c)
}

// What counts bytes begins with queues, lets newcomers contest in a loop longer than
// the cache, where nothing else has hits, and no more when interest moves.
func TestByteDuel(t *testing.T) {
	c := newCache(t, l1.Options{MaxBytes: 1 << 20, Scorer: eviction.Auto{Bytes: 1}, Queues: true})
	if !c.HasQueues() || c.Contests() {
		t.Errorf("at first: queues %v, contest %v", c.HasQueues(), c.Contests())
	}
	const long = 3000
	hits := 0
	for n := range 8 * long {
		if request(c, n%long, 700) && n >= 7*long {
			hits++
		}
	}
	if !c.Contests() || hits < long/20 {
		t.Errorf("in a loop newcomers contest: %v; %d of %d in the last round were hits", c.Contests(), hits, long)
	}
	audit(t, c)
	for set := range 40 {
		for range 4 {
			for i := range 500 {
				request(c, 100_000+set*500+i, 700)
			}
		}
	}
	if c.Contests() {
		t.Error("newcomers must contest although interest moves")
	}
	audit(t, c)
}

// What loses a contest is remembered, and what must not be dropped has none.
func TestContestIsForCopiesOnly(t *testing.T) {
	c := newCache(t, l1.Options{MaxBytes: 1 << 20, Scorer: eviction.Auto{}, Contest: true})
	random, scan := rand.New(rand.NewPCG(1, 1)), 1_000_000
	for range 12_000 / slow * 2 {
		request(c, random.IntN(900), 700)
		request(c, scan, 6000)
		scan++
	}
	if !c.Contests() {
		t.Fatal("newcomers need not contest")
	}
	for i := range 100 {
		if !put(c, 50_000+i, 1, 700, l1.PutOptions{Pinned: true}) {
			t.Fatalf("pinned %d refused", i)
		}
	}
	kept := 0
	for i := range 100 {
		for range 8 {
			put(c, 60_000+i, 1, 700, l1.PutOptions{})
		}
		kept += int(get(c, 60_000+i, 0))
	}
	if kept < 60 {
		t.Errorf("%d of 100 that were asked for 8 times are there", kept)
	}
}

// Where room is scarce, what comes once does not drive out what is asked for.
func TestContestUnderPressure(t *testing.T) {
	c := newCache(t, l1.Options{MaxBytes: 4 << 20, Scorer: eviction.Auto{}, Contest: true})
	if !c.Reserve(3 << 20) {
		t.Fatal("no room to reserve")
	}
	for range 3 {
		for i := range 400 {
			request(c, i, 700)
		}
	}
	before := c.Stats().Lost
	for i := range 5000 {
		put(c, 1000+i, 1, 700, l1.PutOptions{})
	}
	if c.Stats().Lost == before {
		t.Error("none was refused")
	}
	kept := 0
	for i := range 400 {
		kept += int(get(c, i, 0))
	}
	if kept < 380 {
		t.Errorf("%d of 400 are left", kept)
	}
}

// Names in queues of what was deleted go, also when nothing is evicted.
func TestQueuesDoNotGrow(t *testing.T) {
	c := newCache(t, l1.Options{MaxBytes: 2 << 20, Scorer: eviction.Auto{Bytes: 1}, Queues: true})
	for i := range 50 {
		put(c, i, 1, 100, l1.PutOptions{})
	}
	before := c.UsedBytes()
	for i := range 12_000 / slow * 2 {
		put(c, 1000+i, 1, 100, l1.PutOptions{})
		del(c, 1000+i, 1)
	}
	if grown := c.UsedBytes() - before; grown > 64<<10 {
		t.Errorf("grew by %d bytes", grown)
	}
	if s := c.Stats(); s.Evicted != 0 || c.Len() != 50 {
		t.Errorf("%d left, %d are there", s.Evicted, c.Len())
	}
	audit(t, c)
}

// Names in queues of what others have chosen to leave go.
func TestQueuesDoNotGrowBesideAHook(t *testing.T) {
	last := scorerFunc(func(dst []int32, cs []item.Candidate) []int32 {
		for i := range cs {
			dst = append(dst, -int32(cs[i].Idle))
		}
		return dst
	})
	c := newCache(t, l1.Options{MaxBytes: 1 << 20, Scorer: eviction.Auto{Bytes: 1}, Queues: true, Hook: last})
	for i := range 12_000 / slow * 2 {
		request(c, i%3000, 700) // what comes back is of the main queue
		request(c, 1_000_000+i, 700)
	}
	if names, most := c.Names(), 4*c.Len()+2048; names > most {
		t.Errorf("%d names of %d entries, want %d at most", names, c.Len(), most)
	}
	audit(t, c)
}

// On a mix of favourites that move and scans no ranking does worse than LRU, by
// what it counts.
func TestHitRatio(t *testing.T) {
	tr := drawnTrace(120_000 / slow / slow)
	for _, share := range []float64{0.02, 0.1} {
		capacity := int64(share * float64(tr.foot))
		lruObjects, lruBytes := tr.replay(t, l1.Options{Scorer: eviction.LRU{}, TimeIdle: true}, capacity)
		objects, _ := tr.replay(t, l1.Options{Scorer: eviction.Auto{}, Contest: true}, capacity)
		_, inBytes := tr.replay(t, l1.Options{Scorer: eviction.Auto{Bytes: 1}, Queues: true}, capacity)
		if objects < lruObjects*1.05 || inBytes < lruBytes {
			t.Errorf("at %v: %.4f of objects, LRU %.4f; %.4f of bytes, LRU %.4f", share, objects, lruObjects, inBytes, lruBytes)
		}
	}
}
