// Package journal is the log that makes an acknowledged write durable before
// any tier has it: segmented, append-only, with group commit. Payloads are
// opaque bytes. Begin with Open, Journal.Append and Journal.Sync; DESIGN.md says
// what survives what, and why.
//
// It does not know items, does not order by anything but the order of Append,
// and keeps no index: the caller keeps the Pos of what it needs.
//
// # Guarantee
//
// After Sync(pos) returned nil, the record and all older ones that were not
// released are given by Replay, exact and in order, whatever power loss or crash
// came between. After Written(pos) the same is true for the end of the process
// alone. Replay never gives a record that was not appended, nor one behind a
// missing one, unless Open reported damage. A record whose Sync failed with
// ErrUnknown may be there or not. Released records may come back.
//
// # Format 1
//
// All numbers are little endian. A directory holds segments named by their
// number in ten digits and ".journal"; *.tmp are remains and removed by Open;
// *.damaged are segments of which nothing could be read.
//
// A segment is a header, in two copies, and groups one behind the other, padded
// by zeros or, in a recycled file, by remains of another segment:
//
//	     0  header
//	  4096  the same header
//	  8192  group, group, group ...
//
//	header, 128 bytes (magic, format, version and CRC stay in later formats)
//	  0  8  "EDGEJRNL"
//	  8  4  format, 1
//	 12  4  number of the segment
//	 16  4  salt, random
//	 20  4  1 if the file held another segment before, else 0
//	 24  8  created, Unix ms
//	 32  8  bytes of the file
//	 40 32  version of the writer, padded by zeros
//	 72 52  0
//	124  4  CRC-32C of the 124 bytes before
//
//	group, 48 bytes and records
//	  0  4  "ERG1"
//	  4  4  flags: 1 clean end, 2 last in segment (no records), 4 opened, 8 mark
//	  8  4  bytes of the records behind
//	 12  4  number of the records behind
//	 16  8  synced: end of what was known to be on disk: offset, segment
//	 24  8  released: all records before are released: offset, segment
//	 32  8  written, Unix ms
//	 40  4  0
//	 44  4  CRC-32C of the 44 bytes before, begun with seed XOR offset
//
//	record, a multiple of 16 bytes
//	  0  4  "ERR1", or "ERS1": nothing, the tail was cut here
//	  4  4  bytes of the payload
//	  8  4  CRC-32C of the payload
//	 12  4  CRC-32C of the 12 bytes before, begun with seed XOR offset
//	 16     payload, padded by zeros
//
// seed is the CRC-32C of number and salt. So the checksum of a record covers its
// segment, its offset and, by the checksum within, its payload.
//
// # Goroutines
//
// Open starts two, Close ends them. The committer alone writes to segments: in
// turns, each of one write and at most one fdatasync for all who wait. The
// housekeeper prepares the next segment and deletes or recycles released ones.
//
// # Locks
//
// In the order of taking: Journal.house, held while files are made, moved and
// removed; Journal.mu, a leaf, under which no I/O is done. Who waits for a round
// waits on its channel, with no lock held.
package journal
