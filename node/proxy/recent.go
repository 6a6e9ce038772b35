package proxy

import "sync/atomic"

// recent remembers when variants were used, in turns, as well as a table of
// fixed size can: a forgotten use makes a variant look older. It is safe for
// concurrent use.
type recent struct {
	turn  atomic.Uint64
	slots [recentSlots]struct{ hash, turn atomic.Uint64 }
}

const recentSlots = 4096

func (r *recent) touch(hash []byte) {
	h := le.Uint64(hash)
	s := &r.slots[h%recentSlots]
	s.hash.Store(h)
	s.turn.Store(r.turn.Add(1))
}

// used returns the turn of the last use of a variant, 0 if it is not known.
func (r *recent) used(hash [hashLen]byte) uint64 {
	h := le.Uint64(hash[:])
	s := &r.slots[h%recentSlots]
	if s.hash.Load() != h {
		return 0
	}
	return s.turn.Load()
}

// lonely remembers for a while the requests whose answers cannot be shared, so
// that others of the kind do not wait for each other. It forgets early when its
// table of fixed size is crowded. It is safe for concurrent use.
type lonely struct {
	slots [lonelySlots]struct {
		class atomic.Uint64
		until atomic.Int64 // Unix ms
	}
}

const (
	lonelySlots  = 8192
	lonelyMillis = 120_000
)

func (l *lonely) add(class uint64, now int64) {
	s := &l.slots[class%lonelySlots]
	s.class.Store(class)
	s.until.Store(now + lonelyMillis)
}

func (l *lonely) remove(class uint64) {
	if s := &l.slots[class%lonelySlots]; s.class.Load() == class {
		s.until.Store(0)
	}
}

func (l *lonely) has(class uint64, now int64) bool {
	s := &l.slots[class%lonelySlots]
	return s.class.Load() == class && s.until.Load() > now
}
