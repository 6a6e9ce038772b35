package journal

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"syscall"
)

// keepHouse is the housekeeper: it prepares the segment after the last one
// ahead of need and deletes or recycles released ones.
func (j *Journal) keepHouse() {
	defer j.tasks.Done()
	for {
		select {
		case <-j.houseKick:
			j.house.Lock()
			j.reap()
			j.prepareAhead()
			j.house.Unlock()
		case <-j.stop:
			return
		}
	}
}

func (j *Journal) wakeHouse() {
	select {
	case j.houseKick <- struct{}{}:
	default: // already on its way
	}
}

// reap deletes the retired segments in order, or keeps the file of one to use
// again. The directory is synced after each, so that no older one can come back
// without its younger ones. What fails is tried again later. house is held.
func (j *Journal) reap() {
	for {
		j.mu.Lock()
		if len(j.retired) == 0 {
			j.mu.Unlock()
			return
		}
		s := j.retired[0]
		again := j.pool == nil && !s.gone && s.size == j.opt.SegmentBytes && s.h.users == 0
		j.mu.Unlock()
		if err := j.retire(s, again); err != nil {
			j.opt.Logger.Warn("journal segment not removed", "file", s.name, "error", err)
			return
		}
		j.mu.Lock()
		j.retired = append(j.retired[:0], j.retired[1:]...)
		if again {
			j.poolBytes = s.size
		}
		j.mu.Unlock()
		if again {
			j.pool = s.h.f
		} else {
			j.drop(s.h)
		}
	}
}

func (j *Journal) retire(s *segment, again bool) error {
	if again {
		pool := filepath.Join(j.opt.Dir, poolName)
		if err := j.opt.FS.Rename(s.name, pool); err != nil {
			return err
		}
		s.name = pool // should the next line fail, this is what is left to remove
	} else if !s.gone {
		if err := j.opt.FS.Remove(s.name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		s.gone = true
	}
	return j.opt.FS.SyncDir(j.opt.Dir)
}

// dropPool deletes the file kept to be used again. house is held.
func (j *Journal) dropPool() error {
	if j.pool == nil {
		return nil
	}
	err := j.opt.FS.Remove(filepath.Join(j.opt.Dir, poolName))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	_ = j.pool.Close()
	j.pool = nil
	j.mu.Lock()
	j.poolBytes = 0
	j.mu.Unlock()
	return nil
}

// prepareAhead makes the spare once a quarter of the last segment is used. An
// error is not reported here: the append that needs the segment meets it again.
// house is held.
func (j *Journal) prepareAhead() {
	j.mu.Lock()
	last := j.lastLocked()
	want := min(j.opt.SegmentBytes, 2*last.size)
	wait := j.spare != nil || j.closed || j.fillOff <= last.size/4 ||
		j.noSpace != nil && j.opt.Now().Before(j.retryAfter)
	avail := j.opt.MaxBytes - j.diskBytesLocked() + j.poolBytes
	j.mu.Unlock()
	if wait || avail < want {
		return
	}
	j.makeSpare(last.number+1, want)
}

// nextSegment returns the spare, with room for a record of need bytes; it makes
// it if it must. Called by the committer.
func (j *Journal) nextSegment(need int64) (*segment, error) {
	j.house.Lock()
	defer j.house.Unlock()
	j.reap()
	j.mu.Lock()
	last, spare := j.lastLocked(), j.spare
	noSpace := j.noSpace
	if noSpace != nil && !j.opt.Now().Before(j.retryAfter) {
		noSpace = nil
	}
	j.mu.Unlock()
	least := segmentFor(need)
	if spare != nil {
		if spare.size >= least {
			return spare, nil
		}
		if err := j.dropSpare(spare); err != nil {
			return nil, err
		}
	}
	if noSpace != nil {
		return nil, noSpace
	}
	want := max(min(j.opt.SegmentBytes, 2*last.size), least)
	if want != j.opt.SegmentBytes {
		if err := j.dropPool(); err != nil {
			return nil, j.noFile(err)
		}
	}
	j.mu.Lock()
	avail := j.opt.MaxBytes - j.diskBytesLocked() + j.poolBytes
	j.mu.Unlock()
	if want = min(want, avail&^(blockBytes-1)); want < least {
		return nil, fmt.Errorf("%w: quota of %d bytes; raise journal_max_bytes or let the backend catch up", ErrFull, j.opt.MaxBytes)
	}
	return j.makeSpare(last.number+1, want)
}

// dropSpare deletes a spare that is too small for the record that comes. The
// committer alone calls it, so that nothing is written to it.
func (j *Journal) dropSpare(s *segment) error {
	if err := j.opt.FS.Remove(s.name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return j.noFile(err)
	}
	if err := j.opt.FS.SyncDir(j.opt.Dir); err != nil {
		return j.noFile(err)
	}
	j.mu.Lock()
	j.spare = nil
	j.mu.Unlock()
	j.drop(s.h)
	return nil
}

// makeSpare makes segment number of size bytes and keeps it as the spare. house
// is held.
func (j *Journal) makeSpare(number uint32, size int64) (*segment, error) {
	s, err := j.prepare(number, size)
	if err != nil {
		return nil, j.noFile(err)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.spare, j.noSpace = s, nil
	return s, nil
}

// noFile remembers that the disk refused a file, so that not every append asks
// it again, and gives that its kind.
func (j *Journal) noFile(err error) error {
	kind := ErrReadOnly
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		kind = ErrFull
	}
	err = fmt.Errorf("%w: make a segment in %s: %w; free or replace the disk", kind, j.opt.Dir, err)
	j.opt.Logger.Error("journal segment not made", "error", err, "retry_after", j.opt.RetryInterval)
	j.mu.Lock()
	defer j.mu.Unlock()
	j.noSpace = err
	j.retryAfter = j.opt.Now().Add(j.opt.RetryInterval)
	return err
}

// prepare makes a segment without groups. It has its name only when its bytes
// are on disk, so that no crash leaves a segment half made. house is held, or
// nobody else knows the journal yet.
func (j *Journal) prepare(number uint32, size int64) (*segment, error) {
	temp, f := filepath.Join(j.opt.Dir, poolName), j.pool
	recycled := f != nil && size == j.opt.SegmentBytes
	if recycled {
		j.pool = nil
		j.mu.Lock()
		j.poolBytes = 0
		j.mu.Unlock()
	} else {
		if err := j.dropPool(); err != nil { // its bytes are counted on
			return nil, err
		}
		temp = filepath.Join(j.opt.Dir, fmt.Sprintf("%010d%s", number, tempSuffix))
		var err error
		if f, err = j.makeFile(temp, size); err != nil {
			return nil, err
		}
	}
	s := newSegment(j.opt.Dir, number, j.opt.Salt(), size, f)
	h := appendSegmentHeader(nil, segmentHeader{
		format: formatNumber, number: number, salt: s.salt, recycled: recycled,
		created: j.opt.Now().UnixMilli(), size: size, version: j.opt.Version,
	})
	_, err := f.WriteAt(h, 0)
	if err == nil {
		_, err = f.WriteAt(h, headerStride)
	}
	if err == nil {
		err = f.Datasync()
	}
	if err == nil {
		err = j.opt.FS.Rename(temp, s.name)
	}
	if err == nil {
		err = j.opt.FS.SyncDir(j.opt.Dir)
	}
	if err != nil {
		_ = f.Close()
		_ = j.opt.FS.Remove(temp) // what is left of it Open removes
		_ = j.opt.FS.Remove(s.name)
		return nil, err
	}
	return s, nil
}

// makeFile makes a file of size zero bytes, written out: a later fdatasync then
// has no metadata to write.
func (j *Journal) makeFile(name string, size int64) (File, error) {
	f, err := j.opt.FS.Create(name)
	if err != nil {
		return nil, err
	}
	err = f.Allocate(size)
	zeros := make([]byte, min(size, windowBytes))
	for off := int64(0); off < size && err == nil; off += int64(len(zeros)) {
		_, err = f.WriteAt(zeros[:min(int64(len(zeros)), size-off)], off)
	}
	if err != nil {
		_ = f.Close()
		_ = j.opt.FS.Remove(name)
		return nil, err
	}
	return f, nil
}
