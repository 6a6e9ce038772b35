//go:build soak

package leak_test

const requests = 100_000
