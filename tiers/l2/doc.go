// Package l2 keeps copies of items in Redis: one key per item, its value and
// its end set in one command, and only if nothing newer is there.
//
// Begin with [Open], [Store.Apply] and [Store.Get]. Whether what Redis holds may
// be believed is the engine's decision; for it there are [Store.Generation],
// [Store.Probe] and the [Mark]. Sweep and Evict are bounded background work.
// The package starts no goroutine of its own and decides nothing about retries.
//
// # Addresses
//
//	redis://user:password@host:6379/0       one server; rediss:// with TLS
//	unix:///run/redis.sock?db=0             one server
//	redis+sentinel://h1,h2:26379/master/0   the master that sentinels name
//	redis+cluster://h1,h2:6379              a cluster; any of its nodes
//
// rediss+sentinel:// and rediss+cluster:// use TLS. User and password may have
// %-escapes; they are those of the servers, not of the sentinels.
//
// # Keys
//
//	prefix { storage key }   an item; what belongs to it later begins the same
//	prefix mark              the mark
//	prefix tree              a copy of the tree of hashes: a hash, see TreeRows
//	prefix tree-lease        who writes it
//
// The storage key is item.Key.StorageKey with 0xff 0x01 for '}' and 0xff 0x02
// for 0xff. So the braces hold the whole storage key, which is what Redis
// Cluster hashes, and distinct keys stay distinct.
//
// # Value, format 2 (big endian)
//
//	 0 u8   format = 2
//	 1 u64  version           \
//	 9 u64  content version    | the registers: in every format at this place
//	17 u64  metadata version  /
//	25 i64  end of this copy, Unix ms
//	33      the record of the item or tombstone (package item, which is little
//	        endian); a fence has none
//
// The registers are compared as 24 bytes; if they are equal, the content hash
// decides: it is in the record, bytes 57 to 88 of the value if bit 1 of byte 37 is
// set, zeros if there is none. A metadata version of 0 counts as the content version.
//
// A fence is what OpDrop leaves for a short time: nothing is there, and what is
// older than its registers is not let in.
//
// Format 1 is the same around a record of format 1, which has the content hash at
// bytes 97 to 128 of the value. It is read like one of format 2, and overwritten
// by what is newer; nobody writes it.
//
// What is of no known format is a miss. It is never overwritten, but removed by
// what is newer: so do binaries that know format 1 only with what is of format 2.
//
// # Mark, format 1 (big endian)
//
//	0 u8   format = 1
//	1 u64  change number
//	9      identity of the L3, up to 256 bytes
//
// # Locks
//
// Store.evictMu is held for a call of Evict. servers.mu is a leaf.
package l2
