//go:build !soak

package leak_test

const requests = 10_000
