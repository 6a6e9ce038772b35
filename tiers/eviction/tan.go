package eviction

import (
	"math"

	"github.com/edgenode/edgenode/tiers/item"
)

// Constants of the classic curve.
const (
	recencyWeight   = 0.4
	frequencyWeight = 0.4
	sizeWeight      = 0.2
	recencySeconds  = 3600
	maxHits         = 1000
	sizeKnee        = 1 << 20

	tanUnit = 1 << 24 // scores of the curve are at most 1
)

// Tan ranks by the classic curve: 0.4·e^(−idle/3600 s) +
// 0.4·ln(1+min(hits,1000))/ln 1001 + 0.2/(1+size/1 MiB), times a factor that
// grows with pressure like a tangent, times the weight. It needs Candidate.Idle.
//
// It is there because people know it. Auto is better: the hour is not scale
// free, counts never age, and size counts for little. The factor is common to
// all candidates and so never changes which one leaves.
type Tan struct{}

// Score appends the score of each candidate to dst.
func (Tan) Score(dst []int32, c []item.Candidate, pressure float64) []int32 {
	unit := tanUnit * steepness(pressure)
	for i := range c {
		score := unit * Curve(c[i].Idle, c[i].Hits, c[i].Size)
		if c[i].LogWeight != 0 {
			score = min(score*weight(&c[i]), math.MaxInt32)
		}
		dst = append(dst, int32(score))
	}
	return dst
}

// weight returns the weight of c, 1 for most.
func weight(c *item.Candidate) float64 { return math.Exp2(float64(c.LogWeight) / item.WeightUnit) }

// Curve returns the score of Tan without the pressure factor, from 0 to 1.
func Curve(idleMilli, hits, size uint32) float64 {
	recency := math.Exp(-float64(idleMilli) / (1000 * recencySeconds))
	frequency := math.Log1p(float64(min(hits, maxHits))) / math.Log1p(maxHits)
	small := 1 / (1 + float64(size)/sizeKnee)
	return recencyWeight*recency + frequencyWeight*frequency + sizeWeight*small
}

// steepness returns the pressure factor, 1 + tan(π/2 · pressure) with the
// result kept at or below 64.
func steepness(pressure float64) float64 {
	const most = 64
	if !(pressure > 0) { // NaN too
		return 1
	}
	if pressure >= 0.99 {
		return most
	}
	return min(most, 1+math.Tan(math.Pi/2*pressure))
}
