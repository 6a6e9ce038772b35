package l1_test

import (
	"sync"
	"sync/atomic"
	"testing"

	"github.com/edgenode/edgenode/tiers/l1"
)

// fill puts records of n content bytes from key first on until no more than
// spare bytes of the budget are free.
func fill(t *testing.T, c *l1.Cache, first, n int, spare int64) {
	t.Helper()
	for i := first; c.MaxBytes()-c.UsedBytes() > spare; i++ {
		if !put(c, i, 1, n, l1.PutOptions{}) {
			t.Fatalf("put %d refused", i)
		}
	}
	if c.Stats().Evicted != 0 {
		t.Fatalf("%d evicted while filling", c.Stats().Evicted)
	}
}

// Slow readers of records of one class do not keep the free memory of another
// from being used.
func TestReadersOfOneClassDoNotHoldUpOthers(t *testing.T) {
	c := newCache(t, l1.Options{MaxBytes: 4 << 20})
	const small, medium = 600, 400
	for i := range small {
		put(c, i, 1, 100, l1.PutOptions{})
	}
	for i := range medium {
		put(c, 10_000+i, 1, 1000, l1.PutOptions{})
	}
	fill(t, c, 20_000, 3000, 40<<10)
	for i := range small {
		if i%20 != 0 {
			del(c, i, 1)
			continue
		}
		p, ok := c.Get(hash(keyOf(i)), keyOf(i), 0)
		if !ok {
			t.Fatalf("no record %d", i)
		}
		defer p.Release()
	}
	for i := range medium {
		del(c, 10_000+i, 1)
	}
	if !c.Reserve(200_000) {
		t.Fatal("no room")
	}
	if got := c.Stats().Evicted; got != 0 {
		t.Errorf("%d evicted while a class had free chunks", got)
	}
}

// One slow reader does not keep the rest of its class from moving together.
func TestReaderOfOneChunkDoesNotHoldUpItsClass(t *testing.T) {
	c := newCache(t, l1.Options{MaxBytes: 4 << 20})
	const n = 2000
	for i := range n {
		put(c, i, 1, 100, l1.PutOptions{})
	}
	fill(t, c, 20_000, 3000, 40<<10)
	p, ok := c.Get(hash(keyOf(0)), keyOf(0), 0)
	if !ok {
		t.Fatal("no record 0")
	}
	defer p.Release()
	for i := 1; i < n; i++ { // the first chunk keeps nothing but what is read
		if i < 60 || i%2 == 0 {
			del(c, i, 1)
		}
	}
	if !c.Reserve(150_000) {
		t.Fatal("no room")
	}
	if got := c.Stats().Evicted; got != 0 {
		t.Errorf("%d evicted while half of a class was free", got)
	}
}

// Emptying a chunk by eviction keeps its hands off what others change.
func TestClearChunkAmongWriters(t *testing.T) {
	c := newCache(t, l1.Options{MaxBytes: 2 << 20})
	stop := make(chan struct{})
	var clearing, writing sync.WaitGroup
	clearing.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				c.ClearChunk(3000)
			}
		}
	})
	for g := range 3 {
		writing.Go(func() {
			for n := range 4000 / slow {
				put(c, g*1000+n%900, uint64(n+1), n*37%1500, l1.PutOptions{})
			}
		})
	}
	writing.Wait()
	close(stop)
	clearing.Wait()
}

// What one reader has returned, no later one goes back behind.
func TestVersionsNeverGoBackBetweenReaders(t *testing.T) {
	c := newCache(t, l1.Options{MaxBytes: 1 << 20})
	const keys = 3
	var newest [keys]versionMark
	stop := make(chan struct{})
	var readers, writers sync.WaitGroup
	for i := range keys {
		put(c, i, 1, 0, l1.PutOptions{})
		writers.Go(func() {
			for v := range uint64(20_000 / slow) { // of two classes in turn: never in place
				put(c, i, v+2, int(v%2)*500, l1.PutOptions{})
			}
		})
	}
	for range 4 {
		readers.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				floor := newest[n%keys].Load()
				got := get(c, n%keys, 0)
				if got < floor {
					t.Errorf("version %d after another reader saw %d", got, floor)
					return
				}
				newest[n%keys].raise(got)
			}
		})
	}
	writers.Wait()
	close(stop)
	readers.Wait()
}

// versionMark is the newest version seen of a key.
type versionMark struct{ atomic.Uint64 }

func (m *versionMark) raise(v uint64) {
	for old := m.Load(); v > old && !m.CompareAndSwap(old, v); old = m.Load() {
	}
}
