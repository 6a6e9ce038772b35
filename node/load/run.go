package load

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

const (
	longestNap   = 100 * time.Millisecond // so that the end of the context is seen
	afterRefusal = 10 * time.Millisecond  // before another try to connect
)

// ErrFill is wrapped when not all keys could be put before the run.
var ErrFill = errors.New("load: the keys could not be put")

// Run sends what o says and returns what came of it when all is done. An ended
// context ends it at once, with the cause. It starts Options.Connections
// goroutines, which have ended when it returns.
func Run(ctx context.Context, o Options) (*Report, error) {
	o.fill()
	if err := o.check(); err != nil {
		return nil, err
	}
	g := &generator{o: &o, plan: newPlan(&o)}
	for _, text := range o.Targets {
		t, err := newTarget(ctx, text, &o)
		if err != nil {
			return nil, err
		}
		g.targets = append(g.targets, t)
	}
	g.blob = blob(g.plan.largest())
	if o.Fill {
		if err := g.fill(ctx); err != nil {
			return nil, err
		}
	}
	return g.run(ctx)
}

// blob returns bytes that cannot be compressed.
func blob(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(b) // never fails
	return b
}

// A generator is one run.
type generator struct {
	o       *Options
	plan    *plan
	targets []*target
	blob    []byte // a value is the beginning of it
	next    atomic.Uint64
	start   time.Time
}

// each runs f for every connection and returns their first error.
func (g *generator) each(ctx context.Context, f func(*worker) error) (*tally, error) {
	workers := make([]*worker, g.o.Connections)
	failures := make([]error, len(workers))
	var wg sync.WaitGroup
	for i := range workers {
		w := &worker{
			g: g, ctx: ctx, tally: newTally(g.o),
			conn: conn{ctx: ctx, target: g.targets[i%len(g.targets)], timeout: g.o.Timeout},
		}
		workers[i] = w
		wg.Go(func() {
			defer w.conn.close()
			failures[i] = f(w)
		})
	}
	wg.Wait()
	all := newTally(g.o)
	for _, w := range workers {
		all.merge(w.tally)
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return all, errors.Join(failures...)
}

func newTally(o *Options) *tally {
	t := &tally{errors: map[string]uint64{}}
	if o.open() {
		t.service = &histogram{}
	}
	return t
}

// fill puts every key once.
func (g *generator) fill(ctx context.Context) error {
	all, err := g.each(ctx, func(w *worker) error {
		for {
			key := g.next.Add(1) - 1
			if key >= g.plan.keys() || ctx.Err() != nil || w.tally.failed > 0 {
				return nil
			}
			w.jobs = append(w.jobs[:0], job{key: key, size: g.plan.size(key), write: true})
			w.exchange(0, true)
		}
	})
	if err != nil {
		return err
	}
	if all.failed > 0 {
		err := all.firstError
		for status := 400; status < len(all.statuses) && err == nil; status++ {
			if all.statuses[status] > 0 {
				err = fmt.Errorf("PUT is answered with %d", status)
			}
		}
		return fmt.Errorf("%w: %w", ErrFill, err)
	}
	g.next.Store(0)
	return nil
}

func (g *generator) run(ctx context.Context) (*Report, error) {
	g.start = time.Now()
	all, err := g.each(ctx, func(w *worker) error {
		if g.o.open() {
			return w.open()
		}
		w.closed()
		return nil
	})
	if err != nil {
		return nil, err
	}
	return all.report(g.o), nil
}

// end returns when the last request may be sent, since the start.
func (g *generator) end() time.Duration { return g.o.Warmup + g.o.Duration }

// A worker sends what the plan says over one connection.
type worker struct {
	g     *generator
	ctx   context.Context
	conn  conn
	tally *tally
	jobs  []job // that are sent together
	out   []byte
}

// closed sends the next requests when the last ones are answered.
func (w *worker) closed() {
	g := w.g
	for w.ctx.Err() == nil {
		w.jobs = w.jobs[:0]
		for range g.o.Pipeline {
			if j, ok := g.plan.job(g.next.Add(1) - 1); ok {
				w.jobs = append(w.jobs, j)
			}
		}
		begin := time.Since(g.start)
		if begin >= g.end() || len(w.jobs) == 0 {
			return
		}
		w.exchange(begin, begin >= g.o.Warmup)
	}
}

// open sends each request when it is due, or as soon after as the connection is
// free. What is due before the end and was not sent by then is counted as such.
func (w *worker) open() error {
	g := w.g
	alarm, err := newAlarm()
	if err != nil {
		return fmt.Errorf("load: timer: %w", err)
	}
	defer alarm.close()
	for w.ctx.Err() == nil {
		j, ok := g.plan.job(g.next.Add(1) - 1)
		if !ok || j.due >= g.end() {
			return nil
		}
		for late := time.Since(g.start) - j.due; late < 0 && w.ctx.Err() == nil; late = time.Since(g.start) - j.due {
			if err := alarm.sleep(min(-late, longestNap)); err != nil {
				return fmt.Errorf("load: timer: %w", err)
			}
		}
		counted := j.due >= g.o.Warmup
		if time.Since(g.start) >= g.end() {
			if counted {
				w.tally.notSent++
				w.latencies(&j).add(g.end() - j.due)
			}
			continue
		}
		w.jobs = append(w.jobs[:0], j)
		w.exchange(j.due, counted)
	}
	return nil
}

func (w *worker) latencies(j *job) *histogram {
	if j.write {
		return &w.tally.write
	}
	return &w.tally.read
}

// exchange sends w.jobs and reads their answers. Since is when their latency
// begins.
func (w *worker) exchange(since time.Duration, counted bool) {
	if err := w.conn.connect(); err != nil {
		if w.ctx.Err() == nil {
			w.lost(err, KindConnect, counted, len(w.jobs))
			w.pause()
		}
		return
	}
	w.out = w.out[:0]
	for i := range w.jobs {
		w.out = w.conn.target.appendRequest(w.out, &w.jobs[i], w.g.blob)
	}
	sent := time.Since(w.g.start)
	if err := w.conn.send(w.out); err != nil {
		// The server may have answered before it took all: that is read below.
		if kindOf(err) == KindTimeout {
			w.fail(err, since, counted, w.jobs)
			return
		}
	}
	for i := range w.jobs {
		a, err := w.conn.read()
		if err != nil {
			w.fail(err, since, counted, w.jobs[i:])
			return
		}
		if counted {
			w.count(&w.jobs[i], a, since, sent)
		}
		if a.last {
			w.conn.close()
			if rest := w.jobs[i+1:]; len(rest) > 0 { // not looked at by the server (RFC 9112, 9.6)
				w.jobs = append(w.jobs[:0], rest...)
				w.exchange(since, counted)
			}
			return
		}
		if a.status == 404 && w.g.o.PutMisses && !w.jobs[i].write {
			w.jobs[i].write = true
			w.exchange(time.Since(w.g.start), counted)
			return
		}
	}
}

// count adds an answer.
func (w *worker) count(j *job, a answer, since, sent time.Duration) {
	t, now := w.tally, time.Since(w.g.start)
	w.latencies(j).add(now - since)
	if t.service != nil {
		t.service.add(now - sent)
	}
	t.last = now
	t.statuses[a.status]++
	side := &t.reads
	if j.write {
		side = &t.writes
		side.Bytes += uint64(j.size)
	} else {
		side.Bytes += uint64(a.bytes)
	}
	side.Requests++
	switch {
	case a.status == 404 && !j.write:
		side.Misses++
	case a.status >= 400:
		t.failed++
	}
}

// fail ends the connection, on which jobs have no answer.
func (w *worker) fail(err error, since time.Duration, counted bool, jobs []job) {
	w.conn.close()
	if w.ctx.Err() != nil {
		return
	}
	kind := kindOf(err)
	if counted && kind == KindTimeout {
		for i := range jobs {
			w.latencies(&jobs[i]).add(time.Since(w.g.start) - since)
		}
	}
	w.lost(err, kind, counted, len(jobs))
}

// lost counts n requests without answer.
func (w *worker) lost(err error, kind string, counted bool, n int) {
	if !counted {
		return
	}
	w.tally.failed += uint64(n)
	w.tally.errors[kind] += uint64(n)
	if w.tally.firstError == nil {
		w.tally.firstError = err
	}
}

// pause waits a little before another try to connect.
func (w *worker) pause() {
	timer := time.NewTimer(afterRefusal)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-w.ctx.Done():
	}
}
