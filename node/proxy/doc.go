// Package proxy is the shared HTTP cache in front of origins (RFC 9111): it
// answers requests for configured sites from the engine, or fetches, stores and
// passes on what the origin says.
//
// Begin with [Proxy.Serve]. A GET reads top to bottom: Serve finds the site and
// builds the key, seek looks it up, sendFound answers if what is stored may be
// used, else fill joins or begins a flight, one fetch for all who ask the same.
// A flight judges the answer, stores it and hands it to those who may have it.
// Everything else passes: see pass.
//
// What never happens: an answer that is private, or was made for a request with
// Authorization or with cookies in it (unless its fields or the site say
// otherwise), or has Vary: *, is given to anybody but the client that asked. That is decided before a
// waiting request gets a byte.
//
// # Order of authority
//
// First the rules above; then the operator's configuration; then the Policy; then
// the origin's freshness. A Policy may always shorten, forbid storing and add
// tags. It may lengthen a lifetime only of an answer that may be shared and has
// none of must-revalidate, proxy-revalidate, no-cache, s-maxage and no-store,
// unless the site's AllowOverride names it.
//
// A Policy may also change header fields (see edited): those of a request before
// anything looks at them, so that the rules above judge what the origin is asked;
// those of an answer when it is sent, never what is stored. Authorization that
// the client sent counts even if it is removed.
//
// # Purges
//
// A fetch takes the engine's stamp before its request leaves. The engine
// refuses to store what a newer rule covers; a 304 renews an answer only if no
// newer rule covers its tags, old or new; a waiter does not get an answer that
// a rule newer than the stamp covers. Every stored object carries implicit tags
// (first byte 0x01): "\x01u:" and its URL by the site's query rules ("\x01p:"
// for the answer to a POST), once more for the URL before a rewriting,
// "\x01h:" and the host name, and for each of its Cache-Groups (RFC 9875)
// "\x01g:", the origin, "/" and the group.
//
// # Stored forms (little endian)
//
// What another process may read, in Redis or SQL, has format 1. An answer for memory
// alone has the compact form, format 2, at the end of this section; a snapshot of
// memory has both.
//
// The key is 's', the site's name, a zero byte, scheme://host/path?query; then,
// if a Policy added to the key, "\0a", its length as u16 and the addition; then,
// for a variant, "\0v" and its hash. The content is the body. The response metadata of an
// answer:
//
//	 0 u8  format = 1          40 i64 stale-if-error window, ms
//	 1 u8  kind = 1            48 i64 Date, Unix ms
//	 2 u16 status              56 i64 Last-Modified, Unix ms; -2^63 unknown
//	 4 u32 flags               64 u32 length of the header lines
//	 8 i64 received, Unix ms   68 u32 where ETag's value begins in them
//	16 i64 initial age, ms     72 u32 its length, 0 none
//	24 i64 lifetime, ms        76 u32 length of the nominated names
//	32 i64 stale-while-        80 u32 length of the Cache-Status note
//	       revalidate, ms      84 u32 zero
//	                           88     header lines (name, ": ", value, CRLF),
//	                                  names of Vary, note
//
// Flags: 1 no-cache, 2 never stale, 4 lifetime guessed, 8 stale-if-error given,
// 16 answer to a POST, 32 in parts. The version of the item is the fetch's stamp, its expiry
// is freshness + the largest stale window + keep.
//
// Where answers have Vary, the first variant lies under the base key. Its kind is 7,
// and behind the note stands its hash. When a second variant comes, or if the first is
// in parts, larger than a chunk or selected by its language, each lies under its own
// key as kind 1, and the base key holds an index with empty content:
//
//	0 u8  format = 1          16     specs: u16 length, sorted lower-case names
//	1 u8  kind = 3                   joined by commas
//	2 u16 specs                      variants, 56 bytes each: [16] hash, [16]
//	4 u32 variants                   language hash, u64 number of its spec, i64
//	8 i64 expires, Unix ms           stored, i64 expires, both Unix ms
//
// Where an answer is in parts, its flags have 32 and its content is a manifest,
// whose version is that of the record:
//
//	0 u8  format = 1          16 i64 chunk size, bytes
//	1 u8  kind = 5            24 u64 generation: the stamp of the first fetch
//	2 u16 zero                32     runs, 16 bytes each, ascending and apart:
//	4 u32 runs                       i64 first byte, i64 byte behind the last
//	8 i64 length of the whole, -1 unknown
//
// A run is stored in segments that begin at its first byte and at multiples of
// the chunk size, each an item: its key is 'c', the first half of SHA-256 over
// the record's key after its namespace, the generation and the first byte, both
// as big endian u64; its metadata u8 format = 1, u8 kind = 6, two zeros,
// u32 SiteMark of its site (0 in former versions), the generation and the first byte; its content at least the bytes that the run
// names. A segment is only reachable through a manifest: what a purge, an expiry
// or a newer record takes from view is gone with it. It has the tags of the
// record too, so that a purge frees its room, and outlives the record it was
// stored with, so that a 304 renews the record alone.
//
// What the origin took back has in its place, until it would have left, a record
// of u8 format = 1, u8 kind = 4, two zeros and without content. It is a miss.
//
// A variant's hash is the first half of SHA-256 over its spec and, for each
// name, u8 1 and u32 length and the normalised value, or five zeros if the
// request has no such field. The language hash has, in place of Accept-Language,
// u8 2, u32 length and the answer's Content-Language; it is zero if it has none or
// several, or if Accept-Language is not nominated. Other forms are misses.
//
// The compact form of an answer is never sent or written to another place than the
// snapshot of memory:
//
//	 0 u8  format = 2           16 u32 lifetime
//	 1 u8  kind = 1 or 7        20 u8  length of ETag's value, 0 none
//	 2 u16 status               21 u8  length of the nominated names; 255: those
//	 4 u16 flags and bits              of the block
//	 6 u16 length of the lines  22 u16 slot of the block
//	 8 u48 received, Unix ms    24     by bit: u64 number of the block, u32 initial
//	14 u16 where ETag's value          age, stale-while-revalidate, stale-if-error,
//	       begins in them              Date, Last-Modified; then lines, names, and
//	                                   for kind 7 the hash
//
// Bits: 64 lifetime and windows are s, else ms; 128 … 2048 the five u32, the first in
// ms, the last two in Unix s; 4096 the block; 8192 and 16384 the lines of Date and
// Last-Modified are made of those; 32768 nothing in the URL is escaped in the
// Cache-Status note, which is made of the key. What does not fit has format 1.
//
// The other lines of the answer are those of its block, which many answers share (see
// blocks). If another block lies in the slot, or none, the answer is a miss.
//
// # Locks
//
// blocks.mu and line.mu are leaves. ahead.mu before Proxy.mu before flight.mu before packer.mu. A part lock before an index lock;
// both are taken with none of the others held. The engine is called with no lock
// held but these two.
package proxy
