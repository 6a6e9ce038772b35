//go:build !linux

package load

import "time"

// An alarm waits, as precisely as timers of the runtime are.
type alarm struct{}

func newAlarm() (*alarm, error) { return &alarm{}, nil }

// sleep returns after d.
func (*alarm) sleep(d time.Duration) error {
	time.Sleep(d)
	return nil
}

func (*alarm) close() {}
