package journal

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// reserve reserves the blocks of the first size bytes. A file system that has
// no such call is not an error: the zeros that follow take the blocks.
func reserve(fd int, size int64) error {
	for {
		err := unix.Fallocate(fd, 0, 0, size)
		switch {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOSYS):
			return nil
		default:
			return err
		}
	}
}

// datasync is fdatasync(2). EINTR is the only error that leaves nothing in
// doubt, so it is the only one tried again.
func datasync(_ *os.File, fd int) error {
	for {
		if err := unix.Fdatasync(fd); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
