//go:build !soak

package crash_test

// killCycles is how often TestA1_KillNine kills the node.
const killCycles = 25

// slowWrites is how much is written while SQL is slow, 8 KiB each.
const slowWrites = 8_000

// treeCycles is how often TestC14_KillNineAndTheTree does.
const treeCycles = 8
