package filter

import "github.com/edgenode/edgenode/tiers/item"

// Lose takes key out of the table, as no operation does, and reports whether it
// was there.
func (f *Filter) Lose(key item.Key) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	t := f.now.Load().table
	s, h := t.find(t.hash(key))
	bucket, rest := s.place(h)
	for flag, b := range []uint64{bucket, s.partner(bucket, rest)} {
		for lane := range lanes {
			if s.slot(b, lane) == slotOf(rest)|uint64(flag) {
				s.set(b, lane, 0)
				s.used--
				t.items.Add(^uint64(0))
				return true
			}
		}
	}
	return false
}
