package load

import (
	"math"
	"math/bits"
	"time"
)

// A job is one request to send.
type job struct {
	key   uint64
	size  int // bytes of the key's value
	write bool
	due   time.Duration // since the start of the run; open loop only
}

// A plan says which request is the i-th. It is safe for concurrent use.
type plan struct {
	o    *Options
	zipf zipf
	gap  float64 // ns between two requests of a rate
}

func newPlan(o *Options) *plan {
	p := &plan{o: o, gap: o.perRequest()}
	if o.Dist == Zipf {
		p.zipf = newZipf(o.Keys, o.Theta)
	}
	return p
}

// job returns the i-th request. It reports false after the last one of a trace.
func (p *plan) job(i uint64) (j job, ok bool) {
	r := random(p.o.Seed ^ mix(i))
	if t := p.o.Trace; t != nil {
		if i >= uint64(len(t.IDs)) {
			return job{}, false
		}
		j.key = uint64(t.IDs[i])
		if p.o.Speed > 0 {
			j.due = time.Duration(float64(t.Millis[i]) / p.o.Speed * float64(time.Millisecond))
		}
	} else {
		j.key = p.key(&r)
	}
	if p.o.Rate > 0 {
		j.due = time.Duration(float64(i) * p.gap)
	}
	j.size = p.size(j.key)
	j.write = p.o.Writes > 0 && r.float() < p.o.Writes
	return j, true
}

// key draws the number of a key.
func (p *plan) key(r *random) uint64 {
	switch p.o.Dist {
	case Hot:
		return 0
	case Zipf:
		return p.zipf.draw(r)
	}
	key, _ := bits.Mul64(r.next(), uint64(p.o.Keys))
	return key
}

// keys returns how many there are.
func (p *plan) keys() uint64 {
	switch {
	case p.o.Trace != nil:
		return uint64(len(p.o.Trace.Sizes))
	case p.o.Dist == Hot:
		return 1
	}
	return uint64(p.o.Keys)
}

// size returns the bytes of a key's value.
func (p *plan) size(key uint64) int {
	if t := p.o.Trace; t != nil {
		return int(t.Sizes[key])
	}
	return p.o.Sizes[mix(key)%uint64(len(p.o.Sizes))]
}

// largest returns the bytes of the largest value.
func (p *plan) largest() (size int) {
	if t := p.o.Trace; t != nil {
		for _, s := range t.Sizes {
			size = max(size, int(s))
		}
		return size
	}
	for _, s := range p.o.Sizes {
		size = max(size, s)
	}
	return size
}

// random is a generator of numbers that costs a few instructions, begins
// anywhere, and needs no more than a word (SplitMix64: Steele, Lea, Flood, 2014).
type random uint64

func (r *random) next() uint64 {
	*r += 0x9e3779b97f4a7c15
	return mix(uint64(*r))
}

// float returns a number in [0, 1).
func (r *random) float() float64 { return float64(r.next()>>11) / (1 << 53) }

// mix makes numbers that lie near each other lie anywhere.
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// zipf draws ranks k from 1 to n with probabilities in proportion to 1/k^theta,
// in constant time and space for any theta above 0: the area under 1/x^theta is
// drawn from and inverted, and what falls into the difference between the curve
// and its steps is thrown away (rejection-inversion: Hörmann and Derflinger,
// ACM TOMACS 6, 1996).
type zipf struct {
	theta     float64
	n         float64
	low, high float64 // areas below which and above which no rank lies
	sure      float64 // distance from a rank within which nothing is thrown away
}

func newZipf(n int, theta float64) zipf {
	z := zipf{theta: theta, n: float64(n)}
	z.low = z.area(1.5) - 1
	z.high = z.area(z.n + 0.5)
	z.sure = 2 - z.inverse(z.area(2.5)-math.Pow(2, -theta))
	return z
}

// area returns the integral of 1/x^theta from 1 to x.
func (z *zipf) area(x float64) float64 {
	l := math.Log(x)
	if t := (1 - z.theta) * l; math.Abs(t) > 1e-8 {
		return math.Expm1(t) / t * l
	}
	return l
}

// inverse returns the x of an area.
func (z *zipf) inverse(area float64) float64 {
	t := max(-1, area*(1-z.theta))
	if math.Abs(t) > 1e-8 {
		return math.Exp(math.Log1p(t) / t * area)
	}
	return math.Exp(area)
}

// draw returns a rank, counted from 0.
func (z *zipf) draw(r *random) uint64 {
	for {
		a := z.high + r.float()*(z.low-z.high)
		x := z.inverse(a)
		k := min(max(math.Floor(x+0.5), 1), z.n)
		if k-x <= z.sure || a >= z.area(k+0.5)-math.Pow(k, -z.theta) {
			return uint64(k) - 1
		}
	}
}
