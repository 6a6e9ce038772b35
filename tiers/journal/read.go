package journal

import (
	"fmt"
	"hash/crc32"
	"slices"
)

// ReadAt appends the payload of the record at pos to dst and returns the
// extended slice; with an error, dst as it was. The payload's checksum is
// verified: ErrCorrupt tells that it did not fit, ErrGone that the journal does
// not hold the record. It finds a record from the moment Append returned.
//
// It costs one read of the file, or a copy if the record was not written yet.
// It allocates only when dst is too short for the payload and 16 bytes more.
func (j *Journal) ReadAt(dst []byte, pos Pos) ([]byte, error) {
	n := int(pos.Length)
	from, off := len(dst), int64(pos.Offset)
	j.mu.Lock()
	if j.finished {
		j.mu.Unlock()
		return dst, ErrClosed
	}
	s := j.segmentLocked(pos.Segment)
	if s == nil || off < firstOffset || off+recordSize(int64(n)) > s.end {
		j.mu.Unlock()
		return dst, fmt.Errorf("journal: read %v: %w", pos, ErrGone)
	}
	b := slices.Grow(dst, recordBytes+n)[:from+recordBytes+n]
	if mem := j.memoryLocked(s, off); mem != nil {
		copy(b[from:], mem)
		j.mu.Unlock()
	} else {
		h := j.acquireLocked(s)
		j.mu.Unlock()
		_, err := h.f.ReadAt(b[from:], off)
		j.release(h)
		if err != nil {
			return dst, fmt.Errorf("journal: read %v: %w", pos, err)
		}
	}
	h, ok := parseRecord(b[from:], s.seed, off, maxOffset)
	if !ok || h.skip || h.length != int64(n) || crc32.Checksum(b[from+recordBytes:], castagnoli) != h.crc {
		j.metrics.corrupted(1)
		return dst, fmt.Errorf("journal: read %v: %w", pos, ErrCorrupt)
	}
	copy(b[from:], b[from+recordBytes:])
	return b[:from+n], nil
}

// memoryLocked returns the bytes from off on if they are still in a buffer.
func (j *Journal) memoryLocked(s *segment, off int64) []byte {
	if s != j.lastLocked() {
		return nil
	}
	if i := off - j.fillOff; i >= 0 && i < int64(len(j.fill)) {
		return j.fill[i:]
	}
	if i := off - j.flightOff; i >= 0 && i < int64(len(j.flight)) {
		return j.flight[i:]
	}
	return nil
}

// Replay calls fn for every live record in the order of appending, once and
// before the first Append; otherwise it returns ErrReplayed. The payload is
// valid during the call only. fn may call Release and ReadAt. An error of fn
// ends Replay and is returned as it is.
//
// A crash may bring back records that had been released; they come in their
// order like all others. Replay reads the segments once more.
func (j *Journal) Replay(fn func(pos Pos, payload []byte) error) error {
	j.mu.Lock()
	if j.replayed || j.appended {
		j.mu.Unlock()
		return ErrReplayed
	}
	if j.closed {
		j.mu.Unlock()
		return ErrClosed
	}
	j.replayed = true
	segs := slices.Clone(j.segs)
	handles := make([]*handle, len(segs))
	for i, s := range segs {
		handles[i] = j.acquireLocked(s)
	}
	end := j.lastLocked().end
	j.mu.Unlock()
	defer func() {
		for _, h := range handles {
			j.release(h)
		}
	}()
	w := window{}
	for i, s := range segs {
		w = window{f: handles[i].f, size: s.size, buf: w.buf[:0]}
		if i == len(segs)-1 {
			w.size = end
		}
		if err := j.replaySegment(s, &w, fn); err != nil {
			return err
		}
	}
	return nil
}

func (j *Journal) replaySegment(s *segment, w *window, fn func(Pos, []byte) error) error {
	for off := int64(firstOffset); ; {
		j.mu.Lock()
		next, ok := s.next(off)
		j.mu.Unlock()
		if !ok || next >= w.size {
			return nil
		}
		payload, err := w.record(s.seed, next, maxOffset)
		if err != nil {
			j.metrics.corrupted(1)
			return fmt.Errorf("journal: replay segment %d: %w", s.number, err)
		}
		pos := Pos{Segment: s.number, Offset: uint32(next), Length: uint32(len(payload))}
		off = next + recordSize(int64(len(payload)))
		if err := fn(pos, payload); err != nil {
			return err
		}
	}
}
