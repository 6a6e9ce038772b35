package filter

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/cespare/xxhash/v2"

	"github.com/edgenode/edgenode/tiers/item"
)

// Errors of snapshots. The filter is as it was before.
var (
	// ErrCorrupt is returned for a snapshot with bytes that were never written.
	ErrCorrupt = errors.New("filter: corrupt snapshot")
	// ErrFormat is returned for a snapshot of a format that this binary does not
	// know.
	ErrFormat = errors.New("filter: unknown snapshot format")
	// ErrForeign is returned for a snapshot of another ground truth.
	ErrForeign = errors.New("filter: snapshot of another ground truth")
)

// Format is the number of the snapshot form that is written, the only one so
// far; doc.go draws it.
const Format = 1

const (
	magic         = "edgefilt"
	headLen       = 56
	segmentLen    = 24
	markEnd       = 0
	markSegment   = 1
	snapshotBlock = 64 << 10
)

var le = binary.LittleEndian

// WriteSnapshot writes the filter as of the present change number to w, while it
// is in use. It fails with ErrIncomplete, perhaps after all has been written,
// unless the filter was complete throughout.
func (f *Filter) WriteSnapshot(w io.Writer) error {
	c, err := f.beginSnapshot()
	if err == nil {
		err = c.write(w)
	}
	if err == nil {
		err = f.endSnapshot(c)
	}
	if err != nil {
		return fmt.Errorf("filter: write snapshot: %w", err)
	}
	return nil
}

// A capture is a snapshot that is being written. What is added to the table
// meanwhile may be in it: it is there later anyway.
type capture struct {
	f       *Filter
	table   *table
	head    []byte
	seq     uint64
	resets  uint64
	words   []uint64 // of the segment copied last
	encoded []byte
}

func (f *Filter) beginSnapshot() (*capture, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.complete || !f.proved {
		return nil, fmt.Errorf("%w: %s", ErrIncomplete, f.reason)
	}
	c := &capture{f: f, table: f.now.Load().table, seq: f.applied.Load(), resets: f.resets}
	h := append(make([]byte, 0, headLen+len(f.opts.Identity)), magic...)
	h = le.AppendUint16(h, Format)
	h = append(h, c.table.hashBits, 0)
	h = le.AppendUint32(h, uint32(len(f.opts.Identity)))
	h = le.AppendUint64(h, c.seq)
	h = le.AppendUint64(h, uint64(f.version))
	h = le.AppendUint64(h, c.table.seed)
	h = le.AppendUint64(h, f.removed)
	h = le.AppendUint64(h, c.table.minRests.Load())
	c.head = append(h, f.opts.Identity...)
	return c, nil
}

func (f *Filter) endSnapshot(c *capture) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.resets != c.resets {
		return fmt.Errorf("%w: %s", ErrIncomplete, f.reason)
	}
	f.savedSeq = c.seq
	return nil
}

func (c *capture) write(w io.Writer) error {
	sum := xxhash.New()
	out := bufio.NewWriterSize(io.MultiWriter(w, sum), snapshotBlock)
	if _, err := out.Write(c.head); err != nil {
		return err
	}
	bits, entries := c.table.hashBits, uint64(0)
	for at := uint64(0); at < 1<<bits; {
		s := c.copySegment(at)
		entries += uint64(s.used)
		if _, err := out.Write(c.encode(s)); err != nil {
			return err
		}
		at = (s.prefix + 1) << (bits - s.depth)
	}
	end := le.AppendUint64([]byte{markEnd, 0, 0, 0, 0, 0, 0, 0}, entries)
	if _, err := out.Write(end); err != nil {
		return err
	}
	if err := out.Flush(); err != nil {
		return err
	}
	_, err := w.Write(le.AppendUint64(nil, sum.Sum64()))
	return err
}

// copySegment copies the segment that holds the hash at.
func (c *capture) copySegment(at uint64) *segment {
	c.f.mu.Lock()
	defer c.f.mu.Unlock()
	s, _ := c.table.find(at)
	c.words = c.words[:0]
	for i := range s.words {
		c.words = append(c.words, atomic.LoadUint64(&s.words[i]))
	}
	return &segment{prefix: s.prefix, depth: s.depth, bits: s.bits, buckets: s.buckets, used: s.used, words: c.words}
}

func (c *capture) encode(s *segment) []byte {
	b := append(c.encoded[:0], markSegment, s.depth, 0, 0)
	b = le.AppendUint32(b, uint32(s.pages()))
	b = le.AppendUint64(b, s.prefix)
	b = le.AppendUint64(b, uint64(s.used))
	for _, w := range s.words {
		b = le.AppendUint64(b, w)
	}
	c.encoded = b
	return b
}

// ReadSnapshot takes over what WriteSnapshot has written, all or nothing. The
// filter is complete then, and trusted once CatchUp has been through, which also
// compares the version of the change at which the snapshot was taken. It fails
// with ErrCorrupt, ErrFormat, ErrForeign, or what r returns. It waits for a Warm
// or Verify under way.
func (f *Filter) ReadSnapshot(r io.Reader) error {
	f.scanning <- struct{}{}
	defer func() { <-f.scanning }()
	in := &snapshotReader{in: bufio.NewReaderSize(r, snapshotBlock), sum: xxhash.New()}
	h, err := in.readHead(f.identity())
	if err == nil {
		err = in.readTable(h)
	}
	if err != nil {
		return fmt.Errorf("filter: read snapshot: %w", err)
	}
	f.feeding <- struct{}{}
	defer func() { <-f.feeding }()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.now.Store(&view{table: h.table})
	f.applied.Store(h.seq)
	f.version, f.removed, f.savedSeq = h.version, h.removed, h.seq
	f.complete, f.proved, f.reason = true, h.version == 0, "not caught up since the snapshot"
	return nil
}

// A snapshotHead is the begin of a snapshot, with the table that the rest fills.
type snapshotHead struct {
	table   *table
	seq     uint64
	version item.Version
	removed uint64
}

// A snapshotReader reads with a running checksum.
type snapshotReader struct {
	in  *bufio.Reader
	sum *xxhash.Digest
	buf []byte
}

// read returns the next n bytes, valid until the next call.
func (r *snapshotReader) read(n int) ([]byte, error) {
	if cap(r.buf) < n {
		r.buf = make([]byte, n)
	}
	b := r.buf[:n]
	if _, err := io.ReadFull(r.in, b); err != nil {
		return nil, endIsCorrupt(err)
	}
	_, _ = r.sum.Write(b) // it never fails
	return b, nil
}

func endIsCorrupt(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: it ends too early", ErrCorrupt)
	}
	return err
}

func (r *snapshotReader) readHead(identity string) (*snapshotHead, error) {
	b, err := r.read(headLen)
	if err != nil {
		return nil, err
	}
	if string(b[:8]) != magic {
		return nil, fmt.Errorf("%w: it does not begin with %q", ErrCorrupt, magic)
	}
	if n := le.Uint16(b[8:]); n != Format {
		return nil, fmt.Errorf("%w: %d, this binary reads %d; delete the file, or use the newer binary", ErrFormat, n, Format)
	}
	bits, identityLen := b[10], le.Uint32(b[12:])
	if bits < 2 || bits > maxHashBits || identityLen > maxIdentity {
		return nil, fmt.Errorf("%w: %d bits per hash, identity of %d bytes", ErrCorrupt, bits, identityLen)
	}
	h := &snapshotHead{
		seq: le.Uint64(b[16:]), version: item.Version(le.Uint64(b[24:])), removed: le.Uint64(b[40:]),
		table: &table{seed: le.Uint64(b[32:]), hashBits: bits},
	}
	h.table.minRests.Store(max(1, le.Uint64(b[48:])))
	if b, err = r.read(int(identityLen)); err != nil {
		return nil, err
	}
	if string(b) != identity {
		return nil, fmt.Errorf("%w: it is of %q, this is %q", ErrForeign, b, identity)
	}
	return h, nil
}

// readTable reads the segments, which cover all hashes in order, and the end.
func (r *snapshotReader) readTable(h *snapshotHead) error {
	var list []*segment
	t, depth := h.table, uint8(0)
	for at := uint64(0); at < 1<<t.hashBits; {
		s, err := r.readSegment(t.hashBits, at)
		if err != nil {
			return err
		}
		list, depth = append(list, s), max(depth, s.depth)
		t.items.Add(uint64(s.used))
		t.pages.Add(int64(s.pages()))
		at = (s.prefix + 1) << (t.hashBits - s.depth)
	}
	// A directory has at most some entries per segment; more is made up.
	if uint64(1)<<depth > 64*uint64(len(list)) {
		return fmt.Errorf("%w: depth %d with %d segments", ErrCorrupt, depth, len(list))
	}
	if err := r.readEnd(t); err != nil {
		return err
	}
	d := &directory{depth: depth, segments: make([]atomic.Pointer[segment], 1<<depth)}
	for _, s := range list {
		d.put(s)
	}
	t.dir.Store(d)
	return nil
}

func (r *snapshotReader) readSegment(hashBits uint8, at uint64) (*segment, error) {
	b, err := r.read(segmentLen)
	if err != nil {
		return nil, err
	}
	mark, depth, pages := b[0], b[1], le.Uint32(b[4:])
	prefix, used := le.Uint64(b[8:]), le.Uint64(b[16:])
	if mark != markSegment || depth >= hashBits || pages == 0 || pages > maxPages ||
		prefix>>depth != 0 || prefix<<(hashBits-depth) != at {
		return nil, fmt.Errorf("%w: segment at hash %#x: mark %d, depth %d, prefix %#x, %d pages", ErrCorrupt, at, mark, depth, prefix, pages)
	}
	if b, err = r.read(int(pages) * pageWords * 8); err != nil {
		return nil, err
	}
	s := newSegment(prefix, depth, hashBits-depth, int(pages))
	for i := range s.words {
		s.words[i] = le.Uint64(b[8*i:])
	}
	if !s.check() || uint64(s.used) != used {
		return nil, fmt.Errorf("%w: segment at hash %#x: bad slots, or not %d of them", ErrCorrupt, at, used)
	}
	return s, nil
}

// check counts the slots in use and reports whether all of them can be.
func (s *segment) check() bool {
	rests := s.rests()
	if rests > maxRest+1 {
		return false
	}
	for bucket := range s.buckets {
		for lane := range lanes {
			slot := s.slot(bucket, lane)
			if slot == 0 {
				continue
			}
			s.used++
			own, rest := bucket, restOf(slot)
			if slot < 2 || rest >= rests {
				return false
			}
			if slot&1 != 0 {
				own = s.partner(bucket, rest)
			}
			if b, _ := s.place(s.joined(own, rest)); b != own {
				return false
			}
		}
	}
	return true
}

func (r *snapshotReader) readEnd(t *table) error {
	b, err := r.read(16)
	if err != nil {
		return err
	}
	if b[0] != markEnd || le.Uint64(b[8:]) != t.items.Load() {
		return fmt.Errorf("%w: no end after %d entries", ErrCorrupt, t.items.Load())
	}
	want := r.sum.Sum64()
	if b, err = r.read(8); err != nil {
		return err
	}
	if le.Uint64(b) != want {
		return fmt.Errorf("%w: its checksum is %#x, the bytes have %#x", ErrCorrupt, le.Uint64(b), want)
	}
	if _, err := r.in.ReadByte(); err != io.EOF {
		return fmt.Errorf("%w: bytes after its end", ErrCorrupt)
	}
	return nil
}
