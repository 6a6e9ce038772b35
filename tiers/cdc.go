package tiers

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/edgenode/edgenode/tiers/l2"
)

// The stream in Redis is the feed for consumers that would rather read there. One
// node at a time writes it, by a lease in L3. The number of a change is the id of
// its entry: Redis refuses one that is there already, so that two writers, for a
// moment, are no harm. A writer adds a change only behind the one before it; after
// an error, and when it takes over, it goes on from the last entry.

// An entry of its own kind tells readers that changes are missing before it.
const EventReset = "reset" // changes up to this number are not in the stream: compare

const (
	cdcLease      = "cdc"
	cdcLeaseTTL   = 10 * time.Second
	cdcRenew      = 3 * time.Second
	cdcPage       = 500
	cdcMaxContent = 4 << 10 // bytes of a content that comes with its entry
	cdcRest       = time.Second
	zstdFrom      = 256 // bytes
)

// A streamer is an L2 that can carry the stream, as *l2.Store can.
type streamer interface {
	StreamLast(ctx context.Context) (seq uint64, found bool, err error)
	StreamAdd(ctx context.Context, entries []l2.StreamEntry, l l2.StreamLimits) error
	StreamDrop(ctx context.Context) error
}

// cdcWriter writes the stream. Only its goroutine uses it.
type cdcWriter struct {
	e          *Engine
	store      streamer
	zstd       *zstd.Encoder
	until      time.Time // this node holds the lease at least until then
	renew      time.Time
	generation uint64 // of the server that at and last are of
	synced     bool   // at and last are those of the stream
	looked     bool   // since the lease was renewed
	ahead      bool   // the stream was ahead of L3 once
	at         uint64 // changes up to here are in it, or not for it
	last       uint64 // number of its last entry

	entries []l2.StreamEntry
	text    []byte
}

func newCDCWriter(e *Engine, store streamer) (*cdcWriter, error) {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithLowerEncoderMem(true))
	if err != nil {
		return nil, fmt.Errorf("tiers: zstd: %w", err)
	}
	return &cdcWriter{e: e, store: store, zstd: enc}, nil
}

// run writes until the engine closes.
func (w *cdcWriter) run() {
	e := w.e
	defer w.release()
	last := ""
	for e.ctx.Err() == nil {
		err := w.step()
		switch {
		case err == nil:
			last = ""
			continue
		case errors.Is(err, errNotLeader):
		case e.ctx.Err() == nil:
			w.synced = false
			e.metrics.cdcErrors.Inc()
			if text := err.Error(); text != last {
				last = text
				e.logger.Warn("the stream of changes stands still", "err", err)
			}
		}
		if !e.pause(cdcRest, nil) {
			return
		}
	}
}

// errNotLeader says that another node writes, or that there is nothing to ask.
var errNotLeader = errors.New("tiers: another node writes the stream")

// step waits for changes and appends them.
func (w *cdcWriter) step() error {
	e := w.e
	if !e.loaded.Load() || !e.l3Up() || !e.l2.backend.up() {
		return errNotLeader
	}
	if err := w.lead(); err != nil {
		return err
	}
	if g := e.l2.store.Generation(); !w.synced || !w.looked || g != w.generation {
		w.generation = g
		if err := w.sync(); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(e.ctx, cdcRenew)
	defer cancel()
	switch err := e.AwaitChange(ctx, w.at); {
	case err == nil:
		return w.copyPage()
	case ctx.Err() != nil:
		return nil // time to renew the lease
	}
	return errNotLeader // closing: another node goes on
}

// lead renews the lease, or takes it if nobody has it.
func (w *cdcWriter) lead() error {
	now := time.Now()
	if now.Before(w.renew) {
		return nil
	}
	ctx, cancel := context.WithTimeout(w.e.ctx, w.e.l3TimeoutNow())
	defer cancel()
	held, err := w.e.l3.AcquireLease(ctx, cdcLease, w.e.node.incarnation(), cdcLeaseTTL)
	if err != nil {
		return fmt.Errorf("tiers: lease of the stream: %w", err)
	}
	if !held {
		w.e.metrics.cdcLeads.Store(false)
		w.synced = false
		return errNotLeader
	}
	if !w.e.metrics.cdcLeads.Swap(true) {
		w.e.logger.Info("this node writes the stream of changes")
		w.synced = false
	}
	w.renew, w.until = now.Add(cdcRenew), now.Add(cdcLeaseTTL-time.Second)
	w.looked = false
	return nil
}

// sync learns where the stream is. One that is empty, or that L3 cannot be behind
// of, begins anew. It is done now and then for a stream that somebody has emptied: a
// reader that comes after that must find the reset, though nothing is written.
func (w *cdcWriter) sync() error {
	seq, found, err := w.store.StreamLast(w.e.ctx)
	if err != nil {
		return err
	}
	if found && seq > w.e.LastChange() { // which is as of the last look
		if err := w.e.l3.Ping(w.e.ctx); err != nil {
			return err
		}
	}
	if now := w.e.LastChange(); found && seq > now && !w.ahead {
		// Readers have had changes that SQL has not. Once: nodes of two databases
		// that share a stream by mistake would go on for ever.
		w.ahead = true
		w.e.forgotten(seq)
		return fmt.Errorf("tiers: the stream has entries up to %d, and SQL changes up to %d", seq, now)
	} else if found && seq > now {
		w.e.logger.Warn("the stream is ahead of SQL, which was restored or is another one: it begins anew", "entry", seq, "change", now)
		if err := w.store.StreamDrop(w.e.ctx); err != nil {
			return err
		}
		found = false
	}
	w.looked = true
	if !found && (!w.synced || w.last > 0) {
		return w.reset()
	}
	if !found || w.synced && seq == w.last {
		return nil
	}
	w.at, w.last, w.synced = seq, seq, true
	return nil
}

// reset tells readers that everything up to now is to be compared.
func (w *cdcWriter) reset() error {
	ev := Event{Seq: w.e.LastChange(), At: w.e.clock.UnixMilli(), Op: EventReset}
	if ev.Seq == 0 {
		w.at, w.last, w.synced = 0, 0, true
		return nil
	}
	w.entries = w.entries[:0]
	w.add(&ev)
	if err := w.store.StreamAdd(w.e.ctx, w.entries, w.limits(true)); err != nil {
		return err
	}
	w.e.logger.Info("the stream of changes begins anew", "change", ev.Seq)
	w.e.metrics.cdcResets.Inc()
	w.at, w.last, w.synced = ev.Seq, ev.Seq, true
	return nil
}

// copyPage appends the next changes.
func (w *cdcWriter) copyPage() error {
	w.entries = w.entries[:0]
	prev := w.last
	at, err := w.e.Feed(w.e.ctx, FeedQuery{After: w.at, Limit: cdcPage, MaxContent: cdcMaxContent}, func(ev *Event) error {
		ev.Prev = prev
		prev = ev.Seq
		w.add(ev)
		return nil
	})
	if errors.Is(err, ErrChangesGone) {
		return w.reset()
	}
	if err != nil {
		return err
	}
	if len(w.entries) > 0 {
		if time.Now().After(w.until) {
			w.renew = time.Time{}
			return nil // perhaps another node leads by now: ask
		}
		err := w.store.StreamAdd(w.e.ctx, w.entries, w.limits(w.last == 0)) // without a last one, nothing can be lost
		if errors.Is(err, l2.ErrPassed) || errors.Is(err, l2.ErrStreamLost) {
			w.synced = false
			return nil
		}
		if err != nil {
			return err
		}
		w.e.metrics.cdcEntries.Add(len(w.entries))
	}
	w.at, w.last = at, prev
	w.e.metrics.cdcAt.Store(at)
	return nil
}

func (w *cdcWriter) limits(begin bool) l2.StreamLimits {
	return l2.StreamLimits{MaxLen: int64(w.e.options.CDCMaxLen), Begin: begin}
}

// add renders an event into entries.
func (w *cdcWriter) add(ev *Event) {
	w.text = w.e.options.FormatEvent(w.text[:0], ev)
	entry := l2.StreamEntry{Seq: ev.Seq}
	if len(w.text) >= zstdFrom {
		if packed := w.zstd.EncodeAll(w.text, nil); len(packed) < len(w.text)*7/8 {
			entry.Data, entry.Zstd = packed, true
		}
	}
	if entry.Data == nil {
		entry.Data = append([]byte(nil), w.text...)
	}
	w.entries = append(w.entries, entry)
}

// release lets another node go on at once.
func (w *cdcWriter) release() {
	if !w.e.metrics.cdcLeads.Swap(false) || !w.e.l3Up() || !errors.Is(context.Cause(w.e.ctx), ErrClosed) {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), probePatience)
	defer cancel()
	if err := w.e.l3.ReleaseLease(ctx, cdcLease, w.e.node.incarnation()); err != nil {
		w.e.logger.Debug("the lease of the stream ends by itself", "err", err)
	}
}
