package load

import (
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// An alarm waits to some 50 µs. Timers of the runtime are up to a millisecond
// late in a program that is idle, as they share the time limit of epoll_wait,
// which counts in milliseconds; a timerfd is one more descriptor that gets ready.
// It must be used by one goroutine.
type alarm struct {
	fd   int // of file
	file *os.File
	buf  [8]byte
}

func newAlarm() (*alarm, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("timerfd_create", err)
	}
	return &alarm{fd: fd, file: os.NewFile(uintptr(fd), "timerfd")}, nil
}

// sleep returns after d.
func (a *alarm) sleep(d time.Duration) error {
	if d <= 0 {
		return nil
	}
	at := unix.ItimerSpec{Value: unix.NsecToTimespec(int64(d))}
	if err := unix.TimerfdSettime(a.fd, 0, &at, nil); err != nil {
		return os.NewSyscallError("timerfd_settime", err)
	}
	_, err := a.file.Read(a.buf[:])
	return err
}

func (a *alarm) close() { _ = a.file.Close() } // nothing was written
