package hooks

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// retryAfter is how long a worker waits before it tries again to build an
// instance that could not be built.
const retryAfter = time.Second

// A job is one thing that a worker does. Without any field set it only wakes it.
type job struct {
	replace bool // put a new instance in slot, which the job owns
	recycle bool // prepare a new instance for slot, whose owner swaps it in
	slot    uint32
	lost    bool      // replacing failed before
	old     *instance // close it; nil for none
}

// A worker replaces and closes the instances of one module, so that one whose
// instances start slowly delays no other. Its goroutine is there while it has
// something to do, and is counted by the generation, which waits for it before it
// is closed.
type worker struct {
	kick chan struct{} // holds one token if jobs may be waiting; closed never

	// mu guards the fields below. It is a leaf lock.
	mu      sync.Mutex
	jobs    []job
	running bool
}

// later hands a job to the module's worker. Who owns a slot does so before it
// gives the slot up, or the generation might be closed before the job is done.
func (m *module) later(j job) {
	w := &m.worker
	w.mu.Lock()
	w.jobs = append(w.jobs, j)
	start := !w.running
	w.running = true
	w.mu.Unlock()
	if start {
		m.gen.workers.Go(m.work)
		return
	}
	m.wake()
}

// wake makes a worker that waits look again.
func (m *module) wake() {
	select {
	case m.worker.kick <- struct{}{}:
	default:
	}
}

// work does jobs until there are none. Jobs that failed wait for a while.
func (m *module) work() {
	var failed []job
	timer := time.NewTimer(retryAfter)
	defer timer.Stop()
	for {
		jobs, done := m.worker.take(len(failed) == 0)
		if done {
			return
		}
		if len(jobs) == 0 {
			select {
			case <-m.worker.kick:
			case <-timer.C:
				jobs, failed = failed, nil
			}
		}
		if m.pool.closed() { // jobs that failed are done at once
			jobs, failed = append(jobs, failed...), nil
		}
		for k := range jobs {
			if !m.do(&jobs[k]) {
				failed = append(failed, jobs[k])
				timer.Reset(retryAfter)
			}
		}
	}
}

// take returns what is queued. If that is nothing, and the worker has nothing
// else to do, its goroutine is to end.
func (w *worker) take(idle bool) (jobs []job, done bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	jobs, w.jobs = w.jobs, nil
	w.running = len(jobs) > 0 || !idle
	return jobs, !w.running
}

// do does one job and reports whether it is done.
func (m *module) do(j *job) bool {
	if j.old != nil {
		j.old.close()
		j.old = nil
	}
	switch {
	case j.replace:
		return m.replaceInstance(j)
	case j.recycle:
		m.recycleInstance(j.slot)
	}
	return true
}

// replaceInstance fills a slot whose instance was lost. It reports false if no
// instance could be built.
func (m *module) replaceInstance(j *job) bool {
	if m.pool.closed() {
		m.retire(nil)
		return true
	}
	i, err := m.pool.slots[j.slot].spare.Swap(nil), error(nil)
	if i == nil {
		i, err = m.newInstance(j.slot)
	}
	if err != nil {
		if !j.lost {
			j.lost = true
			m.pool.lost.Add(1)
		}
		m.log.Error("hook instance not replaced, trying again", "hook", m.spec.Name, "error", err)
		return false
	}
	if j.lost {
		m.pool.lost.Add(-1)
	}
	m.counters.Load().replaced.Inc()
	m.put(i)
	return true
}

// recycleInstance offers a fresh instance to a slot whose instance has grown or
// grown old. If the old one is idle it is swapped at once; else its user does it.
func (m *module) recycleInstance(slot uint32) {
	if m.pool.closed() {
		return
	}
	fresh, err := m.newInstance(slot)
	if err != nil {
		m.log.Log(context.Background(), slog.LevelWarn, "hook instance not recycled", "hook", m.spec.Name, "error", err)
		return
	}
	m.counters.Load().recycled.Inc()
	s := &m.pool.slots[slot]
	if former := s.spare.Swap(fresh); former != nil {
		former.close()
	}
	if old := s.idle.Load(); old != nil && s.idle.CompareAndSwap(old, nil) {
		m.put(old) // swaps in the spare, if old is still the one to go
	}
}
