package l1

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/cespare/xxhash/v2"

	"github.com/edgenode/edgenode/tiers/item"
)

// Errors of snapshots.
var (
	// ErrSnapshot is returned for a file whose head was never written so.
	ErrSnapshot = errors.New("l1: corrupt snapshot")
	// ErrSnapshotFormat is returned for a snapshot of a format that this binary
	// does not know.
	ErrSnapshotFormat = errors.New("l1: unknown snapshot format")
)

// SnapshotFormat is the number of the form that is written, the only one so far;
// doc.go draws it.
const SnapshotFormat = 1

const (
	snapshotMagic   = "edgel1sn"
	snapshotHeadLen = 48
	savedNever      = 1<<48 - 1 // the end of what does not end
	blockHeadLen    = 24
	savedHeadLen    = 16
	blockBytes      = 256 << 10 // of records, from which a block is written
	maxBlockBytes   = 1 << 30   // records that are larger are left out
	maxIdentity     = 1 << 10
	savedStale      = 1
)

var le = binary.LittleEndian

// A SnapshotHead says of what a snapshot is. The cache does not look at it.
type SnapshotHead struct {
	Identity string // of the ground truth, at most 1 KiB
	Seq      uint64 // the change up to which the records are up to date
	Version  uint64 // of that change
	ID       uint64 // of the file: blocks of another one are not taken for its own
}

// A Saved is a record with what the cache knows of it.
type Saved struct {
	Record         []byte
	ExpiresAtMilli int64 // 0 means never
	Stale          bool
	Heat           uint32 // hits and frequency
}

// A SaveVerdict says what becomes of a record that WriteSnapshot has shown.
type SaveVerdict int

// The verdicts.
const (
	Save SaveVerdict = iota
	Skip
	Stop // and skip all that follow
)

// WriteSnapshot writes the records that fn wants to w. It may be called while the
// cache is in use; what comes in meanwhile may or may not be shown. Fn is called
// with no lock held; the record is valid only during the call.
func (c *Cache) WriteSnapshot(w io.Writer, h SnapshotHead, fn func(record []byte) SaveVerdict) (records uint64, err error) {
	out := &snapshotWriter{w: bufio.NewWriterSize(w, 64<<10), id: h.ID}
	err = out.head(h)
	for number := uint32(0); err == nil && number < c.entries.len(); number++ {
		e := c.entries.at(number)
		if !c.pinPatiently(e, number) {
			continue
		}
		verdict := fn(c.record(e))
		if m := meta(e.meta.Load()); verdict == Save && int64(e.size.Load()) <= maxBlockBytes-savedHeadLen {
			err = out.add(c.record(e), m, heat(e.heat.Load()))
		}
		c.unpin(e, number)
		if verdict == Stop {
			break
		}
	}
	if err == nil {
		err = out.end()
	}
	if err != nil {
		return out.records, fmt.Errorf("l1: write snapshot: %w", err)
	}
	return out.records, nil
}

// A snapshotWriter gathers records to blocks.
type snapshotWriter struct {
	w       *bufio.Writer
	id      uint64
	blocks  uint64
	records uint64 // in all
	held    uint32 // of these, in buf
	buf     []byte
}

func (s *snapshotWriter) head(h SnapshotHead) error {
	if len(h.Identity) > maxIdentity {
		return fmt.Errorf("an identity of %d bytes", len(h.Identity))
	}
	b := append(make([]byte, 0, snapshotHeadLen+len(h.Identity)+8), snapshotMagic...)
	b = le.AppendUint16(b, SnapshotFormat)
	b = le.AppendUint16(b, 0)
	b = le.AppendUint32(b, uint32(len(h.Identity)))
	for _, n := range []uint64{h.Seq, h.Version, h.ID, 0} {
		b = le.AppendUint64(b, n)
	}
	b = append(b, h.Identity...)
	_, err := s.w.Write(le.AppendUint64(b, xxhash.Sum64(b)))
	return err
}

func (s *snapshotWriter) add(record []byte, m meta, h heat) error {
	if len(s.buf) > 0 && len(s.buf)+savedHeadLen+len(record) > blockBytes {
		if err := s.flush(); err != nil {
			return err
		}
	}
	ends, flags := m.end(), uint64(0)
	if ends == never {
		ends = savedNever
	}
	if m&flagStale != 0 {
		flags = savedStale
	}
	s.buf = le.AppendUint32(s.buf, uint32(len(record)))
	s.buf = le.AppendUint32(s.buf, uint32(h))
	s.buf = le.AppendUint64(s.buf, ends<<16|flags)
	s.buf = append(s.buf, record...)
	s.held++
	s.records++
	return nil
}

func (s *snapshotWriter) flush() error {
	_, err := s.w.Write(blockHead(s.id, s.blocks, uint32(len(s.buf)), s.held, xxhash.Sum64(s.buf)))
	if err == nil {
		_, err = s.w.Write(s.buf)
	}
	s.buf, s.held = s.buf[:0], 0
	s.blocks++
	return err
}

func (s *snapshotWriter) end() error {
	if s.held > 0 {
		if err := s.flush(); err != nil {
			return err
		}
	}
	if _, err := s.w.Write(blockHead(s.id, s.blocks, 0, 0, s.records)); err != nil {
		return err
	}
	return s.w.Flush()
}

// blockHead returns the head of the block number n of the file id: its checksum
// covers these too, so that a block of another file or place is never taken.
func blockHead(id, n uint64, size, records uint32, sum uint64) []byte {
	b := make([]byte, 0, blockHeadLen+16)
	b = le.AppendUint32(b, size)
	b = le.AppendUint32(b, records)
	b = le.AppendUint64(b, sum)
	all := xxhash.Sum64(le.AppendUint64(le.AppendUint64(b, id), n))
	return le.AppendUint64(b[:16], all)
}

// A SnapshotReader reads what WriteSnapshot has written. It belongs to one
// goroutine.
type SnapshotReader struct {
	Head SnapshotHead

	// Corrupt counts the blocks that are not as they were written, whose records
	// are left out; the rest of a file that ends early counts as one.
	Corrupt uint64

	in     *bufio.Reader
	blocks uint64
	buf    []byte
}

// ReadSnapshot reads the head of a snapshot. It fails with ErrSnapshot,
// ErrSnapshotFormat or what r returns.
func ReadSnapshot(r io.Reader) (*SnapshotReader, error) {
	s := &SnapshotReader{in: bufio.NewReaderSize(r, 64<<10)}
	if err := s.readHead(); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			err = fmt.Errorf("%w: it ends in its head", ErrSnapshot)
		}
		return nil, fmt.Errorf("l1: read snapshot: %w", err)
	}
	return s, nil
}

func (s *SnapshotReader) readHead() error {
	b := make([]byte, snapshotHeadLen, snapshotHeadLen+maxIdentity+8)
	if _, err := io.ReadFull(s.in, b); err != nil {
		return err
	}
	if string(b[:8]) != snapshotMagic {
		return fmt.Errorf("%w: it does not begin as one", ErrSnapshot)
	}
	if format := le.Uint16(b[8:]); format != SnapshotFormat {
		return fmt.Errorf("%w: format %d, this binary reads %d", ErrSnapshotFormat, format, SnapshotFormat)
	}
	n := int(le.Uint32(b[12:]))
	if n > maxIdentity {
		return fmt.Errorf("%w: identity of %d bytes", ErrSnapshot, n)
	}
	b = b[:snapshotHeadLen+n+8]
	if _, err := io.ReadFull(s.in, b[snapshotHeadLen:]); err != nil {
		return err
	}
	if le.Uint64(b[len(b)-8:]) != xxhash.Sum64(b[:len(b)-8]) {
		return fmt.Errorf("%w: checksum of the head", ErrSnapshot)
	}
	s.Head = SnapshotHead{
		Identity: string(b[snapshotHeadLen : snapshotHeadLen+n]),
		Seq:      le.Uint64(b[16:]), Version: le.Uint64(b[24:]), ID: le.Uint64(b[32:]),
	}
	return nil
}

// Next calls fn for each record of the next block, and reports whether there may
// be another. Each record is a whole item.View, valid only during the call. What is
// corrupt is left out and counted.
func (s *SnapshotReader) Next(fn func(Saved)) (more bool, err error) {
	var head [blockHeadLen]byte
	if _, err := io.ReadFull(s.in, head[:]); err != nil {
		return false, s.ended(err)
	}
	size, records, sum := le.Uint32(head[:]), le.Uint32(head[4:]), le.Uint64(head[8:])
	if string(head[:]) != string(blockHead(s.Head.ID, s.blocks, size, records, sum)) || size > maxBlockBytes {
		s.Corrupt++ // where the next one begins is not known
		return false, nil
	}
	if size == 0 {
		return false, nil
	}
	s.blocks++
	if cap(s.buf) < int(size) {
		s.buf = make([]byte, size)
	}
	if _, err := io.ReadFull(s.in, s.buf[:size]); err != nil {
		return false, s.ended(err)
	}
	if xxhash.Sum64(s.buf[:size]) != sum {
		s.Corrupt++
		return true, nil
	}
	s.split(s.buf[:size], fn)
	return true, nil
}

// ended turns the end of the file in the middle into a corrupt block.
func (s *SnapshotReader) ended(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		s.Corrupt++
		return nil
	}
	return fmt.Errorf("l1: read snapshot: %w", err)
}

func (s *SnapshotReader) split(b []byte, fn func(Saved)) {
	for len(b) >= savedHeadLen {
		n, ends := int(le.Uint32(b)), le.Uint64(b[8:])
		if n > len(b)-savedHeadLen {
			break
		}
		saved := Saved{Record: b[savedHeadLen : savedHeadLen+n : savedHeadLen+n], Heat: le.Uint32(b[4:]), Stale: ends&savedStale != 0}
		if at := ends >> 16; at != savedNever {
			saved.ExpiresAtMilli = int64(max(at, 1))
		}
		v, err := item.Parse(saved.Record)
		if err != nil {
			break
		}
		saved.Record = v
		fn(saved)
		b = b[savedHeadLen+n:]
	}
	if len(b) > 0 {
		s.Corrupt++
	}
}

// Restore puts a saved record back as Put does, under the hash of its key, with
// the frequency that it had; a newer version that is there stays. It reports
// whether it did.
func (c *Cache) Restore(hash uint64, saved Saved, nowMilli int64) bool {
	v := item.View(saved.Record)
	if saved.ExpiresAtMilli != 0 && saved.ExpiresAtMilli <= nowMilli {
		return false
	}
	version := uint64(v.Version())
	if !c.Put(hash, v.Key(), version, v, PutOptions{ExpiresAtMilli: saved.ExpiresAtMilli, Stale: saved.Stale, NowMilli: nowMilli}) {
		return false
	}
	s := c.shard(hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, number, ok := c.lookupLocked(s, hash, v.Key()); ok {
		e := c.entries.at(number)
		e.heat.Store(uint64(c.tickNow(nowMilli))<<32 | uint64(saved.Heat))
	}
	return true
}
