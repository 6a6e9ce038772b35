package tiers

import (
	"errors"
	"runtime"

	"github.com/edgenode/edgenode/tiers/item"
)

// AwaitWaiters returns when n callers wait for the read of key that is under
// way.
func (e *Engine) AwaitWaiters(key item.Key, n int) {
	k := flightKey{key: string(key), epoch: e.pending.epoch(e.hash(key)).Load()}
	for {
		e.fills.mu.Lock()
		f := e.fills.flying[k]
		enough := f != nil && f.waiters >= n
		e.fills.mu.Unlock()
		if enough {
			return
		}
		runtime.Gosched()
	}
}

// CloseAbruptly ends the engine as kill -9 does, as far as a test in the same
// process can: nothing is flushed, only what the journal has remains.
func (e *Engine) CloseAbruptly() error {
	var err error
	e.closeOnce.Do(func() {
		e.stop(errors.New("killed"))
		e.tasks.Wait()
		err = e.closeParts()
	})
	return err
}

// AccountedBytes recomputes what the pending table holds, to be compared with
// its counters.
func (e *Engine) AccountedBytes() (ids, index, memory, records int64) {
	t := &e.pending
	for i := range t.stripes {
		s := &t.stripes[i]
		s.mu.Lock()
		for _, p := range s.ids {
			ids++
			index += pendingIDBytes + int64(len(p.key)) + int64(len(p.records)-1)*pendingRecordBytes
			records += int64(len(p.records))
		}
		for _, b := range s.memory {
			memory += int64(len(b))
		}
		s.mu.Unlock()
	}
	return ids, index, memory, records
}

// CountedBytes returns the pending table's counters.
func (e *Engine) CountedBytes() (ids, index, memory, records int64) {
	t := &e.pending
	return t.ids.Load(), t.indexBytes.Load(), t.memoryBytes.Load(), t.records.Load()
}
