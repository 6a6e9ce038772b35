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
//	slab, shared by all shards, of  ┌────────┬────────┬────────┬────────┐
//	memory outside the heap; a      │ record │ record │  free  │ record │ …
//	chunk of class 1,248 bytes:     └────────┴────────┴────────┴────────┘
//	                                owners: number of the entry, by slot
//	an extent, above a quarter      ┌───────────────────────────────────┐
//	of a chunk (64 KiB):            │ record                            │
//	                                └───────────────────────────────────┘
//
// The collector sees a few thousand chunks and pages and no item.
//
// # Readers
//
// A reader takes no lock: it loads a word of the index, adds one to refs of the
// entry named there, and only then reads the place, the record and its key. This
// is safe although word, entry and slot may have changed hands in between:
//
//  1. An entry and its slot always have one owner: the free list; the goroutine
//     that took them from there or seized the entry; the index of one shard; or,
//     condemned, the readers who are left. All but the index hold it closed.
//  2. A put fills hash, place, size and bytes as the owner, writes the word, and
//     then opens the entry, all that is in the index under the shard's lock: an
//     entry that a reader can pin is whole, and is the one of its key.
//  3. To pin is one atomic addition that returns the state: if the entry was
//     open, it stays what it is until the pin is let go; if it was closed, the
//     reader takes its one away and has read nothing. Such a passing one
//     delays a seizure or an eviction, and does no other harm.
//  4. Who wants an open entry to itself, to overwrite or to move the record,
//     holds the shard's lock and seizes it by a swap of refs from 0, which fails
//     while anybody has it pinned; the bytes of a pinned record never change.
//  5. Replaced, deleted or evicted, an entry first leaves the index and is then
//     condemned; of all who see condemned without readers, one swap to closed
//     succeeds, and that one frees slot and entry, once.
//  6. A reader with a word of an earlier life pins what the entry is now, and
//     compares the whole hash and the key: what matches is the record of this
//     key, and was its newest at some moment of the call.
//  7. What does not match, or is closed, proves nothing: a word that is
//     overwritten or moves changes seq, before what it named is condemned, and
//     a reader that found nothing while seq changed or was odd looks again with
//     the lock held. New words need no change of seq: they only turn empty
//     places into others, and an index that was outgrown is never written again.
//  8. A chunk is taken out of the table only when no slot of it is owned, so
//     that the place of a pinned entry leads to its bytes, by an older copy of
//     the table too; what is reached by a place of an entry that is not pinned is
//     used to rank candidates, and looked at again under the lock. The bytes
//     themselves are read by nobody but who has the entry pinned, or the lock of
//     the shard that names it: they may have gone back to the system.
//  9. Pages of entries never move; one that is given back has all its entries on
//     the free list, and both it and the page in its place are closed for good.
//  10. All these fields are atomics, which order the plain bytes of records too:
//     written before the entry opens and read after the pin; read before the
//     unpin and written after the seizure or the freeing that saw it.
//
// # Lock order
//
//	shard.mu → class.mu, entries.mu, slab.mu, queues.mu, memory.mu
//
// The latter five are leaves: nothing is locked while one of them is held; so is
// members.mu, under which nothing but atomics is looked at. No two shards are
// locked at once. Scorers, hooks, visitors and events are called with no lock held,
// but that the native scorer is called under duel.mu, and that Namespaces.Of is
// called under shard.mu when namespaces have just changed. This and
// hookQueue.mu are leaves too. Cache.hooking, for changes of hooks and namespaces,
// comes before all of them.
//
// # Snapshot, format 1 (little endian)
//
//	 0 "edgel1sn"            16 u64 change number       40 u64 0
//	 8 u16 format = 1        24 u64 its version         48 identity
//	10 u16 0                 32 u64 number of the file     u64 xxHash of all before
//	12 u32 identity length
//
// then blocks, each at least one record and at most 256 KiB of them:
//
//	 0 u32 bytes   4 u32 records   8 u64 xxHash of the bytes
//	16 u64 xxHash of 0..16, the file's number and the block's
//	24 records: u32 length, u32 hits and frequency, u64 end in ms << 16 | 1 if
//	   stale (all ones above for never), the record
//
// then an end: a block of 0 bytes, with the number of all records for its hash. A
// block is verified when it is read: a corrupt one is left out.
//
// # What it does not do
//
// It does no I/O but on the files that it is given, starts no goroutine, and knows neither tiers nor rules. Time
// is given by the caller; expired entries are found when they are asked for or
// looked at for eviction, never by a scan.
package l1
