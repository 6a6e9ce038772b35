package filter

import (
	"sync"
	"testing"
)

// An entry that moves to and fro between its two buckets is there whenever
// somebody asks.
func TestMovesHideNothing(t *testing.T) {
	s := newSegment(0, 0, 24, 1)
	h := uint64(0)
	for ; ; h++ { // one whose buckets are two
		if b, rest := s.place(h); s.partner(b, rest) != b {
			break
		}
	}
	if !s.add(h) {
		t.Fatal("no room in an empty segment")
	}
	const asks = 200_000
	var readers sync.WaitGroup
	stop := make(chan struct{})
	readers.Go(func() {
		defer close(stop)
		for i := range asks {
			if !s.has(h) {
				t.Errorf("denied at question %d", i)
				return
			}
		}
	})
	for moves := 0; ; moves++ {
		select {
		case <-stop:
			readers.Wait()
			t.Logf("%d moves beside %d questions", moves, asks)
			return
		default:
		}
		from, rest := s.place(h)
		to := s.partner(from, rest)
		if moves%2 == 1 {
			from, to = to, from
		}
		if !s.moveAlong([]node{{bucket: from, parent: -1}, {bucket: to, parent: 0}}) {
			t.Fatal("the move was not done")
		}
	}
}

// The protocol by which a reader notices that an entry may have passed behind
// its back: too rare to be met by chance.
func TestMovesAreNoticed(t *testing.T) {
	s := newSegment(0, 0, 24, 1)
	s.add(7)
	from, rest := s.place(7)
	to, before := s.partner(from, rest), s.moves.Load()
	if !s.moveAlong([]node{{bucket: from, parent: -1}, {bucket: to, parent: 0}}) || s.moves.Load() != before+2 {
		t.Errorf("a move took the counter from %d to %d, want 2 more", before, s.moves.Load())
	}
	if s.has(8) || !s.has(7) {
		t.Error("wrong at rest")
	}
	s.moves.Add(1)
	if !s.has(8) {
		t.Error("denied while an entry is between two buckets")
	}
}
