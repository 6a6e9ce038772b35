//go:build !soak

package tiers_test

const soak = false
