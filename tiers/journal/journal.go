package journal

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Journal is a segmented append-only log. Make one with Open. All methods are
// safe for concurrent use; doc.go lists its goroutines and the lock order.
type Journal struct {
	opt        Options
	maxPayload int64
	metrics    *journalMetrics
	recovery   Recovery

	kick      chan struct{} // to the committer: a round is wanted
	houseKick chan struct{} // to the housekeeper
	stop      chan struct{} // closed when the two must end
	tasks     sync.WaitGroup
	closeOnce sync.Once
	closeErr  error

	synced  atomic.Uint64 // place: all before is durable
	written atomic.Uint64 // place: all before is with the operating system

	// house is held while files are made, recycled or removed. It is taken
	// before mu, never after.
	house sync.Mutex
	pool  File // guarded by house: a file of SegmentBytes to use again, or nil

	// mu guards all below. While it is held no other lock is taken and no I/O
	// is done.
	mu sync.Mutex

	segs    []*segment // by number; the last is the one written to
	retired []*segment // to be deleted, oldest first
	spare   *segment   // prepared to follow the last, or nil

	segBytes     int64 // of segs, on disk
	poolBytes    int64
	damagedBytes int64 // of files set aside

	fill       []byte // the group that fills: room for its header, records
	fillOff    int64  // its offset in the last segment
	fillCount  uint32
	sealed     bool   // the last segment takes no more records
	flight     []byte // the group being written; also after an error that stuck
	flightOff  int64
	emptyBuf   []byte // the other buffer
	broken     error  // why flight could not be made durable, or nil
	retryAfter time.Time
	noSpace    error // why no file could be made, until retryAfter

	durableReleased place // what replay after a crash would begin at, or later
	next            *round
	running         *round
	replayed        bool
	appended        bool
	closed          bool // no more appends
	finished        bool // no more rounds

	liveRecords int
	liveBytes   int64
}

// Backlog says what the journal holds and how much of its quota that takes. It
// is exact at the moment of the call.
type Backlog struct {
	Records      int   // appended and not released
	Bytes        int64 // of their payloads
	DiskBytes    int64 // of all files, prepared ones included
	UsedBytes    int64 // of the quota that an append cannot use
	QuotaBytes   int64
	ReserveBytes int64 // part of the quota for AppendReserved alone
	Segments     int
}

// Open opens the journal in opt.Dir, or makes it. It finds the segments,
// verifies every record, cuts a torn tail, reports damage (see Recovery), makes
// durable what it found and starts two goroutines: the committer and the
// housekeeper. Close ends them.
//
// The caller holds the lock of the directory, see LockDir. Open reads all
// segments once and costs about a second per GiB.
func Open(opt Options) (*Journal, error) {
	opt.fill()
	if err := opt.validate(); err != nil {
		return nil, err
	}
	j := &Journal{
		opt:        opt,
		maxPayload: min(MaxPayloadBytes, opt.MaxBytes/4-firstOffset-2*groupBytes-recordBytes-blockBytes),
		kick:       make(chan struct{}, 1),
		houseKick:  make(chan struct{}, 1),
		stop:       make(chan struct{}),
	}
	if err := j.recover(); err != nil {
		for _, s := range append(j.segs, j.retired...) {
			_ = s.h.f.Close() // opened here, nothing written through it
		}
		if j.spare != nil {
			_ = j.spare.h.f.Close()
		}
		return nil, fmt.Errorf("journal: open %s: %w", opt.Dir, err)
	}
	j.metrics = newMetrics(opt.Metrics, j)
	j.metrics.recovered(&j.recovery)
	j.tasks.Add(2)
	go j.commit()
	go j.keepHouse()
	j.wakeHouse()
	return j, nil
}

// MaxPayload is the largest payload in bytes that Append takes: 64 MiB, or
// about a quarter of the quota if that is less.
func (j *Journal) MaxPayload() int64 { return j.maxPayload }

// Recovery says what Open found.
func (j *Journal) Recovery() Recovery { return j.recovery }

// Backlog returns the present figures. It costs a short lock.
func (j *Journal) Backlog() Backlog {
	j.mu.Lock()
	defer j.mu.Unlock()
	b := Backlog{
		Records: j.liveRecords, Bytes: j.liveBytes,
		DiskBytes:  j.diskBytesLocked(),
		QuotaBytes: j.opt.MaxBytes, ReserveBytes: j.opt.ReserveBytes,
		Segments: len(j.segs),
	}
	b.UsedBytes = j.opt.MaxBytes - max(0, j.freeLocked()+j.opt.MaxBytes-j.retainedLocked())
	return b
}

// Broken returns why the journal is read-only, or nil while it takes writes. It
// costs a short lock.
func (j *Journal) Broken() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.broken
}

// Oldest returns the place of the oldest record that a replay after a crash at
// this moment could still give, released or not, and false if it would give
// none. Its Length is 0: it is to be compared with, not to be read. Mark moves
// it up to the oldest record not released.
func (j *Journal) Oldest() (Pos, bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	last := j.segs[len(j.segs)-1]
	oldest := max(j.durableReleased, at(j.segs[0].number, firstOffset))
	if oldest >= at(last.number, last.end) && len(j.fill) == 0 {
		return Pos{}, false
	}
	return Pos{Segment: oldest.segment(), Offset: uint32(oldest.offset())}, true
}

// OldestLive returns the place of the oldest record that was not released, with
// Length 0, and false if there is none.
func (j *Journal) OldestLive() (Pos, bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.liveRecords == 0 {
		return Pos{}, false
	}
	p := j.releasePointLocked()
	return Pos{Segment: p.segment(), Offset: uint32(p.offset())}, true
}

// Release says that the records are no longer needed. A segment of which all
// records, and those of all older segments, are released is deleted or used
// again. What is released in a segment that is kept is known in memory, and on
// disk as far as all older records are released too (from the next group on):
// after a crash Replay may give released records again.
//
// Releasing a position twice, or one that the journal does not hold, does
// nothing. Release does no I/O.
func (j *Journal) Release(positions ...Pos) {
	j.mu.Lock()
	for _, p := range positions {
		s := j.segmentLocked(p.Segment)
		if s != nil && s.clear(int64(p.Offset), int64(p.Length)) {
			j.liveRecords--
			j.liveBytes -= int64(p.Length)
		}
	}
	retired := j.retireLocked()
	j.mu.Unlock()
	if retired {
		j.wakeHouse()
	}
}

// retireLocked takes the segments off the front that hold nothing live.
func (j *Journal) retireLocked() bool {
	n := 0
	for n < len(j.segs)-1 && j.segs[n].live == 0 {
		j.segBytes -= j.segs[n].size
		n++
	}
	if n == 0 {
		return false
	}
	j.retired = append(j.retired, j.segs[:n]...)
	j.segs = append(j.segs[:0], j.segs[n:]...)
	return true
}

// releasePointLocked is the place before which every record is released.
func (j *Journal) releasePointLocked() place {
	for _, s := range j.segs {
		if off, ok := s.first(); ok {
			return at(s.number, off)
		}
	}
	return at(j.lastLocked().number, j.fillOff+int64(len(j.fill)))
}

func (j *Journal) lastLocked() *segment { return j.segs[len(j.segs)-1] }

// segmentLocked finds a segment by its number; nil if it is not held.
func (j *Journal) segmentLocked(number uint32) *segment {
	// Numbers have gaps only where a segment was lost.
	i := len(j.segs) - 1 - int(int64(j.lastLocked().number)-int64(number))
	if i >= 0 && i < len(j.segs) && j.segs[i].number == number {
		return j.segs[i]
	}
	for _, s := range j.segs {
		if s.number == number {
			return s
		}
	}
	return nil
}

// retainedLocked is what the quota has lost to segments and damaged files; a
// spare and files to be deleted can still be appended to.
func (j *Journal) retainedLocked() int64 { return j.segBytes + j.damagedBytes }

func (j *Journal) diskBytesLocked() int64 {
	n := j.retainedLocked() + j.poolBytes
	if j.spare != nil {
		n += j.spare.size
	}
	for _, s := range j.retired {
		n += s.size
	}
	return n
}

// acquireLocked keeps the file of s open until release.
func (j *Journal) acquireLocked(s *segment) *handle {
	s.h.users++
	return s.h
}

func (j *Journal) release(h *handle) {
	j.mu.Lock()
	h.users--
	closeIt := h.dropped && h.users == 0
	j.mu.Unlock()
	if closeIt {
		_ = h.f.Close() // read only through this handle by now
	}
}

// drop closes the handle's file once nobody reads from it.
func (j *Journal) drop(h *handle) {
	j.mu.Lock()
	h.dropped = true
	closeIt := h.users == 0
	j.mu.Unlock()
	if closeIt {
		_ = h.f.Close() // what was written through it is synced, moved or deleted
	}
}

// Close refuses new appends, writes and syncs what was appended, writes the
// mark of a clean end and ends the goroutines. Waiting calls get their answer.
// An error tells that the last records may not be durable. Later calls return
// the same error.
func (j *Journal) Close() error {
	j.closeOnce.Do(func() { j.closeErr = j.close() })
	return j.closeErr
}

func (j *Journal) close() error {
	j.mu.Lock()
	j.closed = true
	r := j.nextRoundLocked()
	r.wantSync, r.flags, r.final = true, r.flags|flagClean, true
	j.mu.Unlock()
	<-r.done

	close(j.stop)
	j.tasks.Wait()
	j.metrics.close()
	errs := []error{r.err}
	j.house.Lock()
	defer j.house.Unlock()
	if j.pool != nil {
		errs = append(errs, j.pool.Close())
		j.pool = nil
	}
	j.mu.Lock()
	segs := append(append([]*segment(nil), j.segs...), j.retired...)
	if j.spare != nil {
		segs = append(segs, j.spare)
	}
	j.mu.Unlock()
	for _, s := range segs {
		j.drop(s.h)
	}
	return errors.Join(errs...)
}
