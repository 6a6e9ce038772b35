//go:build race

package l2_test

const sweepItems = 10_000
