package journal

import (
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
)

// A round is one turn of the committer: one write and at most one fdatasync for
// all who wait. All fields but the channels, and the errors once these are
// closed, are guarded by Journal.mu.
type round struct {
	wantSync bool
	settled  bool   // it is too late to ask for the sync
	end      place  // of what the round writes; set when it starts
	flags    uint32 // of a group to write in any case
	room     int64  // a record of this size waits for another segment
	final    bool

	done     chan struct{} // closed at the end of the round
	err      error         // of the write or sync
	spaceErr error         // why there is no other segment

	wrote    chan struct{} // closed after the write, or with done; nil if nobody waits for it
	wroteErr error
}

// nextRoundLocked returns the round that will begin next, and sees to it that
// it does.
func (j *Journal) nextRoundLocked() *round {
	if j.next == nil {
		j.next = &round{done: make(chan struct{})}
		if j.finished {
			j.next.err = ErrClosed
			close(j.next.done)
			r := j.next
			j.next = nil
			return r
		}
		select {
		case j.kick <- struct{}{}:
		default: // already on its way
		}
	}
	return j.next
}

// Append copies the parts, one after the other, as the payload of a new record
// and gives it its place in the one order. The record is in memory only: wait
// with Written or Sync. ReadAt finds it at once.
//
// Append keeps no reference to parts and does not allocate on the steady path.
// It waits while the buffer is full or the next segment is being made. When the
// quota less its reserve, or the disk, has no room it returns ErrFull, and
// nothing was appended.
func (j *Journal) Append(parts ...[]byte) (Pos, error) {
	return j.append(j.opt.ReserveBytes, parts)
}

// AppendReserved is Append with the right to the reserve of the quota. It is
// for what makes room: deletes and purges.
func (j *Journal) AppendReserved(parts ...[]byte) (Pos, error) { return j.append(0, parts) }

func (j *Journal) append(reserve int64, parts [][]byte) (Pos, error) {
	var n int64
	var crc uint32
	for _, p := range parts {
		n += int64(len(p))
		crc = crc32.Update(crc, castagnoli, p)
	}
	if n > j.maxPayload {
		return Pos{}, fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, n, j.maxPayload)
	}
	size := recordSize(n)
	j.mu.Lock()
	for {
		if err := j.admitLocked(size, reserve); err != nil {
			j.mu.Unlock()
			return Pos{}, err
		}
		if j.broken == nil && j.fitsSegmentLocked(size) && j.fitsBufferLocked(size) {
			pos := j.putLocked(n, crc, parts)
			j.mu.Unlock()
			return pos, nil
		}
		r := j.makeRoomLocked(size)
		j.mu.Unlock()
		<-r.done
		if r.spaceErr != nil {
			return Pos{}, r.spaceErr
		}
		if errors.Is(r.err, ErrReadOnly) {
			return Pos{}, fmt.Errorf("append: %w", ErrReadOnly)
		}
		j.mu.Lock()
	}
}

// admitLocked says why a record of size bytes cannot be taken, if it cannot.
func (j *Journal) admitLocked(size, reserve int64) error {
	if j.closed {
		return ErrClosed
	}
	if j.broken != nil && j.opt.Now().Before(j.retryAfter) {
		return fmt.Errorf("%w: %v; free or replace the disk of %s", ErrReadOnly, j.broken, j.opt.Dir)
	}
	left := j.opt.MaxBytes - j.retainedLocked()
	if j.fitsSegmentLocked(size) {
		left += j.freeLocked() - size
	} else {
		left -= segmentFor(size)
		if left >= 0 && j.noSpace != nil && j.opt.Now().Before(j.retryAfter) {
			return j.noSpace
		}
	}
	if left < reserve {
		return fmt.Errorf("%w: quota of %d bytes, %d kept for deletes; raise journal_max_bytes or let the backend catch up",
			ErrFull, j.opt.MaxBytes, j.opt.ReserveBytes)
	}
	return nil
}

// freeLocked is what the last segment still takes, beside the mark of its end.
func (j *Journal) freeLocked() int64 {
	if j.sealed {
		return 0
	}
	free := j.lastLocked().size - j.fillOff - int64(len(j.fill)) - groupBytes
	if len(j.fill) == 0 {
		free -= groupBytes
	}
	return max(0, free)
}

func (j *Journal) fitsSegmentLocked(size int64) bool { return !j.sealed && size <= j.freeLocked() }

func (j *Journal) fitsBufferLocked(size int64) bool {
	return len(j.fill) == 0 || int64(len(j.fill))+size <= int64(j.opt.BufferBytes)
}

// segmentFor is the size of a segment for one record of size bytes.
func segmentFor(size int64) int64 {
	return (firstOffset + 2*groupBytes + size + blockBytes - 1) &^ (blockBytes - 1)
}

// makeRoomLocked returns the round after which there is room, if there can be.
func (j *Journal) makeRoomLocked(size int64) *round {
	if j.running != nil && j.sealed && j.broken == nil {
		return j.running // it brings the next segment
	}
	r := j.nextRoundLocked()
	if !j.fitsSegmentLocked(size) {
		r.room = max(r.room, size)
	}
	return r
}

// putLocked adds the record to the group that fills.
func (j *Journal) putLocked(n int64, crc uint32, parts [][]byte) Pos {
	s := j.lastLocked()
	size := int(recordSize(n))
	if len(j.fill) == 0 {
		j.fill = slices.Grow(j.fill, groupBytes+size)[:groupBytes]
	}
	begin := len(j.fill)
	off := j.fillOff + int64(begin)
	b := slices.Grow(j.fill, size)[:begin+recordBytes]
	putRecord(b[begin:], recordMagic, n, crc, s.seed, off)
	for _, p := range parts {
		b = append(b, p...)
	}
	end := len(b)
	b = b[:begin+size]
	clear(b[end:])
	j.fill = b
	j.fillCount++
	s.end = j.fillOff + int64(len(b))
	s.set(off, n)
	j.liveRecords++
	j.liveBytes += n
	j.appended = true
	return Pos{Segment: s.number, Offset: uint32(off), Length: uint32(n)}
}

// Written returns when the record is handed to the operating system, so that it
// survives the end of this process by any cause, but not a power loss. Errors
// as of Sync.
func (j *Journal) Written(pos Pos) error {
	if place(j.written.Load()) >= pos.end() {
		return nil
	}
	r, err := j.join(pos, false)
	if r == nil {
		return err
	}
	<-r.wrote
	return r.wroteErr
}

// Sync returns when the record, and with it every older one, is on disk. All
// who wait at a time share one fdatasync.
//
// After ErrUnknown the caller knows nothing; the record keeps its place, see
// there. With ErrReadOnly beside it the journal has no file to write to.
func (j *Journal) Sync(pos Pos) error {
	if place(j.synced.Load()) >= pos.end() {
		return nil
	}
	r, err := j.join(pos, true)
	if r == nil {
		return err
	}
	<-r.done
	return r.err
}

// join returns the round to wait for, or nil and the answer.
func (j *Journal) join(pos Pos, sync bool) (*round, error) {
	end := pos.end()
	j.mu.Lock()
	defer j.mu.Unlock()
	reached := &j.written
	if sync {
		reached = &j.synced
	}
	if place(reached.Load()) >= end {
		return nil, nil
	}
	last := j.lastLocked()
	if end > at(last.number, last.end) || pos.IsZero() {
		return nil, fmt.Errorf("journal: wait for %v: %w", pos, ErrGone)
	}
	r := j.running
	if r == nil || end > r.end || sync && r.settled && !r.wantSync || !sync && r.settled {
		if j.finished {
			return nil, ErrClosed
		}
		r = j.nextRoundLocked()
	}
	r.wantSync = r.wantSync || sync
	if !sync && r.wrote == nil {
		r.wrote = make(chan struct{})
	}
	return r, nil
}

// Mark writes a group without records and syncs it. It makes durable how far
// everything is released, so that neither Replay gives those records again nor
// Oldest names them. It costs one fdatasync.
func (j *Journal) Mark() error {
	j.mu.Lock()
	if j.closed {
		j.mu.Unlock()
		return ErrClosed
	}
	r := j.nextRoundLocked()
	r.wantSync = true
	r.flags |= flagChecked
	j.mu.Unlock()
	<-r.done
	return r.err
}
