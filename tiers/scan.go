package tiers

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/l3"
)

// Lists and counts read their own writes: what is pending is laid over what L3
// holds. Without L3 there is no list, since a part is not the whole. Items that
// live outside L3 are cache: no list and no count shows them, pending or not.

const (
	defaultPage = 100
	maxPage     = 1000
	// countMax is how many rows a count looks at before it says "at least".
	countMax = 1_000_000
)

// check reports whether q makes sense.
func (q *Query) check() error {
	errs := []error{item.CheckIDPrefix(q.Prefix), item.CheckIDPrefix(q.Scope), item.CheckState(q.State)}
	if q.Tag != "" {
		errs = append(errs, item.CheckTags([]string{q.Tag}))
	}
	if q.Limit < 0 || q.Limit > maxPage {
		errs = append(errs, fmt.Errorf("limit %d, allowed are 1 to %d", q.Limit, maxPage))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return nil
}

// keyPrefix is what the ids that q selects begin with: the longer of prefix and
// scope. The shorter is to begin the longer; see disjoint.
func (q *Query) keyPrefix() string {
	if len(q.Scope) > len(q.Prefix) {
		return q.Scope
	}
	return q.Prefix
}

// disjoint reports whether prefix and scope exclude each other.
func (q *Query) disjoint() bool {
	return !strings.HasPrefix(q.Prefix, q.Scope) && !strings.HasPrefix(q.Scope, q.Prefix)
}

// selects reports whether q selects the live item v.
func (q *Query) selects(v item.View) bool {
	if !bytes.HasPrefix(v.Key().Own(), []byte(q.keyPrefix())) || q.State != "" && v.State() != q.State {
		return false
	}
	if q.Tag == "" {
		return true
	}
	for t := range v.Tags {
		if t == q.Tag {
			return true
		}
	}
	return false
}

// List calls fn with one page of the items that q selects, in the order of
// their ids as bytes. Views are valid until fn returns. next is the cursor of
// the next page, empty after the last. What exists throughout a walk appears
// exactly once. While L3 is down the error wraps ErrUnavailable.
func (e *Engine) List(ctx context.Context, q Query, fn func(v item.View) error) (next string, err error) {
	if err := e.enterRead(); err != nil {
		return "", err
	}
	defer e.leave()
	return e.list(ctx, q, !q.WithoutContent, fn)
}

func (e *Engine) list(ctx context.Context, q Query, content bool, fn func(v item.View) error) (next string, err error) {
	if err := q.check(); err != nil || q.disjoint() {
		return "", err
	}
	after, err := q.decodeCursor()
	if err != nil {
		return "", err
	}
	limit := q.Limit
	if limit == 0 {
		limit = defaultPage
	}
	w := walk{e: e, q: &q, content: content, left: limit, fn: fn}
	last, more, err := w.run(ctx, after)
	if err != nil || !more {
		return "", err
	}
	return q.encodeCursor(last), nil
}

// A walk merges what is pending with pages of L3.
type walk struct {
	e       *Engine
	q       *Query
	content bool
	left    int
	fn      func(item.View) error

	overlay []overlayItem // pending, ascending by key
	last    item.Key
}

// An overlayItem is a pending id: what L3 holds of it does not count.
type overlayItem struct {
	key  item.Key
	view item.View // nil if q does not select it
}

// run walks from after on and reports the last key given to fn, and whether
// there is more behind it.
func (w *walk) run(ctx context.Context, after item.Key) (item.Key, bool, error) {
	var err error
	// Pending first, then L3: what is flushed in between is in both, and never
	// in neither.
	if w.overlay, err = w.e.overlay(ctx, w.q, after); err != nil {
		return nil, false, err
	}
	w.last = after
	for {
		more, err := w.e.scanL3(ctx, w.q, after, w.left+1, w.content, func(v item.View) error {
			after = append(after[:0:0], v.Key()...)
			return w.row(v)
		})
		if errors.Is(err, errPageFull) {
			return w.last, true, nil
		}
		if err != nil {
			return nil, false, err
		}
		if !more {
			break
		}
	}
	if err := w.flushOverlay(nil); errors.Is(err, errPageFull) {
		return w.last, true, nil
	} else if err != nil {
		return nil, false, err
	}
	return w.last, false, nil
}

// errPageFull ends a walk that has given its limit and knows that more comes.
var errPageFull = errors.New("tiers: page full")

// row gives what is pending before v, then v unless it is pending itself.
func (w *walk) row(v item.View) error {
	if err := w.flushOverlay(v.Key()); err != nil {
		return err
	}
	if len(w.overlay) > 0 && bytes.Equal(w.overlay[0].key, v.Key()) {
		return nil // its pending version comes with the next call
	}
	if w.e.hiddenBelow(v) {
		return nil
	}
	return w.give(v)
}

// flushOverlay gives the pending items whose keys are less than before, or all.
func (w *walk) flushOverlay(before item.Key) error {
	for len(w.overlay) > 0 && (before == nil || bytes.Compare(w.overlay[0].key, before) < 0) {
		if v := w.overlay[0].view; v != nil {
			if err := w.give(v); err != nil {
				return err
			}
		}
		w.overlay = w.overlay[1:]
	}
	return nil
}

func (w *walk) give(v item.View) error {
	if w.left == 0 {
		return errPageFull
	}
	w.left--
	w.last = append(item.Key(nil), v.Key()...)
	return w.fn(v)
}

// overlay returns the pending ids after a key that begin with the query's
// prefix, ascending. It costs as much as there is pending.
func (e *Engine) overlay(ctx context.Context, q *Query, after item.Key) ([]overlayItem, error) {
	prefix := string(item.AppendKey(nil, item.NamespaceItem, q.keyPrefix()))
	var found []overlayItem
	for i := range e.pending.stripes {
		s := &e.pending.stripes[i]
		s.mu.Lock()
		for key, p := range s.ids {
			if strings.HasPrefix(key, prefix) && key > string(after) && p.newestLocked(visible) != nil {
				found = append(found, overlayItem{key: item.Key(key)})
			}
		}
		s.mu.Unlock()
	}
	slices.SortFunc(found, func(a, b overlayItem) int { return bytes.Compare(a.key, b.key) })
	kept := found[:0]
	for _, o := range found {
		h, ok, pending, err := e.fromPending(ctx, e.hash(o.key), o.key)
		if err != nil {
			return nil, err
		}
		if !pending {
			continue // flushed meanwhile: L3 shows it
		}
		if ok && h.View.Tiers()&item.L3 != 0 && q.selects(h.View) {
			o.view = h.View
		}
		kept = append(kept, o)
	}
	return kept, nil
}

// scanL3 calls fn with up to limit rows after a key that q selects, and reports
// whether there may be more.
func (e *Engine) scanL3(ctx context.Context, q *Query, after item.Key, limit int, content bool, fn func(item.View) error) (more bool, err error) {
	lq := e.l3Query(q)
	lq.After, lq.Limit, lq.WithContent = after, limit, content
	if err := e.load(ctx); err != nil {
		return false, e.l3Error(ctx, err)
	}
	limited, cancel := context.WithTimeout(ctx, time.Duration(e.applyTimeout.Load()))
	defer cancel()
	rows := 0
	var ended error // by fn
	err = e.l3.Scan(limited, lq, func(v item.View) error {
		rows++
		e.seenElsewhere(v.Key())
		ended = fn(v)
		return ended
	})
	if err != nil && ended == nil {
		return false, e.l3Error(ctx, err)
	}
	return rows == limit, ended
}

func (e *Engine) l3Query(q *Query) l3.ScanQuery {
	return l3.ScanQuery{
		Prefix: item.AppendKey(nil, item.NamespaceItem, q.keyPrefix()), State: q.State, Tag: q.Tag, Now: e.clock.UnixMilli(),
	}
}

// l3Error notes an outage, unless the caller gave up, and marks it.
func (e *Engine) l3Error(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return err
	}
	e.l3Failed(err)
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}

// listKeys returns the keys of one page.
func (e *Engine) listKeys(ctx context.Context, q Query) (keys []item.Key, next string, err error) {
	next, err = e.list(ctx, q, false, func(v item.View) error {
		keys = append(keys, append(item.Key(nil), v.Key()...))
		return nil
	})
	return keys, next, err
}

// Count returns how many items q selects. exact is false where it stopped at
// its bound and there are more, or where writes went on meanwhile.
func (e *Engine) Count(ctx context.Context, q Query) (n int64, exact bool, err error) {
	if err := e.enterRead(); err != nil {
		return 0, false, err
	}
	defer e.leave()
	if err := q.check(); err != nil || q.disjoint() {
		return 0, err == nil, err
	}
	if err := e.load(ctx); err != nil {
		return 0, false, e.l3Error(ctx, err)
	}
	if len(e.rules.waiting(deleteNotInL3)) > 0 {
		// Rows that are deleted already would be counted: make them go first.
		if err := e.sweepAll(ctx); err != nil {
			return 0, false, fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
	}
	e.flusher.mu.Lock() // no batch moves ids from pending to L3 meanwhile
	defer e.flusher.mu.Unlock()
	over, err := e.overlay(ctx, &q, nil)
	if err != nil {
		return 0, false, err
	}
	limited, cancel := context.WithTimeout(ctx, time.Duration(e.applyTimeout.Load()))
	defer cancel()
	if n, exact, err = e.l3.Count(limited, e.l3Query(&q), countMax); err != nil {
		return 0, false, e.l3Error(ctx, err)
	}
	delta, err := e.overlayDelta(ctx, &q, over)
	return n + delta, exact, err
}

// overlayDelta is by how much pending ids change the count of L3.
func (e *Engine) overlayDelta(ctx context.Context, q *Query, over []overlayItem) (delta int64, err error) {
	keys := make([]item.Key, 0, len(over))
	for _, o := range over {
		keys = append(keys, o.key)
		if o.view != nil {
			delta++
		}
	}
	now := e.clock.UnixMilli()
	err = e.readManyL3(ctx, keys, func(_ int, v item.View) {
		if v.Kind() == item.KindPut && !v.Expired(now) && q.selects(v) {
			delta--
		}
	})
	return delta, err
}

// readManyL3 calls fn with the rows that L3 holds of keys.
func (e *Engine) readManyL3(ctx context.Context, keys []item.Key, fn func(i int, v item.View)) error {
	if len(keys) == 0 {
		return nil
	}
	if err := e.load(ctx); err != nil {
		return e.l3Error(ctx, err)
	}
	limited, cancel := context.WithTimeout(ctx, time.Duration(e.applyTimeout.Load()))
	defer cancel()
	err := e.l3.GetMany(limited, keys, func(i int, v item.View) error {
		if v.Kind() == item.KindPut {
			e.seenElsewhere(keys[i])
		}
		fn(i, v)
		return nil
	})
	if err != nil {
		return e.l3Error(ctx, err)
	}
	return nil
}

// A cursor is base64 of: format 1, a hash of the query, the last key.
const cursorFormat = 1

func (q *Query) hash() uint64 {
	return xxhash.Sum64String(strings.Join([]string{q.Prefix, q.State, q.Tag, q.Scope}, "\x00"))
}

func (q *Query) encodeCursor(last item.Key) string {
	b := binary.LittleEndian.AppendUint64([]byte{cursorFormat}, q.hash())
	return base64.RawURLEncoding.EncodeToString(append(b, last...))
}

func (q *Query) decodeCursor() (item.Key, error) {
	if q.Cursor == "" {
		return nil, nil
	}
	b, err := base64.RawURLEncoding.DecodeString(q.Cursor)
	if err != nil || len(b) < 10 || b[0] != cursorFormat {
		return nil, fmt.Errorf("%w: not one of this version's", ErrBadCursor)
	}
	if binary.LittleEndian.Uint64(b[1:]) != q.hash() {
		return nil, fmt.Errorf("%w: it belongs to another query", ErrBadCursor)
	}
	return item.Key(b[9:]), nil
}
