// Package item holds what every tier agrees on: keys, versions, the item with
// its metadata, and the one binary form in which the journal, memory and Redis
// keep it.
//
// Begin with [Item] and [View]. An Item is what a writer fills in; AppendTo
// turns it into a record; [Parse] checks the bytes of a record and returns a
// View, which reads single fields without decoding the rest.
//
// # Record, format 2 (little endian)
//
//	 0 u8  format = 2              8 u64 version
//	 1 u8  kind                   16 u32 content length
//	 2 u4  tiers, u4 durability   20 u16 where the response metadata begins
//	 3 u8  flags                  22 u16 response metadata length
//	 4 u16 what is there, by bit  24     what is there of the following
//	 6 u16 key length
//
//	bit 1  [32] SHA-256 of the content     bit  9  u64 access count,
//	bit 0  [16] entity tag                         i64 last accessed, Unix ms
//	bit 2  i64  expires at, Unix ms        bit 10  MIME type
//	bit 3  u16 and u16: the high halves    bit 11  state
//	       of the numbers at 20 and 22     bit 12  batch id
//	       key                             bit 13  traceparent, tracestate
//	bit 4  u64  content version            bit 14  home instance
//	bit 5  u64  metadata version           bit 15  tags
//	bit 6  i64  updated at, Unix ms                response metadata
//	bit 7  i64  L1 lifetime, ms                    content
//	bit 8  i64  L2 lifetime, ms
//
// Content version and metadata version are there if they are not the version,
// updated at if it is not the version's millisecond, the others if they are not
// zero or empty. What a hit reads is found without a walk over the others: the
// key is behind 24 bytes and what bits 0 to 3 say, the content is at the end.
//
// A short number is one byte below 128, or up to 32,511 two, 128 and the high bits
// and then the low ones, or else 255 and a u32. State, batch id, traceparent and
// tracestate are a short number, their length, and their bytes. The MIME type is one byte, its place in
// the table of mime.go, or a zero byte and a text like these. The home instance is
// a short number, twice its length, and its bytes, or 1 and the 16 bytes of a UUID.
// The tags are a short number, how many there are, and each of them twice its
// length as a short number and its bytes; or, for a tag that ends with a part of
// the key, twice the length of what is before that part, plus one, these bytes,
// and as short numbers where in the key the part begins and how long it is. So
// the URL that is in a key is not there once more as a tag.
//
// # Record, format 1 (little endian)
//
// Nobody writes it; Parse turns it into the newest.
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
// # Rule, format 1 (little endian)
//
// A rule (see [Rule]) begins with two such bytes and goes on differently:
//
//	2 u8 operation   4 u8 namespaces   8 u64 version      24 u32 value count
//	3 u8 predicate   5 three zeros    16 i64 created, ms  28 scope, then each
//	                                                         value: u32 length, bytes
//
// The package does no I/O, starts no goroutine and imports nothing of ours.
package item
