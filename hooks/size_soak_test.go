//go:build soak

package hooks_test

// Sizes of the campaigns in a soak.
const (
	hotReloadCalls = 12_000_000
	trappingCalls  = 20_000_000
	mutants        = 1_000_000
)
