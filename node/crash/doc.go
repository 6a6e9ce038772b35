// Package crash holds tests only: of the real binary as a process of its own,
// which is killed, told to stop, refused its directory, and run out of disk.
//
// A ledger outside the process notes what the node acknowledged over HTTP; after
// a restart on the same directory the node must stand by all of it.
//
// EDGENODE_BIN names the binary; without it the tests build one.
package crash
