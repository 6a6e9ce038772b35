package item

// A Candidate is what a scorer learns about one resident of memory when room
// is needed. Counts and times are saturating.
//
// Frequency is an exponentially decayed hit count (f ← 1 + f·2^(−gap/H) at each
// hit); its logarithm is given as of now, so that it falls by one for each
// half-life H without a hit. Being a logarithm it never underflows.
type Candidate struct {
	Hash         uint64 // of the key, as the caller of the memory tier hashes
	Size         uint32 // bytes that leaving frees, rounding included
	Age          uint32 // seconds since the version was stamped; only for hooks, else 0
	Idle         uint32 // ms since the last hit; 0 where the tier measures idleness in accesses
	Hits         uint32 // since it came into memory, the first included
	Lifetime     uint32 // seconds left; NoLifetime if it does not expire
	Flags        CandidateFlags
	TagClass     uint8   // as given on entry; 0 means none
	LogWeight    int16   // log2 of what one hit is worth, in 1/WeightUnit; 0 is as much as any
	LogFrequency float32 // log2 of the decayed frequency, as of now
	LogSize      float32 // log2 of Size
}

// NoLifetime is the Lifetime of a candidate that does not expire.
const NoLifetime = 1<<32 - 1

// WeightUnit is how many steps of Candidate.LogWeight are a factor of two.
const WeightUnit = 1024

// CandidateFlags are facts about a candidate.
type CandidateFlags uint8

// The flags.
const (
	CandidateStale CandidateFlags = 1 << iota // purged softly
)
