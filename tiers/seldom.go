package tiers

import "sync"

// A seldom lets a line into the log at most once in a while, however often its
// cause comes: a server that flaps does so many times a second. The zero value is
// ready; its lock is a leaf.
type seldom struct {
	mu   sync.Mutex
	next int64 // Unix ms
	kept uint64
}

const seldomEvery = 10_000 // ms

// now reports whether the line is written at this time, and how many were kept
// back since the last one.
func (s *seldom) now(milli int64) (kept uint64, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if milli < s.next {
		s.kept++
		return 0, false
	}
	kept, s.kept, s.next = s.kept, 0, milli+seldomEvery
	return kept, true
}
