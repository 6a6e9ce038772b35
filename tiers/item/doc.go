// Package item holds what every tier agrees on: keys, versions, the item with
// its metadata, and the one binary form in which the journal, memory and Redis
// keep it.
//
// Begin with [Item] and [View]. An Item is what a writer fills in; AppendTo
// turns it into a record; [Parse] checks the bytes of a record and returns a
// View, which reads single fields without decoding the rest.
//
// # Record, format 1 (little endian)
//
//	 0 u8   format = 1             64 [32] SHA-256 of the content
//	 1 u8   kind                   96 [16] entity tag (first half of a SHA-256)
//	 2 u8   tiers                 112 u64  access count
//	 3 u8   flags                 120 i64  last accessed, Unix ms
//	 4 u8   durability asked      128 u16  key length
//	 5 u8   state length          130 u16  MIME length
//	 6 u16  tag count             132 u16  batch id length
//	 8 u64  version               134 u16  traceparent length
//	16 u64  content version       136 u16  tracestate length
//	24 u64  metadata version      138 u16  home instance length
//	32 i64  updated at, Unix ms   140 u32  response metadata length
//	40 i64  expires at, Unix ms   144 u32  length of all tags
//	48 i64  L1 lifetime, ms       148 u32  content length
//	56 i64  L2 lifetime, ms       152      key, state, MIME, batch id,
//	                                       traceparent, tracestate, home
//	                                       instance, tags (u16 length, bytes),
//	                                       response metadata, content
//
// A rule (see [Rule]) begins with the same two bytes and goes on differently:
//
//	2 u8 operation   4 u8 namespaces   8 u64 version      24 u32 value count
//	3 u8 predicate   5 three zeros    16 i64 created, ms  28 scope, then each
//	                                                         value: u32 length, bytes
//
// The package does no I/O, starts no goroutine and imports nothing of ours.
package item
