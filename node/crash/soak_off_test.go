//go:build !soak

package crash_test

// killCycles is how often TestA1_KillNine kills the node.
const killCycles = 25
