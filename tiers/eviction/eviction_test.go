package eviction_test

import (
	"math"
	"math/rand/v2"
	"sort"
	"testing"

	"github.com/edgenode/edgenode/tiers/eviction"
	"github.com/edgenode/edgenode/tiers/item"
)

type scorer interface {
	Score(dst []int32, c []item.Candidate, pressure float64) []int32
}

// order returns the positions of c, the first to leave first.
func order(s scorer, c []item.Candidate, pressure float64) []int {
	scores := s.Score(nil, c, pressure)
	at := make([]int, len(c))
	for i := range at {
		at[i] = i
	}
	sort.SliceStable(at, func(a, b int) bool { return scores[at[a]] < scores[at[b]] })
	return at
}

func candidate(logFrequency float32, size uint32) item.Candidate {
	return item.Candidate{LogFrequency: logFrequency, Size: size, LogSize: float32(math.Log2(float64(size)))}
}

func TestAuto(t *testing.T) {
	f := func(bytes float32, first, second item.Candidate) {
		t.Helper()
		got := eviction.Auto{Bytes: bytes}.Score(nil, []item.Candidate{first, second}, 0)
		if len(got) != 2 || got[0] >= got[1] {
			t.Errorf("bytes %v: scores %v of %+v and %+v, want the first lower", bytes, got, first, second)
		}
	}
	f(0, candidate(0, 1024), candidate(1, 1024))     // fewer hits leave first
	f(0, candidate(3, 1<<20), candidate(0, 1024))    // eight hits do not pay for a thousandfold size
	f(1, candidate(0, 1024), candidate(3, 1<<20))    // they do when bytes count
	f(0.5, candidate(3, 1<<20), candidate(0, 1024))  // half-way: 3 − 10 against 0 − 5
	f(0.5, candidate(0, 1024), candidate(3, 4096))   // 0 − 5 against 3 − 6
	f(0, candidate(-900, 256), candidate(-899, 256)) // long idle still has an order
	f(0, candidate(-1e9, 256), candidate(0, 256))    // saturates
}

func TestCurve(t *testing.T) {
	f := func(idleMilli, hits, size uint32, want float64) {
		t.Helper()
		if got := eviction.Curve(idleMilli, hits, size); math.Abs(got-want) > 1e-9 {
			t.Errorf("Curve(%d, %d, %d) = %v, want %v", idleMilli, hits, size, got, want)
		}
	}
	f(0, 1000, 0, 1)                   // everything at its best
	f(0, 5000, 0, 1)                   // hits count up to a thousand
	f(3_600_000, 0, 0, 0.4/math.E+0.2) // an hour is one decay
	f(math.MaxUint32, 0, 1<<20, 0.4*math.Exp(-float64(math.MaxUint32)/3.6e6)+0.1)
	f(0, 1, 1<<20, 0.4+0.4*math.Ln2/math.Log(1001)+0.1)
}

// The longest idle leaves first, whatever else it is.
func TestLRU(t *testing.T) {
	c := []item.Candidate{{Idle: 5, Hits: 1}, {Idle: math.MaxUint32, Hits: 1000}, {Idle: 0}, {Idle: 70_000, Size: 1 << 20}}
	if got := order(eviction.LRU{}, c, 0); got[0] != 1 || got[1] != 3 || got[2] != 0 || got[3] != 2 {
		t.Errorf("they leave in the order %v, want 1 3 0 2", got)
	}
}

// The factor of pressure is common to all candidates: whatever it is, the same
// one leaves.
func TestPressureDoesNotChangeOrder(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		c := make([]item.Candidate, 16)
		for i := range c {
			c[i] = item.Candidate{Idle: random.Uint32N(1e8), Hits: random.Uint32N(2000), Size: random.Uint32N(1 << 22)}
		}
		want := order(eviction.Tan{}, c, 0)
		for _, pressure := range []float64{-1, 0.2, 0.7, 0.95, 0.999, 1, 2, math.NaN()} {
			got := order(eviction.Tan{}, c, pressure)
			if got[0] != want[0] {
				t.Fatalf("pressure %v: %d leaves first, want %d", pressure, got[0], want[0])
			}
			scores := eviction.Tan{}.Score(nil, c, pressure)
			for _, s := range scores {
				if s < 0 {
					t.Fatalf("pressure %v: score %d overflowed", pressure, s)
				}
			}
		}
	}
}

func TestScoreAppends(t *testing.T) {
	c := []item.Candidate{candidate(1, 512)}
	for _, s := range []scorer{eviction.Auto{}, eviction.Tan{}, eviction.LRU{}} {
		got := s.Score([]int32{7}, c, 0.5)
		if len(got) != 2 || got[0] != 7 {
			t.Errorf("%T: got %v, want 7 and one score", s, got)
		}
	}
}

func TestScoreDoesNotAllocate(t *testing.T) {
	c := make([]item.Candidate, 16)
	dst := make([]int32, 0, 16)
	for _, s := range []scorer{eviction.Auto{}, eviction.Tan{}, eviction.LRU{}} {
		if n := testing.AllocsPerRun(100, func() { dst = s.Score(dst[:0], c, 0.5) }); n != 0 {
			t.Errorf("%T: %v allocations", s, n)
		}
	}
}

func BenchmarkScore16(b *testing.B) {
	c := make([]item.Candidate, 16)
	for i := range c {
		c[i] = candidate(float32(i), uint32(512+i))
	}
	dst := make([]int32, 0, 16)
	b.Run("auto", func(b *testing.B) {
		for b.Loop() {
			dst = eviction.Auto{}.Score(dst[:0], c, 0)
		}
	})
	b.Run("tan", func(b *testing.B) {
		for b.Loop() {
			dst = eviction.Tan{}.Score(dst[:0], c, 0)
		}
	})
}
