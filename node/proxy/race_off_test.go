//go:build !race

package proxy

const (
	manyWaiters   = 10_000  // for one fetch
	followedBytes = 4 << 20 // of an object that twenty follow
)
