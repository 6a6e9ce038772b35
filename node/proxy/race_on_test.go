//go:build race

package proxy

const (
	manyWaiters   = 1000    // for one fetch
	followedBytes = 1 << 20 // of an object that twenty follow
)
