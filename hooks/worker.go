package hooks

import (
	"context"
	"log/slog"
	"time"
)

// retryAfter is how long the worker waits before it tries again to build an
// instance that could not be built.
const retryAfter = time.Second

// A job is one thing the worker does. Without any field set it only wakes it.
type job struct {
	closing *generation // close it; nobody uses it any more

	replace *module // put a new instance in slot, which the job owns
	recycle *module // prepare a new instance for slot, whose owner swaps it in
	slot    uint32
	lost    bool      // replacing failed before
	old     *instance // close it; nil for none
}

// later hands a job to the worker.
func (h *Host) later(j job) {
	h.workMu.Lock()
	h.jobs = append(h.jobs, j)
	h.workMu.Unlock()
	select {
	case h.kick <- struct{}{}:
	default:
	}
}

func (h *Host) closeLater(i *instance) { h.later(job{old: i}) }

// work does jobs until stop. Jobs that failed wait for a while.
func (h *Host) work() {
	var failed []job
	timer := time.NewTimer(retryAfter)
	defer timer.Stop()
	for {
		select {
		case <-h.stop:
			return
		case <-h.kick:
		case <-timer.C:
			h.workMu.Lock()
			h.jobs = append(h.jobs, failed...)
			h.workMu.Unlock()
			failed = nil
		}
		failed = append(failed, h.doJobs(failed)...)
		if len(failed) > 0 {
			timer.Reset(retryAfter)
		}
	}
}

// doJobs does what is queued and returns the jobs to be tried again. Jobs that
// failed before and whose pool has been closed since are done at once.
func (h *Host) doJobs(failed []job) (again []job) {
	for k := range failed {
		if j := &failed[k]; j.replace != nil && j.replace.pool.closed() {
			j.replace.retire(nil)
			*j = job{}
		}
	}
	for {
		h.workMu.Lock()
		jobs := h.jobs
		h.jobs = nil
		h.workMu.Unlock()
		if len(jobs) == 0 {
			return again
		}
		for _, j := range jobs {
			if !h.do(&j) {
				again = append(again, j)
			}
		}
	}
}

// do does one job and reports whether it is done.
func (h *Host) do(j *job) bool {
	if j.old != nil {
		j.old.close()
		j.old = nil
	}
	switch {
	case j.closing != nil:
		if err := j.closing.close(); err != nil {
			h.o.Logger.Error("hook generation not closed cleanly", "generation", j.closing.number, "error", err)
		}
		h.open.Done()
	case j.replace != nil:
		return j.replace.replaceInstance(j)
	case j.recycle != nil:
		j.recycle.recycleInstance(j.slot)
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
	m.counters.replaced.Inc()
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
	m.counters.recycled.Inc()
	s := &m.pool.slots[slot]
	if former := s.spare.Swap(fresh); former != nil {
		former.close()
	}
	if old := s.idle.Load(); old != nil && s.idle.CompareAndSwap(old, nil) {
		m.put(old) // swaps in the spare, if old is still the one to go
	}
}
