// Package accesslog writes one JSON object per line for each request that is
// sampled, to a file or to standard output.
//
// A request only appends to a buffer; one goroutine writes it out. A disk that
// does not keep up costs lines, which are counted, never requests.
package accesslog

import (
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"
)

// Stdout is the path that means standard output.
const Stdout = "-"

// Sizes in bytes, and the longest time that a line waits to be written.
const (
	maxBuffered = 4 << 20
	keepBuffer  = 256 << 10
	gather      = 200 * time.Millisecond
)

// Options say where a Log writes.
type Options struct {
	Stdout  io.Writer    // what Stdout means; nil is os.Stdout
	Log     *slog.Logger // hears when lines are lost; nil discards
	Metrics *metrics.Set // nil is none
}

// A Log takes records. It is safe for concurrent use.
type Log struct {
	o Options
	m *logMetrics

	// share is the share of requests that are recorded, of 2^32; 0 is off.
	share atomic.Uint64

	// mu guards the fields below. It is held for no I/O.
	mu     sync.Mutex
	buf    []byte
	closed bool

	wake chan struct{} // of the goroutine; holds one
	stop chan struct{}
	done chan struct{}

	// out guards the fields below, and is held while lines are written. It is
	// taken before mu.
	out   sync.Mutex
	path  string
	file  *os.File // nil for standard output
	to    io.Writer
	spare []byte
	told  bool // that lines are lost
}

// Open returns a Log that is off until Configure, and starts its goroutine, which
// Close ends.
func Open(o Options) *Log {
	if o.Stdout == nil {
		o.Stdout = os.Stdout
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	l := &Log{o: o, wake: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{})}
	l.m = newMetrics(o.Metrics)
	go l.run()
	return l
}

// Configure opens path and records a share of the requests, 0 to 1, from now on;
// answers of 500 and above always. An empty path is off. It reopens a path that is
// open already. On an error nothing has changed.
func (l *Log) Configure(path string, share float64) error {
	var file *os.File
	to := l.o.Stdout
	switch path {
	case "":
		to = nil
	case Stdout:
	default:
		var err error
		if file, err = openFile(path); err != nil {
			return err
		}
		to = file
	}
	l.swap(path, file, to)
	l.share.Store(0)
	if path != "" {
		l.share.Store(max(uint64(share*(1<<32)), 1)) // a share of nothing still has the errors
	}
	return nil
}

func openFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o640)
	if err != nil {
		return nil, fmt.Errorf("accesslog: open: %w; name a file in a directory that the node may write to", err)
	}
	return f, nil
}

// swap writes what is pending to the old output and changes to the new.
func (l *Log) swap(path string, file *os.File, to io.Writer) {
	l.out.Lock()
	defer l.out.Unlock()
	l.flushLocked()
	if l.file != nil {
		if err := l.file.Close(); err != nil {
			l.o.Log.Warn("access log was not closed well", "error", err)
		}
	}
	l.path, l.file, l.to, l.told = path, file, to, false
}

// Reopen opens the file anew, after it was renamed. What is pending goes to the
// old one.
func (l *Log) Reopen() error {
	l.out.Lock()
	path, isFile := l.path, l.file != nil
	l.out.Unlock()
	if !isFile {
		return nil
	}
	file, err := openFile(path)
	if err != nil {
		return err
	}
	l.swap(path, file, file)
	return nil
}

// On reports whether anything is recorded. It is one atomic load.
func (l *Log) On() bool { return l.share.Load() != 0 }

// Wants decides whether a request with this status is recorded.
func (l *Log) Wants(status int) bool {
	share := l.share.Load()
	return share != 0 && (status >= 500 || uint64(rand.Uint32()) < share)
}

// Write records r. It keeps nothing of it.
func (l *Log) Write(r *Record) {
	l.mu.Lock()
	if l.closed || len(l.buf) > maxBuffered {
		l.mu.Unlock()
		l.m.dropped.Inc()
		return
	}
	first := len(l.buf) == 0
	l.buf = append(r.appendTo(l.buf), '\n')
	l.mu.Unlock()
	l.m.lines.Inc()
	if first {
		select {
		case l.wake <- struct{}{}:
		default:
		}
	}
}

// run is the goroutine that writes.
func (l *Log) run() {
	defer close(l.done)
	t := time.NewTimer(gather)
	defer t.Stop()
	for {
		select {
		case <-l.wake:
		case <-l.stop:
			return
		}
		t.Reset(gather)
		select {
		case <-t.C:
		case <-l.stop:
			return
		}
		l.Flush()
	}
}

// Flush writes what is pending.
func (l *Log) Flush() {
	l.out.Lock()
	defer l.out.Unlock()
	l.flushLocked()
}

// flushLocked is called with out held.
func (l *Log) flushLocked() {
	l.mu.Lock()
	lines := l.buf
	l.buf, l.spare = l.spare[:0], nil
	l.mu.Unlock()
	if cap(lines) <= keepBuffer {
		l.spare = lines[:0]
	}
	if len(lines) == 0 || l.to == nil {
		return
	}
	n, err := l.to.Write(lines)
	l.m.bytes.Add(n)
	if err == nil {
		l.told = false
		return
	}
	l.m.failures.Inc()
	if !l.told {
		l.told = true
		l.o.Log.Warn("access log cannot be written: lines are lost", "error", err)
	}
}

// Close writes what is pending and ends the goroutine. Records that come later
// are dropped. It may be called more than once.
func (l *Log) Close() error {
	l.mu.Lock()
	again := l.closed
	l.closed = true
	l.mu.Unlock()
	if again {
		<-l.done
		return nil
	}
	close(l.stop)
	<-l.done
	l.share.Store(0)
	l.out.Lock()
	defer l.out.Unlock()
	l.flushLocked()
	var err error
	if l.file != nil {
		err = l.file.Close()
		l.file = nil
	}
	l.to = nil
	return err
}
