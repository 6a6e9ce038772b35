// Package filter knows, without I/O, which keys certainly have no row in the
// ground truth, so that a miss need not ask SQL. What it does not know for sure
// it answers with "perhaps".
//
// Begin with [New], [Filter.Warm] and [Filter.DefinitelyMissing]. It is fed by
// the change sequence ([Filter.CatchUp]) and by what its node has seen itself
// ([Filter.Seen]). The package starts no goroutine and retries nothing; when to
// catch up, to warm up again ([Stats].WarmWanted), to save, to verify is the
// engine's decision. The engine asks what is pending before the filter.
//
// # Table
//
// A key's hash (xxHash and a permutation with a secret, 30 to 48 bits) is split:
//
//	hash    = prefix | local            prefix: which segment
//	local × buckets >> bits  = bucket   what is left over is the rest
//	slot    = (rest + 1) << 1 | flag    20 bits; 0 is empty
//
// A segment is a cuckoo table of 4-slot buckets; an entry is in its bucket (flag
// 0) or in (g(rest) − bucket) mod buckets (flag 1), whence it can find back. So
// the hash can be told from the slot: a full segment becomes one of a page more,
// or two halves, without asking anybody.
//
// # Snapshot, format 1 (little endian)
//
//	 0 "edgefilt"            24 u64 version of that change, 0 unknown
//	 8 u16 format = 1        32 u64 secret of the table
//	10 u8  bits of a hash    40 u64 entries of removed keys
//	11 u8  0                 48 u64 rests of the coarsest segment
//	12 u32 identity length   56     identity of the ground truth
//	16 u64 change number
//
// then segments in the order of their prefixes, which cover all hashes:
//
//	0 u8 1   1 u8 depth   2 u16 0   4 u32 pages   8 u64 prefix   16 u64 slots in use
//	24 pages × 1024 u64: for each bucket the low 16 bits of its four slots, then
//	   for each four buckets the upper 4 bits of their sixteen slots
//
// then the end: u8 0, seven zeros, u64 entries, u64 xxHash of all bytes before.
//
// # Locks
//
// Filter.scanning (a token) comes first, then Filter.feeding (a token), then
// Filter.mu, a leaf. Readers take none.
package filter
