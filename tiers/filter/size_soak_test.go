//go:build soak

package filter_test

const soak = true
