package journal

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
)

// scan is what reading one segment from front to back found. Live bits are set
// in seg for every valid record.
type scan struct {
	seg      *segment
	limit    int64 // size that the header says; a truncated file has less
	recycled bool
	flawed   bool // its header or its size is damaged
	adopted  bool

	w        window
	groups   int
	orphans  int    // records found without their group's header
	synced   place  // the greatest synced end of a valid group
	released place  // the greatest release point of a valid group
	clean    bool   // the last group is the mark of Close
	last     bool   // the log goes on in the next segment
	damage   []torn // in order
	stale    int64  // end of what must be overwritten when the tail is cut
	garbage  int64  // end of the bytes behind the log that are not zero, of a fresh file
	cutGroup int64  // end of the group that the cut is in, or 0
}

// torn is a stretch that is not what a writer leaves.
type torn struct {
	from, to int64
	group    int64 // end of the group it is in, or 0 if the group's header is torn too
	what     string
}

// holds reports whether anything of the log is in the segment.
func (sc *scan) holds() bool { return sc.groups > 0 || sc.orphans > 0 }

func (sc *scan) run() error {
	s := sc.seg
	sc.w = window{f: s.h.f, size: s.size}
	off := int64(firstOffset)
	for !sc.last {
		b, err := sc.w.at(off, groupBytes)
		if err != nil {
			return err
		}
		if h, ok := sc.groupAt(b, off, sc.limit); ok {
			if off, err = sc.group(h, off); err != nil {
				return err
			}
			continue
		}
		found, err := sc.search(off, sc.limit, true)
		if err != nil {
			return err
		}
		if found < 0 {
			break
		}
		sc.damage = append(sc.damage, torn{from: off, to: found, what: "group header"})
		if off, err = sc.orphaned(found); err != nil {
			return err
		}
	}
	s.end = off
	sc.stale = max(sc.stale, off)
	if sc.last || sc.recycled {
		return nil
	}
	return sc.findGarbage(off)
}

// groupAt parses the header of the group at off. One that speaks of what comes
// behind it, or ends the segment and has records, was not written by a journal.
func (sc *scan) groupAt(b []byte, off, limit int64) (groupHeader, bool) {
	h, ok := parseGroup(b, sc.seg.seed, off, limit)
	if !ok || h.flags&flagLast != 0 && h.length > 0 || h.synced > at(sc.seg.number, off) ||
		h.released > at(sc.seg.number, off+groupBytes+int64(h.length)) {
		return groupHeader{}, false
	}
	return h, true
}

// group reads the records of the group at off and returns its end.
func (sc *scan) group(h groupHeader, off int64) (int64, error) {
	s := sc.seg
	sc.groups++
	sc.synced = max(sc.synced, h.synced)
	sc.released = max(sc.released, h.released)
	sc.clean = h.flags&flagClean != 0
	sc.last = h.flags&flagLast != 0
	end := off + groupBytes + int64(h.length)
	for p := off + groupBytes; p < end; {
		b, err := sc.w.at(p, recordBytes)
		if err != nil {
			return 0, err
		}
		r, ok := parseRecord(b, s.seed, p, end)
		if !ok {
			q, err := sc.search(p, end, false)
			if err != nil {
				return 0, err
			}
			if q < 0 {
				q = end
			}
			sc.damage = append(sc.damage, torn{from: p, to: q, group: end, what: "record header"})
			p = q
			continue
		}
		if p, err = sc.record(r, p, end); err != nil {
			return 0, err
		}
	}
	return end, nil
}

// orphaned reads the records from off on whose group header is lost, and
// returns where they end.
func (sc *scan) orphaned(off int64) (int64, error) {
	for {
		b, err := sc.w.at(off, recordBytes)
		if err != nil {
			return 0, err
		}
		r, ok := parseRecord(b, sc.seg.seed, off, sc.limit)
		if !ok {
			return off, nil
		}
		sc.orphans++
		if off, err = sc.record(r, off, 0); err != nil {
			return 0, err
		}
	}
}

// record takes the record at off, or notes that its payload is damaged, and
// returns its end.
func (sc *scan) record(r recordHeader, off, group int64) (int64, error) {
	end := off + recordSize(r.length)
	sc.stale = max(sc.stale, end)
	if r.skip {
		return end, nil
	}
	b, err := sc.w.at(off, int(recordBytes+r.length))
	if err != nil {
		return 0, err
	}
	if int64(len(b)) < recordBytes+r.length || crc32.Checksum(b[recordBytes:], castagnoli) != r.crc {
		sc.damage = append(sc.damage, torn{from: off, to: end, group: group, what: "payload"})
		return end, nil
	}
	sc.seg.set(off, r.length)
	return end, nil
}

// search returns the offset of the first valid header after off and before
// limit, or -1.
func (sc *scan) search(off, limit int64, groups bool) (int64, error) {
	seed := sc.seg.seed
	for off += align; off < limit; {
		b, err := sc.w.at(off, int(min(windowBytes, limit-off)))
		if err != nil {
			return 0, err
		}
		n := len(b) &^ (align - 1)
		if n == 0 {
			break
		}
		if isZero(b[:n]) {
			off += int64(n)
			continue
		}
		for i := 0; i < n; i += align {
			switch m := binary.LittleEndian.Uint32(b[i:]); {
			case m == 0:
			case m == groupMagic && groups:
				h, err := sc.w.at(off+int64(i), groupBytes)
				if err != nil {
					return 0, err
				}
				if _, ok := sc.groupAt(h, off+int64(i), limit); ok {
					return off + int64(i), nil
				}
				if b, err = sc.w.at(off, n); err != nil {
					return 0, err
				}
			case m == recordMagic:
				if _, ok := parseRecord(b[i:], seed, off+int64(i), limit); ok {
					return off + int64(i), nil
				}
			}
		}
		off += int64(n)
	}
	return -1, nil
}

// findGarbage notes the end of what is not zero behind off. A file that held
// another segment before has that one's bytes there.
func (sc *scan) findGarbage(off int64) error {
	for off < sc.seg.size {
		b, err := sc.w.at(off, windowBytes)
		if err != nil {
			return err
		}
		if len(b) == 0 {
			return nil
		}
		if i := lastNotZero(b); i >= 0 {
			sc.garbage = (off + int64(i) + align) &^ (align - 1)
		}
		off += int64(len(b))
	}
	return nil
}

// lastNotZero returns the index of the last byte that is not zero, or -1. Blocks
// of zeros, which most of a young segment is, cost a comparison of memory.
func lastNotZero(b []byte) int {
	for len(b) >= blockBytes && isZero(b[len(b)-blockBytes:]) {
		b = b[:len(b)-blockBytes]
	}
	for i := len(b) - 1; i >= 0; i-- {
		if b[i] != 0 {
			return i
		}
	}
	return -1
}

// isZero reports whether b, of a byte at least, has only zeros: it is zero where it
// begins, and each byte is as the one before.
func isZero(b []byte) bool { return b[0] == 0 && bytes.Equal(b[1:], b[:len(b)-1]) }

// cutAt ends the log at d: no record from there on is one.
func (sc *scan) cutAt(d torn) error {
	s := sc.seg
	sc.stale = max(sc.stale, s.end, sc.garbage, d.to)
	sc.clean, sc.last = false, false
	sc.cutGroup = d.group
	s.end = d.from
	return sc.dropFrom(d.from)
}

// dropFrom takes back the records at off and behind.
func (sc *scan) dropFrom(off int64) error {
	for {
		next, ok := sc.seg.next(off)
		if !ok {
			return nil
		}
		if err := sc.takeBack(next); err != nil {
			return err
		}
	}
}

// release takes back the records before the release point.
func (sc *scan) release(released place) error {
	for {
		first, ok := sc.seg.first()
		if !ok || at(sc.seg.number, first) >= released {
			return nil
		}
		if err := sc.takeBack(first); err != nil {
			return err
		}
	}
}

// takeBack has the record at off, which was read before, live no more.
func (sc *scan) takeBack(off int64) error {
	b, err := sc.w.at(off, recordBytes)
	if err != nil {
		return err
	}
	if len(b) < recordBytes {
		return io.ErrUnexpectedEOF
	}
	sc.seg.clear(off, int64(binary.LittleEndian.Uint32(b[4:])))
	return nil
}

// neutralise gives a truncated file its size back, overwrites what is behind
// the cut, so that nothing of it is ever found again, then closes the group that
// the cut is in.
func (sc *scan) neutralise() error {
	s := sc.seg
	if s.size < sc.limit {
		if err := s.h.f.Allocate(sc.limit); err != nil {
			return fmt.Errorf("give segment %d its size back: %w", s.number, err)
		}
	}
	if sc.stale > s.end {
		zeros := make([]byte, min(sc.stale-s.end, windowBytes))
		for off := s.end; off < sc.stale; off += int64(len(zeros)) {
			if _, err := s.h.f.WriteAt(zeros[:min(int64(len(zeros)), sc.stale-off)], off); err != nil {
				return fmt.Errorf("cut the tail of segment %d: %w", s.number, err)
			}
		}
		if err := s.h.f.Datasync(); err != nil {
			return fmt.Errorf("cut the tail of segment %d: %w", s.number, err)
		}
	}
	if sc.cutGroup == 0 {
		return nil
	}
	var b [recordBytes]byte
	putRecord(b[:], skipMagic, sc.cutGroup-s.end-recordBytes, 0, s.seed, s.end)
	if _, err := s.h.f.WriteAt(b[:], s.end); err != nil {
		return fmt.Errorf("cut the tail of segment %d: %w", s.number, err)
	}
	// The mark of opening tells that this is synced: it must be.
	if err := s.h.f.Datasync(); err != nil {
		return fmt.Errorf("cut the tail of segment %d: %w", s.number, err)
	}
	s.end = sc.cutGroup
	return nil
}
