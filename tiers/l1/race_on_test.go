//go:build race

package l1_test

// slow is by how much tests do less under the race detector.
const slow = 4
