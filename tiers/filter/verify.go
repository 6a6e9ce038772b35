package filter

import (
	"context"
	"fmt"

	"github.com/edgenode/edgenode/tiers/item"
)

// A Report is what Verify found.
type Report struct {
	Checked uint64 // keys of the ground truth
	Missing uint64 // keys for which the filter would have said "definitely missing"
	Example []byte // one of the missing keys, or nil
}

// maxSuspects bounds the keys that are looked at twice: more are enough to know.
const maxSuspects = 4096

// Verify asks the filter for every key of src. A key that it does not have, and
// does not have either once the changes up to the end of the walk are applied, is
// a lie: the filter is not trusted from then on. It fails with ErrIncomplete if it
// is not complete to begin with; that, an outage, and the end of ctx leave things
// as they are.
func (f *Filter) Verify(ctx context.Context, src Source) (Report, error) {
	var r Report
	if err := take(ctx, f.scanning); err != nil {
		return r, fmt.Errorf("filter: verify: %w", err)
	}
	defer func() { <-f.scanning }()
	t, err := f.completeTable()
	if err != nil {
		return r, fmt.Errorf("filter: verify: %w", err)
	}
	suspects, err := f.suspects(ctx, src, t, &r)
	if err == nil {
		err = f.catchUpToEnd(ctx, src)
	}
	if err != nil {
		return r, fmt.Errorf("filter: verify: %w", err)
	}
	for _, key := range suspects {
		if !t.has(t.hash(key)) {
			r.Missing++
			r.Example = key
		}
	}
	if r.Missing > 0 {
		f.Distrust(fmt.Sprintf("verify: %d of %d keys were not there", r.Missing, r.Checked))
	}
	return r, nil
}

func (f *Filter) completeTable() (*table, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.complete {
		return nil, fmt.Errorf("%w: %s", ErrIncomplete, f.reason)
	}
	return f.now.Load().table, nil
}

// suspects returns the keys of src that are not in t, as copies.
func (f *Filter) suspects(ctx context.Context, src Source, t *table, r *Report) (list []item.Key, err error) {
	err = f.pages(ctx, src, func(keys []item.Key) error {
		r.Checked += uint64(len(keys))
		for _, key := range keys {
			if len(list) < maxSuspects && !t.has(t.hash(key)) {
				list = append(list, append(item.Key(nil), key...))
			}
		}
		return nil
	})
	return list, err
}
