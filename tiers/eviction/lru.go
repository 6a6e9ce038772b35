package eviction

import (
	"math"

	"github.com/edgenode/edgenode/tiers/item"
)

// LRU ranks by the time of the last hit alone: the longest idle leaves first. It
// needs Candidate.Idle, which a weight divides. It is there to compare with.
type LRU struct{}

// Score appends the score of each candidate to dst.
func (LRU) Score(dst []int32, c []item.Candidate, _ float64) []int32 {
	for i := range c {
		idle := c[i].Idle
		if c[i].LogWeight != 0 {
			idle = uint32(min(float64(idle)/weight(&c[i]), math.MaxInt32))
		}
		dst = append(dst, math.MaxInt32-int32(min(idle, math.MaxInt32)))
	}
	return dst
}
