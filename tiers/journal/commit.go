package journal

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
)

// commit is the committer: the one goroutine that writes to segments. Each turn
// takes the group that filled up while the last turn was at the disk.
func (j *Journal) commit() {
	defer j.tasks.Done()
	for {
		select {
		case <-j.kick:
			for j.turn() {
			}
		case <-j.stop:
			return
		}
	}
}

// turn runs the round that is wanted, and reports false if there is none.
func (j *Journal) turn() bool {
	// Let those whom the last round woke append first: the group becomes
	// theirs too, instead of the quickest one's alone.
	runtime.Gosched()

	j.mu.Lock()
	r := j.next
	if r == nil {
		j.mu.Unlock()
		return false
	}
	next := j.segmentForRound(r)
	j.next, j.running = nil, r
	if j.broken != nil && !j.retryLocked(r) {
		j.endLocked(r)
		return true
	}
	rotate := next != nil
	released := j.sealLocked(r, rotate)
	s, b, off := j.lastLocked(), j.flight, j.flightOff
	j.mu.Unlock()

	synced, err := j.write(r, s, b, off, rotate)
	if err != nil {
		synced = true
		r.err = j.moveAway(s, b, off, err)
	}

	j.mu.Lock()
	if !errors.Is(r.err, ErrReadOnly) {
		j.written.Store(uint64(r.end))
		if synced {
			j.synced.Store(uint64(r.end))
			j.durableReleased = released
		}
		j.dropFlightLocked()
		if rotate {
			j.installLocked(next)
		}
	}
	j.endLocked(r)
	return true
}

// segmentForRound returns the segment to go on in, if r needs another one. It
// is called with mu held and lets go of it meanwhile; only the committer takes
// rounds, so that r stays the next.
func (j *Journal) segmentForRound(r *round) *segment {
	full := r.room > 0 && !j.fitsSegmentLocked(r.room)
	if !full && (!j.sealed || r.flags == 0) {
		return nil
	}
	room := r.room
	j.mu.Unlock()
	next, err := j.nextSegment(room)
	j.mu.Lock()
	r.spaceErr = err
	return next
}

// sealLocked makes the group that fills the one in flight, and returns the
// release point that it carries.
func (j *Journal) sealLocked(r *round, rotate bool) place {
	s, b := j.lastLocked(), j.fill
	flags := r.flags
	released := j.releasePointLocked()
	if len(b) == 0 && flags != 0 && !j.sealed {
		b = slices.Grow(b, 2*groupBytes)[:groupBytes]
		if s.size-j.fillOff < 2*groupBytes {
			flags |= flagLast // the mark takes the place kept for the last one
		}
	}
	if j.liveRecords == 0 {
		released = at(s.number, j.fillOff+int64(len(b)))
	}
	h := groupHeader{
		synced: place(j.synced.Load()), released: released, written: j.opt.Now().UnixMilli(),
	}
	if len(b) > 0 {
		h.flags, h.length, h.count = flags, uint32(len(b)-groupBytes), j.fillCount
		putGroup(b, h, s.seed, j.fillOff)
		j.sealed = flags&flagLast != 0
	}
	if rotate && !j.sealed {
		n := len(b)
		b = slices.Grow(b, groupBytes)[:n+groupBytes]
		h.flags, h.length, h.count = flagLast, 0, 0
		putGroup(b[n:], h, s.seed, j.fillOff+int64(n))
		j.sealed = true
	}
	j.flight, j.flightOff = b, j.fillOff
	j.fill, j.emptyBuf = j.emptyBuf[:0], nil
	j.fillCount = 0
	j.fillOff += int64(len(b))
	s.end = j.fillOff
	r.end = at(s.number, s.end)
	return released
}

// write writes the group in flight and syncs it if anybody asks for that. It
// reports whether it did.
func (j *Journal) write(r *round, s *segment, b []byte, off int64, rotate bool) (bool, error) {
	if len(b) > 0 {
		if _, err := s.h.f.WriteAt(b, off); err != nil {
			return false, fmt.Errorf("write: %w", err)
		}
		j.metrics.wrote(len(b))
	}
	j.mu.Lock()
	j.written.Store(uint64(r.end))
	if r.wrote != nil {
		close(r.wrote)
	}
	sync := r.wantSync || rotate
	r.settled = true
	j.mu.Unlock()
	if !sync {
		return false, nil
	}
	begin := j.metrics.begin()
	if err := s.h.f.Datasync(); err != nil {
		return false, fmt.Errorf("sync: %w", err)
	}
	j.metrics.synced(begin)
	return true, nil
}

// dropFlightLocked is called when the group in flight is where it should be.
func (j *Journal) dropFlightLocked() {
	keep := j.flight[:0]
	if cap(keep) > j.opt.BufferBytes+j.opt.BufferBytes/2 {
		keep = nil // it grew for one large record
	}
	j.flight, j.emptyBuf = nil, keep
}

// installLocked goes on in next, which was the spare.
func (j *Journal) installLocked(next *segment) {
	j.spare = nil
	j.segs = append(j.segs, next)
	j.segBytes += next.size
	j.fillOff = next.end
	j.sealed = false
	if j.retireLocked() {
		j.wakeHouse()
	}
}

// endLocked gives all who wait for r their answer. It unlocks mu.
func (j *Journal) endLocked(r *round) {
	j.running = nil
	if r.wrote != nil && !r.settled {
		r.wroteErr = r.err
		close(r.wrote)
	}
	if r.final {
		j.finished = true
		if n := j.next; n != nil {
			j.next = nil
			n.err, n.wroteErr = ErrClosed, ErrClosed
			if n.wrote != nil {
				close(n.wrote)
			}
			close(n.done)
		}
	}
	s := j.lastLocked()
	if j.spare == nil && j.fillOff > s.size/4 && !j.finished {
		j.wakeHouse()
	}
	j.mu.Unlock()
	close(r.done)
}
