//go:build !race && !slabpoison

package l1

func poison([]byte) {}
