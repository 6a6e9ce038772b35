// Package l1 is the memory tier: records by key within one budget of bytes.
//
// Begin with [Cache], its Get and Put. A record is the binary form of an item
// (item.View); the cache reads its key and version and nothing else. The caller
// hashes the key once and passes the hash.
//
// # Layout
//
//	hash ── high bits ──▶ shard                     one of 4 to 256
//	                        index: words of 8 bytes, open addressing
//	                        ┌─────────────┬───────────┐
//	                        │ low 32 bits │ number +1 │
//	                        └─────────────┴─────┬─────┘
//	                                            ▼
//	entries, shared by all shards, in pages     ┌──────────────────────────┐
//	of 256; 40 bytes each, without pointers     │ hash  heat  meta  place  │
//	                                            │ size  refs               │
//	                                            └─────────────────────┬────┘
//	                                                 chunk, slot      ▼
//	slab, shared by all shards      ┌────────┬────────┬────────┬────────┐
//	a chunk of class 1,248 bytes:   │ record │ record │  free  │ record │ …
//	                                └────────┴────────┴────────┴────────┘
//	                                owners: number of the entry, by slot
//	an extent, above a quarter      ┌───────────────────────────────────┐
//	of a chunk (64 KiB):            │ record                            │
//	                                └───────────────────────────────────┘
//
// The collector sees a few thousand chunks and pages and no item.
//
// # Readers
//
// A reader takes no lock. It probes the index, adds one to refs of the entry,
// and only then compares the key: what is pinned neither moves nor is reused. A
// writer that wants the bytes to itself closes the entry, which it can only
// while nobody reads it; a record that is replaced, deleted or evicted under a
// reader is condemned, and whoever leaves last frees it. A reader that found
// nothing checks by a sequence number that no words moved meanwhile, and else
// looks again with the lock held.
//
// # Lock order
//
//	shard.mu → class.mu, entries.mu, slab.mu
//
// The latter three are leaves: nothing is locked while one of them is held. No
// two shards are locked at once. Scorers, hooks, visitors and events are called
// with no lock held. hookQueue.mu is a leaf too.
//
// # What it does not do
//
// It does no I/O, starts no goroutine, and knows neither tiers nor rules. Time
// is given by the caller; expired entries are found when they are asked for or
// looked at for eviction, never by a scan.
package l1
