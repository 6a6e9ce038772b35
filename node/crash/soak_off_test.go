//go:build !soak

package crash_test

// soak says that nothing else is done on the machine: what is promised in seconds
// is kept in seconds.
const soak = false

// killCycles is how often TestA1_KillNine kills the node.
const killCycles = 25

// slowWrites is how much is written while SQL is slow, 8 KiB each.
const slowWrites = 8_000

// treeCycles is how often TestC14_KillNineAndTheTree does.
const treeCycles = 8

// seenRounds is how often TestC8_NodesSeeEachOther looks, and seenShare how many of
// 100 looks are in time at least.
const (
	seenRounds = 30
	seenShare  = 50
)

// linearRounds is how often TestB7_ThreeNodes goes through its outages.
const linearRounds = 1
