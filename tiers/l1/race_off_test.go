//go:build !race

package l1_test

const slow = 1
