// Package merkle keeps a tree of hashes over all live items, so that two nodes
// can prove that they hold the same, or find what differs with few questions.
//
// Begin with [New] and [Tree.Step], which brings the tree up to the change
// sequence, and [Diff]. Rows are kept by a [Store], read from a [Source]; both
// are the engine's. The package starts no goroutine and retries nothing: who
// calls Step, how often and under which lease is the engine's decision. It may be
// called by several nodes at once.
//
// # Format 1: paths
//
// An id is cut behind each separator (. / :); the last segment has none, and is
// empty if the id ends with one. The 64th segment takes the rest. So ids map to
// paths one to one, and a branch, whose path ends with its separator, holds
// exactly the ids that begin with that path:
//
//	uk.nhs:7   "uk." "nhs:" "7"
//	uk.        "uk." ""
//	uk         "uk"
//
// # Format 1: hashes
//
// All are SHA-256; len is 32 bits, numbers 64, big endian.
//
//	leaf  00 ‖ len id ‖ id ‖ version ‖ content hash ‖ meta
//	meta  02 ‖ len state ‖ state ‖ number of tags (32 bits), each len tag ‖ tag,
//	      in order ‖ len MIME ‖ MIME ‖ expiry (Unix ms, 0 is never) ‖ len
//	      response metadata ‖ response metadata
//	list  01 00 ‖ for each child in the order of bytes: len segment ‖ segment ‖ hash
//	fan   01 01 ‖ for each of 16 that is there: its number (8 bits) ‖ hash
//
// The hash of a child is its leaf, or the hash of its branch. Up to sixteen
// children are a list. More are a fan by the first four bits of
// SHA-256(segment), whose parts are lists or, by the next four bits, fans. So the
// shape is a function of the set of ids, whatever the history. No items, no hash.
//
// # Format 1: rows (little endian)
//
//	key    path ‖ one byte, 0 to 15, for each fan above ‖ number of fans above
//	list   u8 1 ‖ u8 1 ‖ u16 children ‖ each: u16 length ‖ segment ‖ hash ‖ u8 1 for
//	       an item, or u8 0 ‖ u64 items
//	fan    u8 1 ‖ u8 2 ‖ u16 which are there, by bits ‖ each: hash ‖ u64 children of
//	       the branch below it ‖ u64 items
//	state  (key empty) u8 1 ‖ u8 phase ‖ u64 serial ‖ u64 change number ‖ position
//
// The counts are not hashed.
package merkle
