package journal

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/bits"
	"path/filepath"
)

const (
	segmentSuffix = ".journal"
	tempSuffix    = ".tmp"     // not yet, or no more, a segment; removed at Open
	damagedSuffix = ".damaged" // nothing in it could be read; kept for the operator
	poolName      = "pool" + tempSuffix
)

func segmentName(number uint32) string { return fmt.Sprintf("%010d%s", number, segmentSuffix) }

// handle is an open file that is closed when nobody uses it any more.
type handle struct {
	f File

	// Guarded by Journal.mu.
	users   int
	dropped bool
}

// segment is one file of the log. number, salt, seed, size and name never
// change; the rest is guarded by Journal.mu.
type segment struct {
	number uint32
	seed   uint32
	salt   uint32
	size   int64  // bytes on disk
	name   string // changed by reap alone
	gone   bool   // guarded by house: removed, but the directory not yet synced

	h         *handle
	end       int64 // of the log in it, as far as handed to the writer
	live      int   // records not released
	liveBytes int64 // of their payloads
	bits      []uint64
	low       int // no bit is set in a word below; only ever grows
}

func newSegment(dir string, number, salt uint32, size int64, f File) *segment {
	return &segment{
		number: number, salt: salt, seed: seedOf(number, salt), size: size,
		name: filepath.Join(dir, segmentName(number)),
		h:    &handle{f: f}, end: firstOffset,
		bits: make([]uint64, (size/align+63)/64),
	}
}

// set marks the record at off as live.
func (s *segment) set(off, payload int64) {
	i := off / align
	s.bits[i/64] |= 1 << (i % 64)
	s.live++
	s.liveBytes += payload
}

// clear marks the record at off as released. It reports false if it was not
// live.
func (s *segment) clear(off, payload int64) bool {
	i := off / align
	if off < 0 || i/64 >= int64(len(s.bits)) || s.bits[i/64]&(1<<(i%64)) == 0 {
		return false
	}
	s.bits[i/64] &^= 1 << (i % 64)
	s.live--
	s.liveBytes -= payload
	return true
}

// next returns the offset of the first live record at or after off.
func (s *segment) next(off int64) (int64, bool) {
	i := off / align
	for w := i / 64; w < int64(len(s.bits)); w++ {
		word := s.bits[w]
		if w == i/64 {
			word &^= 1<<(i%64) - 1
		}
		if word != 0 {
			return (w*64 + int64(bits.TrailingZeros64(word))) * align, true
		}
	}
	return 0, false
}

// first returns the offset of the first live record. Its cost over the life of
// a segment is one walk of the bits.
func (s *segment) first() (int64, bool) {
	if s.live == 0 {
		return 0, false
	}
	for s.bits[s.low] == 0 {
		s.low++
	}
	return (int64(s.low)*64 + int64(bits.TrailingZeros64(s.bits[s.low]))) * align, true
}

// window reads a file from front to back through one buffer.
type window struct {
	f    io.ReaderAt
	size int64
	off  int64
	buf  []byte
}

const windowBytes = 1 << 20

// at returns n bytes at off, or fewer at the end of the file. They are valid
// until the next call.
func (w *window) at(off int64, n int) ([]byte, error) {
	if n = int(min(int64(n), w.size-off)); n <= 0 {
		return nil, nil
	}
	if off >= w.off && off+int64(n) <= w.off+int64(len(w.buf)) {
		return w.buf[off-w.off:][:n], nil
	}
	want := int(min(int64(max(n, windowBytes)), w.size-off))
	if cap(w.buf) < want || cap(w.buf) > 2*windowBytes && want <= windowBytes {
		w.buf = make([]byte, want)
	}
	w.buf = w.buf[:want]
	w.off = off
	got, err := w.f.ReadAt(w.buf, off)
	w.buf = w.buf[:got]
	if err != nil && !errors.Is(err, io.EOF) {
		w.buf = w.buf[:0]
		return nil, err
	}
	return w.buf[:min(n, got)], nil
}

// record returns the payload of the record at off, checked. It is valid until
// the next call.
func (w *window) record(seed uint32, off, limit int64) ([]byte, error) {
	b, err := w.at(off, recordBytes)
	if err != nil {
		return nil, err
	}
	h, ok := parseRecord(b, seed, off, limit)
	if !ok || h.skip {
		return nil, fmt.Errorf("record header at %d: %w", off, ErrCorrupt)
	}
	b, err = w.at(off, int(recordBytes+h.length))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) < recordBytes+h.length || crc32.Checksum(b[recordBytes:], castagnoli) != h.crc {
		return nil, fmt.Errorf("payload at %d: %w", off, ErrCorrupt)
	}
	return b[recordBytes:], nil
}
