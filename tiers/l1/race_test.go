package l1_test

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/edgenode/edgenode/tiers/eviction"
	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/l1"
)

// Everything at once from many goroutines. Each record says what its bytes must
// be; at rest the accounts must be exact.
func TestHammer(t *testing.T) {
	t.Run("hook", func(t *testing.T) { hammer(t, l1.Options{Hook: oddHook{}}, 4000) })
	t.Run("contest", func(t *testing.T) { hammer(t, l1.Options{Contest: true}, 2000) })
	t.Run("queues", func(t *testing.T) { hammer(t, l1.Options{Queues: true}, 2000) })
}

func hammer(t *testing.T, o l1.Options, rounds int) {
	const goroutines, keys = 16, 600
	rounds /= slow
	if testing.Short() {
		rounds = 500
	}
	o.MaxBytes = 2 << 20
	c := newCache(t, o)
	var over sync.Once
	var group sync.WaitGroup
	for g := range goroutines {
		group.Go(func() {
			random := rand.New(rand.NewPCG(uint64(g), 1))
			var views []held
			for n := range rounds {
				i, v := random.IntN(keys), uint64(random.IntN(1000)+1)
				key := keyOf(i)
				switch random.IntN(16) {
				default:
					if p, ok := c.Get(hash(key), key, 0); ok {
						verify(t, p.Bytes(), key)
						if random.IntN(8) == 0 {
							views = append(views, hold(p))
						} else {
							p.Release()
						}
					}
				case 0, 1, 2, 3:
					put(c, i, v, random.IntN(4000), l1.PutOptions{Pinned: random.IntN(50) == 0})
				case 4:
					put(c, i, v, random.IntN(200_000), l1.PutOptions{})
				case 5:
					c.Delete(hash(key), key, v)
				case 6:
					c.Unpin(hash(key), key, 1000)
				case 7:
					c.SetStale(hash(key), key, v)
				case 8:
					if c.Reserve(50_000) {
						c.Unreserve(50_000)
					}
				case 9:
					c.MoveOne()
				case 10:
					if n%20 == 0 {
						sweepAll(t, c, random)
					}
				}
				if len(views) > 5 {
					views[0].release(t)
					views = views[1:]
				}
				if used := c.UsedBytes(); used > c.MaxBytes() || used < 0 || c.PinnedBytes() < 0 {
					over.Do(func() { t.Errorf("used %d of %d, pinned %d", used, c.MaxBytes(), c.PinnedBytes()) })
				}
			}
			for _, v := range views {
				v.release(t)
			}
		})
	}
	group.Wait()
	audit(t, c)
	for i := range keys {
		key := keyOf(i)
		if p, ok := c.Get(hash(key), key, 0); ok {
			verify(t, p.Bytes(), key)
			p.Release()
		}
		del(c, i, 1000)
	}
	if c.Len() != 0 || c.PinnedBytes() != 0 {
		t.Errorf("%d left, %d bytes pinned", c.Len(), c.PinnedBytes())
	}
}

func sweepAll(t *testing.T, c *l1.Cache, random *rand.Rand) {
	var cursor l1.Cursor
	for !c.Sweep(&cursor, 50, func(r []byte, _ bool) l1.Verdict {
		verify(t, r, item.View(r).Key())
		if random.IntN(20) == 0 {
			return l1.Drop
		}
		return l1.Keep
	}) {
	}
}

// verify checks that r is a whole record of key, made by record.
func verify(tb testing.TB, r, key []byte) {
	v, err := item.Parse(r)
	if err != nil || !bytes.Equal(v.Key(), key) {
		tb.Errorf("record of %q: %v", key, err)
		return
	}
	version, content := uint64(v.Version()), v.Content()
	if len(content) >= 8 {
		if got := binary.LittleEndian.Uint64(content); got != version {
			tb.Errorf("record of %q: content of version %d in version %d", key, got, version)
		}
		content = content[8:]
	}
	if n := bytes.Count(content, []byte{byte(version)}); n != len(content) {
		tb.Errorf("record of %q: %d of %d bytes are its own", key, n, len(content))
	}
}

// What a reader of a key that is never removed sees is always there, and its
// versions never go back, while its neighbours come, move and go.
func TestSteadyKeysAreNeverMissed(t *testing.T) {
	const steady = 40
	c := newCache(t, l1.Options{MaxBytes: 2 << 20})
	for i := range steady {
		put(c, i, 1, 500, l1.PutOptions{Pinned: true})
	}
	stop := make(chan struct{})
	var readers, writers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			var seen [steady]uint64
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				i := n % steady
				got := get(c, i, 0)
				if got < seen[i] || got == 0 {
					t.Errorf("key %d: version %d after %d", i, got, seen[i])
					return
				}
				seen[i] = got
			}
		})
	}
	for g := range 2 {
		writers.Go(func() {
			for n := range 8000 / slow {
				put(c, 1000+(n*7+g)%4000, 1, (n*131)%2500, l1.PutOptions{})
				put(c, (n*2+g)%steady, uint64(2+n), 400+n%300, l1.PutOptions{Pinned: true})
				del(c, 1000+(n*13)%4000, 1)
				if n%50 == 0 {
					c.MoveOne()
				}
			}
		})
	}
	writers.Wait()
	close(stop)
	readers.Wait()
}

// oddHook answers rightly, short, or not at all.
type oddHook struct{}

func (oddHook) Score(dst []int32, c []item.Candidate, pressure float64) []int32 {
	switch len(c) % 3 {
	case 0:
		return nil
	case 1:
		return dst
	}
	return eviction.Tan{}.Score(dst, c, pressure)
}

// Keys of one hash share a run of the index, and their entries pass from one to
// another. What is there throughout is never missed, whatever moves beside it.
func TestHammerOfOneHash(t *testing.T) {
	const h, keys = 42, 12
	c := newCache(t, l1.Options{MaxBytes: 1 << 20})
	set := func(i int, version uint64, n int) bool {
		return c.Put(h, keyOf(i), version, record(keyOf(i), version, n), l1.PutOptions{})
	}
	for i := 0; i < keys; i += 3 {
		set(i, 1, 100)
	}
	var group sync.WaitGroup
	for g := range 6 {
		group.Go(func() {
			random := rand.New(rand.NewPCG(uint64(g), 3))
			for n := range 6000 / slow {
				i := random.IntN(keys)
				steady := i%3 == 0
				switch random.IntN(6) {
				case 0, 1:
					set(i, uint64(n+2), random.IntN(600))
				case 2:
					if !steady {
						c.Delete(h, keyOf(i), uint64(n))
					}
				default:
					p, ok := c.Get(h, keyOf(i), 0)
					if ok {
						verify(t, p.Bytes(), keyOf(i))
					} else if steady {
						t.Errorf("key %d missed", i)
						return
					}
					p.Release()
				}
			}
		})
	}
	group.Wait()
}
