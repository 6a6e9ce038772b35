package replica

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"sync"
	"sync/atomic"
	"time"

	"github.com/edgenode/edgenode/tiers/item"
)

// Errors of writes that are brought to the hub.
var (
	// ErrUnreachable says that the hub was not asked: nothing was written.
	ErrUnreachable = errors.New("replica: the hub cannot be reached")
	// ErrUnanswered says that the hub may have been asked: the write may be done.
	ErrUnanswered = errors.New("replica: the hub did not answer")
)

// A forwardError is why there is no answer of the hub.
type forwardError struct {
	asked bool
	err   error
}

func (e *forwardError) Error() string { return e.Unwrap().Error() }

// Asked reports whether the hub may have been asked: the write may be done.
func (e *forwardError) Asked() bool { return e.asked }

func (e *forwardError) Unwrap() error {
	if e.asked {
		return fmt.Errorf("%w: %w", ErrUnanswered, e.err)
	}
	return fmt.Errorf("%w: %w", ErrUnreachable, e.err)
}

// A lease lends the content of a request until end: the transport may still be
// reading it when the answer is there, and its memory is the client's.
type lease struct {
	mu      sync.Mutex
	content []byte
	ended   bool
}

func (l *lease) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = true
}

// give makes the content the body of a request, which may have to be sent twice.
func (l *lease) give(req *http.Request) {
	if len(l.content) == 0 {
		return
	}
	req.ContentLength = int64(len(l.content))
	req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(&leased{of: l}), nil }
	req.Body = io.NopCloser(&leased{of: l})
}

// A leased reads a lease.
type leased struct {
	of *lease
	at int
}

// Read fails once the lease has ended.
func (r *leased) Read(p []byte) (n int, err error) {
	r.of.mu.Lock()
	defer r.of.mu.Unlock()
	switch {
	case r.of.ended:
		return 0, io.ErrClosedPipe
	case r.at == len(r.of.content):
		return 0, io.EOF
	}
	n = copy(p, r.of.content[r.at:])
	r.at += n
	return n, nil
}

// maxForwarded bounds an answer to a write.
const maxForwarded = 1 << 20

// forwardPatience bounds a forwarded write.
const forwardPatience = 30 * time.Second

// Forward sends a write to the hub with this node's token and returns what the hub
// answers, whatever that is. target is the raw path and query. It fails with
// ErrUnreachable or ErrUnanswered. The answer is the caller's.
func (r *Replica) Forward(ctx context.Context, method, target string, header http.Header, body []byte) (status int, fields http.Header, answer []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, forwardPatience)
	defer cancel()
	var sent atomic.Bool
	content := &lease{content: body}
	defer content.end()
	req, err := r.hub.request(httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteHeaders: func() { sent.Store(true) }}), method, target, nil)
	if err != nil {
		return 0, nil, nil, &forwardError{false, err}
	}
	content.give(req)
	for name, values := range header {
		req.Header[name] = values
	}
	r.metrics.forwarded.Inc()
	resp, err := r.hub.client.Do(req)
	if err == nil {
		defer func() { _ = resp.Body.Close() }() // it was only read
		answer, err = io.ReadAll(io.LimitReader(resp.Body, maxForwarded))
	}
	if err != nil {
		r.metrics.unforwarded.Inc()
		return 0, nil, nil, &forwardError{sent.Load(), err}
	}
	return resp.StatusCode, resp.Header, answer, nil
}

// Caught waits until all that the hub has now is here, up to 2 s.
func (r *Replica) Caught(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, awaitedPatience)
	defer cancel()
	a, err := r.hub.ask(ctx, http.MethodGet, "/v1/changes?form=record&since=now&limit=1", nil, awaitedPatience)
	if err != nil {
		return
	}
	defer a.close()
	var end line
	if json.NewDecoder(io.LimitReader(a, maxLine)).Decode(&end) != nil || !end.End {
		return
	}
	for r.seq.Load() < end.Seq && r.Moved(ctx) {
	}
}

// maxAwaited bounds the ids whose forwarded writes are not here yet.
const maxAwaited = 65_536

// awaited are versions that the hub has acknowledged to clients of this node and
// that are not here yet.
type awaited struct {
	n atomic.Int64 // ids in versions

	mu       sync.Mutex
	versions map[string]item.Version
	moved    chan struct{} // closed at the next arrival
}

// arrived notes what is here now and wakes who waits.
func (w *awaited) arrived(list []arrival) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, a := range list {
		if v, ok := w.versions[a.id]; ok && a.version >= v {
			delete(w.versions, a.id)
		}
	}
	w.n.Store(int64(len(w.versions)))
	if w.moved != nil {
		close(w.moved)
		w.moved = nil
	}
}

// Acknowledged notes that the hub has acknowledged a version of id, and waits until
// it is here, up to 2 s: then who reads it here finds it. Until it is, Wanted says
// so. Beyond 65,536 such ids the oldest promises are not kept.
func (r *Replica) Acknowledged(ctx context.Context, id string, v item.Version) {
	w := &r.awaited
	w.mu.Lock()
	if w.versions == nil {
		w.versions = map[string]item.Version{}
	}
	if len(w.versions) >= maxAwaited {
		for old := range w.versions {
			delete(w.versions, old)
			break
		}
	}
	w.versions[id] = max(w.versions[id], v)
	w.n.Store(int64(len(w.versions)))
	w.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, awaitedPatience)
	defer cancel()
	for r.Wanted([]byte(id)) != 0 && r.Moved(ctx) {
	}
}

// Wanted returns the version of id that a client of this node was promised and that
// is not here yet, 0 if there is none.
func (r *Replica) Wanted(id []byte) item.Version {
	w := &r.awaited
	if w.n.Load() == 0 {
		return 0
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.versions[string(id)]
}

// Moved waits until something of the hub has come, at least 50 ms at a time, and
// reports whether ctx still lasts.
func (r *Replica) Moved(ctx context.Context) bool {
	w := &r.awaited
	w.mu.Lock()
	if w.moved == nil {
		w.moved = make(chan struct{})
	}
	moved := w.moved
	w.mu.Unlock()
	again := time.NewTimer(50 * time.Millisecond) // it may have come before this was asked
	defer again.Stop()
	select {
	case <-moved:
	case <-again.C:
	case <-ctx.Done():
	}
	return ctx.Err() == nil
}
