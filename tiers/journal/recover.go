package journal

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Recovery is what Open found.
type Recovery struct {
	New       bool  // there was no journal
	Clean     bool  // the last thing in the log is the mark of Close, and nothing is damaged
	Records   int   // that Replay will give
	Bytes     int64 // of their payloads
	Segments  int
	TailCut   Damage   // the torn end of the log that was cut off; Bytes is 0 if there was none
	Damaged   int      // places where bytes that had been synced are not what was written
	LostBytes int64    // in those places
	Damage    []Damage // the first of those places
}

// Damage is a stretch of a segment that could not be read.
type Damage struct {
	Segment uint32
	Offset  int64
	Bytes   int64
	What    string
}

const maxDamageListed = 64

func (r *Recovery) damaged(d Damage) {
	r.Damaged++
	r.LostBytes += d.Bytes
	if len(r.Damage) < maxDamageListed {
		r.Damage = append(r.Damage, d)
	}
}

// recovering is the state of one recovery.
type recovering struct {
	j        *Journal
	scans    []*scan // by number
	setAside map[uint32]bool
	aside    []unreadable
	report   Recovery
}

// unreadable is a segment without a valid header.
type unreadable struct {
	path   string
	number uint32
	size   int64
}

// recover brings the journal to a state to append to. Until it is done nobody
// else knows the journal.
//
// A crash at any moment of it leaves a directory of which the same records are
// recovered: what is cut is first overwritten and synced, then marked as cut.
func (j *Journal) recover() error {
	if err := j.opt.FS.MkdirAll(j.opt.Dir); err != nil {
		return err
	}
	rec := &recovering{j: j, setAside: map[uint32]bool{}}
	if err := rec.load(); err != nil {
		return errors.Join(err, rec.closeFiles())
	}
	last, err := rec.judge()
	if err == nil {
		err = rec.adopt(last)
	}
	if err != nil {
		return errors.Join(err, rec.closeFiles())
	}
	if len(j.segs) == 0 {
		if err := rec.begin(); err != nil {
			return err
		}
	} else if err := rec.reopen(); err != nil {
		return err
	}
	rec.finish()
	return nil
}

// closeFiles closes what is not yet the journal's own.
func (rec *recovering) closeFiles() error {
	for _, sc := range rec.scans {
		if !sc.adopted {
			_ = sc.seg.h.f.Close() // nothing was written through it
		}
	}
	return nil
}

// load lists the directory, removes what never was a segment and scans the
// segments.
func (rec *recovering) load() error {
	j := rec.j
	names, err := j.opt.FS.List(j.opt.Dir)
	if err != nil {
		return err
	}
	slices.Sort(names)
	var temps []string
	for _, name := range names {
		base, isDamaged := strings.CutSuffix(name, damagedSuffix)
		number, isSegment := segmentNumber(base)
		switch {
		case strings.HasSuffix(name, tempSuffix):
			temps = append(temps, name)
		case isDamaged && isSegment:
			rec.setAside[number] = true
			if err := rec.countDamaged(name); err != nil {
				return err
			}
		case isSegment:
			if err := rec.loadSegment(name, number); err != nil {
				return err
			}
		}
	}
	// Only now, with all formats known, is anything changed.
	for _, sc := range rec.scans {
		if err := sc.run(); err != nil {
			return err
		}
	}
	for _, a := range rec.aside {
		if err := rec.putAside(a); err != nil {
			return err
		}
	}
	for _, name := range temps {
		if err := j.opt.FS.Remove(filepath.Join(j.opt.Dir, name)); err != nil {
			return err
		}
	}
	return nil
}

func segmentNumber(name string) (uint32, bool) {
	digits, ok := strings.CutSuffix(name, segmentSuffix)
	n, err := strconv.ParseUint(digits, 10, 32)
	return uint32(n), ok && err == nil && n > 0 && name == segmentName(uint32(n))
}

func (rec *recovering) countDamaged(name string) error {
	f, err := rec.j.opt.FS.Open(filepath.Join(rec.j.opt.Dir, name))
	if err != nil {
		return err
	}
	size, err := f.Size()
	rec.j.damagedBytes += size
	return errors.Join(err, f.Close())
}

// loadSegment reads the header of a segment and notes it to be scanned, or to be
// set aside.
func (rec *recovering) loadSegment(name string, number uint32) error {
	j := rec.j
	path := filepath.Join(j.opt.Dir, name)
	f, err := j.opt.FS.Open(path)
	if err != nil {
		return err
	}
	size, err := f.Size()
	if err != nil {
		return errors.Join(err, f.Close())
	}
	before := rec.report.Damaged
	h, found, err := rec.readHeader(f, number, size)
	if err == nil && !found {
		rec.aside = append(rec.aside, unreadable{path, number, size})
		return f.Close()
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	s := newSegment(j.opt.Dir, number, h.salt, h.size, f)
	if size < h.size {
		rec.report.damaged(Damage{Segment: number, Offset: size, Bytes: 0,
			What: fmt.Sprintf("file has %d bytes, its header says %d", size, h.size)})
		s.size = size
	}
	sc := &scan{seg: s, limit: h.size, recycled: h.recycled, flawed: rec.report.Damaged > before}
	rec.scans = append(rec.scans, sc)
	return nil
}

// readHeader returns the header of a segment, from whichever copy is whole. A
// header of another number is none: the file is a copy of another segment.
func (rec *recovering) readHeader(f File, number uint32, size int64) (segmentHeader, bool, error) {
	var found segmentHeader
	ok := false
	w := window{f: f, size: size}
	for _, off := range []int64{0, headerStride} {
		b, err := w.at(off, headerBytes)
		if err != nil {
			return found, false, err
		}
		h, valid := parseSegmentHeader(b)
		if valid && h.format > formatNumber {
			return found, false, fmt.Errorf("%w: segment %d has format %d, written by version %s; this binary reads format %d: start version %s or a newer one",
				ErrFormat, number, h.format, h.version, formatNumber, h.version)
		}
		if !valid || h.number != number || h.format != formatNumber || h.size > maxOffset || h.size < firstOffset {
			rec.report.damaged(Damage{Segment: number, Offset: off, What: "segment header"})
			continue
		}
		found, ok = h, true
	}
	return found, ok, nil
}

// putAside renames a file of which no header is left, so that its checksums
// cannot be verified. Its records are lost; its bytes count in the quota.
func (rec *recovering) putAside(u unreadable) error {
	path := u.path
	rec.report.damaged(Damage{Segment: u.number, Bytes: u.size, What: "no valid segment header, file set aside"})
	rec.setAside[u.number] = true
	rec.j.damagedBytes += u.size
	rec.j.opt.Logger.Error("journal segment unreadable, set aside", "file", path+damagedSuffix,
		"remedy", "keep it for analysis or delete it; its bytes count in the quota")
	if err := rec.j.opt.FS.Rename(path, path+damagedSuffix); err != nil {
		return err
	}
	return rec.j.opt.FS.SyncDir(rec.j.opt.Dir)
}

// judge tells damage from a torn tail and returns the index of the last segment
// of the log, or -1 if there is no segment.
//
// What is known to be synced reaches up to synced: a later group says so, or a
// later segment has something in it, since a segment is left only when synced.
func (rec *recovering) judge() (int, error) {
	last := min(0, len(rec.scans)-1)
	for i, sc := range rec.scans {
		begun := i > 0 && rec.scans[i-1].last && sc.garbage > firstOffset
		if sc.holds() || begun {
			last = i
		}
	}
	var synced place
	for i := last; i >= 0; i-- {
		sc := rec.scans[i]
		synced = max(synced, sc.synced)
		if err := rec.judgeSegment(sc, synced, i < last); err != nil {
			return 0, err
		}
		if sc.holds() {
			synced = max(synced, at(sc.seg.number, firstOffset))
		}
	}
	return last, nil
}

// judgeSegment reports the damage in one segment, and finds where the log is to
// be cut.
func (rec *recovering) judgeSegment(sc *scan, synced place, left bool) error {
	s := sc.seg
	for _, d := range sc.damage {
		if !left && at(s.number, d.from) >= synced {
			err := sc.cutAt(d)
			rec.report.TailCut = Damage{Segment: s.number, Offset: d.from, Bytes: sc.stale - d.from, What: "torn tail"}
			return err
		}
		rec.report.damaged(Damage{Segment: s.number, Offset: d.from, Bytes: d.to - d.from, What: d.what})
	}
	switch {
	case left && !sc.last:
		rec.report.damaged(Damage{Segment: s.number, Offset: s.end, Bytes: max(0, s.size-s.end), What: "segment ends early"})
		s.end = s.size
	case !left && synced > at(s.number, s.end):
		rec.report.damaged(Damage{Segment: s.number, Offset: s.end, Bytes: synced.offset() - s.end, What: "synced end missing"})
	case !left && !sc.last && sc.garbage > s.end:
		sc.stale = sc.garbage
		rec.report.TailCut = Damage{Segment: s.number, Offset: s.end, Bytes: sc.garbage - s.end, What: "torn tail"}
	}
	return nil
}

// adopt gives the journal its segments: those of the log up to last, released
// ones to be deleted, and an empty one behind as the spare.
func (rec *recovering) adopt(last int) error {
	j := rec.j
	var released place
	for _, sc := range rec.scans[:last+1] {
		released = max(released, sc.released)
	}
	if last >= 0 { // what a group behind the cut says is true of all before the cut
		s := rec.scans[last].seg
		released = min(released, at(s.number, max(s.end, rec.scans[last].cutGroup)))
	}
	for i, sc := range rec.scans {
		s := sc.seg
		switch {
		case i <= last:
			if err := sc.release(released); err != nil {
				return err
			}
			rec.gap(i, released)
			j.segs = append(j.segs, s)
			j.segBytes += s.size
			j.liveRecords += s.live
			j.liveBytes += s.liveBytes
		case i == last+1 && last >= 0 && s.number == rec.scans[last].seg.number+1 && !sc.flawed:
			j.spare = s
		default:
			if err := j.opt.FS.Remove(s.name); err != nil {
				return err
			}
			_ = s.h.f.Close() // it holds nothing
		}
		sc.adopted = true
	}
	j.durableReleased = released
	if len(j.segs) > 0 {
		j.retireLocked()
	}
	return j.opt.FS.SyncDir(j.opt.Dir)
}

// gap reports segments that are missing before the i-th, unless all in them was
// released or they were set aside.
func (rec *recovering) gap(i int, released place) {
	if i == 0 {
		return
	}
	for n := rec.scans[i-1].seg.number + 1; n < rec.scans[i].seg.number; n++ {
		if !rec.setAside[n] && released < at(n+1, 0) {
			rec.report.damaged(Damage{Segment: n, What: "segment missing"})
			if rec.report.Damaged > 1<<16 {
				return
			}
		}
	}
}

// begin makes the first segment.
func (rec *recovering) begin() error {
	j := rec.j
	number := uint32(1)
	for n := range rec.setAside {
		number = max(number, n+1)
	}
	s, err := j.prepare(number, min(j.opt.SegmentBytes, firstBytes))
	if err != nil {
		return err
	}
	rec.report.New = len(rec.setAside) == 0 && rec.report.Damaged == 0
	j.segs = []*segment{s}
	j.segBytes = s.size
	j.fillOff = firstOffset
	return rec.markOpened(s)
}

// reopen cuts the torn tail of the last segment, makes durable what is before
// and writes the mark that says so.
func (rec *recovering) reopen() error {
	j := rec.j
	s := j.lastLocked()
	sc := rec.scanOf(s)
	if err := sc.neutralise(); err != nil {
		return err
	}
	j.segBytes += sc.limit - s.size
	s.size = sc.limit
	j.fillOff = s.end
	if sc.last || s.size-s.end < groupBytes {
		j.sealed = true
		return s.h.f.Datasync()
	}
	return rec.markOpened(s)
}

func (rec *recovering) scanOf(s *segment) *scan {
	i := slices.IndexFunc(rec.scans, func(sc *scan) bool { return sc.seg == s })
	return rec.scans[i]
}

// markOpened writes a group that tells that all before it is synced. Damage
// found there later is damage, not a torn tail.
func (rec *recovering) markOpened(s *segment) error {
	j := rec.j
	released := j.releasePointLocked()
	if j.liveRecords == 0 {
		released = at(s.number, s.end+groupBytes)
	}
	flags := uint32(flagOpened)
	if s.size-s.end < 2*groupBytes {
		flags |= flagLast // it takes the place kept for the last mark
		j.sealed = true
	}
	var b [groupBytes]byte
	putGroup(b[:], groupHeader{
		flags: flags, synced: at(s.number, s.end), released: released,
		written: j.opt.Now().UnixMilli(),
	}, s.seed, s.end)
	if _, err := s.h.f.WriteAt(b[:], s.end); err != nil {
		return err
	}
	if err := s.h.f.Datasync(); err != nil {
		return err
	}
	s.end += groupBytes
	j.fillOff = s.end
	j.durableReleased = released
	return nil
}

func (rec *recovering) finish() {
	j, r := rec.j, &rec.report
	end := at(j.lastLocked().number, j.fillOff)
	j.synced.Store(uint64(end))
	j.written.Store(uint64(end))
	r.Records, r.Bytes, r.Segments = j.liveRecords, j.liveBytes, len(j.segs)
	clean := len(rec.scans) > 0 && rec.scanOfLastClean()
	r.Clean = r.New || clean && r.Damaged == 0 && r.TailCut.Bytes == 0
	j.recovery = *r
	log := j.opt.Logger
	if r.TailCut.Bytes > 0 {
		log.Warn("journal tail cut", "segment", r.TailCut.Segment, "at", r.TailCut.Offset, "bytes", r.TailCut.Bytes)
	}
	for _, d := range r.Damage {
		log.Error("journal damaged", "segment", d.Segment, "offset", d.Offset, "bytes", d.Bytes, "what", d.What)
	}
	log.Info("journal opened", "dir", j.opt.Dir, "clean", r.Clean, "records", r.Records,
		"bytes", r.Bytes, "segments", r.Segments, "damaged", r.Damaged)
}

func (rec *recovering) scanOfLastClean() bool {
	for _, sc := range rec.scans {
		if sc.seg == rec.j.lastLocked() {
			return sc.clean
		}
	}
	return false
}
