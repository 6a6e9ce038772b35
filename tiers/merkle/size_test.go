//go:build !soak

package merkle_test

const soak = false
