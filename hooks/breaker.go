package hooks

import (
	"sync"
	"sync/atomic"
	"time"
)

// maxFaultLimit bounds the faults a breaker remembers.
const maxFaultLimit = 64

// breaker switches a hook off that faults too often. After limit faults within
// window it opens for open; each time it opens again within window of having
// been re-enabled, for twice as long, up to maxOpen. Just re-enabled, one fault
// is enough to open it.
type breaker struct {
	limit                 int
	window, open, maxOpen time.Duration
	now                   func() time.Time

	until atomic.Int64 // Unix nanoseconds until which it is open; 0 if closed

	// mu guards the fields below. It is a leaf lock, taken on faults and while
	// open only.
	mu       sync.Mutex
	faults   [maxFaultLimit]int64 // times, a ring of limit entries
	next     int
	length   time.Duration // of the last opening; 0 if it never opened
	trial    int64         // until then one fault opens it again
	openings uint64
}

// allow reports whether the hook may be called. It costs one atomic load while
// the breaker is closed.
func (b *breaker) allow() bool {
	return b.until.Load() == 0 || b.retry()
}

func (b *breaker) retry() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	until := b.until.Load()
	now := b.now().UnixNano()
	if until == 0 {
		return true
	}
	if now < until {
		return false
	}
	b.trial = now + int64(b.window)
	b.until.Store(0)
	return true
}

// fault counts one fault and reports whether it opened the breaker.
func (b *breaker) fault() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.now().UnixNano()
	if b.until.Load() != 0 {
		return false
	}
	b.faults[b.next] = now
	b.next = (b.next + 1) % b.limit
	oldest := b.faults[b.next] // limit-1 faults ago, 0 if there were not so many
	onTrial := now < b.trial
	if !onTrial && (oldest == 0 || now-oldest > int64(b.window)) {
		return false
	}
	if onTrial {
		b.length = min(2*b.length, b.maxOpen)
	} else {
		b.length = b.open
	}
	b.faults = [maxFaultLimit]int64{}
	b.next = 0
	b.openings++
	b.until.Store(now + int64(b.length))
	return true
}

// isOpen reports whether calls are refused now.
func (b *breaker) isOpen() bool {
	until := b.until.Load()
	return until != 0 && b.now().UnixNano() < until
}
