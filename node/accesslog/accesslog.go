// Package accesslog writes one JSON object per line for each request that is
// sampled, to a file or to standard output.
//
// A request only appends to a buffer; one goroutine writes it out. A disk that
// does not keep up costs lines, which are counted, never requests.
package accesslog

import (
	"errors"
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
	patience    = 2 * time.Second // with an output that takes no lines
)

// ErrStuck is returned by Configure, Reopen and Close while the output takes no
// lines: a pipe that nobody reads. What is pending is lost with Close.
var ErrStuck = errors.New("accesslog: the output takes no lines; end or mend what reads them")

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

	// out guards the fields below, and is held while lines are written: it holds
	// one when it is taken. It is taken before mu.
	out   chan struct{}
	path  string
	file  *os.File // nil for standard output
	to    io.Writer
	spare []byte
	told  bool // that lines are lost
	torn  bool // the last line is not whole
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
	l := &Log{o: o, wake: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{}), out: make(chan struct{}, 1)}
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
	if err := l.swap(path, file, to); err != nil {
		return err
	}
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

// takeOut takes the output once what is pending was written, or fails with
// ErrStuck. Then a goroutine is left to its write.
func (l *Log) takeOut() error {
	t := time.NewTimer(patience)
	defer t.Stop()
	written := make(chan struct{})
	go func() {
		defer close(written)
		l.Flush()
	}()
	select {
	case <-written:
	case <-t.C:
		return ErrStuck
	}
	select {
	case l.out <- struct{}{}:
		return nil
	case <-t.C:
		return ErrStuck
	}
}

func (l *Log) giveOut() { <-l.out }

// swap writes what is pending to the old output and changes to the new, or fails
// and closes the new.
func (l *Log) swap(path string, file *os.File, to io.Writer) error {
	if err := l.takeOut(); err != nil {
		if file != nil {
			err = errors.Join(err, file.Close())
		}
		return err
	}
	defer l.giveOut()
	if l.file != nil {
		if err := l.file.Close(); err != nil {
			l.o.Log.Warn("access log was not closed well", "error", err)
		}
	}
	l.path, l.file, l.to, l.told, l.torn = path, file, to, false, false
	return nil
}

// Reopen opens the file anew, after it was renamed. What is pending goes to the
// old one.
func (l *Log) Reopen() error {
	if err := l.takeOut(); err != nil {
		return err
	}
	path, isFile := l.path, l.file != nil
	l.giveOut()
	if !isFile {
		return nil
	}
	file, err := openFile(path)
	if err != nil {
		return err
	}
	return l.swap(path, file, file)
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
	l.out <- struct{}{}
	defer l.giveOut()
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
	n, err := l.write(lines)
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

// write begins a new line if the last one was torn.
func (l *Log) write(lines []byte) (n int, err error) {
	if l.torn {
		if _, err = l.to.Write([]byte{'\n'}); err != nil {
			return 0, err
		}
		l.torn = false
	}
	n, err = l.to.Write(lines)
	l.torn = n > 0 && lines[n-1] != '\n'
	return n, err
}

// Close writes what is pending and ends the goroutine. Records that come later
// are dropped. It may be called more than once. It fails with ErrStuck after two
// seconds.
func (l *Log) Close() error {
	l.mu.Lock()
	again := l.closed
	l.closed = true
	l.mu.Unlock()
	if again {
		return nil
	}
	close(l.stop)
	l.share.Store(0)
	err := l.takeOut()
	if err != nil {
		return err
	}
	l.giveOut()
	<-l.done // nothing is left to be written, so it is not held up
	l.out <- struct{}{}
	defer l.giveOut()
	if l.file != nil {
		err = l.file.Close()
		l.file = nil
	}
	l.to = nil
	return err
}
