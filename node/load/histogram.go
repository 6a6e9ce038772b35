package load

import (
	"math/bits"
	"time"
)

// A histogram counts durations. Below 128 ns each has a bucket of its own, above
// there are 64 buckets to each power of two, so that what it says is at most
// 1.6 % too high. Durations from 73 minutes up are counted as that. The zero
// value is ready; it must be used by one goroutine.
type histogram struct {
	buckets [topBucket + 1]uint64
	count   uint64
	sum     uint64 // ns
	max     uint64 // ns
}

const (
	linear    = 128
	topBits   = 42
	topBucket = (topBits-7)*linear/2 + linear - 1
)

func bucketOf(v uint64) int {
	v = min(v, 1<<topBits-1)
	if v < linear {
		return int(v)
	}
	shift := bits.Len64(v) - 7
	return shift*linear/2 + int(v>>shift)
}

// edgeOf returns the highest value of a bucket.
func edgeOf(bucket int) uint64 {
	if bucket < linear {
		return uint64(bucket)
	}
	shift := bucket/(linear/2) - 1
	return uint64(bucket-shift*linear/2+1)<<shift - 1
}

func (h *histogram) add(d time.Duration) {
	v := uint64(max(d, 0))
	h.buckets[bucketOf(v)]++
	h.count++
	h.sum += v
	h.max = max(h.max, v)
}

func (h *histogram) merge(other *histogram) {
	for i, n := range other.buckets {
		h.buckets[i] += n
	}
	h.count += other.count
	h.sum += other.sum
	h.max = max(h.max, other.max)
}

// quantile returns the duration that a share q of all do not exceed; 0 if there
// are none.
func (h *histogram) quantile(q float64) time.Duration {
	rank, seen := max(1, uint64(q*float64(h.count)+0.5)), uint64(0)
	for i, n := range h.buckets {
		if seen += n; n > 0 && seen >= rank {
			return time.Duration(min(edgeOf(i), h.max))
		}
	}
	return time.Duration(h.max)
}

func (h *histogram) mean() float64 { return float64(h.sum) / float64(max(h.count, 1)) }
