//go:build race || slabpoison

package l1

// poison overwrites a slot that was let go, so that whoever still reads it is
// found by what it reads, in every test that runs with the race detector.
func poison(slot []byte) {
	for i := range slot {
		slot[i] = 0xdb
	}
}
