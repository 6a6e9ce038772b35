//go:build !soak

package hooks_test

// Sizes of the campaigns: those that still fail on their defects.
const (
	hotReloadCalls = 400_000
	trappingCalls  = 100_000
	mutants        = 10_000
)
