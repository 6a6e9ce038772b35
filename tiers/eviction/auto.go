package eviction

import "github.com/edgenode/edgenode/tiers/item"

// scoreUnit is the worth of one halving of the hit density. With it scores span
// half a million halvings at a resolution finer than any estimate of frequency.
const scoreUnit = 4096

// Auto ranks by expected hits per byte:
//
//	log2 f + log2 weight − α·log2 size
//
// where f is the decayed frequency as of now, that is log2 f at the last hit
// less idle/H. With the half-life H tied to the idle age at which things leave,
// no constant in seconds is in it and every request rate is treated alike.
//
// The exponent α of the size is 1 − Bytes: the zero value counts hits of
// objects, Bytes = 1 counts hits of bytes.
type Auto struct {
	Bytes float32 // 0 (object hits) to 1 (byte hits)
}

// Score appends the score of each candidate to dst. Pressure is the same for
// all candidates and cannot change their order; it is ignored.
func (a Auto) Score(dst []int32, c []item.Candidate, pressure float64) []int32 {
	alpha := 1 - a.Bytes
	for i := range c {
		dst = append(dst, fixed(float64(c[i].LogFrequency+logWeight(&c[i])-alpha*c[i].LogSize)))
	}
	return dst
}

// logWeight returns log2 of the weight of c.
func logWeight(c *item.Candidate) float32 { return float32(c.LogWeight) / item.WeightUnit }

// fixed turns a score into 32 bits, saturating.
func fixed(score float64) int32 {
	const limit = 1<<31 - 1
	return int32(max(-limit, min(limit, score*scoreUnit)))
}
