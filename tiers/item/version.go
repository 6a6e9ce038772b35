package item

import (
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"
)

// A Version is a hybrid logical clock reading (Kulkarni et al., "Logical
// Physical Clocks", 2014): 48 bits of Unix milliseconds and 16 bits of counter.
// Zero means none.
type Version uint64

const counterBits = 16

// VersionAt returns the least version of the millisecond ms (Unix time).
func VersionAt(ms int64) Version { return Version(ms) << counterBits }

// UnixMilli returns the physical part of v.
func (v Version) UnixMilli() int64 { return int64(v >> counterBits) }

// String returns v in decimal, the form used on the wire.
func (v Version) String() string { return strconv.FormatUint(uint64(v), 10) }

// ParseVersion is the inverse of String.
func ParseVersion(s string) (Version, error) {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("item: version %q is not a decimal number below 2^64", s)
	}
	return Version(n), nil
}

// ErrClockSkew is returned for a version that lies too far in the future. It
// was not taken over.
var ErrClockSkew = errors.New("item: version too far in the future")

// A Clock stamps versions: each greater than all that it stamped or observed
// before. It is safe for concurrent use.
type Clock struct {
	now  func() int64 // Unix ms
	last atomic.Uint64
}

// NewClock returns a clock that stamps above floor, the highest version that
// this node has used or seen before. now returns Unix milliseconds; nil means
// the start time of the process plus its monotonic clock, so that a step of the
// system's clock never reaches versions.
func NewClock(floor Version, now func() int64) *Clock {
	if now == nil {
		start := time.Now()
		base := start.UnixMilli()
		now = func() int64 { return base + time.Since(start).Milliseconds() }
	}
	c := &Clock{now: now}
	c.last.Store(uint64(floor))
	return c
}

// UnixMilli returns the clock's physical time.
func (c *Clock) UnixMilli() int64 { return c.now() }

// Stamp returns a new version.
func (c *Clock) Stamp() Version {
	physical := uint64(VersionAt(c.now()))
	for {
		last := c.last.Load()
		next := max(last+1, physical)
		if c.last.CompareAndSwap(last, next) {
			return Version(next)
		}
	}
}

// Last returns the highest version stamped or observed.
func (c *Clock) Last() Version { return Version(c.last.Load()) }

// Observe takes over a version of another origin, so that later stamps are
// above it. A version more than skew ahead of the physical time is refused with
// an error that wraps ErrClockSkew.
func (c *Clock) Observe(v Version, skew time.Duration) error {
	if ahead := v.UnixMilli() - c.now(); ahead > skew.Milliseconds() {
		return fmt.Errorf("%w: %s is %d ms ahead, allowed are %d ms", ErrClockSkew, v, ahead, skew.Milliseconds())
	}
	for {
		last := c.last.Load()
		if uint64(v) <= last || c.last.CompareAndSwap(last, uint64(v)) {
			return nil
		}
	}
}
