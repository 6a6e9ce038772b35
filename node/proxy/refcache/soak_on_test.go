//go:build soak

package refcache_test

const exchanges = 100_000
