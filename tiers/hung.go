package tiers

import (
	"context"
	"errors"
	"sync"
)

// A batch to L3 may hang on a connection that died without a word. Its limit is
// long, since a batch may rightly take long; so when L3 was away meanwhile and is
// back, the batch is not waited for: it is cut, and sent again. What it did is
// found out then. While L3 answers all others, it is only told of.

const (
	cutAfter     = 1000 // ms for which L3 has answered again
	namedAfter   = 5000 // ms after which health speaks of a batch
	unknownSince = int64(-1)
)

// errCut ends a batch that hung through an outage of L3.
var errCut = errors.New("tiers: cut: L3 was away and is back, and the batch did not come back with it")

// A batchWatch watches the batch that is under way. Its times are Unix ms. It is
// safe for concurrent use; its lock is a leaf.
type batchWatch struct {
	mu     sync.Mutex
	since  int64 // when it was sent; 0: there is none
	cut    context.CancelCauseFunc
	lost   int64 // when L3 was last found away
	wellAt int64 // since when it answers probes, or unknownSince
}

// begin says that a batch is sent. It returns the context of the batch; end is
// called when it is over.
func (w *batchWatch) begin(ctx context.Context, now int64) (limited context.Context, end func()) {
	limited, cut := context.WithCancelCause(ctx)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.since, w.cut = now, cut
	return limited, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.since, w.cut = 0, nil
		cut(nil)
	}
}

// probed notes what a probe of L3 has found, and cuts the batch if it is time.
// open says that L3 counts as away.
func (w *batchWatch) probed(err error, open bool, now int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case err != nil && open:
		w.lost, w.wellAt = now, unknownSince
	case err != nil:
		w.wellAt = unknownSince
	case w.wellAt == unknownSince:
		w.wellAt = now
	}
	if w.cut != nil && w.since <= w.lost && w.wellAt != unknownSince && now-w.wellAt >= cutAfter {
		w.cut(errCut)
	}
}

// age returns for how many ms the batch is under way; 0 if there is none.
func (w *batchWatch) age(now int64) int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.since == 0 {
		return 0
	}
	return max(now-w.since, 0)
}
