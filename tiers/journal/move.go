package journal

import (
	"errors"
	"fmt"
	"path/filepath"
)

// moveAway is called when a write to s, or the sync of it, returned an error:
// nothing in that file that was not synced can be trusted to reach the disk,
// whatever later syncs say. The file is never written to again; what it holds,
// and the group in flight, go to a fresh file of the same number and with the
// same offsets, so that positions and checksums stay. It returns ErrUnknown for
// those who wait, and ErrReadOnly beside it if that went wrong too.
func (j *Journal) moveAway(s *segment, b []byte, off int64, cause error) error {
	j.metrics.failed()
	j.opt.Logger.Error("journal file failed", "file", s.name, "error", cause)
	err := j.move(s, b, off)
	if err == nil {
		j.opt.Logger.Warn("journal records moved to a fresh file", "file", s.name)
		return fmt.Errorf("%w: %w", ErrUnknown, cause)
	}
	j.opt.Logger.Error("journal is read-only", "file", s.name, "error", err, "retry_after", j.opt.RetryInterval)
	j.mu.Lock()
	j.broken = errors.Join(cause, err)
	j.retryAfter = j.opt.Now().Add(j.opt.RetryInterval)
	j.mu.Unlock()
	return fmt.Errorf("%w: %w: %w", ErrUnknown, ErrReadOnly, errors.Join(cause, err))
}

// retryLocked tries again to move what stuck. It reports whether r can go on; if
// not, the answer is in r. It lets go of mu meanwhile.
func (j *Journal) retryLocked(r *round) bool {
	cause := j.broken
	if r.final || !j.opt.Now().Before(j.retryAfter) {
		s, b, off := j.lastLocked(), j.flight, j.flightOff
		j.mu.Unlock()
		err := j.move(s, b, off)
		j.mu.Lock()
		if err == nil {
			j.opt.Logger.Warn("journal takes writes again", "file", s.name)
			j.broken = nil
			end := uint64(at(s.number, off+int64(len(b))))
			j.written.Store(end)
			j.synced.Store(end)
			j.dropFlightLocked()
			return true
		}
		cause = err
		j.broken = err
		j.retryAfter = j.opt.Now().Add(j.opt.RetryInterval)
	}
	r.err = fmt.Errorf("%w: %w: %w", ErrUnknown, ErrReadOnly, cause)
	return false
}

// move puts an image of s, with b at off, into a fresh file and has it take the
// place of the old one.
func (j *Journal) move(s *segment, b []byte, off int64) error {
	j.house.Lock()
	defer j.house.Unlock()
	temp := filepath.Join(j.opt.Dir, fmt.Sprintf("%010d.move%s", s.number, tempSuffix))
	f, err := j.makeFile(temp, s.size)
	if err != nil {
		return fmt.Errorf("move to a fresh file: %w", err)
	}
	if err = j.fillMoved(s, f, b, off); err == nil {
		if err = f.Datasync(); err == nil {
			if err = j.opt.FS.Rename(temp, s.name); err == nil {
				err = j.opt.FS.SyncDir(j.opt.Dir)
			}
		}
	}
	if err != nil {
		_ = f.Close()
		_ = j.opt.FS.Remove(temp) // if this fails too, Open removes it
		return fmt.Errorf("move to a fresh file: %w", err)
	}
	j.mu.Lock()
	old := s.h
	s.h = &handle{f: f}
	j.mu.Unlock()
	j.drop(old)
	return nil
}

// fillMoved copies the first off bytes of s to f, then b, and checks that every
// live record is readable in its new place.
func (j *Journal) fillMoved(s *segment, f File, b []byte, off int64) error {
	from := window{f: s.h.f, size: off}
	for o := int64(0); o < off; {
		chunk, err := from.at(o, windowBytes)
		if err != nil {
			return err
		}
		if len(chunk) == 0 {
			return fmt.Errorf("old file ends at %d: %w", o, ErrCorrupt)
		}
		if _, err := f.WriteAt(chunk, o); err != nil {
			return err
		}
		o += int64(len(chunk))
	}
	if len(b) > 0 {
		if _, err := f.WriteAt(b, off); err != nil {
			return err
		}
	}
	moved := window{f: f, size: off + int64(len(b))}
	for o := int64(0); ; {
		j.mu.Lock()
		next, ok := s.next(o)
		j.mu.Unlock()
		if !ok || next >= moved.size {
			return nil
		}
		payload, err := moved.record(s.seed, next, moved.size)
		if err != nil {
			return err
		}
		o = next + recordSize(int64(len(payload)))
	}
}
