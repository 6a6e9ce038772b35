//go:build race

package l3_test

// bulkItems is the size of a bulk delete under test.
const bulkItems = 2_000
