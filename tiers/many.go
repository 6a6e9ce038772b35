package tiers

import (
	"context"
	"sync"

	"github.com/edgenode/edgenode/tiers/item"
)

// GetMany calls fn with the answer for each key, in order. Hits are valid until
// fn returns. What is not in memory or pending is read from L3 in one query per
// 500 keys.
func (e *Engine) GetMany(ctx context.Context, keys []item.Key, o ReadOptions, fn func(i int, h *Hit, ok bool, err error)) {
	if err := e.enterRead(); err != nil {
		for i := range keys {
			fn(i, nil, false, err)
		}
		return
	}
	defer e.leave()
	fetched, failed := e.prefetch(ctx, keys, o)
	for i, key := range keys {
		hash := e.hash(key)
		if f := fetched[i]; f.wanted && failed != nil {
			e.deliver(hash, Hit{}, false, failed, i, o, fn)
			continue
		} else if f.wanted && e.pending.epoch(hash).Load() == f.epoch {
			h, ok := e.useFetched(hash, key, f)
			e.deliver(hash, h, ok, nil, i, o, fn)
			continue
		}
		h, ok, err := e.getInside(ctx, hash, key, o)
		e.deliver(hash, h, ok, err, i, o, fn)
	}
}

func (e *Engine) deliver(hash uint64, h Hit, ok bool, err error, i int, o ReadOptions, fn func(int, *Hit, bool, error)) {
	if ok {
		h, ok, err = e.demand(hash, h, o)
	}
	e.metrics.read(&h, ok, err)
	fn(i, &h, ok, err)
	if ok {
		h.Release()
	}
}

// getInside is get for a caller that has entered.
func (e *Engine) getInside(ctx context.Context, hash uint64, key item.Key, o ReadOptions) (Hit, bool, error) {
	if h, ok := e.fromL1(hash, key); ok {
		return h, true, nil
	}
	return e.below(ctx, hash, key, o)
}

// A fetchedRow is what the one query brought for a key.
type fetchedRow struct {
	wanted bool      // neither in L1 nor pending when asked
	record item.View // nil if there is no row
	epoch  uint32
	mark   item.Version
}

// prefetch reads the rows of the keys that neither L1 nor pending hold.
func (e *Engine) prefetch(ctx context.Context, keys []item.Key, o ReadOptions) ([]fetchedRow, error) {
	rows := make([]fetchedRow, len(keys))
	var wanted []item.Key
	var at []int
	mark := item.Version(e.rules.newest.Load())
	for i, key := range keys {
		hash := e.hash(key)
		if h, ok := e.fromL1(hash, key); ok {
			h.Release()
			continue
		}
		c, pending := e.copyPending(hash, key)
		if pending || !readsL3(key, o) {
			continue
		}
		rows[i] = fetchedRow{wanted: true, epoch: c.epoch, mark: mark}
		wanted, at = append(wanted, key), append(at, i)
	}
	if len(wanted) < 2 {
		return make([]fetchedRow, len(keys)), nil
	}
	err := e.readManyL3(ctx, wanted, func(i int, v item.View) {
		rows[at[i]].record = append(item.View(nil), v...)
	})
	return rows, err
}

// useFetched turns a row into a hit, unless there is none, it is over or hidden.
// Nothing was published for its hash since it was asked for.
func (e *Engine) useFetched(hash uint64, key item.Key, f fetchedRow) (Hit, bool) {
	if f.record == nil {
		return Hit{}, false
	}
	h, ok := e.answer(f.record, FromL3, sinceRead(f.mark))
	if ok {
		e.promote(hash, key, h.View, f.epoch)
	}
	return h, ok
}

// SubmitMany stores every item of ws and fills out, which has their length, in
// order. Items of one call wait together for the disk.
func (e *Engine) SubmitMany(ctx context.Context, ws []*Write, out []Receipt) {
	e.together(func(i int) item.Key { return ws[i].Key },
		func(i int) (Receipt, error) { return e.Submit(ctx, ws[i]) }, out)
}

// DeleteMany deletes every key and fills out, which has their length, in order.
func (e *Engine) DeleteMany(ctx context.Context, keys []item.Key, d item.Durability, out []Receipt) {
	e.together(func(i int) item.Key { return keys[i] },
		func(i int) (Receipt, error) { return e.Delete(ctx, keys[i], nil, d) }, out)
}

// togetherWorkers is how many writes of one call wait for the disk at a time.
const togetherWorkers = 64

// together runs n writes, at most togetherWorkers at a time, so that one
// fdatasync serves many. Writes of the same key stay in order: one worker does
// them one after the other.
func (e *Engine) together(key func(i int) item.Key, do func(i int) (Receipt, error), out []Receipt) {
	lanes := make([][]int, min(togetherWorkers, len(out)))
	for i := range out {
		lane := e.hash(key(i)) % uint64(len(lanes))
		lanes[lane] = append(lanes[lane], i)
	}
	var wg sync.WaitGroup
	for _, lane := range lanes {
		wg.Go(func() {
			for _, i := range lane {
				r, err := do(i)
				r.Err = err
				out[i] = r
			}
		})
	}
	wg.Wait()
}
