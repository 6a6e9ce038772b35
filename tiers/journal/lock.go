package journal

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// DirLock is the right to use a directory. It ends with Unlock, or with the
// process, however that ends.
type DirLock struct {
	once sync.Once
	f    *os.File
	err  error
}

// LockDir takes the lock of dir, which it makes if missing, for owner: a name
// for people, without line breaks. The file LOCK in dir holds the process
// number, the owner and since when. A second holder, in this process or another
// one, gets ErrLocked with that text and the remedy. It does not wait.
//
// It is a flock(2): on a file system shared by machines it holds only where the
// server supports it.
func LockDir(dir, owner string) (*DirLock, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("journal: lock %s: %w", dir, err)
	}
	name := filepath.Join(dir, "LOCK")
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("journal: lock %s: %w; let this user write there, or set another data_dir", dir, err)
	}
	if err := flock(f); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = fmt.Errorf("%w by %s; stop that process or set another data_dir", ErrLocked, holder(f))
		}
		return nil, errors.Join(fmt.Errorf("journal: lock %s: %w", dir, err), f.Close())
	}
	text := fmt.Sprintf("pid %d, %s, since %s\n", os.Getpid(),
		strings.NewReplacer("\n", " ", "\r", " ").Replace(owner), time.Now().UTC().Format(time.RFC3339))
	err = f.Truncate(0)
	if err == nil {
		_, err = f.WriteAt([]byte(text), 0)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("journal: lock %s: %w", dir, err), f.Close())
	}
	return &DirLock{f: f}, nil
}

func flock(f *os.File) error {
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// holder reads who has the lock; the text of a holder that is just taking it
// may not be there yet.
func holder(f *os.File) string {
	b, err := io.ReadAll(io.LimitReader(f, 1024))
	text := strings.TrimSpace(string(b))
	if err != nil || text == "" {
		return "a process that gave no name yet"
	}
	return text
}

// Unlock gives the lock back. The file stays: removing it could take away the
// lock of the next holder. Unlock may be called more than once.
func (l *DirLock) Unlock() error {
	l.once.Do(func() {
		if err := l.f.Truncate(0); err != nil {
			l.err = fmt.Errorf("journal: unlock %s: %w", l.f.Name(), err)
		}
		if err := l.f.Close(); err != nil {
			l.err = errors.Join(l.err, fmt.Errorf("journal: unlock %s: %w", l.f.Name(), err))
		}
	})
	return l.err
}
