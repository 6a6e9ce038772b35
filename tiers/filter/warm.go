package filter

import (
	"context"
	"fmt"

	"github.com/edgenode/edgenode/tiers/item"
)

// Warm builds the filter anew from all keys of src while the present one goes on
// answering, catches up with the changes, and puts it in place: then it is
// trusted, precise, and holds nothing of removed keys. expect is about how many
// keys there are; 0 means as many as the filter has.
//
// An error leaves the present one as it was. One Warm or Verify runs at a time;
// others wait. It takes at most 3 bytes per key beside the present one. Whoever
// feeds the filter otherwise may go on.
func (f *Filter) Warm(ctx context.Context, src Source, expect uint64) error {
	if err := take(ctx, f.scanning); err != nil {
		return fmt.Errorf("filter: warm up: %w", err)
	}
	defer func() { <-f.scanning }()
	next, err := f.beginWarm(ctx, src, expect)
	if err == nil {
		err = f.fillFrom(ctx, src, next)
	}
	if err == nil {
		err = f.finishWarm(ctx, src, next)
	}
	if err != nil {
		f.dropNext(next)
		return fmt.Errorf("filter: warm up: %w", err)
	}
	return nil
}

// beginWarm makes the table that is fed from now on. A filter that is not
// complete goes on from the present end of the changes.
func (f *Filter) beginWarm(ctx context.Context, src Source, expect uint64) (*table, error) {
	// What is committed before this is met by the walk over the keys.
	seq, err := src.LastSeq(ctx)
	if err != nil {
		return nil, err
	}
	if err := take(ctx, f.feeding); err != nil {
		return nil, err
	}
	defer func() { <-f.feeding }()
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.complete {
		f.applied.Store(seq)
		f.version, f.proved, f.savedSeq = 0, true, 0
	}
	if have := f.now.Load().table.items.Load(); expect == 0 && have > f.removed {
		expect = have - f.removed
	}
	// It grows into the right size rather than begin with too much.
	f.next = newTable(f.opts.Secret(), min(maxItems, max(f.opts.MinItems, expect/4*3)))
	f.later = 0
	f.warmed.Store(0)
	return f.next, nil
}

// fillFrom puts all keys of src into next, page by page.
func (f *Filter) fillFrom(ctx context.Context, src Source, next *table) error {
	return f.pages(ctx, src, func(keys []item.Key) error {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.next != next {
			return ErrReset
		}
		for _, key := range keys {
			if !next.add(next.hash(key)) {
				return ErrFull
			}
		}
		f.warmed.Add(uint64(len(keys)))
		return nil
	})
}

// pages calls fn for all keys of src, a page at a time. fn keeps nothing.
func (f *Filter) pages(ctx context.Context, src Source, fn func(keys []item.Key) error) error {
	var after item.Key
	for {
		var keys []item.Key
		var buf []byte
		err := src.Keys(ctx, after, f.opts.PageKeys, func(key item.Key) error {
			begin := len(buf)
			buf = append(buf, key...)
			keys = append(keys, item.Key(buf[begin:len(buf):len(buf)]))
			return nil
		})
		if err != nil {
			return err
		}
		if err := fn(keys); err != nil {
			return err
		}
		if len(keys) < f.opts.PageKeys {
			return nil
		}
		after = keys[len(keys)-1]
	}
}

// finishWarm puts next in place once all that was committed before the walk
// ended is in it.
func (f *Filter) finishWarm(ctx context.Context, src Source, next *table) error {
	if err := f.catchUpToEnd(ctx, src); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.next != next {
		return ErrReset
	}
	f.now.Store(&view{table: next})
	f.next, f.complete, f.removed = nil, true, f.later
	f.trustLocked()
	return nil
}

// catchUpToEnd applies at least the changes committed before the call.
func (f *Filter) catchUpToEnd(ctx context.Context, src Source) error {
	end, err := src.LastSeq(ctx)
	if err != nil {
		return err
	}
	if err := f.CatchUp(ctx, src); err != nil {
		return err
	}
	if applied := f.Applied(); applied < end {
		return fmt.Errorf("%w: the sequence ends at %d, its last number was %d", ErrGap, applied, end)
	}
	return nil
}

func (f *Filter) dropNext(next *table) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.next == next {
		f.next = nil
	}
}
