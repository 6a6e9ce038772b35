package l1

import "testing"

// A shadow with queues keeps what was hit twice in the small one, lets go of the rest
// in order, and takes what comes back into the main one.
func TestShadowQueues(t *testing.T) {
	s := newShadow(way{small: 10}, 64, 1)
	v := shadowView{limit: 10 * (100 + shadowCharge), halfLives: 2, scorer: byFrequency{}}
	key := func(i int) uint64 { return uint64(i) * 0x9e3779b97f4a7c15 }
	access := func(i int) bool { v.tick++; return s.access(key(i), 100, 0, v) }
	f := func(first, last int, want bool) {
		t.Helper()
		for i := first; i <= last; i++ {
			if got := s.find(key(i)) >= 0; got != want {
				t.Errorf("%d is there: %v", i, got)
			}
		}
		if n := s.newest.count + s.main.count; n != len(s.items) || s.newest.bytes+s.main.bytes != int64(100*n) {
			t.Errorf("%d names and %d bytes of %d items", n, s.newest.bytes+s.main.bytes, len(s.items))
		}
	}
	for i := 1; i <= 10; i++ {
		access(i)
	}
	for range 2 {
		access(1)
		access(2)
	}
	f(1, 10, true)
	for i := 11; i <= 18; i++ {
		access(i)
	}
	f(1, 2, true)   // moved on
	f(3, 10, false) // left in order
	f(11, 18, true)
	access(3) // comes back: into the main queue, past what came once
	for i := 19; i <= 40; i++ {
		access(i)
	}
	f(1, 3, true)
	s.keep(1<<2 - 1)
	for i := range s.items {
		if !shared(s.items[i].hash, 3) {
			t.Errorf("%#x is not of the share", s.items[i].hash)
		}
	}
	f(41, 50, false)
	s.clear()
	f(1, 50, false)
}
