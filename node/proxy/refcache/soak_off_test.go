//go:build !soak

package refcache_test

const exchanges = 10_000
